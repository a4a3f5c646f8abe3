"""What a failed attempt means for its job."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from qanat._core.backoff import constant
from qanat._core.job import History, Job, Task
from qanat._core.retry import Retry, RetryBudget
from qanat._core.verdict import Verdict, judge
from qanat.errors import Discard, JobDiscardedError, RetryLater, Signal, Throttled

RETRY = Retry(3, backoff=constant(2))


def verdict(
    error: BaseException, retry: Retry = RETRY, *, attempt: int = 1, now: float = 1.0, wall: float = 0.0,
    history: History | None = None, budget: RetryBudget | None = None,
) -> Verdict:  # fmt: skip
    job: Job[Any] = Job(0, None, 0, Task("t", None, None, retry), attempt=attempt)
    job._history = history
    return judge(job, error, retry=retry, budget=budget, now=now, wall=wall, rng=Random(1))


def test_an_error_worth_a_retry_comes_again_after_the_backoff():
    error = OSError()
    assert verdict(error) == Verdict("again", error, 2.0)


@pytest.mark.parametrize(
    ("retry", "error", "attempt"),
    [
        pytest.param(Retry(0), OSError(), 1, id="no retries"),
        pytest.param(RETRY, OSError(), 4, id="used up"),
        pytest.param(Retry(3, on=ValueError), OSError(), 1, id="not on this one"),
        pytest.param(Retry(3, never_on=OSError), OSError(), 1, id="never on this one"),
        pytest.param(Retry(3, when=lambda _error, _attempt: False), OSError(), 1, id="when says no"),
        pytest.param(RETRY, KeyboardInterrupt(), 1, id="not an Exception"),
        pytest.param(Retry(1), RetryLater(1.0), 2, id="asked for, but used up"),
    ],
)
def test_it_is_dead_with_its_own_error(retry: Retry, error: BaseException, attempt: int):
    assert verdict(error, retry, attempt=attempt) == Verdict("dead", error)


def test_the_deadline_counts_from_the_first_start_to_the_next():
    retry = Retry(3, backoff=constant(2), deadline=5.0)
    history = History(first_started_at=10.0)
    assert verdict(OSError(), retry, now=13.0, history=history).kind == "again"
    assert verdict(OSError(), retry, now=13.125, history=history).kind == "dead"


def test_without_a_history_the_present_attempt_is_the_first():
    retry = Retry(3, backoff=constant(2), deadline=5.0)
    assert verdict(OSError(), retry, now=3.0).kind == "again"
    assert verdict(OSError(), retry, now=3.125, history=History()).kind == "dead"


def test_the_budget_is_asked_only_if_all_else_agrees():
    budget = RetryBudget(0.5)
    assert verdict(OSError(), Retry(0), budget=budget).kind == "dead"
    assert verdict(OSError(), budget=budget).kind == "again"
    assert verdict(OSError(), budget=budget).kind == "dead"


def test_a_discarded_job_ends_with_the_reason():
    error = Discard("gone")
    error.__cause__ = cause = LookupError()
    found = verdict(error)
    assert found.kind == "dead"
    assert isinstance(found.error, JobDiscardedError)
    assert (found.error.reason, found.error.__cause__) == ("gone", cause)


def test_asking_for_another_attempt_names_the_delay():
    error = RetryLater(7.5)
    assert verdict(error) == Verdict("again", error, 7.5)


@pytest.mark.parametrize(
    ("retry_after", "delay"),
    [
        pytest.param(None, None, id="unknown"),
        pytest.param(30, 30.0, id="seconds"),
        pytest.param("Thu, 01 Jan 1970 00:01:40 GMT", 90.0, id="date"),
    ],
)
def test_a_throttled_job_is_told_how_long(retry_after: Any, delay: float | None):
    error = Throttled(retry_after, limit="api")
    assert verdict(error, Retry(0), wall=10.0) == Verdict("throttled", error, delay, "api")


def test_a_job_throttled_too_often_is_dead():
    error = Throttled()
    retry = Retry(5, max_throttles=2)
    assert verdict(error, retry, history=History(throttles=1)).kind == "throttled"
    assert verdict(error, retry, history=History(throttles=2)) == Verdict("dead", error)


def test_the_other_sides_wish_is_kept_if_it_is_longer():
    error = OSError()
    error.retry_after = 9  # type: ignore[attr-defined]
    assert verdict(error).delay == 9.0
    error.retry_after = 1  # type: ignore[attr-defined]
    assert verdict(error).delay == 2.0


def test_a_wish_that_makes_no_sense_ends_the_job():
    error = Throttled()
    error.retry_after = "soon"
    found = verdict(error)
    assert found.kind == "dead"
    assert isinstance(found.error, ValueError)
    assert found.error.__context__ is not None
    assert found.error.__context__.__context__ is error


def test_an_error_of_a_callback_keeps_its_own_context():
    inner = KeyError("inner")

    def when(_error: BaseException, _attempt: int) -> bool:
        try:
            raise inner
        except KeyError:
            raise LookupError("outer")  # noqa: B904 - the context is the point

    error = OSError()
    found = verdict(error, Retry(3, when=when))
    assert isinstance(found.error, LookupError)
    assert found.error.__context__ is inner
    assert inner.__context__ is error


def test_a_callback_that_raises_the_same_error_makes_no_circle():
    error = OSError()

    def when(same: BaseException, _attempt: int) -> bool:
        raise same

    found = verdict(error, Retry(3, when=when))
    assert found == Verdict("dead", error)
    assert error.__context__ is None


def test_a_signal_that_says_nothing_known_is_an_error_like_any_other():
    error = Signal("?")
    assert verdict(error) == Verdict("again", error, 2.0)


def test_a_built_in_error_that_was_given_a_time_to_wait_is_heard():
    error = ValueError()
    error.retry_after = 5.0  # type: ignore[attr-defined]
    assert verdict(error) == Verdict("again", error, 5.0)


def test_a_function_says_how_long_to_wait():
    error = OSError()
    assert verdict(error, Retry(3, backoff=lambda attempt: 4.0 * attempt), attempt=2) == Verdict(
        "again", error, 8.0
    )
