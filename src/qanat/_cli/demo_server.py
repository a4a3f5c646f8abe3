"""A web server on this machine that is as difficult as the real ones: slow, rude and forgetful."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from threading import Event, Thread
from types import TracebackType
from typing import Final, Self

from qanat._cli.usage import UsageError

PAGES: Final = 300
LOST: Final = frozenset({73, 211})
"""Pages that are not there, and never will be."""
PAUSES: Final = (60, 230)
"""After so many answers the server asks for a pause."""
PAUSE: Final = 1.2
"""Seconds of such a pause."""

ABOUT: Final = (
    "answers after 20 to 150 ms, fails with a 500 now and then, drops connections,\n"
    "has lost 2 pages, and twice asks everybody for a pause (429 with Retry-After)"
)


def addresses(port: int, pages: int) -> list[str]:
    """Return the addresses of all pages."""
    return [f"http://127.0.0.1:{port}/page/{number}" for number in range(1, pages + 1)]


class DemoServer:
    """Serve HTTP on a port of the loopback interface, from a thread with a loop of its own.

    What happens to a request depends on its page, on how often that was asked for, and on the seed,
    so every run is much the same.

    Attributes:
        requests: How often each path was asked for, whatever came of it.
        served: The paths of pages that were sent.
    """

    def __init__(self, seed: int = 7) -> None:
        """Serve nothing yet."""
        self._seed = seed
        self._asked = Counter[str]()
        self.requests = Counter[str]()
        self.served: set[str] = set()
        self._answers = 0
        self._open = set[asyncio.Task[None] | None]()
        self._pauses = list(PAUSES)
        self._closed_until = 0.0
        self._started = Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event
        self._problem: OSError | None = None
        self._thread = Thread(target=self._run, name="demo-server", daemon=True)
        self.port = 0

    @property
    def urls(self) -> list[str]:
        """The addresses of all pages."""
        return addresses(self.port, PAGES)

    def __enter__(self) -> Self:
        """Begin to serve.

        Raises:
            UsageError: If no port can be had.
        """
        self._thread.start()
        self._started.wait()
        if self._problem is not None:
            raise UsageError(f"the demo needs a port on 127.0.0.1: {self._problem.strerror}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop to serve."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        try:
            server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=100)
        except OSError as error:
            self._problem = error
            self._started.set()
            return
        self._loop = asyncio.get_running_loop()
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._ended.wait()
        server.close()
        answering = [task for task in self._open if task is not None]
        if answering:  # cancelled ones would say so on standard error
            await asyncio.wait(answering, timeout=1.0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        task = asyncio.current_task()
        self._open.add(task)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            self.requests[path] += 1
            status, headers, body, delay = self._decide(path, time.monotonic())
            await asyncio.sleep(delay)
            if status is None:
                writer.transport.abort()
                return
            lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
            if status.startswith("200"):
                self.served.add(path)
            writer.close()
            await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()  # whoever asked has gone
        finally:
            self._open.discard(task)

    def _decide(self, path: str, now: float) -> tuple[str | None, list[str], bytes, float]:
        """Return the status line (None: drop the connection), headers, body and delay of an answer."""
        self._answers += 1
        if self._pauses and self._answers > self._pauses[0]:
            self._pauses.pop(0)
            self._closed_until = now + PAUSE
        if now < self._closed_until:
            return "429 Too Many Requests", ["Retry-After: 1"], b"", 0.005
        self._asked[path] += 1
        draw = random.Random(f"{self._seed} {path} {self._asked[path]}")
        delay = draw.uniform(0.02, 0.15)
        if path.removeprefix("/page/") in {str(number) for number in LOST}:
            return "404 Not Found", [], b"", delay
        luck = draw.random()
        if luck < 0.05:
            return "500 Internal Server Error", [], b"", delay
        if luck < 0.08:
            return None, [], b"", delay
        return "200 OK", [], f"This is {path}.\n".encode() * draw.randrange(1, 200), delay
