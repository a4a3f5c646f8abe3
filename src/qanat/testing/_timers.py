"""The timers of the virtual asyncio loop: a heap by time, then by order of setting."""

from __future__ import annotations

import asyncio
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

_FEWEST_TO_SWEEP = 100  # below this many, cancelled timers are not worth looking for


class _Timer(asyncio.TimerHandle):
    """A timer that can be run; cancelling marks it and leaves it in the heap."""

    def run(self) -> None:
        if not self.cancelled():
            self._run()


class Timers:
    """Hold the timers of one loop and hand over the due ones in order.

    A cancelled timer stays in the heap until it comes to the top or is swept out, which
    happens when the heap has doubled since the last sweep: constant cost a timer, and memory
    in proportion to the timers that are set.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._heap: list[tuple[float, int, _Timer]] = []
        self._numbers = count()
        self._sweep_above = _FEWEST_TO_SWEEP

    def __len__(self) -> int:
        """Return how many are in the heap, cancelled ones included."""
        return len(self._heap)

    def add(
        self,
        loop: asyncio.AbstractEventLoop,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> asyncio.TimerHandle:
        """Set a timer for a callback, in a copy of the current context if none is given."""
        timer = _Timer(when, callback, args, loop, context)
        heappush(self._heap, (when, next(self._numbers), timer))
        if len(self._heap) > self._sweep_above:
            self._heap = [entry for entry in self._heap if not entry[2].cancelled()]
            heapify(self._heap)
            self._sweep_above = max(_FEWEST_TO_SWEEP, 2 * len(self._heap))
        return timer

    def next_at(self) -> float:
        """Return the time of the earliest timer that is still wanted; inf if there is none."""
        while self._heap and self._heap[0][2].cancelled():
            heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def run_due(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Hand all timers that are due to the loop, in order; return whether there were any."""
        any_due = False
        while self.next_at() <= loop.time():
            loop.call_soon(heappop(self._heap)[2].run)
            any_due = True
        return any_due
