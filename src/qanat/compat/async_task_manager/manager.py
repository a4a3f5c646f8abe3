"""The manager: a run whose input is an `Inbox`, under the rules that its strategy is.

A strategy of the user's own is asked one task at a time, as its documentation says. Nobody asks while
it has no tasks, so a manager that has nothing to do costs nothing.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

import qanat
from qanat import Inbox, Rules
from qanat.compat.async_task_manager.strategies.base import ANY, BaseStrategy, LimitStrategy
from qanat.compat.async_task_manager.strategies.concurrent_limit import ConcurrentLimitStrategy
from qanat.compat.async_task_manager.strategies.delayed import DelayedStrategy
from qanat.compat.async_task_manager.strategies.fixed_window import FixedWindowStrategy
from qanat.compat.async_task_manager.task import Task

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

T = TypeVar("T")

OURS = (ConcurrentLimitStrategy, DelayedStrategy, FixedWindowStrategy)


class TaskManager:
    """Run tasks when a strategy lets them.

    Args:
        strategy: When tasks begin.
        poll_interval: Seconds after which a strategy of your own is asked again if it has tasks and does
            not say when; greater than 0.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If `poll_interval` is not greater than 0, or not finite.
    """

    def __init__(self, strategy: BaseStrategy, poll_interval: float = 0.01) -> None:
        if not 0 < poll_interval < math.inf:
            raise ValueError(f"poll_interval must be greater than 0.0, got {poll_interval}")
        if not isinstance(cast("object", strategy), BaseStrategy):
            raise TypeError(f"strategy must be a BaseStrategy, got {strategy!r}")
        self.strategy: BaseStrategy = strategy
        self.poll_interval: float = poll_interval
        self._rules = strategy.rules if isinstance(strategy, LimitStrategy) else Rules(concurrency=ANY)
        # One of ours that nobody has made another class from is its rules, and need not be asked.
        is_ours = isinstance(strategy, LimitStrategy) and type(strategy) in OURS
        self._own = None if is_ours else strategy
        self._waiting: dict[Task[Any], None] = {}
        self._running = 0
        self._inbox: Inbox[Task[Any]] = Inbox()
        self._load: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._changed = asyncio.Event()

    # --- tasks -----------------------------------------------------------------------------------

    def add_task(self, coro: Awaitable[T], metadata: Mapping[str, Any] | None = None, **more: Any) -> Task[T]:
        """Add a task, before or while the manager runs; it need not be awaited.

        Awaiting what this returns gives the task's result, and starts a manager that does not run.

        Args:
            coro: A coroutine or another awaitable.
            metadata: Anything that belongs to the task.
            **more: More of that.

        Raises:
            TypeError: If it cannot be awaited.
        """
        task: Task[T] = Task(coro, {**(metadata or {}), **more} if more else metadata)
        task._begin = self._start
        self._waiting[task] = None
        if self._own is not None:
            self._own.add_task(task)
            self._changed.set()
        elif self._load is not None:
            self._inbox.add(task)
        return task

    async def _run_task(self, task: Task[Any]) -> None:
        if self._is_stopping:
            return
        del self._waiting[task]
        self._running += 1
        try:
            await task.execute()
        finally:
            self._running -= 1
            self._changed.set()
            if self._own is not None:
                await self._own.on_task_done()
                self._changed.set()

    # --- life ------------------------------------------------------------------------------------

    def _start(self) -> asyncio.Task[None]:
        load = self._load
        if load is None or load.done():
            self._is_stopping = False
            self._inbox = Inbox()
            load = self._load = asyncio.get_running_loop().create_task(self._serve())
        return load

    async def run(self) -> None:
        """Run tasks until `stop` is called.

        Raises:
            Exception: What a strategy of your own raised.
        """
        load = self._start()
        try:
            await asyncio.wait((load,))
        except asyncio.CancelledError:
            load.cancel()
            await asyncio.wait((load,))
            raise
        if not load.cancelled():
            load.result()

    async def idle(self) -> None:
        """Run tasks in the background until `stop` is called."""
        self._start()

    async def stop(self) -> None:
        """Begin no more tasks, and wait for those that run; what waits is there for the next `run`.

        A task that stops its own manager does not wait.
        """
        load = self._load
        if load is None or load.done():
            return
        self._is_stopping = True
        self._changed.set()
        if self._is_called_by_a_task():
            load.get_loop().create_task(self._end(load))
            return
        await self._end(load)

    async def _end(self, load: asyncio.Task[None]) -> None:
        while self._running and not load.done():
            self._changed.clear()
            await self._changed.wait()
        load.cancel()
        await asyncio.wait((load,))

    def _is_called_by_a_task(self) -> bool:
        with suppress(LookupError):
            item: object = qanat.current_job().item
            return isinstance(item, Task)
        return False

    async def _serve(self) -> None:
        stream = qanat.stream(self._run_task, self._inbox, only_failed=True, rules=self._rules)
        if self._own is None:
            self._inbox.add_all(self._waiting)
        async with stream as failures:
            if self._own is not None:
                await self._ask(self._own)
            async for _ in failures:
                pass  # told to who waits for the task

    async def _ask(self, strategy: BaseStrategy) -> None:
        """Ask a strategy of the user's own which task begins when, until the manager is stopped."""
        while not self._is_stopping:
            self._changed.clear()
            task = strategy.get_next_task()
            if task is not None:
                self._waiting.setdefault(task)
                self._inbox.add(task)
            interval = await strategy.get_sleep_interval()
            if task is not None or (interval and self._has_tasks()):
                if interval is None:
                    continue
                await asyncio.sleep(interval)
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.poll_interval if self._has_tasks() else None):
                        await self._changed.wait()

    def _has_tasks(self) -> bool:
        """Whether the strategy has tasks that have not begun."""
        return bool(self._waiting)
