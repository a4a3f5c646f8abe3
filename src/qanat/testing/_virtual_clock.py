"""Virtual time without an event loop: a number, the stops on its way, and when it may move.

The halves for asyncio and trio ask `move_on` whenever all their tasks are blocked and nothing
can be read or written; the answer is the same arithmetic for both. Three things must stay true:

- The time is only ever set to a deadline or a stop as it was given, never to a sum made here,
  so that tests may compare times with `==`.
- A stop (the end of an `advance`) comes after every timer due at the same instant.
- `outside` is read *before* the loop looks for events. Work outside ends only after its result
  was handed to the loop, so a zero read before the look means that the look found the result.
"""

from __future__ import annotations

import enum
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# Real seconds in which a sign of life may still come before a wait is called a deadlock:
# when nothing is known that could give one, and when sockets, pipes or processes are open.
GRACE = 0.1
PATIENCE = 10.0


class Move(enum.Enum):
    """What a loop does now that all its tasks are blocked."""

    JUMPED = "the time has moved: run what is due"
    WAIT = "work outside goes on: wait for real events"
    STUCK = "there is nothing to move to"


@dataclass(eq=False, frozen=True, slots=True)
class Stop:
    """A time at which to halt: the end of one `advance`."""

    at: float
    reached: Callable[[], object]
    wait_outside: bool


class VirtualClock:
    """Tell a time that moves only when a loop moves it; begins at 0.0."""

    precision: float = 0.0
    seed: int | None = 0

    def __init__(self, wall: float) -> None:
        """Begin at 0.0.

        Args:
            wall: UTC seconds since 1970 at the beginning.
        """
        self._now = 0.0
        self._wall_at_start = wall
        self._stops: list[Stop] = []
        self._outside = 0
        self._lock = threading.Lock()
        self._wake: Callable[[], object] | None = None

    def now(self) -> float:
        """Return the seconds since the beginning."""
        return self._now

    def wall(self) -> float:
        """Return UTC seconds since 1970, as far on as `now`."""
        return self._wall_at_start + self._now

    async def sleep(self, seconds: float) -> None:
        """Wait so many virtual seconds; the loop's own sleep is virtual already."""
        await anyio.sleep(seconds)

    def work_outside_began(self) -> None:
        """Stand still from now on; from any thread."""
        with self._lock:
            self._outside += 1

    def work_outside_ended(self) -> None:
        """Take back one `work_outside_began`, once its result is with the loop; from any thread.

        Raises:
            RuntimeError: If it was called more often than the other.
        """
        with self._lock:
            if not self._outside:
                raise RuntimeError("work_outside_ended was called more often than work_outside_began")
            self._outside -= 1
            wake = self._wake
        if wake is not None:
            wake()

    @property
    def outside(self) -> int:
        """How many pieces of work go on in threads and processes."""
        return self._outside

    @property
    def is_running(self) -> bool:
        """Whether a loop runs on this clock."""
        return self._wake is not None

    @contextmanager
    def running(self, wake: Callable[[], object]) -> Generator[None]:
        """Be moved by a loop in the body.

        Args:
            wake: Makes the loop look again, from any thread, also when it has just ended.
        """
        self._wake = wake
        try:
            yield
        finally:
            self._wake = None

    @contextmanager
    def stopping_at(self, stop: Stop) -> Generator[None]:
        """Halt at a stop, should it be reached in the body."""
        self._stops.append(stop)
        try:
            yield
        finally:
            if stop in self._stops:
                self._stops.remove(stop)

    def move_on(self, deadline: float, outside: int) -> Move:
        """Decide what comes next for a loop whose tasks are all blocked, and jump there.

        Args:
            deadline: The loop's earliest timer; inf if it has none.
            outside: How much work went on outside when the loop last looked for events.
        """
        if outside and all(stop.wait_outside for stop in self._stops):
            return Move.WAIT
        stop = min(self._stops, key=lambda stop: stop.at, default=None)
        if stop is not None and stop.at < deadline:
            self._now = max(self._now, stop.at)
            self._stops.remove(stop)
            stop.reached()
            return Move.JUMPED
        if deadline < inf:
            self._now = max(self._now, deadline)
            return Move.JUMPED
        return Move.WAIT if outside else Move.STUCK
