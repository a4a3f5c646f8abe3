"""The figures of a run in words."""

from __future__ import annotations

from typing import get_args

import pytest

from qanat._app.progress import words
from qanat._app.progress.figures import ErrorGroup
from qanat._core.reason import Cause, Reason
from tests._app.progress.figures import some


def test_counts() -> None:
    assert words.count_words(some(done=3)) == "3 done"
    full = some(done=1186, total=2300, failed=3, cancelled=1, retried=12)
    assert words.count_words(full) == "1,186 of 2,300 done, 3 failed, 1 cancelled, 12 retries"


@pytest.mark.parametrize(
    ("rate", "said"),
    [(1234.5, "1,234/s"), (42.13, "42.1/s"), (1.0, "1.0/s"), (0.5, "30.0/min"), (0.001, "3.6/h")],
)
def test_rates_are_said_in_a_unit_that_suits(rate: float, said: str) -> None:
    assert words.rate_words(rate) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "0:00"), (7.6, "0:08"), (59.7, "1:00"), (3723, "1:02:03"), (90061, "1 d 01:01")],
)
def test_lengths_of_time_look_like_a_clock(seconds: float, said: str) -> None:
    assert words.clock_words(seconds) == said


def test_pace() -> None:
    assert words.pace_words(None, None) == ""
    assert words.pace_words(2.0, None) == "2.0/s"
    assert words.pace_words(2.0, 65.0) == "2.0/s, about 1:05 left"


def test_what_waits_is_told_with_its_cause() -> None:
    assert words.state_words(some(running=2)) == "2 running"
    late = some(running=2, left_behind=(7, "evil\x1b"))
    assert words.state_words(late) == "2 running (past its time in a thread: job 7, evil\\x1b)"
    many = some(running=9, left_behind=(1, 2, 3, 4, 5))
    assert words.state_words(many) == "9 running (past its time in a thread: job 1, 2, 3 and 2 more)"
    assert words.state_words(some(running=2, at_once=5, waiting=3)) == "2 running of 5 at once, 3 waiting"
    reason = Reason("rate", "100/s", None, 90.0, 103.4)
    figures = some(running=2, waiting=1000, scheduled=3, reason=reason)
    assert words.state_words(figures) == "2 running, 3 to be retried, 1,000 waiting: the rate 100/s, for 3 s"


@pytest.mark.parametrize("cause", get_args(Cause))
def test_every_cause_has_words(cause: Cause) -> None:
    said = words.reason_words(Reason(cause, None, None, 0.0, None), 0.0)
    assert said
    assert "{" not in said
    assert "  " not in said


def test_lanes_cannot_harm_a_terminal() -> None:
    said = words.reason_words(Reason("throttled", None, "\x1b[2J", 0.0, None), 0.0)
    assert said == "the other side asked for a pause (lane \\x1b[2J)"


class TestErrors:
    groups = tuple(ErrorGroup(f"Error{number}", 10 - number, "no\x1b\n", number) for number in range(4))

    def test_all_that_fit(self) -> None:
        lines = words.error_lines(some(errors=self.groups), 4)
        assert lines[0] == "10 x Error0: no\\x1b\\n (job 0)"
        assert len(lines) == 4

    def test_the_others_share_the_last_line(self) -> None:
        lines = words.error_lines(some(errors=self.groups, other_errors=5), 3)
        assert [line.split(":")[0] for line in lines] == ["10 x Error0", "9 x Error1", "20 x other errors"]

    def test_none(self) -> None:
        assert words.error_lines(some(), 3) == []


def test_summary() -> None:
    figures = some(done=9, failed=1, seconds=2.0, waits={"rate": 3.0, "retry": 1.0, "turn": 0.001})
    assert words.summary_lines(figures) == [
        "9 done, 1 failed in 2.00 s, 5.0/s",
        "jobs waited 0.40 s on average: 75% rate, 25% retry",
    ]
    assert words.summary_lines(some(seconds=0.0)) == ["0 done in 0.00 s"]
    assert words.summary_lines(some(done=1, seconds=4000.0)) == ["1 done in 1:06:40, 0.9/h"]


def test_cancelled_jobs_count_neither_for_the_pace_nor_for_the_average() -> None:
    figures = some(done=10, cancelled=90, untimed=90, seconds=2.0, waits={"rate": 5.0})
    assert words.summary_lines(figures) == [
        "10 done, 90 cancelled in 2.00 s, 5.0/s",
        "jobs waited 0.50 s on average: 100% rate",
    ]
