"""Room for those who put jobs where only so many may wait."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qanat._engine.engine import Engine
    from qanat._engine.loop import Spot


class Room:
    """How many more jobs may wait, and who waits to put one.

    While somebody does, it stands in the place of the engine's source: it is asked whenever a job was
    started. Whoever is woken has a place reserved until it has put its job.

    Args:
        engine: Where the jobs wait.
        most: How many may.
    """

    is_async = False
    needs_task = False
    tops_up = True
    is_empty = False

    def __init__(self, engine: Engine, most: int) -> None:
        """Begin with nobody waiting."""
        self._engine = engine
        self._most = most
        self._reserved = 0
        self.putters: deque[Spot] = deque()

    def is_full(self) -> bool:
        """Whether no more jobs may wait now."""
        dispatcher, keeper = self._engine.dispatcher, self._engine.keeper
        looked_up = 0 if keeper is None else keeper.waiting
        return dispatcher.waiting + dispatcher.scheduled + self._reserved + looked_up >= self._most

    async def wait(self) -> None:
        """Wait for room, or to be told that no more jobs are taken."""
        spot = self._engine.loop.spot()
        self.putters.append(spot)
        self._engine.take_from(self)
        try:
            await spot.wait()
        except BaseException:
            if spot in self.putters:
                self.putters.remove(spot)
            else:
                self._reserved -= 1
                self.let_put()
            raise
        if spot in self.putters:  # woken to be told that no more are taken
            self.putters.remove(spot)
        else:
            self._reserved -= 1

    def let_put(self) -> None:
        """Wake those who wait for room, as far as there is some."""
        while self.putters and not self.is_full():
            self._reserved += 1
            self.putters.popleft().wake()
        if not self.putters:
            self._engine.take_from(None)

    def tell_closed(self) -> None:
        """Wake those who wait, as no more jobs are taken."""
        for putter in self.putters:
            putter.wake()

    # --- in the place of a source ------------------------------------------------------------

    async def run(self) -> None:
        """Have nothing to read."""

    def pull(self) -> bool:
        """Hear that a job was started."""
        self.let_put()
        return False

    def close(self) -> None:
        """Have nothing to close."""
