"""Random arrivals, ends, failures, timeouts and cancellations on virtual time, against what must hold.

Nothing is lost and nothing runs twice at a time; the counts add up; no more run than there are
slots; the rate holds; and what a limit gave comes back exactly once. Three mutants with a mistake
each show that the property would find it.
"""

from __future__ import annotations

import inspect
import sys
from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qanat
from qanat._app.rules import Rules
from qanat._core.dispatcher import ending
from qanat._core.limit import Limit
from qanat._core.limits import Concurrency, SlidingWindow
from qanat.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qanat._core.job import Job
    from qanat._core.outcome import Outcome

QUARTERS = st.integers(0, 12).map(lambda n: n / 4)


class Ending(Enum):
    """How an attempt ends that is not interrupted."""

    VALUE = None
    ERROR = KeyError
    THROTTLED = qanat.Throttled
    LATER = qanat.RetryLater
    DISCARDED = qanat.Discard


@dataclass(frozen=True)
class Act:
    """One item, and what is done with it."""

    after: float  # since the one before
    delay: float
    lane: str | None
    priority: int
    seconds: tuple[float, ...]  # of each attempt, the last for all others
    fails: tuple[Ending, ...]
    cancel_after: float | None
    clings: float  # seconds for which a cancelled handler goes on


@dataclass(frozen=True)
class Plan:
    """Rules, and items that arrive."""

    concurrency: int
    rate: tuple[int, float] | None
    lane_slots: int | None
    retries: int
    backoff: float
    timeout: float | None
    order: str
    backend: str
    acts: tuple[Act, ...]
    resizes: tuple[tuple[float, int], ...]
    pauses: tuple[tuple[float, float], ...]


acts = st.builds(
    Act,
    after=st.sampled_from([0.0, 0.0, 0.25, 1.0]),
    delay=st.sampled_from([0.0, 0.0, 0.0, 0.75, 2.0]),
    lane=st.sampled_from([None, None, "a", "b"]),
    priority=st.integers(0, 2),
    seconds=st.lists(QUARTERS, min_size=1, max_size=3).map(tuple),
    fails=st.lists(st.sampled_from(Ending), max_size=3).map(tuple),
    cancel_after=st.none() | QUARTERS,
    clings=st.sampled_from([0.0, 0.0, 0.0, 0.5]),
)
plans = st.builds(
    Plan,
    concurrency=st.integers(1, 4),
    rate=st.none() | st.tuples(st.integers(1, 3), st.sampled_from([0.5, 1.0, 2.0])),
    lane_slots=st.none() | st.integers(1, 2),
    retries=st.integers(0, 2),
    backoff=st.sampled_from([0.0, 0.5, 1.0]),
    timeout=st.none() | st.sampled_from([0.5, 1.0, 2.0]),
    order=st.sampled_from(["fifo", "lifo", "priority"]),
    backend=st.sampled_from(["asyncio", "trio"]),
    acts=st.lists(acts, max_size=14).map(tuple),
    resizes=st.lists(st.tuples(QUARTERS, st.integers(1, 4)), max_size=1).map(tuple),
    pauses=st.lists(st.tuples(QUARTERS, QUARTERS), max_size=1).map(tuple),
)


class Counting(Limit):
    """Says yes, and keeps account of what was taken and given back."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}
        self.most = 0
        self.taken = 0
        self.problems: list[str] = []

    def ready_at(self, job: Job[Any], now: float) -> float:
        return now

    def take(self, job: Job[Any], now: float) -> None:
        self.taken += 1
        self.held[job.index] = self.held.get(job.index, 0) + 1
        self.problems += [f"job {job.index} was taken while it was held"] * (self.held[job.index] > 1)
        self.most = max(self.most, sum(self.held.values()))

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        if not self.held.get(job.index):
            self.problems.append(f"job {job.index} was given back and not held")
        self.held[job.index] = self.held.get(job.index, 0) - 1


class Watch:
    """What the handlers of one plan see."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.calls = [0] * len(plan.acts)
        self.throttles = [0] * len(plan.acts)
        self.running: set[int] = set()
        self.most = 0
        self.starts: list[float] = []
        self.lanes: dict[Any, int] = {}
        self.problems: list[str] = []
        self.now: Any = None

    async def handler(self, index: int) -> int:
        act = self.plan.acts[index]
        call = self.calls[index]
        self.calls[index] += 1
        self.problems += [f"job {index} runs twice at a time"] * (index in self.running)
        self.running.add(index)
        self.most = max(self.most, len(self.running))
        self.starts.append(self.now())
        self.lanes[act.lane] = self.lanes.get(act.lane, 0) + 1
        if self.plan.lane_slots is not None and self.lanes[act.lane] > self.plan.lane_slots:
            self.problems.append(f"more than {self.plan.lane_slots} run in lane {act.lane}")
        try:
            await anyio.sleep(act.seconds[min(call, len(act.seconds) - 1)])
            for ending in act.fails[call : call + 1]:
                self.throttles[index] += ending is Ending.THROTTLED
                if ending is not Ending.VALUE:
                    raise ending.value(index / 4)
        except anyio.get_cancelled_exc_class():
            if act.clings:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(act.clings)
            raise
        finally:
            self.running.discard(index)
            self.lanes[act.lane] -= 1
        return index


