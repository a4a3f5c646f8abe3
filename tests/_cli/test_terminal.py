"""The command line on a terminal: what is drawn, and what is not obeyed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from typing import TYPE_CHECKING

import pytest

import qanat
from tests._cli.shell import APP, command, environment, wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")

HOSTILE = """
import asyncio
async def fail(item):
    await asyncio.sleep(0.05)
    raise ValueError("\\x1b[2J\\x1b]0;title\\x07\\x1b]52;c;aGk=\\x07\\u202e" + item)
async def talk(item):
    print("printed", item, flush=True)
    await asyncio.sleep(0.1)
    return item
"""


class Terminal:
    """`qanat` with a terminal of a size for its standard error, or for all three."""

    def __init__(
        self,
        where: Path,
        *arguments: str,
        size: tuple[int, int] = (24, 80),
        stdout: int | None = None,
        **env: str,
    ) -> None:
        (where / "app.py").write_text(APP)
        (where / "hostile.py").write_text(HOSTILE)
        self.main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        self.process = subprocess.Popen(
            command(*arguments), cwd=where, env=environment(**{"TERM": "xterm-256color", **env}),
            stdin=other, stdout=other if stdout is None else stdout, stderr=other, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.written = b""

    def read(self, until: bytes | None = None, seconds: float = 30.0) -> bytes:
        """Read to the end, or until something was written."""
        end = time.monotonic() + seconds
        while until is None or until not in self.written:
            assert time.monotonic() < end, self.written
            if select.select([self.main], [], [], 0.1)[0]:
                try:
                    more = os.read(self.main, 65536)
                except OSError:  # the other end has been closed
                    break
                if not more:
                    break
                self.written += more
        return self.written

    def end(self) -> int:
        status = self.process.wait(20)
        os.close(self.main)
        return status


def items(where: Path, number: int) -> None:
    (where / "in.txt").write_text("".join(f"{item}\x1b[5m\n" for item in range(1, number + 1)))


def test_progress_is_drawn_and_gone_at_the_end(tmp_path: Path) -> None:
    items(tmp_path, 40)
    terminal = Terminal(tmp_path, "map", "hostile:talk", "in.txt", "-o", "out", "-j", "2")
    terminal.read(b" of 40 done")
    written = terminal.read()
    assert terminal.end() == 0
    assert b"\xe2\x94\x81" in written  # the bar
    assert b"2 running  " in written
    assert b"printed 1" in written
    assert b"\x1b[?25l" not in written  # the cursor stays
    assert written.rstrip().splitlines()[-1].startswith((b"40 of 40 done", b"jobs waited"))


@pytest.mark.parametrize("mode", ["live", "lines", "json"])
def test_escapes_in_data_are_shown_and_not_obeyed(tmp_path: Path, mode: str) -> None:
    items(tmp_path, 20)
    more = ["--json"] if mode == "json" else []
    term = "dumb" if mode == "lines" else "xterm"
    terminal = Terminal(tmp_path, "map", "hostile:fail", "in.txt", "-j", "2", *more, TERM=term)
    written = terminal.read()
    assert terminal.end() == 1
    for evil in (b"\x1b[2J", b"\x1b]", b"\x07", b"\xe2\x80\xae", b"\x1b[5m"):
        assert evil not in written, evil
    assert b"\\x1b[2J" in written or b"\\u001b[2J" in written
    if mode != "live":
        assert b"\x1b" not in written


@pytest.mark.parametrize("more", [(), ("--no-progress",)])
def test_a_worker_shows_what_it_does(tmp_path: Path, more: tuple[str, ...]) -> None:
    url = f"sqlite:///{tmp_path}/work.db"
    with qanat.open(url) as store:
        store.queue("q").put_many(range(40))
    terminal = Terminal(
        tmp_path, "worker", "hostile:talk", "--store", url, "--queue", "q", "--burst", "-j", "10", *more
    )
    written = terminal.read()
    assert terminal.end() == 0
    assert (b"\xe2\x94\x81" in written) == (not more)  # the bar
    assert b"printed 1" in written
    assert b"qanat: 40 done, 0 failed" in written


def test_results_and_progress_share_a_terminal(tmp_path: Path) -> None:
    items(tmp_path, 20)
    terminal = Terminal(tmp_path, "map", "hostile:talk", "in.txt", "-j", "2")
    written = terminal.read()
    assert terminal.end() == 0
    plain = ESCAPES.sub(b"", written)
    assert plain.count(b'"ok":true') == 20


def test_small_terminals_and_dumb_ones(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("".join(f"{item}\n" for item in range(20)))
    for size, name in (((3, 20), "xterm"), ((1, 1), "xterm"), ((0, 0), "xterm"), ((24, 80), "dumb")):
        (tmp_path / "out").unlink(missing_ok=True)
        terminal = Terminal(
            tmp_path, "map", "hostile:talk", "in.txt", "-o", "out", "-j", "10", size=size, TERM=name
        )
        written = terminal.read()
        assert terminal.end() == 0
        assert b"Traceback" not in written
        assert (b"\x1b" in written) == (name != "dumb")


def test_ctrl_c_reaches_us_and_not_the_commands(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("1\n2\n")
    script = "touch begun; sleep 1; echo {}"
    terminal = Terminal(tmp_path, "map", "-j", "1", "-o", "out", "in.txt", "--", "sh", "-c", script)
    wait_for(tmp_path, "begun")
    os.killpg(terminal.process.pid, signal.SIGINT)  # as a terminal does it: to the whole group
    terminal.read(b"waits for 1 running job")
    written = terminal.read()
    assert terminal.end() == 130
    assert b"stopped by SIGINT" in written
    assert (tmp_path / "out").read_text().count('"ok":true') == 1


def test_a_terminal_that_is_closed_ends_the_run(tmp_path: Path) -> None:
    items(tmp_path, 1000)
    terminal = Terminal(tmp_path, "map", "hostile:talk", "in.txt", "-o", "out", "-j", "2")
    terminal.read(b" done")
    os.close(terminal.main)
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.process.wait(20) == 129
