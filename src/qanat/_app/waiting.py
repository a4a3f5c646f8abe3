"""Waiting for jobs from anywhere, and finding out when that can never end.

A handler that awaits a handle holds its slot meanwhile. If all slots of a Pool are held by handlers
that await jobs which need one of these very slots, nothing will ever move. That is found out the
moment it comes about: whenever a handler begins to wait, the question is whether anything that
could move can be reached from it. A waiting job can move if its Pool has a free slot or one of
the jobs that run there can move; a running job can move unless its handler awaits a handle, and
then if the awaited job can. A handler under a timeout can always move. A handler is known to
wait if it awaits the handle itself, or through `asyncio.gather`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from qanat._core.job import RUNNING
from qanat._core.limits import Concurrency
from qanat._core.outcome import Outcome
from qanat._engine.carrier import Carrier
from qanat._engine.context import running_carrier
from qanat.errors import PoolDeadlockError, blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.dispatcher import Dispatcher
    from qanat._core.job import Job
    from qanat._engine.engine import Engine
    from qanat._engine.loop import Spot

_log = logging.getLogger("qanat")


class Waiters:
    """Those who wait for a job; stands in the job's place for the outcome until that is there."""

    __slots__ = ("spots",)

    def __init__(self) -> None:
        """Begin with nobody."""
        self.spots: list[Spot] = []


class Called:
    """Who is called when a job has ended, in the place of a spot where somebody waits."""

    __slots__ = ("callback", "job")

    def __init__(self, job: Job[Any], callback: Callable[[Any], object]) -> None:
        """Keep the function, which is called with the job's outcome."""
        self.job = job
        self.callback = callback

    async def wait(self) -> None:
        """Do nothing: nobody waits here."""

    def wake(self) -> None:
        """Call the function; what it raises is logged, as it must not hit whoever carries the job."""
        try:
            self.callback(self.job._waiter)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            blamed_on_job(error)  # interrupts go on
            _log.error("a function given to when_done raised", exc_info=error)


def call_when_ended(job: Job[Any], callback: Callable[[Any], object]) -> None:
    """Call a function with a job's outcome once it has ended; now, if it has."""
    waiters = job._waiter
    called = Called(job, callback)
    if isinstance(waiters, Outcome):
        called.wake()
        return
    if waiters is None:
        waiters = job._waiter = Waiters()
    waiters.spots.append(called)


class Wait:
    """One wait of a handler for a job of a Pool."""

    __slots__ = ("engine", "failed", "job", "spot")

    def __init__(self, job: Job[Any], engine: Engine, spot: Spot) -> None:
        """Keep who is waited for, and how to end the wait."""
        self.job = job
        self.engine = engine
        self.spot = spot
        self.failed = False


async def wait_for(job: Job[Any], engine: Engine) -> None:
    """Wait until a job has ended.

    Raises:
        PoolDeadlockError: If the caller is a handler and the wait can never end.
    """
    waiters = job._waiter
    if waiters is None:
        waiters = job._waiter = Waiters()
    spot = engine.loop.spot()
    waiters.spots.append(spot)
    carrier = running_carrier.get(None)
    wait: Wait | None = None
    task: Any = None
    if carrier is not None and carrier.is_busy and not _has_deadline(carrier):
        task = engine.loop.current_task()
        wait = carrier.waits[task] = Wait(job, engine, spot)
        if task is carrier.task:
            _find_deadlock(carrier)
        elif not carrier.looks_soon:
            # One of those that the handler gathers, perhaps: asked once for all that begin now.
            carrier.looks_soon = True
            carrier.engine.loop.call_soon_threadsafe(partial(_look, carrier))
    try:
        await spot.wait()
    finally:
        if wait is not None and carrier is not None:
            carrier.waits.pop(task, None)
        waiters.spots.remove(spot)
    if wait is not None and wait.failed:
        raise PoolDeadlockError(
            f"the handler waits for job {job.id!r}, which needs a slot, but all slots are held by handlers "
            "that wait like this one: raise concurrency, or hand the inner jobs to a Pool of their own"
        )


def refuse_own(engine: Engine) -> None:
    """Refuse to let a job wait for the end of its own Pool, and so of itself.

    Raises:
        PoolDeadlockError: If the caller is a handler that this engine runs.
    """
    carrier = running_carrier.get(None)
    if carrier is not None and carrier.engine is engine and carrier.task is engine.loop.current_task():
        raise PoolDeadlockError(
            "a job of a Pool waits until all jobs of that Pool have ended, and so for itself: "
            "wait outside of the handler, or start a task that does"
        )


