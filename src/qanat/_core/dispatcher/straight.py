"""The two calls that every job makes: `next`, which starts it, and `finish`, which ends it.

They are the Dispatcher's methods, kept here because all that is short is done in them: a call of a function
costs as much as what a limit does. What is not short, they hand on.

**The lone lane** is short: see `lone_lane`.

**The straight way** is one lane under limits: no turns are to be taken, but limits to be asked. With one
task, no lanes and nobody who observes, `next_by_turns` and `ending.end` do much that comes to nothing: turns
of one, wakes of nobody, an empty lane that stays. What is left is done here, in the same order and with the
same accounts, for the plain case: a job that was not tried before starts, or ends its only attempt with a
value. Everything else goes the long way, which may be taken at any time. How many jobs run under the
task and the lane is not counted meanwhile: all that run are theirs, see `count_running`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qanat._core.branch import AfterJob
from qanat._core.dispatcher.account import LEAST
from qanat._core.dispatcher.ending import end, end_alone, note_waits, unpark_if_not_full
from qanat._core.dispatcher.finishing import finish_long
from qanat._core.dispatcher.parents import finish_after, hold_end
from qanat._core.dispatcher.parking import after_leaving, park_if_full
from qanat._core.dispatcher.starting import fail_take, next_by_turns, start_noted
from qanat._core.job import ENDED, RUNNING, History
from qanat._core.outcome import Outcome
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.job import Job


def next_job(  # noqa: C901, PLR0912, PLR0915 - the hot path, see above
    self: Dispatcher, now: float
) -> Job[Any] | None:
    """Return a job to start now, with everything that it needs taken; None if none can."""
    if now < self.now:
        now = self.now
    else:
        self.now = now
    if now >= self.timeline.at:
        self._reach(now)
    lone = self._lone
    if lone is not None:
        if self.running >= self.capacity or not self.waiting:
            return None
        job: Job[Any] = self._take_lone()
        self.waiting -= 1
        if job._history is not None or job._mark is not None:
            return start_noted(self, job, lone, now)
        self.running += 1
        job._status = RUNNING
        job.started_at = now
        return job
    straight = self._straight
    if straight is None:
        found = None if self.family is None else self.family.next(now)
        return found or next_by_turns(self, now)
    # The straight way: the lane's next job if nothing stands against it, else whatever the long way finds.
    if not (straight.is_clear or straight.clears()) or not self.waiting or self.running >= self.capacity:
        return next_by_turns(self, now)
    order = straight.fifo
    jobs: Any = None
    if order._plain:
        jobs = order._jobs
        job = jobs[0]
    else:
        order = straight.lane.order
        job = order.head()
    first, second, third, others = straight.stored
    if (
        first._free_at > now
        or second._free_at > now
        or third._free_at > now
        or job._history is not None
        or (others and not _are_free(others, now))
        or (straight.asks and not _agree(straight.asks, job, now))
    ):
        return next_by_turns(self, now)
    first, second, third, others = straight.takes
    taken = 0
    # Counted before, as what a user's limit does in `take` may be the end of this way.
    self.running += 1
    try:
        first(job, now)
        if second is not None:
            taken = 1
            second(job, now)
            if third is not None:
                taken = 2
                third(job, now)
                for take in others:
                    taken += 1
                    take(job, now)
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
        self.running -= 1
        if self._straight is not straight:
            straight.task.running -= 1
            straight.lane.running -= 1
        fail_take(self, job, straight.lane, straight.path[:taken], error, now)
        return next_by_turns(self, now)
    if jobs is not None:
        jobs.popleft()
    else:
        order.take()
    job._took = straight.held
    job._status = RUNNING
    job.started_at = now
    self.waiting -= 1
    mark = job._mark
    if mark is not straight.mark and not straight.knows(mark):
        if mark is None:
            note_waits(self, job, straight.lane, now)
            if job._history is not None:
                job._history.first_started_at = now
        elif waits := straight.waited(mark, job.offered_at):
            job._history = History(now, 0.0, 0, waits.copy(), entered_at=job.offered_at)
    if not (jobs or len(order)):
        after_leaving(self, straight.lane, straight.task, now)
    elif self.running >= self.capacity:
        park_if_full(self, now)
    return job


def _are_free(stored: tuple[Any, ...], now: float) -> bool:
    """Look at the answers of limits that are stored."""
    return all(limit._free_at <= now for limit in stored)


def _agree(asks: tuple[Any, ...], job: Job[Any], now: float) -> bool:
    """Ask the limits whose answer is not stored."""
    try:
        for ask in asks:
            if not ask(job, now) <= now:
                return False
    except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
        # It is asked again in the long way, where what it raises is dealt with; interrupts go on.
        blamed_on_job(error)
        return False
    return True


def finish_job(  # noqa: C901, D417, PLR0912, PLR0915 - the hot path, see above; and a method
    self: Dispatcher,
    job: Job[Any],
    value: Any,
    error: BaseException | None,
    now: float,
    wall: float = 0.0,
    cancelled: bool = False,
    holding: bool = False,
) -> Outcome[Any, Any] | None:
    """Hear how an attempt ended; give back what it held.

    Args:
        job: A job that `next` returned.
        value: What the handler returned, if `error` is None.
        error: What it raised.
        now: The time.
        wall: UTC seconds, for dates in a `Retry-After`; needed with an error only.
        cancelled: True if the job was cancelled: it is not tried again.
        holding: True if the handler still runs in a thread that cannot be stopped: what it
            took stays taken until `release` is called with what `hold` returned.

    Returns:
        The outcome; None if the job will run again. For a batch always None: its members that
        have ended are in `ended`, with the outcome of each.
    """
    if now < self.now:
        now = self.now
    else:
        self.now = now
    took = job._took
    if took is None and error is None and self._lone is not None:
        # The status stays RUNNING: whoever asks knows the job by its outcome.
        self.running -= 1
        self.done += 1
        if job._history is not None:
            return end_alone(self, job, value, now)
        started = job.started_at
        offered = job.offered_at
        if started != offered:
            self._lone_waited += started - offered
        return Outcome(
            job.id, job.index, job.item, value, None, "done", job.attempt, None, job.metadata,
            job.parent, offered, started, now, now - started, "concurrency",
        )  # fmt: skip
    if took == () and error is None and self._lone is not None and not holding:
        if type(job) is AfterJob:
            if finish_after(self, job, value, now):
                return None
        elif hold_end(self, job, value, now):
            return None
    if self.timeline.at < now:
        # What falls due at this very moment comes after what ends.
        self._reach(math.nextafter(now, -math.inf))
    straight = self._straight
    if straight is None or error is not None or job._task.node is not straight.task or cancelled or holding:
        return finish_long(self, job, value, error, now, wall, cancelled=cancelled, holding=holding)
    started = job.started_at
    offered = job.offered_at
    ran = now - started
    # The waits by cause, or the one cause of all waiting.
    lost: Any = "concurrency" if job._mark is None else "turn"
    history = job._history
    if history is not None:
        if history.ran or history.first_started_at != started:
            return end(self, job, value, None, now, cancelled=False, holding=False)
        if history.waits:
            # As in `make_outcome`. Nobody adds to them any more, so they are handed over.
            waits = history.waits
            rest = (now - offered - ran) - sum(waits.values())
            if rest > LEAST:
                waits[lost] = waits.get(lost, 0.0) + rest
            lost = waits
    job._took = None
    outcome: Outcome[Any, Any] = Outcome(
        job.id, job.index, job.item, value, None, "done", job.attempt, None, job.metadata,
        job.parent, offered, started, now, ran, lost,
    )  # fmt: skip
    self.running -= 1
    if not straight.is_clear:
        unpark_if_not_full(self, now)
    for limit in took or ():
        try:
            limit.give_back(job, outcome, now)
        except BaseException as fault:  # noqa: BLE001 - the user's code may raise anything
            self._on_fault(blamed_on_job(fault), "give_back")
    job._status = ENDED
    self.done += 1
    if type(lost) is not str:
        sums = self._lost
        for cause, seconds in lost.items():
            sums[cause] = sums.get(cause, 0.0) + seconds
    elif started != offered:
        if lost == "turn":
            self._turn_waited += started - offered
        else:
            self._lone_waited += started - offered
    return outcome
