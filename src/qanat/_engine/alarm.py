"""One alarm for an engine: rings once at the time last set, on the engine's own timeline.

Setting it costs a timer of the loop (about 1 us on asyncio) and no task, so a throttled run may
set it before every start.
"""

from __future__ import annotations

import asyncio
import math
import sys
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from qanat._core.ports import Clock


class Alarm(Protocol):
    """Something that rings once."""

    def set(self, at: float) -> None:
        """Ring at this time, and at no other set before."""
        ...

    def clear(self) -> None:
        """Do not ring."""
        ...


class AsyncioAlarm:
    """A timer of the running asyncio loop."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        """Take the running loop; `ring` is called in it."""
        self._loop = asyncio.get_running_loop()
        self._clock = clock
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        # asyncio's own loops count like the engine's clock, so a time is exactly that time. The
        # clock of uvloop has an origin of its own and whole milliseconds.
        is_uvloop = "uvloop" in type(self._loop).__module__
        self._same = not is_uvloop and abs(self._loop.time() - clock.now()) < 1.0

    def set(self, at: float) -> None:
        """Ring at this time, and at no other set before."""
        if self._timer is not None:
            self._timer.cancel()
        if self._same:
            self._timer = self._loop.call_at(at, self._ring)
        else:
            self._timer = self._loop.call_later(max(0.0, at - self._clock.now()), self._ring)

    def clear(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TrioAlarm:
    """A task that sleeps in a cancel scope whose deadline is moved."""

    def __init__(self, clock: Clock, ring: Callable[[], None], group: TaskGroup) -> None:
        """Start the task in the engine's group; it ends when the group is cancelled."""
        self._trio: Any = sys.modules["trio"]
        self._ring = ring
        # trio's clock has a random origin for each run, except on virtual time.
        self._offset: float = self._trio.current_time() - clock.now()
        if abs(self._offset) < 1e-9:
            self._offset = 0.0
        self._at = math.inf
        self._scope: Any = None
        group.start_soon(self._run)

    def set(self, at: float) -> None:
        """Ring at this time, and at no other set before."""
        self._at = at
        if self._scope is not None:
            self._scope.deadline = at + self._offset

    def clear(self) -> None:
        """Do not ring."""
        self.set(math.inf)

    async def _run(self) -> None:
        trio = self._trio
        while True:
            with trio.CancelScope(deadline=self._at + self._offset) as self._scope:
                await trio.sleep_forever()
            self._scope = None
            self._at = math.inf
            self._ring()
