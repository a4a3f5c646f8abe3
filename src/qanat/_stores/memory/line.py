"""Jobs in a line by a key: a heap whose entries may leave from anywhere."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Any

SLACK = 16
"""Stale entries that are not worth a clean-up."""


class Line:
    """Ids, smallest key first. An id stands in it once.

    Who leaves from the middle leaves a stale entry behind, and when half are stale they are swept
    out: each deed costs O(log n), spread over many.
    """

    __slots__ = ("_heap", "keys")

    def __init__(self) -> None:
        self._heap: list[tuple[Any, str]] = []
        self.keys: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def push(self, id: str, key: Any) -> None:
        """Put an id where its key says; it leaves the place that it had."""
        self.keys[id] = key
        heappush(self._heap, (key, id))
        if len(self._heap) > 2 * len(self.keys) + SLACK:
            self._heap = [(each, id) for id, each in self.keys.items()]
            heapify(self._heap)

    def discard(self, id: str) -> None:
        """Let an id leave, if it is here."""
        self.keys.pop(id, None)

    def head(self) -> tuple[Any, str] | None:
        """Return the smallest key and its id, or None."""
        while self._heap:
            key, id = self._heap[0]
            if self.keys.get(id) == key:
                return self._heap[0]
            heappop(self._heap)
        return None

    def until(self, key: Any) -> int:
        """Return how many have at most this key; costs as many steps as it counts."""
        found: set[str] = set()
        ahead = [0]
        while ahead:
            at = ahead.pop()
            if at < len(self._heap) and self._heap[at][0] <= key:
                its_key, id = self._heap[at]
                if self.keys.get(id) == its_key:
                    found.add(id)
                ahead += (2 * at + 1, 2 * at + 2)
        return len(found)

    def first(self, most: int) -> list[str]:
        """Return up to so many ids, smallest key first."""
        found: list[tuple[Any, str]] = []
        while len(found) < most and (head := self.head()) is not None:
            found.append(heappop(self._heap))
            # Gone from the heap alone, so that a double of it is stale.
            del self.keys[head[1]]
        for key, id in found:
            self.push(id, key)
        return [id for _, id in found]
