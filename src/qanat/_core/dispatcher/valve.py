"""What `Throttled` closes: nothing until a time, then one job, then two, then four."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

from qanat._core.limit import Limit
from qanat.errors import Throttled

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._core.reason import Cause

FIRST_PAUSE = 1.0
"""Seconds to wait when the other side did not say how long, the first time."""
LONGEST_PAUSE = 60.0
"""Seconds that such a pause grows to, doubling while it keeps happening."""


class Valve(Limit):
    """Hold a node closed until a time, then reopen it in steps.

    Once the time has come one job may run. Each job that ends without being throttled makes room
    for one more, so one becomes two, two become four, until as many run as when the valve closed;
    then it is open and can be taken away. Only jobs that started after the last closing count,
    so those in flight, whose answers are stale, neither open it nor lengthen the pause. A time that
    the other side named is kept all the same: it was told to that very job.
    """

    __slots__ = ("_closed_at", "_goal", "_pause", "_room", "_running", "closed_until")

    cause: ClassVar[Cause] = "throttled"

    def __init__(self) -> None:
        """Begin open: `close` it."""
        self.closed_until = -math.inf
        self._closed_at = -math.inf
        self._pause = FIRST_PAUSE
        self._goal = 1
        self._room = 1
        self._running = 0

    def __str__(self) -> str:
        """Say it in words."""
        return "Throttled"

    def close(self, job: Job[Any], retry_after: float | None, running: int, now: float) -> None:
        """Close because this job was throttled.

        Args:
            job: The job whose handler raised `Throttled`.
            retry_after: Seconds to stay closed; None if the other side did not say.
            running: How many jobs ran under the valve's node, this one among them.
            now: The time of closing.
        """
        stale = job.started_at < self._closed_at
        if retry_after is None:
            if stale:
                return
            retry_after = self._pause
            self._pause = min(LONGEST_PAUSE, self._pause * 2.0)
        self._goal = max(self._goal, running)
        self.closed_until = max(self.closed_until, now + retry_after)
        self._closed_at = max(self._closed_at, now)
        self._room = 1

    @property
    def is_open(self) -> bool:
        """Whether as many jobs may run as when it closed: it can be taken away."""
        return self._room > self._goal

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return the end of the pause; once it is over, infinity while there is no room."""
        if now < self.closed_until:
            return self.closed_until
        return now if self._running < self._room else math.inf

    def take(self, job: Job[Any], now: float) -> None:
        """Count a running job."""
        self._running += 1

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        """Make room for one more, unless the job was throttled, cancelled or started too early."""
        self._running -= 1
        told_off = isinstance(outcome.error, Throttled) or outcome.state == "cancelled"
        if not told_off and job.started_at >= self.closed_until:
            self._room += 1
            self._pause = FIRST_PAUSE
        self.changed()

    def fresh_at(self, now: float) -> float:
        """Return when a lane that saw no jobs since may forget that it was throttled."""
        return math.inf if self._running else self.closed_until + LONGEST_PAUSE
