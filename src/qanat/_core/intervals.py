"""How long it is until something comes again: the same each time, or between two bounds."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

from qanat._core.arguments import duration_in_words, number, positive
from qanat._core.store.bounds import check_seconds


@dataclass(frozen=True, slots=True)
class Between:
    """Let an interval follow how often something changes, between two bounds.

    It begins with `lowest`. A change divides the interval by `factor`, no change multiplies it, never
    beyond the bounds; what is not known leaves it. So it comes to rest where every second visit finds a
    change: what changes all the time is seen every `lowest`, what never does every `highest` seconds.

    Attributes:
        lowest: Seconds, the shortest interval.
        highest: Seconds, the longest.
        factor: By how much one visit changes it; more than 1.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range.

    Examples:
        >>> from qanat import Between
        >>> every = Between(3600, 86400, factor=2)
        >>> every.after(7200.0, changed=False), every.after(7200.0, changed=True)
        (14400.0, 3600.0)
        >>> print(every)
        every 1h to 1d
    """

    lowest: float
    highest: float
    _: KW_ONLY
    factor: float = 1.5

    def __post_init__(self) -> None:
        lowest = positive("lowest", self.lowest)
        check_seconds("lowest", lowest, above=True)
        highest = positive("highest", self.highest)
        check_seconds("highest", highest, above=True)
        if highest < lowest:
            raise ValueError(f"highest must be at least lowest, {lowest!r}, got {highest!r}")
        factor = number("factor", self.factor)
        if factor <= 1.0:
            raise ValueError(f"factor must be more than 1, got {self.factor!r}")
        for name, value in (("lowest", lowest), ("highest", highest), ("factor", factor)):
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        """Say it in words."""
        return f"every {duration_in_words(self.lowest)} to {duration_in_words(self.highest)}"

    def after(self, interval: float, *, changed: bool | None) -> float:
        """Return the interval that follows one; `changed` is None if nobody knows."""
        if changed is not None:
            interval = interval / self.factor if changed else interval * self.factor
        return min(max(interval, self.lowest), self.highest)


Interval: TypeAlias = "float | Between"
"""Seconds, or the bounds between which they are found out."""
