"""What a job really costs, told to the limits that were taken on an estimate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.costs import amount_in
from qanat._core.dispatcher.gathering import Gathering
from qanat._core.job import RUNNING, History
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.job import Job


def check(job: Job[Any], currency: str) -> None:
    """Check that a currency is one that the limits of a job count, if they count any; thread-safe.

    Raises:
        ValueError: If it is another one: it is misspelt, or would count for nothing.
    """
    counted = [name for limit in job._took or () for name in limit.currencies]
    if counted and currency not in counted:
        raise ValueError(
            f"currency must be one that the limits of this job count, {', '.join(counted)}, got {currency!r}"
        )


def charge(job: Job[Any], currency: str, amount: float, now: float) -> None:
    """Tell each limit that a job has taken by how much its cost differs from what was said before.

    Raises:
        ValueError: If its limits count currencies, and not this one.
        RuntimeError: If it does not run, or is one of a batch.
    """
    if job._status != RUNNING:
        raise RuntimeError("charge() works while the job runs, and it does not: call it from the handler")
    took = job._took
    if took is None and type(job._task.node.lanes[job.lane].order) is Gathering:
        raise RuntimeError(
            "charge() works for a batch as a whole, and this job is one of a batch: "
            "call current_job().charge with what all of them cost"
        )
    if not took:
        return
    check(job, currency)
    history = job._history
    if history is None:
        history = job._history = History(first_started_at=job.started_at)
    if history.charged is None:
        history.charged = {}
    before = history.charged.get(currency)
    history.charged[currency] = amount
    delta = amount - (amount_in(job.cost, currency) if before is None else before)
    if delta:
        for limit in took:
            limit.adjust(job, currency, delta, now)


def move(job: Job[Any], held: Job[Any], on_fault: Callable[[BaseException, str], object]) -> None:
    """Let a stand-in have what was noted of a job's present attempt, here and in its limits."""
    if job._history is not None and job._history.charged is not None:
        if held._history is None:
            held._history = History(first_started_at=held.started_at)
        held._history.charged = dict(job._history.charged)
    for limit in job._took or ():
        try:
            limit.replaced(job, held)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            on_fault(blamed_on_job(error), "replaced")
