"""A gap from one job to the next."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from qanat._core.arguments import at_least, duration_in_words, one_of, plain
from qanat._core.arguments import seconds as seconds_of
from qanat._core.limit import Limit
from qanat._core.limits.border import border

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._core.reason import Cause


class Spacing(Limit):
    """Keep a gap from one job to the next.

    The gap is `seconds`, and up to `jitter` seconds more, drawn anew for each job. It never makes
    up for lost time: after a quiet spell one job may start, and the next a gap later.

    Args:
        seconds: The gap: seconds, greater than 0, or a text such as `"1.5h"`.
        after: From where the gap counts. "start": from the start of the job before, which may
            still run. "finish": from its end, so only one runs at a time.
        jitter: The longest random addition to the gap: seconds, at least 0.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range.

    Examples:
        >>> from qanat._core.limits import Spacing
        >>> print(Spacing(2, after="finish", jitter=0.5))
        2s to 2.5s after a finish
    """

    __slots__ = ("_after_finish", "_free_at", "_from", "_gap", "_is_resized", "_jitter", "_seconds")

    cause: ClassVar[Cause] = "spacing"

    def __init__(
        self, seconds: float | str, *, after: Literal["start", "finish"] = "start", jitter: float = 0
    ) -> None:
        self._seconds = seconds_of("seconds", seconds)
        self._after_finish = one_of("after", after, ("start", "finish")) == "finish"
        self._jitter = at_least("jitter", jitter, 0)
        self._gap = self._seconds
        self._free_at = -inf
        self._from = -inf
        self._is_resized = False

    def resize(self, seconds: float | str | None = None, *, jitter: float | None = None) -> None:
        """Change the gap, or its jitter; what is not given stays as it is.

        The gap that is open changes as well: it ends the new time after it began. Who waits is asked
        again.

        Args:
            seconds: The gap: seconds, greater than 0, or a text such as `"1.5h"`.
            jitter: The longest random addition to the gap: seconds, at least 0.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of range.
        """
        gap = self._seconds if seconds is None else seconds_of("seconds", seconds)
        most = self._jitter if jitter is None else at_least("jitter", jitter, 0)
        drawn = (self._gap - self._seconds) / self._jitter if self._jitter else 0.0
        self._seconds, self._jitter = gap, most
        self._gap = gap + most * drawn
        if -inf < self._free_at < inf:
            self._free_at = border(self._from, self._gap)
        self._is_resized = True
        self.changed()

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return when the gap is over; infinity while it waits for a finish."""
        return self._free_at

    def take(self, job: Job[Any], now: float) -> None:
        """Draw the gap, and begin it unless it begins with the finish."""
        if self._jitter:
            self._gap = self._seconds + self._jitter * self.rng.random()
        self._from = now
        self._free_at = inf if self._after_finish else border(now, self._gap)

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        """Begin the gap if it begins with the finish: who waited was told to wait for that."""
        if self._after_finish:
            self._from = now
            self._free_at = border(now, self._gap)
            self.changed()

    def fresh_at(self, now: float) -> float:
        """Return when the gap is over; infinity while it waits for a finish, or if it was resized."""
        return inf if self._is_resized else self._free_at

    def __str__(self) -> str:
        gap = duration_in_words(self._seconds)
        if self._jitter:
            gap = f"{gap} to {duration_in_words(self._seconds + self._jitter)}"
        return f"{gap} after a finish" if self._after_finish else f"{gap} apart"

    def __repr__(self) -> str:
        after = "finish" if self._after_finish else "start"
        return f"Spacing({plain(self._seconds)}, after={after!r}, jitter={plain(self._jitter)})"
