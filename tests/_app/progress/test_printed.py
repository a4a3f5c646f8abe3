"""What is printed while the view is drawn."""

from __future__ import annotations

import io
import logging
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from qanat._app.progress.logs import logs_follow
from qanat._app.progress.printed import MOST, Printed

if TYPE_CHECKING:
    from collections.abc import Callable


class Terminal(io.StringIO):
    install: Callable[[], None]

    def isatty(self) -> bool:
        return True


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    stream = Terminal()
    # In the test itself, as pytest puts its own there after the fixtures.
    stream.install = lambda: monkeypatch.setattr(sys, "stdout", stream)
    return stream


def test_lines_are_gathered_and_half_ones_kept(real: Terminal) -> None:
    real.install()
    printed = Printed(lambda: None)
    printed.begin("stdout")
    print("one\ntwo")
    print("half", end="", flush=True)
    assert printed.take() == "one\ntwo\n"
    print(" whole")
    print("rest", end="")
    assert printed.take() == "half whole\n"
    printed.end()
    assert sys.stdout is real
    assert printed.take() == "rest\n"
    assert real.getvalue() == ""


def test_whoever_kept_the_stream_writes_to_the_real_one_afterwards(real: Terminal) -> None:
    real.install()
    printed = Printed(lambda: None)
    printed.begin("stdout")
    kept = sys.stdout
    printed.end()
    kept.write("late\n")
    assert real.getvalue() == "late\n"


def test_a_stream_that_somebody_else_replaced_stays(real: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    real.install()
    printed = Printed(lambda: None)
    printed.begin("stdout")
    theirs = io.StringIO()
    monkeypatch.setattr(sys, "stdout", theirs)
    printed.end()
    assert sys.stdout is theirs


def test_memory_has_a_bound(real: Terminal) -> None:
    real.install()
    written: list[str] = []
    printed = Printed(lambda: written.append(printed.take()))
    printed.begin("stdout")
    for _ in range(10):
        print("x" * (MOST // 4))
    printed.end()
    assert len("".join(written)) > MOST


def test_it_stands_for_the_real_stream(real: Terminal) -> None:
    real.install()
    printed = Printed(lambda: None)
    printed.begin("stdout")
    assert sys.stdout.isatty()
    assert sys.stdout.writable()
    assert sys.stdout.encoding == "utf-8"
    sys.stdout.buffer.write("bytes é\n".encode())
    assert sys.stdout.buffer.writable()
    assert printed.take() == "bytes é\n"
    with pytest.raises(TypeError, match="must be str"):
        sys.stdout.write(b"bytes")  # type: ignore[arg-type]
    printed.end()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain é 日本", "plain é 日本"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"),
        ("\x1b[2J\x1b[5Aup", "up"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("50 %\r100 %", "100 %"),
        ("dos\r", "dos"),
        ("a\tb", "a       b"),
        ("bell\x07\x9b2J", "bell\\x07\\x9b2J"),
    ],
)
def test_colours_stay_and_what_moves_the_cursor_does_not(real: Terminal, line: str, shown: str) -> None:
    real.install()
    printed = Printed(lambda: None)
    printed.begin("stdout")
    print(line)
    printed.end()
    assert printed.take() == f"{shown}\n"


def test_threads_print_whole_lines(real: Terminal) -> None:
    real.install()
    printed = Printed(lambda: None)
    printed.begin("stdout")
    threads = [
        threading.Thread(target=lambda name=name: [sys.stdout.write(f"{name * 20}\n") for _ in range(200)])
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    printed.end()
    lines = printed.take().splitlines()
    assert len(lines) == 800
    assert all(len(set(line)) == 1 and len(line) == 20 for line in lines)


def test_log_handlers_that_were_made_before_follow(real: Terminal) -> None:
    real.install()
    logger = logging.getLogger("tests.printed")
    handler = logging.StreamHandler(sys.stdout)
    elsewhere = logging.StreamHandler(io.StringIO())
    logger.handlers = [handler, elsewhere]
    logger.propagate = False
    real.install()
    printed = Printed(lambda: None)
    printed.begin("stdout")
    with logs_follow(printed.real_streams):
        logger.warning("told")
        assert printed.take() == "told\n"
    printed.end()
    assert handler.stream is real
    logger.handlers = []
    assert elsewhere.stream.getvalue() == "told\n"
