"""So many starts in a stretch of time, counted exactly or in windows that follow one another.

Windows are half open: a start at `t` and one at `t + per` never stand in the same one.

On a real clock a handler begins a little after its start was decided, at most `precision` seconds
later. Whoever counts, inside handlers or at the other end of a wire, counts those later times. So a
window remembers `now + precision`, the latest time at which the handler can begin. The one that
follows is decided `per` after that, and can only begin later still: no window is exceeded, wherever
it is measured. On virtual time the precision is 0, and the times are exact.
"""

from __future__ import annotations

from array import array
from math import inf, nextafter
from typing import TYPE_CHECKING, Any

from qanat._core.arguments import rate_in_words, seconds, whole
from qanat._core.limit import Limit
from qanat._core.limits.border import border

if TYPE_CHECKING:
    from qanat._core.job import Job


class SlidingWindow(Limit):
    """Let at most `n` jobs start in any stretch of `per` seconds, wherever it begins.

    An exact log: it remembers when the last `n` started, eight bytes for each, and grows up to
    that as it is used. After a quiet spell `n` may start at once; `Spacing` spreads them.

    Args:
        n: How many may start; a whole number, at least 1.
        per: In how long: seconds, greater than 0, or a text such as `"15m"`.

    Raises:
        TypeError: If `n` is not a whole number, or `per` neither a number nor a text.
        ValueError: If either is out of range.

    Examples:
        >>> from qanat._core.limits import SlidingWindow
        >>> limit = SlidingWindow(300, "15m")
        >>> limit
        SlidingWindow(300, 900.0)
        >>> print(limit)
        300/15m
    """

    __slots__ = ("_before", "_free_at", "_is_resized", "_log", "_n", "_oldest", "_per", "_room")

    def __init__(self, n: int, per: float | str) -> None:
        self._n = whole("n", n, 1)
        self._per = seconds("per", per)
        # A ring once it has n entries: the oldest is overwritten. Until then there is room for so many.
        self._log = array("d")
        self._room = self._n
        self._oldest = 0
        self._free_at = -inf
        # Starts that only a larger window would ask for, from before it was made smaller.
        self._before = array("d")
        self._is_resized = False

    def resize(self, n: int | None = None, per: float | str | None = None) -> None:
        """Change how many may start, or in how long; what is not given stays as it is.

        The starts that it remembers count, so the new rate holds from here on: they are the
        last `n`, of the largest `n` that it ever had. Who waits is asked again.

        Args:
            n: How many may start; a whole number, at least 1.
            per: In how long: seconds, greater than 0, or a text such as `"15m"`.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of range.
        """
        self._n, self._per = _resized(self._n, self._per, n, per)
        known = self._before + self._log[self._oldest :] + self._log[: self._oldest]
        cut = max(0, len(known) - self._n)
        self._before, self._log, self._oldest = known[:cut], known[cut:], 0
        self._room = self._n - len(self._log)
        self._free_at = -inf if self._room else border(self._log[0], self._per)
        self._is_resized = True
        self.changed()

    @property
    def n(self) -> int:
        """How many may start."""
        return self._n

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return when the `n`th last start leaves the window."""
        return self._free_at

    def take(self, job: Job[Any], now: float) -> None:
        """Remember the start, and when the next one is free."""
        room = self._room
        if room > 1:
            self._room = room - 1
            self._log.append(now + self._precision)
            return
        log = self._log
        if room:
            self._room = 0
            log.append(now + self._precision)
            first = log[0]
        else:
            oldest = self._oldest
            log[oldest] = now + self._precision
            oldest = self._oldest = (oldest + 1) % self._n
            first = log[oldest]
        # `border`, without the call: once a window is full it is asked at every start.
        end = first + self._per
        self._free_at = nextafter(end, inf) if end - first < self._per else end

    def fresh_at(self, now: float) -> float:
        """Return when the last start leaves the window; infinity if it was resized."""
        if self._is_resized:
            return inf
        # The entry before the oldest, which is the last of the array while it grows.
        return border(self._log[self._oldest - 1], self._per) if self._log else now

    def __str__(self) -> str:
        return rate_in_words(self._n, self._per)

    def __repr__(self) -> str:
        return f"SlidingWindow({self._n}, {self._per!r})"


class FixedWindow(Limit):
    """Let at most `n` jobs start in each window of `per` seconds.

    A window opens at the first start at or after the end of the one before, and nothing is
    aligned to the hour. It keeps three numbers, however large `n` is. The price: up to `2n` can
    fall around a border, `n` at the end of a window and `n` at the beginning of the next.
    `SlidingWindow` never lets that happen.

    Args:
        n: How many may start in one window; a whole number, at least 1.
        per: How long a window is: seconds, greater than 0, or a text such as `"15m"`.

    Raises:
        TypeError: If `n` is not a whole number, or `per` neither a number nor a text.
        ValueError: If either is out of range.

    Examples:
        >>> from qanat._core.limits import FixedWindow
        >>> print(FixedWindow(1000, "1h"))
        1000/h in fixed windows
    """

    __slots__ = ("_ends_at", "_free_at", "_is_resized", "_left", "_n", "_per")

    def __init__(self, n: int, per: float | str) -> None:
        self._n = whole("n", n, 1)
        self._per = seconds("per", per)
        self._left = 0
        self._ends_at = -inf
        self._free_at = -inf
        self._is_resized = False

    def resize(self, n: int | None = None, per: float | str | None = None) -> None:
        """Change how many may start, or in how long; what is not given stays as it is.

        What has started in the window that is open counts. That window ends when it would have
        ended; the next one has the new length. Who waits is asked again.

        Args:
            n: How many may start in one window; a whole number, at least 1.
            per: How long a window is: seconds, greater than 0, or a text such as `"15m"`.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of range.
        """
        before = self._n
        self._n, self._per = _resized(self._n, self._per, n, per)
        self._left += self._n - before
        self._free_at = -inf if self._left > 0 else self._ends_at
        self._is_resized = True
        self.changed()

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return when the window ends if it is full, and a time long gone if it is not."""
        return self._free_at

    def take(self, job: Job[Any], now: float) -> None:
        """Count the start in its window, and open a window if there is none."""
        if now >= self._ends_at:
            self._ends_at = border(now + self._precision, self._per)
            self._left = self._n
        self._left -= 1
        self._free_at = -inf if self._left else self._ends_at

    def fresh_at(self, now: float) -> float:
        """Return when the window ends; infinity if it was resized."""
        if self._is_resized:
            return inf
        return self._ends_at

    def __str__(self) -> str:
        return f"{rate_in_words(self._n, self._per)} in fixed windows"

    def __repr__(self) -> str:
        return f"FixedWindow({self._n}, {self._per!r})"


def _resized(n: int, per: float, new_n: int | None, new_per: float | str | None) -> tuple[int, float]:
    """Return the numbers of a window, those that were given checked and in place of the old ones."""
    return (
        n if new_n is None else whole("n", new_n, 1),
        per if new_per is None else seconds("per", new_per),
    )
