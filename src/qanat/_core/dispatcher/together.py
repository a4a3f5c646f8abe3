"""Jobs that start together and end together, for a driver that knows that each attempt ends well.

A simulation without failures starts and ends most jobs at the same instant as others, or ends one and
starts the next in its slot. Nobody is given an outcome there, and no job comes again. So what `next` and
`finish` look up for each is looked up once here, what jobs waited for is added up as they start, alike for
all that came together, and no history, no dict and no outcome is made of any.

It is for the lone lane, and for the straight way with limits of this library that hear of no end: none
of those looks at the dispatcher when it is taken, or raises. There all decisions are those of `next` and
`finish`, at the same times and in the same order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher.account import LEAST
from qanat._core.dispatcher.ending import unpark_if_not_full
from qanat._core.dispatcher.parking import after_leaving, park_if_full
from qanat._core.job import ENDED, RUNNING
from qanat._core.orders.fifo import Fifo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.node import Node
    from qanat._core.dispatcher.path import Straight
    from qanat._core.job import Job


def goes_together(self: Dispatcher) -> bool:
    """Whether jobs of which each attempt ends well may be started and ended by the calls for many."""
    if self.family is not None:
        return False
    if self._lone is not None:
        return type(self._lone.order) is Fifo
    straight = self._straight
    return straight is not None and straight.is_quiet and type(straight.lane.order) is Fifo


def start_together(  # noqa: D417 - a method
    self: Dispatcher, now: float
) -> list[Job[Any]]:
    """Start some jobs that each end well by this attempt, as so many calls of `next` would.

    Args:
        now: The time.

    Returns:
        The jobs, in order; none if none can start.
    """
    now = self._advance(now)
    jobs: list[Job[Any]] = []
    lone, straight = self._lone, self._straight
    if lone is not None:
        _start_lone(self, lone, jobs, now)
    elif straight is not None and (straight.is_clear or straight.clears()):
        _start_straight(self, straight, jobs, now)
    if not jobs:
        job = self.next(now)
        if job is not None:
            history, job._history = job._history, None
            _count_waits(self, 1, job, {} if history is None else history.waits)
            jobs.append(job)
    return jobs


def _start_lone(self: Dispatcher, lone: Node, jobs: list[Job[Any]], now: float) -> None:
    order: Any = lone.order
    if not order._plain:
        return
    queue = order._jobs
    room = min(self.capacity - self.running, len(queue))
    waited = self._lone_waited
    while len(jobs) < room:
        job = queue[0]
        if job._history is not None or job._mark is not None:
            break
        jobs.append(queue.popleft())
        job._status = RUNNING
        job.started_at = now
        waited += now - job.offered_at
    self._lone_waited = waited
    self.running += len(jobs)
    self.waiting -= len(jobs)


def _start_straight(self: Dispatcher, straight: Straight, jobs: list[Job[Any]], now: float) -> None:
    order = straight.fifo
    if not order._plain:
        return
    queue = order._jobs
    room = min(self.capacity - self.running, len(queue))
    first, second, third, _ = straight.stored
    take, take_second, take_third, _ = straight.takes
    # Those before that waited alike: how many, the last of them, and what for.
    alike = 0
    last: Any = None
    waits: Mapping[str, float] = {}
    while len(jobs) < room and not (first._free_at > now or second._free_at > now or third._free_at > now):
        job = queue[0]
        mark = job._mark
        if mark is None or job._history is not None:
            break
        if last is None or mark is not last._mark or job.offered_at != last.offered_at:
            _count_waits(self, alike, last, waits)
            alike = 0
            is_known = mark is straight.mark or straight.knows(mark)
            waits = {} if is_known else straight.waited(mark, job.offered_at)
        last = job
        alike += 1
        take(job, now)
        if take_second is not None:
            take_second(job, now)
            if take_third is not None:
                take_third(job, now)
        jobs.append(queue.popleft())
        job._status = RUNNING
        job.started_at = now
    if jobs:
        _count_waits(self, alike, last, waits)
        self.running += len(jobs)
        self.waiting -= len(jobs)
        if not queue:
            after_leaving(self, straight.lane, straight.task, now)
        elif self.running >= self.capacity:
            park_if_full(self, now)


def _count_waits(self: Dispatcher, number: int, job: Job[Any] | None, waits: Mapping[str, float]) -> None:
    """Add what so many jobs waited for, all like this one, to the sums."""
    if job is None:
        return
    rest = job.started_at - job.offered_at
    sums = self._lost
    for cause, seconds in waits.items():
        sums[cause] = sums.get(cause, 0.0) + seconds * number
        rest -= seconds
    if rest > LEAST or not waits:
        if job._mark is None:
            self._lone_waited += rest * number
        else:
            self._turn_waited += rest * number


def end_together(  # noqa: D417 - a method
    self: Dispatcher, jobs: list[Job[Any]], now: float
) -> None:
    """Hear that jobs have ended well that `start_together` or `relay` gave.

    Args:
        jobs: Jobs that run, in the order in which they end.
        now: The time.
    """
    now = max(now, self.now)
    self.now = now
    if self._lone is None and self.timeline.at < now:
        # What falls due at this very moment comes after what ends.
        self._reach(math.nextafter(now, -math.inf))
    for job in jobs:
        job._status = ENDED
    self.running -= len(jobs)
    self.done += len(jobs)
    if self._lone is None:
        unpark_if_not_full(self, now)


def relay(  # noqa: D417 - a method
    self: Dispatcher, job: Job[Any], now: float
) -> Job[Any] | None:
    """Hear that one job has ended well, and start the one that waits for its slot.

    Args:
        job: A job that `start_together` or `relay` gave; all slots are taken, and no other ends now.
        now: The time.

    Returns:
        The next job; None if it is not as plain as that: then nothing was done, and `end_together` and
        `start_together` are to be called.
    """
    straight = self._straight
    if straight is None or self.timeline.at <= now or now < self.now or self.running < self.capacity:
        return None
    root, task, queue = straight.root, straight.task, straight.fifo._jobs
    first, second, third, _ = straight.stored
    if (
        root.cause != "concurrency"
        or root.woken_by is not None
        or task.cause is not None
        or task.lost
        or task.woken_by is not None
        or not straight.fifo._plain
        or len(queue) < 2
        or first._free_at > now
        or second._free_at > now
        or third._free_at > now
    ):
        return None
    following: Job[Any] = queue[0]
    if following._mark is None or following._history is not None:
        return None
    self.now = now
    job._status = ENDED
    self.done += 1
    # The root is unparked, and parked again at the same moment.
    lost = root.lost
    seconds = now - root.since
    if seconds > 0.0:
        lost["concurrency"] = lost.get("concurrency", 0.0) + seconds
        root.lost_total += seconds
        root.since = now
    root.changes += 1
    _count_relayed(self, following, lost, now)
    first, second, third, _ = straight.takes
    first(following, now)
    if second is not None:
        second(following, now)
        if third is not None:
            third(following, now)
    queue.popleft()
    self.waiting -= 1
    following._status = RUNNING
    following.started_at = now
    return following


def _count_relayed(self: Dispatcher, job: Job[Any], lost: Mapping[Any, float], now: float) -> None:
    """Add what a job waited for that starts now to the sums, as `_count_waits`, without a dict of it."""
    mark, offered = job._mark, job.offered_at
    sums, before = self._lost, mark.lost
    rest = now - offered
    for cause, seconds in lost.items():
        waited = seconds
        if cause == mark.cause:
            waited -= offered - mark.since
        if cause in before:
            waited -= before[before.index(cause) + 1]
        if waited > LEAST:
            sums[cause] = sums.get(cause, 0.0) + waited
            rest -= waited
    if rest > LEAST:
        self._turn_waited += rest
