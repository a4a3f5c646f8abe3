"""A coroutine that a manager runs, and what comes of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from qanat import JobCancelledError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Mapping

T = TypeVar("T")

_log = logging.getLogger("qanat")


class Task(Generic[T]):
    """An awaitable with metadata; await it, or call `wait`, for its result.

    Args:
        coro: What is awaited, once.
        metadata: Anything that belongs to it.

    Raises:
        TypeError: If it cannot be awaited.

    Attributes:
        coro: What is awaited.
        metadata: What belongs to it.
    """

    __slots__ = ("_began", "_begin", "_error", "_future", "_is_done", "_result", "coro", "metadata")

    def __init__(self, coro: Awaitable[T], metadata: Mapping[str, Any] | None = None) -> None:
        if not inspect.isawaitable(cast("object", coro)):
            raise TypeError(f"coro must be awaitable, such as a coroutine, got {coro!r}")
        self.coro: Awaitable[T] = coro
        self.metadata: dict[str, Any] = {} if metadata is None else dict(metadata)
        self._future: asyncio.Future[None] | None = None
        self._result: T | None = None
        self._error: BaseException | None = None
        self._began = False
        self._is_done = False
        # What is called when somebody waits, for a manager that was not started.
        self._begin: Callable[[], object] | None = None

    def done(self) -> bool:
        """Return whether it has ended, well or not."""
        return self._is_done

    def result(self) -> T:
        """Return the result, or raise the error.

        Raises:
            InvalidStateError: If it has not ended.
        """
        if not self._is_done:
            raise asyncio.InvalidStateError("the task has not ended")
        if self._error is not None:
            raise self._error
        return cast("T", self._result)

    async def run(self) -> T:
        """Await it now, unless that has been done, and return its result."""
        if not self._began:
            await self.execute()
        return await self.wait()

    async def wait(self) -> T:
        """Wait until it has ended; return its result or raise its error.

        Cancelling who waits does not cancel it.
        """
        if not self._is_done:
            if self._begin is not None:
                self._begin()
            if self._future is None:
                self._future = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._future)
        return self.result()

    def __await__(self) -> Generator[Any, Any, T]:
        """Wait until it has ended; return its result or raise its error."""
        return self.wait().__await__()

    async def execute(self) -> None:
        """Await it and keep what comes of it, whatever that is."""
        self._began = True
        try:
            self._result = await self.coro
        except asyncio.CancelledError as error:
            # Raised to who waits as it is, it would be taken for that one's own cancellation.
            self._error = JobCancelledError("the task was cancelled, or what it awaited")
            self._error.__cause__ = error
            raise
        except Exception as error:  # noqa: BLE001 - kept for who waits
            self._error = error
            if self._future is None:
                _log.error("a task failed, and nobody waits for it", exc_info=error)
        finally:
            self._is_done = True
            if self._future is not None and not self._future.done():
                self._future.set_result(None)
