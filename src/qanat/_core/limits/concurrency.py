"""How many jobs run at once."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

from qanat._core.arguments import whole
from qanat._core.limit import Limit

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._core.reason import Cause


class Concurrency(Limit):
    """Let so many jobs run at once and no more.

    What counts is calls of the handler: each attempt is one, a batch is one, and a job that waits
    for its retry holds nothing.

    Args:
        n: How many may run at once; a whole number, at least 1.

    Raises:
        TypeError: If `n` is not a whole number.
        ValueError: If `n` is less than 1.

    Examples:
        >>> from qanat._core.limits import Concurrency
        >>> limit = Concurrency(10)
        >>> limit.resize(20)
        >>> print(limit)
        20 at once
    """

    __slots__ = ("_at_once", "_free_at", "_made_for", "_running")

    cause: ClassVar[Cause] = "concurrency"

    def __init__(self, n: int) -> None:
        self._at_once = self._made_for = whole("n", n, 1)
        self._running = 0
        # What it answers, as a time that is kept: minus infinity while there is room; see `STORED`.
        self._free_at = -inf

    @property
    def at_once(self) -> int:
        """How many may run at once; `resize` changes it."""
        return self._at_once

    def resize(self, n: int) -> None:
        """Change how many may run at once.

        More start at once if it grew. If it shrank, what runs goes on, and nothing starts until
        fewer than `n` run.

        Args:
            n: How many may run at once; a whole number, at least 1.

        Raises:
            TypeError: If `n` is not a whole number.
            ValueError: If `n` is less than 1.
        """
        before, self._at_once = self._at_once, whole("n", n, 1)
        self._free_at = inf if self._running >= self._at_once else -inf
        if self._at_once > before:
            self.changed()

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return `now` if there is room, else infinity: only a finish or `resize` makes room."""
        return now if self._running < self._at_once else inf

    def take(self, job: Job[Any], now: float) -> None:
        """Count one more that runs."""
        self._running += 1
        if self._running >= self._at_once:
            self._free_at = inf

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        """Count one less, and wake who waits if that made the first room."""
        self._running -= 1
        # Only the step from full to not full changes the answer: who parked here was told "full".
        if self._running == self._at_once - 1:
            self._free_at = -inf
            self.changed()

    def fresh_at(self, now: float) -> float:
        """Return `now` if nothing runs; infinity if something does, or the limit was resized."""
        return now if self._running == 0 and self._at_once == self._made_for else inf

    def __str__(self) -> str:
        return f"{self._at_once} at once"

    def __repr__(self) -> str:
        return f"Concurrency({self._at_once})"
