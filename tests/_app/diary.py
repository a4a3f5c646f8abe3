"""Handlers that note what is called when, for tests on virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from qanat.testing import VirtualTime


class Diary:
    """What was called with what, and when it began and ended."""

    def __init__(self, time: VirtualTime) -> None:
        self._time = time
        self.began: list[tuple[Any, float]] = []
        self.ended: list[tuple[Any, float]] = []
        self.running = 0
        self.most = 0

    def taking(self, seconds: float) -> Callable[[Any], Awaitable[Any]]:
        """Return a handler that takes so long and returns its item."""

        async def handler(item: Any) -> Any:
            self.began.append((item, self._time.now()))
            self.running += 1
            self.most = max(self.most, self.running)
            try:
                await anyio.sleep(seconds)
            finally:
                self.running -= 1
            self.ended.append((item, self._time.now()))
            return item

        return handler

    def failing(self, errors: Sequence[BaseException | None]) -> Callable[[Any], Awaitable[Any]]:
        """Return a handler whose calls, counted together, fail with these errors; None is none."""
        left = list(errors)

        async def handler(item: Any) -> Any:
            self.began.append((item, self._time.now()))
            error = left.pop(0) if left else None
            if error is not None:
                raise error
            return item

        return handler

    @property
    def items(self) -> list[Any]:
        """The items in the order in which they were begun."""
        return [item for item, _ in self.began]

    @property
    def times(self) -> list[float]:
        """When the calls began."""
        return [at for _, at in self.began]
