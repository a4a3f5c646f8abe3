"""Where jobs come from: a source of items, read no faster than they can be used."""

from __future__ import annotations

import logging
import math
from asyncio import CancelledError
from collections.abc import AsyncIterable, Callable, Hashable, Iterable, Mapping
from itertools import islice
from math import isnan
from sys import float_info
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, cast

import anyio

from qanat._core.branch import FamilyJob, checked_key
from qanat._core.costs import checked_cost
from qanat._core.job import RUNNING, WAITING, Job
from qanat._engine.inbox import Inbox
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from qanat._core.branch import Key
    from qanat._core.dispatcher.kinship import Kinship
    from qanat._core.job import Task
    from qanat._engine.engine import Engine
    from qanat._engine.loop import Spot

_log = logging.getLogger("qanat")

CHUNK = 64
"""Items read in one go at most: enough to make the reading cheap, few enough to be read late."""
LONG = 0.001
"""Seconds after which reading a chunk was too long: a source that blocks is read one by one."""


QUICK_ITERATORS = frozenset(
    (type(iter(range(0))), type(iter(())), type(iter([0])), type(iter({0: 0})), type(iter({0})))
)
"""Iterators whose next item takes no time worth looking at the clock for."""


def cancelled_elsewhere(error: CancelledError) -> RuntimeError:
    """Return the error of a source that met a cancellation that the caller must not take for its own."""
    problem = RuntimeError("the source of items awaited something that was cancelled elsewhere")
    problem.__cause__ = error
    return problem


async def close_awaited(iterator: Any) -> None:
    """Close a source that was awaited, if it can be; what it raises then is only logged."""
    closing = getattr(iterator, "aclose", None)
    if closing is not None:
        try:
            await closing()
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            _log.warning("the source of items raised when it was closed: %r", error)


def nothing_unread() -> int:
    """Say that outcomes are read as they come."""
    return 0


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

    @property
    def is_empty(self) -> bool:
        """Whether it is known that nothing can be read now, though something may come later."""
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


def checked_lane(lane: Hashable) -> Hashable:
    """Return a lane's key.

    Raises:
        TypeError: If it cannot be one.
    """
    try:
        hash(lane)
    except TypeError:
        raise TypeError(f"lane must be hashable, got {lane!r}") from None
    return lane


def checked_id(id: object) -> int | str:
    """Return a job's id.

    Raises:
        TypeError: If it cannot be one.
    """
    if isinstance(id, bool) or not isinstance(id, (int, str)):
        raise TypeError(f"id must be an int or a str, got {id!r}")
    return id


class Callbacks:
    """The user's functions of an item that say where its job goes."""

    __slots__ = ("cost", "deadline", "id", "key", "lane", "priority")

    def __init__(
        self,
        lane: Callable[[Any], Hashable] | None = None,
        priority: Callable[[Any], float] | None = None,
        id: Callable[[Any], int | str] | None = None,
        *,
        cost: Callable[[Any], float | Mapping[str, float]] | None = None,
        deadline: Callable[[Any], float | None] | None = None,
        key: Callable[[Any], Key] | None = None,
    ) -> None:
        """Keep the functions that were given."""
        self.key = key
        self.cost = cost
        self.deadline = deadline
        self.lane = lane
        self.priority = priority
        self.id = id

    def __bool__(self) -> bool:
        """Whether there are any."""
        found = (self.lane, self.priority, self.id, self.cost, self.deadline, self.key)
        return any(each is not None for each in found)

    def fill(
        self, job: Job[Any], now: float, *, lane: bool = True, priority: bool = True, id: bool = True,
        cost: bool = True,
    ) -> None:  # fmt: skip
        """Set what the functions that are to be asked say of a job offered now; what they raise is raised."""
        if lane and self.lane is not None:
            job.lane = checked_lane(self.lane(job.item))
        if priority and self.priority is not None:
            found = cast("object", self.priority(job.item))
            if not _is_number(found):
                raise TypeError(f"priority must give a number, got {found!r}")
            job.priority = found
        if cost and self.cost is not None:
            job.cost = checked_cost(self.cost(job.item))
        if id and self.id is not None:
            job.id = checked_id(self.id(job.item))
        if self.key is not None and type(job) is FamilyJob:
            job._key = checked_key(self.key(job.item))
        if self.deadline is not None:
            within = cast("object", self.deadline(job.item))
            if within is not None:
                if not _is_number(within):
                    raise TypeError(f"deadline must give seconds or None, got {within!r}")
                job.deadline = now + within


