"""How a carrier carries the leaves of trees, one after the other in its slot.

Most jobs of a tree are leaves: they were spawned with nothing but an item, spawn nothing, and give a value
at their only attempt. In the lone lane nothing is to be decided about them. So each is ended and the next
one started right here, with the same counts and outcomes as by `Dispatcher.finish` and `next`, whose frames
and questions were a sixth of what running a leaf took. Whatever is not plain is left to the carrier itself.
"""

# Each test here skips a frame on the hot path.
# ruff: noqa: C901, PLR0912, PLR0915

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qanat._core.branch import FamilyJob
from qanat._core.job import ENDED, RUNNING
from qanat._core.orders.fifo import Fifo
from qanat._core.orders.lifo import Lifo
from qanat._core.outcome import Outcome
from qanat._engine.after import COROUTINE
from qanat._engine.context import count_references

if TYPE_CHECKING:
    from qanat._engine.carrier import Carrier


UNASKED = 5
"""References to a job that nobody can ask: the carrier's, its cell's, two locals, and that of the question.

Its outcome is not made if nobody wants those of jobs that are done: it is an eighth of what a leaf takes.
"""


async def carry_leaves(
    carrier: Carrier, job: FamilyJob, copies: Any, changes: Any
) -> tuple[FamilyJob | None, Any, BaseException | None, float]:
    """Carry a job that was spawned and the leaves behind it, while nothing is to be decided.

    Args:
        carrier: Who has the job in hand, started and with its deadline.
        job: The first one.
        copies: How many references there are to the mapping of the carrier's context; see `context`.
        changes: What its tally says of its cell: no local here may be one more.

    Returns:
        A job whose attempt is over and that is to be ended another way, with its value and error, or None;
        and the time.
    """
    engine, mark, count, tally = carrier.engine, carrier._mark, count_references, carrier._tally
    dispatcher, append, clock = engine.dispatcher, engine.append, engine.now
    # What they say changes with every await, which the type checkers would not believe of the others.
    seen: Any = engine
    decided: Any = dispatcher
    timeline, ended, lone, family = dispatcher.timeline, dispatcher.ended, dispatcher._lone, dispatcher.family
    assert append is not None  # noqa: S101 - looked at by who calls
    assert family is not None  # noqa: S101 - it was spawned
    book, callbacks, unmarked = family.book, family._waiting, dispatcher._unmarked._ends
    order: Any = None if lone is None else lone.order
    is_fifo, is_lifo = type(order) is Fifo, type(order) is Lifo
    task = job._task
    function: Any = task.direct
    # Whether a job that has ended still has its slot and its status, as nobody sees it, and the next one is
    # to have the slot at once.
    has_slot = True
    timeout, wants_done = task.timeout, engine.wants_done
    value: Any = None
    outcome: Any = None
    above: Any = None
    following: Any = None
    while True:
        try:
            value = await function(job.item)
        except BaseException as caught:  # noqa: BLE001 - every ending is an outcome
            # Its traceback keeps this frame, which is to keep nothing of the job before.
            value = outcome = above = following = None
            return job, None, caught, clock()
        now = clock()
        above = job._above
        if (
            carrier.is_spent
            or (value is not None and type(value) is COROUTINE)
            or job._branch is not None
            or job._history is not None
            or above is None
            or above.policies is not None
            or not book.is_plain
            or decided._lone is not lone
            or lone is None
            or not decided.now <= now < timeline.at
        ):
            return job, value, None, now
        dispatcher.now = now
        dispatcher.done += 1
        started, offered = job.started_at, job.offered_at
        if started != offered:
            dispatcher._lone_waited += started - offered
        # Contexts before the job: a thread that lets go of a copy in between has asked for the job already.
        has_slot = not (
            wants_done
            or above.children is not None
            or count(carrier._variables) != copies
            or tally(carrier._cell) != changes
            or count(carrier._job) != UNASKED
        )
        if not has_slot:
            dispatcher.running -= 1
            job._status = ENDED
            outcome = Outcome(
                job.id, job.index, job.item, value, None, "done", job.attempt, None, job.metadata,
                job.parent, offered, started, now, now - started, "concurrency",
            )  # fmt: skip
            if book.tells and job._waiter is None:
                job._waiter = outcome
            else:
                book.on_end(job, outcome)
            if wants_done:
                append(outcome)
        above.ended += 1
        # Without a policy its parent waits for nothing but the last of all below it.
        if above.ended == above.born and not above.late:
            if has_slot:
                has_slot = False
                dispatcher.running -= 1
                job._status = ENDED
            book.look(above, now)
            if book.ready or book.due:
                family.settle(now)
        if timeout is not None:
            carrier.deadline = math.inf
        if (
            ended
            or callbacks
            or unmarked
            or seen.held
            or seen.stopped
            or not decided.waiting
            or decided.running > decided.capacity
            or (
                not has_slot
                and (
                    decided.running == decided.capacity
                    or decided._lone is not lone
                    or now >= timeline.at
                    or count(carrier._variables) != copies
                    or tally(carrier._cell) != changes
                )
            )
            or mark._must_cancel
        ):
            break
        if is_fifo:
            if not order._plain:
                break
            jobs = order._jobs
            following = jobs[0]
        elif is_lifo:
            if order._stale:
                break
            jobs = order._jobs
            following = jobs[-1]
        else:
            break
        if (
            type(following) is not FamilyJob
            or following._task is not task
            or following._history is not None
            or following._mark is not None
        ):
            break
        if now >= engine.slice_end:
            if engine.turn is carrier:
                break
            # Not before it is sure to go on: who finds its own turn over gives way.
            engine.turn = carrier
        if is_fifo:
            jobs.popleft()
        else:
            jobs.pop()
        job = following
        dispatcher.waiting -= 1
        if not has_slot:
            dispatcher.running += 1
        job._status = RUNNING
        job.started_at = now
        carrier._job = carrier._cell.job = job  # type: ignore[union-attr] # a carrier at work has one
        if not engine.called and dispatcher.running < dispatcher.capacity:
            engine.call_up()
        if timeout is not None:
            carrier.deadline = deadline = now + timeout
            if deadline < engine.alarm_at:
                engine.set_alarm(deadline)
    if has_slot:
        dispatcher.running -= 1
        job._status = ENDED
    carrier._job = None
    return None, None, None, now
