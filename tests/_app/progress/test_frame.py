"""Frames of the live view: exact text at several sizes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from qanat._app.progress.figures import Figures, Kind, Lane, Target
from qanat._app.progress.frame import Memory, frame
from qanat._app.progress.shapes import ErrorGroup
from qanat._app.progress.workers import Crowd, Row
from qanat._app.text import safe_text
from qanat._core.reason import Reason
from tests._app.progress.figures import some


def drawn(
    figures: Figures, width: int = 79, height: int = 23, memory: Memory | None = None, *,
    rate: float | None = 42.1, left: float | None = 5.0, note: str | None = None,
) -> list[str]:  # fmt: skip
    """Return the text of a frame's lines."""
    lines = frame(
        figures, rate, left, note, title="app:fetch", width=width, height=height, memory=memory or Memory()
    )  # fmt: skip
    return ["".join(text for _, text in line) for line in lines]


def row(number: int, **changes: Any) -> Row:
    given = {"attempt": 1, "item": f"https://example.com/{number}", "started_at": 100.0 - number}
    return Row(number, "fetch", **{**given, **changes})


BUSY = some(
    total=300, done=186, failed=9, retried=12, running=10, waiting=95, scheduled=2,
    reason=Reason("rate", "100/s", None, 0.0, 103.4),
    errors=(
        ErrorGroup("ConnectionError", 6, "reset by \x1b[2Jpeer", 17, again=4),
        ErrorGroup("ValueError", 3, "no [bold]title", 18),
        ErrorGroup("TimeoutError", 0, "late", 19, again=1),
    ),
    crowd=Crowd(
        (row(1, doing="parsing"), row(2), None, row(12, doing="con\x1bnecting", attempt=2)), 7, 79.0, 21,
        10, {"fetch": 10},
    ),
)  # fmt: skip


def test_a_terminal_of_80_columns() -> None:
    assert drawn(BUSY, note="stopping") == [
        "app:fetch                                                                  0:10",
        "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━──────────────────────────  65%",
        "186 of 300 done  9 failed  12 retries",
        "42.1/s  about 0:05 left",
        "10 running  2 to be retried  95 waiting: the rate 100/s, for 3 s",
        "   1.0 s         https://example.com/1   parsing",
        "   2.0 s         https://example.com/2",
        "",
        "  12.0 s  try 2  https://example.com/12  con\\x1bnecting",
        *[""] * 5,
        "  + 7 more, the longest for 21.0 s: job 21",
        "  10 x ConnectionError: reset by \\x1b[2Jpeer (job 17, 4 tried again)",
        "   3 x ValueError: no [bold]title (job 18)",
        "   1 x TimeoutError: late (job 19, tried again)",
        "stopping",
    ]


def test_a_terminal_of_40_columns_and_10_lines() -> None:
    assert drawn(BUSY, 39, 9, note="stopping: waits for 10 running jobs; again Ctrl-C cancels them") == [
        "app:fetch                          0:10",
        "━━━━━━━━━━━━━━━━━━━━━━────────────  65%",
        "186 of 300 done  9 failed  12 retries",
        "42.1/s  about 0:05 left",
        "10 running  2 to be retried  95 waiting",
        "  + 10 more, the longest for 21.0 s: j…",
        "  10 x ConnectionError: reset by \\x1b[…",
        "stopping: waits for 10 running jobs;",
        "again Ctrl-C cancels them",
    ]


@pytest.mark.parametrize(
    ("height", "expected"),
    [
        (1, ["186 of 300 done  9 failed  12 retries"]),
        (2, ["186 of 300 done  9 failed  12 retries", "10 running  2 to be retried  95 waiting: the rate 100/s, for 3 s"]),
    ],
)  # fmt: skip
def test_a_low_terminal_gets_what_matters_most(height: int, expected: list[str]) -> None:
    assert drawn(BUSY, height=height) == expected


def test_a_run_of_which_nobody_knows_the_end() -> None:
    assert drawn(some(done=7, found=1007, running=3), rate=None, left=None)[2:] == [
        "7 of 1,007 so far done  0 failed", "waiting for the first to end", "3 running",
    ]  # fmt: skip


def test_paused_and_throttled_time_is_told_apart() -> None:
    figures = some(total=10, done=5, stood={"paused": 12.0, "throttled": 40.2, "breaker": 0.5})
    assert drawn(figures)[3] == "42.1/s  about 0:05 left  (not counting paused 0:12, throttled 0:40)"


def test_kinds_lanes_and_targets() -> None:
    figures = some(
        total=30, done=12, running=3, waiting=15,
        kinds=(Kind("crawl", 10, 1, 0, 2, 7), Kind("parse\x1b", 2, 0, 0, 1, 8)),
        lanes=(Lane("a.com", 1, 10, "spacing"), Lane("b.com", 2, 5)),
        targets=(Target("eu", 3, "closed"), Target("us", 0, "open")),
    )  # fmt: skip
    assert drawn(figures)[5:] == [
        "  crawl      10 of 20 done  1 failed  2 running  7 waiting",
        "  parse\\x1b   2 of 11 done  0 failed  1 running  8 waiting",
        "  lane a.com  1 running  10 waiting  spacing",
        "  lane b.com  2 running   5 waiting",
        "  to eu  3 running  closed",
        "  to us  0 running    open",
    ]


