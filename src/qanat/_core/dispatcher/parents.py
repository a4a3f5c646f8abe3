"""Short ways of a tree's parents through the lone lane: how those end that are called back.

Each does in one frame what `Dispatcher.finish` comes to for them, with the same counts and outcomes, or
nothing at all: then the job goes the long way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.branch import FamilyJob
from qanat._core.job import CHILDREN, ENDED
from qanat._core.outcome import Outcome

if TYPE_CHECKING:
    from qanat._core.branch import AfterJob
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.job import Job


def hold_end(dispatcher: Dispatcher, job: Job[Any], value: Any, now: float) -> bool:
    """End the only attempt of a job of the lone lane whose callback waits for its children.

    So most jobs that spawn end, so it is all in one frame, with the same counts as on the way by `end`.

    Returns:
        False if it has to go that way, and nothing was done.
    """
    family, lone = dispatcher.family, dispatcher._lone
    if (
        family is None
        or lone is None
        or job._task.node is not lone.parent
        or job._history is not None
        or dispatcher.timeline.at < now
    ):
        return False
    branch = job._branch if type(job) is FamilyJob else family.book.roots.get(job)
    if branch is None or branch.callback is None or branch.is_fresh or not (branch.open_jobs or branch.late):
        return False
    dispatcher.running -= 1
    started = job.started_at
    branch.outcome = Outcome(
        job.id, job.index, job.item, value, None, "done", job.attempt, job.lane, job.metadata,
        job.parent, job.offered_at, started, now, now - started,
        "concurrency" if job._mark is None else "turn",
    )  # fmt: skip
    if not branch.gathers:
        branch.forget()
    job._status = CHILDREN
    return True


def finish_after(dispatcher: Dispatcher, after: AfterJob, value: Any, now: float) -> bool:
    """End the only call of a callback, where nothing but a slot was taken; False if it goes another way."""
    family = dispatcher.family
    if family is None or after._history is not None or dispatcher.timeline.at < now:
        return False
    dispatcher.running -= 1
    dispatcher._elsewhere -= 1
    after._took = None
    after._status = ENDED
    family.book.conclude(after._branch, value, None, now, ran=now - after.started_at, cancelled=False)
    family.settle(now)
    return True
