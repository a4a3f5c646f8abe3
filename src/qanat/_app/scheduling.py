"""The schedules of a Pool: one alarm, rung when the next of them has something due.

Schedules go by the wall clock and the alarm by the monotonic one, so between two times the wall
clock is looked at now and then: it may have been set, or the machine may have slept.
"""

from __future__ import annotations

import logging
import random
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from qanat._core.outcome import Outcome
from qanat._core.schedules import Timetable
from qanat._engine.bell import Bell
from qanat.errors import PoolFull

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._app.handle import Handle
    from qanat._core.job import Job
    from qanat._core.schedules import Schedule
    from qanat._engine.engine import Engine

LOOK: Final = 30.0
"""Seconds after which the wall clock is looked at again: well below the lateness that is forgiven."""

FEW: Final = 16
"""How many entries that count no more are kept, besides one for each schedule."""

_TICK: Final = 1e-6
"""Seconds: the finest step of UTC seconds as a float, about."""

_SET_BACK: Final = 1e-3
"""Seconds. A wall clock that lost more since the last look was set back, and all have to know."""

Submit: TypeAlias = "Callable[[float], Handle[Any, Any]]"
"""Hands in the job of a schedule for one of its times."""

_log = logging.getLogger("qanat")


class ScheduleHandle:
    """A schedule at work in a Pool, as `Pool.schedule` returns it."""

    __slots__ = (
        "_bell", "_item", "_listed_at", "_number", "_schedules", "_submit", "_timetable", "_told",
    )  # fmt: skip

    def __init__(self, schedules: Any, timetable: Any, submit: Any, item: object, number: int) -> None:
        self._schedules: Schedules = schedules
        self._timetable: Timetable = timetable
        self._submit: Submit = submit
        self._item = item
        self._number = number
        self._bell = Bell(schedules.engine.loop)
        self._told = False
        self._listed_at: float = inf

    @property
    def next_at(self) -> float:
        """When it runs next, in UTC seconds since 1970; `math.inf` if it does not by itself.

        That is so when it is done, and with a fixed delay while a run goes on.
        """
        return self._timetable.next_at

    @property
    def runs(self) -> int:
        """How many jobs it has handed in."""
        return self._timetable.runs

    @property
    def skipped(self) -> int:
        """How many of its times were left out: missed, overlapping, or without room in the Pool."""
        return self._timetable.skipped

    @property
    def running(self) -> int:
        """How many of its jobs have not ended."""
        return self._timetable.running

    @property
    def done(self) -> bool:
        """Whether it has no more times and all its jobs have ended."""
        return self._timetable.ended

    def cancel(self) -> bool:
        """Hand in nothing more; jobs that were handed in go on. False if it was done."""
        if self.done:
            return False
        self._timetable.stop()
        self._schedules.look_again(self)
        self._tell()
        return True

    async def wait_done(self) -> None:
        """Wait until it has no more times and all its jobs have ended, or the Pool is closed.

        A schedule without an end is only done once it is cancelled.
        """
        while not self.done:
            await self._bell.wait()

    def _start_due(self, wall: float) -> None:
        """Hand in a job for each time that is due."""
        for at in self._timetable.due(wall):
            if self._schedules.stopped:  # by a job that failed just now
                self._timetable.refuse(wall)
                continue
            try:
                job = self._submit(at).job
            except PoolFull as problem:
                if not self._told:
                    self._told = True
                    _log.warning("%r of %s is left out: %s", self._item, self._timetable.schedule, problem)
                self._timetable.refuse(wall)
                continue
            if isinstance(job._waiter, Outcome):  # a function of the rules refused it
                self._timetable.finish(wall)
            else:
                self._schedules.jobs[job] = self
        self._tell()

    def _clock_lost(self, seconds: float, wall: float) -> None:
        """Hear that the wall clock was set back."""
        self._timetable.saw(wall + seconds)

    def _job_ended(self, wall: float) -> None:
        """Hear that one of its jobs has ended for good."""
        self._timetable.finish(wall)
        self._tell()

    def _tell(self) -> None:
        if self.done:
            self._schedules.forget(self)
            self._bell.ring()

    def __repr__(self) -> str:
        """Show the schedule and how it is doing."""
        return f"<ScheduleHandle {self._timetable.schedule}: {self.runs} runs, {self.skipped} skipped>"


