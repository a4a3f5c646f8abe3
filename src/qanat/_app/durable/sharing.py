"""One call of `collect`, `map` or `stream` over a durable queue: its items are jobs that many may do.

Four things go on at once. Items are *read*, no more than `buffer` whose outcome is not there and read.
They are *put*, in chunks; one that is known already is a job of an earlier call, or of another process.
A *worker* leases jobs, ours and those of others, and does them. And it is *looked* what became of jobs that
are done elsewhere: when somebody in this process says so, and else once in a while.

An outcome is handed over when the store has it, never before, so a call that is killed and made again
takes up where it was.
"""

from __future__ import annotations

import math
from asyncio import CancelledError
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import anyio

from qanat._app.durable.calling_back import ask_until_answered
from qanat._app.durable.chunks import MOST_BYTES
from qanat._app.durable.wanted import Making, Wanted, failed, outcome_for
from qanat._app.durable.working import Worker
from qanat._app.failures import FailureLimit, add_note
from qanat._app.handlers import name_of
from qanat._core.store.states import ENDED
from qanat._engine.bell import Bell
from qanat._engine.intake import cancelled_elsewhere, close_awaited
from qanat._engine.loop import running_loop
from qanat.errors import JobCancelledError

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterator

    from rich.console import Console

    from qanat._app.durable.holding import Held
    from qanat._app.durable.queue import Queue
    from qanat._app.rules import Rules
    from qanat._app.stopping import Stopping
    from qanat._core.dispatcher import Dispatcher
    from qanat._core.outcome import Outcome
    from qanat._core.store.values import NewJob, Settled, StoredJob


GRACE: Final = 25.0
"""Seconds that jobs of others have to end which run here when all of ours have ended."""
LOOK: Final = 1.0
"""Seconds between two looks at all that is wanted, when something was said of the queue."""
AT_ONCE: Final = 200
"""Records that are read in one go."""
PAUSE: Final = 100
"""Items after which the loop gets its turn, while many are read."""


class _Asked:
    """One job that is wanted.

    Attributes:
        wanted: The items whose job it is.
        is_put: Whether the store has it.
        was_there: Whether the store had it before, and nobody has looked what became of it.
        is_anew: Whether it was put again, as its record had gone meanwhile.
    """

    __slots__ = ("is_anew", "is_put", "wanted", "was_there")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = [wanted]
        self.is_put = self.was_there = self.is_anew = False


