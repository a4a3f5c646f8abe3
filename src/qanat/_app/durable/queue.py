"""A queue for event loops: every method that reaches the store is awaited."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import anyio

from qanat._app.durable.chunks import Chunk, Given, chunks, with_stored
from qanat._app.durable.operating import (
    FIRST,
    REQUEUED,
    asked,
    ids_until,
    limit_after,
    problems_of,
    reasons,
    time_of,
)
from qanat._app.handlers import check_items
from qanat._core.arguments import at_least, one_of
from qanat._core.store.bounds import check_text
from qanat._engine.loop import running_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Mapping

    from qanat._app.durable.asking import Ask, Asking
    from qanat._app.durable.queue_job import Page, QueueJob
    from qanat._app.durable.store import Store
    from qanat._core.store.states import State
    from qanat._core.store.values import Counts, NewJob
    from qanat._engine.courier import Begun

T = TypeVar("T")
A = TypeVar("A")

LEAST_WAIT = 0.05
"""Seconds between two looks at a store, whatever it says."""


class Queue(Generic[T]):
    """A named queue of a store; made by `Store.queue`.

    Attributes:
        admin: What operators do.
    """

    def __init__(self, store: Store, asking: Asking) -> None:
        """Ask nothing yet."""
        self._store = store
        self._asking = asking
        self.admin: Admin = Admin(self)

    @property
    def name(self) -> str:
        """The queue's name."""
        return self._asking.name

    async def carry(self, ask: Ask[A]) -> A:
        """Carry out an ask, and before the first one set what is fixed at first use."""
        if self._asking.conf is None:
            await self._store.carry(self._asking.first(), self.name)
        self._asking.check(ask)
        return await self._store.carry(ask, self.name)

    async def put(
        self, item: T, *, id: str | None = None, key: object = None, priority: float = 0.0,
        lane: str | None = None, delay: float = 0.0, metadata: Mapping[str, Any] | None = None,
        handler: str = "",
    ) -> QueueJob[T]:  # fmt: skip
        """Store an item as a job; when this returns it survives whatever the store does.

        Calls that are made at the same time go together in one step of the store.

        Args:
            item: Texts, numbers, lists and dicts, a dataclass or a msgspec Struct: what JSON can hold.
            id: The job's id; None makes one. An id that is known, for a day after its job's end too,
                stores nothing.
            key: A str, bytes, an int or a tuple of these: while another job with this key is there, as
                the queue's `unique` says, nothing is stored.
            priority: Smaller is earlier within its lane.
            lane: Which lane it lies in; lanes take turns.
            delay: Seconds before it may be leased.
            metadata: Found at `current_job().metadata`.
            handler: The name of the handler that is to run it; "" is the worker's own.

        Returns:
            The job; if nothing was stored `is_new` is False, and `id` that of the job that is there.

        Raises:
            SerialisationError: If the item cannot be kept; nothing was sent.
            PutUnknown: If the answer was lost: put it again under the `id` that the error has.
            StoreFull: If there is no room; nothing was stored.
            NotReplicated: If it is stored, and fewer replicas have it than were asked for.
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of range, or an option differs from the first use.
        """
        new = self._asking.new(
            item, id=id, key=key, priority=priority, lane=lane, delay=delay, metadata=metadata,
            handler=handler,
        )  # fmt: skip
        # Without an ask: what all puts share is there already, and most programs put one at a time.
        asking, store = self._asking, self._store
        if asking.conf is None:
            await store.carry(asking.first(), self.name)
        asking.check_put(new)
        answers = await store.desk.begin(asking.deed_of_put, [new], self._ring).wait()
        self._ring()
        return asking.placed(new, answers)

    def _ring(self, _answers: object = None) -> None:
        """Tell who waits that there is work."""
        self._store.hints.ring(self._asking.name)

    async def _put(self, new: list[NewJob]) -> list[QueueJob[T]]:
        if self._asking.conf is None:
            await self._store.carry(self._asking.first(), self.name)
        ask = self._asking.put(new)
        self._asking.check(ask)
        return self._store.heard(ask, self.name, await self._store.begin(ask).wait())

    async def put_many(
        self, items: Iterable[T] | AsyncIterable[T], *, id: Callable[[T], str] | None = None,
        key: Callable[[T], object] | None = None, priority: Callable[[T], float] | None = None,
        lane: Callable[[T], str | None] | None = None, delay: float = 0.0,
        metadata: Callable[[T], Mapping[str, Any] | None] | None = None, handler: str = "",
    ) -> list[QueueJob[T]]:  # fmt: skip
        """Store many items, in chunks of up to 1,000, each of which is stored whole or not at all.

        Args:
            items: Any iterable or async iterable.
            id: Function of the item giving its job's id; what it means is said at `put`.
            key: Function of the item giving its job's key.
            priority: Function of the item giving its job's priority.
            lane: Function of the item giving its job's lane.
            delay: Seconds before any of them may be leased.
            metadata: Function of the item giving its job's metadata.
            handler: The name of the handler that is to run them.

        Returns:
            The jobs, in the order of the items.

        Raises:
            BaseException: What `put` raises, or what reading the items raised; `errors.stored_of` gives
                the ids of the chunks that were stored before. `PutUnknown` names the first job of the
                chunk whose answer was lost.
        """
        check_items(items)
        given = Given(
            id=id, key=key, priority=priority, lane=lane, metadata=metadata, delay=delay, handler=handler
        ).checked()
        if self._asking.conf is None:
            await self._store.carry(self._asking.first(), self.name)
        sending = Sending(self)
        step = self._store.step
        try:
            if isinstance(items, Iterable):
                for chunk in chunks(self._asking, items, given, step):
                    await sending.send(chunk)
            else:
                gathered, new = Chunk(step), given.maker(self._asking)
                async for item in items:
                    try:
                        job = new(item)
                    except BaseException as error:
                        gathered.blame(error)
                        raise
                    if gathered.add(job):
                        await sending.send(gathered.take())
                if gathered.jobs:
                    await sending.send(gathered.take())
            await sending.wait_answer()
        except BaseException as error:
            await sending.stop(error)
            with_stored(error, [job.id for job in sending.done if job.is_new])
            raise
        return sending.done

    async def lease(self, n: int = 1, *, wait: float = 0.0) -> list[QueueJob[T]]:
        """Take jobs for a time: the queue's `lease`, unless they are extended.

        A job whose item cannot be read is dead with the reason, and not given out.

        Args:
            n: How many at most, 1 to 1,000.
            wait: Seconds to wait for a first one.

        Returns:
            The jobs, in the order in which they are to be done; none if there are none.
        """
        at_least("wait", wait, 0.0)
        ask = self._asking.lease(n)
        if not wait:
            # Nothing to listen for, and no place to wait at.
            leased = await self.carry(ask)
            if leased.spoilt is not None:
                await self.carry(leased.spoilt)
            return leased.jobs
        clock = self._store.clock
        deadline = clock.now() + wait
        while True:
            spot = running_loop().spot()
            with self._store.hints.listening(self.name, spot.wake, far=wait > 0.0):
                leased = await self.carry(ask)
                if leased.spoilt is not None:
                    await self.carry(leased.spoilt)
                left = deadline - clock.now()
                if leased.jobs or left <= 0:
                    return leased.jobs
                if leased.next_due == 0.0:
                    await self.carry(self._asking.rescue())
                due = self._store.poll if leased.next_due is None else leased.next_due
                with anyio.move_on_after(min(left, self._store.poll, max(due, LEAST_WAIT))):
                    await spot.wait()

    async def ack(self, *jobs: QueueJob[T]) -> None:
        """End leased jobs as done.

        Raises:
            LeaseLost: If some leases are lost; the other jobs have ended.
        """
        await self.carry(self._asking.ack(jobs))

    async def reject(self, *jobs: QueueJob[T], delay: float = 0.0) -> None:
        """Let leased jobs run again, as their attempt failed; beyond the queue's bounds they are dead.

        Args:
            *jobs: Jobs that were leased.
            delay: Seconds before they may be leased again.

        Raises:
            LeaseLost: If some leases are lost; the others are back.
        """
        await self.carry(self._asking.reject(jobs, delay))

    async def extend(self, *jobs: QueueJob[T]) -> list[str]:
        """Let leases last from now on as long as new ones.

        Returns:
            The ids of those that are asked to cancel.

        Raises:
            LeaseLost: If some leases are lost; the others were extended.
        """
        return await self.carry(self._asking.extend(jobs))

    async def release(self, *jobs: QueueJob[T]) -> None:
        """Hand leased jobs back as if they had never been leased.

        Raises:
            LeaseLost: If some leases are lost; the others are back.
        """
        await self.carry(self._asking.release(jobs))

    async def cancel(self, *ids: str) -> list[str]:
        """Cancel jobs that have not ended; the workers of leased ones are asked.

        Returns:
            For each id "cancelled", "asked", "ended" before, or "unknown".
        """
        return await self.carry(self._asking.by_ids("cancel", ids, rings=True))

    async def get(self, id: str) -> QueueJob[T] | None:
        """Return a job; None if there is no record of it (any more)."""
        return await self.carry(self._asking.get(id))

    async def find(
        self, *, state: State, lane: str | None = None, limit: int = 100, after: str | None = None
    ) -> Page[T]:
        """Return jobs in a state, page by page.

        Args:
            state: Which state.
            lane: Which lane; None is any, "" the unnamed one.
            limit: Jobs on a page at most, 1 to 1,000.
            after: The `next` of the page before.
        """
        return await self.carry(self._asking.find(state, lane, limit, after))

    async def counts(self) -> Counts:
        """Return how many jobs are in each state."""
        return await self.carry(self._asking.counts())

    async def rescue(self) -> list[str]:
        """Take back jobs whose lease has expired, and return their ids; workers do this by themselves."""
        ids: list[str] = []
        while True:
            rescued = await self.carry(self._asking.rescue())
            ids += rescued.ids
            if not rescued.more:
                return ids


