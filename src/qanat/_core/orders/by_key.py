"""Smallest key first: what the orders by priority and by deadline are.

The heap's entries carry a number that grows with each entry made. A discarded job is remembered
with the number of that moment: its entries from before are stale, and one made later is not. So a
job may be discarded and added again with another key as often as one likes.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.job import Job

    Entry = tuple[float, float, int, Job[Any]]

# The place of jobs that were not put back: behind every position in the input.
_ARRIVED = float("inf")


class KeyOrder:
    """Serve the job with the smallest key first, equals in the order of their arrival.

    Jobs that were put back come before their equals, among themselves in the order of the input.
    The key is read when the job is added: to change it, discard the job and add it again.

    `head` costs one step, `add`, `put_back` and `take` O(log n). `discard` costs one step, as it
    only marks the job, and the marked ones are dropped when they come to the head, or all together
    once they are half.

    Attributes:
        by_priority: Whether a job whose priority has changed has to be discarded and added again.
    """

    __slots__ = ("_heap", "_key", "_made", "_stale", "_stale_before", "by_priority")

    def __init__(self, key: Callable[[Job[Any]], float], *, by_priority: bool = False) -> None:
        self.by_priority: bool = by_priority
        self._key = key
        self._heap: list[Entry] = []
        self._made = 0
        self._stale = 0
        self._stale_before: dict[Job[Any], int] = {}

    def add(self, job: Job[Any]) -> None:
        """Take a job in, behind its equals."""
        self._made += 1
        heappush(self._heap, (self._key(job), _ARRIVED, self._made, job))

    def put_back(self, job: Job[Any]) -> None:
        """Take a job in, before those of its equals that were not put back."""
        self._made += 1
        heappush(self._heap, (self._key(job), job.index, self._made, job))

    def head(self) -> Job[Any]:
        """Return the next job.

        Raises:
            IndexError: If no job waits.
        """
        if self._stale:
            self._drop_stale()
        return self._heap[0][3]

    def take(self) -> Job[Any]:
        """Remove and return the job that `head` names.

        Raises:
            IndexError: If no job waits.
        """
        if self._stale:
            self._drop_stale()
        return heappop(self._heap)[3]

    def _lift(self) -> Any:
        """Remove the next job and return it with its place, to which `_lower` brings it back."""
        if self._stale:
            self._drop_stale()
        return heappop(self._heap)

    def _lower(self, lifted: Any) -> None:
        """Take a job in at the place that it had."""
        heappush(self._heap, lifted)

    def discard(self, job: Job[Any]) -> None:
        """Remove a job that is in."""
        self._stale_before[job] = self._made
        self._stale += 1
        if 2 * self._stale >= len(self._heap):
            self._compact()

    def __len__(self) -> int:
        return len(self._heap) - self._stale

    def _is_stale(self, entry: Entry) -> bool:
        return entry[2] <= self._stale_before.get(entry[3], 0)

    def _drop_stale(self) -> None:
        """Drop what is stale at the head."""
        heap = self._heap
        while self._stale and self._is_stale(heap[0]):
            heappop(heap)
            self._stale -= 1
        if not self._stale:
            self._stale_before.clear()

    def _compact(self) -> None:
        """Drop all that is stale."""
        self._heap = [entry for entry in self._heap if not self._is_stale(entry)]
        heapify(self._heap)
        self._stale = 0
        self._stale_before.clear()
