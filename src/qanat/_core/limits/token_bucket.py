"""A steady pace with room for bursts.

The bucket is the Generic Cell Rate Algorithm (ITU-T I.371, annex A): instead of tokens and the
time when they were last counted it knows one time, the one at which the bucket will be full again.
Added up start by start, that time drifts with each rounding, and the last start of a burst
may find itself an instant too early. So it is kept as two exact facts: when the bucket was
last full, and how many have started since.
"""

from __future__ import annotations

from math import inf, nextafter
from typing import TYPE_CHECKING, Any, Final

from qanat._core.arguments import plain, positive, rate_in_words, whole
from qanat._core.limit import Limit
from qanat._core.limits.border import border

if TYPE_CHECKING:
    from qanat._core.job import Job

AT_ONCE: Final = -inf


class TokenBucket(Limit):
    """Let jobs start at a steady pace, with room for short bursts.

    In any stretch of `t` seconds at most `burst + per_second * t` jobs start. The pace is kept over
    any length of time: nothing is lost or gained by rounding.

    Args:
        per_second: How many may start each second once the burst is used up. Greater than 0;
            may be a fraction.
        burst: How many may start at once after a quiet spell; a whole number, at least 1.

    Raises:
        TypeError: If `per_second` is not a number, or `burst` not a whole one.
        ValueError: If either is out of range.

    Examples:
        >>> from qanat._core.limits import TokenBucket
        >>> print(TokenBucket(2.5, burst=10))
        2.5/s, burst 10
    """

    __slots__ = (
        "_burst", "_count", "_free_at", "_full_at", "_interval", "_is_resized", "_last", "_per_second",
        "_since",
    )  # fmt: skip

    def __init__(self, per_second: float, *, burst: int = 1) -> None:
        self._per_second = positive("per_second", per_second)
        self._interval = 1 / self._per_second
        self._burst = whole("burst", burst, 1)
        self._since = -inf
        self._count: float = 0
        self._last = -inf
        self._free_at = -inf
        self._full_at = -inf
        self._is_resized = False

    def resize(self, per_second: float | None = None, *, burst: int | None = None) -> None:
        """Change the pace, or the burst; what is not given stays as it is.

        The tokens that were missing after the last start are missing still, and come back at the new
        pace from then on. Who waits is asked again.

        Args:
            per_second: How many may start each second once the burst is used up. Greater than 0.
            burst: How many may start at once after a quiet spell; a whole number, at least 1.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of range.
        """
        before = self._per_second
        pace = before if per_second is None else positive("per_second", per_second)
        if burst is not None:
            self._burst = whole("burst", burst, 1)
        self._per_second = pace
        self._interval = 1 / pace
        if self._last > -inf:
            self._count -= (self._last - self._since) * before
            self._since = self._last
            self._reckon()
        self._is_resized = True
        self.changed()

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return when there is a token again."""
        return self._free_at

    def take(self, job: Job[Any], now: float) -> None:
        """Take one token; tokens count from when the bucket was last full."""
        self._last = now
        # As `_reckon` and `border` do: without the calls a start under three limits takes a twentieth less.
        if now > self._full_at:
            self._since = now
            self._count = 1
            length = self._interval
            end = now + length
            self._full_at = end = nextafter(end, inf) if end - now < length else end
            self._free_at = end if self._burst == 1 else AT_ONCE
            return
        # At the very time the count goes on: the next is as far from the last, and still exact.
        since = self._since
        count = self._count = self._count + 1
        length = count / self._per_second
        end = since + length
        self._full_at = nextafter(end, inf) if end - since < length else end
        if count + 1 > self._burst:
            length = (count + 1 - self._burst) / self._per_second
            end = since + length
            self._free_at = nextafter(end, inf) if end - since < length else end
        else:
            self._free_at = AT_ONCE

    def _reckon(self) -> None:
        """Work out when there is a token again, and when all are there."""
        self._full_at = border(self._since, self._count / self._per_second)
        missing = self._count + 1 - self._burst
        self._free_at = border(self._since, missing / self._per_second) if missing > 0 else -inf

    def fresh_at(self, now: float) -> float:
        """Return when the bucket is full again; infinity if it was resized."""
        if self._is_resized:
            return inf
        return self._full_at

    def __str__(self) -> str:
        return f"{rate_in_words(self._per_second, 1.0)}, burst {self._burst}"

    def __repr__(self) -> str:
        return f"TokenBucket({plain(self._per_second)}, burst={self._burst})"