def ended(job: Job[Any], outcome: Outcome[Any, Any]) -> bool:
    """Put a job's outcome in place and wake who waits for it; False if nobody does."""
    waiters = job._waiter
    job._waiter = outcome
    if not isinstance(waiters, Waiters) or not waiters.spots:
        return False
    for spot in waiters.spots:
        spot.wake()
    return True


def look_again(engine: Engine) -> None:
    """Find out, for all handlers that wait here, whether they can go on, as jobs have moved."""
    for carrier in list(engine.carriers):
        if carrier.waits:
            _find_deadlock(carrier)


def _look(carrier: Carrier) -> None:
    carrier.looks_soon = False
    _find_deadlock(carrier)


def _has_deadline(carrier: Carrier) -> bool:
    return carrier.deadline < math.inf or anyio.current_effective_deadline() < math.inf


def _find_deadlock(origin: Carrier) -> None:
    """End the waits of all handlers that can never go on, if this one cannot."""
    stuck: list[Carrier] = []
    seen: set[int] = set()
    todo: list[Carrier | Engine] = [origin]
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, Carrier):
            waits = _waits_of(each)
            if waits is None:
                return
            stuck.append(each)
            for wait in waits:
                if isinstance(wait.job._waiter, Outcome):
                    return
                job = _job_behind(wait)
                runner = None if job is None else _runner_of(job, wait.engine)
                if job is None or (runner is None and job._status == RUNNING):
                    return  # about to end, or in a thread
                todo.append(wait.engine if runner is None else runner)
        else:
            dispatcher = each.dispatcher
            held = [carrier for carrier in each.carriers if carrier.is_busy]
            if dispatcher.is_paused or not _is_full(dispatcher) or len(held) < dispatcher.running:
                return
            todo.extend(held)
    if _have_timer(stuck):
        return
    for carrier in stuck:
        for wait in carrier.waits.values():
            wait.failed = True
            wait.spot.wake()


def _is_full(dispatcher: Dispatcher) -> bool:
    """Whether no slot is free; a `Concurrency` counts if nobody else holds any of it."""
    running = dispatcher.running
    return running >= dispatcher.capacity or any(
        isinstance(limit, Concurrency) and limit._running == running >= limit.at_once
        for limit in dispatcher.tree.root.limits
    )


def _waits_of(carrier: Carrier) -> list[Wait] | None:
    """Return what a handler waits for; None if it does something else too, or is under a timeout."""
    if not carrier.waits or carrier.deadline < math.inf:
        return None
    direct = carrier.waits.get(carrier.task)
    if direct is not None:
        return [direct]
    gathering = getattr(carrier.task, "_fut_waiter", None)
    children = getattr(gathering, "_children", None)
    if children is None:
        return None
    waits = [carrier.waits.get(child) for child in children if not child.done()]
    return None if None in waits else [wait for wait in waits if wait is not None]


def _job_behind(wait: Wait) -> Job[Any] | None:
    """Return the job that has to end; None if the journal is busy with it, which needs no slot."""
    keeper = wait.engine.keeper
    return wait.job if keeper is None else keeper.leader_of(wait.job)


def _runner_of(job: Job[Any], engine: Engine) -> Carrier | None:
    if job._status != RUNNING:
        return None
    return next((carrier for carrier in engine.carriers if _carries(carrier, job)), None)


def _carries(carrier: Carrier, job: Job[Any]) -> bool:
    return carrier.job is job or (carrier.job is not None and job in carrier.job.members)


def _have_timer(stuck: list[Carrier]) -> bool:
    """Whether an `asyncio.timeout` around one of the waits will end it.

    asyncio keeps no list of them, so this asks the garbage collector who refers to the tasks: once
    for all, as each time it looks at everything there is. It is asked only where everything else says
    that nothing will ever move.
    """
    # A wait may be in a task that the handler gathers, and the timeout around that one.
    tasks = {task for carrier in stuck for task in (carrier.task, *carrier.waits)}
    referrers = gc.get_referrers(*tasks)
    # A timeout refers to its task itself, or by way of the dict of its attributes.
    dicts: list[object] = [referrer for referrer in referrers if type(referrer) is dict]
    referrers += gc.get_referrers(*dicts)
    return any(isinstance(each, asyncio.Timeout) and each.when() is not None for each in referrers)
