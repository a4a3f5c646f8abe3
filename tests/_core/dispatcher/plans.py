"""Plans of work for the dispatcher, and one function that holds it to all that it promises.

A plan is a random tree of tasks, lanes and limits with jobs that arrive, fail, are throttled, retried
and cancelled, while the whole is paused, resumed, resized and gets another task. All times are
multiples of an eighth, which floats keep exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random as Seeded
from typing import TYPE_CHECKING, Any

from qanat._core.backoff import constant
from qanat._core.limit import Limit
from qanat._core.limits import Concurrency, FixedWindow, SlidingWindow, Spacing, TokenBucket
from qanat._core.orders import ORDERS
from qanat._core.retry import Retry
from qanat.errors import Discard, RetryLater, Throttled
from tests._core.dispatcher.world import add, job, make
from tests._core.driver import Drive, drive
from tests._core.limits.promises import at_once, bucket, fixed, sliding, spaced, spaced_after_finish
from tests._core.limits.properties import History, MayStart

if TYPE_CHECKING:
    from qanat._core.dispatcher import Dispatcher
    from qanat._core.events import Event
    from qanat._core.job import Job, Task
    from qanat._core.outcome import Outcome
    from qanat._core.ports import Random

Choose = Callable[[Sequence[Any]], Any]

if TYPE_CHECKING:
    Promise = tuple[Job[Any], float, float]

# Long after all else: whatever was paused goes on then.
LAST = 64.0


class Picky(Limit):
    """Answer each job with a time of its own."""

    def ready_at(self, job: Job[Any], now: float) -> float:
        return job.index % 4 * 1.5

    def fresh_at(self, now: float) -> float:
        return now


LIMITS: dict[str, tuple[Callable[[], Limit], MayStart]] = {
    "1 at once": (lambda: Concurrency(1), at_once(1)),
    "2 at once": (lambda: Concurrency(2), at_once(2)),
    "2 a second": (lambda: SlidingWindow(2, 1.0), sliding(2, 1.0)),
    "1 in 2 s": (lambda: FixedWindow(1, 2.0), fixed(1, 2.0)),
    "bucket": (lambda: TokenBucket(2.0, burst=2), bucket(2.0, 2)),
    "spaced": (lambda: Spacing(0.5), spaced(0.5)),
    "after a finish": (lambda: Spacing(0.25, after="finish"), spaced_after_finish(0.25)),
    "picky": (Picky, lambda _history, _now: True),
}


class Watched(Limit):
    """A limit whose takes are counted, and held to its promise by an oracle."""

    def __init__(self, name: str) -> None:
        make_limit, self.may_start = LIMITS[name]
        self.inner = make_limit()
        self.inner.listen(self)
        self.cause = self.inner.cause  # type: ignore[misc]
        self.name = name
        self.history = History()
        self.held: list[tuple[Job[Any], int]] = []

    def limit_changed(self) -> None:
        self.changed()

    def bind(self, owner: int, rng: Any, precision: float = 0.0) -> None:
        super().bind(owner, rng, precision)
        self.inner.bind(owner, rng, precision)

    def ready_at(self, job: Job[Any], now: float) -> float:
        return self.inner.ready_at(job, now)

    def take(self, job: Job[Any], now: float) -> None:
        assert self.may_start(self.history, now), f"{self.name} was exceeded"
        self.held.append((job, len(self.history.starts)))
        self.history.starts.append(now)
        self.history.ends.append(inf)
        self.inner.take(job, now)

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        mine = [entry for entry in self.held if entry[0] is job]
        assert len(mine) == 1, f"{self.name} was given back {len(mine)} takes at once"
        self.held.remove(mine[0])
        self.history.ends[mine[0][1]] = now
        self.inner.give_back(job, outcome, now)

    def fresh_at(self, now: float) -> float:
        return self.inner.fresh_at(now)


@dataclass
class PlannedTask:
    limits: list[str]
    lane_limits: dict[str, list[str]]
    shares_lane_limits: bool
    uses_lanes: bool
    weights: dict[str, float] | None
    order: str
    retry: Retry


@dataclass
class PlannedJob:
    task: int
    lane: str | None
    at: float
    delay: float
    priority: float
    seconds: float
    results: list[str]
    cancelled_at: float
    reprioritised: tuple[float, float] | None


@dataclass
class Plan:
    capacity: float
    limits: list[str]
    tasks: list[PlannedTask]
    jobs: list[PlannedJob]
    calls: list[tuple[float, str, int]]


def make_plan(choose: Choose) -> Plan:
    """Make a plan of choices."""
    eighths = [n / 8 for n in range(33)]
    # In a crowd all come at once and stay.
    is_crowd = choose([False, False, True])
    arrivals, cancels = ([0.0], [inf]) if is_crowd else (eighths, [inf, inf, inf, *eighths])
    some_limits = [[], [], [], ["1 at once"], ["2 at once"], ["2 a second"], ["spaced"], ["1 in 2 s"]]
    two_limits = [["bucket", "2 at once"], ["spaced", "2 a second"]]
    more_limits = [*some_limits, *two_limits, ["after a finish"], ["picky"]]
    is_plain = choose([False, False, True])

    def task() -> PlannedTask:
        uses_lanes = not is_plain and choose([False, True, True])
        shares = is_crowd or choose([False, True])
        return PlannedTask(
            limits=[] if is_plain else choose(more_limits),
            lane_limits={lane: choose(more_limits[3 * shares :]) for lane in "abc"}
            if uses_lanes and choose([0, 1, 1])
            else {},
            shares_lane_limits=shares,
            uses_lanes=uses_lanes,
            weights=choose([None, {"a": 3.0, "b": 0.25}]) if uses_lanes else None,
            order=choose(list(ORDERS)),
            retry=Retry(
                choose([0, 1, 2]),
                backoff=constant(choose([0, 0.5, 1.75])),
                deadline=choose([None, None, 4.0]),
                budget=None if is_plain else choose([None, None, None, 0.5]),
            ),
        )  # fmt: skip

    def planned_job(tasks: list[PlannedTask]) -> PlannedJob:
        number = choose(range(len(tasks)))
        return PlannedJob(
            task=number,
            lane=choose([None, "a", "b", "c"]) if tasks[number].uses_lanes else None,
            at=choose(arrivals),
            delay=0.0 if is_crowd else choose([0.0, 0.0, 0.0, 0.75, 3.0]),
            priority=choose([0.0, 1.0, 2.0]),
            seconds=choose([0.0, 0.125, 0.5, 1.0, 2.5]),
            results=[
                choose(["ok", "ok", "ok", "fail", "fail", "throttled", "throttled 2", "later", "discard"])
                for _ in range(choose([1, 2, 3]))
            ],
            cancelled_at=choose(cancels),
            reprioritised=(choose(eighths), choose([-1.0, 0.5, 3.0])) if choose([0, 0, 1]) else None,
        )

    tasks = [task() for _ in range(1 if is_plain else choose([1, 1, 2, 3]))]
    return Plan(
        capacity=choose([1, 2, 3, inf]),
        limits=[] if is_plain else choose(some_limits),
        tasks=tasks,
        jobs=[planned_job(tasks) for _ in range(choose(range(1, 13)))],
        calls=[
            (choose(eighths), choose(["pause", "resume", "resize", "second task"]), choose([1, 2, 4]))
            for _ in range(choose([0, 0, 1, 2, 4]))
        ],
    )


@dataclass
class Played:
    """A plan that was driven to its end."""

    dispatcher: Dispatcher = field(default_factory=make)
    limits: list[Watched] = field(default_factory=list["Watched"])
    jobs: list[Job[Any]] = field(default_factory=list["Job[Any]"])
    # Who was told at which time to wait until when.
    promises: list[Promise] = field(default_factory=list["Promise"])
    faults: list[Exception] = field(default_factory=list[Exception])
    events: list[Event] = field(default_factory=list["Event"])
    throttled: Counter[int] = field(default_factory=Counter[int])
    result: Drive = field(default_factory=Drive)


def play(plan: Plan, *, asked_at: Sequence[float] = (), observed: bool = False) -> Played:
    """Drive a plan to its end; at these times the dispatcher is asked without need."""
    played = Played()
    played.limits = [Watched(name) for name in plan.limits]
    dispatcher = played.dispatcher = make(
        capacity=plan.capacity, limits=tuple(played.limits), on_fault=lambda fault, _: played.faults.append(fault),
        observe=played.events.append if observed else None,
    )  # fmt: skip
    tasks = [_add(played, number, task) for number, task in enumerate(plan.tasks)]
    for number, planned in enumerate(plan.jobs):
        played.jobs.append(job(tasks[planned.task], number, planned.lane, planned.priority))
    calls_made: Counter[int] = Counter()

    def failures(each: Job[Any], _rng: Random) -> BaseException | None:
        results = plan.jobs[each.index].results
        calls_made[each.index] += 1
        what = results[calls_made[each.index] - 1] if calls_made[each.index] <= len(results) else "ok"
        played.throttled[each.index] += what.startswith("throttled")
        return _error(what)

    def latency(each: Job[Any], _rng: Random, running: int) -> float:
        assert running <= dispatcher.capacity, "more run than may"
        return plan.jobs[each.index].seconds

    def look(now: float) -> None:
        for each in played.jobs:
            reason = dispatcher.why(each)
            if reason is not None and reason.until is not None:
                played.promises.append((each, now, reason.until))

    calls: list[tuple[float, int, Callable[[float], object]]] = []
    for number, each in enumerate(played.jobs):
        planned = plan.jobs[number]
        calls.append((planned.at, 0, _offering(dispatcher, each, planned.delay)))
        if planned.reprioritised is not None:
            at, priority = planned.reprioritised
            calls.append((at, 1, _prioritising(dispatcher, each, priority)))
    calls += [(at, 2, _calling(dispatcher, what, n)) for at, what, n in plan.calls]
    calls += [(at, 3, look) for at in asked_at]
    calls.append((LAST, 4, dispatcher.resume))
    calls.sort(key=lambda entry: entry[:2])
    # A job can be cancelled only once it has arrived.
    cancels = [
        (max(planned.cancelled_at, planned.at + 0.125), each)
        for planned, each in zip(plan.jobs, played.jobs, strict=True)
        if planned.cancelled_at < inf
    ]
    cancels.sort(key=lambda entry: entry[0])
    played.result = drive(
        dispatcher, (), latency, rng=Seeded(1), failures=failures,
        cancels=cancels, calls=[(at, call) for at, _, call in calls],
    )  # fmt: skip
    return played


def _add(played: Played, number: int, planned: PlannedTask) -> Task:
    def watched(names: list[str]) -> list[Watched]:
        limits = [Watched(name) for name in names]
        played.limits += limits
        return limits

    lane_limits = None
    if planned.lane_limits:
        shared = {lane: watched(names) for lane, names in planned.lane_limits.items()}

        def lane_limits(lane: Any) -> list[Watched]:
            if lane is None:
                return []
            return shared["a"] if planned.shares_lane_limits else watched(planned.lane_limits[lane])

    return add(
        played.dispatcher, f"task {number}", order=ORDERS[planned.order], retry=planned.retry,
        limits=watched(planned.limits), lane_limits=lane_limits, uses_lanes=planned.uses_lanes,
        weights=None if planned.weights is None else lambda lane: (planned.weights or {}).get(lane, 1.0),
    )  # fmt: skip


def _error(what: str) -> BaseException | None:
    errors: dict[str, BaseException | None] = {
        "ok": None, "fail": OSError(), "throttled": Throttled(), "throttled 2": Throttled(2.0),
        "later": RetryLater(0.25), "discard": Discard("no"),
    }  # fmt: skip
    return errors[what]


def _offering(dispatcher: Dispatcher, each: Job[Any], delay: float) -> Callable[[float], object]:
    return lambda now: dispatcher.offer(each, now, delay=delay)


def _prioritising(dispatcher: Dispatcher, each: Job[Any], priority: float) -> Callable[[float], object]:
    def call(now: float) -> None:
        waits = dispatcher.why(each) is not None
        assert dispatcher.prioritise(each, priority, now) is waits

    return call


def _calling(dispatcher: Dispatcher, what: str, n: int) -> Callable[[float], object]:
    if what == "resize":
        return lambda now: dispatcher.resize(n, now)
    if what == "second task":
        return lambda _now: _add_second(dispatcher, stays=n == 1)
    return dispatcher.pause if what == "pause" else dispatcher.resume


def _add_second(dispatcher: Dispatcher, *, stays: bool) -> None:
    second = add(dispatcher, "second")
    if not stays:
        dispatcher.drop_task(second)


DENSELY = [n / 16 for n in range(16 * 24)]


def check(plan: Plan) -> None:
    """Assert all that the dispatcher promises of a plan."""
    played = play(plan)
    check_end(plan, played)
    asked = play(plan, asked_at=DENSELY)
    check_end(plan, asked)
    # An observed run takes turns where the other may be alone.
    observed = play(plan, observed=True)
    check_end(plan, observed)
    # Whoever asks more often learns nothing earlier, and changes no account.
    assert asked.result.trace == played.result.trace, "something could have started earlier"
    assert observed.result.trace == played.result.trace, "alone and in turns are not the same"
    ends, *others = ({o.id: o.waits for o in each.result.outcomes} for each in (played, asked, observed))
    assert others == [ends, ends]
    check_reasons(asked)


def check_end(plan: Plan, played: Played) -> None:
    """Assert that all ended well, and nothing is left behind."""
    dispatcher, outcomes = played.dispatcher, played.result.outcomes
    assert played.faults == [], "a limit failed where nobody waits for an answer"
    ended = sorted(outcome.index for outcome in outcomes)
    assert ended == list(range(len(plan.jobs))), "lost, or ended twice"
    assert dispatcher.is_idle, "something never started"
    assert (dispatcher.running, dispatcher.waiting, dispatcher.scheduled) == (0, 0, 0)
    states = Counter(outcome.state for outcome in outcomes)
    assert (dispatcher.done, dispatcher.failed, dispatcher.cancelled) == (
        states["done"], states["dead"], states["cancelled"],
    )  # fmt: skip
    for limit in played.limits:
        assert limit.held == [], f"{limit.name} was not given back"
    starts = Counter(step.id for step in played.result.trace if step.kind == "start")
    total: Counter[str] = Counter()
    for outcome in outcomes:
        planned = plan.jobs[outcome.index]
        if outcome.state != "cancelled":
            assert outcome.ran == starts[outcome.id] * planned.seconds
        assert outcome.offered_at == planned.at
        if outcome.started_at is not None:
            assert planned.at + planned.delay <= outcome.started_at <= outcome.ended_at
        assert not isinstance(outcome.error, AssertionError), outcome.error
        assert outcome.attempts == starts[outcome.id] - played.throttled[outcome.index]
        assert outcome.attempts <= plan.tasks[planned.task].retry.times + 1
        assert sum(outcome.waits.values()) == outcome.waited, "waits do not add up"
        assert all(seconds > 0.0 for seconds in outcome.waits.values())
        assert "turn" not in outcome.waits, "nobody asked late"
        total.update(outcome.waits)
    assert dispatcher.waits == {cause: seconds for cause, seconds in total.items() if seconds}
    _check_tree(dispatcher)


def _check_tree(dispatcher: Dispatcher) -> None:
    gates = dispatcher.gates._gates.values()
    assert not any(gate.waiters or gate.awake for gate in gates), "somebody waits who has no jobs"
    assert all(each.limit._listeners.count(each) == 1 for each in gates)
    for task in dispatcher.tree.tasks:
        assert len(task.turns) == 0
        straight = dispatcher._straight
        if dispatcher._lone is None and (straight is None or task is not straight.task):
            assert task.running == 0
        for lane in task.lanes.values():
            assert lane.key is None or lane.limits, "an empty lane without limits was kept"


def check_reasons(played: Played) -> None:
    """Assert that no reason named a time too late: the job did not start before it."""
    if any(limit.name == "picky" for limit in played.limits):
        return  # the first of a lane may be another one by then, with another answer
    starts = [(step.id, step.at) for step in played.result.trace if step.kind == "start"]
    for each, now, until in played.promises:
        after = [at for id, at in starts if id == each.id and at > now]
        assert not after or after[0] >= until, f"{each.id} was told to wait until {until} at {now}"


def fixed_plans(count: int = 60) -> list[Plan]:
    """Return plans that are always the same."""
    rng = Seeded(5)
    return [make_plan(rng.choice) for _ in range(count)]
