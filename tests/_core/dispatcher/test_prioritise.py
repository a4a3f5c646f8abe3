"""A waiting job may get another priority, wherever it waits and whatever holds it."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from qanat._core.backoff import constant
from qanat._core.limits import SlidingWindow
from qanat._core.orders import Fifo, Priority
from qanat._core.retry import Retry
from tests._core.dispatcher.world import Until, add, at_zero, begin, failing, job, make, order_of, run

PRIORITY = Priority()


def offered(dispatcher: Any, task: Any, *priorities: float, lane: Any = None) -> list[Any]:
    jobs = [job(task, id, lane, priority) for id, priority in enumerate(priorities)]
    for each in jobs:
        dispatcher.offer(each, 0.0)
    return jobs


@pytest.mark.parametrize("uses_lanes", [False, True], ids=["alone", "in turns"])
@pytest.mark.parametrize(
    ("which", "priority", "order"),
    [
        (2, -1.0, [2, 0, 1]),
        (0, 9.0, [1, 2, 0]),
        (2, 0.0, [0, 2, 1]),
        (0, 1.0, [1, 0, 2]),
        (1, 1.0, [0, 1, 2]),
    ],
    ids=["first", "last", "behind an equal", "behind another equal", "the same"],
)
def test_job_takes_the_place_of_its_new_priority(
    which: int, priority: float, order: list[int], uses_lanes: bool
):
    dispatcher = make()
    jobs = offered(dispatcher, add(dispatcher, order=PRIORITY, uses_lanes=uses_lanes), 0.0, 1.0, 2.0)
    assert dispatcher.prioritise(jobs[which], priority, 0.0)
    assert jobs[which].priority == priority
    assert begin(dispatcher, 0.0) == order
    assert (dispatcher.waiting, dispatcher.running) == (0, 3)


def test_job_that_runs_or_has_ended_keeps_its_priority():
    dispatcher = make(capacity=1)
    jobs = offered(dispatcher, add(dispatcher, order=PRIORITY), 0.0, 1.0)
    assert dispatcher.next(0.0) is jobs[0]
    dispatcher.cancel(jobs[1], 0.0)
    assert [dispatcher.prioritise(each, 5.0, 0.0) for each in jobs] == [False, False]
    assert [each.priority for each in jobs] == [0.0, 1.0]


def test_job_keeps_its_place_in_an_order_that_does_not_go_by_priority():
    dispatcher = make()
    jobs = offered(dispatcher, add(dispatcher, order=Fifo), 0.0, 1.0)
    assert dispatcher.prioritise(jobs[1], -1.0, 0.0)
    assert jobs[1].priority == -1.0
    assert begin(dispatcher, 0.0) == [0, 1]


def test_delayed_job_has_its_new_priority_when_it_is_due():
    dispatcher = make()
    task = add(dispatcher, order=PRIORITY)
    delayed = job(task, 9, priority=5.0)
    dispatcher.offer(delayed, 0.0, delay=2.0)
    assert dispatcher.prioritise(delayed, -1.0, 1.0)
    for each in (job(task, 0), job(task, 1)):
        dispatcher.offer(each, 1.5)
    assert begin(dispatcher, 2.0) == [9, 0, 1]


def test_job_before_a_retry_has_its_new_priority_when_it_comes_back():
    dispatcher = make(capacity=1)
    task = add(dispatcher, order=PRIORITY, retry=Retry(1, backoff=constant(1.5)))
    jobs = [job(task, id, priority=0.0) for id in range(4)]
    result = run(
        dispatcher, at_zero(*jobs), failures=lambda each, rng: failing(OSError())(each, rng)
        if each.id == 0 else None,
        calls=[(1.25, lambda now: dispatcher.prioritise(jobs[0], 7.0, now))],
    )  # fmt: skip
    assert order_of(result) == [0, 1, 2, 3, 0]


def test_what_was_waited_still_counts_for_ageing():
    """Offered at 0 with 8, at 3 it counts as 4 - 3 against 2 offered at 3."""
    dispatcher = make()
    task = add(dispatcher, order=Priority(ageing=1))
    old, new = job(task, 0, priority=8.0), job(task, 1, priority=2.0)
    dispatcher.offer(old, 0.0)
    dispatcher.offer(new, 3.0)
    assert dispatcher.prioritise(old, 4.0, 3.0)
    assert begin(dispatcher, 3.0) == [0, 1]


@pytest.mark.parametrize("place", ["lane", "task", "root"])
def test_parked_node_is_asked_again_for_its_new_first_job(place: str):
    """The limit lets one job start and not the other, whichever is first."""
    limit = Until(lambda each: inf if each.id == 0 else 0.0)
    dispatcher = make(limits=[limit] if place == "root" else ())
    task = add(
        dispatcher, order=PRIORITY, limits=[limit] if place == "task" else (),
        lane_limits=(lambda _lane: limit) if place == "lane" else None,
    )  # fmt: skip
    jobs = offered(dispatcher, task, 0.0, 1.0, lane="a")
    assert begin(dispatcher, 0.0) == []
    assert dispatcher.wake_at == inf
    assert dispatcher.prioritise(jobs[1], -1.0, 1.0)
    assert begin(dispatcher, 1.0) == [1]
    reason = dispatcher.why(jobs[0])
    assert reason is not None
    assert reason.cause == "rate"


def test_parked_node_is_asked_again_when_its_first_job_falls_back():
    limit = Until(lambda each: inf if each.id == 0 else 0.0)
    dispatcher = make()
    task = add(dispatcher, order=PRIORITY, lane_limits=lambda _lane: limit)
    jobs = offered(dispatcher, task, 0.0, 1.0, lane="a")
    assert begin(dispatcher, 0.0) == []
    assert dispatcher.prioritise(jobs[0], 2.0, 1.0)
    assert begin(dispatcher, 1.0) == [1]


def test_parked_node_is_not_asked_again_for_the_same_first_job():
    limit = Until(inf)
    dispatcher = make()
    task = add(dispatcher, order=PRIORITY, lane_limits=lambda _lane: limit)
    jobs = offered(dispatcher, task, 0.0, 1.0, 2.0, lane="a")
    assert begin(dispatcher, 0.0) == []
    asked = limit.asked
    assert dispatcher.prioritise(jobs[2], 0.5, 1.0)
    assert begin(dispatcher, 1.0) == []
    assert limit.asked == asked


def test_full_dispatcher_stays_full():
    dispatcher = make(capacity=1)
    task = add(dispatcher, order=PRIORITY, lane_limits=lambda _lane: SlidingWindow(1, 9.0))
    jobs = [job(task, id, lane, float(id)) for id, lane in enumerate("abb")]
    for each in jobs:
        dispatcher.offer(each, 0.0)
    assert begin(dispatcher, 0.0) == [0]
    assert dispatcher.prioritise(jobs[2], 0.0, 1.0)
    assert dispatcher.next(1.0) is None
    dispatcher.finish(jobs[0], None, None, 2.0)
    assert begin(dispatcher, 2.0) == [2]


def test_changing_priorities_over_and_over_leaves_nothing_behind():
    dispatcher = make()
    jobs = offered(dispatcher, add(dispatcher, order=PRIORITY), *range(10))
    heap: Any = jobs[0]._task.node.lanes[None].order
    for turn in range(1_000):
        dispatcher.prioritise(jobs[turn % 10], float(turn), 0.0)
        assert len(heap._heap) <= 21
    assert begin(dispatcher, 0.0) == list(range(10))
