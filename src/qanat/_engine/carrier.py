"""A carrier: a long-lived worker of the event loop that carries jobs through their handler.

This is the hot path. A job that can start at once costs no event-loop primitive here: no future,
lock, task or cancel scope is made for it. What must stay true:

- **One scope, renewed when used.** A carrier runs its jobs in one cancel scope. Whoever cancels
  a job cancels that scope, so after every attempt `is_spent` is looked at, and a used scope
  is left before the next job; else a late cancellation would hit the wrong job.
- **Items are drawn where nothing is to be decided.** In the dispatcher's plain way of running, with
  nothing waiting, an item is read, started and finished right here: the same counts and the same
  outcome as by way of the dispatcher, without three calls (0.4 us of 1.4). A job drawn so that
  fails, or meets anything else, ends by way of the dispatcher like every other.
- **One drawn item follows the other in its slot.** Between two of them nothing else runs, so what
  cannot have changed is not looked at: the slot is not given back and taken, and the carrier stays
  busy. That took a tenth to a quarter off a no-op item, by the state of the machine. What an
  iterator of the user's own may look at meanwhile, or a reader may hold up, is drawn one by one.
- **Nobody starves.** A carrier that did not suspend for 1 ms yields once. All carriers share the
  slice, or ten of them would take ten slices in one turn of the loop. `engine.turn` tells a
  carrier whether another one ran since it last looked, that is, whether it suspended by itself.
- **A job that nobody looks at is not made.** For an item that is drawn its facts are put into the
  cell; whoever asks for the job makes it of them. Where the last one was asked for, the next is made
  right away: so one costs 0.3 us more once, and not each time.
- **A handler's context is its own.** `current_job` looks into a cell that the carrier set in its
  context once. After each attempt two counts tell whether the context may have been changed or
  copied (see `context`). At the first change the carrier gives way to a new one with a clean
  context, and from then on every attempt runs in a copy of its own; a copy keeps its cell, and
  the carrier goes on with a new one.
- **A cancellation hits the job that it was meant for.** A handler that cancels the task it runs
  in and returns at once leaves that behind in the task: asyncio's `_must_cancel` says so.
- **Every ending is an outcome.** Whatever the handler raises is caught inside its own task;
  `SystemExit` or `KeyboardInterrupt` that escaped a task would end the event loop.
"""

# Pyright gives up on the flow of `run`, as long as it is, and then knows no type in it; mypy follows it.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import math
from contextvars import copy_context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

import anyio

from qanat._core.branch import FamilyJob
from qanat._core.job import RUNNING, History, Job
from qanat._core.outcome import Outcome
from qanat._core.retry import BUILT_IN
from qanat._engine.callee import Returned
from qanat._engine.context import count_references, new_cell, run_in, running_carrier
from qanat._engine.leaves import carry_leaves
from qanat.errors import JobCancelledError, JobTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from qanat._engine.context import Cell
    from qanat._engine.engine import Engine
    from qanat._engine.loop import Spot
    from qanat._engine.threads import Call

SLICE = 0.001
"""Seconds that the carriers may keep the loop without a suspension, all together.

A turn of the loop may hold two slices: a timer beside is then up to 2 ms late. Twice as long
saved 0 to 3 % of a no-op job, and made it 4 ms.
"""

PLAIN = frozenset(each for each in BUILT_IN if issubclass(each, Exception))
"""Exceptions that only say that an attempt failed, unless somebody gave one an attribute of its own."""