class Sharing:
    """One call.

    Attributes:
        problem: What the source of items raised.
        failed: How many of the items failed; `done` and `cancelled` are counted likewise.
    """

    def __init__(
        self, handler: Callable[..., Any], items: Iterable[Any] | AsyncIterable[Any], rules: Rules,
        queue: Queue[Any], *, emit: Callable[[Outcome[Any, Any]], object],
        on_failure: Callable[[Outcome[Any, Any]], BaseException] | None = None,
        unread: Callable[[], int] = lambda: 0, stopping: Stopping | None = None,
        progress: bool | Console | None = False,
    ) -> None:  # fmt: skip
        """Keep what was asked for; nothing is put before it runs.

        Args:
            handler: The handler, checked.
            items: The items, checked.
            rules: The rules, with a queue.
            queue: That queue, of a store in this event loop.
            emit: Called with each outcome.
            on_failure: Given, the first job that fails ends the call with the error that this makes.
            unread: How many outcomes were emitted and are not read.
            stopping: Given, its signals stop the call.
            progress: Whether to show progress; None is on a terminal.
        """
        self._items = items
        self._queue = queue
        self._store = queue._store
        self._emit = emit
        self._on_failure = on_failure
        self._unread = unread
        self._failures = FailureLimit(rules.max_failures)
        self._judged = rules.max_failures is not None
        self._retries_failed = rules.retry_failed
        self._making = Making(handler, rules, queue._asking)
        least = 0 if rules.batch is None else 2 * rules.batch.size
        self._most = max(rules.buffer, least)
        own = rules.replace(queue=None, key=None, version=None, retry_failed=False, max_failures=None)
        self.worker = Worker(
            queue, {"": handler, name_of(handler): handler}, own, burst=False, grace=0.0, patience=math.inf,
            stopping=stopping, listener=self, progress=progress,
        )  # fmt: skip
        self._clock = self._store.clock
        loop = running_loop()
        self._loop = loop
        self._to_put, self._to_look, self._room = Bell(loop), Bell(loop), Bell(loop)
        self._asked: dict[str, _Asked] = {}
        self._open = 0
        self._new: deque[NewJob] = deque()
        self._told: dict[str, None] = {}
        self._hinted = self._is_putting = False
        self._looked_at = -math.inf
        self._is_over = False
        self.count = 0
        self.is_read = False
        self.problem: BaseException | None = None
        self.done = self.failed = self.cancelled = 0

    async def run(self) -> None:
        """Do what is asked for, until all has an outcome or the call is stopped.

        Raises:
            ValueError: If the queue keeps no results.
            BaseException: What stopped it.
        """
        queue, watchers = self._queue, self._store.watchers
        await queue.carry(queue._asking.first())
        conf = queue._asking.conf
        if conf is None or not conf.keep:
            raise ValueError(
                f"queue must keep results for whoever asks for them, and {queue.name!r} has keep=0: take "
                "another one, and give it keep=, in seconds, at its first use, such as keep=7 * 86400"
            )
        problem: BaseException | None = None
        watchers.setdefault(queue.name, []).append(self._hear)
        try:
            async with anyio.create_task_group() as group:
                with self._store.hints.listening(queue.name, self._hint, far=False):
                    for part in (self._read_on, self._put_on, self._look_on):
                        group.start_soon(self._guarded, part)
                    try:
                        await self.worker.run()
                    except BaseException as error:  # noqa: BLE001 - raised again below, and in no group
                        problem = error
                    self._is_over = True
                group.cancel_scope.cancel()
        finally:
            watchers[queue.name].remove(self._hear)
        self._leave_rest()
        if problem is not None:
            try:
                raise problem
            finally:
                del problem
        await anyio.lowlevel.checkpoint_if_cancelled()

    async def _guarded(self, part: Callable[[], Awaitable[None]]) -> None:
        try:
            await part()
        except Exception as error:  # noqa: BLE001 - a store may raise anything, and it ends all here
            self.worker.cancel(error)

    # --- reading ---------------------------------------------------------------------------

    async def _read_on(self) -> None:
        """Read the items while there is room."""
        items = self._items
        try:
            if isinstance(items, Iterable):
                await self._read_plain(iter(items))
            else:
                await self._read_async(items)
        except BaseException as error:
            if isinstance(error, GeneratorExit) or (
                isinstance(error, anyio.get_cancelled_exc_class())
                and anyio.current_effective_deadline() == -math.inf
            ):
                raise
            self._source_raised(error)
        self.is_read = True
        self._look_whether_all_is_put()
        self._look_over()

    async def _read_plain(self, iterator: Iterator[Any]) -> None:
        try:
            for item in iterator:
                await self._take(item)
        finally:
            closing = getattr(iterator, "close", None)
            if closing is not None:
                closing()

    async def _read_async(self, items: AsyncIterable[Any]) -> None:
        iterator = aiter(items)
        try:
            async for item in iterator:
                await self._take(item)
        finally:
            await close_awaited(iterator)

    def _source_raised(self, error: BaseException) -> None:
        """Keep what the source raised for the end; an interrupt stops the call at once."""
        if isinstance(error, CancelledError):
            error = cancelled_elsewhere(error)
        if isinstance(error, Exception):
            add_note(error, f"raised by the source of items after {self.count} of them")
            self.problem = error
        else:
            self.worker.cancel(error)

    async def _take(self, item: Any) -> None:
        """Make a job of an item, once there is room."""
        while self._open + self._unread() >= self._most:
            await self._room.wait()
        wanted = Wanted(self.count, item, self._clock.now())
        self.count += 1
        try:
            new = self._making.new(item)
        except Exception as error:  # noqa: BLE001 - the user's functions may raise anything
            self._hand_over(failed(wanted, error, self._clock.now()))
        else:
            self._open += 1
            asked = self._asked.get(new.id)
            if asked is None:
                self._asked[new.id] = _Asked(wanted)
                self._put(new)
            else:
                asked.wanted.append(wanted)
        if self.count % PAUSE == 0:
            await self._loop.checkpoint()

    def make_room(self) -> None:
        """Hear that outcomes were read."""
        self._room.ring()

    # --- putting ---------------------------------------------------------------------------

    def _put(self, new: NewJob) -> None:
        self._new.append(new)
        self._to_put.ring()

    async def _put_on(self) -> None:
        """Put what was read, as much as has gathered at a time."""
        while True:
            while not self._new:
                await self._to_put.wait()
            chunk: list[NewJob] = []
            size = 0
            while self._new and len(chunk) < self._store.step and size < MOST_BYTES:
                chunk.append(self._new.popleft())
                size += len(chunk[-1].body)
            ask = self._queue._asking.put(chunk)
            self._is_putting = True
            placed = await ask_until_answered(self._store.desk, ask.deed, ask.asked)
            self._is_putting = False
            self._store.hints.ring(self._queue.name)
            for answer in placed:
                asked = self._asked.get(answer.id)
                if asked is not None:
                    asked.is_put = True
                    asked.was_there = bool(answer.why)
            self._look_whether_all_is_put()
            self._hear(answer.id for answer in placed if answer.why)

    def _look_whether_all_is_put(self) -> None:
        if self.is_read and not self._new and not self._is_putting:
            self.worker.read_all()

    # --- looking ---------------------------------------------------------------------------

    def _hear(self, ids: Iterable[str]) -> None:
        """Hear that somebody in this process has ended jobs, or lost their leases."""
        told = [id for id in ids if id in self._asked]
        if told:
            self._told.update(dict.fromkeys(told))
            self._to_look.ring()

    def _hint(self) -> None:
        """Hear that something happened in the queue."""
        self._hinted = True
        self._to_look.ring()

    async def _look_on(self) -> None:
        """Look what became of jobs that others did."""
        while True:
            if not self._told:
                with anyio.move_on_after(self._until_look()):
                    await self._to_look.wait()
            if self._told:
                ids, self._told = list(self._told), {}
            elif self._until_look() > 0.0:
                continue
            else:
                self._hinted = False
                self._looked_at = self._clock.now()
                ids = list(self._asked)
            ids = [id for id in ids if self._may_look_at(id)]
            for begin in range(0, len(ids), AT_ONCE):
                await self._look_at(ids[begin : begin + AT_ONCE])

    def _until_look(self) -> float:
        """Return the seconds until it is time to look at all."""
        if self._store.is_private and not self._hinted:
            return math.inf  # nobody else reaches it
        return max(0.0, self._looked_at + LOOK - self._clock.now())

    def _may_look_at(self, id: str) -> bool:
        """Whether what the store has of a job may be news."""
        asked = self._asked.get(id)
        return asked is not None and asked.is_put and not self.worker.holds(id)

    async def _look_at(self, ids: list[str]) -> None:
        desk, name = self._store.desk, self._queue.name
        records: list[StoredJob | None] = await ask_until_answered(desk, f"get {name}", ids)
        again: list[str] = []
        for id, record in zip(ids, records, strict=True):
            if not self._may_look_at(id):
                continue
            asked = self._asked[id]
            was_there, asked.was_there = asked.was_there, False
            if record is None:
                self._is_gone(id, asked, was_there=was_there)
            elif record.state not in ENDED:
                continue
            elif self._retries_failed and was_there and record.state != "done":
                again.append(id)
            else:
                self._end(id, self._making.outcome(record, self._clock.now()))
        if again:
            await ask_until_answered(desk, f"requeue {name}", again)
            self._store.hints.ring(name)

    def _is_gone(self, id: str, asked: _Asked, *, was_there: bool) -> None:
        """See to a job without a record: one that was there when it was put is put again, once."""
        if was_there and not asked.is_anew:
            asked.is_anew, asked.is_put = True, False
            self._put(self._making.new(asked.wanted[0].item))
        else:
            error = JobCancelledError("the job is in the queue no more: it was deleted, or kept no longer")
            now = self._clock.now()
            for wanted in self._take_out(id):
                self._hand_over(failed(wanted, error, now))

    # --- outcomes --------------------------------------------------------------------------

    @property
    def judges(self) -> bool:
        """Whether failures may end the call, so that each is waited for before more is started."""
        return self._on_failure is not None or self._judged

    def seal(self, value: object) -> bytes | None:
        """Write a value of the handler."""
        return None if value is None else self._making.encode(value)

    def answered(self, held: Held, answer: Settled) -> None:
        """Hear that the end of a lease is stored; called by the worker."""
        id, outcome = held.stored.id, held.outcome
        if id not in self._asked:
            return
        is_own = outcome is not None and outcome.state == answer.state and not held.stored.phase
        if outcome is not None and is_own and answer.status != "stale":
            self._end(id, outcome)
        elif answer.state is None or answer.state in ENDED:
            self._hear([id])

    def _end(self, id: str, outcome: Outcome[Any, Any]) -> None:
        for place, wanted in enumerate(self._take_out(id)):
            self._hand_over(outcome_for(wanted, outcome, first=place == 0))

    def _take_out(self, id: str) -> list[Wanted]:
        asked = self._asked.pop(id, None)
        if asked is None:
            return []
        self._open -= len(asked.wanted)
        return asked.wanted

    def _hand_over(self, outcome: Outcome[Any, Any]) -> None:
        if outcome.state == "done":
            self.done += 1
        elif outcome.state == "dead":
            self.failed += 1
        else:
            self.cancelled += 1
        self._emit(outcome)
        if outcome.state == "dead" and not self._is_over:
            problem = (
                self._failures.exceeded_by(self) if self._on_failure is None else self._on_failure(outcome)
            )
            if problem is not None:
                self.worker.cancel(problem)
        self._room.ring()
        self._look_over()

    def _look_over(self) -> None:
        """Stop when everything has an outcome."""
        if self.is_read and not self._asked:
            self.worker.stop(GRACE)

    def _leave_rest(self) -> None:
        """Give what has no outcome one: the call is over, and its jobs stay in the queue."""
        self._is_over = True
        error = JobCancelledError("the call was stopped before: the job is left in the queue")
        now = self._clock.now()
        for id in list(self._asked):
            for wanted in self._take_out(id):
                self._hand_over(failed(wanted, error, now))

    @property
    def dispatcher(self) -> Dispatcher | None:
        """What decides which job is next here; None if it never came to that."""
        return self.worker.dispatcher
