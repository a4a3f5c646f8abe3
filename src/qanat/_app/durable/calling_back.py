"""The next phase of a job of a queue whose children have ended: its callback, and what they mean for it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import anyio

from qanat._app.durable.holding import held_of
from qanat._app.durable.lineage import read_after
from qanat._core.branch import AfterJob, Children
from qanat._core.job import Task
from qanat._core.store.bounds import MOST
from qanat._engine.callee import Callee
from qanat._stores.codec import decode, encode
from qanat._stores.deeds import Look
from qanat.errors import ChildrenFailedError, PutUnknown, SerialisationError, StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from qanat._app.durable.lineage import After
    from qanat._core.job import Job
    from qanat._core.store.states import State
    from qanat._core.store.values import StoredJob
    from qanat._engine.carrier import Carrier
    from qanat._engine.courier import Desk
    from qanat._engine.outside import Outside

FIRST_BACKOFF: Final = 0.1
LONGEST_BACKOFF: Final = 5.0
"""Seconds before a store that was away is asked again."""


async def ask_until_answered(desk: Desk, deed: str, asked: list[Any]) -> list[Any]:
    """Ask a store for what may be asked twice, again and again while it is away."""
    backoff = FIRST_BACKOFF
    while True:
        try:
            return await desk.ask(deed, asked)
        except (StoreUnavailable, StoreFull, PutUnknown):
            await anyio.sleep(backoff)
            backoff = min(backoff * 2.0, LONGEST_BACKOFF)


class CallingBack(Callee):
    """A callback, called with what became of the children of a job that was leased once more.

    Args:
        inner: How it is called; None if there is none, and the children are only judged.
        desk: Where deeds are handed in.
        queue: The queue's name.
        newest_first: Whether the queue gives later jobs smaller order numbers.
    """

    __slots__ = ("_desk", "_inner", "_newest_first", "_queue")

    def __init__(self, inner: Callee | None, desk: Desk, queue: str, *, newest_first: bool) -> None:
        """Keep how the callback is called, and where its children are found."""
        super().__init__(_nothing if inner is None else inner.function, on_loop=False)
        self._inner = inner
        self._desk = desk
        self._queue = queue
        self._newest_first = newest_first

    def prepare(self, outside: Outside) -> None:
        """Make ready what the calls need."""
        if self._inner is not None:
            self._inner.prepare(outside)

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call it, write what it returns, and judge the children."""
        held = held_of(job)
        assert held is not None  # noqa: S101 - it was leased
        stored = held.stored
        after = read_after(stored.after)
        value: Any = None
        if self._inner is not None:
            children = await self._children(stored, gather=after.gather)
            task = job._task
            own = Task(task.name, self._inner, task.node, task.retry, task.timeout, task.state, task.charge)
            value, error = await self._inner.call_anyhow(
                carrier, AfterJob(job.id, children, job.index, own, parent=job.parent)
            )
            if inspect.iscoroutine(value):
                value.close()
                error = TypeError(
                    "the after_children callback returned a coroutine that nobody awaited: "
                    "write `return await ...` in it"
                )
            if error is not None:
                return None, error
            try:
                held.value = None if value is None else encode(value)
            except SerialisationError as problem:
                return None, problem
        return value, await self._verdict(stored, after)

    async def _children(self, stored: StoredJob, *, gather: bool) -> Children[Any]:
        """Return what the callback is told."""
        values: tuple[Any, ...] | None = None
        if gather:
            done = await self._found(stored, "done")
            if len(done) < stored.done_children:
                gone = stored.done_children - len(done)
                raise LookupError(
                    f"{gone} of the values of {stored.done_children} children are gone: "
                    "they were deleted, or their time to be kept was over"
                )
            done.sort(key=lambda child: child.order, reverse=self._newest_first)
            values = tuple(None if child.value is None else decode(child.value) for child in done)
        return Children(stored.done_children, stored.dead_children, stored.cancelled_children, values)

    async def _found(self, stored: StoredJob, state: State) -> list[StoredJob]:
        """Return the children of a job that are in a state."""
        found: list[StoredJob] = []
        place: str | None = None
        while True:
            look = Look(state=state, parent=stored.id, limit=MOST, after=place)
            (page,) = await ask_until_answered(self._desk, f"find {self._queue}", [look])
            found += [child for child in page.jobs if child.parent_family == stored.family]
            place = page.next
            if place is None:
                return found

    async def _verdict(self, stored: StoredJob, after: After) -> ChildrenFailedError | None:
        """Return why the job fails for its children's sake, if it does."""
        ended = stored.done_children + stored.dead_children + stored.cancelled_children
        if after.quorum is not None and stored.done_children < after.quorum * ended * (1.0 - 1e-12):
            return ChildrenFailedError(ended - stored.done_children, ended)
        if after.fails and stored.dead_children:
            failed = sum(child.failure == "fail" for child in await self._found(stored, "dead"))
            if failed:
                return ChildrenFailedError(failed, ended)
        return None


def _nothing(_children: object) -> None:
    """Stand where there is no callback."""
