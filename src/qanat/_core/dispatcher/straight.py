"""One lane under limits: no turns are to be taken, but limits to be asked.

With one task, no lanes and nobody who observes, `next_by_turns` and `ending.end` do much that comes to
nothing: turns of one, wakes of nobody, an empty lane that stays. What is left is done here, in the
same order and with the same accounts, for the plain case: a job that was not tried before starts, or
ends with a value. Everything else goes the long way, which may be taken at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher.ending import note_waits, unpark_if_not_full
from qanat._core.dispatcher.parking import after_leaving, park_if_full
from qanat._core.dispatcher.starting import fail_take
from qanat._core.job import ENDED, RUNNING
from qanat._core.outcome import Outcome
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.node import Node
    from qanat._core.job import Job


def next_straight(dispatcher: Dispatcher, lane: Node, now: float) -> Job[Any] | None:
    """Return the lane's next job, started; None if it is to be looked for in the long way.

    A gate that has changed has somebody waiting, and that can only be the task or the root.
    """
    root, task = dispatcher.tree.root, lane.parent
    if (
        not lane.in_turns
        or task is None
        or root.cause is not None
        or task.cause is not None
        or task.woken_by is not None
        or root.woken_by is not None
        or dispatcher.running >= dispatcher.capacity
    ):
        return None
    order = lane.order
    job = order.head()
    if job._history is not None:
        return None
    tree = dispatcher.tree
    path = lane.path if lane.path_version == tree.version else tree.path(lane, task)
    try:
        for limit in path:
            if not limit.ready_at(job, now) <= now:
                return None
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
        # It is asked again in the long way, where what it raises is dealt with; interrupts go on.
        blamed_on_job(error)
        return None
    number = 0
    try:
        for limit in path:
            limit.take(job, now)
            number += 1
    except BaseException as error:  # noqa: BLE001 - as above
        fail_take(dispatcher, job, lane, path[:number], error, now)
        return None
    order.take()
    dispatcher.waiting -= 1
    job._took = lane.held
    job._status = RUNNING
    job.started_at = now
    lane.running += 1
    task.running += 1
    dispatcher.running += 1
    if job._mark is not lane.mark or lane.marked_at != root.changes + task.changes + lane.changes:
        note_waits(dispatcher, job, lane, now)
        history = job._history
        if history is not None:
            history.first_started_at = now
    if not dispatcher.waiting:
        after_leaving(dispatcher, lane, task, now)
    elif dispatcher.running >= dispatcher.capacity:
        park_if_full(dispatcher, now)
    return job


def finish_straight(
    dispatcher: Dispatcher, job: Job[Any], lane: Node, value: Any, now: float
) -> Outcome[Any, Any]:
    """End a job of the lane, of which the only attempt gave a value."""
    took, job._took = job._took, None
    started, offered = job.started_at, job.offered_at
    lost = "concurrency" if job._mark is None else "turn"
    outcome: Outcome[Any, Any] = Outcome(
        job.id, job.index, job.item, value, None, "done", job.attempt, None, job.metadata,
        job.parent, offered, started, now, now - started, lost,
    )  # fmt: skip
    dispatcher.running -= 1
    lane.running -= 1
    lane.parent.running -= 1  # type: ignore[union-attr]  # a lane has a task
    if dispatcher.tree.root.cause is not None:
        unpark_if_not_full(dispatcher, now)
    for limit in took or ():
        try:
            limit.give_back(job, outcome, now)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            dispatcher._on_fault(blamed_on_job(error))
    job._status = ENDED
    dispatcher.done += 1
    waited = now - offered - outcome.ran
    if waited > 0.0:
        dispatcher._lost[lost] = dispatcher._lost.get(lost, 0.0) + waited
    return outcome
