"""`collect`, `map`, `run` and `stream` with a queue: the calls that users make of a `Sharing`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import anyio

from qanat._app.durable.asking import Asking
from qanat._app.durable.queue import Queue
from qanat._app.durable.sharing import Sharing
from qanat._app.durable.store import Store
from qanat._app.failures import with_outcomes
from qanat._app.outcomes import Outcomes
from qanat._app.streaming import OutcomeStream
from qanat._app.why import held_of
from qanat._engine.bell import Bell
from qanat._engine.loop import running_loop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
    from types import TracebackType

    from qanat._app.durable.plain_queue import PlainQueue
    from qanat._app.rules import Rules
    from qanat._app.stopping import Stopping
    from qanat._core.outcome import Outcome

T = TypeVar("T")
R = TypeVar("R")


@asynccontextmanager
async def in_this_loop(queue: Queue[Any] | PlainQueue[Any]) -> AsyncGenerator[Queue[Any]]:
    """Give a queue for this event loop: itself, or another face of the one for plain code."""
    if isinstance(queue, Queue):
        yield queue
        return
    plain, asking = queue._store, queue._asking
    store = Store(plain._url, plain._reach)
    try:
        yield Queue(store, Asking(asking.name, asking.options, store._ids, store.worker))
    finally:
        with anyio.CancelScope(shield=True):
            await store.aclose()


async def gather_shared(
    handler: Callable[..., Any], items: Iterable[Any] | AsyncIterable[Any], rules: Rules, *,
    first_failure: Callable[[Outcome[Any, Any]], BaseException] | None, stopping: Stopping | None,
    progress: bool | None,
) -> Outcomes[Any, Any]:  # fmt: skip
    """Run a handler over items that are jobs of a queue, and return all outcomes in input order.

    Raises:
        BaseException: What stopped the call, with the outcomes of the jobs that ended.
    """
    outcomes: Outcomes[Any, Any] = Outcomes()
    outcomes._recalled_from = "queue"
    async with in_this_loop(_queue_of(rules)) as queue:
        sharing = Sharing(
            handler, items, rules, queue, emit=outcomes.append, on_failure=first_failure, stopping=stopping,
            progress=progress,
        )  # fmt: skip
        try:
            await sharing.run()
            if sharing.problem is not None:
                raise sharing.problem
        except BaseException as error:
            _finish(outcomes, sharing)
            with_outcomes(error, outcomes)
            raise
    _finish(outcomes, sharing)
    return outcomes


def _finish(outcomes: Outcomes[Any, Any], sharing: Sharing) -> None:
    outcomes.sort(key=attrgetter("index"))
    if sharing.dispatcher is not None:
        outcomes._held = held_of(sharing.dispatcher)


def _queue_of(rules: Rules) -> Queue[Any] | PlainQueue[Any]:
    return cast("Queue[Any] | PlainQueue[Any]", rules.queue)


class SharedStream(OutcomeStream[T, R]):
    """The outcomes of items that are jobs of a queue.

    All happens in a task of its own, so that the block may be left in another one than it was entered in.
    """

    async def __aenter__(self) -> Self:
        """Begin to put the items, and to do what the queue holds."""
        if self._entered:
            raise RuntimeError("a stream can be entered once: call qanat.stream again for another run")
        self._entered = True
        loop = running_loop()
        self._bell = Bell(loop)
        self._scope = anyio.CancelScope()
        self._sharing: Sharing | None = None
        self._problem: BaseException | None = None
        self._ended = False
        loop.spawn(self._share)
        return self

    async def _share(self) -> None:
        try:
            with self._scope:
                async with in_this_loop(_queue_of(self._rules)) as queue:
                    self._sharing = Sharing(
                        self._handler, self._items, self._rules, queue, emit=self._way_in(),
                        unread=self._unread, progress=self._rules.progress or False,
                    )  # fmt: skip
                    await self._sharing.run()
                    self._problem = self._sharing.problem
        except BaseException as error:
            if isinstance(error, anyio.get_cancelled_exc_class()):
                raise
            self._problem = error  # raised to whoever reads
        finally:
            self._ended = True
            self._bell.ring()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Stop, give back what was not done, and wait until nothing runs."""
        self._closed = True
        self._scope.cancel()
        cancellation = anyio.get_cancelled_exc_class()
        interruption: BaseException | None = None
        while not self._ended:
            try:
                with anyio.CancelScope(shield=interruption is not None):
                    await self._bell.wait()
            except cancellation as caught:
                interruption = caught
        if interruption is not None and not isinstance(error, cancellation):
            raise interruption
        return None

    async def __anext__(self) -> Outcome[T, R]:
        """Return the next outcome, waiting for it.

        Raises:
            StopAsyncIteration: If all were read.
            BaseException: What the source of items raised, or what stopped the call, once.
        """
        if not self._entered:
            raise RuntimeError("enter the stream first: async with qanat.stream(...) as outcomes")
        while not self._ready:
            if self._ended or self._closed:
                if self._raised or self._closed or self._problem is None:
                    raise StopAsyncIteration
                self._raised = True
                raise self._problem
            await self._bell.wait()
        outcome = self._ready.popleft()
        if self._sharing is not None:
            self._sharing.make_room()
        return outcome
