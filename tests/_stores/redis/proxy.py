"""A proxy between a store and its server, which loses answers and cuts connections."""

from __future__ import annotations

import socket
import threading


class Proxy:
    """Forward what comes; drop answers while told to.

    `drop_answers` counts answers still to be lost: the request reaches the server, the client sees its
    connection break. `cut_after` bytes of the next answer come through and no more, `cut_request_after` of
    the next request. While `flows` is cleared nothing comes through, and nobody is told: what was sent arrives
    late.
    """

    def __init__(self, target: str):
        self.target = target
        self.drop_answers = 0
        self.cut_after: int | None = None
        self.cut_request_after: int | None = None
        self.flows = threading.Event()
        self.flows.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self.target)
            except OSError:
                near.close()
                far.close()
                continue
            self.pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                thread = threading.Thread(target=self._carry, args=(source, sink, sink is near))
                self.threads.append(thread)
                thread.start()

    def _carry(self, source, sink, answers):
        try:
            while data := source.recv(65536):
                self.flows.wait()
                if answers and self.drop_answers:
                    self.drop_answers -= 1
                    break
                if answers and self.cut_after is not None:
                    sink.sendall(data[: self.cut_after])
                    self.cut_after = None
                    break
                if not answers and self.cut_request_after is not None:
                    sink.sendall(data[: self.cut_request_after])
                    self.cut_request_after = None
                    break
                sink.sendall(data)
        except OSError:
            pass
        _shut(source, sink)

    def cut(self):
        """Break every connection."""
        for pair in self.pairs:
            _shut(*pair)

    def close(self):
        self.flows.set()
        _shut(self.listener)
        self.listener.close()
        self.cut()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        for near, far in self.pairs:
            near.close()
            far.close()


def _shut(*sockets):
    for each in sockets:
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
