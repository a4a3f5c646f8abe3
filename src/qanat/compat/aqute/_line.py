"""A run whose input is an `Inbox`, held by a task that puts what comes of it into a queue.

A queue that is full stops the run: a limit lets nothing more begin, and what has ended waits in the
stream until there is room, so nothing is lost.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Generic

import qanat
from qanat import Inbox, StartTimeoutError
from qanat.compat.aqute.errors import AquteError
from qanat.compat.aqute.task import AquteTask, TData, TResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable

    from qanat import Job, Outcome, Outcomes, OutcomeStream, Rules
    from qanat.compat.aqute._attempts import Attempts
    from qanat.compat.aqute.task import AquteTaskQueueType

ANY = 1_000_000_000
"""Room for any number of tasks to be chosen from."""
SOON = 1e-9
"""Seconds in place of a time to start within of 0 or less."""


class Line(Generic[TData, TResult]):
    """Take tasks before and while a run goes on, and put what comes of them into a queue.

    Attributes:
        results: The queue.
        load: The task that holds the run; None before the start.
        added: How many tasks were added.
        left: How many of them have not ended.
        problem: What the load is to end with.
    """

    def __init__(
        self,
        attempts: Attempts[TData, TResult],
        rules: Rules,
        end: Callable[[AquteTask[TData, TResult], Outcome[Any, TResult]], None],
        *,
        results: AquteTaskQueueType[TData, TResult],
        most: int = 0,
        by_priority: bool = False,
    ) -> None:
        self.results = results
        self._attempts = attempts
        self._end = end
        self._most = most
        self._by_priority = by_priority
        self._room = _Room()
        # A queue without bounds is never full, and what asks nothing is faster.
        limits = (*attempts.limits, self._room) if results.maxsize > 0 else attempts.limits
        self._rules = rules.replace(
            concurrency=attempts.workers, limits=limits, timeout=attempts.timeout
        )  # fmt: skip
        self.reset()

    def reset(self) -> None:
        """Begin anew; results that were put stay in the queue."""
        # What is read ahead to be chosen from waits as well.
        most = None if not self._most else 1 if self._by_priority else self._most
        self._inbox: Inbox[AquteTask[TData, TResult]] = Inbox(most=most)
        self.load: asyncio.Task[None] | None = None
        self.added = 0
        self.left = 0
        self.problem: Exception | None = None
        self._is_closing = False
        self._put = asyncio.Event()

    # --- life ------------------------------------------------------------------------------------

    def start(self, *, within: float | None = None) -> None:
        """Start the load.

        Raises:
            RuntimeError: If no event loop runs.
        """
        buffer = 1000
        if self._most or self._by_priority:
            buffer = self._most + self._attempts.workers if self._most else ANY
        rules = self._rules.replace(buffer=buffer, start_within=self._within(within))
        if self._by_priority:
            rules = rules.replace(order="priority", priority=priority_of)
        stream = qanat.stream(self._attempts.of_task, self._inbox, rules=rules)
        load = self.load = asyncio.get_running_loop().create_task(self._run(stream, within))
        load.add_done_callback(lambda _: self._put.set())

    def stream_of(
        self, items: Iterable[TData] | AsyncIterable[TData], *, ordered: bool, within: float | None
    ) -> OutcomeStream[TData, TResult]:
        """Return a run over items of its own, beside what is added."""
        rules = self._rules.replace(
            buffer=ANY if ordered else max(4 * self._attempts.workers, 100),
            start_within=self._within(within),
        )
        return qanat.stream(self._attempts.of_item, items, ordered=ordered, rules=rules)

    async def collect(
        self, items: Iterable[TData] | AsyncIterable[TData], *, within: float | None
    ) -> Outcomes[TData, TResult]:
        """Run items of their own, and return what came of them."""
        rules = self._rules.replace(start_within=self._within(within))
        return await qanat.collect(self._attempts.of_item, items, rules=rules)

    def _within(self, within: float | None) -> float | None:
        # What was added before the start has come in time.
        return None if within is None or within == math.inf or self.added else max(within, SOON)

    async def _run(
        self, stream: OutcomeStream[AquteTask[TData, TResult], TResult], within: float | None
    ) -> None:  # fmt: skip
        results, end, put = self.results, self._end, self._put
        try:
            async with stream as outcomes:
                async for outcome in outcomes:
                    if outcome.state == "cancelled":
                        continue
                    task = outcome.item
                    end(task, outcome)
                    if results.full():
                        self._room.close(True)
                        await results.put(task)
                        self._room.close(False)
                    else:
                        results.put_nowait(task)
                    put.set()
                    if self.problem is not None:
                        raise self.problem
                    self.left -= 1
                    if self._is_closing and not self.left:
                        self._inbox.close()
        except StartTimeoutError as error:
            raise came_too_late(within) from error
        finally:
            self._inbox.close()

    def close(self) -> None:
        """Let the load end when all that was added has ended."""
        self._is_closing = True
        if not self.left:
            self._inbox.close()

    async def stop(self) -> None:
        """Cancel what is left and wait for it.

        Raises:
            Exception: What the load ended with, if it was not cancelled.
        """
        if self.load is not None:
            self.load.cancel()
            await self.wait(cancelled=None)

    async def wait(self, *, cancelled: Exception | None) -> None:
        """Wait for the end of the load; if it was cancelled, raise this, if anything."""
        load, caller = self.load, asyncio.current_task()
        before = 0 if caller is None else caller.cancelling()
        try:
            if load is not None:
                await load
        except asyncio.CancelledError as error:
            if caller is not None and caller.cancelling() > before:
                raise
            if cancelled is not None:
                raise cancelled from error

    # --- tasks -----------------------------------------------------------------------------------

    async def add(self, task: AquteTask[TData, TResult]) -> None:
        """Add a task; wait for room if the run is bounded and has begun.

        Raises:
            AquteError: If the load has ended.
            Exception: What the load ended with.
        """
        inbox = self._inbox
        if inbox.closed or (self.load is not None and self.load.cancelling()):
            raise await self._why_closed()
        self.added += 1
        self.left += 1
        if self.load is None or not self._most:
            inbox.add(task)
            return
        try:
            await inbox.put(task)
        except BaseException as error:
            self.added -= 1
            self.left -= 1
            if isinstance(error, RuntimeError):
                raise await self._why_closed() from None
            if self._is_closing and not self.left:
                inbox.close()
            raise

    async def _why_closed(self) -> Exception:
        """Return the error of whoever adds to a load that has ended, or is about to."""
        load = self.load
        if load is not None:
            await asyncio.wait((load,))
            if load.cancelled():
                return AquteError("Load was cancelled; call stop first")
            problem = load.exception()
            if isinstance(problem, Exception):
                return problem
        return AquteError("Cannot add a task after load completion; call stop first")

    # --- results ---------------------------------------------------------------------------------

    async def take(self) -> AquteTask[TData, TResult]:
        """Return the next result, waiting for it, also for the start.

        Raises:
            AquteError: If none is left and the load has ended.
            Exception: What the load ended with, if none is left.
        """
        while self.results.empty():
            self.raise_if_over()
            await self.wait_put()
        return self.results.get_nowait()

    def raise_if_over(self) -> None:
        """Raise why no result comes any more, if none does."""
        load = self.load
        if load is not None and load.done():
            if load.cancelled():
                raise AquteError("Load was cancelled; call stop first")
            load.result()
            raise AquteError("Load finished without another task result")

    async def wait_put(self) -> None:
        """Wait until a result is put, or the load has ended."""
        self._put.clear()
        await self._put.wait()


def came_too_late(within: float | None) -> AquteError:
    """Return the error of a run to which nothing came in time."""
    return AquteError(f"Waited too long ({within}s) for available load")


def priority_of(task: AquteTask[Any, Any]) -> float:
    """Return what a task is chosen by."""
    return task._priority


class _Room(qanat.Limit):
    """Let nothing begin while a result waits for room."""

    cause = "paused"

    def __init__(self) -> None:
        self._is_closed = False

    def close(self, closed: bool) -> None:
        """Let nothing begin, or let jobs begin again."""
        self._is_closed = closed
        self.changed()

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return now, or that only a change helps."""
        return math.inf if self._is_closed else now
