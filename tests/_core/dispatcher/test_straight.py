"""The straight way and the long way come to the same: starts, outcomes, counts and waits."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.dispatcher import lone_lane
from qanat._core.limits import Budget, Concurrency, FixedWindow, SlidingWindow, Spacing, TokenBucket
from qanat._core.orders import Fifo, Lifo
from qanat._core.retry import Retry
from qanat.errors import Throttled
from tests._core.dispatcher.world import Noting, add, at_zero, begin, job, make, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.dispatcher import Dispatcher
    from qanat._core.limit import Limit

LIMITS: list[Callable[[], list[Limit]]] = [
    lambda: [SlidingWindow(2, 3)],
    lambda: [FixedWindow(4, 3)],
    lambda: [Concurrency(2)],
    lambda: [Spacing(1.5), Concurrency(3)],
    lambda: [Spacing(0.5, after="finish")],
    lambda: [Budget("api", requests="3/4s", concurrency=2), SlidingWindow(4, 7)],
    lambda: [Concurrency(3), SlidingWindow(4, 7), TokenBucket(0.5, burst=2), FixedWindow(5, 9), Spacing(0.5)],
]

PLANS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.5, 3.0]),  # since the arrival before
        st.sampled_from([0.0, 1.0, 2.5]),  # how long an attempt runs
        st.sampled_from(["done", "done", "fails", "throttled"]),
        st.sampled_from([None, None, None, 1.0]),  # cancelled so long after it arrived
    ),
    max_size=12,
)


def outcome_of(plan: list[Any], limits: list[Limit], where: str, order: Any, capacity: float) -> Any:
    at_root = limits if where == "root" else ()
    dispatcher = make(limits=at_root, capacity=capacity)
    task = add(dispatcher, limits=() if where == "root" else limits, order=order, retry=Retry(1))
    arrivals, cancels, now = [], [], 0.0
    for number, (gap, *_, cancel) in enumerate(plan):
        now += gap
        each = job(task, number)
        arrivals.append((now, each))
        if cancel is not None:
            cancels.append((now + cancel, each))

    def fails(each: Any, _rng: Any) -> BaseException | None:
        kind = plan[each.id][2]
        if kind == "throttled" and each._history is None:
            return Throttled(2.0)
        return OSError() if kind == "fails" and each.attempt == 1 else None

    resizes: list[Any] = [(2.0, lambda at: dispatcher.pause(at)), (2.5, lambda at: dispatcher.resume(at))]
    resizes.append((4.0, lambda at: dispatcher.resize(capacity + 1, at)))
    result = run(
        dispatcher, arrivals, {number: plan[number][1] for number in range(len(plan))}, failures=fails,
        cancels=sorted(cancels, key=lambda entry: entry[0]), calls=resizes,
    )  # fmt: skip
    seen = [
        # Waits are rounded: one way takes off at once what the other takes off bit by bit.
        (
            each.id,
            each.state,
            each.attempts,
            each.started_at,
            each.ended_at,
            each.ran,
            {cause: round(seconds, 12) for cause, seconds in each.waits.items()},
        )
        for each in result.outcomes
    ]
    counts = (dispatcher.done, dispatcher.failed, dispatcher.running, dispatcher.waiting)
    waits = {cause: round(seconds, 12) for cause, seconds in dispatcher.waits.items()}
    return result.trace, seen, counts, waits


def check_both_ways(
    plan: list[Any], limits: Callable[[], list[Limit]], where: str, order: Any, capacity: int
) -> None:
    """Assert that the straight way and the long way come to the same."""
    straight = outcome_of(plan, limits(), where, order, capacity)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lone_lane, "_find_straight", lambda _dispatcher: None)
        assert outcome_of(plan, limits(), where, order, capacity) == straight


@given(
    PLANS,
    st.sampled_from(LIMITS),
    st.sampled_from(["root", "task"]),
    st.sampled_from([Fifo, Lifo]),
    st.integers(1, 4),
)
def test_both_ways_come_to_the_same(
    plan: list[Any], limits: Callable[[], list[Limit]], where: str, order: Any, capacity: int
):
    check_both_ways(plan, limits, where, order, capacity)


def ways(**options: Any) -> tuple[Dispatcher, Any]:
    dispatcher = make(**options)
    return dispatcher, add(dispatcher)


def test_the_straight_way_is_gone_while_it_is_not_straight():
    dispatcher, task = ways(limits=[Noting()])
    assert dispatcher._straight is not None
    dispatcher.pause(0.0)
    assert dispatcher._straight is None
    dispatcher.resume(0.0)
    assert dispatcher._straight is not None
    assert dispatcher._straight.lane is task.node.lanes[None]
    other = add(dispatcher, "other")
    assert dispatcher._straight is None
    dispatcher.drop_task(other)
    assert dispatcher._straight is not None
    dispatcher.offer(job(task, 1, lane="a"), 0.0)
    assert dispatcher._straight is None


def test_a_job_from_the_lone_lane_has_waited_for_nothing_yet():
    """It arrived unmarked, just before the way became one under limits."""
    dispatcher, task = ways()
    each = job(task, 0)
    dispatcher.offer(each, 0.0)
    other = add(dispatcher, "other")
    task.node.limits = (Noting(),)
    dispatcher.drop_task(other)
    assert dispatcher._straight is not None
    assert dispatcher.next(0.0) is each
    assert each._history is None


def test_a_limit_that_fails_on_the_way_ends_its_job():
    class Broken(Noting):
        def take(self, job: Any, now: float) -> None:
            super().take(job, now)
            if job.id == 1:
                raise LookupError("take")

    first = Noting()
    dispatcher, task = ways(limits=[first, Broken()])
    result = run(dispatcher, at_zero(*(job(task, number) for number in range(3))))
    assert sorted((each.id, each.ok) for each in result.outcomes) == [(0, True), (1, False), (2, True)]
    assert first.running == 0


@pytest.mark.parametrize("place", range(5))
def test_what_was_taken_before_a_limit_failed_is_given_back(place: int):
    class Broken(Noting):
        def take(self, job: Any, now: float) -> None:
            raise LookupError("take")

    limits = [Noting() for _ in range(5)]
    limits[place] = Broken()
    dispatcher, task = ways(limits=limits)
    dispatcher.offer(job(task, 0), 0.0)
    assert dispatcher.next(0.0) is None
    assert [len(limit.given) for limit in limits] == [1] * place + [0] * (5 - place)
    assert (dispatcher.running, dispatcher.failed) == (0, 1)


@pytest.mark.parametrize("fails", [False, True])
def test_a_limit_that_ends_the_straight_way_as_it_is_taken_is_counted_right(fails: bool):
    class Offering(Noting):
        def take(self, job_: Any, now: float) -> None:
            super().take(job_, now)
            if job_.id == 0:
                dispatcher.offer(job(task, 1, lane="a"), now)
                if fails:
                    raise LookupError("take")

    dispatcher, task = ways(limits=[Offering()])
    dispatcher.offer(job(task, 0), 0.0)
    assert begin(dispatcher, 0.0) == ([1] if fails else [0, 1])
    assert dispatcher._straight is None
    lanes = task.node.lanes
    assert (task.node.running, lanes[None].running, lanes["a"].running) == ((1, 0, 1) if fails else (2, 1, 1))


def test_how_many_run_is_known_once_the_straight_way_is_left():
    dispatcher, task = ways(limits=[Noting()])
    for number in range(3):
        dispatcher.offer(job(task, number), 0.0)
    started = [dispatcher.next(0.0), dispatcher.next(0.0), dispatcher.next(0.0)]
    assert started[0] is not None
    dispatcher.finish(started[0], None, None, 1.0)
    other = add(dispatcher, "other")
    assert (task.node.running, task.node.lanes[None].running, other.node.running) == (2, 2, 0)


def test_what_a_limit_raises_at_the_end_is_reported():
    class Broken(Noting):
        def give_back(self, job: Any, outcome: Any, now: float) -> None:
            raise LookupError("give back")

    faults: list[Exception] = []
    dispatcher, task = ways(limits=[Broken()], on_fault=lambda fault, _: faults.append(fault))
    result = run(dispatcher, at_zero(job(task, 0)))
    assert [each.ok for each in result.outcomes] == [True]
    assert [str(fault) for fault in faults] == ["give back"]


def test_a_limit_that_fails_to_answer_ends_its_job():
    class Broken(Noting):
        def ready_at(self, job: Any, now: float) -> float:
            if job.id == 1:
                raise LookupError("ready at")
            return super().ready_at(job, now)

    dispatcher, task = ways(limits=[Noting(), Broken()])
    result = run(dispatcher, at_zero(*(job(task, number) for number in range(3))))
    assert sorted((each.id, each.ok) for each in result.outcomes) == [(0, True), (1, False), (2, True)]


@pytest.mark.parametrize("method", ["ready_at", "take"])
def test_an_interrupt_in_a_limit_goes_on_and_the_job_still_waits(method: str):
    class Interrupted(Noting):
        interrupts = 1

        def ready_at(self, job: Any, now: float) -> float:
            self.interrupt("ready_at")
            return super().ready_at(job, now)

        def take(self, job: Any, now: float) -> None:
            self.interrupt("take")
            super().take(job, now)

        def interrupt(self, at: str) -> None:
            if at == method and self.interrupts:
                self.interrupts -= 1
                raise KeyboardInterrupt

    first = Noting()
    dispatcher, task = ways(limits=[first, Interrupted()])
    dispatcher.offer(job(task, 0), 0.0)
    with pytest.raises(KeyboardInterrupt):
        dispatcher.next(0.0)
    assert (first.running, dispatcher.waiting, dispatcher.running) == (0, 1, 0)
    assert begin(dispatcher, 1.0) == [0]


KEPT: list[Limit] = [
    SlidingWindow(2, 3), FixedWindow(2, 3), TokenBucket(0.5, burst=2), Spacing(1.5),
    Spacing(1.5, after="finish"), Concurrency(2),
]  # fmt: skip


@pytest.mark.parametrize("limit", KEPT, ids=repr)
@given(st.lists(st.sampled_from(["take", "give back", "wait", "grow", "shrink"]), max_size=30))
def test_the_time_that_is_kept_says_what_the_limit_answers(limit: Limit, steps: list[str]):
    dispatcher, task = ways(limits=[limit := copy.deepcopy(limit)])
    straight = dispatcher._straight
    assert straight is not None
    assert straight.stored[:1] == (limit,)
    assert not straight.asks
    each, now, running = job(task, 0), 0.0, 0
    for step in steps:
        if step == "take" and limit.ready_at(each, now) <= now:
            limit.take(each, now)
            running += 1
        elif step == "give back" and running:
            limit.give_back(each, None, now)  # type: ignore[arg-type]  # none of them looks at it
            running -= 1
        elif step in ("grow", "shrink"):
            limit.resize(3 if step == "grow" else 1)  # type: ignore[attr-defined]  # all have it
        now += 0.75 if step == "wait" else 0.0
        assert (straight.stored[0]._free_at <= now) == (limit.ready_at(each, now) <= now)


def test_who_answers_otherwise_is_asked():
    class Never(SlidingWindow):
        def ready_at(self, job: Any, now: float) -> float:
            return math.inf

    dispatcher, task = ways(limits=[Never(5, 1)])
    dispatcher.offer(job(task, 0), 0.0)
    assert dispatcher.next(0.0) is None
    assert dispatcher._straight is not None
    assert dispatcher._straight.asks
