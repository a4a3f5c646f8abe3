from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._core.limits import TokenBucket
from tests._core.limits.properties import JOB


def starts(limit: TokenBucket, *arrivals: float) -> list[float]:
    now, started = 0.0, list[float]()
    for arrival in arrivals:
        now = max(now, arrival, limit.ready_at(JOB, max(now, arrival)))
        limit.take(JOB, now)
        started.append(now)
    return started


def test_burst_starts_at_once_and_then_the_pace_holds():
    assert starts(TokenBucket(2, burst=3), 10, 10, 10, 10, 10) == [10, 10, 10, 10.5, 11]


def test_burst_is_one_unless_said():
    assert starts(TokenBucket(2), 0, 0, 0) == [0, 0.5, 1]


def test_tokens_come_back_one_by_one():
    assert starts(TokenBucket(1, burst=2), 0, 0, 1.5, 1.5, 1.5) == [0, 0, 1.5, 2, 3]


def test_quiet_spell_saves_up_no_more_than_the_burst():
    assert starts(TokenBucket(1, burst=2), 0, 0, 100, 100, 100) == [0, 0, 100, 100, 101]


def test_pace_does_not_drift():
    """Nothing is added up, so ten thousand starts later the time is still exact."""
    assert starts(TokenBucket(10), *[0.0] * 10_001)[-1] == 1_000.0


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1e6), st.floats(0.01, 1e4), st.integers(1, 50))
def test_whole_burst_starts_in_one_instant(now: float, per_second: float, burst: int):
    """However the times round: a bucket that adds interval after interval splits some bursts."""
    assert starts(TokenBucket(per_second, burst=burst), *[now] * burst) == [now] * burst


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([0.3, 3.0, 7.0, 49.0]) | st.floats(0.1, 100),
    st.integers(1, 4),
    st.lists(st.floats(0, 2), min_size=2, max_size=20),
)
def test_any_stretch_holds_burst_and_pace(per_second: float, burst: int, gaps: list[float]):
    now = 0.0
    started = starts(TokenBucket(per_second, burst=burst), *[now := now + gap for gap in gaps])
    for first, begin in enumerate(started):
        for last in range(first, len(started)):
            most = burst + per_second * (started[last] - begin)
            # Times of this size are good to 15 digits.
            assert last - first + 1 <= most + 1e-9


def test_bucket_is_fresh_when_it_is_full():
    limit = TokenBucket(2, burst=3)
    assert limit.fresh_at(5.0) <= 5.0
    starts(limit, 6, 6)
    assert limit.fresh_at(6.0) == 7.0


@pytest.mark.parametrize(
    ("per_second", "burst", "message"),
    [
        pytest.param(0, 1, "per_second must be greater than 0, got 0", id="no pace"),
        pytest.param(1, 0, "burst must be at least 1, got 0", id="no burst"),
    ],
)
def test_numbers_out_of_range_are_refused(per_second: float, burst: int, message: str):
    with pytest.raises(ValueError, match=f"^{message}$"):
        TokenBucket(per_second, burst=burst)


def test_bucket_is_said_in_words():
    assert str(TokenBucket(0.5, burst=2)) == "0.5/s, burst 2"
    assert repr(TokenBucket(10, burst=2)) == "TokenBucket(10, burst=2)"
    assert TokenBucket.cause == "rate"
