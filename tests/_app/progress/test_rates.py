"""How fast jobs end, and when the last one will have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._app.progress.rates import STEP, WINDOW, RateMeter, seconds_left


def test_the_first_rate_is_taken_from_the_start() -> None:
    meter = RateMeter(100.0)
    meter.note(20, 101.0)
    assert meter.rate(20, 102.0) == 10.0


def test_nothing_is_said_before_anything_ended() -> None:
    meter = RateMeter(100.0)
    assert meter.rate(0, 110.0) is None
    assert meter.rate(5, 100.0) is None


def test_only_the_last_minute_counts() -> None:
    meter = RateMeter(0.0)
    for second in range(1, 121):
        meter.note(100 * min(second, 60), float(second))
    assert meter.rate(6000, 120.0) == 0.0
    assert meter.rate(6060, 120.0) == 1.0


def test_the_edge_of_the_minute_lies_between_two_counts() -> None:
    meter = RateMeter(0.0)
    meter.note(100, 10.0)
    meter.note(160, 69.0)
    assert meter.rate(160, 69.5) == (160 - 95) / 60.0


@given(st.lists(st.tuples(st.floats(0.0, 30.0), st.integers(0, 1000)), max_size=200))
def test_a_rate_is_never_negative_and_memory_is_bounded(steps: list[tuple[float, int]]) -> None:
    meter, now, count = RateMeter(0.0), 0.0, 0
    for seconds, more in steps:
        now, count = now + seconds, count + more
        meter.note(count, now)
        rate = meter.rate(count, now)
        assert rate is None or rate >= -1e-9
    assert len(meter._counts) <= WINDOW / STEP + 2


@pytest.mark.parametrize(
    ("rate", "left", "seconds"),
    [(10.0, 100, 10.0), (None, 100, None), (10.0, None, None), (0.0, 5, None), (10.0, 0, 0.0), (0.0, 0, 0.0)],
)
def test_time_left(rate: float | None, left: int | None, seconds: float | None) -> None:
    assert seconds_left(rate, left) == seconds
