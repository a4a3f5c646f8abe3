"""The engine: turns a Dispatcher on real time, on asyncio or trio.

It owns the carriers, which run the handlers; the intake, which reads the source; the alarm, which
rings when a job may start or an attempt is over time; and what runs outside of the loop. All its
state changes in plain calls from the loop's thread; nothing is awaited between asking the
dispatcher and acting on its answer.

Carriers are called up one at a time: a carrier that got a job calls up the next one if there may
be more to start (`called` is True while one is on its way, or nobody is left to call). So a
handler that never waits is run by one carrier, and one that waits soon has as many as may run: where
jobs wait for nothing but a slot, as many more are called up as are in their handlers already.
"""

from __future__ import annotations

import logging
import math
import threading
from contextvars import copy_context
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

import anyio

from qanat._core.dispatcher import Dispatcher
from qanat._core.dispatcher.charging import check as check_currency
from qanat._core.events import RunEnded, RunStarted
from qanat._core.job import CHILDREN, ENDED, keep_description, not_running
from qanat._engine.alarm import Alarm, AsyncioAlarm, TrioAlarm
from qanat._engine.carrier import SLICE, Carrier
from qanat._engine.checks import Checks
from qanat._engine.context import running_cell
from qanat._engine.intake import Intake
from qanat._engine.loop import running_loop
from qanat._engine.outside import Outside
from qanat._engine.sampler import Sampler
from qanat._engine.threads import running_call
from qanat.errors import JobCancelledError, StartTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from anyio.abc import TaskGroup

    from qanat._core.events import Event
    from qanat._core.job import Job
    from qanat._core.limit import Limit
    from qanat._core.outcome import Outcome
    from qanat._core.ports import Clock, Random
    from qanat._engine.intake import Source
    from qanat._engine.keeper import Keeper
    from qanat._engine.threads import Call

MOST_FAULTS = 10
"""Errors of limits that are logged; a broken one would fill the log otherwise."""

_log = logging.getLogger("qanat")

OFF_LOOP = 2.0
"""How many times longer a handler in a thread or process may take to begin; up to 8 ms were seen."""