def _is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number that a float can hold, infinity too."""
    if isinstance(value, float):
        return not isnan(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= float_info.max


class Intake:
    """Read items from a source and offer their jobs, with room for so many.

    Attributes:
        is_async: Whether the source is awaited, in a task of its own.
        needs_task: Whether `run` has to be running: the source is awaited, or read whole at first.
        count: How many items were read.
        error: What the source raised, if it did; the items before it count.
        tops_up: Whether the buffer is kept full, because an order or lanes choose among what is in.
        draws: Whether an item may be started at once, as nothing chooses among those that were read.
        is_added_to: Whether the source may be empty now and have items later.
        may_block: Whether reading an item may take so long that the clock has to be read again.
        counts_unread: Whether outcomes that are not read take up room.
        is_held: Whether the engine is held when they fill it up, so that nobody need count them here.
        task: What the jobs share.
        iterator: What the items are read from.
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
        gathers: int = 0,
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
            gathers: How many jobs make up a batch, if they are to: then more are read while some wait.
        """
        self._engine = engine
        self._hand_in: Callable[[Job[Any], float], object] = engine.dispatcher.offer
        self.task = task
        self._callbacks = callbacks
        self._buffer = buffer
        self._unread = unread
        self._gathers = gathers
        # So little room that filling it up can wait: the buffer stays 15/16 full at least.
        self._least_room = 0 if gathers else min(buffer // 16, CHUNK)
        self._reading = False
        self.count = 0
        self.error: BaseException | None = None
        self.is_async = not isinstance(items, Iterable)
        self.iterator: Any = iter(items) if isinstance(items, Iterable) else items.__aiter__()
        self._whole = chooses and hasattr(items, "__len__")
        self._is_closed = False
        # An input that may be empty now and have items later.
        self._inbox: Inbox[Any] | None = items if isinstance(items, Inbox) else None
        if self._inbox is not None:
            self._inbox._begin(self)
        self._scope: anyio.CancelScope | None = None
        # A source that is awaited is told after every start that there may be room.
        self.tops_up = self.is_async or (chooses and not self._whole)
        self.needs_task = self.is_async or self._whole
        self._room_spot: Spot | None = None
        self.is_added_to = self._inbox is not None
        self.may_block = not self.is_added_to and type(self.iterator) not in QUICK_ITERATORS
        self.draws = not (self.is_async or chooses or callbacks or gathers)
        self._chunk = 1 if self.may_block or not gathers else gathers
        self.counts_unread = unread is not nothing_unread
        self.is_held = False

    def pull(self) -> bool:
        """Read and offer some items if there is room; False if nothing came of it."""
        engine = self._engine
        dispatcher = engine.dispatcher
        if self.is_async or self._whole:
            self._let_read()
            return False
        if self.is_empty:
            return False
        if (dispatcher.waiting and not (self.tops_up or self._gathers)) or self._reading:
            return False
        room = self.room()
        if room <= 0 or (self.tops_up and room < self._least_room and dispatcher.waiting):
            return False
        begun = engine.now()
        chunk = room if self.tops_up else min(room, self._chunk)
        got = self._read(chunk)
        is_slow = engine.now() - begun > LONG
        if is_slow:
            self._chunk = max(1, self._chunk // 2)
        elif self._chunk < CHUNK:
            self._chunk *= 2
        if got < chunk:
            self.ended()
            return got > 0 or not self.is_dry
        if is_slow and self._gathers:
            # It may take many such reads to fill a batch: let the handlers that run go on in between.
            engine.tell_ended()
            engine.loop.call_soon_threadsafe(engine.poke)
            return False
        return True

    def is_full(self) -> bool:
        """Whether no more items can be read before some that were read are started."""
        return self.room() <= 0

    def read_chunk(self, most: int = CHUNK) -> bool:
        """Read and offer some items, for an engine without an event loop; True if that were all."""
        return self._read(most) < most

    def draw(self, most: int) -> list[Job[Any]]:
        """Read up to so many items that start at once, for an engine without an event loop that counts them.

        Fewer mean that the source has ended.
        """
        task, now = self.task, self._engine.now()
        jobs: list[Job[Any]] = []
        try:
            drawn: Iterable[Any] = islice(self.iterator, most)
            for number, item in enumerate(drawn, self.count):
                jobs.append(Job(number, item, number, task, now, RUNNING))
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            self._fail(error)
        self.count += len(jobs)
        return jobs

    def take(self, item: Any, now: float) -> None:
        """Offer an item that came by itself, for an engine without an event loop."""
        self.count += 1
        self._offer(item, self.count - 1, now)

    @property
    def is_empty(self) -> bool:
        """Whether it is known that nothing can be read now, though something may come later."""
        inbox = self._inbox
        return inbox is not None and not inbox._items and not inbox.closed

    @property
    def is_dry(self) -> bool:
        """Whether the source has no items now, but may have some later."""
        return (
            self._inbox is not None and not self._inbox.closed and self.error is None and not self._is_closed
        )

    def went_dry(self) -> bool:
        """Whether nothing was left to read only for now; if so, make ready to read what comes later."""
        if self.is_dry:
            self.iterator = iter(cast("Inbox[Any]", self._inbox))
            return True
        return False

    def ended(self) -> None:
        """Note that the source has no more items, or none now."""
        engine = self._engine
        if self.went_dry():
            if engine.drawn is self:
                engine.drawn = None
            return
        if self._inbox is not None:
            self._inbox._end(self)
        engine.source_ended()

    def wetted(self) -> None:
        """Hear that the source has items again, or never will; in the loop's thread."""
        engine = self._engine
        if engine.source is self:
            engine.take_from(self)
        if self._room_spot is not None:
            self._let_read()
        engine.poke()

    def wetted_elsewhere(self) -> None:
        """Hear in another thread what `wetted` hears in the loop's."""
        try:
            self._engine.loop.call_soon_threadsafe(self.wetted)
        except RuntimeError:
            pass  # the loop has ended, and reads nothing more

    def failed(self, error: BaseException) -> None:
        """Note that the source raised: it has no more items."""
        self._fail(error)
        self.ended()

    def _fail(self, error: BaseException) -> None:
        """Keep what the source raised; an interrupt stops the run at once."""
        if isinstance(error, Exception):
            self.error = error
        elif isinstance(error, CancelledError):
            self.error = cancelled_elsewhere(error)
        else:
            self._engine.cancel(error)

    def room(self) -> int:
        """Return how many more items may be read now."""
        dispatcher = self._engine.dispatcher
        return self._buffer - dispatcher.waiting - dispatcher.scheduled - self._unread()

    def _read(self, chunk: int) -> int:
        """Read up to so many items; fewer mean that the source has ended."""
        dispatcher = self._engine.dispatcher
        task, now = self.task, self._engine.now()
        first = number = self.count
        jobs: list[Job[Any]] = []
        add = jobs.append
        problem: BaseException | None = None
        self._reading = True
        try:
            if self._callbacks:
                for item in islice(self.iterator, chunk):
                    self._offer(item, number, now)
                    number += 1
            else:
                for item in islice(self.iterator, chunk):
                    add(Job(number, item, number, task, now, WAITING))
                    number += 1
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            problem = error
        self._reading = False
        self.count = number
        if jobs:
            dispatcher.offer_all(jobs, now)
        if problem is not None:
            self._fail(problem)
            return -1
        return number - first

    def _offer(self, item: Any, number: int, now: float) -> None:
        """Offer an item; one whose key was visited before joins the job that is known by it."""
        dispatcher = self._engine.dispatcher
        job: Job[Any]
        family: Kinship | None = None
        if self._callbacks.key is None:
            job = Job(number, item, number, self.task)
        else:
            job = FamilyJob(number, item, number, self.task)
            family = dispatcher.family
            assert family is not None  # noqa: S101 - raised by whoever has a key
        try:
            self._callbacks.fill(job, now)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            dispatcher.refuse(job, blamed_on_job(error), now)
            self._ended_unoffered()
            return
        if family is None or family.visit(cast("FamilyJob", job), now):
            self._hand_in(job, now)
        else:
            self._ended_unoffered()

    def _ended_unoffered(self) -> None:
        """Hear that an item's job has ended without being offered; whoever reads tells it."""

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
            self.ended()

    async def _run_async(self) -> None:
        engine = self._engine
        iterator = self.iterator
        try:
            while True:
                while self.room() <= 0:
                    spot = self._room_spot = engine.loop.spot()
                    await spot.wait()
                if self._is_closed:  # while it was about to go on: a cancellation comes late to who was woken
                    break
                try:
                    item = await iterator.__anext__()
                except StopAsyncIteration:
                    break
                if self._is_closed:
                    break
                self._offer(item, self.count, engine.now())
                self.count += 1
                engine.offered()
        except BaseException as error:
            if isinstance(error, GeneratorExit) or (
                isinstance(error, engine.cancellation) and anyio.current_effective_deadline() == -math.inf
            ):
                raise
            self._fail(error)
        finally:
            await close_awaited(iterator)

    def _let_read(self) -> None:
        spot = self._room_spot
        if spot is not None and self.room() > 0:
            self._room_spot = None
            spot.wake()

    def close(self) -> None:
        """Stop reading; a generator is closed."""
        self._is_closed = True
        if self._scope is not None:
            self._scope.cancel()
        if self._inbox is not None:
            self._inbox._end(self)
            return
        closing = getattr(self.iterator, "close", None)
        if not self.is_async and closing is not None and not self._reading:
            closing()
