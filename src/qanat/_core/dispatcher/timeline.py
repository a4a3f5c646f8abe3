"""What happens at a known time: jobs that fall due, gates that open. One heap."""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qanat._core.dispatcher.gate import Gate
    from qanat._core.job import Job

Due = "Job[Any] | Gate"


class Timeline:
    """Entries in the order of their time, then of their adding.

    Attributes:
        at: The time of the earliest entry; `math.inf` if there is none. Stale entries count until
            they are reached, which makes `at` too early at worst.
    """

    __slots__ = ("_heap", "_number", "_stale", "at")

    def __init__(self) -> None:
        """Begin empty."""
        self.at = math.inf
        self._heap: list[tuple[float, int, Job[Any] | Gate]] = []
        self._number = 0
        self._stale = 0

    def add(self, at: float, what: Job[Any] | Gate) -> None:
        """Note that something happens at a time."""
        self._number += 1
        heappush(self._heap, (at, self._number, what))
        if at < self.at:
            self.at = at

    def pop(self, now: float) -> tuple[float, Job[Any] | Gate] | None:
        """Take out the earliest entry if its time has come."""
        heap = self._heap
        if not heap or heap[0][0] > now:
            return None
        at, _, what = heappop(heap)
        self.at = heap[0][0] if heap else math.inf
        return at, what

    def spoil(self, what: Job[Any] | Gate) -> None:
        """Note that an entry no longer counts; the heap is swept when half of it does not."""
        self._stale += 1
        if self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].awaits(entry[0])]
            heapify(self._heap)
            self._stale = 0
            self.at = self._heap[0][0] if self._heap else math.inf

    def drain(self) -> list[Job[Any] | Gate]:
        """Take everything out."""
        found = [what for _, _, what in sorted(self._heap)]
        self._heap.clear()
        self._stale = 0
        self.at = math.inf
        return found

    def first_job(self) -> Job[Any] | None:
        """Return the job that falls due next; None if none is scheduled."""
        for _, _, what in sorted(self._heap):
            if not hasattr(what, "limit"):
                return what  # type: ignore[return-value]
        return None
