"""The Dispatcher: decides which job is next and whether it may start now, or from when.

It never reads a clock, waits, or opens anything: each call is handed the time and hands back an
answer, so the engine, the simulator and the tests turn one and the same piece of code.

The tree is three deep: root, task, lane. `next` walks down by turns to the lane whose turn it is,
asks the limits on the path about the lane's head job, and takes all of them or none. Who says no
parks: a lane's own limit parks the lane and the turn passes on; a task's or the root's parks that
node and the turns below it stay, so nobody overtakes there.

**The lone lane.** With one task, no lanes and no limit but a number of slots there is nothing to
decide, and `_lone` is that one lane: its jobs bypass turns, gates and accounts (0.4 us a job less).
Whatever makes it untrue (a second task, a lane, a valve, a pause, an observer) calls `_set_lone`,
which moves between the two ways of running; everything else must work in both.

This class is the facade. The tree, the gates, throttling, the accounts and the explanations are
parts of their own, and none of them knows the driver.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher import ledger
from qanat._core.dispatcher.account import add_waits, make_outcome, note_start
from qanat._core.dispatcher.explain import reason_of, why_all, why_job
from qanat._core.dispatcher.gate import Gate, Gates
from qanat._core.dispatcher.throttling import Throttling
from qanat._core.dispatcher.timeline import Timeline
from qanat._core.dispatcher.tree import Tree
from qanat._core.dispatcher.valve import Valve
from qanat._core.events import Event, JobEnded, JobParked, JobRetried, JobStarted
from qanat._core.job import ENDED, NEW, RUNNING, SCHEDULED, WAITING, History, Job, Task
from qanat._core.limit import Refused
from qanat._core.orders.fifo import Fifo
from qanat._core.outcome import Outcome
from qanat._core.verdict import Verdict, judge
from qanat.errors import JobCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qanat._core.dispatcher.node import Node
    from qanat._core.limit import Limit
    from qanat._core.order import Order
    from qanat._core.outcome import State
    from qanat._core.ports import Random
    from qanat._core.reason import Reason
    from qanat._core.retry import Retry


def _no_lone_lane() -> Job[Any]:
    raise IndexError("no lone lane")


class Dispatcher:
    """Decide which job starts next, and when.

    Attributes:
        capacity: How many jobs may run at once, all tasks together.
        running: How many jobs hold a slot.
        waiting: How many jobs are ready but for their turn and their limits.
        scheduled: How many wait for a time of their own: delayed, or before a retry.
        done: How many ended with a value.
        failed: How many failed for good.
        cancelled: How many were cancelled.
        retried: How many attempts were followed by another.
        closed: Whether no more jobs arrive.
        ended: Jobs that ended without running, with their outcomes; to be emptied after every call.
        faults: Errors that limits raised where nobody waited for an answer.
        now: The latest time that was handed in; it never runs backwards.
        is_plain: Whether a new job starts at once when nothing waits, a slot is free and nothing is
            due: then a driver may count it in `running` and skip the asking.
        is_paused: Whether it was paused.
        timeline: What is due, and when.
        tree: The nodes.
        gates: Where nodes wait.
    """

    __slots__ = (
        "_lone", "_lone_waited", "_lost", "_observe", "_rng", "_take_lone", "_throttling", "cancelled",
        "capacity", "closed", "done", "ended", "failed", "faults", "gates", "is_paused", "is_plain", "now",
        "retried", "running", "scheduled", "timeline", "tree", "waiting",
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
        """
        self.capacity = capacity
        self.running = self.waiting = self.scheduled = 0
        self.done = self.failed = self.cancelled = self.retried = 0
        self.closed = False
        self.ended: list[tuple[Job[Any], Outcome[Any, Any]]] = []
        self.faults: list[Exception] = []
        self.now = -math.inf
        self.is_paused = False
        self.is_plain = False
        self.timeline = Timeline()
        self.gates = Gates(self.timeline, notify)
        self.tree = Tree(self.gates, limits, owner=owner, rng=rng, precision=precision)
        self._throttling = Throttling(self.tree, self.gates)
        self._rng = rng
        self._observe = observe
        self._lost: dict[str, float] = {}
        self._lone_waited = 0.0
        self._lone: Node | None = None
        self._take_lone: Callable[[], Job[Any]] = _no_lone_lane

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
        uses_lanes: bool = False,
    ) -> Task:
        """Add a handler whose jobs take turns with those of the other tasks."""
        node = self.tree.add_task(
            name, make_order=make_order, limits=limits, lane_limits=lane_limits,
            uses_lanes=uses_lanes, budget=retry.budget,
        )  # fmt: skip
        self._set_lone()
        return Task(name, handler, node, retry, timeout, state)

    def drop_task(self, task: Task) -> None:
        """Forget a task that has no jobs left."""
        self.tree.drop_task(task.node)
        self._set_lone()

    def _set_lone(self) -> None:
        """Find out whether there is a lone lane, and move to or from that way of running."""
        tree = self.tree
        lone: Node | None = None
        if len(tree.tasks) == 1 and not (self.is_paused or self._observe is not None or tree.root.limits):
            task = tree.tasks[0]
            if not (task.uses_lanes or task.limits or task.budget is not None):
                lone = tree.lane(task, None)
        before, self._lone = self._lone, lone
        self.is_plain = lone is not None
        if lone is not None and before is not lone:
            self._take_lone = lone.order.take
            self._leave_turns_behind(lone)
        elif lone is None and before is not None:
            # What the lone lane did without is made up for here.
            above = before.parent
            assert above is not None  # noqa: S101 - a lane has a task
            before.running = above.running = self.running
            before.activate()
            self._park_if_full(self.now)

    def _leave_turns_behind(self, lone: Node) -> None:
        task = lone.parent
        assert task is not None  # noqa: S101 - a lane has a task
        root = self.tree.root
        for node in (lone, task, root):
            if node.cause is not None:
                self.gates.withdraw(node, self.now)
                self.gates.unpark(node, self.now)
        task.turns.clear()
        root.turns.clear()

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
        lone = self._lone
        if lone is not None and isinstance(lone.order, Fifo):
            lone.order.extend(jobs)
            self.waiting += len(jobs)
            return
        for job in jobs:
            self.offer(job, now)

    def refuse(self, job: Job[Any], error: BaseException, now: float) -> None:
        """End a job that arrived, but cannot be offered, with its error."""
        job.offered_at = self.now = max(now, self.now)
        self._end_unrun(job, error, "dead", self.now)

    def _enter(self, job: Job[Any], now: float, *, first: bool) -> None:
        """Put a job into its lane."""
        task: Node = job._task.node
        try:
            lane = self.tree.lane(task, job.lane)
        except Exception as error:
            self._end_unrun(job, error, "dead", now)
            return
        if job.lane is not None and not task.uses_lanes:
            task.uses_lanes = True
            self._set_lone()
        job._status = WAITING
        if first:
            lane.order.add(job)
        else:
            lane.order.put_back(job)
        self.waiting += 1
        if self._lone is None:
            job._mark = ledger.mark(lane, now)
            lane.activate()
            self._park_if_full(now)
        else:
            job._mark = None

    def _schedule(self, job: Job[Any], now: float, delay: float, cause: Any) -> None:
        """Let a job wait for a time of its own; it holds nothing meanwhile."""
        history = job._history
        assert history is not None  # noqa: S101 - made by whoever schedules
        job._status = SCHEDULED
        history.scheduled_at = now
        history.due_at = now + delay
        history.cause = cause
        self.scheduled += 1
        self.timeline.add(history.due_at, job)

    # --- starting --------------------------------------------------------------------------

    def next(self, now: float) -> Job[Any] | None:
        """Return a job to start now, with everything that it needs taken; None if none can."""
        if now < self.now:
            now = self.now
        else:
            self.now = now
        if now >= self.timeline.at:
            self._reach(now)
        lone = self._lone
        if lone is None:
            return self._next_by_turns(now)
        if self.running >= self.capacity or not self.waiting:
            return None
        job = self._take_lone()
        self.waiting -= 1
        self.running += 1
        job._status = RUNNING
        job.started_at = now
        if job._history is not None or job._mark is not None:
            note_start(job, lone, now)
        return job

    @property
    def may_start_more(self) -> bool:
        """Whether another call of `next` at the same time might find a job; costs next to nothing."""
        if self.running >= self.capacity:
            return False
        if self._lone is not None:
            return self.waiting > 0
        root = self.tree.root
        return bool(self.gates.changed) or (root.cause is None and len(root.turns) > 0)

    @property
    def wake_at(self) -> float:
        """When to ask again after a None; infinity if only an arrival, an end or a change helps."""
        if self.running >= self.capacity or self.is_paused:
            return math.inf
        if self.gates.changed:
            return self.now
        gate = self.tree.root.gate
        return self.timeline.at if gate is None else gate.at

    def _reach(self, now: float) -> None:
        """Do what the timeline holds until now: due jobs enter their lanes, gates open."""
        while (what := self.timeline.pop(now)) is not None:
            if isinstance(what, Gate):
                self.gates.open_at(what, now)
                continue
            self._leave_schedule(what, now)
            history = what._history
            self._enter(what, now, first=history is not None and history.cause == "delay")

    def _leave_schedule(self, job: Job[Any], now: float) -> None:
        history = job._history
        assert history is not None  # noqa: S101 - scheduled jobs have one
        self.scheduled -= 1
        job._status = NEW
        add_waits(job, {history.cause: now - history.scheduled_at})

    def _next_by_turns(self, now: float) -> Job[Any] | None:
        root = self.tree.root
        while True:
            if self.gates.changed:
                self.gates.open_changed(now)
            if root.cause is not None:
                return None
            task = root.turns.current()
            lane = None if task is None else task.turns.current()
            if task is None or lane is None:
                return None
            if self._park_if_full(now):
                return None
            job = lane.order.head()
            if self._may_start(job, lane, task, now) and self._take(job, lane, task, now):
                return job

    def _park_if_full(self, now: float) -> bool:
        """Park the root if jobs could start but for a slot; what they wait for is known from now on."""
        root = self.tree.root
        if self.running < self.capacity or root.cause is not None:
            return False
        task = root.turns.current()
        lane = None if task is None else task.turns.current()
        if lane is None:
            return False
        ledger.park(root, "concurrency", now)
        self._tell_parked(root, lane.order.head(), now)
        return True

    def _may_start(self, job: Job[Any], lane: Node, task: Node, now: float) -> bool:
        """Ask the limits on the path; park the node whose limit says no."""
        for node in (lane, task, self.tree.root):
            worst: Limit | None = None
            latest = now
            try:
                for limit in node.limits:
                    at = limit.ready_at(job, now)
                    if at > latest:
                        latest, worst = at, limit
            except Exception as error:
                self._withdraw(job, lane, now)
                self._end_unrun(job, error.error if isinstance(error, Refused) else error, "dead", now)
                return False
            if worst is not None:
                self.gates.park(node, worst, latest, now)
                if node is not lane and lane.woken_by is not None:
                    # An ancestor holds the lane now, which must not hold up others at its gate.
                    woken_by, lane.woken_by = lane.woken_by, None
                    self.gates.open(woken_by, now)
                self._tell_parked(node, job, now)
                return False
        return True

    def _take(self, job: Job[Any], lane: Node, task: Node, now: float) -> bool:
        """Take everything on the path; False if a limit failed, which ends the job."""
        lane.order.take()
        self.waiting -= 1
        path = self.tree.path(lane, task)
        for number, limit in enumerate(path):
            try:
                limit.take(job, now)
            except Exception as error:
                job._took = path[:number]
                self._give_back(job, make_outcome(job, None, error, "dead", now, 0.0, None), now)
                self._after_leaving(lane, task, now)
                self._end_unrun(job, error, "dead", now)
                return False
        job._took = path
        job._status = RUNNING
        job.started_at = now
        lane.running += 1
        task.running += 1
        self.running += 1
        note_start(job, lane, now)
        if task.budget is not None:
            task.budget.started(now, job.attempt > 1)
        task.turns.spend(lane)
        self.tree.root.turns.spend(task)
        self._after_leaving(lane, task, now)
        if self._observe is not None:
            self._observe(JobStarted(now, job))
        self._park_if_full(now)
        return True

    def _after_leaving(self, lane: Node, task: Node, now: float) -> None:
        """See to a lane that a job has left: let others through its gates, drop it if it is empty."""
        if not len(lane.order):
            lane.leave_turns()
            self.tree.fade(lane, task, now)
        for node in (lane, task, self.tree.root):
            woken_by, node.woken_by = node.woken_by, None
            if woken_by is not None:
                self.gates.open(woken_by, now)

    def _tell_parked(self, node: Node, job: Job[Any], now: float) -> None:
        if self._observe is not None:
            self._observe(JobParked(now, job, reason_of(node, job.lane, self.capacity)))

    # --- ending ----------------------------------------------------------------------------

    def finish(
        self,
        job: Job[Any],
        value: Any,
        error: BaseException | None,
        now: float,
        *,
        wall: float = 0.0,
        cancelled: bool = False,
        holding: bool = False,
    ) -> Outcome[Any, Any] | None:
        """Hear how an attempt ended; give back what it held.

        Args:
            job: A job that `next` returned.
            value: What the handler returned, if `error` is None.
            error: What it raised.
            now: The time.
            wall: UTC seconds, for dates in a `Retry-After`; needed with an error only.
            cancelled: True if the job was cancelled: it is not tried again.
            holding: True if the handler still runs in a thread that cannot be stopped: what it
                took stays taken until `release` is called with what `hold` returned.

        Returns:
            The outcome; None if the job will run again.
        """
        if now < self.now:
            now = self.now
        else:
            self.now = now
        if error is None and job._took is None and job._history is None and self._lone is not None:
            # The status stays RUNNING: whoever asks knows the job by its outcome.
            self.running -= 1
            self.done += 1
            started = job.started_at
            offered = job.offered_at
            if started != offered:
                self._lone_waited += started - offered
            return Outcome(
                job.id, job.index, job.item, value, None, "done", job.attempt, None, job.metadata,
                job.parent, offered, started, now, now - started, "concurrency",
            )  # fmt: skip
        verdict: Verdict | None = None
        if error is not None and not cancelled:
            task: Node = job._task.node
            verdict = self._throttling.checked(
                judge(job, error, retry=job._task.retry, budget=task.budget, now=now, wall=wall, rng=self._rng),
                job,
            )
            error = verdict.error
        return self._settle(job, value, error, verdict, now, cancelled=cancelled, holding=holding)

    def _settle(
        self, job: Job[Any], value: Any, error: BaseException | None, verdict: Verdict | None, now: float, *,
        cancelled: bool, holding: bool,
    ) -> Outcome[Any, Any] | None:  # fmt: skip
        state: State = "cancelled" if cancelled else "done" if error is None else "dead"
        ran = now - job.started_at
        attempt = make_outcome(job, value, error, state, now, ran, job.started_at)
        history = job._history
        if verdict is not None and verdict.kind != "dead":
            if history is None:
                history = job._history = History(first_started_at=job.started_at)
            history.ran += ran
            # It comes back before it gives back, so that its lane is not forgotten in between.
            took = job._took
            self._again(job, history, verdict, now)
            if not holding:
                self._free(job, took, attempt, now)
            return None
        if not holding:
            self._free(job, job._took, attempt, now)
        job._status = ENDED
        if history is not None and (history.first_started_at != job.started_at or history.ran):
            attempt = make_outcome(job, value, error, state, now, history.ran + ran, history.first_started_at)
        self._count(attempt)
        return attempt

    def _again(self, job: Job[Any], history: History, verdict: Verdict, now: float) -> None:
        """Let a job come back: after a delay, or in a lane that is closed."""
        job._took = None
        again_at = now
        if verdict.kind == "throttled":
            history.throttles += 1
            self._throttling.close(job, verdict, self.running, now)
            self._set_lone()
            self._enter(job, now, first=False)
        else:
            job.attempt += 1
            self.retried += 1
            delay = verdict.delay or 0.0
            again_at = now + delay
            if delay > 0.0:
                self._schedule(job, now, delay, "retry")
            else:
                self._enter(job, now, first=False)
        if self._observe is not None:
            self._observe(JobRetried(now, job, verdict.error, again_at))

    def hold(self, job: Job[Any]) -> Job[Any]:
        """Return a stand-in that goes on holding what a job took, for `release`."""
        held = Job(job.id, None, job.index, job._task, lane=job.lane, started_at=job.started_at)
        held._took = job._took
        held._status = RUNNING
        return held

    def release(self, held: Job[Any], value: Any, error: BaseException | None, now: float) -> None:
        """Give back what a stand-in held, now that the handler has ended after all."""
        now = self.now = max(now, self.now)
        state: State = "done" if error is None else "dead"
        outcome = make_outcome(held, value, error, state, now, now - held.started_at, held.started_at)
        held._status = ENDED
        self._free(held, held._took, outcome, now)

    def _free(
        self, job: Job[Any], took: tuple[Limit, ...] | None, outcome: Outcome[Any, Any], now: float
    ) -> None:
        """Give back slots and limits, and let others on."""
        self.running -= 1
        if self._lone is None:
            root = self.tree.root
            if root.cause == "concurrency" and root.gate is None and self.running < self.capacity:
                self.gates.unpark(root, now)
            task: Node = job._task.node
            task.running -= 1
            lane = task.lanes[job.lane]
            lane.running -= 1
            if not lane.running and not len(lane.order):
                self.tree.fade(lane, task, now)
        if took:
            again, job._took = job._took, took
            self._give_back(job, outcome, now)
            job._took = again if again is not took else None

    def _give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        took, job._took = job._took or (), None
        for limit in took:
            try:
                limit.give_back(job, outcome, now)
            except Exception as error:
                # The job's outcome stands; the driver reports what is broken.
                self.faults.append(error)
            if isinstance(limit, Valve) and limit.is_open:
                self._throttling.open(job, limit, now)
                self._set_lone()

    def _count(self, outcome: Outcome[Any, Any]) -> None:
        """Count a job that ended for good, and what it waited for."""
        if outcome.state == "done":
            self.done += 1
        elif outcome.state == "dead":
            self.failed += 1
        else:
            self.cancelled += 1
        for cause, seconds in outcome.waits.items():
            self._lost[cause] = self._lost.get(cause, 0.0) + seconds
        if self._observe is not None:
            self._observe(JobEnded(outcome.ended_at, outcome))

    @property
    def waits(self) -> dict[str, float]:
        """Seconds that ended jobs waited, by cause, all added up."""
        lost = dict(self._lost)
        if self._lone_waited > 0.0:
            lost["concurrency"] = lost.get("concurrency", 0.0) + self._lone_waited
        return lost

    # --- ending without running ------------------------------------------------------------

    def cancel(self, job: Job[Any], now: float) -> bool:
        """Take a waiting or scheduled job out; its outcome is put into `ended`.

        Returns:
            False if the job runs or has ended: then nothing changes here.
        """
        now = self.now = max(now, self.now)
        if job._status == WAITING:
            lane = job._task.node.lanes[job.lane]
            if self._lone is None:
                # What it waited for up to now is part of its outcome.
                ledger.mark(lane, now)
                add_waits(job, ledger.waited_for(job, lane))
            self._withdraw(job, lane, now)
        elif job._status == SCHEDULED:
            self._leave_schedule(job, now)
            self.timeline.spoil()
        else:
            return False
        self._end_unrun(job, JobCancelledError("the job was cancelled before it ended"), "cancelled", now)
        return True

    def _withdraw(self, job: Job[Any], lane: Node, now: float) -> None:
        """Take a waiting job out of its lane, wherever in it it stands."""
        lane.order.discard(job)
        self.waiting -= 1
        job._status = NEW
        if self._lone is not None or len(lane.order):
            return
        task = lane.parent
        assert task is not None  # noqa: S101 - a lane has a task
        # An empty lane waits for nothing.
        self.gates.withdraw(lane, now)
        self._after_leaving(lane, task, now)

    def _end_unrun(self, job: Job[Any], error: BaseException, state: State, now: float) -> None:
        job._status = ENDED
        history = job._history
        ran = 0.0 if history is None else history.ran
        first = None if history is None else history.first_started_at
        if first is not None and job.attempt > 1:
            job.attempt -= 1  # the one that was waited for never began
        outcome = make_outcome(job, None, error, state, now, ran, first)
        self._count(outcome)
        self.ended.append((job, outcome))

    def drop_all(self, now: float) -> None:
        """Cancel every job that waits or is scheduled."""
        for task in list(self.tree.tasks):
            for lane in list(task.lanes.values()):
                while len(lane.order):
                    self.cancel(lane.order.head(), now)
        for job in self.timeline.jobs():
            self.cancel(job, now)

    # --- closing, pausing, resizing, asking why ----------------------------------------------

    def close(self, now: float) -> None:
        """Say that no more jobs arrive."""
        self.now = max(now, self.now)
        self.closed = True

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, is scheduled or runs."""
        return not (self.running or self.waiting or self.scheduled)

    def pause(self, now: float) -> None:
        """Start nothing until `resume`; what runs goes on."""
        if self.is_paused:
            return
        now = self.now = max(now, self.now)
        self.is_paused = True
        self._set_lone()
        root = self.tree.root
        self.gates.withdraw(root, now)
        if root.cause is not None:
            self.gates.unpark(root, now)
        ledger.park(root, "paused", now)

    def resume(self, now: float) -> None:
        """Start jobs again."""
        if not self.is_paused:
            return
        now = self.now = max(now, self.now)
        self.is_paused = False
        self.gates.unpark(self.tree.root, now)
        self._set_lone()

    def resize(self, capacity: float, now: float) -> None:
        """Let more or fewer jobs run at once; those that run go on."""
        now = self.now = max(now, self.now)
        self.capacity = capacity
        root = self.tree.root
        if root.cause == "concurrency" and root.gate is None and self.running < capacity:
            self.gates.unpark(root, now)

    def detach(self) -> None:
        """Stop listening to limits, which may outlive this dispatcher."""
        self.gates.detach()

    def why(self, job: Job[Any] | None = None) -> Reason | None:
        """Return why a job waits, or without one why nothing more starts; None if nothing waits."""
        return why_all(self) if job is None else why_job(self, job)
