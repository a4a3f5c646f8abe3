"""The calls of werkpool: `from qanat.compat.werkpool import WorkerPool, worker_pool`."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import finalize

import qanat
from qanat import Inbox, JobCancelledError, Retry, SlidingWindow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from qanat import Limit, OutcomeStream

    _Call = tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any], float | None, Retry | None]
__all__ = ["WorkerPool", "worker_pool"]

T = TypeVar("T")

ANY = 1_000_000_000
"""Places in a pool without a size, and retries of the run: those of a call are counted for each."""


def wait_longer(attempts: int) -> float:
    """Return seconds to wait after so many attempts, twice as long each time, and up to one more."""
    return 2.0**attempts + random.uniform(0, 1)


class WorkerPool:
    """Call functions, so many at once and so many a second.

    Args:
        size: How many calls run at once; None is any number.
        rate: How many begin in a second, which may be a fraction: at most as many as its next whole number
            in any stretch of the time that so many take. None is any number.

    Raises:
        ValueError: If `size` is not a positive whole number, or `rate` not a positive number.
    """

    def __init__(self, size: int | None = None, rate: float | None = None) -> None:
        if size is not None and not (size > 0 and round(size) == size):
            raise ValueError(f"Size must be a positive integer or None, got {size!r}")
        if rate is not None and not 0 < rate < math.inf:
            raise ValueError(f"Rate must be a positive float or None, got {rate!r}")
        self.size: int | None = size
        self.rate: float | None = rate
        self._limits: tuple[Limit, ...] = ()
        if rate is not None:
            most = math.ceil(rate)
            self._limits = (SlidingWindow(most, most / rate),)
        self._is_accepting = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inbox: Inbox[_Call] = Inbox()
        self._open: set[asyncio.Future[Any]] = set()
        self._load: asyncio.Task[None] | None = None

    def run(
        self,
        task: Callable[[], Awaitable[T]],
        timeout: float | None = None,
        retries: int = 0,
        retryable_exceptions: Sequence[type[Exception]] = (Exception,),
        backoff: Callable[[int], float] = wait_longer,
    ) -> asyncio.Future[T]:
        """Have a function called, and return a future of what comes of it.

        A call whose future was cancelled before it began is left out.

        Args:
            task: A coroutine function without arguments.
            timeout: Seconds for one attempt, else a `TimeoutError`; 0 or less gives it no chance. None is
                unlimited.
            retries: How many more attempts it has.
            retryable_exceptions: The errors that are worth another attempt.
            backoff: Seconds before it: a function of how many attempts there were. The place in the pool
                is free meanwhile.

        Raises:
            RuntimeError: If the pool was shut down or killed, or no event loop runs.
            TypeError: If an argument is of the wrong kind.
            ValueError: If `retries` is less than 0, or `timeout` is NaN.
        """
        if not self._is_accepting:
            raise RuntimeError("WorkerPool has shutdown and not accepting new tasks.")
        loop = asyncio.get_running_loop()
        function: object = task
        if not callable(function):
            raise TypeError(f"task must be a function, got {task!r}: pass it, do not call it")
        if timeout is not None and math.isnan(timeout):
            raise ValueError(f"timeout must be a number, got {timeout!r}")
        # Checked as the rule of a run is.
        retry = Retry(retries, on=tuple(retryable_exceptions), backoff=backoff) if retries else None
        future: asyncio.Future[T] = loop.create_future()
        if loop is not self._loop:
            self._start(loop)
        self._open.add(future)
        # A plain tuple, as it is made for every call.
        self._inbox.add((task, future, timeout, retry))
        return future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to call, in the loop that runs: a new one each time that it is another."""
        self._loop = loop
        self._open = set()
        inbox: Inbox[_Call] = Inbox()
        self._inbox = inbox
        retrying = _Retrying()
        calls = _Calls(self._open)
        stream = qanat.stream(
            calls.run, inbox, only_failed=True,
            concurrency=ANY if self.size is None else int(self.size),
            limits=self._limits,
            retry=Retry(ANY, when=retrying.may_retry, backoff=retrying.delay),
        )  # fmt: skip
        self._load = load = loop.create_task(calls.serve(stream))
        load.add_done_callback(calls.cancel)
        # It knows nothing of the pool, so that one that nobody shuts down ends when it is forgotten.
        finalize(self, inbox.close)

    async def shutdown(self) -> None:
        """Take no more calls and wait until all have ended."""
        self._is_accepting = False
        self._inbox.close()
        if self._load is not None:
            await asyncio.wait((self._load,))

    async def kill(self) -> None:
        """Take no more calls, cancel those that wait and those that run, and wait until nothing runs."""
        self._is_accepting = False
        if self._load is not None:
            self._load.cancel("WorkerPool shutdown")
            await asyncio.wait((self._load,))


@asynccontextmanager
async def worker_pool(size: int | None = None, rate: float | None = None) -> AsyncGenerator[WorkerPool]:
    """Make a pool that is shut down when the block is left.

    Args:
        size: How many calls run at once; None is any number.
        rate: How many begin in a second; None is any number.

    Raises:
        ValueError: If `size` is not a positive whole number, or `rate` not a positive number.
    """
    pool = WorkerPool(size, rate)
    try:
        yield pool
    finally:
        await pool.shutdown()


class _Retrying:
    """The retries of all calls, each by its own rules."""

    def __init__(self) -> None:
        self._delay = 0.0

    def may_retry(self, error: BaseException, attempt: int) -> bool:
        """Whether to try again, and note after which delay: it is asked for next."""
        item: object = qanat.current_job().item
        _, _, _, retry = cast("_Call", item)
        if retry is None or not retry.allows(error, attempt):
            return False
        self._delay = cast("Callable[[int], float]", retry.backoff)(attempt)
        return True

    def delay(self, attempt: int) -> float:
        """Return the delay of the call that was asked for last."""
        return self._delay


class _Calls:
    """The calls of a pool that have not ended, as the futures of those who wait."""

    def __init__(self, open_calls: set[asyncio.Future[Any]]) -> None:
        self._open = open_calls

    async def run(self, call: _Call) -> None:
        """Call a function and tell who waits."""
        function, future, timeout, _ = call
        if future.done():
            self._open.discard(future)
            return
        if timeout is None:
            value = await function()
        elif timeout > 0:
            async with asyncio.timeout(timeout):
                value = await function()
        else:
            raise TimeoutError
        self._open.discard(future)
        if not future.done():
            future.set_result(value)

    async def serve(self, stream: OutcomeStream[_Call, None]) -> None:
        """Run calls until no more come; tell who waits for one that failed."""
        async with stream as outcomes:
            async for outcome in outcomes:
                (_, future, _, _), error = outcome.item, outcome.error
                self._open.discard(future)
                if error is None or future.done():
                    continue
                if isinstance(error, asyncio.CancelledError):
                    # Raised as it is, it would be taken for the cancellation of whoever awaits.
                    cancelled = JobCancelledError("the task awaited something that was cancelled elsewhere")
                    cancelled.__cause__ = error
                    future.set_exception(cancelled)
                else:
                    future.set_exception(error)

    def cancel(self, load: asyncio.Task[None]) -> None:
        """Cancel what nobody calls any more."""
        for future in self._open:
            future.cancel("WorkerPool shutdown")
        self._open.clear()
