"""What attempts say about the other side: each of them, and the last of them together."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from qanat._core.limits.border import border
from qanat.errors import JobCancelledError, JobDiscardedError, Signal

if TYPE_CHECKING:
    from qanat._core.outcome import Outcome

SLICES = 10
"""In how many slices a window of failures is counted: it is that much shorter at most."""


def is_good(outcome: Outcome[Any, Any]) -> bool | None:
    """Return whether an attempt found the other side well; None if it says nothing about it.

    An attempt that was cancelled or never began says nothing, and neither does a handler that
    says what is to be done: `Throttled`, `Discard` and `RetryLater` are answers, not faults.
    """
    error = outcome.error
    if error is None:
        return True if outcome.state == "done" else None
    if outcome.state == "cancelled" or outcome.started_at is None:
        return None
    return None if isinstance(error, Signal | JobDiscardedError | JobCancelledError) else False


class Share:
    """The share of failures in the last seconds, counted in slices: a few numbers, however many calls.

    A slice opens with the first call after the one before has ended, and is forgotten as a whole.
    """

    __slots__ = ("_slices", "_window", "bad", "calls")

    def __init__(self, window: float) -> None:
        self._window = window
        # For each slice when it ends, when it is forgotten, and its calls and failures.
        self._slices: deque[list[float]] = deque()
        self.calls = 0
        self.bad = 0

    def add(self, bad: bool, now: float) -> None:
        """Count a call that ended."""
        slices = self._slices
        while slices and slices[0][1] <= now:
            _, _, calls, failures = slices.popleft()
            self.calls -= int(calls)
            self.bad -= int(failures)
        if not slices or slices[-1][0] <= now:
            slices.append([border(now, self._window / SLICES), border(now, self._window), 0, 0])
        slices[-1][2] += 1
        slices[-1][3] += bad
        self.calls += 1
        self.bad += bad

    def clear(self) -> None:
        """Forget all calls."""
        self._slices.clear()
        self.calls = self.bad = 0
