"""What the examples talk to: a web site of many pages on several hosts, and an API that counts tokens."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Generator

HOSTS = ("127.0.0.1", "localhost")
"""Two names for loopback: to the crawler they are two hosts."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        """Send a whole response."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(handler: type[_Handler]) -> Generator[int]:
    """Serve on a free port of loopback while the block lasts, and give the port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Site(_Handler):
    """A site: page n links to pages 3n+1 to 3n+3 on either host, to its start, and to a private page."""

    pages: ClassVar[int] = 200
    slow: ClassVar[float] = 0.01

    def do_GET(self) -> None:
        """Answer robots.txt, a page, or that it is not there."""
        port = self.server.server_address[1]  # type: ignore[index]
        path = urlsplit(self.path).path
        if path == "/robots.txt":
            self.answer(200, b"User-agent: *\nDisallow: /private/\n", "text/plain")
            return
        time.sleep(self.slow)
        name = path.removeprefix("/page/")
        if path == "/":
            name = "0"
        if not name.isdecimal() or int(name) >= self.pages:
            self.answer(404, b"<p>not here", "text/html")
            return
        number = int(name)
        links = [
            f"http://{HOSTS[child % 2]}:{port}/page/{child}"
            for child in range(3 * number + 1, 3 * number + 4)
            if child < self.pages
        ]
        links += ["/", f"/page/{number}#top", f"/private/{number}"]
        anchors = "".join(f'<li><a href="{link}">{link}</a>' for link in links)
        body = f"<!doctype html><title>Page {number}</title><ul>{anchors}</ul>"
        self.answer(200, body.encode(), "text/html; charset=utf-8")


class Api(_Handler):
    """Documents in pages of ten, and a summary of each; more than so much in a window is a 429.

    The first summary of each eleventh document fails with a 500.
    """

    documents: ClassVar[int] = 40
    requests: ClassVar[int] = 30
    tokens: ClassVar[int] = 4_000
    window: ClassVar[int] = 2
    """Seconds of a window; the next one begins with the first request after it."""
    others: ClassVar[int] = 0
    """Requests that others make in each window."""
    asked: ClassVar[int] = 0
    refused: ClassVar[int] = 0
    most: ClassVar[dict[str, int]] = {"requests": 0, "tokens": 0}
    """The most that was used in a window, without that of others."""
    _began: ClassVar[float] = 0.0
    _used: ClassVar[dict[str, int]] = {"requests": 0, "tokens": 0}
    _failed: ClassVar[set[int]] = set()
    _lock: ClassVar[Lock] = Lock()

    def do_GET(self) -> None:
        """Answer a page of documents or a summary, unless too much was asked for."""
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        number = int(query.get("id", query.get("cursor", ["0"]))[0])
        is_summary = parts.path == "/summary"
        tokens = 100 + number % 7 * 30 if is_summary else 0
        wait = self._wait(tokens)
        if wait is not None:
            self.answer(429, b"{}", "application/json", Retry_After=f"{wait:.3f}")
            return
        status = 200
        found: dict[str, Any]
        if not is_summary:
            last = min(number + 10, self.documents)
            found = {"ids": list(range(number, last)), "next": last if last < self.documents else None}
        elif number % 11 == 5 and number not in self._failed:
            self._failed.add(number)
            status, found = 500, {"error": "the model is out of breath"}
        else:
            time.sleep(0.01)
            found = {"text": f"Document {number} in short.", "tokens": tokens}
        self.answer(status, json.dumps(found).encode(), "application/json")

    @classmethod
    def _wait(cls, tokens: int) -> float | None:
        """Count a request; if it is one too many, return when to come again."""
        with cls._lock:
            now = time.monotonic()
            used = cls._used
            if now - cls._began >= cls.window:
                cls._began = now
                used["requests"] = used["tokens"] = 0
            cls.asked += 1
            if used["requests"] + cls.others >= cls.requests or used["tokens"] + tokens > cls.tokens:
                cls.refused += 1
                return cls._began + cls.window - now
            used["requests"] += 1
            used["tokens"] += tokens
            for name, number in used.items():
                cls.most[name] = max(cls.most[name], number)
            return None
