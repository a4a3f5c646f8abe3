"""A schedule of equal intervals."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from math import floor
from typing import Literal, cast

from qanat._core.arguments import at_least, duration_in_words, one_of
from qanat._core.schedules.schedule import Schedule, set_checked
from qanat._core.schedules.words import conditions

SHORTEST = 0.001
"""Seconds. Shorter intervals are lost in the rounding of UTC seconds."""


@dataclass(frozen=True, slots=True)
class Every(Schedule):
    """Run again and again, so many seconds apart.

    With `start` the times are `start`, `start + seconds` and so on; without it they count from
    when the schedule is put to use, and the first comes `seconds` later.

    Attributes:
        seconds: The interval, at least a millisecond.
        fixed: What is `seconds` long: "rate", from one time to the next, however long runs take;
            "delay", from the end of one run to the next.
        jitter: The longest random addition to each time, in seconds, from 0 to `seconds`. It does
            not add up with a fixed rate. `next_after` leaves it out.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range.

    Examples:
        >>> from qanat._core.schedules import Every
        >>> print(Every(90, jitter=10))
        every 90s, up to 10s later
        >>> Every(90).next_after(1000), Every(90, start=60).next_after(1000)
        (1090.0, 1050.0)
    """

    seconds: float
    _: KW_ONLY
    fixed: Literal["rate", "delay"] = "rate"
    jitter: float = 0

    def __post_init__(self) -> None:
        seconds = at_least("seconds", self.seconds, SHORTEST)
        one_of("fixed", self.fixed, ("rate", "delay"))
        jitter = at_least("jitter", self.jitter, 0)
        if jitter > seconds:
            raise ValueError(f"jitter must be at most seconds, which is {seconds:g}, got {self.jitter!r}")
        set_checked(self, seconds=seconds, jitter=jitter)
        if self.fixed == "delay" and self.overlap != "skip":
            raise ValueError(
                f'overlap must be "skip" with fixed="delay", got {self.overlap!r}: '
                "a run that counts from the end of the one before never overlaps it"
            )
        if self.fixed == "delay" and self.missed == "all":
            raise ValueError(
                'missed must be "skip" or "once" with fixed="delay", got "all": '
                "no more than one time is ever missed"
            )

    def _following(self, after: float, anchor: float | None) -> float:
        start, seconds = self.starts_at, self.seconds
        if self.fixed == "delay" or (start is None and anchor is None):
            return after + seconds if start is None or after >= start else start
        base = start if start is not None else cast("float", anchor)
        number = floor((after - base) / seconds)
        # The quotient may be off by its rounding, either way.
        while base + number * seconds <= after:
            number += 1
        return base + number * seconds

    @property
    def is_free(self) -> bool:
        """Say yes: one time is like the other."""
        return True

    @property
    def counts_elapsed(self) -> bool:
        """Whether nothing ties it to the time of day."""
        return self.start is None or self.fixed == "delay"

    @property
    def waits_for_end(self) -> bool:
        """Whether the delay is what is fixed."""
        return self.fixed == "delay"

    @property
    def spread(self) -> float:
        """Return the longest addition."""
        return self.jitter

    def __str__(self) -> str:
        words = f"every {duration_in_words(self.seconds)}"
        if self.fixed == "delay":
            words = f"{duration_in_words(self.seconds)} after each run"
        if self.jitter:
            words += f", up to {duration_in_words(self.jitter)} later"
        return words + conditions(self)