class Schedules:
    """All schedules of an open Pool.

    Attributes:
        engine: The Pool's engine.
        jobs: The jobs that have not ended, each with its schedule.
        stopped: Whether nothing more is handed in.
    """

    def __init__(self, engine: Engine) -> None:
        """Begin with none."""
        self.engine = engine
        self.jobs: dict[Job[Any], ScheduleHandle] = {}
        self.stopped = False
        # Not the engine's own source, whose draws would shift with each schedule.
        self._rng = random.Random(engine.clock.seed)
        self._handles: set[ScheduleHandle] = set()
        # An entry counts while its time is still the handle's `_listed_at`. At the same time those come
        # first that were handed in first.
        self._heap: list[tuple[float, int, ScheduleHandle]] = []
        self._number = 0
        self._highest = self._shift()
        self._alarm = engine.make_alarm(self._ring)
        engine.when_over(self.stop)

    def add(self, schedule: Schedule, item: object, submit: Submit) -> ScheduleHandle:
        """Put a schedule to use from now on; `submit` hands in its job for a time."""
        timetable = Timetable(schedule, self.engine.clock.wall(), rng=self._rng)
        self._number += 1
        handle = ScheduleHandle(self, timetable, submit, item, self._number)
        self._handles.add(handle)
        self.look_again(handle)
        return handle

    def ended(self, job: Job[Any]) -> None:
        """Hear that a job of the Pool has ended for good."""
        handle = self.jobs.pop(job, None)
        if handle is not None:
            handle._job_ended(self.engine.clock.wall())
            # What is due now is left to the alarm: were it started here, a queue of jobs that end
            # at once would be as many calls deep.
            self.look_again(handle)

    def look_again(self, handle: ScheduleHandle) -> None:
        """Hear that a schedule may have something due at another time than before."""
        self._list(handle)
        self._arm()

    def forget(self, handle: ScheduleHandle) -> None:
        """Look after a schedule no longer."""
        self._handles.discard(handle)

    def stop(self) -> None:
        """Hand in nothing more."""
        self.stopped = True
        self._alarm.clear()
        self._heap.clear()
        for handle in list(self._handles):
            handle.cancel()
        self._handles.clear()

    def _ring(self) -> None:
        wall = self.engine.clock.wall()
        shift = self._shift()
        lost = self._highest - shift
        if lost > _SET_BACK:
            self._highest = shift
            for handle in self._handles:
                handle._clock_lost(lost, wall)
            self._start_due(list(self._handles), wall)
        self._highest = max(self._highest, shift)
        due: list[ScheduleHandle] = []
        while self._heap and self._heap[0][0] <= wall:
            at, _, handle = heappop(self._heap)
            if at == handle._listed_at:
                handle._listed_at = inf
                due.append(handle)
        self._start_due(due, wall)
        self._arm()

    def _start_due(self, handles: list[ScheduleHandle], wall: float) -> None:
        for handle in handles:
            handle._start_due(wall)
            self._list(handle)

    def _list(self, handle: ScheduleHandle) -> None:
        """Note when a schedule has something due."""
        at = handle.next_at
        if at != handle._listed_at and not self.stopped:
            handle._listed_at = at
            if at < inf:
                heap = self._heap
                if len(heap) > 2 * len(self._handles) + FEW:
                    # Far-off times of schedules that were cancelled would stay until they come.
                    heap[:] = [entry for entry in heap if entry[0] == entry[2]._listed_at]
                    heapify(heap)
                heappush(heap, (at, handle._number, handle))

    def _arm(self) -> None:
        """Set the alarm for what is due next."""
        heap = self._heap
        while heap and heap[0][0] != heap[0][2]._listed_at:
            heappop(heap)
        if not heap:
            self._alarm.clear()
            return
        clock = self.engine.clock
        now, wall = clock.now(), clock.wall()
        at = heap[0][0] - self._shift()
        if at <= now and heap[0][0] > wall:
            at = now + _TICK  # it is rounding that says it is time
        self._alarm.set(min(at, now + LOOK) if clock.precision else at)

    def _shift(self) -> float:
        """Return how far the wall clock is ahead of the monotonic one.

        Rounded, so that on virtual time the sum of a time and this is the time that was meant.
        """
        return round(self.engine.clock.wall() - self.engine.clock.now(), 6)
