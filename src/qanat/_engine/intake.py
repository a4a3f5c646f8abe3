"""Where jobs come from: a source of items, read no faster than they can be used."""

from __future__ import annotations

import math
from asyncio import CancelledError
from collections.abc import AsyncIterable, Callable, Hashable, Iterable
from itertools import islice
from math import isnan
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio

from qanat._core.job import RUNNING, WAITING, Job

if TYPE_CHECKING:
    from qanat._core.job import Task
    from qanat._engine.engine import Engine
    from qanat._engine.loop import Spot

CHUNK = 64
"""Items read in one go at most: enough to make the reading cheap, few enough to be read late."""
LONG = 0.001
"""Seconds after which reading a chunk was too long: a source that blocks is read one by one."""


QUICK_ITERATORS = frozenset(
    (type(iter(range(0))), type(iter(())), type(iter([0])), type(iter({0: 0})), type(iter({0})))
)
"""Iterators whose next item takes no time worth looking at the clock for."""


def nothing_unread() -> int:
    """Say that outcomes are read as they come."""
    return 0


def _ended() -> Any:
    raise StopIteration


def _raisable(error: BaseException) -> BaseException:
    """Return what a source raised so that it can be raised to the caller, who was not cancelled."""
    if not isinstance(error, CancelledError):
        return error
    problem = RuntimeError("the source of items awaited something that was cancelled elsewhere")
    problem.__cause__ = error
    return problem


class Source(Protocol):
    """Where an engine's jobs come from, as the carriers see it.

    Attributes:
        is_async: Whether a task of its own reads it.
        needs_task: Whether `run` has to be running.
        tops_up: Whether `pull` is to be called after every start.
    """

    is_async: bool
    needs_task: bool
    tops_up: bool

    def draw(self, now: float) -> Job[Any] | None:
        """Start a new job at once; None if that cannot be."""
        ...

    def pull(self) -> bool:
        """Offer some jobs if there is room; False if nothing came of it."""
        ...

    async def run(self) -> None:
        """Read in a task of its own."""
        ...

    def close(self) -> None:
        """Stop reading."""
        ...


class Callbacks:
    """The user's functions of an item that say where its job goes."""

    __slots__ = ("id", "lane", "priority")

    def __init__(
        self,
        lane: Callable[[Any], Hashable] | None = None,
        priority: Callable[[Any], float] | None = None,
        id: Callable[[Any], int | str] | None = None,
    ) -> None:
        """Keep the functions that were given."""
        self.lane = lane
        self.priority = priority
        self.id = id

    def __bool__(self) -> bool:
        """Whether there are any."""
        return any(each is not None for each in (self.lane, self.priority, self.id))

    def fill(self, job: Job[Any]) -> None:
        """Set what the functions say of a job's item; what they raise is raised."""
        if self.lane is not None:
            lane = self.lane(job.item)
            hash(lane)
            job.lane = lane
        if self.priority is not None:
            priority = cast("object", self.priority(job.item))
            if isinstance(priority, bool) or not isinstance(priority, (int, float)) or isnan(priority):
                raise TypeError(f"priority must give a number, got {priority!r}")
            job.priority = priority
        if self.id is not None:
            given = cast("object", self.id(job.item))
            if isinstance(given, bool) or not isinstance(given, (int, str)):
                raise TypeError(f"id must give an int or a str, got {given!r}")
            job.id = given


