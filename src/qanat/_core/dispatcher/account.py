"""What ended how, and what was waited for: outcomes and the counts of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.job import History
from qanat._core.outcome import Outcome

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.outcome import State

LEAST = 1e-9
"""Seconds below which a rest of waiting time is taken for rounding."""


def make_outcome(
    job: Job[Any], value: Any, error: BaseException | None, state: State, now: float, ran: float,
    started_at: float | None, attempts: int,
) -> Outcome[Any, Any]:  # fmt: skip
    """Return the outcome of a job, with its waits by cause."""
    rest_for = _rest_for(job)
    lost: dict[str, float] | str = rest_for
    history = job._history
    if history is not None and history.waits:
        lost = history.waits.copy()
        rest = (now - job.offered_at - ran) - sum(lost.values())
        if rest > LEAST:
            lost[rest_for] = lost.get(rest_for, 0.0) + rest
    return Outcome(
        job.id, job.index, job.item, value, error, state, attempts, job.lane, job.metadata,
        job.parent, job.offered_at, started_at, now, ran, lost,
    )  # fmt: skip


def _rest_for(job: Job[Any]) -> str:
    """Return what a job waited for while no node was parked for its sake."""
    # Without a mark it started in the lone lane, or arrived there: only slots are waited for.
    return "concurrency" if job._mark is None else "turn"


def note_rest(job: Job[Any], history: History) -> None:
    """Keep what is not yet told of the time until the present attempt, before there is another."""
    waits = history.waits
    rest = job.started_at - job.offered_at - history.ran
    if waits:
        rest -= sum(waits.values())
    if rest > LEAST:
        cause = _rest_for(job)
        waits[cause] = waits.get(cause, 0.0) + rest


def add_waits(job: Job[Any], waits: dict[str, float]) -> None:
    """Add to what a job has waited for."""
    if waits:
        history = job._history
        if history is None:
            # What `ledger.waited_between` gave is nobody else's.
            job._history = History(waits=waits, entered_at=job.offered_at)
            return
        for cause, seconds in waits.items():
            if seconds > 0.0:
                history.waits[cause] = history.waits.get(cause, 0.0) + seconds


def entered_at(job: Job[Any]) -> float:
    """Return when a waiting job came into its lane, this time."""
    return job.offered_at if job._history is None else job._history.entered_at