class Engine:
    """Run jobs until there are no more.

    Attributes:
        dispatcher: Who decides.
        drawn: The source, if carriers may take items straight from it: nobody wants more than outcomes.
        coming: Carriers that were called up, and did not look yet.
        append: Called with each outcome, if that is all there is to do; else `settle` is.
        wants_done: Whether `append` is to be called with jobs that are done, too; it may be all the same.
        extend: Called with outcomes of roots that are done, where nobody has their handles and there is
            nothing else to do; None: each is to be delivered by itself.
        held: True while nobody reads the outcomes: nothing is started.
        lingers: Whether who hears that a job is done may hand in the next: a carrier that finds nothing
            then looks once more when everything else has run.
        lingering: Whether a carrier is about to.
        done_seen: How many jobs were done when one did so last.
        keeper: Who keeps outcomes until they are recorded; None if they are not.
        is_full: With batches, whether no more jobs can come before some that wait are started.
        on_retry: Called with each job that will run again, and why; None: nobody wants that.
        over: True once nothing more is started, as nothing is left to do or the engine was closed.
        failure: What stopped the run, if something did.
        stopped: Whether nothing more is started, though something is left.
    """

    __slots__ = (
        "_alarm",
        "_context",
        "_faults_logged",
        "_group",
        "_holders",
        "_on_failure",
        "_on_outcome",
        "_on_release",
        "_over_calls",
        "_samples",
        "_start_by",
        "_start_within",
        "_thread",
        "alarm_at",
        "append",
        "called",
        "cancellation",
        "carriers",
        "checks",
        "clock",
        "coming",
        "dispatcher",
        "done_seen",
        "drawn",
        "epoch",
        "extend",
        "failure",
        "held",
        "idle",
        "is_full",
        "isolates",
        "keeper",
        "lingering",
        "lingers",
        "loop",
        "name",
        "now",
        "observe",
        "on_retry",
        "outside",
        "over",
        "slice_end",
        "source",
        "spawner",
        "stopped",
        "tops_up",
        "turn",
        "wants_done",
    )

    def __init__(
        self,
        *,
        clock: Clock,
        rng: Random,
        capacity: float = math.inf,
        limits: Iterable[Limit] = (),
        observe: Callable[[Event], None] | None = None,
        append: Callable[[Outcome[Any, Any]], None] | None = None,
        on_outcome: Callable[[Job[Any], Outcome[Any, Any]], None] | None = None,
        on_failure: Callable[[Outcome[Any, Any]], None] | None = None,
        on_release: Callable[[], object] | None = None,
        start_within: float | None = None,
        on_loop: bool = True,
        name: str = "qanat",
        make_dispatcher: Callable[..., Dispatcher] | None = None,
    ) -> None:
        """Make an engine; `open` begins its work."""
        self.clock = clock
        self.now = clock.now
        self.name = name
        # A limit may want samples before there is anything else.
        self._group: TaskGroup | None = None
        self._samples = False
        self.observe = observe
        self.append = append
        self.wants_done = True
        self.extend: Callable[[list[Outcome[Any, Any]]], object] | None = None
        self.checks = Checks(self)
        self.dispatcher = (make_dispatcher or Dispatcher)(
            rng=rng, capacity=capacity, limits=limits, owner=threading.get_ident(),
            precision=clock.precision * (1 if on_loop else OFF_LOOP),
            observe=observe, notify=self.poke, on_fault=self._report_fault, on_broken=self._end_broken,
            keeper=self.checks, charge=self._charge, on_wanted=self._sample, describe=self._describe,
        )  # fmt: skip
        self._on_outcome = on_outcome
        self._on_failure = on_failure
        self._on_release = on_release
        self.on_retry: Callable[[Job[Any], BaseException], None] | None = None
        self._start_within = start_within
        self._start_by = math.inf
        self.loop = running_loop()
        self._thread = threading.get_ident()
        self.cancellation = anyio.get_cancelled_exc_class()
        self.outside = Outside(self.loop, clock, self._released)
        self.source: Source | None = None
        # What `job.spawn` calls; set by whoever makes the engine.
        self.spawner: Any = None
        self.carriers: set[Carrier] = set()
        self.idle: dict[Carrier, None] = {}
        self.coming: set[Carrier] = set()
        self.called = False
        self.lingers = self.lingering = False
        self.done_seen = 0
        self.held = False
        self._holders: set[str] = set()
        self.keeper: Keeper | None = None
        self.is_full: Callable[[], bool] | None = None
        self.tops_up = False
        self.drawn: Intake | None = None
        self.over = False
        self.isolates = False
        self.failure: BaseException | None = None
        self.stopped = False
        self.alarm_at = math.inf
        self.epoch = 0
        self.slice_end = self.now() + SLICE
        self.turn: Carrier | None = None
        self._context = copy_context()
        self._alarm: Alarm | None = None
        self._over_calls: list[Callable[[], object]] = []
        self._faults_logged = 0

    # --- life ------------------------------------------------------------------------------

    def open(self, group: TaskGroup) -> None:
        """Begin to work in a task group, which is cancelled when the engine is closed."""
        self._group = group
        self._alarm = self.make_alarm(self._ring)
        self.checks.open()
        if self.dispatcher.tree.sensing:
            self._sample()
        if self.observe is not None:
            self.observe(RunStarted(self.now(), self.name))
        if self._start_within is not None:
            self._start_by = self.now() + self._start_within
            self.set_alarm(self._start_by)

    def make_alarm(self, ring: Callable[[], None]) -> Alarm:
        """Return an alarm on this engine's timeline; the engine has been opened, and not closed."""
        group = self._group
        assert group is not None  # noqa: S101 - opened
        if self.loop.name == "trio":
            return self._context.copy().run(lambda: TrioAlarm(self.clock, ring, group))
        return AsyncioAlarm(self.clock, ring)

    def read(self, source: Source) -> None:
        """Take jobs from a source until it ends."""
        self.take_from(source)
        if source.needs_task:
            self._start(source.run)
        else:
            self.poke()

    def take_from(self, source: Source | None) -> None:
        """Ask this source from now on; None is nobody."""
        self.source = source
        self.tops_up = source is not None and source.tops_up
        intake = source if isinstance(source, Intake) else None
        self.drawn = intake if intake is not None and intake.draws and self.append is not None else None
        self.lingers = self.lingers or (intake is not None and intake.is_added_to)

    def source_ended(self) -> None:
        """Hear that the source has no more items."""
        self.take_from(None)
        self.dispatcher.close(self.now())
        self.tell_ended()
        self._start_by = math.inf
        self.poke()

    async def wait_over(self) -> None:
        """Wait until nothing runs and nothing more comes."""
        if not self.over:
            spot = self.loop.spot()
            self._over_calls.append(spot.wake)
            await spot.wait()

    def when_failed(self, callback: Callable[[Outcome[Any, Any]], None]) -> None:
        """Call a function, too, with the outcome of each job that fails for good."""
        before = self._on_failure

        def both(outcome: Outcome[Any, Any]) -> None:
            callback(outcome)
            if before is not None:
                before(outcome)

        self._on_failure = both

    def when_retried(self, callback: Callable[[Job[Any], BaseException], None]) -> None:
        """Call a function with each job that will run again, and why its attempt failed."""
        self.on_retry = callback

    def when_over(self, callback: Callable[[], object]) -> None:
        """Call a function once, when the engine is over."""
        self._over_calls.append(callback)

    async def close(self) -> None:
        """Wait for what runs outside of the loop, and let go of everything."""
        self.end()
        self.checks.close()
        self._close_source()
        interruption = await self._close_outside()
        if self._alarm is not None:
            self._alarm.clear()
        self.tell_ended()
        dispatcher = self.dispatcher
        dispatcher.detach()
        # They reach the outcomes, which would be freed in one piece whenever garbage is looked for.
        self.append = self.extend = self._on_outcome = self._on_failure = self._on_release = None
        if self.observe is not None and self._group is not None:
            self.observe(RunEnded(self.now(), dispatcher.counts, dispatcher.waits))
        if interruption is not None:
            raise interruption

    async def _close_outside(self) -> BaseException | None:
        """Wait for threads and processes, however long; return the cancellation that came meanwhile.

        A shield holds off cancelled scopes, but not asyncio's own `Task.cancel`.
        """
        interruption: BaseException | None = None
        closed = False
        with anyio.CancelScope(shield=True):
            while not closed:
                try:
                    await self.outside.close()
                    if self.keeper is not None:
                        self.tell_ended()
                        await self.keeper.close()
                    closed = True
                except self.cancellation as caught:
                    interruption = caught
        return interruption

    def end(self) -> None:
        """Let everybody go home."""
        if self.over:
            return
        self.over = True
        if self._alarm is not None:
            self._alarm.clear()
        for carrier in list(self.idle):
            carrier.wake()
        calls, self._over_calls = self._over_calls, []
        for call in calls:
            call()

    def stop(self) -> None:
        """Start nothing more; what runs goes on to its end, what waits is cancelled."""
        self.stopped = True
        now = self.now()
        self._close_source()
        self.dispatcher.close(now)
        if self.dispatcher.family is not None:
            self.dispatcher.family.stop()
        self.dispatcher.drop_all(now)
        self.tell_ended()
        self.called = False
        self.poke()

    def cancel(self, failure: BaseException | None = None) -> None:
        """Cancel what waits and what runs; the engine is over once all of it has ended."""
        if self.failure is None:
            self.failure = failure
        if self.dispatcher.family is not None:
            self.dispatcher.family.cancel_all(self.now())
        self.stop()
        for carrier in list(self.carriers):
            if carrier.is_busy:
                carrier.cancel()

    def _end_broken(self, failure: BaseException) -> None:
        """Cancel everything, once the call of the dispatcher is over in which an order failed."""
        if self.failure is None:
            self.failure = failure
        self.loop.call_soon_threadsafe(partial(self.cancel, failure))

    def _close_source(self) -> None:
        source = self.source
        self.take_from(None)
        if source is not None:
            try:
                source.close()
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                # What stops the run is told; that its source did not like to be closed is not.
                _log.warning("the source of items raised when it was closed: %r", error)

    @property
    def is_lost(self) -> bool:
        """Whether its tasks are being cancelled: by an error in one of them, or at the end."""
        return self._group is not None and self._group.cancel_scope.cancel_called

    def start(self, function: Callable[..., Any]) -> None:
        """Start a task that is cancelled when the engine is closed."""
        self._start(function)

    def _start(self, function: Callable[..., Any]) -> None:
        """Start a task in the context of whoever opened the engine, not of whoever calls."""
        assert self._group is not None  # noqa: S101 - opened
        self._context.copy().run(self.loop.start, self._group, function)

    def _sample(self) -> None:
        """Look at the machine from now on, as some limit wants to hear of it."""
        if not self._samples and self._group is not None and self.clock.precision > 0.0:
            self._samples = True
            self._start(Sampler(self.dispatcher, self.clock).run)

    # --- carriers --------------------------------------------------------------------------

    def poke(self) -> None:
        """See to it that somebody asks the dispatcher soon."""
        if self.called or self.over or self._group is None:
            return
        if self.idle:
            self.called = True
            self._wake_one()
        elif self._group.cancel_scope.cancel_called:
            pass  # it may be closed by now, and takes nobody
        elif len(self.carriers) < self.dispatcher.capacity:
            self.called = True
            self._add_one()
        else:
            # All are busy, and each of them asks when it is done.
            self.called = True

    def _wake_one(self) -> None:
        carrier = self.idle.popitem()[0]
        self.coming.add(carrier)
        carrier.wake()

    def _add_one(self) -> None:
        carrier = Carrier(self)
        self.carriers.add(carrier)
        self.coming.add(carrier)
        self._start(self.loop.protected(carrier.run))

    def _call_more(self) -> None:
        """Call up as many as are in their handlers, as these wait: one in each turn of the loop took long.

        A consumer of 200 handlers of 10 ms had two turns of 2 ms in each of theirs, so half a second went by
        before all slots were in use.
        """
        dispatcher = self.dispatcher
        free = dispatcher.capacity - dispatcher.running
        more = min(dispatcher.running - 1, dispatcher.waiting, free) - len(self.coming)
        while more > 0 and self.idle:
            self._wake_one()
            more -= 1
        while more > 0 and len(self.carriers) < dispatcher.capacity:
            self._add_one()
            more -= 1

    def call_up(self) -> None:
        """Call another carrier if there may be more to start; if not, see to it that one is called then."""
        dispatcher = self.dispatcher
        if dispatcher.may_start_more or (
            self.source is not None
            and not self.source.is_empty
            and dispatcher.running < dispatcher.capacity
            and (not dispatcher.waiting or self.is_full is not None)
        ):
            # Where a limit decides, nobody knows how many would find something.
            if not (dispatcher.is_plain and dispatcher.waiting):
                self.poke()
            elif len(self.coming) < dispatcher.waiting:
                self.poke()
                if self.called and dispatcher.running > 2:
                    self._call_more()
        elif dispatcher.wake_at < self.alarm_at:
            # The alarm that let this job start was the last one set, and whoever is idle sets none.
            self.set_alarm(dispatcher.wake_at)

    def may_wait(self, carrier: Carrier) -> bool:
        """Whether a carrier that found nothing to do may wait; False sends it away."""
        if self.over:
            return False
        dispatcher = self.dispatcher
        if dispatcher.closed and self.is_idle:
            self.end()
            return False
        if len(self.carriers) > dispatcher.capacity:
            return False
        if not self.held:
            at = dispatcher.wake_at
            if at < self.alarm_at:
                self.set_alarm(at)
        return True

    def left(self, carrier: Carrier) -> None:
        """Hear that a carrier has gone."""
        self.carriers.discard(carrier)
        self.coming.discard(carrier)
        self.called = False
        if self._group is not None and not self._group.cancel_scope.cancel_called:
            self.poke()

    def refill(self) -> bool:
        """Read from the source if there is room; False if nothing came of it."""
        source = self.source
        if source is None or not source.pull():
            return False
        self.tell_ended()
        if self.tops_up:
            # Another job may be first in its lane now, which is to be asked for, maybe at another time.
            self.call_up()
        return True

    def squeeze(self) -> bool:
        """Let a batch start as it is, if nothing can come that would fill it; False if there is none."""
        is_full = self.is_full
        return is_full is not None and not self.held and is_full() and self.dispatcher.squeeze(self.now())

    def hurry(self, *, wanted: bool) -> None:
        """Let batches start that are not full, as somebody waits for all that was handed in."""
        if self.dispatcher.batches is not None:
            self.dispatcher.hurry(self.now(), wanted=wanted)
            self.called = False
            self.poke()

    def refill_soon(self) -> None:
        """See to it that the source is read again, if that waits for room."""
        if (not self.dispatcher.waiting or self.is_full is not None) and self.idle:
            self.poke()
        elif self.source is not None and self.source.is_async:
            self.source.pull()

    def resize(self, capacity: float) -> None:
        """Let more or fewer jobs run at once."""
        if self.drawn is not None:
            # Who draws one item after the other does not look at the capacity: they are offered from now on.
            self.drawn.draws = False
            self.drawn = None
        self.dispatcher.resize(capacity, self.now())
        self.called = False
        for carrier in list(self.idle):
            if len(self.carriers) > capacity:
                carrier.wake()
        self.poke()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, is scheduled or runs, and no outcome is still to be handed over."""
        return self.dispatcher.is_idle and (self.keeper is None or not self.keeper.pending)

    def hold(self, held: bool, by: str = "reader") -> None:
        """Start nothing while nobody reads the outcomes, or `by` wants it; start again when nobody does."""
        if held:
            self._holders.add(by)
        else:
            self._holders.discard(by)
        held = bool(self._holders)
        if self.held and not held:
            self.held = False
            self.poke()
        else:
            self.held = held

    # --- time ------------------------------------------------------------------------------

    def set_alarm(self, at: float) -> None:
        """Ring at this time, which is earlier than the one set."""
        self.alarm_at = at
        if self._alarm is not None:
            self._alarm.set(at)

    def _ring(self) -> None:
        now = self.now()
        self.alarm_at = math.inf
        soonest = math.inf
        for carrier in list(self.carriers):
            if carrier.deadline <= now:
                carrier.time_out()
            elif carrier.deadline < soonest:
                soonest = carrier.deadline
        if self._start_by <= now:
            self._start_by = math.inf
            dispatcher = self.dispatcher
            if dispatcher.is_idle and not (dispatcher.done or dispatcher.failed or dispatcher.cancelled):
                within = self._start_within
                self.cancel(StartTimeoutError(f"no job arrived within start_within={within:g} s"))
                return
        soonest = min(soonest, self._start_by)
        if not self.held:
            at = self.dispatcher.wake_at
            # Whoever asked the dispatcher for something at this very time has let jobs fall due, and went.
            if at <= now or self.dispatcher.may_start_more:
                self.poke()
            else:
                soonest = min(soonest, at)
        if soonest < math.inf:
            self.set_alarm(soonest)

    # --- outcomes --------------------------------------------------------------------------

    def offered(self) -> None:
        """Hear that a job was offered from outside of the source."""
        if self.dispatcher.ended:
            self.tell_ended()
        self.poke()

    def settle(self, job: Job[Any], outcome: Outcome[Any, Any]) -> None:
        """Hand an outcome over to whoever wants it; with a journal, once it is recorded."""
        if self.keeper is None:
            self.deliver(job, outcome)
        else:
            self.keeper.settle(job, outcome)

    def deliver(self, job: Job[Any], outcome: Outcome[Any, Any]) -> None:
        """Hand an outcome over now."""
        if self.append is not None:
            self.append(outcome)
        if self._on_outcome is not None:
            self._on_outcome(job, outcome)
        if self._on_failure is not None and outcome.error is not None and outcome.state == "dead":
            self._on_failure(outcome)

    def tell_ended(self) -> None:
        """Hand over the outcomes of jobs that ended without running."""
        ended = self.dispatcher.ended
        while ended:
            told = ended[:]
            ended.clear()
            for job, outcome in told:
                self.settle(job, outcome)

    def conclude(
        self,
        job: Job[Any],
        value: Any,
        error: BaseException | None,
        now: float,
        *,
        cancelled: bool,
        left_behind: Call | None,
    ) -> None:
        """Settle an attempt that ended with an error, or was interrupted."""
        dispatcher = self.dispatcher
        if left_behind is not None:
            held = dispatcher.hold(job, error)
            held._doing = job._doing
            self.outside.leave_behind(left_behind, held)
        outcome = dispatcher.finish(
            job, value, error, now,
            wall=self.clock.wall(), cancelled=cancelled, holding=left_behind is not None,
        )  # fmt: skip
        if outcome is not None:
            self.settle(job, outcome)
        else:
            self._came_again(job, now, error)

    def ends_later(self, job: Job[Any], now: float) -> None:
        """See to what follows where a job's handler has returned, and its outcome comes another way."""
        self._came_again(job, now, None)

    def drop(self, job: Job[Any] | None, now: float) -> None:
        """End a job that was given out just as the run stopped, if one was: its handler is not called."""
        if job is not None:
            error = JobCancelledError("the job was cancelled before it ended")
            self.conclude(job, None, error, now, cancelled=True, left_behind=None)

    def fail(self, job: Job[Any], error: Exception, now: float) -> None:
        """Settle an attempt that simply raised."""
        outcome = self.dispatcher.finish(job, None, error, now, self.clock.wall())
        if outcome is not None:
            self.settle(job, outcome)
        else:
            self._came_again(job, now, error)

    def _came_again(self, job: Job[Any], now: float, error: BaseException | None) -> None:
        """See to a job that is to run again."""
        dispatcher = self.dispatcher
        if self.on_retry is not None and error is not None and job._status != CHILDREN:
            self.on_retry(job, error)
        if self.stopped and job._status != CHILDREN:
            dispatcher.cancel(job, now)
        if dispatcher.ended:
            self.tell_ended()
        elif job.members and self._on_release is not None:
            # All its members were cancelled before: nobody has heard yet that the slot is free.
            self._on_release()
        if dispatcher.timeline.at < self.alarm_at and not self.held:
            at = dispatcher.wake_at
            if at < self.alarm_at:
                self.set_alarm(at)

    def _released(self, held: Job[Any], call: Call) -> None:
        """Give back what a call held that went on after its attempt was over."""
        value: Any = call.value
        if type(value) is CoroutineType:
            cast("Any", value).close()  # nobody awaits it any more
        self.dispatcher.release(held, call.value, call.error, self.now())
        if self._on_release is not None:
            self._on_release()
        self.called = False
        self.poke()

    def cancel_job(self, job: Job[Any]) -> bool:
        """Cancel one job, waiting or running; False if it has ended."""
        if self.keeper is not None and self.keeper.cancel(job):
            return True
        if self.dispatcher.cancel(job, self.now()):
            self.tell_ended()
            for carrier in list(self.carriers):
                members = () if carrier.job is None else carrier.job.members
                if members and all(member._status == ENDED for member in members):
                    # Nobody wants what this call gives any more.
                    carrier.cancel()
            self.called = False
            self.poke()
            return True
        family = self.dispatcher.family
        callback = None if family is None else family.callback_of(job)
        for carrier in self.carriers:
            if carrier.job is job or (callback is not None and carrier.job is callback):
                carrier.cancel()
                return True
        return False

    def prioritise(self, job: Job[Any], priority: float) -> bool:
        """Give one job another priority; False if it runs or has ended."""
        if self.keeper is not None and self.keeper.prioritise(job, priority):
            return True
        changed = self.dispatcher.prioritise(job, priority, self.now())
        self.tell_ended()
        self.called = False
        self.poke()
        return changed

    # --- costs -----------------------------------------------------------------------------

    def _charge(self, job: Job[Any], currency: str, amount: float) -> None:
        """Settle what an attempt costs; from any thread."""
        if threading.get_ident() == self._thread:
            self.dispatcher.charge(job, currency, amount, self.now())
            return
        check_currency(job, currency)
        call = running_call.get()
        if call is None:
            # A thread of the handler's own, for which it may hold up the loop: its end hears what was told.
            for carrier in list(self.carriers):
                carrier.divert(job)
        self.outside.tell(lambda: self._charge_told(call, job, currency, amount))

    def _charge_told(self, call: Call | None, job: Job[Any], currency: str, amount: float) -> None:
        """Settle what was charged in another thread, where nobody waits for an answer any more."""
        try:
            self.dispatcher.charge(self.outside.stand_in(call, job), currency, amount, self.now())
        except Exception as error:  # noqa: BLE001 - a limit of the user's may raise anything
            _log.warning("charge(%r, %r) from a thread counts for nothing: %s", currency, amount, error)

    def _describe(self, job: Job[Any], text: str) -> None:
        """Keep what an attempt says it does; from any thread."""
        held = self.outside.stand_in(running_call.get(), job)
        cell = running_cell.get(None)
        if held is job and (cell is None or cell.job is not job):
            # Somebody else's words, so it is worth finding out whether it runs: not every end is noted there.
            found = [carrier.job for carrier in list(self.carriers) if carrier.job is not None]
            if not any(each is job or job in each.members for each in found):
                raise not_running(job)
            keep_description(job, text)
        else:
            # The job's own code, which may go on in a thread or a task when its attempt is over.
            held._doing = (held.started_at, text)

    def _report_fault(self, fault: BaseException, where: str) -> None:
        self._faults_logged += 1
        if self._faults_logged <= MOST_FAULTS:
            _log.error("a limit raised in %s; the run goes on without", where, exc_info=fault)
