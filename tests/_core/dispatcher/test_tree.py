"""Lanes come and go; what they leave behind is forgotten as soon as it may be."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.backoff import constant
from qanat._core.limit import Limit
from qanat._core.limits import Concurrency, SlidingWindow
from qanat._core.retry import Retry
from qanat.errors import Throttled
from tests._core.dispatcher.world import Noting, Until, add, at_zero, begin, failing, job, make, run, starts

if TYPE_CHECKING:
    from random import Random

    from qanat._core.job import Job


def lanes_of(dispatcher: Any) -> set[object]:
    return {key for task in dispatcher.tree.tasks for key in task.lanes}


def test_an_empty_lane_without_limits_is_forgotten_at_once():
    dispatcher = make()
    task = add(dispatcher, uses_lanes=True)
    run(dispatcher, at_zero(job(task, 0, "a")))
    assert lanes_of(dispatcher) == set()


def test_a_lane_is_kept_while_a_job_of_it_runs():
    dispatcher = make()
    each = job(add(dispatcher, uses_lanes=True), 0, "a")
    dispatcher.offer(each, 0.0)
    assert dispatcher.next(0.0) is each
    assert lanes_of(dispatcher) == {"a"}


def test_the_unnamed_lane_stays():
    dispatcher = make()
    task = add(dispatcher, uses_lanes=True)
    run(dispatcher, at_zero(job(task, 0)))
    assert lanes_of(dispatcher) == {None}


def test_an_empty_lane_is_kept_until_its_limits_are_as_good_as_new():
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: SlidingWindow(1, 10.0))
    run(dispatcher, [(0.0, job(task, 0, "a")), (8.0, job(task, 1, "b"))])
    assert lanes_of(dispatcher) == {"a", "b"}
    run(dispatcher, [(12.0, job(task, 2, "c"))])
    assert lanes_of(dispatcher) == {"b", "c"}


def test_a_lane_that_was_forgotten_too_early_would_break_its_limit():
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: SlidingWindow(1, 10.0))
    result = run(dispatcher, [(0.0, job(task, 0, "a")), (5.0, job(task, 1, "b")), (6.0, job(task, 2, "a"))])
    assert starts(result) == [(0, 0.0), (1, 5.0), (2, 10.0)]


def test_a_lane_that_gets_jobs_again_is_not_forgotten():
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: SlidingWindow(1, 1.0))
    first = job(task, 0, "a")
    run(dispatcher, at_zero(first))
    dispatcher.pause(5.0)
    dispatcher.offer(job(task, 1, "a"), 5.0)
    dispatcher.resume(5.0)
    lane = task.node.lanes["a"]
    run(dispatcher, [(5.0, job(task, 2, "b"))])
    run(dispatcher, [(6.0, job(task, 3, "c"))])
    assert dispatcher.done == 4
    assert lane is not task.node.lanes.get("a") or lane.is_fading


@pytest.mark.long
def test_a_hundred_thousand_lanes_come_and_go_and_leave_nothing():
    limits: list[Limit] = []

    def lane_limits(_lane: object) -> Limit:
        limits.append(Concurrency(1))
        return limits[-1]

    dispatcher = make()
    task = add(dispatcher, lane_limits=lane_limits)
    # Every tenth lane has a second job, which waits at the lane's limit.
    jobs = (job(task, id, id // 11 * 10 + id % 11 % 10) for id in range(110_000))
    run(dispatcher, ((each.index / 100, each) for each in jobs), 0.125, record=False)
    assert dispatcher.done == 110_000
    assert len(limits) == 100_000
    assert (lanes_of(dispatcher), len(dispatcher.gates), len(dispatcher.timeline)) == (set(), 0, 0)
    assert sum(len(limit._listeners) for limit in limits) == 0


@pytest.mark.slow
def test_lanes_whose_limits_take_time_are_swept_by_those_that_follow():
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: SlidingWindow(1, 1.0))
    most = 0

    def count(_each: Job[Any], _rng: Random) -> None:
        nonlocal most
        most = max(most, len(task.node.lanes))

    arrivals = ((id / 100, job(task, id, id)) for id in range(20_000))
    run(dispatcher, arrivals, 0.0, failures=count, record=False)
    assert dispatcher.done == 20_000
    assert most <= 300
    assert len(dispatcher.gates) == 0


def test_a_lane_that_is_throttled_is_remembered_for_its_pause_and_a_minute():
    dispatcher = make(capacity=2)
    task = add(dispatcher, uses_lanes=True)
    left = [Throttled(5.0)]
    each, other = job(task, 0, "a"), job(task, 1, "a")
    failures = lambda _each, _rng: left.pop() if left else None  # noqa: E731
    result = run(dispatcher, at_zero(each, other), failures=failures, cancels=[(2.0, each)])
    assert [outcome.state for outcome in result.outcomes] == ["done", "cancelled"]
    assert lanes_of(dispatcher) == {"a"}
    run(dispatcher, [(30.0, job(task, 2, "b"))])
    assert lanes_of(dispatcher) == {"a"}
    run(dispatcher, [(70.0, job(task, 3, "c"))])
    assert lanes_of(dispatcher) == set()


def test_a_lane_of_a_job_that_comes_again_at_once_is_there():
    made: list[object] = []

    def lane_limits(lane: object) -> list[Limit]:
        made.append(lane)
        return []

    dispatcher = make()
    task = add(dispatcher, retry=Retry(2, backoff=constant(0)), lane_limits=lane_limits)
    run(dispatcher, at_zero(job(task, 0, "a")), failures=failing(OSError(), OSError()))
    assert set(made) == {"a"}


def test_a_limit_that_fails_to_say_when_it_is_fresh_is_told_and_done_with():
    class Broken(Noting):
        def fresh_at(self, now: float) -> float:
            raise OSError("no")

    faults: list[Exception] = []
    dispatcher = make(on_fault=lambda fault, _: faults.append(fault))
    task = add(dispatcher, lane_limits=lambda _lane: Broken())
    run(dispatcher, at_zero(job(task, 0, "a")))
    assert [type(fault) for fault in faults] == [OSError]
    assert lanes_of(dispatcher) == set()


def test_a_limit_that_is_never_fresh_keeps_its_lane():
    class Never(Noting):
        fresh_at = Limit.fresh_at

    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: Never())
    run(dispatcher, [(float(id), job(task, id, id)) for id in range(3)])
    assert lanes_of(dispatcher) == {0, 1, 2}


def test_a_resized_limit_keeps_its_lane():
    limit = Concurrency(1)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: limit)
    run(dispatcher, at_zero(job(task, 0, "a")), calls=[(0.5, lambda _now: limit.resize(2))])
    assert lanes_of(dispatcher) == {"a"}
    assert limit.fresh_at(9.0) == inf


def test_lanes_may_have_many_limits_one_or_none():
    given: dict[object, Any] = {"many": [Concurrency(1), Until(1.0)], "one": Until(2.0), "none": ()}
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda lane: given[lane])
    result = run(dispatcher, at_zero(*(job(task, str(lane), lane) for lane in given)))
    assert starts(result) == [("none", 0.0), ("many", 1.0), ("one", 2.0)]


def test_a_node_tells_what_it_waits_for():
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: Until(2.0))
    dispatcher.offer(job(task, 0, "a"), 0.0)
    lane = task.node.lanes["a"]
    assert repr(lane) == "Node('a', active)"
    assert begin(dispatcher, 0.0) == []
    assert repr(lane) == "Node('a', rate)"


def test_limits_are_bound_to_the_thread_of_the_dispatcher():
    limit = Concurrency(1)
    make(owner=1, limits=(limit,))
    with pytest.raises(RuntimeError, match="used by another thread"):
        make(owner=2, limits=(limit,))