async def carry_out(plan: Plan, watch: Watch, limits: list[Limit]) -> tuple[list[Any], Any, list[Any]]:
    """Run a plan in a Pool; return its outcomes, its figures and what a reader saw."""
    counting = limits
    lane_limits = None if plan.lane_slots is None else (lambda _lane: qanat.Concurrency(plan.lane_slots or 1))
    pool: qanat.Pool[int, int] = qanat.Pool(  # type: ignore[call-overload]  # the plan's order is a text
        watch.handler, concurrency=plan.concurrency, limits=counting, lane_limits=lane_limits,
        retry=qanat.Retry(plan.retries, backoff=qanat.constant(plan.backoff)), timeout=plan.timeout,
        order=plan.order,
    )  # fmt: skip
    handles: list[qanat.Handle[int, int]] = []
    seen: list[Any] = []

    async def read(reader: Any) -> None:
        async for outcome in reader:
            seen.append(outcome)

    async def cancel(handle: qanat.Handle[int, int], after: float) -> None:
        await anyio.sleep(after)
        was_done = handle.done
        watch.problems += ["cancel said the opposite of done"] * (handle.cancel() == was_done)

    async def resize(after: float, size: int) -> None:
        await anyio.sleep(after)
        watch.plan = plan
        pool.resize(size)

    async def pause(after: float, seconds: float) -> None:
        await anyio.sleep(after)
        pool.pause()
        await anyio.sleep(seconds)
        pool.resume()

    async with anyio.create_task_group() as group, pool:
        group.start_soon(read, pool.outcomes())
        async with anyio.create_task_group() as actors:
            for after, size in plan.resizes:
                actors.start_soon(resize, after, size)
            for after, seconds in plan.pauses:
                actors.start_soon(pause, after, seconds)
            for index, act in enumerate(plan.acts):
                await anyio.sleep(act.after)
                handle = pool.submit(index, delay=act.delay, lane=act.lane, priority=act.priority)
                handles.append(handle)
                if act.cancel_after is not None:
                    actors.start_soon(cancel, handle, act.cancel_after)
        await pool.drain()
        stats = pool.stats()
    return [await handle.outcome() for handle in handles], stats, seen


def check(plan: Plan) -> None:
    """Carry a plan out and check all that must hold."""
    counting = Counting()
    rate = None if plan.rate is None else SlidingWindow(*plan.rate)
    watch = Watch(plan)
    with virtual_time(plan.backend) as time:  # type: ignore[arg-type]
        watch.now = time.now
        limits: list[Limit] = [counting] if rate is None else [rate, counting]
        outcomes, stats, seen = time.run(carry_out, plan, watch, limits)
    assert watch.problems == counting.problems == []
    # Nothing is lost, nothing comes twice.
    assert [outcome.index for outcome in outcomes] == list(range(len(plan.acts)))
    assert sorted(outcome.index for outcome in seen) == list(range(len(plan.acts)))
    assert not watch.running
    # The counts add up.
    states = [outcome.state for outcome in outcomes]
    assert (stats.done, stats.failed, stats.cancelled) == tuple(
        states.count(state) for state in ("done", "dead", "cancelled")
    )
    assert (stats.waiting, stats.running, stats.scheduled) == (0, 0, 0)
    assert stats.retried == sum(max(0, outcome.attempts - 1) for outcome in outcomes) or "cancelled" in states
    # Every take came back once, and every call was one take.
    assert all(number == 0 for number in counting.held.values())
    assert counting.taken == sum(watch.calls)
    # Never more than the slots; the biggest number of them counts if it was changed.
    slots = max([plan.concurrency, *(size for _, size in plan.resizes)])
    assert counting.most <= slots
    assert watch.most <= slots
    # The rate holds in every window that begins with a start.
    if plan.rate is not None:
        most, per = plan.rate
        for number, start in enumerate(watch.starts):
            assert bisect_left(watch.starts, start + per) - number <= most
    for outcome in outcomes:
        check_outcome(plan.acts[outcome.index], plan, watch, outcome)


