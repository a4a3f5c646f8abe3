"""Work that arrives as you go: `Pool`.

A facade over three parts: the engine that runs the jobs, the hosting of that engine (in a task of
its own, so that opening and closing may happen anywhere), and the readers and putters that wait at
either end.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, Unpack, overload

from qanat._app import waiting
from qanat._app.calls import Calls
from qanat._app.failures import FailureLimit
from qanat._app.given import Given, checked_metadata
from qanat._app.handle import Handle, Unseen
from qanat._app.handlers import check_handler, name_of, retry_of_one
from qanat._app.hosting import add_task, hosted, make_engine
from qanat._app.journaling import check_journal
from qanat._app.reading import OutcomeReader, Readers
from qanat._app.room import Room
from qanat._app.rules import Rules
from qanat._app.scheduling import ScheduleHandle, Schedules
from qanat._app.stats import Stats
from qanat._app.task_host import TaskHost
from qanat._core.arguments import at_least, positive, whole
from qanat._core.branch import FamilyJob
from qanat._core.job import Job
from qanat._core.limits import Adaptive, Concurrency
from qanat._core.schedules.schedule import checked_schedule
from qanat._engine.bell import Bell
from qanat._engine.callee import callee_of
from qanat._engine.intake import Callbacks
from qanat.errors import PoolClosedError, PoolFull, blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
    from types import TracebackType

    from qanat._app.rule_args import AllArgs, RuleArgs
    from qanat._core.batch import Batch
    from qanat._core.job import Task
    from qanat._core.outcome import Outcome
    from qanat._core.reason import Reason
    from qanat._core.retry import Retry
    from qanat._core.schedules import At, Cron, Every
    from qanat._engine.engine import Engine

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")

_log = logging.getLogger("qanat")


class Pool(Generic[T, R]):
    """Run a handler over items that arrive as you go, under the same rules as `collect`.

    Use it as `async with qanat.Pool(handler, ...) as pool`. Leaving the block waits for all jobs;
    an exception in it cancels them. Leaving never raises for a job; failures that nobody looked
    at are logged once, grouped. A Pool may be opened again after it was closed, and its limits
    remember what they counted. It belongs to the thread of its event loop.

    Args:
        handler: A function of one item; None for a Pool that only takes `call`.
        max_waiting: How many jobs may wait at most; None is any number.
        rules: The rules as one value.
        **options: Single rules, see `Rules`; they win over `rules`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a rule is out of range.
    """

    @overload
    def __init__(
        self, handler: Callable[[list[T]], Awaitable[Sequence[R | BaseException]]], *,
        batch: Batch, max_waiting: int | None = None, rules: Rules | None = None,
        **options: Unpack[RuleArgs],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self, handler: Callable[[list[T]], Sequence[R | BaseException]], *,
        batch: Batch, max_waiting: int | None = None, rules: Rules | None = None,
        **options: Unpack[RuleArgs],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self, handler: Callable[[T], Awaitable[R]], *, max_waiting: int | None = None,
        rules: Rules | None = None, **options: Unpack[RuleArgs],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self, handler: Callable[[T], R], *, max_waiting: int | None = None,
        rules: Rules | None = None, **options: Unpack[RuleArgs],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: Pool[Any, Any], handler: None = None, *, max_waiting: int | None = None,
        rules: Rules | None = None, **options: Unpack[RuleArgs],
    ) -> None: ...  # fmt: skip
    def __init__(
        self, handler: Callable[[Any], Any] | None = None, *, max_waiting: int | None = None,
        rules: Rules | None = None, **options: Unpack[AllArgs],
    ) -> None:  # fmt: skip
        self._rules = Rules.of(rules, options)
        self._rules.without_queue("a Pool")
        if handler is not None:
            check_handler(handler, takes="the item" if self._rules.batch is None else "the list of items")
            callee_of(handler, self._rules.executor)
            check_journal(handler, self._rules)
        if max_waiting is not None:
            whole("max_waiting", max_waiting, 1)
        self._handler = handler
        self._max_waiting = max_waiting
        # Made once, so that limits remember over several openings.
        self._limits = self._rules.all_limits
        self._capacity = self._rules.capacity
        self._callbacks = Callbacks(
            self._rules.lane,
            self._rules.priority,
            self._rules.id,
            cost=self._rules.cost,
            deadline=self._rules.deadline,
            key=self._rules.key,
        )
        self._has_callbacks = bool(self._callbacks)
        self._kind: type[Job[Any]] = Job if self._rules.key is None else FamilyJob
        self._failures = FailureLimit(self._rules.max_failures)
        self._readers = Readers(self._rules.buffer, self._hold)
        self._engine: Engine | None = None
        self._task: Task | None = None
        self._calls: Calls | None = None
        self._schedules: Schedules | None = None
        self._thread = 0
        self._count = 0
        self._closing = False
        self._host: TaskHost | None = None
        self._room: Room | None = None
        self._drained: Bell
        self._unseen: Unseen = Counter()

    # --- life ------------------------------------------------------------------------------

    async def open(self) -> None:
        """Begin to take jobs; the same as entering the block.

        `open` and `aclose` may be called from different tasks of one event loop, and inside of any
        timeout or task group. A Pool whose event loop has ended may be opened anew.

        Raises:
            RuntimeError: If it is open.
        """
        if self._host is not None and self._engine is not None and self._engine.loop.has_ended():
            self._engine = self._host = None
        if self._host is not None:
            raise RuntimeError("the Pool is open: close it before it is opened again")
        rules = self._rules
        engine = make_engine(
            rules.replace(concurrency=self._capacity) if self._capacity != rules.capacity else rules,
            limits=self._limits, on_outcome=self._ended, on_release=self._look_drained,
            on_failure=None if rules.max_failures is None else self._judge,
            handler=self._handler, name="pool",
        )  # fmt: skip
        engine.spawner.tells = False
        engine.lingers = True
        engine.spawner.count_roots = self._count_roots
        if engine.keeper is not None:
            engine.keeper.when_moved = partial(self._moved, engine)
        self._drained = Bell(engine.loop)
        self._calls = Calls(engine, rules)
        self._task = None if self._handler is None else add_task(engine, self._handler, rules)
        room = None if self._max_waiting is None else Room(engine, self._max_waiting)
        if rules.batch is not None and room is not None:
            engine.is_full = room.is_full
        self._thread = get_ident()
        self._closing = False
        self._readers.open()
        title = "pool" if self._handler is None else name_of(self._handler)
        host = hosted(engine, progress=rules.progress or False, title=title)
        self._host = TaskHost(host, engine)
        try:
            await self._host.__aenter__()
        except BaseException:
            self._host = None
            raise
        self._engine, self._room = engine, room

    async def __aenter__(self) -> Self:
        """Open the Pool."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Wait for all jobs and close; after an exception in the block, cancel them first."""
        if error is None:
            await self.aclose()
            return None
        if self._engine is not None:
            self.cancel()
            await self._leave(error)
        return None

    async def aclose(self) -> None:
        """Take no more jobs, wait until all have ended, and close. Does nothing if it is closed.

        A paused Pool goes on, as its jobs could not end otherwise. If the waiting is cancelled, so are
        the jobs.

        Raises:
            TooManyFailuresError: If more jobs failed than `max_failures` allows.
            StartTimeoutError: If no job arrived within `start_within`.
            PoolDeadlockError: If a job of this Pool waits for it.
        """
        engine = self._engine
        if engine is None:
            return
        waiting.refuse_own(engine)
        self._take_no_more()
        engine.dispatcher.close(engine.now())
        engine.dispatcher.resume(engine.now())  # what waits would wait for ever
        engine.called = False
        engine.poke()
        try:
            await engine.wait_over()
        except BaseException as error:
            engine.cancel()
            await self._leave(error)
            raise
        await self._leave()
        if engine.failure is not None:
            raise engine.failure

    async def _leave(self, error: BaseException | None = None) -> None:
        """Wait until nothing runs any more, whatever happens to the caller meanwhile."""
        host = self._host
        if host is None:
            return
        try:
            await host.__aexit__(None if error is None else type(error), error, None)
        finally:
            if self._host is host:
                self._engine = self._host = None
                self._take_no_more()
                self._room = None
                self._schedules = None
                self._readers.close()
                self._drained.ring()
                self._tell_unseen()

    def _take_no_more(self) -> None:
        """Refuse jobs from now on; who waits for room is told, and no reader holds up the rest."""
        self._closing = True
        self._readers.lift()
        if self._schedules is not None:
            self._schedules.stop()
        if self._room is not None:
            self._room.tell_closed()

    def cancel(self) -> None:
        """Cancel all jobs, those that wait and those that run, and take no more."""
        engine = self._open_engine()
        self._take_no_more()
        engine.cancel()

    def _open_engine(self) -> Engine:
        if self._engine is None:
            raise PoolClosedError("the Pool is not open: use it inside `async with`, or call open()")
        return self._engine

    def _taking_engine(self) -> Engine:
        engine = self._open_engine()
        if self._closing or engine.failure is not None:
            raise PoolClosedError("the Pool is closing and takes no more jobs") from engine.failure
        if get_ident() != self._thread:
            raise RuntimeError(
                "the Pool belongs to the thread of its event loop, and this is another one: "
                "hand the call to that thread, on asyncio with loop.call_soon_threadsafe(pool.submit, item)"
            )
        return engine

    # --- jobs ------------------------------------------------------------------------------

    def submit(
        self, item: T, *, id: int | str | None = None, priority: float | None = None,
        lane: Hashable = None, metadata: Mapping[str, Any] | None = None, delay: float = 0.0,
        timeout: float | None = None, retry: int | Retry | None = None,
        cost: float | Mapping[str, float] | None = None,
    ) -> Handle[T, R]:  # fmt: skip
        """Hand in an item and return a handle of its job, without waiting.

        Args:
            item: What the handler is called with.
            id: The job's id; None gives it a number.
            priority: Smaller is first, with `order="priority"`; None asks the rule.
            lane: The lane's key; None asks the rule.
            metadata: Found at `current_job().metadata` and in the outcome.
            delay: Seconds before which the job does not start.
            timeout: Seconds for an attempt, instead of the Pool's.
            retry: Retries, instead of the Pool's.
            cost: What it costs a `Budget`: a number, or one for each currency; None asks the rule.

        Raises:
            PoolFull: If `max_waiting` jobs wait.
            PoolClosedError: If the Pool is not open.
            TypeError: If the Pool has no handler, or an argument is of the wrong kind.
        """
        engine = self._engine_with_room()
        return self._submit(engine, item, id, priority, lane, metadata, delay, timeout, retry, cost)

    def _engine_with_room(self) -> Engine:
        engine = self._taking_engine()
        if self._room is not None and self._room.is_full():
            raise PoolFull(
                f"{self._max_waiting} jobs wait, as many as max_waiting allows: `await pool.put(item)` "
                "waits for room"
            )
        return engine

    async def put(
        self, item: T, *, id: int | str | None = None, priority: float | None = None,
        lane: Hashable = None, metadata: Mapping[str, Any] | None = None, delay: float = 0.0,
        timeout: float | None = None, retry: int | Retry | None = None,
        cost: float | Mapping[str, float] | None = None,
    ) -> Handle[T, R]:  # fmt: skip
        """Hand in an item, waiting for room if `max_waiting` jobs wait. The rest is as in `submit`."""
        engine = self._taking_engine()
        room = self._room
        if room is not None and (room.putters or room.is_full()):
            await room.wait()
            engine = self._taking_engine()
        return self._submit(engine, item, id, priority, lane, metadata, delay, timeout, retry, cost)

    def _submit(
        self, engine: Engine, item: T, given_id: int | str | None, priority: float | None, lane: Hashable,
        metadata: Mapping[str, Any] | None, delay: float, timeout: float | None, retry: int | Retry | None,
        cost: float | Mapping[str, float] | None, *, scheduled: bool = False,
    ) -> Handle[T, R]:  # fmt: skip
        task = self._task
        if task is None:
            raise TypeError("the Pool has no handler: make it with one, or use pool.call(function, ...)")
        if timeout is not None or retry is not None:
            task = task.varied(
                retry=None if retry is None else retry_of_one(retry),
                timeout=None if timeout is None else positive("timeout", timeout),
            )
        if delay != 0.0:
            delay = at_least("delay", delay, 0.0)
        index = self._count
        job = self._kind(index, item, index, task, metadata=checked_metadata(metadata))
        # Checked before the rules' functions are asked: a wrong call fails here, whatever they do.
        given = None
        if given_id is not None or priority is not None or lane is not None or cost is not None:
            given = Given(given_id, priority, lane, cost)
        problem: BaseException | None = None
        now = engine.now()
        if self._has_callbacks:
            try:
                self._callbacks.fill(
                    job,
                    now,
                    lane=lane is None,
                    priority=priority is None,
                    id=given_id is None,
                    cost=cost is None,
                )
            except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
                problem = blamed_on_job(error)
            if problem is None and type(job) is FamilyJob and (engine.keeper is None or not scheduled):
                job._took = ()
                first = engine.spawner.first(job)
                if first is not job:
                    return Handle(first, engine)
        if given is not None:
            given.fill(job)
        self._count = index + 1
        handle: Handle[T, R] = Handle(job, engine)
        if problem is None and engine.keeper is not None and not scheduled:
            engine.keeper.arrived(job, now, delay)
        elif problem is None:
            engine.dispatcher.offer(job, now, delay=delay)
        else:
            engine.dispatcher.refuse(job, problem, now)
        engine.offered()
        return handle

    @overload
    def call(
        self, function: Callable[..., Awaitable[S]], *args: Any, timeout: float | None = None,
        retry: int | Retry = 0,
    ) -> Handle[tuple[Any, ...], S]: ...  # fmt: skip
    @overload
    def call(
        self, function: Callable[..., S], *args: Any, timeout: float | None = None, retry: int | Retry = 0
    ) -> Handle[tuple[Any, ...], S]: ...
    def call(
        self, function: Callable[..., Any], *args: Any, timeout: float | None = None, retry: int | Retry = 0
    ) -> Handle[tuple[Any, ...], Any]:
        """Call any function under the Pool's limits and return a handle of the call.

        Calls of one function take turns with those of others and with the handler's jobs.

        Args:
            function: A coroutine function or a plain function.
            *args: Its arguments; the job's item is their tuple.
            timeout: Seconds for one attempt; None is unlimited.
            retry: How many retries, or a `Retry`.

        Raises:
            PoolFull: If `max_waiting` jobs wait.
            PoolClosedError: If the Pool is not open.
            TypeError: If it is not a function.
        """
        engine = self._taking_engine()
        if self._room is not None and self._room.is_full():
            raise PoolFull(f"{self._max_waiting} jobs wait, as many as max_waiting allows")
        assert self._calls is not None  # noqa: S101 - open
        index = self._count
        job = self._calls.job(index, function, args, timeout, retry)
        self._count = index + 1
        engine.dispatcher.offer(job, engine.now())
        engine.offered()
        return Handle(job, engine)

    def schedule(
        self, schedule: At | Every | Cron, item: T, *, priority: float | None = None,
        lane: Hashable = None, metadata: Mapping[str, Any] | None = None,
        timeout: float | None = None, retry: int | Retry | None = None,
    ) -> ScheduleHandle:  # fmt: skip
        """Hand in an item each time a schedule says so, and return a handle of the schedule.

        The schedule goes by the wall clock, and ends with the Pool: leaving and closing the Pool
        stop it, and `drain` waits for its jobs but not for its times. A time at which
        `max_waiting` jobs wait is left out. Each job finds its time, in UTC seconds, as
        `current_job().metadata["scheduled_for"]`.

        Args:
            schedule: When: an `At`, `Every` or `Cron`.
            item: What the handler is called with, each time the same object.
            priority: Smaller is first, with `order="priority"`; None asks the rule.
            lane: The lane's key; None asks the rule.
            metadata: Found at `current_job().metadata` and in the outcomes.
            timeout: Seconds for an attempt, instead of the Pool's.
            retry: Retries, instead of the Pool's.

        Raises:
            PoolClosedError: If the Pool is not open.
            TypeError: If the Pool has no handler, or an argument is of the wrong kind.
            ValueError: If an argument is out of range.
        """
        engine = self._taking_engine()
        checked_schedule("schedule", schedule)
        if self._task is None:
            raise TypeError("the Pool has no handler to schedule: make it with one")
        Given(None, priority, lane, None)
        metadata = checked_metadata(metadata) or {}
        timeout = None if timeout is None else positive("timeout", timeout)
        retry = None if retry is None else retry_of_one(retry)
        if self._schedules is None:
            self._schedules = Schedules(engine)
        return self._schedules.add(
            schedule, item,
            # Past a journal: the same item comes to be done each time.
            lambda at: self._submit(
                self._engine_with_room(), item, None, priority, lane, {**metadata, "scheduled_for": at},
                0.0, timeout, retry, None, scheduled=True,
            ),
        )  # fmt: skip

    def _count_roots(self) -> int:
        return self._count

    # --- results ---------------------------------------------------------------------------

    def outcomes(self) -> OutcomeReader[T, R]:
        """Return an async iterator over the outcomes of jobs that end from now on.

        It ends when the Pool is closed. While `buffer` outcomes wait to be read no job is
        started, until the Pool is closing; a reader that is dropped no longer counts.
        """
        engine = self._open_engine()
        return self._readers.add(engine.loop)

    def _hold(self, held: bool) -> None:
        if self._engine is not None:
            self._engine.hold(held)

    def _ended(self, job: Job[Any], outcome: Outcome[Any, Any]) -> None:
        """Hear that a job ended for good."""
        looked_at = waiting.ended(job, outcome)
        job._mark = None
        if not (self._readers.tell(outcome) or looked_at) and outcome.state == "dead":
            # Its handle takes it back, should somebody look after all.
            job._mark = self._unseen
            self._unseen[type(outcome.error).__name__] += 1
        if self._calls is not None and job._task is not self._task:
            self._calls.ended(job)
        if self._schedules is not None:
            self._schedules.ended(job)
        if self._room is not None and self._room.putters:
            self._room.let_put()
        self._look_drained()

    def _moved(self, engine: Engine) -> None:
        """Hear that jobs that were looked up in the journal have gone on."""
        waiting.look_again(engine)
        self._look_drained()

    def _judge(self, outcome: Outcome[Any, Any]) -> None:
        engine = self._engine
        if engine is not None and (problem := self._failures.exceeded_by(engine.dispatcher)) is not None:
            self._take_no_more()
            engine.cancel(problem)

    def _tell_unseen(self) -> None:
        unseen, self._unseen = +self._unseen, Counter()
        if unseen:
            kinds = ", ".join(f"{number} x {name}" for name, number in unseen.most_common())
            _log.warning(
                "%d failed jobs of Pool(%s) were never looked at: %s",
                unseen.total(), name_of(self._handler) if self._handler else "", kinds,
            )  # fmt: skip

    async def drain(self) -> None:
        """Wait until nothing waits, is scheduled or runs; the Pool goes on taking jobs.

        Raises:
            TooManyFailuresError: If more jobs failed than `max_failures` allows.
            StartTimeoutError: If no job arrived within `start_within`.
            PoolDeadlockError: If a job of this Pool waits for it.
        """
        engine = self._open_engine()
        waiting.refuse_own(engine)
        engine.hurry(wanted=True)
        try:
            while self._engine is engine and not engine.is_idle and engine.failure is None:
                await self._drained.wait()
        finally:
            engine.hurry(wanted=False)
        if engine.failure is not None:
            raise engine.failure

    def _look_drained(self) -> None:
        if self._drained and self._engine is not None and self._engine.is_idle:
            self._drained.ring()

    # --- while it runs ---------------------------------------------------------------------

    def pause(self) -> None:
        """Start no jobs until `resume`; those that run go on."""
        engine = self._open_engine()
        engine.dispatcher.pause(engine.now())

    def resume(self) -> None:
        """Start jobs again."""
        engine = self._open_engine()
        engine.dispatcher.resume(engine.now())
        engine.called = False
        engine.poke()
        # Who began to wait meanwhile was not asked whether it can go on.
        waiting.look_again(engine)

    def resize(self, n: int) -> None:
        """Let so many jobs run at once; those that run beyond it go on to their end.

        Raises:
            TypeError: If `n` is not a whole number, or the Pool's concurrency is `Adaptive`.
            ValueError: If it is less than 1.
        """
        whole("n", n, 1)
        concurrency = self._rules.concurrency
        if isinstance(concurrency, Adaptive):
            raise TypeError(
                f"n cannot be set, got {n}: the Pool's concurrency is {concurrency!r}, "
                "which finds it out by itself"
            )
        if isinstance(concurrency, Concurrency):
            concurrency.resize(n)
        else:
            self._capacity = n
            if self._engine is not None:
                self._engine.resize(n)
        if self._engine is not None:
            # With fewer slots some may wait for ever.
            waiting.look_again(self._engine)

    def stats(self) -> Stats:
        """Return how the Pool is doing, from counters that are kept anyway."""
        engine = self._open_engine()
        dispatcher = engine.dispatcher
        waiting = dispatcher.waiting + (0 if engine.keeper is None else engine.keeper.waiting)
        return Stats(
            waiting=waiting, running=dispatcher.running, scheduled=dispatcher.scheduled,
            done=dispatcher.done, failed=dispatcher.failed, cancelled=dispatcher.cancelled,
            retried=dispatcher.retried, waits=dispatcher.waits,
        )  # fmt: skip

    def why(self) -> Reason | None:
        """Return why nothing more is started now; None if nothing waits."""
        return self._open_engine().dispatcher.why()
