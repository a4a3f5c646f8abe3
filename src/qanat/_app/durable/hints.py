"""Hints: whoever waits at a queue is told at once of what the same store was handed.

A hint may be late, doubled or lost: underneath there is a bounded poll, and what a store in memory
holds comes by no other way.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Hints:
    """Who waits at which queue of one store; told in the thread that hands something in."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._listeners: dict[str, list[Callable[[], object]]] = {}

    def ring(self, queue: str) -> None:
        """Tell all who listen at a queue."""
        for hear in tuple(self._listeners.get(queue, ())):
            hear()

    @contextmanager
    def listening(self, queue: str, hear: Callable[[], object]) -> Generator[None]:
        """Tell somebody while the block lasts."""
        listeners = self._listeners.setdefault(queue, [])
        listeners.append(hear)
        try:
            yield
        finally:
            listeners.remove(hear)