def check_outcome(act: Act, plan: Plan, watch: Watch, outcome: Outcome[int, int]) -> None:
    assert outcome.attempts <= plan.retries + 1
    # A throttled call keeps the number of its attempt, and is one if no other came of it.
    calls = watch.calls[outcome.index]
    assert calls - watch.throttles[outcome.index] <= outcome.attempts <= calls
    assert (outcome.error is None) == (outcome.state == "done")
    assert (outcome.value == outcome.index) == outcome.ok
    if outcome.state == "cancelled":
        assert act.cancel_after is not None
    if outcome.started_at is not None:
        assert outcome.offered_at + act.delay <= outcome.started_at <= outcome.ended_at
    assert outcome.ran >= 0.0
    assert abs(sum(outcome.waits.values()) - outcome.waited) < 1e-6
    if plan.timeout is not None:
        assert outcome.ran <= (plan.timeout + act.clings) * calls + 1e-6


@pytest.mark.slow
@given(plans)
@settings(max_examples=120)
def test_whatever_happens_nothing_is_lost_and_every_bound_holds(plan: Plan):
    check(plan)


# --- mutants ---------------------------------------------------------------------------------------


def plans_that_find_mistakes() -> Iterator[Plan]:
    """A few plans with much at the same time; enough to find each mutant, and always the same."""
    busy = tuple(
        Act(0.0, 0.0, lane, 0, (1.0,), fails, None, 0.0)
        for lane in (None, "a")
        for fails in ((), (Ending.ERROR,))
    )
    for backend in ("asyncio", "trio"):
        yield Plan(2, None, None, 1, 0.5, None, "fifo", backend, busy * 3, (), ())
        yield Plan(4, (2, 1.0), None, 1, 0.0, None, "fifo", backend, busy * 2, (), ())
        yield Plan(2, None, 1, 1, 0.5, None, "fifo", backend, busy * 2, (), ())


def is_caught() -> bool:
    for plan in plans_that_find_mistakes():
        try:
            check(plan)
        except (AssertionError, BaseExceptionGroup, qanat.QanatError):
            return True
    return False


def mutant_of(owner: type, function: str, old: str, new: str) -> Any:
    """Return a function of a class made again from its source, with one change in it."""
    source = inspect.getsource(getattr(owner, function))
    assert source.count(old) == 1, f"{old!r} is not in {owner.__name__}.{function} just once"
    names = dict(vars(sys.modules[owner.__module__]))
    body = "\n".join(line[4:] for line in source.replace(old, new).splitlines())
    exec("from __future__ import annotations\n" + body, names)  # noqa: S102 - our own
    return names[function]


def test_without_a_mistake_these_plans_find_nothing():
    assert not is_caught()


def test_one_slot_too_many_in_a_run_is_found(monkeypatch: pytest.MonkeyPatch):
    """Off by one in the capacity of an engine."""
    monkeypatch.setattr(Rules, "capacity", property(lambda rules: rules.concurrency + 1))
    assert is_caught()


def test_one_slot_too_many_in_a_limit_is_found(monkeypatch: pytest.MonkeyPatch):
    """Off by one in the slots of a lane: `<=` for `<`."""
    mutant = mutant_of(
        Concurrency, "ready_at", "self._running < self._at_once", "self._running <= self._at_once"
    )
    monkeypatch.setattr(Concurrency, "ready_at", mutant)
    assert is_caught()


def test_one_start_too_many_in_a_window_is_found(monkeypatch: pytest.MonkeyPatch):
    """`>=` for `>` in a limit: it is full one start too late."""
    mutant = mutant_of(SlidingWindow, "take", "        if room > 1:", "        if room >= 1:")
    monkeypatch.setattr(SlidingWindow, "take", mutant)
    assert is_caught()


def test_giving_back_twice_is_found(monkeypatch: pytest.MonkeyPatch):
    """What an attempt took comes back two times."""
    give_back = ending.give_back

    def twice(*args: Any) -> None:
        give_back(*args)
        give_back(*args)

    for name, module in list(sys.modules.items()):
        if name.startswith("qanat._core.dispatcher") and getattr(module, "give_back", None) is give_back:
            monkeypatch.setattr(module, "give_back", twice)
    assert is_caught()
