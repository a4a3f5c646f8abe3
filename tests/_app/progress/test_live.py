"""The live view on real terminals: prints, signals, sizes and faults."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

from tests._cli.shell import environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real

ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")

HEAD = """
import asyncio, logging, sys, time, qanat
logging.basicConfig(level="INFO", format="%(message)s")
"""

TALK = (
    HEAD
    + """
def talk(item):
    qanat.current_job().describe("talking")
    time.sleep(0.3)
    print("printed", item)
    print("error", item, file=sys.stderr)
    logging.info("logged %s", item)
    print("half", item, end="")
    print()
qanat.run(talk, range(9), concurrency=3)
print("after")
"""
)

SLOW = (
    HEAD
    + """
async def slow(item):
    await asyncio.sleep(2.0 if item < 3 else 60)
try:
    qanat.run(slow, range(100), concurrency=3, **RULES)
except KeyboardInterrupt as error:
    print("done", len([each for each in qanat.errors.outcomes_of(error) if each.ok]))
"""
)

FAULTY = (
    HEAD
    + """
import qanat._app.progress.live as live
real, times = live.frame, []
def faulty(*args, **options):
    times.append(1)
    if len(times) > 3:
        raise ZeroDivisionError("in the view")
    return real(*args, **options)
live.frame = faulty
async def nap(item):
    await asyncio.sleep(0.2)
    print("printed", item)
print(len(qanat.run(nap, range(10), concurrency=2).values()), "values")
print(sys.stdout is sys.__stdout__)
"""
)


class Script:
    """A script that runs on a terminal of its own."""

    def __init__(self, where: Path, text: str, size: tuple[int, int] = (24, 80), **env: str) -> None:
        (where / "script.py").write_text(text)
        self.main, other = pty.openpty()
        self.resize(*size)
        self.process = subprocess.Popen(
            [sys.executable, "script.py"], cwd=where, env=environment(**{"TERM": "xterm-256color", **env}),
            stdin=other, stdout=other, stderr=other, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self.written = b""

    def resize(self, height: int, width: int) -> None:
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def read(self, until: bytes | None = None, seconds: float = 30.0) -> bytes:
        """Read to the end, or until something was written after what was read before."""
        end, start = time.monotonic() + seconds, len(self.written)
        while until is None or until not in self.written[start:]:
            assert time.monotonic() < end, self.written
            if select.select([self.main], [], [], 0.1)[0]:
                try:
                    more = os.read(self.main, 65536)
                except OSError:  # the other end has been closed
                    break
                if not more:
                    break
                self.written += more
        return self.written[start:]

    def end(self) -> tuple[int, str]:
        """Return the exit status and the text that was written, without what moves or colours it."""
        self.read()
        status = self.process.wait(20)
        os.close(self.main)
        return status, ESCAPES.sub(b"", self.written).decode()


def test_prints_and_logs_stand_above(tmp_path: Path) -> None:
    script = Script(tmp_path, TALK)
    status, text = script.end()
    assert status == 0
    lines = [line.strip() for line in re.split("[\r\n]+", text)]
    for item in range(9):
        for words in ("printed", "error", "logged", "half"):
            assert f"{words} {item}" in lines
    assert any(line.endswith("talking") for line in lines)
    assert lines[-2] == "after"
    assert b"\x1b[?25" not in script.written  # the cursor is never touched


@pytest.mark.parametrize(
    ("rules", "signals", "status", "said"),
    [
        ("{}", [signal.SIGINT], 0, "stopping: waits for 3 running jobs"),
        ("{}", [signal.SIGINT, signal.SIGINT], 0, "done 0"),
        ("{}", [signal.SIGTERM] * 3, 143, "stopping: waits for 3 running jobs"),
        ("{'graceful': False}", [signal.SIGINT], 0, "done 0"),
        ("{'graceful': False}", [signal.SIGTERM], 143, ""),
    ],
    ids=["stop", "cancel", "exit", "not-graceful", "not-graceful-term"],
)
def test_signals(tmp_path: Path, rules: str, signals: list[signal.Signals], status: int, said: str) -> None:
    deaf = "deaf" if len(signals) > 2 else ""
    script = Script(tmp_path, SLOW.replace("RULES", rules).replace("DEAF", deaf))
    script.read(b"3 running")
    # One after the other has been heard: two of a kind that wait are one.
    for place, number in enumerate(signals):
        script.process.send_signal(number)
        if place + 1 < len(signals):
            script.read([b"again", b"cancelling"][place], 10)
    found, text = script.end()
    assert found == status
    assert said in text
    if signals == [signal.SIGINT] and rules == "{}":
        assert "again Ctrl-C cancels them" in text
        assert "done 3" in text
    # Whatever ended it, the cursor stands at the start of a line.
    assert script.written.endswith((b"\n", b"\x1b[K", b"\x1b[2K"))


def test_a_view_that_raises_is_taken_away_and_the_run_goes_on(tmp_path: Path) -> None:
    status, text = Script(tmp_path, FAULTY).end()
    assert status == 0
    assert "10 values" in text
    assert "the view raised and is gone; the run goes on" in text
    assert text.rstrip().endswith("True")
    assert text.count("printed") == 10


def test_the_size_may_change_meanwhile(tmp_path: Path) -> None:
    script = Script(tmp_path, TALK.replace("range(9)", "range(40)"))
    script.read(b"running")
    for size in ((10, 40), (50, 200), (3, 20), (24, 80)):
        script.resize(*size)
        script.read(b"talking" if size[0] > 3 else b"done")
    status, text = script.end()
    assert status == 0
    assert text.count("printed") == 40


def test_three_hundred_workers(tmp_path: Path) -> None:
    many = TALK.replace("range(9), concurrency=3", "range(900), concurrency=300")
    status, text = Script(tmp_path, many).end()
    assert status == 0
    assert re.search(r"\+ 28\d more", text)
    assert text.count("logged") == 900


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_keeps_the_view(tmp_path: Path, env: dict[str, str], coloured: bool) -> None:
    script = Script(tmp_path, TALK, (24, 80), **env)
    _, text = script.end()
    assert "talking" in text
    assert (b"\x1b[32m" in script.written) == coloured


def test_a_dumb_terminal_gets_lines(tmp_path: Path) -> None:
    script = Script(tmp_path, TALK, TERM="dumb")
    _, text = script.end()
    assert b"\x1b" not in script.written
    assert "9 of 9 done" in text
