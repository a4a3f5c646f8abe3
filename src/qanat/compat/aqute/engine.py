"""aqute's engine, over a `Pool` and over `stream`."""

from __future__ import annotations

import asyncio
import math
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, Any, Generic, Self, cast

import qanat
from qanat import Retry, StartTimeoutError, constant
from qanat.compat.aqute._attempts import Attempts
from qanat.compat.aqute._line import Line, came_too_late
from qanat.compat.aqute.errors import AquteError, AquteTooManyTasksFailedError
from qanat.compat.aqute.task import AquteCounters, AquteTask, TData, TResult, renamed

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
    from types import TracebackType

    from qanat import Outcome
    from qanat.compat.aqute.ratelimiter import RateLimiter
    from qanat.compat.aqute.task import AquteTaskQueueType

    Errors = tuple[type[Exception], ...] | type[Exception]


class Aqute(Generic[TData, TResult]):
    """Run a handler over items, with workers, retries, a rate and results as values.

    Args:
        handle_coro: A coroutine function of one item.
        workers_count: How many attempts run at once; at least 1.
        rate_limiter: What an attempt waits for: one of `ratelimiter`, before it has a worker, or any
            object with an `acquire`, which holds its worker meanwhile.
        result_queue: Where results are put; a full one stops the engine until there is room. None is
            a queue without bounds.
        retry_count: How many more attempts a task has; less than 0 is none.
        retry_delay: Seconds before another attempt: a function of the number of the attempt that failed,
            from 1, and its error. The worker is free meanwhile. None is at once.
        specific_errors_to_retry: The errors that are worth another attempt; None is all.
        errors_to_not_retry: Those of them that are not.
        start_timeout_seconds: Seconds in which a first task has to be added after the start.
        input_task_queue_size: How many tasks may wait while the engine runs; None, 0 or less is any
            number. Before the start any number is taken.
        use_priority_queue: Begin with the smallest `task_priority`; equal ones in their order.
        task_timeout_seconds: Seconds for one attempt; 0 or less gives the handler no chance.
        total_failed_tasks_limit: How many tasks have to fail for the run to fail.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If `workers_count` is less than 1, or a number is NaN.

    Attributes:
        result_queue: The queue of results.
    """

    def __init__(
        self,
        handle_coro: Callable[[TData], Coroutine[Any, Any, TResult]],
        workers_count: int,
        *,
        rate_limiter: RateLimiter | None = None,
        result_queue: AquteTaskQueueType[TData, TResult] | None = None,
        retry_count: int = 0,
        retry_delay: Callable[[int, Exception], float] | None = None,
        specific_errors_to_retry: Errors | None = None,
        errors_to_not_retry: Errors | None = None,
        start_timeout_seconds: float | None = None,
        input_task_queue_size: int | None = None,
        use_priority_queue: bool = False,
        task_timeout_seconds: float | None = None,
        total_failed_tasks_limit: int | None = None,
    ) -> None:
        self._attempts = Attempts(handle_coro, workers_count, rate_limiter, task_timeout_seconds)
        if start_timeout_seconds is not None and math.isnan(start_timeout_seconds):
            raise ValueError(f"start_timeout_seconds must be a number, got {start_timeout_seconds!r}")
        self._start_within = start_timeout_seconds
        self._most_failed = total_failed_tasks_limit
        self._never_again = () if errors_to_not_retry is None else errors_to_not_retry
        self._again_on = (Exception,) if specific_errors_to_retry is None else specific_errors_to_retry
        for name, errors in (
            ("specific_errors_to_retry", self._again_on),
            ("errors_to_not_retry", self._never_again),
        ):
            _check_errors(name, errors)
        self._retry_delay = retry_delay
        self._delay = 0.0
        self.result_queue: AquteTaskQueueType[TData, TResult] = (
            asyncio.Queue() if result_queue is None else result_queue
        )
        self._line = Line(
            self._attempts,
            qanat.Rules(retry=self._make_retry(max(0, retry_count))),
            self._end,
            results=self.result_queue,
            most=0 if input_task_queue_size is None else max(0, input_task_queue_size),
            by_priority=use_priority_queue,
        )
        self._stream: qanat.OutcomeStream[TData, TResult] | None = None
        self._batch: asyncio.Future[qanat.Outcomes[TData, TResult]] | None = None
        self._attempts.succeeded = self._next_id = self._failed = self._retried = 0

    # --- retries and ends ------------------------------------------------------------------------

    def _make_retry(self, times: int) -> Retry:
        if self._again_on == (Exception,) and not self._never_again and self._retry_delay is None:
            return Retry(times, backoff=constant(0))
        return Retry(times, when=self._may_retry, backoff=lambda _attempt: self._delay)

    def _may_retry(self, error: BaseException, attempt: int) -> bool:
        """Whether to try again, and note after which delay: it is asked for next."""
        found = renamed(error, str(qanat.current_job().id))
        if found is None or isinstance(found, self._never_again) or not isinstance(found, self._again_on):
            return False
        if self._retry_delay is not None:
            self._delay = self._retry_delay(attempt, found)
        return True

    def _end(self, task: AquteTask[TData, TResult], outcome: Outcome[Any, TResult]) -> None:
        """Put what came of a task into it, and stop the run if too many failed."""
        self._retried += outcome.attempts - 1
        if outcome.error is None:
            task.result = outcome.value
            task.success = True
            return
        task.error = renamed(outcome.error, task.task_id)
        self._failed += 1
        if self._most_failed is not None and self._failed >= self._most_failed:
            self._line.problem = AquteTooManyTasksFailedError(
                f"Total failed tasks limit reached: {self._most_failed}"
            )

    # --- life ------------------------------------------------------------------------------------

    @property
    def aiotask_of_run_load(self) -> asyncio.Task[None] | None:
        """The task that runs the engine; None before the start and after `stop`."""
        return self._line.load

    @property
    def counters(self) -> AquteCounters:
        """How many tasks of this run are where."""
        running = self._attempts.running
        pending = max(0, self._line.left - running)
        return AquteCounters(pending, running, self._attempts.succeeded, self._failed, self._retried)

    def start(self) -> asyncio.Task[None]:
        """Start the engine, once until `stop`, and return the task that runs it.

        Raises:
            RuntimeError: If no event loop runs.
        """
        if self._line.load is None:
            self._line.start(within=self._start_within)
        return cast("asyncio.Task[None]", self._line.load)

    def set_all_tasks_added(self) -> None:
        """Let the run end when all tasks that were added have ended."""
        self._line.close()

    async def wait_till_end(self) -> None:
        """Let the run end when all tasks that were added have ended, and wait for that.

        Raises:
            AquteError: If the engine was not started or was cancelled, or no task came in time.
            AquteTooManyTasksFailedError: If too many tasks failed.
        """
        if self._line.load is None:
            raise AquteError("Cannot wait for not started load")
        self.set_all_tasks_added()
        await self._line.wait(cancelled=AquteError("Load was cancelled; call stop first"))

    async def start_and_wait(self) -> None:
        """Start the engine and wait until all tasks that were added have ended."""
        self.start()
        await self.wait_till_end()

    async def stop(self) -> None:
        """Cancel what is left, wait until nothing runs, and make the engine ready to start anew.

        Results that were put stay in the queue.

        Raises:
            AquteError: If the run had failed.
        """
        stream, self._stream = self._stream, None
        batch, self._batch = self._batch, None
        try:
            if batch is not None:
                batch.cancel()
                await asyncio.wait((batch,))
            if stream is not None:
                await stream.__aexit__(None, None, None)
            await self._line.stop()
        finally:
            self._reset()

    def _reset(self) -> None:
        self._line.reset()
        self._attempts.succeeded = self._next_id = self._failed = self._retried = 0

    async def __aenter__(self) -> Self:
        """Start the engine."""
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the engine."""
        await self.stop()

    # --- tasks and results -----------------------------------------------------------------------

    async def add_task(
        self, task_data: TData, task_id: str | None = None, task_priority: int = 1_000_000
    ) -> str:
        """Add an item, before the start or while the engine runs, and return its id.

        Args:
            task_data: What the handler is called with.
            task_id: Its id; None or an empty text is the number of ids given before.
            task_priority: Smaller is first, with `use_priority_queue`.

        Raises:
            AquteError: If the run has ended: call `stop` first.
            AquteTooManyTasksFailedError: If too many tasks failed.
        """
        known = task_id or str(self._next_id)
        self._next_id += 1
        await self._line.add(AquteTask(task_data, known, _priority=task_priority))
        return known

    async def get_task_result(self) -> AquteTask[TData, TResult]:
        """Return the next result, waiting for it, also for the start of the engine.

        Raises:
            AquteError: If none is left and the run has ended.
        """
        return await self._line.take()

    async def get_result(self) -> AquteTask[TData, TResult]:
        """Return the next result, waiting for it while the engine runs.

        Raises:
            AquteError: If none is left and the run has ended, or was not started.
        """
        if self._line.load is None and self.result_queue.empty():
            raise AquteError("Cannot get task result without started load")
        return await self._line.take()

    def extract_all_results(self) -> list[AquteTask[TData, TResult]]:
        """Return the results that are there, without waiting."""
        found: list[AquteTask[TData, TResult]] = []
        while not self.result_queue.empty():
            found.append(self.result_queue.get_nowait())
        return found

    # --- whole inputs ----------------------------------------------------------------------------

    async def apply_to_each(
        self, tasks_data: Iterable[TData] | AsyncIterable[TData]
    ) -> AsyncGenerator[AquteTask[TData, TResult]]:
        """Run the handler over items and give the results as they come.

        Items are read as there is room. Leaving early cancels the rest when the generator is closed.

        Raises:
            AquteError: If the engine was started, or tasks were added to it.
            AquteTooManyTasksFailedError: If too many tasks failed.
        """
        async with aclosing(self._each(tasks_data, ordered=False)) as tasks:
            async for task in tasks:
                yield task

    async def apply_to_all(
        self, tasks_data: Iterable[TData] | AsyncIterable[TData]
    ) -> list[AquteTask[TData, TResult]]:
        """Run the handler over items and return all results in the order of the items.

        Raises:
            AquteError: If the engine was started, or tasks were added to it.
            AquteTooManyTasksFailedError: If too many tasks failed.
        """
        if self._most_failed is not None:
            async with aclosing(self._each(tasks_data, ordered=True)) as tasks:
                return [task async for task in tasks]
        self._check_fresh()
        batch = self._batch = asyncio.ensure_future(self._line.collect(tasks_data, within=self._start_within))
        caller = asyncio.current_task()
        before = 0 if caller is None else caller.cancelling()
        try:
            outcomes = await batch
        except asyncio.CancelledError:
            if caller is not None and caller.cancelling() > before:
                raise
            raise AquteError("Load was cancelled; call stop first") from None
        except StartTimeoutError as error:
            raise came_too_late(self._start_within) from error
        finally:
            if self._batch is batch:
                self._batch = None
                self._reset()
        found: list[AquteTask[TData, TResult]] = []
        for outcome in outcomes:
            task_id, failure = str(outcome.id), outcome.error
            if failure is None:
                found.append(AquteTask(outcome.item, task_id, outcome.value, None, True))
            else:
                found.append(AquteTask(outcome.item, task_id, None, renamed(failure, task_id)))
        return found

    def _check_fresh(self) -> None:
        if (
            self._line.load is not None
            or self._line.added
            or self._stream is not None
            or self._batch is not None
        ):
            raise AquteError(
                "the engine was started, or tasks were added to it: wait for its end and call stop first, "
                "or make another engine"
            )

    async def _each(
        self, items: Iterable[TData] | AsyncIterable[TData], *, ordered: bool
    ) -> AsyncGenerator[AquteTask[TData, TResult]]:
        self._check_fresh()
        stream = self._stream = self._line.stream_of(items, ordered=ordered, within=self._start_within)
        try:
            async with stream as outcomes:
                async for outcome in outcomes:
                    if outcome.state == "cancelled":
                        continue
                    task: AquteTask[TData, TResult] = AquteTask(outcome.item, str(outcome.id))
                    self._end(task, outcome)
                    yield task
                    if self._line.problem is not None:
                        raise self._line.problem
            if self._stream is not stream:
                raise AquteError("Load was cancelled; call stop first")
        except StartTimeoutError as error:
            raise came_too_late(self._start_within) from error
        finally:
            if self._stream is stream:
                self._stream = None
                self._reset()

    # --- the names of later versions ----------------------------------------------------------------

    def finish_submitting(self) -> None:
        """Do as `set_all_tasks_added`."""
        self.set_all_tasks_added()

    async def finish(self) -> None:
        """Do as `wait_till_end`."""
        await self.wait_till_end()

    async def run(self) -> None:
        """Do as `start_and_wait`."""
        await self.start_and_wait()

    def drain_results(self) -> list[AquteTask[TData, TResult]]:
        """Do as `extract_all_results`."""
        return self.extract_all_results()

    def iter_results(
        self, tasks_data: Iterable[TData] | AsyncIterable[TData], *, submission_batch_size: int = 1
    ) -> AbstractAsyncContextManager[AsyncIterator[AquteTask[TData, TResult]]]:
        """Do as `apply_to_each`, in a block that cancels the rest when it is left.

        Args:
            tasks_data: The items.
            submission_batch_size: Checked; items are read as there is room, whatever it says.

        Raises:
            ValueError: If `submission_batch_size` is not a whole number of at least 1.
        """
        if not isinstance(cast("object", submission_batch_size), int) or submission_batch_size < 1:
            raise ValueError(
                f"submission_batch_size must be a positive integer, got {submission_batch_size!r}"
            )
        return aclosing(self._each(tasks_data, ordered=False))

    async def process_all(
        self, tasks_data: Iterable[TData] | AsyncIterable[TData], *, submission_batch_size: int = 1
    ) -> list[AquteTask[TData, TResult]]:
        """Do as `apply_to_all`; `submission_batch_size` is checked only."""
        async with self.iter_results(tasks_data, submission_batch_size=submission_batch_size) as results:
            found = [task async for task in results]
        found.sort(key=lambda task: int(task.task_id))
        return found


def _check_errors(name: str, errors: object) -> None:
    classes = cast("tuple[object, ...]", errors) if isinstance(errors, tuple) else (errors,)
    if not all(isinstance(each, type) and issubclass(each, BaseException) for each in classes):
        raise TypeError(f"{name} must be an exception class or a tuple of them, got {errors!r}")
