"""Limits that change while they are used: what was taken counts, and who waits is asked again."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.limits import Budget, Concurrency, FixedWindow, SlidingWindow, Spacing, TokenBucket
from tests._core.limits.properties import JOB, OUTCOME, Ear, bound, starts_from

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.limit import Limit


def starts(limit: Limit, number: int, now: float = 0.0) -> list[float]:
    """Return when so many jobs start that all wait from now on."""
    found: list[float] = []
    for _ in range(number):
        now = max(now, limit.ready_at(JOB, now))
        limit.take(JOB, now)
        limit.give_back(JOB, OUTCOME, now)
        found.append(now)
    return found


def test_sliding_window_grows():
    limit = SlidingWindow(2, 10)
    assert starts(limit, 2, 1.0) == [1, 1]
    limit.resize(3)
    assert starts(limit, 3, 2.0) == [2, 11, 11]


def test_sliding_window_shrinks():
    limit = SlidingWindow(3, 10)
    assert [*starts(limit, 1, 0.0), *starts(limit, 1, 1.0), *starts(limit, 1, 2.0)] == [0, 1, 2]
    limit.resize(1)
    assert starts(limit, 2, 3.0) == [12, 22]


def test_sliding_window_that_was_smaller_for_a_while_has_forgotten_nothing():
    limit = SlidingWindow(5, 10)
    assert starts(limit, 5, 0.0) == [0] * 5
    limit.resize(1)
    limit.resize(6)
    assert starts(limit, 2, 1.0) == [1, 10]


def test_sliding_window_over_another_time():
    limit = SlidingWindow(2, 10)
    assert starts(limit, 2, 0.0) == [0, 0]
    limit.resize(per="1m")
    assert starts(limit, 1, 1.0) == [60]
    limit.resize(per=1)
    assert starts(limit, 2, 61.0) == [61, 61]
    assert str(limit) == "2/s"


def test_fixed_window_grows_and_shrinks():
    limit = FixedWindow(2, 10)
    assert starts(limit, 3, 0.0) == [0, 0, 10]
    limit.resize(4)
    assert starts(limit, 4, 11.0) == [11, 11, 11, 20]
    limit.resize(1, 60)
    assert starts(limit, 2, 21.0) == [30, 90]


def test_fixed_window_that_was_not_used_is_resized():
    limit = FixedWindow(2, 10)
    limit.resize(3)
    assert starts(limit, 4, 0.0) == [0, 0, 0, 10]


def test_token_bucket_changes_its_pace():
    limit = TokenBucket(1, burst=2)
    assert starts(limit, 3, 0.0) == [0, 0, 1]
    limit.resize(4)
    assert starts(limit, 2, 1.0) == [1.25, 1.5]
    limit.resize(0.5)
    assert starts(limit, 2, 1.5) == [3.5, 5.5]


def test_token_bucket_changes_its_burst():
    limit = TokenBucket(1)
    limit.resize(burst=3)
    assert starts(limit, 4, 0.0) == [0, 0, 0, 1]
    limit.resize(burst=1)
    assert starts(limit, 2, 1.0) == [4, 5]


def test_spacing_changes_its_gap():
    limit = Spacing(10)
    assert starts(limit, 1, 0.0) == [0]
    limit.resize(2)
    assert starts(limit, 2, 1.0) == [2, 4]
    limit.resize("1m")
    assert starts(limit, 1, 5.0) == [64]


def test_spacing_keeps_what_was_drawn():
    first, second = bound(Spacing(10, jitter=4)), bound(Spacing(20, jitter=8))
    first.take(JOB, 0.0)
    second.take(JOB, 0.0)
    assert isinstance(first, Spacing)
    first.resize(20, jitter=8)
    assert first.ready_at(JOB, 0.0) == pytest.approx(second.ready_at(JOB, 0.0))
    first.resize(jitter=0)
    assert first.ready_at(JOB, 0.0) == 20
    first.resize(jitter=3)
    assert first.ready_at(JOB, 0.0) == 20


def test_spacing_that_waits_for_a_finish():
    limit = Spacing(10, after="finish")
    limit.resize(3)
    limit.take(JOB, 0.0)
    assert limit.ready_at(JOB, 0.0) == inf
    limit.resize(2)
    assert limit.ready_at(JOB, 0.0) == inf
    limit.give_back(JOB, OUTCOME, 5.0)
    assert limit.ready_at(JOB, 5.0) == 7


# For each limit: how it is made, how it is resized, and what does not work.
RESIZED: dict[str, tuple[Callable[[], Any], dict[str, Any], list[dict[str, Any]]]] = {
    "concurrency": (lambda: Concurrency(1), {"n": 2}, [{"n": 0}]),
    "sliding": (lambda: SlidingWindow(1, 60), {"n": 2}, [{"n": 0}, {"n": 3, "per": 0}, {"n": 3, "per": "x"}]),
    "fixed": (lambda: FixedWindow(1, 60), {"n": 2}, [{"n": -1}, {"n": 3, "per": inf}]),
    "bucket": (
        lambda: TokenBucket(1), {"per_second": 2, "burst": 2}, [{"per_second": 0}, {"per_second": 3, "burst": 0}],
    ),
    "spacing": (
        lambda: Spacing(60), {"seconds": 30}, [{"seconds": 0}, {"seconds": 1, "jitter": -1}],
    ),
    "budget": (
        lambda: Budget("b", requests="1/m", tokens="5/m", concurrency=1), {"requests": "2/m", "concurrency": 2},
        [{"requests": "0/m"}, {"tokens": "9/m", "requests": "often"}, {"requests": "2/m", "concurrency": 0},
         {"calls": "3/m"}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", RESIZED)
def test_who_waits_hears_of_it(case: str):
    make, change, _ = RESIZED[case]
    limit, ear = bound(make()), Ear()
    limit.listen(ear)
    limit.take(JOB, 0.0)
    told = limit.ready_at(JOB, 0.0)
    limit.resize(**change)  # type: ignore[attr-defined]
    assert limit.ready_at(JOB, 0.0) < told
    assert ear.heard == 1


@pytest.mark.parametrize("case", RESIZED)
def test_what_does_not_work_changes_nothing(case: str):
    make, _, wrong = RESIZED[case]
    limit, ear = bound(make()), Ear()
    limit.listen(ear)
    before = repr(limit), starts_from(bound(make()), 0.0)
    for arguments in wrong:
        with pytest.raises(ValueError, match=r"^\w+ must "):
            limit.resize(**arguments)  # type: ignore[attr-defined]
    assert ear.heard == 0
    assert (repr(limit), starts_from(limit, 0.0)) == before


@pytest.mark.parametrize("case", RESIZED)
def test_what_was_resized_is_never_as_good_as_new(case: str):
    """Or its lane would be forgotten, and made again with the numbers of before."""
    make, change, _ = RESIZED[case]
    limit = bound(make())
    assert limit.fresh_at(5.0) <= 5.0
    limit.resize(**change)  # type: ignore[attr-defined]
    assert limit.fresh_at(5.0) == inf


STEPS = st.lists(st.tuples(st.floats(0, 3), st.integers(1, 6)), min_size=1, max_size=12)


@given(STEPS)
def test_the_new_rate_holds_from_the_change_on(steps: list[tuple[float, int]]):
    """With a crowd that always waits, and changes at any times: every start has room in its window."""
    per, now, n = 1.7, 0.0, 3
    limit, started = SlidingWindow(n, per), list[float]()
    for gap, after in steps:
        until = now + gap
        while (at := max(now, limit.ready_at(JOB, now))) <= until:
            now = at
            limit.take(JOB, now)
            started.append(now)
            assert sum(now - start < per for start in started) <= n
        now, n = until, after
        limit.resize(after)


@given(
    st.lists(
        st.tuples(st.floats(0, 3), st.sampled_from([0.5, 1.0, 2.0, 8.0]), st.integers(1, 4)), max_size=10
    )
)
def test_a_bucket_never_gives_more_than_its_widest_law(steps: list[tuple[float, float, int]]):
    """Whatever the changes: no stretch has more than the largest burst and the fastest pace allow."""
    limit, now = TokenBucket(1, burst=2), 0.0
    pace, burst, started = 1.0, 2, list[float]()
    for gap, new_pace, new_burst in steps:
        until = now + gap
        while (at := max(now, limit.ready_at(JOB, now))) <= until:
            now = at
            limit.take(JOB, now)
            started.append(now)
        now = until
        limit.resize(new_pace, burst=new_burst)
        pace, burst = max(pace, new_pace), max(burst, new_burst)
    for first, begin in enumerate(started):
        for last in range(first, len(started)):
            assert last - first + 1 <= burst + pace * (started[last] - begin) + 1e-9
