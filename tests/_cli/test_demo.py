"""`qanat demo`: a difficult server, and the program that gets on with it."""

from __future__ import annotations

import errno
import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, NoReturn

import pytest

from qanat._cli import demo_command, demo_server
from qanat._cli.demo_server import DemoServer
from tests._cli.shell import begin, call, ended, wait_for
from tests._cli.test_terminal import Terminal

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


def test_the_server_counts_what_is_asked_for_and_what_is_sent() -> None:
    with DemoServer() as server:
        assert [status(server, page) for page in (73, 2, 2)] == ["404", "200", "200"]
        assert server.requests == {"/page/73": 1, "/page/2": 2}
        assert server.served == {"/page/2"}


def test_it_is_killed_goes_on_and_tells_with_which_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_server, "PAGES", 60)
    monkeypatch.setattr(demo_command, "PAGES", 60)
    monkeypatch.setattr(demo_server, "PAUSES", (5,))
    monkeypatch.setattr(demo_server, "LOST", frozenset({3}))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    ran = call(tmp_path, "demo")
    assert ran.returncode == 0, ran.stderr
    for words in (
        "fetches 60 pages", "the server was asked 0 times for these, and ",
        "1 failed for good: there is no such page", "in all, 59 pages were fetched",
        "raise qanat.Throttled", "qanat.run(fetch, urls", "def fetch(url: str) -> int:",
    ):  # fmt: skip
        assert words in ran.stdout, words
    (killed,) = re.findall(r"kill -9, after (\d+) pages", ran.stdout)
    (known,) = re.findall(r"(\d+) pages were taken from the journal", ran.stdout)
    assert 30 <= int(killed) < 59
    assert 0 < int(known) <= int(killed)
    assert f"59 of 60 done, {known} of them from the journal, 1 failed" in ran.stderr
    assert max(map(len, ran.stdout.splitlines())) < 80
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_program_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(shutil.which("false")))
    ran = call(tmp_path, "demo")
    assert ran.returncode == 1
    assert ran.stderr == "qanat: the program of the demo ended with status 1\n"


def test_without_a_place_for_the_journal_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", refuse)
    ran = call(tmp_path, "demo")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "qanat: the demo needs a folder for its journal: No such file or directory\n"


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    listed = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [int(child) for child, parent in map(str.split, listed) if int(parent) == pid]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_child(pid: int) -> int:
    """Wait until a process has started another."""
    end = time.monotonic() + 20
    while not (found := children_of(pid)):
        assert time.monotonic() < end, "no process was started"
        time.sleep(0.01)
    return found[0]


@pytest.mark.skipif(os.name == "nt", reason="signals of a POSIX system")
@pytest.mark.parametrize(
    ("number", "code", "when"),
    [
        (signal.SIGINT, 130, "begins"),
        (signal.SIGINT, 130, "works"),
        (signal.SIGINT, 130, "goes on"),
        (signal.SIGTERM, 143, "works"),
        (signal.SIGHUP, 129, "works"),
        (signal.SIGKILL, -9, "works"),
    ],
)
def test_however_it_is_ended_nothing_is_left(number: int, code: int, when: str, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    process = begin(tmp_path, "demo", env={"TMPDIR": str(tmp_path / "tmp")})
    assert process.stdout is not None
    child = wait_for_child(process.pid)
    if when != "begins":
        wait_for(tmp_path, "tmp/qanat-demo-*/journal.db")
    if when == "goes on":
        while b"kill -9" not in process.stdout.readline():
            assert process.poll() is None
        child = wait_for_child(process.pid)
    process.send_signal(number)
    status, out, err = ended(process, 15)
    assert status == code, err
    assert ("Stopped: " in out) == (number == signal.SIGINT)
    assert "Traceback" not in err
    end = time.monotonic() + 10
    while is_running(child):  # without its parent it ends by itself
        assert time.monotonic() < end
        time.sleep(0.01)
    if number != signal.SIGKILL:
        assert list((tmp_path / "tmp").iterdir()) == []


def test_ctrl_c_on_a_terminal_leaves_it_in_order(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "demo")
    terminal.read(b" of 300 done")
    os.killpg(terminal.process.pid, signal.SIGINT)  # as a terminal does it: to the whole group
    written = terminal.read()
    assert terminal.end() == 130
    assert b"nothing was left running" in written.splitlines()[-1]
    assert b"Traceback" not in written
    assert b"\x1b[?25l" not in written  # the cursor stays


@pytest.mark.skipif(os.name == "nt", reason="signals of a POSIX system")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("block", [False, True])
def test_a_signal_that_another_thread_takes_is_kept_back_too(number: int, block: bool) -> None:
    """Or Ctrl-C between the start of a child process and knowing it would leave that running."""
    ended = threading.Event()
    other = threading.Thread(target=ended.wait, daemon=True)
    other.start()

    def end(*_: object) -> NoReturn:
        raise InterruptedError

    before = signal.signal(number, end)
    steps: list[str] = []
    try:
        with pytest.raises(InterruptedError), demo_command._held(block=block):
            os.kill(os.getpid(), number)
            for _ in range(100):
                time.sleep(0.001)
            steps.append("the block ends")
        assert steps == ["the block ends"]
        assert signal.getsignal(number) is end
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    finally:
        signal.signal(number, before)
        ended.set()
        other.join()
