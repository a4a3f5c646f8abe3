"""`qanat demo`: a difficult server, and the program that gets on with it."""

from __future__ import annotations

import http.client
import signal
from typing import TYPE_CHECKING

import pytest

from qanat._cli import demo_command, demo_server
from qanat._cli.demo_server import DemoServer
from tests._cli.shell import begin, call, ended

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def status(server: DemoServer, page: int) -> str:
    """Ask for a page and return the status, or the error."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("GET", f"/page/{page}")
        return str(connection.getresponse().status)
    except OSError as error:
        return type(error).__name__
    finally:
        connection.close()


def test_the_server_does_the_same_for_the_same_seed() -> None:
    runs: list[list[str]] = []
    for _ in range(2):
        with DemoServer() as server:
            runs.append([status(server, page) for page in (1, 73, 1, 2, 1)])
    assert runs[0] == runs[1]
    assert runs[0][1] == "404"


def test_the_server_asks_for_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_server, "PAUSES", (1,))
    with DemoServer() as server:
        status(server, 1)
        assert status(server, 2) == "429"


def test_it_tells_what_happened_and_with_which_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_server, "PAGES", 40)
    monkeypatch.setattr(demo_command, "PAGES", 40)
    monkeypatch.setattr(demo_server, "PAUSES", (5,))
    monkeypatch.setattr(demo_server, "LOST", frozenset({3}))
    ran = call(tmp_path, "demo")
    assert ran.returncode == 0, ran.stderr
    for words in (
        "fetches 40 pages", "39 pages were fetched", "1 failed for good: there is no such page",
        "for the server", "raise qanat.Throttled", "qanat.run(fetch, urls", "def fetch(url: str) -> int:",
    ):  # fmt: skip
        assert words in ran.stdout, words
    assert max(map(len, ran.stdout.splitlines())) < 80


def test_ctrl_c_ends_it(tmp_path: Path) -> None:
    process = begin(tmp_path, "demo")
    assert process.stdout is not None
    assert b"fetches 300 pages" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    code, out, err = ended(process, 15)
    assert code == 130, err
    assert "Stopped: " in out
    assert "Traceback" not in err
