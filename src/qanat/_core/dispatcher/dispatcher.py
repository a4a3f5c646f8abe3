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
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from qanat._core.dispatcher import ledger
from qanat._core.dispatcher.gate import Gate
from qanat._core.dispatcher.node import Node
from qanat._core.dispatcher.timeline import Timeline
from qanat._core.dispatcher.turns import Turns
from qanat._core.dispatcher.valve import Valve
from qanat._core.events import Event, JobEnded, JobParked, JobRetried, JobStarted
from qanat._core.job import ENDED, NEW, RUNNING, SCHEDULED, WAITING, History, Job, Task
from qanat._core.limit import Limit, Refused
from qanat._core.orders.fifo import Fifo
from qanat._core.outcome import Outcome, State
from qanat._core.reason import Cause, Reason
from qanat._core.retry import Retry, RetryBudget
from qanat._core.verdict import Verdict, judge
from qanat.errors import JobCancelledError

if TYPE_CHECKING:
    from qanat._core.order import Order
    from qanat._core.ports import Random


def _nothing() -> Job[Any]:
    raise IndexError("no lone lane")


class Dispatcher:
    """Decide which job starts next, and when.

    Attributes:
        running: How many jobs hold a slot.
        waiting: How many jobs are ready but for their turn and their limits.
        scheduled: How many wait for a time of their own: delayed, or before a retry.
        done, failed, cancelled: How many ended so.
        retried: How many attempts were followed by another.
        ended: Jobs that ended without running, with their outcomes; to be emptied after every call.
        is_plain: Whether a new job starts at once when nothing waits, a slot is free and nothing is
            due: then a driver may count it in `running` and skip the asking.
        timeline: What is due, and when.
        faults: Errors that limits raised where nobody waited for an answer.
        observe: Called with each event, if set before the first job.
        notify: Called when something that happened outside of a call may let jobs start.
    """

    __slots__ = (
        "_changed",
        "_fading",
        "_gates",
        "_lone",
        "_lone_waited",
        "_lost",
        "_now",
        "_owner",
        "_paused",
        "_precision",
        "_rng",
        "_root",
        "_take_lone",
        "_tasks",
        "timeline",
        "_version",
        "cancelled",
        "capacity",
        "closed",
        "done",
        "ended",
        "failed",
        "faults",
        "is_plain",
        "notify",
        "observe",
        "retried",
        "running",
        "scheduled",
        "waiting",
    )

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
        self._rng = rng
        self._owner = owner
        self._precision = precision
        self.capacity = capacity
        self.observe = observe
        self.notify = notify
        self.running = 0
        self.waiting = 0
        self.scheduled = 0
        self.done = 0
        self.failed = 0
        self.cancelled = 0
        self.retried = 0
        self.closed = False
        self.ended: list[tuple[Job[Any], Outcome[Any, Any]]] = []
        self.faults: list[Exception] = []
        self._lost: dict[str, float] = {}
        self._lone_waited = 0.0
        self._now = -math.inf
        self._paused = False
        self.timeline = Timeline()
        self._gates: dict[Limit, Gate] = {}
        self._changed: list[Gate] = []
        self._fading: deque[Node] = deque()
        self._version = 0
        self._tasks: list[Node] = []
        self._lone: Node | None = None
        self.is_plain = False
        self._take_lone: Callable[[], Job[Any]] = _nothing
        self._root = Node(None, None, self._bound(limits))

    # --- tasks and lanes -------------------------------------------------------------------

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
        lane_limits: Callable[[Hashable], Limit | Iterable[Limit]] | None = None,
        uses_lanes: bool = False,
    ) -> Task:
        """Add a handler whose jobs take turns with those of the other tasks."""
        node = Node(self._root, name, self._bound(limits))
        node.make_order = make_order
        node.lane_limits = lane_limits
        node.uses_lanes = uses_lanes or lane_limits is not None
        node.budget = None if retry.budget is None else RetryBudget(retry.budget)
        self._tasks.append(node)
        self._set_lone()
        return Task(name, handler, node, retry, timeout, state)

    def drop_task(self, task: Task) -> None:
        """Forget a task that has no jobs left."""
        self._root.turns.leave(task.node)
        self._tasks.remove(task.node)
        self._set_lone()

    def _bound(self, limits: Iterable[Limit]) -> tuple[Limit, ...]:
        bound = tuple(limits)
        for limit in bound:
            limit.bind(self._owner, self._rng, self._precision)
        return bound

    def _lane(self, task: Node, key: Hashable) -> Node:
        """Return a task's lane, making it if need be."""
        lane = task.lanes.get(key)
        if lane is None:
            limits: tuple[Limit, ...] = ()
            if task.lane_limits is not None:
                given = task.lane_limits(key)
                limits = self._bound((given,) if isinstance(given, Limit) else given)
            lane = Node(task, key, limits)
            lane.order = task.make_order()
            task.lanes[key] = lane
            if key is not None and not task.uses_lanes:
                task.uses_lanes = True
                self._set_lone()
        return lane

    def _set_lone(self) -> None:
        """Find out whether there is a lone lane, and move to or from that way of running."""
        lone: Node | None = None
        if len(self._tasks) == 1 and not self._paused and self.observe is None and not self._root.limits:
            task = self._tasks[0]
            if not task.uses_lanes and not task.limits and task.budget is None and task.valve is None:
                lone = self._lane(task, None)
        before, self._lone = self._lone, lone
        self.is_plain = lone is not None
        if before is lone:
            return
        if lone is not None:
            self._take_lone = lone.order.take
        now = self._now
        if before is not None:
            # Everything that the lone lane did without is made up for here.
            task = self._tasks[0]
            before.running = task.running = self.running
            self._activate(before)
        else:
            assert lone is not None  # noqa: S101 - one of the two differs from the other
            task = self._tasks[0]
            for node in (lone, task, self._root):
                if node.cause is not None:
                    self._unpark(node, now)
                node.turns = Turns()
                node.in_turns = False

    # --- arriving --------------------------------------------------------------------------

    def offer(self, job: Job[Any], now: float, *, delay: float = 0.0) -> None:
        """Let a job arrive.

        Args:
            job: A new job.
            now: The time.
            delay: Seconds before it may start at the earliest.
        """
        if now < self._now:
            now = self._now
        else:
            self._now = now
        job.offered_at = now
        lone = self._lone
        if lone is not None and delay <= 0.0 and job.lane is None:
            job._status = WAITING
            lone.order.add(job)
            self.waiting += 1
            return
        if delay > 0.0:
            job._history = History()
            self._schedule(job, now, delay, "delay")
        else:
            self._enter(job, now, first=True)

    def offer_all(self, jobs: list[Job[Any]], now: float) -> None:
        """Let new jobs arrive that are waiting as they were made, with `offered_at` set to now."""
        lone = self._lone
        if lone is not None and isinstance(lone.order, Fifo):
            lone.order.extend(jobs)
            self.waiting += len(jobs)
            return
        for job in jobs:
            self.offer(job, now)

    def refuse(self, job: Job[Any], error: BaseException, now: float) -> None:
        """End a job that arrived, but cannot be offered, with its error."""
        job.offered_at = max(now, self._now)
        self._end_unrun(job, error, "dead", job.offered_at)

    def _enter(self, job: Job[Any], now: float, *, first: bool) -> None:
        """Put a job into its lane."""
        task = job._task.node
        try:
            lane = self._lane(task, job.lane)
        except Exception as error:
            self._end_unrun(job, error, "dead", now)
            return
        job._status = WAITING
        if first:
            lane.order.add(job)
        else:
            lane.order.put_back(job)
        self.waiting += 1
        if self._lone is None:
            job._mark = ledger.mark(lane, now)
            self._activate(lane)
        else:
            job._mark = None

    def _schedule(self, job: Job[Any], now: float, delay: float, cause: str) -> None:
        """Let a job wait for a time of its own; it holds nothing meanwhile."""
        history = job._history
        assert history is not None  # noqa: S101 - made by whoever schedules
        job._status = SCHEDULED
        history.scheduled_at = now
        history.due_at = now + delay
        history.cause = cause
        self.scheduled += 1
        self.timeline.add(history.due_at, job)

    def _activate(self, node: Node) -> None:
        """Let a node take part in its parent's turns, and the parent in its own, if they can."""
        while node.parent is not None and node.cause is None and not node.in_turns:
            if not (node.turns or (node.parent.parent is not None and len(node.order))):
                return
            node.parent.turns.add(node)
            node = node.parent

    # --- starting --------------------------------------------------------------------------

    def next(self, now: float) -> Job[Any] | None:
        """Return a job to start now, with everything that it needs taken; None if none can."""
        if now < self._now:
            now = self._now
        else:
            self._now = now
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
            self._note_start(job, lone, now)
        return job

    @property
    def may_start_more(self) -> bool:
        """Whether another call of `next` at the same time might find a job; costs next to nothing."""
        if self.running >= self.capacity:
            return False
        if self._lone is not None:
            return self.waiting > 0
        return bool(self._changed) or (self._root.cause is None and len(self._root.turns) > 0)

    @property
    def wake_at(self) -> float:
        """When to ask again after a None; infinity if only an arrival, an end or a change helps."""
        if self.running >= self.capacity or self._paused:
            return math.inf
        if self._changed:
            return self._now
        gate = self._root.gate
        return self.timeline.at if gate is None else gate.at

    def _reach(self, now: float) -> None:
        """Do what the timeline holds until now: due jobs enter their lanes, gates open."""
        while (entry := self.timeline.pop(now)) is not None:
            at, what = entry
            if not what.awaits(at):
                continue
            if isinstance(what, Gate):
                what.at = math.inf
                self._open(what, now)
                continue
            history = what._history
            assert history is not None  # noqa: S101 - scheduled jobs have one
            self.scheduled -= 1
            waits = history.waits
            waits[history.cause] = waits.get(history.cause, 0.0) + (now - history.scheduled_at)
            self._enter(what, now, first=history.cause == "delay")

    def _next_by_turns(self, now: float) -> Job[Any] | None:
        root = self._root
        while True:
            if self._changed:
                self._open_changed(now)
            if root.cause is not None:
                return None
            if self.running >= self.capacity:
                self._park_full(now)
                return None
            task = root.turns.current()
            if task is None:
                return None
            lane = task.turns.current()
            assert lane is not None  # noqa: S101 - a task without active lanes leaves the turns
            job = lane.order.head()
            if self._may_start(job, lane, task, now) and self._take(job, lane, task, now):
                return job

    def _may_start(self, job: Job[Any], lane: Node, task: Node, now: float) -> bool:
        """Ask the limits on the path; park the node whose limit says no."""
        for node in (lane, task, self._root):
            if not node.limits:
                continue
            worst: Limit | None = None
            latest = now
            try:
                for limit in node.limits:
                    at = limit.ready_at(job, now)
                    if at > latest:
                        latest, worst = at, limit
            except Exception as error:
                self._withdraw(job, lane, now)
                why = error.error if isinstance(error, Refused) else error
                self._end_unrun(job, why, "dead", now)
                return False
            if worst is not None:
                self._park(node, worst, latest, job, now)
                if node is not lane and lane.woken_by is not None:
                    # An ancestor holds the lane now, which must not hold up others at its gate.
                    woken_by, lane.woken_by = lane.woken_by, None
                    self._open(woken_by, now)
                return False
        return True

    def _take(self, job: Job[Any], lane: Node, task: Node, now: float) -> bool:
        """Take everything on the path; False if a limit failed, which ends the job."""
        lane.order.take()
        self.waiting -= 1
        path = self._path(lane, task)
        for number, limit in enumerate(path):
            try:
                limit.take(job, now)
            except Exception as error:
                outcome = self._outcome(job, None, error, "dead", now, 0.0, None)
                job._took = path[:number]
                self._give_back(job, outcome, now)
                self._after_leaving(lane, task, now)
                self._end_unrun(job, error, "dead", now)
                return False
        job._took = path
        job._status = RUNNING
        job.started_at = now
        lane.running += 1
        task.running += 1
        self.running += 1
        self._note_start(job, lane, now)
        if task.budget is not None:
            task.budget.started(now, job.attempt > 1)
        task.turns.spend(lane)
        self._root.turns.spend(task)
        self._after_leaving(lane, task, now)
        if self.observe is not None:
            self.observe(JobStarted(now, job))
        return True

    def _path(self, lane: Node, task: Node) -> tuple[Limit, ...]:
        if lane.path_version != self._version:
            lane.path = lane.limits + task.limits + self._root.limits
            lane.path_version = self._version
        return lane.path

    def _note_start(self, job: Job[Any], lane: Node, now: float) -> None:
        """Keep what the job waited for, and its first start."""
        history = job._history
        waits = ledger.waited_for(job, lane) if job._mark is not None else None
        if waits:
            if history is None:
                history = job._history = History()
            for cause, seconds in waits.items():
                history.waits[cause] = history.waits.get(cause, 0.0) + seconds
        if history is not None and history.first_started_at is None:
            history.first_started_at = now

    def _after_leaving(self, lane: Node, task: Node, now: float) -> None:
        """See to a lane that a job has left: let the next one through its gate, drop it if empty."""
        woken_by, lane.woken_by = lane.woken_by, None
        if not len(lane.order):
            task.turns.leave(lane)
            if task.turns.current() is None:
                self._root.turns.leave(task)
            self._fade(lane, task, now)
        for node in (lane, task, self._root):
            if node is not lane:
                woken_by, node.woken_by = node.woken_by, None
            if woken_by is not None:
                self._open(woken_by, now)

    # --- parking and waking ----------------------------------------------------------------

    def _park(self, node: Node, limit: Limit, until: float, job: Job[Any], now: float) -> None:
        """Let a node wait at a limit's gate; its turns pass on, or stay if it is an ancestor."""
        gate = self._gates.get(limit)
        if gate is None:
            gate = self._gates[limit] = Gate(self, limit)
            limit.listen(gate)
        woken_by, node.woken_by = node.woken_by, None
        ledger.park(node, limit.cause, now)
        node.gate = gate
        if woken_by is gate:
            gate.waiters.appendleft(node)
            self._set_gate(gate, until)
        else:
            gate.waiters.append(node)
            if len(gate.waiters) == 1:
                self._set_gate(gate, until)
            if woken_by is not None:
                self._open(woken_by, now)
        parent = node.parent
        if parent is not None:
            parent.turns.leave(node)
            if parent.turns.current() is None and parent.parent is not None:
                parent.parent.turns.leave(parent)
        if self.observe is not None:
            self.observe(JobParked(now, job, self._reason_of(node, job.lane, gate.at)))

    def _set_gate(self, gate: Gate, until: float) -> None:
        gate.at = until
        if until < math.inf:
            self.timeline.add(until, gate)

    def _park_full(self, now: float) -> None:
        """Let the root wait for a slot."""
        root = self._root
        task = root.turns.current()
        if task is None:
            return
        ledger.park(root, "concurrency", now)
        if self.observe is not None:
            lane = task.turns.current()
            assert lane is not None  # noqa: S101 - as in _next_by_turns
            self.observe(JobParked(now, lane.order.head(), self._reason_of(root, lane.key, math.inf)))

    def gate_changed(self, gate: Gate) -> None:
        """Hear that a limit's answer may have changed; the gate opens at the next call."""
        if gate not in self._changed:
            self._changed.append(gate)
            if self.notify is not None:
                self.notify()

    def _open_changed(self, now: float) -> None:
        changed, self._changed = self._changed, []
        for gate in changed:
            if gate.at < math.inf:
                gate.at = math.inf
                self.timeline.spoil(gate)
            self._open(gate, now)

    def _open(self, gate: Gate, now: float) -> None:
        """Let the first node at a gate be asked again, and those whom it would hold up for others."""
        while gate.waiters:
            node = gate.waiters.popleft()
            node.woken_by = gate
            self._unpark(node, now)
            self._activate(node)
            if self._is_reachable(node):
                return
            # It is not asked while an ancestor is parked, so it must not hold up the next one.
            node.woken_by = None

    def _is_reachable(self, node: Node) -> bool:
        """Whether the turns can come to a node that has jobs."""
        if node.parent is None:
            return True
        if not node.in_turns:
            return False
        return node.parent.cause is None

    def _unpark(self, node: Node, now: float) -> None:
        ledger.unpark(node, now)
        node.gate = None

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
        if now < self._now:
            now = self._now
        else:
            self._now = now
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
        return self._finish(job, value, error, now, wall, cancelled, holding)

    def _finish(
        self, job: Job[Any], value: Any, error: BaseException | None, now: float, wall: float, cancelled: bool,
        holding: bool,
    ) -> Outcome[Any, Any] | None:  # fmt: skip
        task = job._task.node
        verdict: Verdict | None = None
        if error is not None and not cancelled:
            verdict = judge(
                job, error, retry=job._task.retry, budget=task.budget, now=now, wall=wall, rng=self._rng
            )
            if verdict.kind == "throttled" and self._find_limit(job, verdict.limit) is None:
                verdict = self._no_such_limit(verdict, task, job)
            error = verdict.error
        state: State = "cancelled" if cancelled else "done" if error is None else "dead"
        ran = now - job.started_at
        history = job._history
        attempt = self._outcome(job, value, error, state, now, ran, job.started_at)
        if verdict is not None and verdict.kind != "dead":
            if history is None:
                history = job._history = History(first_started_at=job.started_at)
            history.ran += ran
            # It comes back before it gives back, so that its lane is not forgotten in between.
            self._again(job, verdict, now)
            if not holding:
                self._free(job, attempt, now)
            return None
        if not holding:
            self._free(job, attempt, now)
        job._status = ENDED
        if history is not None and (history.first_started_at != job.started_at or history.ran):
            attempt = self._outcome(job, value, error, state, now, history.ran + ran, history.first_started_at)
        self._count(attempt)
        return attempt

    def hold(self, job: Job[Any]) -> Job[Any]:
        """Return a stand-in that goes on holding what a job took, for `release`."""
        held = Job(job.id, None, job.index, job._task, lane=job.lane, started_at=job.started_at)
        held._took = job._took
        held._status = RUNNING
        return held

    def release(self, held: Job[Any], value: Any, error: BaseException | None, now: float) -> None:
        """Give back what a stand-in held, now that the handler has ended after all."""
        now = self._now = max(now, self._now)
        state: State = "done" if error is None else "dead"
        outcome = self._outcome(held, value, error, state, now, now - held.started_at, held.started_at)
        held._status = ENDED
        self._free(held, outcome, now)

    def _free(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        """Give back slots and limits, and let others on."""
        self.running -= 1
        if self._lone is not None:
            if job._took:
                self._give_back(job, outcome, now)
            return
        root = self._root
        if root.cause == "concurrency" and root.gate is None and self.running < self.capacity:
            self._unpark(root, now)
        task = job._task.node
        task.running -= 1
        lane = task.lanes[job.lane]
        lane.running -= 1
        if job._took:
            self._give_back(job, outcome, now)
        if not lane.running and not len(lane.order):
            self._fade(lane, task, now)

    def _give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        took, job._took = job._took or (), None
        for limit in took:
            try:
                limit.give_back(job, outcome, now)
            except Exception as error:
                # The job's outcome stands; the driver reports what is broken.
                self.faults.append(error)
            if isinstance(limit, Valve) and limit.is_open:
                self._remove_valve(job, limit, now)

    def _again(self, job: Job[Any], verdict: Verdict, now: float) -> None:
        """Let a job come back: after a delay, or in a lane that is closed."""
        history = job._history
        assert history is not None  # noqa: S101 - made by the caller
        if verdict.kind == "throttled":
            history.throttles += 1
            self._close_for(job, verdict, now)
            self._enter(job, now, first=False)
            again_at = now
        else:
            job.attempt += 1
            self.retried += 1
            delay = verdict.delay or 0.0
            again_at = now + delay
            if delay > 0.0:
                self._schedule(job, now, delay, "retry")
            else:
                self._enter(job, now, first=False)
        if self.observe is not None:
            self.observe(JobRetried(now, job, verdict.error, again_at))

    def _outcome(
        self, job: Job[Any], value: Any, error: BaseException | None, state: State, now: float, ran: float,
        started_at: float | None,
    ) -> Outcome[Any, Any]:  # fmt: skip
        history = job._history
        # Without a mark it arrived in the lone lane, where only slots are waited for.
        default = "concurrency" if job._mark is None else "turn"
        lost: dict[str, float] | str = default
        if history is not None and history.waits:
            lost = dict(history.waits)
            rest = (now - job.offered_at - ran) - sum(lost.values())
            if rest > 1e-9:
                lost[default] = lost.get(default, 0.0) + rest
        attempts = 0 if started_at is None else job.attempt
        return Outcome(
            job.id, job.index, job.item, value, error, state, attempts, job.lane, job.metadata,
            job.parent, job.offered_at, started_at, now, ran, lost,
        )  # fmt: skip

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
        if self.observe is not None:
            self.observe(JobEnded(outcome.ended_at, outcome))

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
        now = self._now = max(now, self._now)
        if job._status == WAITING:
            lane = job._task.node.lanes[job.lane]
            if self._lone is None:
                # What it waited for up to now is part of its outcome.
                ledger.mark(lane, now)
                self._note_waits(job, lane)
            self._withdraw(job, lane, now)
        elif job._status == SCHEDULED:
            self.scheduled -= 1
            job._status = NEW
            self.timeline.spoil(job)
            history = job._history
            assert history is not None  # noqa: S101 - scheduled jobs have one
            waits = history.waits
            waits[history.cause] = waits.get(history.cause, 0.0) + (now - history.scheduled_at)
        else:
            return False
        self._end_unrun(job, JobCancelledError("the job was cancelled before it ended"), "cancelled", now)
        return True

    def _note_waits(self, job: Job[Any], lane: Node) -> None:
        waits = ledger.waited_for(job, lane)
        if waits:
            history = job._history or History()
            job._history = history
            for cause, seconds in waits.items():
                history.waits[cause] = history.waits.get(cause, 0.0) + seconds

    def _withdraw(self, job: Job[Any], lane: Node, now: float) -> None:
        """Take a waiting job out of its lane, wherever in it it stands."""
        lane.order.discard(job)
        self.waiting -= 1
        job._status = NEW
        if self._lone is not None or len(lane.order):
            return
        task = lane.parent
        assert task is not None  # noqa: S101 - a lane has a task
        if lane.gate is not None:
            # An empty lane waits for nothing.
            gate = lane.gate
            first = gate.waiters[0] is lane
            gate.waiters.remove(lane)
            self._unpark(lane, now)
            if first and gate.at < math.inf:
                gate.at = math.inf
                self.timeline.spoil(gate)
            if first:
                self._open(gate, now)
            self._fade(lane, task, now)
        else:
            self._after_leaving(lane, task, now)

    def _end_unrun(self, job: Job[Any], error: BaseException, state: State, now: float) -> None:
        job._status = ENDED
        history = job._history
        ran = 0.0 if history is None else history.ran
        first = None if history is None else history.first_started_at
        if first is not None and job.attempt > 1:
            job.attempt -= 1  # the one that was waited for never began
        outcome = self._outcome(job, None, error, state, now, ran, first)
        self._count(outcome)
        self.ended.append((job, outcome))

    def drop_all(self, now: float) -> None:
        """Cancel every job that waits or is scheduled."""
        for task in list(self._tasks):
            for lane in list(task.lanes.values()):
                while len(lane.order):
                    self.cancel(lane.order.head(), now)
        for what in self.timeline.drain():
            if isinstance(what, Job) and what._status == SCHEDULED:
                self.cancel(what, now)

    # --- lanes that fade -------------------------------------------------------------------

    def _fade(self, lane: Node, task: Node, now: float) -> None:
        """Forget an empty lane once its limits are as good as new; sweep those of before."""
        if lane is self._lone or lane.key is None:
            return
        fading = self._fading
        if lane.limits:
            if not lane.is_fading:
                lane.is_fading = True
                fading.append(lane)
        elif not lane.running:
            self._forget(lane, task)
        # Each call looks at two, so that the list cannot grow faster than it is swept.
        for _ in range(min(2, len(fading))):
            old = fading.popleft()
            owner = old.parent
            if owner is None or len(old.order):
                old.is_fading = False
            elif not old.running and all(limit.fresh_at(now) <= now for limit in old.limits):
                self._forget(old, owner)
            else:
                fading.append(old)

    def _forget(self, lane: Node, task: Node) -> None:
        del task.lanes[lane.key]
        for limit in lane.limits:
            gate = self._gates.get(limit)
            if gate is not None and not gate.waiters:
                del self._gates[limit]
                limit.unlisten(gate)

    # --- throttling ------------------------------------------------------------------------

    def _find_limit(self, job: Job[Any], name: str | None) -> Node | None:
        """Return the node to close for a throttled job: that of the named limit, its lane or task."""
        task: Node = job._task.node
        lane = task.lanes.get(job.lane)
        if name is None:
            return lane if task.uses_lanes and lane is not None else task
        for node in (lane, task, self._root):
            if node is not None and any(getattr(limit, "name", None) == name for limit in node.limits):
                return node
        return None

    def _no_such_limit(self, verdict: Verdict, task: Node, job: Job[Any]) -> Verdict:
        lane = task.lanes[job.lane]
        names = [
            name
            for limit in lane.limits + task.limits + self._root.limits
            if (name := getattr(limit, "name", None)) is not None
        ]
        problem = ValueError(
            f"Throttled(limit={verdict.limit!r}) names no limit of this job, its named limits are "
            f"{', '.join(map(repr, names)) or 'none'}: leave limit out to close the job's lane"
        )
        problem.__context__ = verdict.error
        return Verdict("dead", problem)

    def _close_for(self, job: Job[Any], verdict: Verdict, now: float) -> None:
        node = self._find_limit(job, verdict.limit)
        assert node is not None  # noqa: S101 - seen to by the caller
        running = self.running if self._lone is not None or node.parent is None else node.running
        valve = node.valve
        if valve is None:
            valve = node.valve = Valve()
            (bound,) = self._bound((valve,))
            node.limits += (bound,)
            self._version += 1
            self._set_lone()
        valve.close(job, verdict.delay, running, now)
        self._reset_gate(valve)

    def _reset_gate(self, valve: Valve) -> None:
        """Let those who wait at a valve that closed again wait for the new time."""
        gate = self._gates.get(valve)
        if gate is not None and gate.waiters and gate.at != valve.closed_until:
            if gate.at < math.inf:
                self.timeline.spoil(gate)
            self._set_gate(gate, valve.closed_until)

    def _remove_valve(self, job: Job[Any], valve: Valve, now: float) -> None:
        task: Node = job._task.node
        for node in (task.lanes.get(job.lane), task, self._root):
            if node is not None and node.valve is valve:
                node.valve = None
                node.limits = tuple(limit for limit in node.limits if limit is not valve)
                self._version += 1
                gate = self._gates.pop(valve, None)
                if gate is not None:
                    if gate.at < math.inf:
                        gate.at = math.inf
                        self.timeline.spoil(gate)
                    if gate in self._changed:
                        self._changed.remove(gate)
                    while gate.waiters:
                        self._open(gate, now)
                self._set_lone()

    # --- stopping, pausing, asking why -----------------------------------------------------

    def close(self, now: float) -> None:
        """Say that no more jobs arrive."""
        self._now = max(now, self._now)
        self.closed = True

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, is scheduled or runs."""
        return not (self.running or self.waiting or self.scheduled)

    def pause(self, now: float) -> None:
        """Start nothing until `resume`; what runs goes on."""
        if self._paused:
            return
        now = self._now = max(now, self._now)
        self._paused = True
        self._set_lone()
        root = self._root
        gate = root.gate
        if root.cause is not None:
            self._unpark(root, now)
        ledger.park(root, "paused", now)
        if gate is not None:
            gate.waiters.remove(root)
            self._open(gate, now)

    def resume(self, now: float) -> None:
        """Start jobs again."""
        if not self._paused:
            return
        now = self._now = max(now, self._now)
        self._paused = False
        self._unpark(self._root, now)
        self._set_lone()

    @property
    def is_paused(self) -> bool:
        """Whether it was paused."""
        return self._paused

    def resize(self, capacity: float, now: float) -> None:
        """Let more or fewer jobs run at once; those that run go on."""
        now = self._now = max(now, self._now)
        self.capacity = capacity
        root = self._root
        if root.cause == "concurrency" and root.gate is None and self.running < capacity:
            self._unpark(root, now)

    def detach(self) -> None:
        """Stop listening to limits, which may outlive this dispatcher."""
        for limit, gate in self._gates.items():
            limit.unlisten(gate)
        self._gates.clear()

    def why(self, job: Job[Any] | None = None) -> Reason | None:
        """Say why a job waits, or without one why none starts; None if it does not wait."""
        if job is not None and job._status == SCHEDULED:
            history = job._history
            assert history is not None  # noqa: S101 - scheduled jobs have one
            cause: Literal["retry", "delay"] = "retry" if history.cause == "retry" else "delay"
            return Reason(cause, None, job.lane, history.scheduled_at, history.due_at)
        if job is not None and job._status != WAITING:
            return None
        if job is None and not self.waiting:
            return None if self.timeline.at == math.inf else self._why_scheduled()
        lane_key = None if job is None else job.lane
        if self._paused:
            return self._reason_of(self._root, lane_key, math.inf)
        if job is not None and self._lone is None:
            task: Node = job._task.node
            for node in (task.lanes[job.lane], task):
                if node.cause is not None:
                    return self._reason_of(node, job.lane, self._until(node))
        root = self._root
        if root.cause is not None:
            return self._reason_of(root, lane_key, self._until(root))
        since = self._now if job is None else job.offered_at
        if self.running >= self.capacity:
            return Reason("concurrency", self._slots(), lane_key, since, None)
        if job is None:
            parked = self._first_parked()
            if parked is not None:
                return parked
        return Reason("turn", None, lane_key, since, None)

    def _why_scheduled(self) -> Reason | None:
        """Say what the next scheduled job waits for."""
        first = self.timeline.first_job()
        return None if first is None else self.why(first)

    def _first_parked(self) -> Reason | None:
        """Say what the first of the parked gates waits for."""
        gates = [gate for gate in self._gates.values() if gate.waiters]
        if not gates:
            return None
        gate = min(gates, key=lambda each: each.at)
        node = gate.waiters[0]
        key = node.key if node.parent is not None and node.parent.parent is not None else None
        return self._reason_of(node, key, gate.at)

    def _until(self, node: Node) -> float:
        return math.inf if node.gate is None else node.gate.at

    def _slots(self) -> str:
        return f"{self.capacity:g}"

    def _reason_of(self, node: Node, lane: Hashable, until: float) -> Reason:
        cause: Cause = node.cause or "turn"
        limit = str(node.gate.limit) if node.gate is not None else None
        if cause == "concurrency" and limit is None:
            limit = self._slots()
        return Reason(cause, limit, lane, node.since, None if until == math.inf else until)
