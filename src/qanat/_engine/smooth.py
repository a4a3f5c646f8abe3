"""Simulations in which each attempt ends well: no failures, no timeout, nothing that comes by itself.

Most are of that kind, and all that can be asked of them are times. So nothing is made for a job but the job
itself, and those that start together end together where all take as long.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from qanat._engine.intake import CHUNK
from qanat._engine.simulation_log import ENDED, STARTED

if TYPE_CHECKING:
    from qanat._core.dispatcher import Dispatcher
    from qanat._core.job import Job
    from qanat._engine.intake import Intake
    from qanat._engine.simulated import Latency, SimulatedEngine


class SmoothRun:
    """One run of a simulated engine."""

    __slots__ = ("_dispatcher", "_ending", "_engine", "_intake", "_latency", "_seconds", "_times")

    def __init__(
        self, engine: SimulatedEngine, intake: Intake, latency: Latency, seconds: float | None
    ) -> None:
        """Begin with nothing that runs.

        Args:
            engine: Whose run it is.
            intake: Where the jobs come from.
            latency: How long each attempt takes, asked at its start.
            seconds: How long all take, if all take as long: then nobody is asked.
        """
        self._engine = engine
        self._dispatcher: Dispatcher = engine.dispatcher
        self._intake = intake
        self._latency = latency
        self._seconds = seconds
        # What runs, by the time of its end, in the order of the starts; and a heap of those times.
        self._ending: dict[float, list[Job[Any]]] = {}
        self._times: list[float] = []

    def run(self) -> None:
        """Jump from one time to the next until there is none."""
        engine, dispatcher, times, ending = self._engine, self._dispatcher, self._times, self._ending
        relay = dispatcher.relay
        self._start(0.0)
        while True:
            now = dispatcher.wake_at if dispatcher.waiting else math.inf
            if times and times[0] <= now:
                now = times[0]
            if now == math.inf:
                return
            before = engine._now
            engine._now = now = max(now, before)
            if times and times[0] <= now:
                jobs = ending.pop(heappop(times))
                if len(jobs) == 1 and (following := relay(jobs[0], now)) is not None:
                    self._log_ended(jobs, now)
                    jobs[0] = following
                    self._log_started(jobs, now)
                    continue
                dispatcher.end_together(jobs, now)
                self._log_ended(jobs, now)
            if not self._start(now) and now == before and dispatcher.wake_at <= now:
                raise RuntimeError(f"nothing starts at {now!r}, and yet the dispatcher is to be asked then")

    def _start(self, now: float) -> bool:
        """Start all that may start now; False if there was none."""
        dispatcher, engine, intake = self._dispatcher, self._engine, self._intake
        # A source that may look at what happens meanwhile is read as the engine does it, one by one.
        draws = intake.draws and not intake.may_block
        moved = False
        while dispatcher.running < dispatcher.capacity:
            if dispatcher.waiting:
                jobs = dispatcher.start_together(now)
            elif draws and not engine._source_ended and dispatcher.is_plain:
                jobs = self._draw(now)
            elif engine._source_ended or not engine._pull(intake):
                break
            else:
                continue
            if not jobs:
                break
            moved = True
            self._log_started(jobs, now)
        return moved

    def _draw(self, now: float) -> list[Job[Any]]:
        """Read what starts at once: as nothing waits and nothing chooses, nobody has to be asked."""
        dispatcher, intake = self._dispatcher, self._intake
        room = int(min(CHUNK, dispatcher.capacity - dispatcher.running))
        jobs = intake.draw(room)
        dispatcher.running += len(jobs)
        for job in jobs:
            job.started_at = now
        if len(jobs) < room:
            intake.ended()
        return jobs

    def _log_started(self, jobs: list[Job[Any]], now: float) -> None:
        """Note that jobs start, and when they end."""
        engine, seconds = self._engine, self._seconds
        running = self._dispatcher.running
        if running > engine.most_running:
            engine.most_running = running
        engine.log.add_all(now, jobs, STARTED)
        if seconds is not None:
            at = now + seconds
            if at in self._ending:
                self._ending[at] += jobs
            else:
                self._ending[at] = jobs
                heappush(self._times, at)
            return
        latency = self._latency
        running -= len(jobs)
        for job in jobs:
            running += 1
            at = now + latency(job.item, engine._rng, running)
            if at in self._ending:
                self._ending[at].append(job)
            else:
                self._ending[at] = [job]
                heappush(self._times, at)

    def _log_ended(self, jobs: list[Job[Any]], now: float) -> None:
        """Note that jobs have ended."""
        engine = self._engine
        engine.log.add_all(now, jobs, ENDED)
        engine.ended_at = now
        add_ran, add_waited = engine._add_ran, engine._add_waited
        for job in jobs:
            ran = now - job.started_at
            engine.busy += ran
            add_ran(ran)
            # As everywhere: what is left of the time between, rounding and all.
            waited = now - job.offered_at - ran
            add_waited(max(0.0, waited))
