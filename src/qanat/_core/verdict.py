"""What a failed attempt means for its job: the end, another attempt, or a closed lane."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from qanat._core.backoff import Backoff
from qanat._core.retry import retry_after_of, retry_after_seconds
from qanat.errors import Discard, JobDiscardedError, RetryLater, Signal, Throttled, blamed_on_job

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.ports import Random
    from qanat._core.retry import Retry, RetryBudget


class Verdict(msgspec.Struct, frozen=True):
    """Say what becomes of a job whose attempt failed.

    Attributes:
        kind: "dead": it ends with `error`. "again": another attempt after `delay`.
            "throttled": the same attempt again, once what it names is open.
        error: Why the job ends, if it does.
        delay: Seconds to the next attempt; for "throttled" None if the other side did not say.
        limit: The name of the limit to close instead of the lane.
    """

    kind: Literal["dead", "again", "throttled"]
    error: BaseException
    delay: float | None = None
    limit: str | None = None


def judge(
    job: Job[Any],
    error: BaseException,
    *,
    retry: Retry,
    budget: RetryBudget | None,
    now: float,
    wall: float,
    rng: Random,
) -> Verdict:
    """Decide what becomes of a job whose attempt ended with an error.

    Args:
        job: The job, its `attempt` the one that failed.
        error: What the attempt raised.
        retry: The job's retry rules.
        budget: The share of retries that its task may spend, if it has one.
        now: The monotonic time.
        wall: UTC seconds, for dates in `Retry-After`.
        rng: Where jitter is drawn from.

    Returns:
        The verdict. A callback of the user's that raises, or a value that makes no sense, ends
        the job with that error, which has the attempt's own error as its context.
    """
    try:
        if isinstance(error, Signal):
            found = _judge_signal(job, error, retry, budget, now, wall)
            if found is not None:
                return found
        attempt = job.attempt
        if not retry.allows(error, attempt):
            return Verdict("dead", error)
        backoff = retry.backoff
        if isinstance(backoff, Backoff):
            delay = backoff.drawn(attempt, rng)
        else:
            delay = retry.delay_for(error, attempt, rng, now - _first_start(job))
        asked = retry_after_of(error, wall)
        if asked is not None and asked > delay:
            delay = asked
        if retry.deadline is None and budget is None:
            return Verdict("again", error, delay)
        return _again(job, error, delay, retry, budget, now)
    except BaseException as problem:  # noqa: BLE001 - the user's callbacks may raise anything
        blamed_on_job(problem)
        _put_in_context(problem, error)
        return Verdict("dead", problem)


def _put_in_context(problem: BaseException, error: BaseException) -> None:
    """Let a problem tell that it arose from an error, at the end of what it tells already."""
    while problem is not error and problem.__context__ is not None:
        problem = problem.__context__
    if problem is not error:
        problem.__context__ = error


def _judge_signal(
    job: Job[Any], error: Signal, retry: Retry, budget: RetryBudget | None, now: float, wall: float
) -> Verdict | None:
    """Decide what becomes of a job whose handler said what is to be done; None if it said nothing known."""
    if isinstance(error, Throttled):
        history = job._history
        throttles = 0 if history is None else history.throttles
        if throttles >= retry.max_throttles:
            return Verdict("dead", error)
        after = error.retry_after
        delay = None if after is None else retry_after_seconds(after, wall)
        return Verdict("throttled", error, delay, error.limit)
    if isinstance(error, Discard):
        discarded = JobDiscardedError(error.reason)
        discarded.__cause__ = error.__cause__
        return Verdict("dead", discarded)
    if not isinstance(error, RetryLater):
        return None
    if job.attempt > retry.times:
        return Verdict("dead", error)
    return _again(job, error, retry_after_seconds(error.delay, wall), retry, budget, now)


def _again(
    job: Job[Any], error: BaseException, delay: float, retry: Retry, budget: RetryBudget | None, now: float
) -> Verdict:
    """Let a job come again, if its deadline and the budget allow it."""
    too_late = retry.deadline is not None and now + delay - _first_start(job) > retry.deadline
    if too_late or (budget is not None and not budget.allows(now)):
        return Verdict("dead", error)
    return Verdict("again", error, delay)


def _first_start(job: Job[Any]) -> float:
    """Return when a job's first attempt began."""
    history = job._history
    first = None if history is None else history.first_started_at
    return job.started_at if first is None else first
