"""aqute's bare flow: tasks in, tasks out."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, cast

import qanat
from qanat import Pool, Retry
from qanat.compat.aqute._attempts import Attempts
from qanat.compat.aqute._line import Line
from qanat.compat.aqute.task import END_MARKER, AquteTask, TData, TResult, renamed

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from qanat import Outcome
    from qanat.compat.aqute.ratelimiter import RateLimiter
    from qanat.compat.aqute.task import AquteTaskQueueType


class Foreman(Generic[TData, TResult]):
    """Run tasks with so many workers, without retries unless a filter asks for them.

    The tasks that come out are the very ones that went in, with `result` or `error` set.

    Args:
        handle_coro: A coroutine function of one item.
        workers_count: How many attempts run at once; at least 1.
        rate_limiter: What an attempt waits for, as in `Aqute`.
        input_task_queue_size: How many tasks may wait after the start; 0 or less is any number.
        use_priority_queue: Begin with the smallest priority.
        task_timeout_seconds: Seconds for one attempt.
        output_task_queue_size: How many results may wait; a full queue stops the workers. 0 or less is
            any number.
        retry_filter: Whether a task that failed is tried again: a function of the task, with its error.
        retry_delay: Seconds before that: a function of the number of the attempt and its error.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If `workers_count` is less than 1.
    """

    def __init__(
        self,
        handle_coro: Callable[[TData], Coroutine[Any, Any, TResult]],
        workers_count: int,
        rate_limiter: RateLimiter | None = None,
        input_task_queue_size: int = 0,
        use_priority_queue: bool = False,
        task_timeout_seconds: float | None = None,
        *,
        output_task_queue_size: int = 0,
        retry_filter: Callable[[AquteTask[TData, TResult]], bool] | None = None,
        retry_delay: Callable[[int, Exception], float] | None = None,
    ) -> None:
        self._retry_filter = retry_filter
        self._retry_delay = retry_delay
        self._delay = 0.0
        self._attempts = Attempts(handle_coro, workers_count, rate_limiter, task_timeout_seconds)
        self._most = max(0, input_task_queue_size)
        self._by_priority = use_priority_queue
        self._most_out = max(0, output_task_queue_size)
        self._rules = qanat.Rules()
        if retry_filter is not None:
            retry = Retry(ALWAYS, when=self._may_retry, backoff=lambda _attempt: self._delay)
            self._rules = qanat.Rules(retry=retry)
        self.reset()

    def start(self) -> None:
        """Start the workers, once until they are stopped.

        Raises:
            RuntimeError: If no event loop runs.
        """
        if self._line.load is None:
            self._line.start()

    async def add_task(self, task: AquteTask[TData, TResult]) -> None:
        """Add a task, waiting for room after the start.

        Raises:
            AquteError: If the workers have ended.
        """
        await self._line.add(task)

    async def get_handled_task(self) -> AquteTask[TData, TResult]:
        """Return the next task that has ended, waiting for it.

        Raises:
            AquteError: If none is left and the workers have ended.
        """
        return await self._line.take()

    async def get_handeled_task(self) -> AquteTask[TData, TResult]:
        """Do as `get_handled_task`, by its older name."""
        return await self.get_handled_task()

    async def finalize(self) -> None:
        """Wait until all tasks have ended, and make all ready to start anew; take the results before."""
        if self._line.load is None:
            return
        self._line.close()
        try:
            await self._line.wait(cancelled=None)
        finally:
            self.reset()

    async def stop(self) -> None:
        """Cancel what is left, wait until nothing runs, and make all ready to start anew."""
        try:
            await self._line.stop()
        finally:
            self.reset()

    def reset(self) -> None:
        """Forget all tasks and results; to be called when no workers run."""
        results: AquteTaskQueueType[TData, TResult] = asyncio.Queue(self._most_out)
        self._line = Line(
            self._attempts, self._rules, fill,
            results=results, most=self._most, by_priority=self._by_priority,
        )  # fmt: skip

    @property
    def out_queue(self) -> AquteTaskQueueType[TData, TResult]:
        """The queue of tasks that have ended."""
        return self._line.results

    def _may_retry(self, error: BaseException, attempt: int) -> bool:
        """Whether the filter wants another attempt, and note after which delay: it is asked for next."""
        item: object = qanat.current_job().item
        task = cast("AquteTask[TData, TResult]", item)
        task.error = renamed(error, task.task_id)
        task._remaining_tries -= 1
        if self._retry_filter is None or task.error is None or not self._retry_filter(task):
            return False
        if self._retry_delay is not None:
            self._delay = self._retry_delay(attempt, task.error)
        task.error = None
        return True


ALWAYS = 1_000_000_000
"""Retries of a task whose filter alone decides."""


def fill(task: AquteTask[TData, TResult], outcome: Outcome[Any, TResult]) -> None:
    """Put what came of a task into it."""
    task.result = outcome.value
    task.error = renamed(outcome.error, task.task_id)


class Worker(Generic[TData, TResult]):
    """Take tasks from one queue of your own and put them into another, one at a time.

    Args:
        name: What a rate limiter is told.
        handle_coro: A coroutine function of one item.
        input_q: Where tasks come from; one whose data is `END_MARKER` ends the worker.
        output_q: Where they go.
        rate_limiter: What an attempt waits for.
        task_timeout_seconds: Seconds for one attempt.
    """

    def __init__(
        self,
        name: str,
        handle_coro: Callable[[TData], Coroutine[Any, Any, TResult]],
        input_q: AquteTaskQueueType[TData, TResult],
        output_q: AquteTaskQueueType[TData, TResult],
        rate_limiter: RateLimiter | None = None,
        task_timeout_seconds: float | None = None,
    ) -> None:
        self.name: str = name
        self.handle_coro: Callable[[TData], Coroutine[Any, Any, TResult]] = handle_coro
        self.input_q: AquteTaskQueueType[TData, TResult] = input_q
        self.output_q: AquteTaskQueueType[TData, TResult] = output_q
        attempts = Attempts(handle_coro, 1, rate_limiter, task_timeout_seconds, names=(name,))
        self._pool: Pool[AquteTask[TData, TResult], TResult] = Pool(
            attempts.of_task, concurrency=1, limits=attempts.limits, timeout=attempts.timeout
        )

    async def run(self) -> None:
        """Handle tasks until one says that it is the last."""
        async with self._pool:
            while (task := await self.input_q.get()).data is not END_MARKER:
                await self._handle(task)

    async def handle_task(self, task: AquteTask[TData, TResult]) -> None:
        """Handle one task and put it into the output queue."""
        async with self._pool:
            await self._handle(task)

    async def _handle(self, task: AquteTask[TData, TResult]) -> None:
        fill(task, await self._pool.submit(task).outcome())
        await self.output_q.put(task)
