"""A vigil: the loop stays awake for an answer that comes sooner than the system would wake it up.

A server on the same machine answers within a tenth of a millisecond. To put the loop's thread to sleep
meanwhile, and to wake it up again, takes as long where processors are virtual, and costs as much of the
processor's time: one worker beside one server did 1.6 times as many puts, leases and acks awake, with as much
processor time for each. So the loop looks for news again and again, all else going on, until the answer has
come or `PATIENCE` is over. In each round others are let onto the processor first: the server may need it.

Answers that come later, as those from far away, are soon waited for asleep: each vigil in vain lets
twice as many flights pass without one.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._engine.loop import Loop

PATIENCE: Final = 0.0002
"""Seconds of staying awake at most."""
DOUBLINGS: Final = 7
"""How often a vigil in vain doubles how many flights have none: up to 128."""


class Vigil:
    """Stays awake while something is on its way, where that has been of use.

    Args:
        loop: The loop; one whose rounds are dear sleeps as ever, and so does one on a single processor,
            which the server may need.
    """

    __slots__ = ("_is_of_use", "_is_up", "_loop", "_misses", "_passes", "_until")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._is_of_use = _processors() > 1
        self._is_up = False
        self._until = 0.0
        self._misses = 0
        self._passes = 0

    def begin(self) -> None:
        """Stay awake from now on, if that was of use before."""
        if not self._is_of_use:
            return
        if self._passes:
            self._passes -= 1
            return
        self._until = monotonic() + PATIENCE
        if not self._is_up:
            self._is_up = self._is_of_use = self._loop.next_round(self._round)

    def end(self) -> None:
        """Stay awake no longer: there is news."""
        if self._until:
            self._until = 0.0
            self._misses = 0

    def _round(self) -> None:
        """Look once more, in each round of the loop."""
        self._is_up = False
        if not self._until:
            return
        _yield()
        if monotonic() < self._until:
            self._is_up = self._loop.next_round(self._round)
            return
        self._until = 0.0
        self._misses = min(self._misses + 1, DOUBLINGS)
        self._passes = 2**self._misses


_yield: Final[Callable[[], object]] = getattr(os, "sched_yield", int)
"""Lets others onto the processor; without it six workers on two processors did a tenth less awake."""


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
