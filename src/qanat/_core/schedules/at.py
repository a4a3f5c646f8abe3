"""A schedule of one time."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from math import inf, nextafter
from typing import TYPE_CHECKING

from qanat._core.schedules.schedule import FIRST_AT, Missed, Schedule, instant, set_checked
from qanat._core.schedules.words import conditions, time_in_words

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class At(Schedule):
    """Run once, at a certain time.

    If that time has passed when the schedule is put to use it counts as missed, and by default
    is made up at once.

    Attributes:
        when: The time: UTC seconds since 1970, or a datetime with a zone.
        missed: "once" and "all" run late, "skip" not at all if it is more than a minute late.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range, or `when` is not between `start` and `end`.

    Examples:
        >>> from qanat._core.schedules import At
        >>> at = At(1_767_225_600)
        >>> print(at)
        once, at 2026-01-01 00:00:00 UTC
        >>> at.next_after(0), at.next_after(1_767_225_600)
        (1767225600.0, inf)
    """

    when: float | datetime
    _: KW_ONLY
    missed: Missed = "once"
    _at: float = field(init=False, repr=False, compare=False, default=inf)

    def __post_init__(self) -> None:
        at = instant("when", self.when)
        set_checked(self, when=at, _at=at)
        if self.following(FIRST_AT) == inf:
            raise ValueError(f"when must be between start and end, or it never comes, got {self.when!r}")

    def _following(self, after: float, anchor: float | None) -> float:
        return self._at if after < self._at else inf

    def begins_after(self, now: float) -> float:
        """Return a time before its own, which counts even if it has passed."""
        return min(now, nextafter(self._at, -inf))

    def __str__(self) -> str:
        return f"once, at {time_in_words(self._at)}{conditions(self, missed='once')}"