def test_a_lane_that_was_forgotten_keeps_its_line() -> None:
    memory = Memory()
    drawn(some(lanes=(Lane("a", 1, 0), Lane("b", 1, 0))), memory=memory)
    assert drawn(some(lanes=(Lane("b", 2, 0),)), memory=memory)[5:] == [
        "  lane a  0 running  0 waiting", "  lane b  2 running  0 waiting",
    ]  # fmt: skip


def test_lanes_that_turn_out_to_be_many_are_not_shown() -> None:
    memory = Memory()
    for number in range(10):
        drawn(some(lanes=(Lane(str(number), 1, 0),)), memory=memory)
    assert drawn(some(lanes=(Lane("x", 1, 0),)), memory=memory)[5:] == []


def test_a_batch_shows_its_members() -> None:
    crowd = Crowd((row(1, item=["a", "b", "c", "d"], members=4, doing="embedding"),), 0, 99.0, 1, 4, {})
    assert drawn(some(running=1, crowd=crowd))[5] == "   1.0 s  4 items: a, b, c, …  embedding"


def test_a_handler_past_its_time_stands_out() -> None:
    crowd = Crowd((row(1, is_late=True),), 0, 99.0, 1, 0, {})
    shown = drawn(some(left_behind=(1,), crowd=crowd))
    assert shown[4:] == [
        "0 running (past its time in a thread: job 1)",
        "   1.0 s  past its time: https://example.com/1",
    ]


def test_an_item_whose_words_fail_is_no_trouble() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    shown = drawn(some(crowd=Crowd((row(1, item=Odd()),))))[5]
    assert "Odd" in shown


def test_numbers_keep_their_places() -> None:
    memory = Memory()
    first = drawn(some(total=1000, done=1, failed=100, running=10), memory=memory)
    second = drawn(some(total=1000, done=999, failed=1, running=1), memory=memory)
    assert first[2] == "    1 of 1,000 done  100 failed"
    assert second[2] == "  999 of 1,000 done    1 failed"
    assert second[4] == " 1 running"


def test_lines_never_get_fewer_while_it_runs() -> None:
    memory = Memory()
    many = drawn(BUSY, memory=memory, note="a note")
    few = drawn(some(total=300, done=290, errors=BUSY.errors), memory=memory)
    assert len(few) == len(many)


def test_errors_keep_their_order_while_their_numbers_change() -> None:
    memory = Memory()
    one, two = ErrorGroup("One", 2, "x", 1), ErrorGroup("Two", 1, "y", 2)
    drawn(some(errors=(one, two)), memory=memory)
    shown = drawn(some(errors=(ErrorGroup("Two", 5, "y", 2), one)), memory=memory)
    assert [line.split()[2] for line in shown[5:]] == ["One:", "Two:"]


def test_what_does_not_fit_of_the_errors_is_counted() -> None:
    errors = tuple(ErrorGroup(f"Error{number}", 1, "no", 1) for number in range(9))
    shown = drawn(some(errors=errors), height=23)
    assert [line.strip() for line in shown[5:]] == [
        "1 x Error0: no (job 1)", "1 x Error1: no (job 1)", "1 x Error2: no (job 1)", "6 x other errors",
    ]  # fmt: skip


texts = st.text(max_size=30)


@given(
    width=st.integers(1, 200), height=st.integers(1, 60), numbers=st.lists(st.integers(0, 10**9), min_size=7, max_size=7),
    items=st.lists(st.tuples(texts, st.one_of(st.none(), texts)), max_size=40), others=st.integers(0, 1000),
    note=st.one_of(st.none(), texts), errors=st.lists(st.tuples(texts, texts), max_size=8),
    lanes=st.lists(texts, max_size=8), kinds=st.lists(texts, max_size=4),
)  # fmt: skip
def test_every_frame_fits_and_obeys_nothing(
    width: int, height: int, numbers: list[int], items: list[tuple[str, str | None]], others: int,
    note: str | None, errors: list[tuple[str, str]], lanes: list[str], kinds: list[str],
) -> None:  # fmt: skip
    total, done, failed, cancelled, running, waiting, scheduled = numbers
    figures = some(
        total=total, done=done, failed=failed, cancelled=cancelled, running=running, waiting=waiting,
        scheduled=scheduled, errors=tuple(ErrorGroup(name, 1, said, name) for name, said in errors),
        lanes=tuple(Lane(name, 1, 1) for name in lanes), kinds=tuple(Kind(name) for name in kinds),
        crowd=Crowd(tuple(row(place, item=item, doing=doing) for place, (item, doing) in enumerate(items)), others),
    )  # fmt: skip
    memory = Memory()
    for _ in range(2):
        lines = drawn(figures, width, height, memory, note=None if note is None else safe_text(note))
        assert len(lines) <= height
        for line in lines:
            assert cell_len(line) <= width
            assert safe_text(line, 1000) == line
