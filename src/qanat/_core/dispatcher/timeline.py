"""What happens at a known time: jobs that fall due, gates that open. One heap."""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

from qanat._core.job import Job

if TYPE_CHECKING:
    from qanat._core.dispatcher.gate import Gate


class Timeline:
    """Entries in the order of their time, then of their adding.

    An entry counts as long as what it names still awaits that time; the others are passed over,
    and swept out once they are half.

    Attributes:
        at: The time of the earliest entry; `math.inf` if there is none. An entry that no longer
            counts may make it too early, never too late.
    """

    __slots__ = ("_heap", "_number", "_stale", "at")

    def __init__(self) -> None:
        self.at = math.inf
        self._heap: list[tuple[float, int, Job[Any] | Gate]] = []
        self._number = 0
        self._stale = 0

    def __len__(self) -> int:
        """Return how many entries there are, those that no longer count among them."""
        return len(self._heap)

    def add(self, at: float, what: Job[Any] | Gate) -> None:
        """Note that something happens at a time."""
        self._number += 1
        heappush(self._heap, (at, self._number, what))
        if at < self.at:
            self.at = at

    def pop(self, now: float) -> tuple[float, Job[Any] | Gate] | None:
        """Take out the earliest thing whose time has come, with that time."""
        heap = self._heap
        found: tuple[float, Job[Any] | Gate] | None = None
        while found is None and heap and heap[0][0] <= now:
            at, _, what = heappop(heap)
            if what.awaits(at):
                found = at, what
            elif self._stale:
                self._stale -= 1
        self.at = heap[0][0] if heap else math.inf
        return found

    def spoil(self) -> None:
        """Hear that one more entry no longer counts."""
        self._stale += 1
        if self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].awaits(entry[0])]
            heapify(self._heap)
            self._stale = 0
            self.at = self._heap[0][0] if self._heap else math.inf

    def jobs(self) -> list[Job[Any]]:
        """Return the jobs that are scheduled, in the order in which they fall due."""
        return [what for at, _, what in sorted(self._heap) if isinstance(what, Job) and what.awaits(at)]
