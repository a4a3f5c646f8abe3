from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._core.retry import RetryBudget


def granted(budget: RetryBudget, now: float, asked: int) -> int:
    return sum(budget.allows(now) for _ in range(asked))


def started(budget: RetryBudget, now: float, count: int) -> None:
    for _ in range(count):
        budget.started(now, retry=False)


def test_retries_keep_within_their_share_of_the_starts():
    """90 first attempts and 10 retries are 100 starts, a tenth of them retries."""
    budget = RetryBudget(0.1)
    started(budget, 0.5, 90)
    assert granted(budget, 0.5, 1_000) == 10


def test_one_retry_in_a_minute_is_always_granted():
    budget = RetryBudget(0.1)
    started(budget, 0.0, 1)
    assert [granted(budget, now, 5) for now in (0.0, 59.0, 60.0, 61.0, 119.5, 120.0)] == [1, 0, 1, 0, 0, 1]


def test_start_of_a_retry_is_not_counted_again():
    budget = RetryBudget(0.5)
    started(budget, 0.0, 2)
    assert granted(budget, 0.0, 2) == 2
    for _ in range(50):
        budget.started(0.0, retry=True)
    assert granted(budget, 0.0, 1) == 0


def test_whole_share_grants_every_retry():
    assert granted(RetryBudget(1), 0.0, 1_000) == 1_000


def test_what_is_a_minute_old_counts_no_more():
    budget = RetryBudget(0.5)
    started(budget, 100.0, 10)
    assert granted(budget, 100.0, 5) == 5
    started(budget, 130.0, 2)
    assert granted(budget, 160.0, 10) == 2


def test_time_may_begin_anywhere_and_leap():
    budget = RetryBudget(0.5)
    started(budget, 1e9, 10)
    assert granted(budget, 1e12, 3) == 1


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([0.1, 0.25, 0.5, 1.0]),
    st.lists(st.tuples(st.integers(0, 25), st.booleans()), min_size=1, max_size=40),
)
def test_budget_agrees_with_a_log_of_all_that_happened(share: float, steps: list[tuple[int, bool]]):
    budget, log, now = RetryBudget(share), list[tuple[int, bool]](), 0
    for gap, is_retry in steps:
        now += gap
        recent = [retry for at, retry in log if at > now - 60]
        expected = not any(recent) or sum(recent) + 1 <= share * (len(recent) + 1)
        if is_retry:
            assert budget.allows(now + 0.5) is expected
        else:
            budget.started(now + 0.5, retry=False)
        if not is_retry or expected:
            log.append((now, is_retry))


@pytest.mark.parametrize("share", [0, -0.1, 1.5])
def test_share_is_greater_than_zero_and_at_most_one(share: float):
    with pytest.raises(ValueError, match=f"^share must be greater than 0 and at most 1, got {share}$"):
        RetryBudget(share)
