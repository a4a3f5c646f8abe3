"""How any attempt is settled: of any job, whatever it gave or raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher.ending import come_again, end
from qanat._core.dispatcher.kinship import finish_other
from qanat._core.job import Job
from qanat._core.verdict import judge

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.outcome import Outcome


def finish_long(
    dispatcher: Dispatcher, job: Job[Any], value: Any, error: BaseException | None, now: float, wall: float,
    *, cancelled: bool, holding: bool,
) -> Outcome[Any, Any] | None:  # fmt: skip
    """Settle an attempt, whatever job it was of and however it ended."""
    if type(job) is not Job:
        seen_to, told = finish_other(
            dispatcher, job, value, error, now, wall, cancelled=cancelled, holding=holding
        )
        if seen_to:
            return told
    if error is not None and not cancelled:
        task = job._task
        verdict = judge(
            job, error, retry=task.retry, budget=task.node.budget, now=now, wall=wall, rng=dispatcher._rng
        )
        if verdict.kind == "throttled":
            verdict = dispatcher._throttling.checked(verdict, job)
        if verdict.kind != "dead":
            come_again(dispatcher, job, verdict, now, holding)
            return None
        error = verdict.error
    return end(dispatcher, job, value, error, now, cancelled=cancelled, holding=holding)
