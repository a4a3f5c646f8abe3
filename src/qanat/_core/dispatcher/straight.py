"""One lane under limits: no turns are to be taken, but limits to be asked.

With one task, no lanes and nobody who observes, `next_by_turns` and `ending.end` do much that comes to
nothing: turns of one, wakes of nobody, an empty lane that stays. What is left is done here, in the
same order and with the same accounts, for the plain case: a job that was not tried before starts, or
ends its only attempt with a value. Everything else goes the long way, which may be taken at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher.account import LEAST
from qanat._core.dispatcher.ending import end, note_waits, unpark_if_not_full
from qanat._core.dispatcher.parking import after_leaving, park_if_full
from qanat._core.dispatcher.starting import fail_take
from qanat._core.job import ENDED, RUNNING
from qanat._core.outcome import Outcome
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.path import Straight
    from qanat._core.job import Job


def next_straight(  # noqa: C901, PLR0912 - the hot path: a call costs as much as a limit
    dispatcher: Dispatcher, straight: Straight, now: float
) -> Job[Any] | None:
    """Return the lane's next job, started; None if it is to be looked for in the long way.

    A gate that has changed has somebody waiting, and that can only be the task or the root.
    """
    root, task, lane = straight.root, straight.task, straight.lane
    changes = root.changes + task.changes + lane.changes
    if changes != straight.clear_at and not straight.is_clear(changes):
        return None
    if not lane.in_turns or dispatcher.running >= dispatcher.capacity:
        return None
    order: Any = lane.order
    is_plain = straight.is_fifo and order._plain
    job: Job[Any] = order._jobs[0] if is_plain else order.head()
    if job._history is not None:
        return None
    for limit in straight.stored:
        if limit._free_at > now:
            return None
    try:
        for ask in straight.asks:
            if not ask(job, now) <= now:
                return None
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
        # It is asked again in the long way, where what it raises is dealt with; interrupts go on.
        blamed_on_job(error)
        return None
    take = None
    try:
        for take in straight.takes:
            take(job, now)
    except BaseException as error:  # noqa: BLE001 - as above
        taken = next((number for number, each in enumerate(straight.takes) if each is take), 0)
        fail_take(dispatcher, job, lane, straight.path[:taken], error, now)
        return None
    if is_plain:
        order._jobs.popleft()
    else:
        order.take()
    dispatcher.waiting -= 1
    job._took = lane.held
    job._status = RUNNING
    job.started_at = now
    lane.running += 1
    task.running += 1
    dispatcher.running += 1
    if job._mark is not lane.mark or lane.marked_at != changes:
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
    dispatcher: Dispatcher, job: Job[Any], straight: Straight, value: Any, now: float
) -> Outcome[Any, Any] | None:
    """End a job of the lane, of which the last attempt gave a value."""
    started, offered = job.started_at, job.offered_at
    ran = now - started
    # The waits by cause, or the one cause of all waiting.
    lost: Any = "concurrency" if job._mark is None else "turn"
    history = job._history
    if history is not None:
        if history.ran or history.first_started_at != started:
            return end(dispatcher, job, value, None, now, cancelled=False, holding=False)
        if history.waits:
            # As in `make_outcome`. Nobody adds to them any more, so they are handed over.
            waits = history.waits
            rest = (now - offered - ran) - sum(waits.values())
            if rest > LEAST:
                waits[lost] = waits.get(lost, 0.0) + rest
            lost = waits
    took, job._took = job._took, None
    outcome: Outcome[Any, Any] = Outcome(
        job.id, job.index, job.item, value, None, "done", job.attempt, None, job.metadata,
        job.parent, offered, started, now, ran, lost,
    )  # fmt: skip
    dispatcher.running -= 1
    straight.lane.running -= 1
    straight.task.running -= 1
    if straight.root.cause is not None:
        unpark_if_not_full(dispatcher, now)
    for limit in took or ():
        try:
            limit.give_back(job, outcome, now)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            dispatcher._on_fault(blamed_on_job(error), "give_back")
    job._status = ENDED
    dispatcher.done += 1
    sums = dispatcher._lost
    if type(lost) is str:
        waited = now - offered - ran
        if waited > 0.0:
            sums[lost] = sums.get(lost, 0.0) + waited
    else:
        for cause, seconds in lost.items():
            sums[cause] = sums.get(cause, 0.0) + seconds
    return outcome
