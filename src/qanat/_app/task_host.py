"""An engine hosted in a task of its own, to be entered and left in any task."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from qanat._engine.bell import Bell

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from qanat._engine.engine import Engine
    from qanat._engine.loop import Spot


class TaskHost:
    """Hold an engine's task group open in a task that nobody else's scopes and groups surround.

    So a Pool may be opened in one task and closed in another, or inside of a timeout: a task group
    must be left in the very task, and the very order of scopes, in which it was entered.
    """

    def __init__(self, host: AbstractAsyncContextManager[None], engine: Engine) -> None:
        self._host = host
        self._engine = engine
        self._done = False
        self._problem: BaseException | None = None
        self._ended = Bell(engine.loop)
        self._over = engine.loop.spot()

    def leave(self) -> None:
        """Leave the engine's task group whether or not it is over, which cancels what is left."""
        self._over.wake()

    async def __aenter__(self) -> None:
        """Start the task and wait until the engine is open."""
        ready = self._engine.loop.spot()
        self._engine.loop.spawn(lambda: self._run(ready))
        try:
            await ready.wait()
        except BaseException as error:
            self._engine.cancel()
            await self.__aexit__(type(error), error, None)
            raise
        if self._problem is not None:
            raise self._problem

    async def _run(self, ready: Spot) -> None:
        try:
            async with self._host:
                ready.wake()
                if not self._engine.over:
                    self._engine.when_over(self._over.wake)
                    await self._over.wait()
        except BaseException as error:
            self._problem = error
            if isinstance(error, self._engine.cancellation):
                raise
        finally:
            self._done = True
            ready.wake()
            self._ended.ring()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait until nothing runs any more, however often the caller is cancelled meanwhile."""
        cancellation = self._engine.cancellation
        interruption: BaseException | None = None
        while not self._done:
            try:
                with anyio.CancelScope(shield=interruption is not None):
                    await self._ended.wait()
            except cancellation as caught:
                interruption = caught
                self._engine.cancel()
        problem = self._problem
        if problem is not None and not isinstance(problem, cancellation):
            raise problem
        if interruption is not None and not isinstance(error, cancellation):
            raise interruption
