"""One attempt of a handler, with what aqute puts around it."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Generic, cast

import qanat
from qanat.compat.aqute.ratelimiter import limits_of
from qanat.compat.aqute.task import AquteTask, TData, TResult, timed_out

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from qanat import Limit
    from qanat.compat.aqute.ratelimiter import RateLimiter


class Attempts(Generic[TData, TResult]):
    """The attempts of an engine's tasks.

    Attributes:
        workers: How many there may be at once.
        running: How many there are now.
        succeeded: How many ended well.
        limits: What holds back the jobs that make them.
        timeout: Seconds for one, if the run is to see to it.
        of_item: The handler for jobs whose item is the data of a task.
        of_task: The handler for jobs whose item is a task.
    """

    def __init__(
        self,
        handle: Callable[[TData], Coroutine[Any, Any, TResult]],
        workers: int,
        limiter: RateLimiter | None,
        timeout: float | None,
        names: tuple[str, ...] | None = None,
    ) -> None:
        if isinstance(workers, bool) or not isinstance(cast("object", workers), int) or workers < 1:
            raise ValueError(f"workers_count must be at least 1, got {workers!r}")
        if timeout is not None and math.isnan(timeout):
            raise ValueError(f"task_timeout_seconds must be a number, got {timeout!r}")
        if not callable(handle):
            raise TypeError(f"handle_coro must be a coroutine function, got {handle!r}")
        if limiter is not None and not callable(getattr(limiter, "acquire", None)):
            raise TypeError(f"rate_limiter must have an acquire method, got {limiter!r}")
        self.workers = workers
        self.running = 0
        self.succeeded = 0
        self._handle = handle
        names = names or tuple(f"worker_{number}" for number in range(workers))
        limits = limits_of(limiter, names)
        self.limits: tuple[Limit, ...] = limits or ()
        self.timeout = timeout if timeout is not None and 0 < timeout < math.inf else None
        self.of_item: Callable[[TData], Coroutine[Any, Any, TResult]] = self._item
        self.of_task: Callable[[AquteTask[TData, TResult]], Coroutine[Any, Any, TResult]] = self._task
        self._is_hopeless = timeout is not None and timeout <= 0
        self._limiter = None if limits is not None else limiter
        if self._is_hopeless or self._limiter is not None:
            self.of_item = self._special_item
            self.of_task = self._special
        if self._limiter is not None:
            # It waits inside of the attempt, and its time does not count as the handler's.
            self._names = list(reversed(names))
            self._inner_timeout, self.timeout = self.timeout, None

    async def _item(self, data: TData) -> TResult:
        self.running += 1
        try:
            result = await self._handle(data)
            self.succeeded += 1
            return result
        finally:
            self.running -= 1

    async def _task(self, task: AquteTask[TData, TResult]) -> TResult:
        self.running += 1
        try:
            result = await self._handle(task.data)
            self.succeeded += 1
            return result
        finally:
            self.running -= 1

    async def _special_item(self, data: TData) -> TResult:
        return await self._special(AquteTask(data, str(qanat.current_job().id)))

    async def _special(self, task: AquteTask[TData, TResult]) -> TResult:
        if self._is_hopeless:
            raise timed_out(task.task_id)
        name = self._names.pop()
        try:
            await cast("RateLimiter", self._limiter).acquire(name=name, task=task)
            if self._inner_timeout is None:
                return await self._task(task)
            limit = asyncio.timeout(self._inner_timeout)
            try:
                async with limit:
                    return await self._task(task)
            except TimeoutError as error:
                # The handler may have raised one of its own.
                if limit.expired():
                    raise timed_out(task.task_id) from error
                raise
        finally:
            self._names.append(name)