class Intake:
    """Read items from a source and offer their jobs, with room for so many.

    Attributes:
        is_async: Whether the source is awaited, in a task of its own.
        needs_task: Whether `run` has to be running: the source is awaited, or read whole at first.
        count: How many items were read.
        error: What the source raised, if it did; the items before it count.
        tops_up: Whether the buffer is kept full, because an order or lanes choose among what is in.
    """

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        engine: Engine,
        task: Task,
        *,
        callbacks: Callbacks,
        buffer: int,
        chooses: bool,
        unread: Callable[[], int],
    ) -> None:
        """Read nothing yet.

        Args:
            items: Any iterable or async iterable.
            engine: Who runs the jobs.
            task: What the jobs share.
            callbacks: The user's functions of an item.
            buffer: How many items may be read and not started, outcomes not read counted too.
            chooses: Whether lanes or an order choose among what was read.
            unread: How many outcomes are not read.
        """
        self._engine = engine
        self._task = task
        self._callbacks = callbacks
        self._buffer = buffer
        self._unread = unread
        self._chunk = 1
        self._reading = False
        self.count = 0
        self.error: BaseException | None = None
        self.is_async = not isinstance(items, Iterable)
        self._iterator: Any = iter(items) if isinstance(items, Iterable) else items.__aiter__()
        self._whole = chooses and hasattr(items, "__len__")
        self._is_closed = False
        self._scope: anyio.CancelScope | None = None
        # A source that is awaited is told after every start that there may be room.
        self.tops_up = self.is_async or (chooses and not self._whole)
        self.needs_task = self.is_async or self._whole
        self._room_spot: Spot | None = None
        self._dispatcher = engine.dispatcher
        self._may_block = type(self._iterator) not in QUICK_ITERATORS
        self._draws = not (self.is_async or chooses or callbacks)
        self._counts_unread = unread is not nothing_unread
        self._next: Callable[[], Any] = getattr(self._iterator, "__next__", _ended)

    def pull(self) -> bool:
        """Read and offer some items if there is room; False if nothing came of it."""
        engine = self._engine
        dispatcher = engine.dispatcher
        if self.is_async or self._whole:
            self._let_read()
            return False
        if (dispatcher.waiting and not self.tops_up) or self._reading:
            return False
        room = self._room()
        if room <= 0 or (self.tops_up and room < min(self._buffer, CHUNK) and dispatcher.waiting):
            return False
        begun = engine.now()
        chunk = room if self.tops_up else min(room, self._chunk)
        got = self._read(chunk)
        if engine.now() - begun > LONG:
            self._chunk = max(1, self._chunk // 2)
        elif self._chunk < CHUNK:
            self._chunk *= 2
        if got < chunk:
            self._end()
        return True

    def draw(self, now: float) -> Job[Any] | None:
        """Read one item and start its job at once; None if that cannot be, or the source has ended.

        Where nothing waits and nothing has to be chosen, this spares the job its way through the
        dispatcher (0.3 us), and reads no item before a slot is free for it.
        """
        dispatcher = self._dispatcher
        if (
            dispatcher.waiting
            or not (dispatcher.is_plain and self._draws)
            or dispatcher.running >= dispatcher.capacity
            or now >= dispatcher.timeline.at
            or self._reading
            or (self._counts_unread and self._room() <= 0)
        ):
            return None
        number = self.count
        self._reading = True
        try:
            item = self._next()
        except StopIteration:
            self._end()
            return None
        except (Exception, CancelledError) as error:  # noqa: BLE001 - the user's code may raise anything
            self.error = _raisable(error)
            self._end()
            return None
        finally:
            self._reading = False
        self.count = number + 1
        dispatcher.running += 1
        if self._may_block:
            now = self._engine.now()
        return Job(number, item, number, self._task, now, RUNNING, now)

    def _room(self) -> int:
        dispatcher = self._engine.dispatcher
        return self._buffer - dispatcher.waiting - dispatcher.scheduled - self._unread()

    def _read(self, chunk: int) -> int:
        """Read up to so many items; fewer mean that the source has ended."""
        dispatcher = self._engine.dispatcher
        task, now = self._task, self._engine.now()
        first = number = self.count
        jobs: list[Job[Any]] = []
        add = jobs.append
        self._reading = True
        try:
            if self._callbacks:
                for item in islice(self._iterator, chunk):
                    self._offer(item, number, now)
                    number += 1
            else:
                for item in islice(self._iterator, chunk):
                    add(Job(number, item, number, task, now, WAITING))
                    number += 1
        except (Exception, CancelledError) as error:  # noqa: BLE001 - the user's code may raise anything
            self.error = _raisable(error)
            return -1
        finally:
            self._reading = False
            self.count = number
            if jobs:
                dispatcher.offer_all(jobs, now)
        return number - first

    def _offer(self, item: Any, number: int, now: float) -> None:
        job = Job(number, item, number, self._task)
        try:
            self._callbacks.fill(job)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            self._engine.dispatcher.refuse(job, error, now)
        else:
            self._engine.dispatcher.offer(job, now)

    def _end(self) -> None:
        self._engine.source_ended()

    # --- sources that are awaited, or read whole ---------------------------------------------

    async def run(self) -> None:
        """Read the source in a task of its own."""
        engine = self._engine
        with anyio.CancelScope() as self._scope:
            if self.is_async:
                await self._run_async()
            else:
                begun = engine.now()
                while not self._is_closed and self._read(CHUNK) == CHUNK:
                    if engine.now() - begun > LONG:
                        await engine.loop.checkpoint()
                        begun = engine.now()
        if not self._is_closed:
            self._end()

    async def _run_async(self) -> None:
        engine = self._engine
        iterator = self._iterator
        try:
            while not self._is_closed:
                while self._room() <= 0:
                    spot = self._room_spot = engine.loop.spot()
                    await spot.wait()
                try:
                    item = await iterator.__anext__()
                except StopAsyncIteration:
                    break
                self._offer(item, self.count, engine.now())
                self.count += 1
                engine.offered()
        except (Exception, CancelledError) as error:
            if isinstance(error, CancelledError) and anyio.current_effective_deadline() == -math.inf:
                raise
            self.error = _raisable(error)
        finally:
            closing = getattr(iterator, "aclose", None)
            if closing is not None:
                await closing()

    def _let_read(self) -> None:
        spot = self._room_spot
        if spot is not None and self._room() > 0:
            self._room_spot = None
            spot.wake()

    def close(self) -> None:
        """Stop reading; a generator is closed."""
        self._is_closed = True
        if self._scope is not None:
            self._scope.cancel()
        closing = getattr(self._iterator, "close", None)
        if not self.is_async and closing is not None and not self._reading:
            closing()
