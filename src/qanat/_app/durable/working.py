"""The worker: the engine fed by leases, for one call of `consume`.

The same engine and rules as everywhere; only where jobs come from and where outcomes go is another:

    Feed, Taking ---> dispatcher, carriers ---> Settling ---> store
          |________ Holding, Renewing (pulse) ________|

An attempt that is to be tried again is not waited for here: it goes back to the store, with its delay,
and comes to whoever is free then. What was throttled waits here, in its closed lane.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from qanat._app.durable.feeding import Feed
from qanat._app.durable.handling import Handling
from qanat._app.durable.holding import Held, Holding, held_of
from qanat._app.durable.renewing import STALL_LIMIT, Renewing
from qanat._app.durable.settling import Settling, discarded_text, error_text, reason_text
from qanat._app.durable.taking import Taking
from qanat._app.failures import FailureLimit
from qanat._app.hosting import hosted, make_engine
from qanat._core.job import RUNNING, Job
from qanat._core.store import bounds
from qanat._core.store.values import Settle
from qanat._engine.intake import Callbacks
from qanat.errors import JobDiscardedError, SerialisationError, StoreError

if TYPE_CHECKING:
    from rich.console import Console

    from qanat._app.durable.queue import Queue
    from qanat._app.rules import Rules
    from qanat._app.stopping import Stopping
    from qanat._core.dispatcher import Dispatcher
    from qanat._core.outcome import Outcome
    from qanat._core.store.values import Settled, StoredJob
    from qanat._core.verdict import Verdict


class Listener(Protocol):
    """Who wants the outcomes of jobs that a worker does."""

    @property
    def judges(self) -> bool:
        """Whether nothing is to be started while it is not stored that a job failed."""
        ...

    def seal(self, value: object) -> bytes | None:
        """Write a value of the handler."""
        ...

    def answered(self, held: Held, answer: Settled) -> None:
        """Hear that the end of a lease is stored."""
        ...


_log = logging.getLogger("qanat")

Handler = Callable[[Any], Any]

LAST_WORDS: Final = 5.0
"""Seconds in which the last outcomes have to reach the store, once nothing runs any more."""


def _do_nothing(_deeds: object) -> None:
    """Be a deed that is over when those before it are."""


class Worker:
    """One call of `consume`.

    Attributes:
        abandoned: How many jobs were neither settled nor given back: they still ran in threads, or the
            store could not be told. Their leases expire.
    """

    def __init__(
        self, queue: Queue[Any], table: Mapping[str, Handler], rules: Rules, *, burst: bool, grace: float,
        stopping: Stopping | None, patience: float | None = None, listener: Listener | None = None,
        progress: bool | Console | None = False, stall: float = STALL_LIMIT,
        stalled: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        """Keep what was checked.

        Args:
            queue: The queue.
            table: The functions by the names that jobs give.
            rules: The rules.
            burst: Whether to end when the queue is empty.
            grace: Seconds that what runs has to end when this is cancelled.
            stopping: Given, its signals stop it.
            patience: Seconds that what runs has to end after a signal; None is as many.
            listener: Who wants the outcomes.
            progress: Whether to show progress where the rules do not say; None is on a terminal.
            stall: For how many seconds a handler may block the event loop and keep its lease.
            stalled: Called once, in another thread, when one has blocked it for longer.
        """
        self._queue = queue
        self._stall, self._stalled = stall, stalled
        self._table = table
        self._turning = queue._asking.turning
        self._rules = rules
        self._burst = burst
        self._grace = grace
        self._patience = grace if patience is None else patience
        self._listener = listener
        self._progress = progress if rules.progress is None else rules.progress
        self._stopping_by_signal = stopping
        self._failures = FailureLimit(rules.max_failures)
        self._stopping = self._works = self._all_read = False
        self._problem: BaseException | None = None
        self._retries: dict[str, float] = {}
        self._failing: set[Held] = set()
        self._grace_alarm: Any = None
        self._stop_grace = math.inf
        self.abandoned = 0

    # --- life ------------------------------------------------------------------------------

    async def check(self) -> None:
        """Set what is fixed at first use, and check that it is used as what it is; `run` does it, too."""
        if self._queue._asking.conf is None:
            await self._queue.carry(self._queue._asking.first())
        self._queue._asking.check_kind()

    async def run(self) -> None:
        """Work until stopped, or until nothing is left."""
        await self.check()
        problem: BaseException | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._hear_cancelled)
            with anyio.CancelScope(shield=True):
                try:
                    await self._work()
                except BaseException as error:  # noqa: BLE001 - raised again below, and in no group
                    problem = error
            group.cancel_scope.cancel()
        if problem is not None:
            try:
                raise problem
            finally:
                del problem
        await anyio.lowlevel.checkpoint_if_cancelled()

    async def _hear_cancelled(self) -> None:
        """Wait to be cancelled by a scope around all; what works is shielded from it."""
        try:
            await anyio.sleep_forever()
        finally:
            self.stop()

    async def _work(self) -> None:
        store, rules = self._queue._store, self._rules
        name = self._queue.name
        lease = self._queue._asking.options.lease
        engine = self._engine = make_engine(
            rules, on_outcome=self._ended, on_failure=self._failed, handler=next(iter(self._table.values())),
            name="consume",
        )  # fmt: skip
        engine.dispatcher.returns = self._returned
        self._holding = Holding()
        listener = self._listener
        self._settling = Settling(
            engine, store.desk, name, lease, self._holding, self._settled, store.step,
            None if listener is None else self._answered,
        )  # fmt: skip
        beats_itself = engine.clock.precision == 0.0
        self._renewing = Renewing(
            engine, name, lease, self._holding, self._drop, stall=None if beats_itself else self._stall,
            stalled=self._stalled,
        )  # fmt: skip
        self._feed = Feed(
            store, name, engine, self._holding, self._settling, lease=lease, buffer=rules.buffer,
            gathers=0 if rules.batch is None else rules.batch.size, burst=self._burst,
            knows_lanes=rules.lane is None, slots_only=self._has_slots_only(), took=self._take,
            give_back=self._give_back, has_retries=self._has_retries, release=self._release,
        )  # fmt: skip
        seal = None if listener is None else listener.seal
        self._handling = Handling(engine, self._queue, self._table, rules, seal)
        self._feed.tasks = self._handling.tasks
        callbacks = Callbacks(rules.lane, rules.priority, cost=rules.cost, deadline=rules.deadline)
        self._taking = Taking(
            self._queue, engine, self._handling, self._holding, self._renewing.watch, callbacks,
            self._retries, self._settle,
        )  # fmt: skip
        if rules.batch is not None:
            engine.is_full = self._is_full
        host = hosted(
            engine, progress=self._progress,
            title=f"{'queue' if self._turning is None else 'rotation'} {name}",
            stopping=self._stopping_by_signal, stop=lambda: self.stop(self._patience),
        )  # fmt: skip
        async with host:
            self._settling.open()
            self._renewing.open()
            if beats_itself:
                engine.start(self._beat_on)
            else:
                store.pulse.add(self._renewing.beat)
            try:
                engine.read(self._feed)
                self._works = True
                if self._problem is not None:
                    engine.cancel(self._problem)
                if self._stopping:
                    self._begin_stop()
                interruption = await self._wait_over()
                with anyio.move_on_after(LAST_WORDS):
                    await self._await_claim()
                    await self._settling.flush()
                self._settling.gave_up = True
            finally:
                store.pulse.remove(self._renewing.beat)
        if self._settling.pending:
            self.abandoned += self._settling.pending
            _log.error("queue %s: %d outcomes could not be stored", name, self._settling.pending)
        if engine.failure is not None:
            raise engine.failure
        if interruption is not None:
            raise interruption

    async def _wait_over(self) -> BaseException | None:
        """Wait until nothing runs any more; return the cancellation that came meanwhile."""
        engine = self._engine
        interruption: BaseException | None = None
        while not engine.over:
            try:
                await engine.wait_over()
            except engine.cancellation as caught:
                if engine.is_lost:
                    raise
                # asyncio's own way to cancel, which no shield holds off.
                if interruption is not None:
                    engine.cancel()
                interruption = caught
                self.stop()
        return interruption

    async def _await_claim(self) -> None:
        """Wait until a claim under way is answered, as what it got goes back; deeds come in order."""
        try:
            await self._queue._store.claim_desk.ask("call", [_do_nothing])
        except StoreError:
            pass  # and so it got nothing

    async def _beat_on(self) -> None:
        """Beat on virtual time, of which the thread of the pulse knows nothing."""
        store = self._queue._store
        while True:
            (seconds,) = await store.pulse_desk.ask("call", [self._renewing.beat])
            await self._engine.clock.sleep(seconds)

    def stop(self, grace: float | None = None) -> None:
        """Lease nothing more, give back what waits, and let what runs end within the time of grace.

        Stopped again with less time, it has that.
        """
        grace = self._grace if grace is None else grace
        if self._stopping and grace >= self._stop_grace:
            return
        self._stop_grace = grace
        began, self._stopping = self._stopping, True
        if not self._works or self._engine.over:
            return
        if began:
            self._grace_alarm.set(self._engine.now() + grace)
        else:
            self._begin_stop()

    def cancel(self, problem: BaseException) -> None:
        """End at once with an error: what runs is cancelled, and goes back."""
        if not self._works:
            self._problem = self._problem or problem
        elif not self._engine.over:
            self._engine.cancel(problem)

    def read_all(self) -> None:
        """Hear that nothing more will be put by whoever listens, for batches to wait for."""
        self._all_read = True
        if self._works:
            self._engine.poke()

    def holds(self, id: str) -> bool:
        """Whether a job waits or runs here."""
        return self._works and id in self._holding.live

    @property
    def dispatcher(self) -> Dispatcher | None:
        """What decides which job is next; None before it works."""
        return self._engine.dispatcher if self._works else None

    def _has_slots_only(self) -> bool:
        """Whether nothing but a number of slots decides when jobs start."""
        rules = self._rules
        return rules.capacity < math.inf and not rules.all_limits and rules.lane_limits is None

    def _is_full(self) -> bool:
        """Whether a batch waits in vain for more."""
        return self._feed._room() <= 0 or (self._all_read and self._feed.is_dry)

    def _begin_stop(self) -> None:
        engine = self._engine
        self._feed.close()
        now = engine.now()
        for held in list(self._holding.live.values()):
            if held._status != RUNNING and engine.dispatcher.recall(held, now):
                self._drop(held)
        engine.stop()
        self._grace_alarm = engine.make_alarm(self._out_of_grace)
        if self._stop_grace < math.inf:
            self._grace_alarm.set(now + self._stop_grace)

    def _out_of_grace(self) -> None:
        if not self._engine.over:
            self._engine.cancel()

    # --- jobs in ---------------------------------------------------------------------------

    def _take(self, jobs: list[StoredJob], sent: float) -> None:
        """Take jobs that were leased by a claim."""
        self._taking.take_all(jobs, sent)

    def _give_back(self, jobs: list[StoredJob]) -> None:
        """Release jobs that came when nobody wanted them any more."""
        for stored in jobs:
            held = Held(stored.id, None, -1, self._handling.any, stored=stored)
            self._holding.take(held)
            self._settle(held, kind="release")

    def _release(self, lanes: set[str]) -> None:
        """Give back jobs that wait in lanes that wait; one of each lane stays, to open it."""
        engine = self._engine
        now = engine.now()
        seen: set[str] = set()
        for held in list(self._holding.live.values()):
            lane = "" if held.lane is None else str(held.lane)
            if lane not in lanes or held._status == RUNNING:
                continue
            if lane not in seen:
                seen.add(lane)
            elif engine.dispatcher.recall(held, now):
                # Where the lanes are our own the store would give them back at once.
                self._drop(held, 0.0 if self._rules.lane is None else 1.0)

    # --- outcomes out ----------------------------------------------------------------------

    def _settle(self, job: Job[Any], **what: Any) -> None:
        """End what is held of a job; nothing if its lease is lost."""
        held = held_of(job)
        if held is not None:
            self._settle_as(held, Settle(id=held.stored.id, token=held.stored.token, **what))

    def _settle_as(self, held: Held, settle: Settle) -> None:
        self._holding.leave(held)
        try:
            bounds.check_settle(self._queue.name, [settle], None)
        except (TypeError, ValueError) as error:
            # The store would refuse all that goes with it, and whoever takes the job next ended likewise.
            _log.error("queue %s: job %s cannot end as it should: %s", self._queue.name, settle.id, error)
            settle = self._failed_as(held.stored, f"outcome: {reason_text(error)}"[: bounds.NOTE_CHARACTERS])
        if held.lost:
            self._holding.settled([held])
            self._feed.settled()
        else:
            held.settle = settle
            self._settling.add(held, self._engine.now())

    def _drop(self, held: Held, delay: float = 0.0) -> None:
        """Let go of a job that waited here."""
        if held.cancel:
            self._settle(held, kind="cancelled", reason="cancelled")
        else:
            self._settle(held, kind="release", delay=delay)

    def _returned(self, job: Job[Any], verdict: Verdict) -> None:
        """Hear that an attempt failed, and another one is to follow."""
        delay = min(verdict.delay or 0.0, bounds.LONGEST)
        self._retries[str(job.id)] = self._engine.now() + delay
        self._settle(
            job, kind="retry", delay=delay, reason=reason_text(verdict.error), error=error_text(verdict.error)
        )

    def _ended(self, job: Job[Any], outcome: Outcome[Any, Any]) -> None:
        """Hear that a job has ended here, for good or because it was stopped."""
        if type(job) is not Held or not job.is_held:
            return
        held = job
        if self._listener is not None:
            held.outcome = outcome
        if outcome.state == "done" and held.brood is None and self._turning is None and not held.lost:
            self._holding.leave(held)
            self._settling.add(held, outcome.ended_at)
            return
        error = outcome.error
        if outcome.state == "done":
            if self._turning is None:
                brood = {} if held.brood is None else held.brood.settled
                self._settle(job, kind="done", value=held.value, **brood)
            else:
                self._settle_as(held, self._turning.done(held.stored, held.value))
        elif outcome.state == "cancelled" or error is None:
            if any(left.index == job.index for left in self._engine.outside.left_behind):
                # A thread cannot be stopped: nobody else is to begin while it may still run.
                self.abandoned += 1
                held.lost = True
            self._drop(held)
        else:
            self._died(held, error, began=outcome.started_at is not None)

    def _died(self, held: Held, error: BaseException, *, began: bool) -> None:
        """Settle a job that has failed for good."""
        self._hold_for(held)
        if isinstance(error, JobDiscardedError):
            self._settle(held, kind="dead", reason=discarded_text(error), error=error_text(error))
            return
        reason = reason_text(error)
        if isinstance(error, SerialisationError):
            reason = f"{'result' if began else 'undecodable'}: {reason}"[:500]
        self._settle_as(held, self._failed_as(held.stored, reason, error_text(error)))

    def _failed_as(self, stored: StoredJob, reason: str, error: str = "") -> Settle:
        """Return how the lease of a job ends that failed for good: an item of a rotation comes again."""
        if self._turning is not None:
            return self._turning.failed(stored, reason, error)
        return Settle(id=stored.id, token=stored.token, kind="dead", reason=reason, error=error)

    def _hold_for(self, held: Held) -> None:
        """Start nothing until a failure is stored, if somebody may end all for it."""
        if self._listener is not None and self._listener.judges and not held.lost:
            self._failing.add(held)
            self._engine.hold(True, by="failure")

    def _answered(self, held: Held, answer: Settled) -> None:
        """Hear what became of one settle."""
        assert self._listener is not None  # noqa: S101 - who asked for it
        self._listener.answered(held, answer)
        if held in self._failing:
            self._failing.discard(held)
            if not self._failing:
                self._engine.hold(False, by="failure")

    def _failed(self, outcome: Outcome[Any, Any]) -> None:
        self._failures.judge(self._engine)

    def _settled(self, back: bool, ended: list[str]) -> None:
        """Hear that a batch of settles was answered, and which jobs have ended with it."""
        if self._retries:
            for id in ended:
                self._retries.pop(id, None)
        if back:
            self._queue._store.hints.ring(self._queue.name)
        for tell in self._queue._store.watchers.get(self._queue.name, ()):
            tell(ended)
        self._feed.settled(back)

    def _has_retries(self) -> bool:
        """Whether something that failed here is still to be tried again, by us or by others."""
        now = self._engine.now()
        for id, due in list(self._retries.items()):
            # Whoever was faster has it.
            if now > due + 0.1:
                del self._retries[id]
        return bool(self._retries)
