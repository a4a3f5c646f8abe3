"""Attempts of jobs at one limit, without a dispatcher: ask, take, end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qanat._core.job import Job
from qanat._core.outcome import Outcome
from qanat.errors import JobCancelledError

if TYPE_CHECKING:
    from qanat._core.limit import Limit

FAULT = ConnectionError("down")
CANCELLED = JobCancelledError("cancelled")


def a_job(id: int = 0) -> Job[Any]:
    return Job(id, None, id, cast("Any", None))


def start(limit: Limit, now: float, job: Job[Any] | None = None) -> Job[Any]:
    """Start a job, which must be allowed to."""
    job = job or a_job()
    assert limit.ready_at(job, now) <= now
    limit.take(job, now)
    job.started_at = now
    return job


def end(limit: Limit, job: Job[Any], now: float, error: BaseException | None = None) -> None:
    """End a job's attempt, as the dispatcher does."""
    state = "cancelled" if error is CANCELLED else "done" if error is None else "dead"
    limit.give_back(job, outcome_of(job, now, error, state, job.started_at), now)


def outcome_of(
    job: Job[Any], now: float, error: BaseException | None, state: Any, started_at: float | None
) -> Outcome[Any, Any]:
    return Outcome(0, 0, None, None, error, state, 1, job.lane, None, None, 0.0, started_at, now, 0.0)


def attempt(limit: Limit, now: float, *errors: BaseException | None) -> None:
    """Run attempts that take no time, one after the other, with these endings."""
    for error in errors:
        end(limit, start(limit, now), now, error)
