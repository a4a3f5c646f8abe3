"""The calls of werkpool: `from qanat.compat.werkpool import WorkerPool, worker_pool`."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from weakref import finalize

import qanat
from qanat import Inbox, JobCancelledError, Retry, SlidingWindow

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from qanat import Limit, OutcomeStream

    _Open = dict[asyncio.Future[Any], "Callable[[], Awaitable[Any]] | _Ruled"]
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
        self._inbox: Inbox[asyncio.Future[Any]] = Inbox()
        # The calls that have not ended, as they are, unless they have rules of their own. A tuple for each
        # was a third of a burst: thousands of them were looked through for garbage, again and again.
        self._open: _Open = {}
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
        # Most have no rules of their own, and nothing is made for these but the future.
        call: Callable[[], Awaitable[Any]] | _Ruled = task
        if timeout is not None or retries:
            if timeout is not None and math.isnan(timeout):
                raise ValueError(f"timeout must be a number, got {timeout!r}")
            # Checked as the rule of a run is.
            retry = Retry(retries, on=tuple(retryable_exceptions), backoff=backoff) if retries else None
            call = _Ruled(task, timeout, retry)
        future: asyncio.Future[T] = loop.create_future()
        if loop is not self._loop:
            self._start(loop)
        self._open[future] = call
        self._inbox.add(future)
        return future

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to call, in the loop that runs: a new one each time that it is another."""
        self._loop = loop
        self._open = {}
        inbox: Inbox[asyncio.Future[Any]] = Inbox()
        self._inbox = inbox
        retrying = _Retrying(self._open)
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


class _Ruled(NamedTuple):
    """A call that has rules of its own.

    Attributes:
        function: What is called.
        timeout: Seconds for one attempt; None is unlimited.
        retry: Whether and when it has another attempt; None if it has none.
    """

    function: Callable[[], Awaitable[Any]]
    timeout: float | None
    retry: Retry | None


class _Retrying:
    """The retries of all calls, each by its own rules."""

    def __init__(self, open_calls: _Open) -> None:
        self._open = open_calls
        self._delay = 0.0

    def may_retry(self, error: BaseException, attempt: int) -> bool:
        """Whether to try again, and note after which delay: it is asked for next."""
        call = self._open.get(cast("asyncio.Future[Any]", qanat.current_job().item))
        retry = call.retry if isinstance(call, _Ruled) else None
        if retry is None or not retry.allows(error, attempt):
            return False
        self._delay = cast("Callable[[int], float]", retry.backoff)(attempt)
        return True

    def delay(self, attempt: int) -> float:
        """Return the delay of the call that was asked for last."""
        return self._delay


class _Calls:
    """The calls of a pool that have not ended, as the futures of those who wait."""

    def __init__(self, open_calls: _Open) -> None:
        self._open = open_calls

    async def run(self, future: asyncio.Future[Any]) -> None:
        """Call a function and tell who waits."""
        call = self._open[future]
        if future.done():
            del self._open[future]
            return
        if not isinstance(call, _Ruled):
            value = await call()
        elif call.timeout is None:
            value = await call.function()
        elif call.timeout > 0:
            async with asyncio.timeout(call.timeout):
                value = await call.function()
        else:
            raise TimeoutError
        del self._open[future]
        try:
            future.set_result(value)
        except asyncio.InvalidStateError:
            pass  # cancelled meanwhile, and what it came to is nobody's

    async def serve(self, stream: OutcomeStream[asyncio.Future[Any], None]) -> None:
        """Run calls until no more come; tell who waits for one that failed."""
        async with stream as outcomes:
            async for outcome in outcomes:
                future, error = outcome.item, outcome.error
                self._open.pop(future, None)
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
