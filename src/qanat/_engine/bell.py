"""A bell: wakes all who wait for it at the time it rings, and nobody who comes later."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qanat._engine.loop import Loop, Spot


class Bell:
    """Let any number of tasks of one event loop wait for the next ring.

    All of them are woken, so that none is forgotten because another one was cancelled meanwhile:
    who is woken looks again whether what it waits for is there.

    Attributes:
        spots: Where they wait.
    """

    __slots__ = ("_loop", "spots")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.spots: list[Spot] = []

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self.spots)

    async def wait(self) -> None:
        """Wait for the next ring."""
        spot = self._loop.spot()
        self.spots.append(spot)
        try:
            await spot.wait()
        finally:
            if spot in self.spots:  # it rang for nobody: the wait was cancelled
                self.spots.remove(spot)

    def ring(self) -> None:
        """Wake all who wait; in the loop's thread."""
        spots, self.spots = self.spots, []
        for spot in spots:
            spot.wake()
