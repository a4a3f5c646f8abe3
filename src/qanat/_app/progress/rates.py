"""How fast jobs end, and when the last one will have: arithmetic on counts and times."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW: Final = 60.0
"""Seconds back that a rate looks: long enough to be steady, short enough to notice a change."""
STEP: Final = 0.5
"""Seconds between two counts that are kept at least, so their number has a bound."""


class RateMeter:
    """Measure the rate of the last minute from counts that are noted now and then.

    The rate is taken between now and the count noted a minute ago, or the first one. At most 122
    counts are kept, however often they are noted.
    """

    __slots__ = ("_counts",)

    def __init__(self, now: float) -> None:
        """Begin at zero."""
        self._counts: deque[tuple[float, int]] = deque(((now, 0),))

    def note(self, count: int, now: float) -> None:
        """Note how many have ended until now."""
        counts = self._counts
        if now - counts[-1][0] >= STEP:
            counts.append((now, count))
        # The one that is older than the window stays as long as no other one is.
        while len(counts) > 1 and counts[1][0] <= now - WINDOW:
            counts.popleft()

    def rate(self, count: int, now: float) -> float | None:
        """Return how many end in a second; None as long as nothing can be said."""
        then, noted = self._counts[0]
        before = float(noted)
        if now <= then or count <= 0:
            return None
        # Between two counts the window's true edge lies a share of the way.
        if now - then > WINDOW and len(self._counts) > 1:
            later, after = self._counts[1]
            share = (now - WINDOW - then) / (later - then)
            then, before = now - WINDOW, before + (after - before) * share
        return (count - before) / (now - then)


class Stood:
    """Add up the time in which a run stood still although it was not over, by cause.

    It stands while nothing runs and nothing can start because it is paused, was told to slow down, or a
    circuit is open. Such time says nothing about how fast jobs end. It is found out by looking now and
    then: what lies between two looks counts if both saw it stand.
    """

    CAUSES: Final = frozenset({"paused", "throttled", "breaker"})

    __slots__ = ("_at", "_cause", "seconds")

    def __init__(self) -> None:
        """Begin with none."""
        self.seconds: dict[str, float] = {}
        self._cause: str | None = None
        self._at = 0.0

    def look(self, cause: str | None, running: int, now: float) -> None:
        """See why nothing starts now, and how many run."""
        seen = cause if cause in self.CAUSES and not running else None
        if seen is not None and self._cause is not None:
            self.seconds[seen] = self.seconds.get(seen, 0.0) + (now - self._at)
        self._cause, self._at = seen, now

    @property
    def is_standing(self) -> bool:
        """Whether the last look saw it stand."""
        return self._cause is not None

    @property
    def total(self) -> float:
        """The seconds of all causes."""
        return sum(self.seconds.values())


def seconds_left(rate: float | None, left: int | None) -> float | None:
    """Return how long so many jobs will take at a rate; None if nobody knows."""
    if left is None or rate is None:
        return None
    if left <= 0:
        return 0.0
    return left / rate if rate > 0.0 else None
