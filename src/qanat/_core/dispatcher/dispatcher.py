"""The Dispatcher: decides which job is next and whether it may start now, or from when.

It never reads a clock, waits, or opens anything: each call is handed the time and hands back an
answer, so the engine, the simulator and the tests turn one and the same piece of code.

The tree is three deep: root, task, lane. `next` walks down by turns to the lane whose turn it is,
asks the limits on the path about the lane's head job, and takes all of them or none. Who says no
parks: a lane's own limit parks the lane and the turn passes on; a task's or the root's parks that
node and the turns below it stay, so nobody overtakes there.

**The lone lane.** With one task, no lanes and no limit but a number of slots there is nothing to
decide, and `_lone` is that one lane; see `lone_lane`.

Each call first catches up: what fell due since the last one happens at its own time, so that it
makes no difference to order and accounts whether anybody asked in between.

This class is the facade. The tree, the gates, throttling, the accounts, starting and ending are
parts of their own, and none of them knows the driver.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qanat._core.branch import AfterJob
from qanat._core.dispatcher import charging, ending, ledger
from qanat._core.dispatcher.account import add_waits
from qanat._core.dispatcher.batching import cancel_running
from qanat._core.dispatcher.explain import why_all, why_job
from qanat._core.dispatcher.gate import Gate, Gates
from qanat._core.dispatcher.gathering import Batches, Gathering
from qanat._core.dispatcher.guarding import guarded
from qanat._core.dispatcher.kinds import Kinds, task_added, task_leaves
from qanat._core.dispatcher.kinship import Kinship
from qanat._core.dispatcher.lone_lane import Unmarked, set_lone
from qanat._core.dispatcher.parking import change_priority, head_changed, offer_rest, park_if_full
from qanat._core.dispatcher.straight import finish_job, next_job
from qanat._core.dispatcher.throttling import Throttling
from qanat._core.dispatcher.timeline import Timeline
from qanat._core.dispatcher.together import end_together, goes_together, relay, start_together
from qanat._core.dispatcher.tree import Tree
from qanat._core.job import CHILDREN, NEW, SCHEDULED, WAITING, History, Job, Task
from qanat._core.orders.fifo import Fifo
from qanat.errors import JobCancelledError, blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from qanat._core.batch import Batch
    from qanat._core.branch import Branch
    from qanat._core.checks import Keeper
    from qanat._core.dispatcher.node import Node
    from qanat._core.dispatcher.path import Straight
    from qanat._core.events import Event
    from qanat._core.family import Family
    from qanat._core.limit import Limit, Signal
    from qanat._core.order import Order
    from qanat._core.outcome import Outcome
    from qanat._core.ports import Random
    from qanat._core.reason import Cause, Reason
    from qanat._core.retry import Retry
    from qanat._core.verdict import Verdict


def _ignore(_error: BaseException, _where: str) -> None:
    """Let a fault pass."""


def _no_lone_lane() -> Job[Any]:
    raise IndexError("no lone lane")


class Dispatcher:
    """Decide which job starts next, and when.

    Attributes:
        capacity: How many jobs may run at once, all tasks together.
        running: How many jobs hold a slot; a batch is one.
        waiting: How many jobs are ready but for their turn and their limits.
        scheduled: How many wait for a time of their own: delayed, or before a retry.
        done: How many ended with a value.
        failed: How many failed for good.
        cancelled: How many were cancelled.
        retried: How many attempts were followed by another.
        closed: Whether no more jobs arrive.
        ended: Jobs that ended without running, with their outcomes; to be emptied after every call.
        now: The latest time that was handed in; it never runs backwards.
        is_plain: Whether a new job starts at once when nothing waits, a slot is free and nothing is
            due, and leaves nothing behind when it is done: then a driver may count such jobs in
            `running` and `done` itself and skip the asking. Any other ending goes through `finish`.
        is_paused: Whether it was paused.
        lane_waits: Seconds that jobs waited for their own lane's limits, by lane and cause; beyond
            the first thousand lanes they are added up under None.
        timeline: What is due, and when.
        tree: The nodes.
        gates: Where nodes wait.
        batches: What the tasks share that run in batches; None if none does.
        family: The trees of jobs; None until the first job is spawned or known by a key.
        kinds: How the jobs of each task ended; None as long as there was one task at most.
        returns: Called with each job that is to be tried again, and the verdict, if its next attempt is
            not to be waited for here; None if it is.
    """

    __slots__ = (
        "_charge", "_describe", "_elsewhere", "_lone", "_lone_since", "_lone_waited", "_lost", "_observe",
        "_on_broken", "_on_fault", "_rng", "_straight", "_take_lone", "_throttling", "_turn_waited",
        "_unmarked", "batches", "cancelled", "capacity", "closed", "done", "ended", "failed", "family",
        "gates", "is_paused", "is_plain", "kinds", "lane_waits", "now", "retried", "returns", "running",
        "scheduled", "timeline", "tree", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        *,
        rng: Random,
        capacity: float = math.inf,
        limits: Iterable[Limit] = (),
        owner: int = 0,
        precision: float = 0.0,
        observe: Callable[[Event], None] | None = None,
        notify: Callable[[], None] | None = None,
        on_fault: Callable[[BaseException, str], object] | None = None,
        on_broken: Callable[[BaseException], object] | None = None,
        keeper: Keeper | None = None,
        charge: Callable[[Job[Any], str, float], None] | None = None,
        on_wanted: Callable[[], object] | None = None,
        describe: Callable[[Job[Any], str], None] | None = None,
    ) -> None:
        """Begin with no task.

        Args:
            rng: The seeded source of all randomness.
            capacity: How many jobs may run at once, all tasks together.
            limits: What else every start has to ask.
            owner: The identity of the thread, for limits that are shared.
            precision: Seconds by which a handler may begin after its start was decided.
            observe: Called with each event; nothing is built without it.
            notify: Called when a change outside of a call may let jobs start.
            on_fault: Called with what a limit raised where nobody waits for an answer, and in which method.
            on_broken: Called with what an order of the user's own raised: the run is to be cancelled, after
                the present call. None lets that raise.
            keeper: Told which limits are in use.
            charge: What `Job.charge` calls; without it the cost is settled here, as of the latest time.
            on_wanted: Called when a limit is used that wants signals of the machine.
            describe: What `Job.describe` calls; without it the job just keeps the text.
        """
        self.capacity = capacity
        self.running = self.waiting = self.scheduled = 0
        self.done = self.failed = self.cancelled = self.retried = 0
        self.closed = False
        self.ended: list[tuple[Job[Any], Outcome[Any, Any]]] = []
        self._on_fault = on_fault or _ignore
        self._on_broken = on_broken
        self._charge = charge or self._charge_now
        self._describe = describe
        self.kinds: Kinds | None = None
        self.returns: Callable[[Job[Any], Verdict], object] | None = None
        self.now = -math.inf
        self.is_paused = False
        self.is_plain = False
        self.timeline = Timeline()
        self.gates = Gates(self.timeline, notify)
        self.tree = Tree(
            self.gates, limits, owner=owner, rng=rng, precision=precision, on_fault=self._on_fault,
            keeper=keeper, on_wanted=on_wanted, on_broken=on_broken,
        )  # fmt: skip
        self.batches: Batches | None = None
        self.family: Kinship | None = None
        self._throttling = Throttling(self.tree, self.gates)
        self._rng = rng
        self._observe = observe
        self._lost: dict[str, float] = {}
        self.lane_waits: dict[Hashable, dict[str, float]] = {}
        self._lone_waited = self._turn_waited = 0.0
        self._lone: Node | None = None
        self._straight: Straight | None = None
        self._take_lone: Callable[[], Job[Any]] = _no_lone_lane
        # What the lone lane does not note: see there.
        self._unmarked = Unmarked()
        self._lone_since = 0.0
        self._elsewhere = 0

    # --- tasks -----------------------------------------------------------------------------

    def add_task(
        self,
        name: str,
        handler: Any,
        *,
        make_order: Callable[[], Order],
        retry: Retry,
        timeout: float | None = None,
        state: Any = None,
        limits: Iterable[Limit] = (),
        lane_limits: Callable[[Any], Limit | Iterable[Limit]] | None = None,
        weights: Callable[[Any], float] | None = None,
        uses_lanes: bool = False,
        batch: Batch | None = None,
    ) -> Task:
        """Add a handler whose jobs take turns with those of the other tasks."""
        if batch is not None:
            make_order = self._gathering_in(batch, make_order)
        node = self.tree.add_task(
            name, make_order=make_order, limits=limits, lane_limits=lane_limits,
            weights=weights, uses_lanes=uses_lanes, budget=retry.budget,
        )  # fmt: skip
        task_added(self)
        set_lone(self)
        return Task(name, handler, node, retry, timeout, state, self._charge, self._describe)

    def _gathering_in(self, batch: Batch, make_order: Callable[[], Order]) -> Callable[[], Order]:
        batches = self.batches = self.batches or Batches()
        batches.is_closed = self.closed
        return lambda: Gathering(batch, guarded(make_order(), self._on_broken), batches)

    def raise_family(self, book: Family, stand_in: Callable[[Branch], AfterJob]) -> Kinship:
        """Begin to keep trees of jobs, for good: no driver may count jobs by itself any more.

        Args:
            book: What is known of the trees.
            stand_in: Makes the job that calls a callback.
        """
        self.family = Kinship(self, book, stand_in)
        set_lone(self)
        return self.family

    def drop_task(self, task: Task) -> None:
        """Forget a task that has no jobs left."""
        task_leaves(self)
        self.tree.drop_task(task.node)
        set_lone(self)

    def _take_unmarked(self) -> Job[Any]:
        """Take the lone lane's next job, with the mark that it did not note when it arrived."""
        lone = self._lone
        assert lone is not None  # noqa: S101 - called in its place only
        job = lone.order.take()
        if job._mark is None:
            job._mark = self._unmarked.mark_of(job)
        if not len(lone.order):
            self._unmarked.clear()
            self._take_lone = lone.order.take
        return job

    # --- arriving --------------------------------------------------------------------------

    def offer(self, job: Job[Any], now: float, *, delay: float = 0.0) -> None:
        """Let a job arrive.

        Args:
            job: A new job.
            now: The time.
            delay: Seconds before it may start at the earliest.
        """
        if now < self.now:
            now = self.now
        else:
            self.now = now
        if now >= self.timeline.at:
            self._reach(now)
        job.offered_at = now
        lone = self._lone
        if delay > 0.0:
            job._history = History()
            self._schedule(job, now, delay, "delay")
        elif lone is not None and job.lane is None and job._task.node is lone.parent:
            job._status = WAITING
            lone.order.add(job)
            self.waiting += 1
        else:
            self._enter(job, now, first=True)

    def offer_all(self, jobs: list[Job[Any]], now: float) -> None:
        """Let new jobs arrive that were made as waiting, with `offered_at` set to now."""
        now = self._advance(now)
        lone = self._lone
        if lone is not None and isinstance(lone.order, Fifo):
            lone.order.extend(jobs)
            self.waiting += len(jobs)
            return
        self.offer(jobs[0], now)
        offer_rest(self, jobs, now)

    def refuse(self, job: Job[Any], error: BaseException, now: float) -> None:
        """End a job that arrived, but cannot be offered, with its error."""
        job.offered_at = now = self._advance(now)
        ending.end_unrun(self, job, error, "dead", now)

    def _enter(self, job: Job[Any], now: float, *, first: bool) -> None:
        """Put a job into its lane."""
        task: Node = job._task.node
        try:
            lane = self.tree.lane(task, job.lane)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            ending.end_unrun(self, job, blamed_on_job(error), "dead", now)
            return
        if job.lane is not None and not task.uses_lanes:
            task.uses_lanes = True
            set_lone(self)
        history = job._history
        if history is not None:
            history.entered_at = now
        job._status = WAITING
        if first:
            lane.order.add(job)
        else:
            lane.order.put_back(job)
        self.waiting += 1
        if self._lone is not None:
            job._mark = None
            return
        job._mark = ledger.mark(lane, now)
        if not lane.in_turns:
            lane.activate()
        if lane.order.head() is job:
            head_changed(self, lane, task, now)
        if self.running >= self.capacity:
            park_if_full(self, now)

    def _schedule(self, job: Job[Any], now: float, delay: float, cause: Cause) -> float:
        """Let a job wait for a time of its own, which is returned; it holds nothing meanwhile."""
        history = job._history
        assert history is not None  # noqa: S101 - made by whoever schedules
        job._status = SCHEDULED
        history.scheduled_at = now
        history.due_at = now + delay
        history.cause = cause
        self.scheduled += 1
        self.timeline.add(history.due_at, job)
        return history.due_at

    # --- starting --------------------------------------------------------------------------

    next = next_job
    goes_together = goes_together
    start_together = start_together

    @property
    def may_start_more(self) -> bool:
        """Whether another call of `next` at the same time might find a job; costs next to nothing."""
        if self.running >= self.capacity:
            return False
        if self._lone is not None:
            return self.waiting > 0
        root = self.tree.root
        if bool(self.gates.changed) or (root.cause is None and len(root.turns) > 0):
            return True
        return self.family is not None and self.family.may_start

    @property
    def wake_at(self) -> float:
        """When to ask again after a None; infinity if only an arrival, an end or a change helps."""
        if self.running >= self.capacity or self.is_paused:
            return math.inf
        if self.gates.changed or (self.family is not None and self.family.may_start):
            return self.now
        # Also while the root waits at a limit: the limit may have another answer for a job that falls due.
        return self.timeline.at

    def _advance(self, now: float) -> float:
        """Catch up with the time, and return it: it never runs backwards."""
        if now < self.now:
            now = self.now
        else:
            self.now = now
        if now >= self.timeline.at:
            self._reach(now)
        return now

    def _reach(self, until: float) -> None:
        """Do what the timeline holds, each at its time: due jobs enter their lanes, gates open."""
        while (reached := self.timeline.pop(until)) is not None:
            at, what = reached
            if isinstance(what, Gate):
                self.gates.open_at(what, at)
                park_if_full(self, at)
            elif type(what) is AfterJob and self.family is not None:
                self._leave_schedule(what, at)
                self.family.queue(what)
            else:
                history = what._history
                self._leave_schedule(what, at)
                self._enter(what, at, first=history is not None and history.cause == "delay")

    def _leave_schedule(self, job: Job[Any], now: float) -> None:
        history = job._history
        assert history is not None  # noqa: S101 - scheduled jobs have one
        self.scheduled -= 1
        job._status = NEW
        add_waits(job, {history.cause: now - history.scheduled_at})

    # --- ending ----------------------------------------------------------------------------

    finish = finish_job
    end_together = end_together
    relay = relay

    def hold(self, job: Job[Any], error: BaseException | None = None) -> Job[Any]:
        """Return a stand-in that goes on holding what a job took, for `release`.

        To be called before `finish`, which is then told that it is `holding`. The error is why the
        attempt is over: it is what the limits are told then, whatever the handler still returns.
        """
        if type(job) is AfterJob and self.family is not None:
            return self.family.hold(job, error)
        held = ending.hold(job, error)
        charging.move(job, held, self._on_fault)
        return held

    def release(self, held: Job[Any], value: Any, error: BaseException | None, now: float) -> None:
        """Give back what a stand-in held, now that the handler has ended after all."""
        if type(held) is AfterJob and self.family is not None:
            self.family.release(held, error, self._advance(now))
            return
        ending.release(self, held, value, error, self._advance(now))

    def charge(self, job: Job[Any], currency: str, amount: float, now: float) -> None:
        """Settle the cost of a job that runs, or of a stand-in for one, with its limits.

        Raises:
            ValueError: If its limits count currencies, and not this one.
            RuntimeError: If it does not run.
        """
        charging.charge(job, currency, amount, self._advance(now))

    def _charge_now(self, job: Job[Any], currency: str, amount: float) -> None:
        self.charge(job, currency, amount, self.now)

    @property
    def waits(self) -> dict[str, float]:
        """Seconds that ended jobs waited, by cause, all added up."""
        lost = dict(self._lost)
        for cause, waited in (("concurrency", self._lone_waited), ("turn", self._turn_waited)):
            if waited > 0.0:
                lost[cause] = lost.get(cause, 0.0) + waited
        return lost

    # --- ending without running ------------------------------------------------------------

    def cancel(self, job: Job[Any], now: float) -> bool:
        """Take a waiting or scheduled job out; its outcome is put into `ended`.

        A member of a running batch ends, too, while the call goes on for the others.

        Returns:
            False if the job runs by itself or has ended: then nothing changes here.
        """
        now = self._advance(now)
        if type(job) is AfterJob:
            return self.family is not None and self.family.cancel_after(job, now)
        if job._status == WAITING:
            ending.withdraw(self, job, job._task.node.lanes[job.lane], now)
        elif job._status == SCHEDULED:
            self._leave_schedule(job, now)
            self.timeline.spoil()
        elif job._status == CHILDREN:
            return self.family is not None and self.family.cancel_held(job, now)
        else:
            return self.batches is not None and cancel_running(self, job, now)
        error = JobCancelledError("the job was cancelled before it ended")
        ending.end_unrun(self, job, error, "cancelled", now)
        return True

    def recall(self, job: Job[Any], now: float) -> bool:
        """Take a waiting or scheduled job out that goes on elsewhere: it has no outcome, and is not counted.

        Returns:
            False if it runs or has ended: then nothing changes.
        """
        now = self._advance(now)
        if job._status == WAITING:
            task: Node = job._task.node
            ending.withdraw(self, job, task.lanes[job.lane], now)
            ending.fade(self, job, now)
        elif job._status == SCHEDULED:
            self._leave_schedule(job, now)
            self.timeline.spoil()
        else:
            return False
        return True

    def prioritise(self, job: Job[Any], priority: float, now: float) -> bool:
        """Give a waiting or scheduled job another priority.

        In an order by priority it goes behind those that have its new one, in O(log n); in any
        other order it keeps its place.

        Returns:
            False if the job runs or has ended: then nothing changes.
        """
        now = self._advance(now)
        if job._status == WAITING:
            if priority != job.priority:
                change_priority(self, job, priority, now)
        elif job._status == SCHEDULED:
            job.priority = priority
        else:
            return False
        return True

    def drop_all(self, now: float) -> None:
        """Cancel every job that waits or is scheduled."""
        for task in list(self.tree.tasks):
            for lane in list(task.lanes.values()):
                # An order of the user's that failed in `take` still names a job that does not wait any more.
                while len(lane.order) and self.cancel(lane.order.head(), now):
                    pass
        for job in self.timeline.jobs():
            self.cancel(job, now)

    # --- closing, pausing, resizing, asking why ----------------------------------------------

    def close(self, now: float) -> None:
        """Say that no more jobs arrive."""
        self._advance(now)
        self.closed = True
        if self.batches is not None:
            self.batches.is_closed = True
            self.batches.changed()

    def hurry(self, now: float, *, wanted: bool = True) -> None:
        """Let batches start that are not full, while somebody wants it; each call begins or ends that."""
        if self.batches is not None:
            self._advance(now)
            self.batches.hurries += 1 if wanted else -1
            self.batches.changed()

    def squeeze(self, now: float) -> bool:
        """Let the batch that has waited longest start as it is, as nothing can come that would fill it.

        Returns:
            False if none waits to be filled, or none could start now anyway.
        """
        self._advance(now)
        if self.batches is None or self.running >= self.capacity or self.tree.root.cause is not None:
            return False
        return self.batches.squeeze()

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs ended how, and how many attempts were followed by another."""
        return {
            "done": self.done, "failed": self.failed, "cancelled": self.cancelled, "retried": self.retried,
        }  # fmt: skip

    @property
    def counts_full(self) -> bool:
        """Whether `waits` tells how long all slots were taken: the lone lane reads items as they free up."""
        return self._lone is None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, is scheduled or runs."""
        return not (self.running or self.waiting or self.scheduled)

    def pause(self, now: float) -> None:
        """Start nothing until `resume`; what runs goes on."""
        if self.is_paused:
            return
        now = self._advance(now)
        self.is_paused = True
        set_lone(self)
        root = self.tree.root
        self.gates.withdraw(root, now)
        if root.cause is not None:
            self.gates.unpark(root, now)
        ledger.park(root, "paused", now)

    def resume(self, now: float) -> None:
        """Start jobs again."""
        if not self.is_paused:
            return
        now = self._advance(now)
        self.is_paused = False
        self.gates.unpark(self.tree.root, now)
        set_lone(self)
        park_if_full(self, now)

    def resize(self, capacity: float, now: float) -> None:
        """Let more or fewer jobs run at once; those that run go on."""
        now = self._advance(now)
        self.capacity = capacity
        ending.unpark_if_not_full(self, now)
        park_if_full(self, now)

    def sense(self, signal: Signal, value: float, now: float) -> None:
        """Tell the limits that want to hear it how the machine is."""
        now = self._advance(now)
        for limit, _ in list(self.tree.sensing.values()):
            try:
                if signal in limit.wants():
                    limit.sense(signal, value, now)
            except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
                self._on_fault(blamed_on_job(error), "sense")

    @property
    def wanted(self) -> set[Signal]:
        """The signals that some limit wants."""
        return {signal for limit, _ in self.tree.sensing.values() for signal in limit.wants()}

    def detach(self) -> None:
        """Stop listening to limits, which may outlive this dispatcher."""
        self.gates.detach()

    def why(self, job: Job[Any] | None = None) -> Reason | None:
        """Return why a job waits, or without one why nothing more starts; None if nothing waits."""
        return why_all(self) if job is None else why_job(self, job)
