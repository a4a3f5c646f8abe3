"""What is due now: the times of one schedule, as time goes by, is slept through, or is set anew.

A timetable is handed the wall time (UTC seconds) and hands back the times for which a run is to be
started. Whoever asks keeps three promises: it asks `due` when `next_at` has come, may ask at any
other time, and calls `finish` once for each time that was handed out, when its run has ended.

Three things must stay true:

- A time is handed out or counted as skipped, once; a clock set back does not bring it again, unless
  it was set back so far that the hours before were no real ones.
- Whatever a clock does, there is a next time within reason, and finding it takes bounded work.
- A time that is handed out has come.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from qanat._core.ports import Random
    from qanat._core.schedules.schedule import Schedule

LATE: Final = 60.0
"""Seconds by which the newest due time may have passed and is not missed yet; so long may a loop
be busy, and a clock set back by less is taken as it is."""

CORRECTION: Final = 3 * 3600.0
"""Seconds. If a clock is set back further, the times that it showed were wrong (cron's own rule)."""

COUNTED: Final = 1_000
"""How many missed times are looked at one by one; beyond, only those that are made up."""


class Timetable:
    """Keep one schedule.

    Attributes:
        schedule: The schedule.
        runs: How many runs were handed out.
        skipped: How many times were left out, as they were missed, overlapped, or could not run. Of
            very many missed at once, those beyond about a thousand are not counted.
        running: How many runs have not ended.
        last: The newest time that was dealt with; -inf if none was. A timetable that is made with
            `since=last` goes on from there.
    """

    __slots__ = (
        "_anchor", "_due", "_owed", "_rng", "_seen", "_stopped", "_time", "last", "running", "runs",
        "schedule", "skipped",
    )  # fmt: skip

    def __init__(
        self, schedule: Schedule, now: float, *, rng: Random | None = None, since: float | None = None
    ) -> None:
        """Begin.

        Args:
            schedule: The schedule.
            now: The wall time.
            rng: The source of jitter; None is without.
            since: After which time the schedule's times count: those up to now are missed ones. None
                is from now on.
        """
        self.schedule = schedule
        self.runs = self.skipped = self.running = 0
        self.last = -inf
        self._rng = rng
        self._owed: deque[float] = deque()
        self._stopped = False
        self._seen = now
        self._anchor = now if since is None else since
        self._move(schedule.begins_after(now) if since is None else since)

    @property
    def next_at(self) -> float:
        """The wall time from which on there is something to hand out; infinity if only a finish helps."""
        return self._seen if self._owed and not self.running else self._due

    @property
    def ended(self) -> bool:
        """Whether there is no time left and no run goes on."""
        return self._due == inf and not self.running and not self._owed

    def due(self, now: float) -> list[float]:
        """Return the times for which a run is to be started now; they count as running.

        Args:
            now: The wall time. It may be any time.
        """
        self._look_back(now)
        started: list[float] = []
        if self._due <= now:
            started = self._admit(self._chosen(now))
        elif self._owed and not self.running:
            started = [self._owed.popleft()]
        self.runs += len(started)
        self.running += len(started)
        if self._due == inf and self.schedule.waits_for_end and not self.running:
            self._move(now)  # too late for the one that was due: the delay begins anew
        return started

    def saw(self, now: float) -> None:
        """Hear what time it was, for those who know better when the clock was set back by how much.

        Without it a clock is taken to have been set back from where it was at the last question.
        """
        self._seen = max(self._seen, now)

    def finish(self, now: float) -> None:
        """Hear that a run has ended; `next_at` may be earlier now."""
        self.running -= 1
        if self.schedule.waits_for_end:
            self._move(now)

    def refuse(self, now: float) -> None:
        """Hear that a run that was handed out could not be started: it counts as skipped."""
        self.runs -= 1
        self.skipped += 1
        self.finish(now)

    def stop(self) -> None:
        """Have no more times; what runs goes on."""
        self._stopped = True
        self._time = self._due = inf
        self._owed.clear()

    def _move(self, after: float) -> None:
        """Find the time that comes next, and when it is due."""
        at = inf if self._stopped else self.schedule.following(after, self._anchor)
        self._time = self._due = at
        if at < inf and self._rng is not None and self.schedule.spread:
            self._due = at + self.schedule.spread * self._rng.random()

    def _look_back(self, now: float) -> None:
        """See whether the clock was set back, and what is to be done about it."""
        step = self._seen - now
        if step <= 0.0:
            self._seen = now
            return
        schedule = self.schedule
        if schedule.counts_elapsed:
            # What has passed since the last time stays as it is, and so does what is still to pass.
            self._seen = now
            self._anchor -= step
            self._time -= step
            self._due -= step
            if schedule.starts_at is not None and self._time < schedule.starts_at:
                self._move(now)
        elif step >= (LATE if schedule.is_free else CORRECTION):
            self._seen = now
            if self._due < inf:
                self._move(now)

    def _chosen(self, now: float) -> list[float]:
        """Return those of the times that have come for which there is to be a run."""
        schedule = self.schedule
        keep = schedule.most if schedule.missed == "all" else 1
        newest, due, number = self._passed(now, keep)
        self.last = newest[-1]
        if schedule.missed == "skip" and now - due > LATE:
            newest.clear()
        self.skipped += number - len(newest)
        return list(newest)

    def _passed(self, now: float, keep: int) -> tuple[deque[float], float, int]:
        """Go past all times that have come; return the newest, when the last was due, how many."""
        schedule = self.schedule
        newest: deque[float] = deque(maxlen=keep)
        number, due = 0, self._due
        while self._due <= now:
            number += 1
            newest.append(self._time)
            due = self._due
            if schedule.waits_for_end:
                self._time = self._due = inf
                break
            if number == COUNTED:
                # Jitter is drawn for those only that may still be ahead.
                rest = newest_times(schedule, self._anchor, self._time, now - schedule.spread, keep)
                newest.extend(rest)
                number += len(rest)
                due = rest[-1] if rest else due
            self._move(newest[-1])
        return newest, due, number

    def _admit(self, times: list[float]) -> list[float]:
        """Return those that start now; others wait for the run before, or are left out."""
        schedule = self.schedule
        if schedule.overlap == "allow":
            return times
        room = schedule.most - len(self._owed)
        if schedule.overlap == "skip" and (self.running or self._owed):
            room = 0
        self._owed.extend(times[:room])
        self.skipped += max(0, len(times) - room)
        return [self._owed.popleft()] if self._owed and not self.running else []


def newest_times(schedule: Schedule, anchor: float, after: float, upto: float, keep: int) -> list[float]:
    """Return the newest times in (after, upto], at most so many, without going through all of them.

    Looks back from `upto` twice as far each time until there are enough, then halves the way while
    there are far too many: some hundreds of steps for any schedule and any length of time.
    """

    def some(begin: float, most: int) -> list[float]:
        found: list[float] = []
        while len(found) < most and (begin := schedule.following(begin, anchor)) <= upto:
            found.append(begin)
        return found

    span = 1.0
    near, far = upto, max(after, upto - span)
    while far > after and len(some(far, keep)) < keep:
        span *= 2.0
        near, far = far, max(after, upto - span)
    found = some(far, 2 * keep + 1)
    while len(found) > 2 * keep:
        middle = (near + far) / 2
        newer = some(middle, 2 * keep + 1)
        if len(newer) < keep:
            near = middle
        else:
            far, found = middle, newer
    return found[-keep:]
