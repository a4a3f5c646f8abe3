"""Items that come to a simulation by themselves: at times that are known, or as schedules bring them."""

from __future__ import annotations

from math import inf
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from qanat._core.schedules import Schedule, Timetable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._engine.intake import Intake


class Comings(Protocol):
    """Items that come by themselves.

    Attributes:
        next_at: The virtual time at which to ask again; infinity if nothing more comes.
    """

    next_at: float

    def come(self, intake: Intake, now: float) -> None:
        """Offer what comes now; asked at `next_at`, and at any other time."""
        ...

    def ended(self, number: int, now: float) -> None:
        """Hear that a job has ended for good."""
        ...


class Arrivals:
    """Items that come at times that are known."""

    def __init__(self, arrivals: Sequence[tuple[float, Any]]) -> None:
        """Keep them: when each comes, in order, and which."""
        self._arrivals = arrivals
        self._came = 0
        self._look()

    def _look(self) -> None:
        self.next_at = self._arrivals[self._came][0] if self._came < len(self._arrivals) else inf

    def come(self, intake: Intake, now: float) -> None:
        """Offer those whose time has come."""
        while self.next_at <= now:
            intake.take(self._arrivals[self._came][1], now)
            self._came += 1
            self._look()

    def ended(self, number: int, now: float) -> None:
        """Hear that a job has ended, which changes nothing."""


class Recurring:
    """Items that schedules bring, up to a time."""

    def __init__(
        self, schedules: Sequence[tuple[Schedule, Any]], *, until: float, wall: float, seed: int
    ) -> None:
        """Begin.

        Args:
            schedules: Each schedule, and the item that it brings.
            until: The virtual time from which on nothing more comes.
            wall: The wall time at which virtual time begins.
            seed: What the jitter of schedules begins with.
        """
        rng = Random(f"schedules, seed {seed}")
        self._known = [(Timetable(schedule, wall, rng=rng), item) for schedule, item in schedules]
        self._jobs: dict[int, Timetable] = {}
        self._until = until
        self._wall = self._seen = wall
        self._look()

    def _look(self) -> None:
        if all(timetable.ended for timetable, _ in self._known):
            self.next_at = inf
            return
        # Asked once more at the end, as from then on nothing comes.
        at = min(timetable.next_at for timetable, _ in self._known) - self._wall
        self.next_at = min(at, self._until)

    def come(self, intake: Intake, now: float) -> None:
        """Offer what is due, one after the other as they were given."""
        if now < self.next_at:
            return
        if now >= self._until:
            for timetable, _ in self._known:
                timetable.stop()
            self.next_at = inf
            return
        for timetable, item in self._known:
            at = timetable.next_at
            if at - self._wall <= now:
                # As the difference was rounded, the sum may be just before the time that was meant.
                self._seen = max(self._seen, self._wall + now, at)
                for _ in timetable.due(self._seen):
                    self._jobs[intake.count] = timetable
                    intake.take(item, now)
        self._look()

    def ended(self, number: int, now: float) -> None:
        """Hear that a job has ended; one more may be due, as its schedule waited for it."""
        timetable = self._jobs.pop(number, None)
        if timetable is not None:
            self._seen = max(self._seen, self._wall + now)
            timetable.finish(self._seen)
            if self.next_at < inf:
                self._look()