class Sending:
    """Chunks that go to the store one after the other; while one is on its way the next is made.

    Attributes:
        done: The jobs of the chunks that were answered.
    """

    def __init__(self, queue: Queue[Any]) -> None:
        """Send nothing yet."""
        self._queue = queue
        self._on_its_way: tuple[Begun, Ask[list[QueueJob[Any]]]] | None = None
        self.done: list[QueueJob[Any]] = []

    async def send(self, chunk: list[NewJob]) -> None:
        """Send a chunk once the one before it was answered."""
        await self.wait_answer()
        ask = self._queue._asking.put(chunk)
        self._queue._asking.check(ask)
        self._on_its_way = self._queue._store.begin(ask), ask

    async def wait_answer(self) -> None:
        """Wait for the answer to what is on its way."""
        on_its_way, self._on_its_way = self._on_its_way, None
        if on_its_way is not None:
            begun, ask = on_its_way
            answers = await begun.wait()
            jobs = self._queue._store.heard(ask, self._queue.name, answers)
            self.done += jobs

    async def stop(self, error: BaseException) -> None:
        """Send no more; if it is not a cancellation that ends it, hear of what is on its way."""
        if isinstance(error, Exception):
            try:
                await self.wait_answer()
            except Exception:  # noqa: BLE001, S110 - what is raised is the error before it
                pass
        elif self._on_its_way is not None:
            self._on_its_way[0].leave()