class Carrier:
    """Carry one job after the other, until there are none left.

    Attributes:
        draws: Whether it has a drawn item in hand, of which the cell makes a job if somebody asks.
        deadline: When its attempt times out.
        left_behind: A call in a thread that could not be stopped.
        task: The loop's task that this carrier is.
        waits: The handles that the handler in hand awaits, by the task that does.
        looks_soon: Whether it is about to be found out if these waits can end.
    """

    __slots__ = (
        "_cancelled",
        "_cell",
        "_context",
        "_diverted",
        "_job",
        "_mark",
        "_scope",
        "_spot",
        "_tally",
        "_timed_out",
        "_variables",
        "deadline",
        "draws",
        "engine",
        "is_spent",
        "left_behind",
        "looks_soon",
        "task",
        "waits",
    )

    def __init__(self, engine: Engine) -> None:
        """Begin with empty hands."""
        self.engine = engine
        self._job: Job[Any] | None = None
        self.draws = False
        self.deadline: float = math.inf
        self.left_behind: Call | None = None
        self._scope: anyio.CancelScope | None = None
        self._spot: Spot | None = None
        self._timed_out = False
        self._cancelled = False
        self._diverted = False
        self._mark: Any = None
        self._cell: Cell | None = None
        self._context: Context | None = None
        self._variables: Any = None
        self._tally: Callable[[object], object] = count_references
        self.is_spent = False
        self.task: Any = None
        self.waits: dict[Any, Any] = {}
        self.looks_soon = False

    # --- from outside ----------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether it has a job in hand."""
        return self.draws or self._job is not None

    @property
    def job(self) -> Job[Any] | None:
        """The job in hand; None between jobs, and while nobody has asked for the one of a drawn item."""
        if self._job is not None or not self.draws:
            return self._job
        assert self._cell is not None  # noqa: S101 - a carrier with a job has one
        return self._cell.job

    def look(self) -> Job[Any] | None:
        """Return the job in hand; None between jobs. To be called in the loop's thread."""
        if self.draws:
            assert self._cell is not None  # noqa: S101 - a carrier with a job has one
            return self._cell.made()
        return self._job

    def time_out(self) -> None:
        """Stop the attempt in hand because its time is up."""
        self._timed_out = True
        self.deadline = math.inf
        self._spend_scope()

    def cancel(self) -> None:
        """Stop the job in hand for good."""
        self._cancelled = True
        self._spend_scope()

    def divert(self, job: Job[Any]) -> None:
        """Let the end of an attempt in hand go the long way: its job's end may be held.

        A spent scope is what the hot path looks for anyway, so it need not look for this.
        """
        if self.job is job:
            self.is_spent = self._diverted = True

    def stand_for(self, job: Job[Any]) -> None:
        """Let `current_job` be another than the job in hand, until the next one."""
        assert self._cell is not None  # noqa: S101 - a carrier with a job has one
        self._cell.job = job

    def _spend_scope(self) -> None:
        assert self._scope is not None  # noqa: S101 - a carrier with a job is in its scope
        self.is_spent = True
        self._scope.cancel()

    def wake(self) -> None:
        """End an idle wait."""
        assert self._spot is not None  # noqa: S101 - only who waits is woken
        self._spot.wake()

    # --- the carrier's own task ------------------------------------------------------------

    async def run(self) -> None:  # noqa: C901, PLR0912, PLR0915 - the hot path: a call costs 50 ns
        """Carry jobs until the engine is over, or this carrier is not needed any more.

        All of it is one frame: each resumption of a handler passes through every frame above it.
        """
        engine = self.engine
        engine.coming.discard(self)
        self.task = engine.loop.current_task()
        self._mark = engine.loop.cancel_mark()
        running_carrier.set(self)
        dispatcher = engine.dispatcher
        next_job, finish, clock = dispatcher.next, dispatcher.finish, engine.now
        ended, wants_done = dispatcher.ended, engine.wants_done
        append = engine.append
        keep: Callable[[Any], object] = cast("Any", append)  # it is there wherever items are drawn
        settle = engine.settle if engine.keeper is None else engine.keeper.settle
        mark, count = self._mark, count_references
        cell = self._renew_cell()
        copies = count(self._variables) if self._variables is not None else -1
        tally = self._tally
        changes = tally(self._cell)
        timeline = dispatcher.timeline
        # What they say changes with every await, which the type checkers would not believe of the others.
        seen: Any = engine
        decided: Any = dispatcher
        value: Any = None
        outcome: Any = None
        task: Any = None
        timeout: float | None = None
        function: Any = None
        job: Job[Any] | None = None
        item: Any = None
        given: Any = None
        ending: Any = None
        number, attempts, first, started, ran = 0, 1, 0.0, 0.0, 0.0
        isolates = engine.isolates
        drawn = settled = carried = False
        staying = True
        try:
            while staying:
                self.is_spent = False
                with anyio.CancelScope() as self._scope:
                    engine.called = False
                    now = clock()
                    while True:
                        error: BaseException | None = None
                        drawn = settled = carried = False
                        if (
                            (source := engine.drawn) is None
                            or engine.held
                            or dispatcher.waiting
                            or not dispatcher.is_plain
                            or dispatcher.running >= dispatcher.capacity
                            or now >= timeline.at
                            or (
                                source.counts_unread
                                and (dispatcher.scheduled or not source.is_held)
                                and source.room() <= 0
                            )
                        ):
                            job = None if engine.held else next_job(now)
                            if ended:
                                engine.tell_ended()
                                if engine.stopped:
                                    # One of those that ended was the failure that stops the run.
                                    engine.drop(job, now)
                                    job = None
                            if job is None:
                                if engine.refill() or engine.squeeze():
                                    now = clock()
                                    continue
                                # No local holds on to the last job while this one waits.
                                item = value = outcome = task = function = given = ending = None
                                cell.clear()
                                if await self._idle():
                                    now = clock()
                                    continue
                                staying = False
                                break
                            if not engine.called and dispatcher.running < dispatcher.capacity:
                                engine.call_up()
                            if engine.tops_up:
                                engine.refill()
                                if engine.stopped:
                                    engine.drop(job, now)
                                    continue
                            given = job
                            self._job = cell.job = given
                            task = given._task
                            item = given.item
                            timeout = task.timeout
                            function = task.direct
                            if timeout is not None:
                                self.deadline = deadline = now + timeout
                                if deadline < engine.alarm_at:
                                    engine.set_alarm(deadline)
                            if (
                                type(given) is FamilyJob
                                and function is not None
                                and append is not None
                                and not isolates
                                and not engine.tops_up
                            ):
                                carried = True
                                given, value, error, now = await carry_leaves(self, given, copies, changes)
                                job = given
                                settled = given is None
                        else:
                            drawing: Any = source
                            try:
                                for item in drawing.iterator:  # noqa: B007 - a third of calling __next__
                                    break
                                else:
                                    source.ended()
                                    continue
                            except BaseException as caught:  # noqa: BLE001 - the source's, or raised again
                                source.failed(caught)
                                continue
                            if source.may_block:
                                now = clock()
                            # The user's own iterator may look at what runs, and a reader's room is counted.
                            one_by_one = source.may_block or (source.counts_unread and not source.is_held)
                            drawn = settled = self.draws = True
                            dispatcher.running += 1
                            task = source.task
                            timeout = task.timeout
                            function = task.direct
                            job = given = None
                            cell.task = task
                            cell.attempt = attempts = 1
                            ran = 0.0
                            while True:  # one item after the other, in the same slot
                                number = source.count
                                source.count = number + 1
                                first = started = now
                                if cell.job is None:
                                    # One by one: more than three at once make a tuple.
                                    cell.number = number
                                    cell.item = item
                                    cell.first = now
                                else:
                                    # The last one was asked for, so this one will be.
                                    cell.job = Job(number, item, number, task, now, RUNNING, now)
                                if not engine.called:
                                    if dispatcher.running < dispatcher.capacity:
                                        engine.call_up()
                                    else:
                                        # All are busy, and each of them asks when it is done.
                                        engine.called = True
                                if timeout is not None:
                                    self.deadline = deadline = now + timeout
                                    if deadline < engine.alarm_at:
                                        engine.set_alarm(deadline)
                                if function is None:
                                    settled = False
                                    break
                                while True:  # its attempts, while each is due at once
                                    try:
                                        if isolates:
                                            value = await run_in(copy_context(), function(item))
                                        else:
                                            value = await function(item)
                                    except BaseException as caught:  # noqa: BLE001 - every ending is an outcome
                                        now = clock()
                                        if (
                                            attempts <= task.retries_at_once
                                            and type(caught) in PLAIN
                                            and not self.is_spent
                                            # Its retry is the next to start, in the very slot that it holds.
                                            and not seen.held
                                            and not engine.stopped
                                            and not decided.waiting
                                            and decided.is_plain
                                            and now < timeline.at
                                            # Once even if its slice is over, as the long way costs ten times
                                            # that, and all carriers that come back then would go it.
                                            and (
                                                attempts == 1
                                                or now < engine.slice_end
                                                or engine.turn is not self
                                            )
                                            and engine.on_retry is None
                                            and not caught.__dict__
                                            # A copy of the context may stay: it is of the same job.
                                            and self._variables is not None
                                            and tally(self._cell) == changes
                                            and not mark.cancelling()
                                        ):
                                            if now >= engine.slice_end:
                                                engine.turn = self
                                            dispatcher.retried += 1
                                            attempts += 1
                                            ran += now - started
                                            cell.attempt = attempts
                                            cell.started = started = now
                                            job = cell.job
                                            if job is not None:
                                                job.attempt = attempts
                                                job.started_at = now
                                            if timeout is not None:
                                                self.deadline = now + timeout  # the alarm rings before
                                            continue
                                        value = None
                                        error = caught
                                    else:
                                        now = clock()
                                    break
                                if (
                                    error is not None
                                    or self.is_spent
                                    or type(value) is CoroutineType
                                    or not decided.is_plain
                                ):
                                    settled = False
                                    break
                                dispatcher.done += 1
                                if wants_done:
                                    outcome = Outcome(
                                        number, number, item, value, None, "done", attempts, None, None, None,
                                        first, first, now, now - started + ran, "concurrency",
                                    )  # fmt: skip
                                    keep(outcome)
                                if (
                                    one_by_one
                                    or engine.drawn is not source
                                    or seen.held
                                    or decided.waiting
                                    or now >= timeline.at
                                    or (source.counts_unread and decided.scheduled)
                                    or count(self._variables) != copies
                                    or tally(self._cell) != changes
                                    or mark._must_cancel
                                ):
                                    break
                                if now >= engine.slice_end:
                                    if engine.turn is self:
                                        break
                                    engine.turn = self
                                if attempts > 1:
                                    cell.attempt = attempts = 1
                                    ran = 0.0
                                try:
                                    for item in drawing.iterator:  # noqa: B007 - as above
                                        break
                                    else:
                                        break
                                except BaseException as caught:  # noqa: BLE001 - the source's, or raised again
                                    error = caught
                                    break
                            if settled:
                                self.draws = False
                                dispatcher.running -= 1
                                if timeout is not None:
                                    self.deadline = math.inf
                                if error is not None:
                                    source.failed(error)
                                    error = None  # as below
                                    continue
                        if not carried and (function is None or not drawn):
                            try:
                                if function is None:
                                    job = cell.job or cell.made()
                                    assert job is not None  # noqa: S101 - it has one in hand
                                    value, error = await task.handler.call(self, job)
                                elif isolates:
                                    value = await run_in(copy_context(), function(item))
                                else:
                                    value = await function(item)
                            except BaseException as caught:  # noqa: BLE001 - every ending is an outcome
                                value = None
                                error = caught
                            now = clock()
                        if settled:
                            pass
                        elif (
                            error is None
                            and (not self.is_spent or (self._diverted and self._takes_in_told(mark)))
                            and type(value) is not CoroutineType
                        ):
                            ending = self._noted(job, drawn, attempts, first, ran) if drawn else given
                            outcome = finish(ending, value, None, now)
                            self._job = None
                            self.draws = False
                            if timeout is not None:
                                self.deadline = math.inf
                            if outcome is None:
                                engine.ends_later(ending, now)
                            elif append is not None and outcome.error is None:
                                append(outcome)
                            else:
                                settle(ending, outcome)
                        elif (
                            isinstance(error, Exception)
                            and not self.is_spent
                            and self.left_behind is None
                            and not mark.cancelling()
                        ):
                            # Nobody interrupted it, so nothing is to be found out.
                            self.draws = False
                            self._job = None
                            self.deadline = math.inf
                            job = self._noted(job, drawn, attempts, first, ran)
                            if now >= engine.slice_end and engine.turn is self:
                                await self._fail_late(job, error, now)
                            else:
                                engine.fail(job, error, now)
                            now = clock()
                            error = None  # as below
                            if self.is_spent:
                                break
                        else:
                            job = self._noted(job, drawn, attempts, first, ran)
                            if (
                                now >= engine.slice_end
                                and engine.turn is self
                                and isinstance(error, Exception)
                                and mark is not self.task  # on trio: elsewhere it may be cancelled meanwhile
                            ):
                                self.deadline = math.inf
                                await self._breathe()
                            going_on = self._conclude(job, value, error, now)
                            error = None  # or the frame keeps the traceback, which keeps the frame
                            if going_on is not None:
                                staying = going_on
                                break
                            now = clock()
                        if count(self._variables) != copies or tally(self._cell) != changes:
                            if copy_context() != self._context:
                                engine.isolates = True
                                staying = False
                                break
                            cell = self._renew_cell()
                            copies = count(self._variables) if self._variables is not None else -1
                            tally = self._tally
                            changes = tally(self._cell)
                        if mark._must_cancel:
                            break
                        if now >= engine.slice_end:
                            if engine.turn is self:
                                await self._breathe()
                                now = clock()
                            else:
                                engine.turn = self
                if mark._must_cancel:
                    await engine.loop.shake_off_cancel()
        except engine.cancellation:
            if anyio.current_effective_deadline() == -math.inf:
                raise
            # Somebody cancelled the bare task between two jobs: the engine replaces this carrier.
        finally:
            engine.left(self)

    async def _fail_late(self, job: Job[Any], error: Exception, now: float) -> None:
        """Let everything else run once, and then settle an attempt that failed.

        Settled before, its retry might be due at once, and be the next for whoever comes: what else waits
        would not start as long as that goes on.
        """
        self._job = job
        try:
            await self._breathe()
        finally:
            if self.is_spent:  # it was cancelled meanwhile
                self._conclude(job, None, error, now)
            else:
                self._job = None
                self.engine.fail(job, error, now)

    def _takes_in_told(self, mark: Any) -> bool:
        """Take in what other threads told of a diverted attempt; whether that is all there was to do."""
        self.engine.outside.do_told()
        assert self._scope is not None  # noqa: S101 - a carrier with a job is in its scope
        if (
            self._scope.cancel_called
            or self._timed_out
            or self._cancelled
            or self.left_behind is not None
            or (mark.cancelling() and anyio.current_effective_deadline() == -math.inf)
        ):
            return False
        self._diverted = self.is_spent = False
        return True

    def _noted(self, job: Job[Any] | None, drawn: bool, attempts: int, first: float, ran: float) -> Job[Any]:
        """Return the job in hand, with what only this carrier knew of it; it ends by the long way."""
        if drawn:
            assert self._cell is not None  # noqa: S101 - a carrier with a job has one
            job = self._cell.made()
            assert job is not None  # noqa: S101 - it was drawn
            if attempts > 1:
                job._history = History(first_started_at=first, ran=ran)
        assert job is not None  # noqa: S101 - or it was given out
        return job

    def _renew_cell(self) -> Cell:
        """Go on with a new cell, as others see the one before."""
        self._cell, self._context, self._variables, self._tally = new_cell()
        return self._cell

    def _conclude(self, job: Job[Any], value: Any, error: BaseException | None, now: float) -> bool | None:
        """Settle an attempt that did not simply return a value.

        Returns:
            None: go on with the next job. True: the scope is used up, renew it. False: leave.

        Raises:
            BaseException: A cancellation, which the scope or those around it wait for.
        """
        engine = self.engine
        timed_out, self._timed_out = self._timed_out, False
        cancelled, self._cancelled = self._cancelled, False
        left_behind, self.left_behind = self.left_behind, None
        if self._diverted:
            engine.outside.do_told()
            self._diverted = False
            assert self._scope is not None  # noqa: S101 - a carrier with a job is in its scope
            self.is_spent = self._scope.cancel_called
        self.draws = False
        self._job = None
        self.deadline = math.inf
        if type(error) is Returned:
            value, error = error.value, None
        if type(value) is CoroutineType:
            value.close()
            value, error = None, TypeError(
                "the handler returned a coroutine that nobody awaited: write `return await ...` in it"
            )  # fmt: skip
        is_cancellation = isinstance(error, engine.cancellation)
        if type(error) is GeneratorExit and not engine.loop.is_running():
            raise error
        # A cancellation is ours if a scope around us was cancelled; else it is the handler's own doing.
        stopped = (
            not self.is_spent
            and (is_cancellation or engine.loop.may_be_cancelled())  # which is cheap to know
            and anyio.current_effective_deadline() == -math.inf
        )
        # Or it cancelled the very task that carries it: this one is spoilt, a new one comes.
        leaving = stopped or (is_cancellation and not self.is_spent and engine.loop.is_being_cancelled())
        outcome_error = error
        if error is not None:
            if timed_out and self.is_spent and not cancelled:
                timeout = job._task.timeout
                assert timeout is not None  # noqa: S101 - only such jobs time out
                outcome_error = JobTimeoutError(timeout, still_running=left_behind is not None)
                outcome_error.__cause__ = None if is_cancellation else error
            elif (cancelled and self.is_spent) or stopped:
                outcome_error = JobCancelledError("the job was cancelled while it ran")
                outcome_error.__cause__ = None if is_cancellation else error
        family = engine.dispatcher.family
        if stopped and family is not None:
            # The loop may cancel this task before the one that stops the run: no parent is done by this.
            family.stop()
        gone = error is not None and (stopped or cancelled)
        engine.conclude(job, value, outcome_error, now, cancelled=gone, left_behind=left_behind)
        try:
            if is_cancellation and (self.is_spent or stopped):
                assert error is not None  # noqa: S101 - a cancellation is an error
                raise error
            if self.is_spent:
                return True
            return False if leaving else None
        finally:
            del error, outcome_error

    async def _idle(self) -> bool:
        """Wait to be called up; False if this carrier is to leave."""
        engine = self.engine
        if not engine.may_wait(self):
            return False
        if engine.lingers and not engine.lingering and engine.done_seen != engine.dispatcher.done:
            return await self._linger()
        spot = self._spot = engine.loop.spot()
        engine.idle[self] = None
        engine.called = engine.lingering
        try:
            await spot.wait()
        finally:
            self._spot = None
            engine.idle.pop(self, None)
            engine.coming.discard(self)
            engine.called = False
        engine.turn = self
        return not engine.over

    async def _linger(self) -> bool:
        """Look once more when everything else has run; False if this carrier is to leave.

        Who awaits one job after the other hands in the next as soon as it hears of the last, before this
        carrier is at its turn again: so each costs one turn of the loop, and nobody is to be woken for it.
        """
        engine = self.engine
        engine.done_seen = engine.dispatcher.done
        engine.lingering = engine.called = True
        try:
            await engine.loop.checkpoint()
        finally:
            engine.lingering = engine.called = False
        engine.turn = self
        return not engine.over

    async def _breathe(self) -> None:
        """Let everything else run once; the first carrier to come back begins a new slice."""
        engine = self.engine
        epoch = engine.epoch
        await engine.loop.checkpoint()
        if engine.epoch == epoch:
            engine.epoch += 1
            engine.slice_end = engine.now() + SLICE
        engine.turn = self
