from __future__ import annotations

from math import inf, nextafter
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._core.limits import FixedWindow, SlidingWindow
from tests._core.limits.properties import JOB, OUTCOME, bound

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.limit import Limit

BOTH = pytest.mark.parametrize("window", [SlidingWindow, FixedWindow])


def starts(limit: Limit, *arrivals: float) -> list[float]:
    """Return when jobs start that arrive at these times."""
    now, started = -inf, list[float]()
    for arrival in arrivals:
        now = max(now, arrival, limit.ready_at(JOB, max(now, arrival)))
        limit.take(JOB, now)
        limit.give_back(JOB, OUTCOME, now)
        started.append(now)
    return started


@BOTH
def test_window_is_half_open(window: type[SlidingWindow | FixedWindow]):
    """A job that starts just when the window ends stands in the next one."""
    assert starts(window(2, 10.0), 0, 0, 0, 0, 0) == [0, 0, 10, 10, 20]


@BOTH
def test_per_may_be_a_text(window: type[SlidingWindow | FixedWindow]):
    assert starts(window(1, "15m"), 0, 0) == [0, 900]


def test_sliding_window_counts_from_each_start():
    assert starts(SlidingWindow(2, 10.0), 0, 8, 9, 9, 9) == [0, 8, 10, 18, 20]


def test_fixed_window_opens_at_the_first_start_after_the_one_before():
    assert starts(FixedWindow(2, 10.0), 0, 8, 9, 25, 26, 27) == [0, 8, 10, 25, 26, 35]


def test_fixed_window_lets_twice_as_many_start_around_a_border():
    assert starts(FixedWindow(2, 10.0), 0, 9, 9, 9) == [0, 9, 10, 10]


@BOTH
def test_window_names_a_time_that_is_really_per_later(window: type[SlidingWindow | FixedWindow]):
    """0.7 + 0.1 is rounded down, so that it is less than 0.1 after 0.7."""
    limit = window(1, 0.1)
    limit.take(JOB, 0.7)
    at = limit.ready_at(JOB, 0.7)
    assert at == 0.8 == nextafter(0.7 + 0.1, inf)
    assert at - 0.7 >= 0.1


@BOTH
def test_window_counts_from_when_the_handler_may_begin(window: type[SlidingWindow | FixedWindow]):
    limit = bound(window(1, 10.0), precision=0.5)
    assert starts(limit, 0, 0, 0) == [0, 10.5, 21]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.lists(st.floats(0, 3), min_size=5, max_size=20), st.integers())
def test_no_window_is_exceeded_where_handlers_begin(n: int, gaps: list[float], seed: int):
    """Handlers begin up to the precision after their start was decided, each by a different bit."""
    limit, rng, now = bound(SlidingWindow(n, 1.0), precision=0.25), Random(seed), 0.0
    arrivals = [now := now + gap for gap in gaps]
    begun = [start + 0.25 * rng.random() for start in starts(limit, *arrivals)]
    for number, first in enumerate(sorted(begun)):
        assert sum(first <= start < first + 1.0 for start in begun) <= n, number


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.lists(st.floats(0, 3), min_size=5, max_size=20), st.integers())
def test_n_handlers_begin_between_the_first_of_a_window_and_per_later(n: int, gaps: list[float], seed: int):
    limit, rng, now = bound(FixedWindow(n, 1.0), precision=0.25), Random(seed), 0.0
    arrivals = [now := now + gap for gap in gaps]
    decided = starts(limit, *arrivals)
    begun = [start + 0.25 * rng.random() for start in decided]
    opening = [0, *(i for i in range(1, len(decided)) if decided[i] >= decided[0] + 1.25)][:2]
    for first in opening:
        assert sum(begun[first] <= start < begun[first] + 1.0 for start in begun[first:]) <= n


def test_log_grows_only_as_it_is_used():
    limit = SlidingWindow(10**9, 1.0)
    starts(limit, 0, 0, 0)
    assert len(limit._log) == 3
    assert limit._log.itemsize == 8


@BOTH
def test_window_is_fresh_when_its_last_start_has_left_it(window: type[SlidingWindow | FixedWindow]):
    limit = window(3, 10.0)
    assert limit.fresh_at(5.0) <= 5.0
    starts(limit, 6)
    assert limit.fresh_at(6.0) == 16.0


def test_sliding_window_is_fresh_when_the_newest_start_has_left_the_ring():
    limit = SlidingWindow(2, 10.0)
    starts(limit, 0, 1, 10)
    assert limit.fresh_at(10.0) == 20.0


REFUSED: dict[str, tuple[Callable[..., Limit], object, object, type[Exception], str]] = {
    "no start": (SlidingWindow, 0, 1.0, ValueError, "n must be at least 1, got 0"),
    "half a start": (SlidingWindow, 0.5, 1.0, TypeError, "n must be a whole number, got 0.5"),
    "no time": (FixedWindow, 1, 0, ValueError, "per must be greater than 0, got 0"),
    "no number": (FixedWindow, 1, None, TypeError, "per must be a number, got None"),
    "no duration": (
        SlidingWindow,
        1,
        "soon",
        ValueError,
        """per must be a time such as "30s", "15m" or "1.5h", got 'soon'""",
    ),
}


@pytest.mark.parametrize(("window", "n", "per", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_wrong_arguments_are_refused(
    window: Callable[..., Limit], n: object, per: object, error: type[Exception], message: str
):
    with pytest.raises(error) as caught:
        window(n, per)
    assert str(caught.value) == message


def test_windows_are_said_in_words():
    assert str(SlidingWindow(300, 900)) == "300/15m"
    assert repr(SlidingWindow(300, "15m")) == "SlidingWindow(300, 900.0)"
    assert str(FixedWindow(5, 2.5)) == "5/2.5s in fixed windows"
    assert repr(FixedWindow(5, 2.5)) == "FixedWindow(5, 2.5)"
    assert SlidingWindow.cause == FixedWindow.cause == "rate"