class Admin:
    """What operators do with a queue; found at `Queue.admin`."""

    def __init__(self, queue: Queue[Any]) -> None:
        """Do nothing yet."""
        self._queue = queue

    async def pause(self) -> None:
        """Let nobody lease jobs until `resume`; what is leased goes on."""
        await self._queue.carry(self._queue._asking.plain("pause"))

    async def resume(self) -> None:
        """Let jobs be leased again."""
        await self._queue.carry(self._queue._asking.plain("resume", rings=True))

    async def requeue(self, *ids: str) -> list[str]:
        """Let jobs that have ended run again, or scheduled ones now.

        Returns:
            For each id "ready", "key" if another job holds its key, "live", or "unknown".
        """
        return await self._queue.carry(self._queue._asking.by_ids("requeue", ids, rings=True))

    async def delete(self, *ids: str) -> list[str]:
        """Remove jobs, unless they are leased.

        Returns:
            For each id "deleted", "leased" or "unknown".
        """
        return await self._queue.carry(self._queue._asking.by_ids("delete", ids, rings=True))

    async def purge(self, state: State) -> int:
        """Remove all jobs of a state, a thousand in each step, and return how many they were."""
        ask = self._queue._asking.purge(state)
        total = 0
        while True:
            removed = await self._queue.carry(ask)
            total += removed
            if removed < 1000:
                return total

    async def requeue_all(
        self, state: Literal["scheduled", "dead", "cancelled", "done"] = "dead"
    ) -> dict[str, int]:
        """Let all jobs run again that are in a state, up to a thousand in a step; later ones stay.

        Args:
            state: "dead" by default; "scheduled" jobs run now.

        Returns:
            How many are "ready"; and how many stay as they were: "key", as another job holds their key,
            and "live" or "unknown", as somebody else was quicker.
        """
        one_of("state", state, REQUEUED)
        began = await self._queue.carry(asked(time_of))
        found: Counter[str] = Counter()
        after: str | None = None
        limit = FIRST
        while True:
            page = await self._queue.carry(self._queue._asking.find(state, None, limit, after))
            limit = limit_after(page.jobs)
            ids = ids_until(page.jobs, began)
            if ids:
                found.update(await self.requeue(*ids))
            after = page.next
            if after is None:
                return dict(found)

    async def why(self, id: str) -> list[str]:
        """Return why a job does not run, in sentences with the first reason first; empty if it is unknown.

        What workers hold back by limits of their own the store does not know. Of a lane with many jobs
        the first thousand are looked at.
        """
        check_text("id", id)
        return await self._queue.carry(asked(reasons, self._queue.name, id)) or []

    async def check(self, *, repair: bool = False) -> list[str]:
        """Return what contradicts itself in the queue, in words; empty if it is sound.

        Every job is looked at, in one step: a Redis server answers nobody else meanwhile, some eight
        seconds for a million jobs.

        Args:
            repair: Whether to make indexes and counts fit the records; no job is deleted.
        """
        return await self._queue.carry(asked(problems_of, self._queue.name, repair=repair))
