"""Nodes wait at limits in the order of their coming, cost nothing meanwhile, and wake one another."""

from __future__ import annotations

from math import inf

import pytest

from qanat._core.dispatcher.gate import Gate
from qanat._core.limits import Concurrency, SlidingWindow
from tests._core.dispatcher.world import Noting, Until, add, at_zero, begin, job, make, order_of, run, starts


def test_lanes_take_turns_at_a_limit_that_they_share():
    shared = SlidingWindow(2, 1.0)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: shared)
    jobs = [job(task, f"{lane}{n}", lane) for lane in "abcd" for n in range(3)]
    result = run(dispatcher, at_zero(*jobs), 0.25)
    assert starts(result)[:8] == [
        ("a0", 0.0), ("b0", 0.0), ("c0", 1.0), ("d0", 1.0),
        ("a1", 2.0), ("b1", 2.0), ("c1", 3.0), ("d1", 3.0),
    ]  # fmt: skip


def test_a_newcomer_queues_up_behind_those_who_wait():
    shared = Noting(1)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: shared)
    first, waits, new = job(task, 0, "a"), job(task, 1, "b"), job(task, 2, "c")
    dispatcher.offer(first, 0.0)
    dispatcher.offer(waits, 0.0)
    assert begin(dispatcher, 0.0) == [0]
    dispatcher.offer(new, 1.0)
    dispatcher.finish(first, None, None, 1.0)
    assert begin(dispatcher, 1.0) == [1]


@pytest.mark.slow
def test_asks_for_each_start_stay_constant_with_ten_thousand_lanes_at_one_limit():
    shared = Noting(1)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: shared)
    run(dispatcher, at_zero(*(job(task, id, id) for id in range(10_000))), record=False)
    assert dispatcher.done == 10_000
    assert shared.asked <= 3 * 10_000


@pytest.mark.slow
def test_ten_thousand_blocked_lanes_are_not_asked_again():
    limits = {lane: Until(1e9) for lane in range(10_000)}
    dispatcher = make(capacity=1)
    task = add(dispatcher, lane_limits=lambda lane: limits.get(lane, ()))
    blocked = [job(task, id, id) for id in range(10_000)]
    free = [job(task, f"free {id}", "free") for id in range(100)]
    for each in blocked:
        dispatcher.offer(each, 0.0)
    assert dispatcher.next(0.0) is None
    assert sum(limit.asked for limit in limits.values()) == 10_000
    for now, each in enumerate(free, 1):
        dispatcher.offer(each, now)
        assert dispatcher.next(now) is each
        dispatcher.finish(each, None, None, now)
    assert sum(limit.asked for limit in limits.values()) == 10_000


def test_a_woken_lane_that_its_other_limit_holds_passes_the_wake_on():
    shared, own = Noting(1), Until(0.0)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda lane: (shared, own) if lane == "b" else (shared,))
    jobs = [job(task, lane, lane) for lane in "abc"]
    for each in jobs:
        dispatcher.offer(each, 0.0)
    assert begin(dispatcher, 0.0) == ["a"]
    own.at = 9.0
    dispatcher.finish(jobs[0], None, None, 1.0)
    assert begin(dispatcher, 1.0) == ["c"]


def test_a_woken_lane_whose_task_is_parked_passes_the_wake_on_to_another_task():
    """The lane was woken before its task was refused, by the asking of another lane of the task."""
    shared, task_limit = Noting(1), Until(0.0)
    dispatcher = make()
    first = add(
        dispatcher, "first", limits=(task_limit,), lane_limits=lambda lane: shared if lane == "s" else ()
    )
    second = add(dispatcher, "second", lane_limits=lambda _lane: shared)
    jobs = [job(first, "a", "s"), job(first, "b", "s"), job(second, "c", "s")]
    dispatcher.offer(jobs[0], 0.0)
    dispatcher.offer(jobs[1], 0.0)
    assert begin(dispatcher, 0.0) == ["a"]
    dispatcher.offer(jobs[2], 0.25)
    assert begin(dispatcher, 0.25) == []
    task_limit.at = 50.0
    dispatcher.offer(job(first, "d", "free"), 1.0)
    dispatcher.finish(jobs[0], None, None, 1.0)
    assert begin(dispatcher, 1.0) == ["c"]


def test_a_woken_lane_of_a_task_that_parked_before_passes_the_wake_on():
    shared, task_limit = Noting(1), Until(0.0)
    dispatcher = make()
    first = add(
        dispatcher, "first", limits=(task_limit,), lane_limits=lambda lane: shared if lane == "s" else ()
    )
    second = add(dispatcher, "second", lane_limits=lambda _lane: shared)
    jobs = [job(first, "a", "s"), job(first, "b", "s"), job(second, "c", "s")]
    dispatcher.offer(jobs[0], 0.0)
    dispatcher.offer(jobs[1], 0.0)
    assert begin(dispatcher, 0.0) == ["a"]
    dispatcher.offer(jobs[2], 0.25)
    assert begin(dispatcher, 0.25) == []
    task_limit.at = 50.0
    dispatcher.offer(job(first, "d", "free"), 0.5)
    assert begin(dispatcher, 0.5) == []
    dispatcher.finish(jobs[0], None, None, 1.0)
    assert begin(dispatcher, 1.0) == ["c"]


def test_a_woken_task_whose_lanes_are_all_held_passes_the_wake_on():
    shared, own = Noting(1), Until(0.0)
    dispatcher = make()
    first = add(dispatcher, "first", limits=(shared,))
    second = add(dispatcher, "second", limits=(shared,), lane_limits=lambda _lane: own)
    third = add(dispatcher, "third", limits=(shared,))
    jobs = [job(first, "a"), job(second, "b", 1), job(third, "c")]
    for each in jobs:
        dispatcher.offer(each, 0.0)
    assert begin(dispatcher, 0.0) == ["a"]
    own.at = 9.0
    dispatcher.finish(jobs[0], None, None, 1.0)
    assert begin(dispatcher, 1.0) == ["c"]


def test_tasks_that_wait_for_one_limit_keep_their_order_while_the_root_is_full():
    shared = Noting(1)
    dispatcher = make(capacity=2)
    tasks = [add(dispatcher, name, limits=(shared,)) for name in "abc"]
    free = add(dispatcher, "free")
    jobs = [job(task, task.name) for task in tasks]
    for each in [*jobs, job(free, "f0"), job(free, "f1")]:
        dispatcher.offer(each, 0.0)
    assert begin(dispatcher, 0.0) == ["a", "f0"]
    shared.n = 1
    asked = shared.asked
    shared.changed()
    assert begin(dispatcher, 0.5) == []
    assert shared.asked == asked


def test_cancelling_the_only_job_of_the_first_parked_lane_lets_the_next_be_asked():
    limits = {"a": 9.0, "b": 2.0}
    shared = Until(lambda each: limits[each.lane])  # type: ignore[index]
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: shared)
    first = job(task, 0, "a")
    result = run(dispatcher, at_zero(first, job(task, 1, "b")), cancels=[(1.0, first)])
    assert starts(result) == [(1, 2.0)]


def test_cancelling_the_only_job_of_a_lane_parked_behind_leaves_the_others():
    dispatcher = make()
    shared = Until(3.0)
    task = add(dispatcher, lane_limits=lambda _lane: shared)
    jobs = [job(task, id, id) for id in range(3)]
    assert order_of(run(dispatcher, at_zero(*jobs), cancels=[(1.0, jobs[1])])) == [0, 2]


@pytest.mark.parametrize("level", ["task", "root"])
def test_cancelling_the_only_job_of_a_parked_ancestor_parks_it_no_more(level: str):
    limit = Until(lambda each: 50.0 if each.id == "heavy" else 0.0)
    dispatcher = make(limits=(limit,) if level == "root" else ())
    task = add(dispatcher, limits=(limit,) if level == "task" else (), uses_lanes=True)
    heavy = job(task, "heavy", "a")
    arrivals = [(0.0, heavy), (1.0, job(task, "light", "b"))]
    assert starts(run(dispatcher, arrivals, cancels=[(0.5, heavy)])) == [("light", 1.0)]
    assert dispatcher.wake_at == inf


def test_cancelling_the_job_that_holds_up_an_ancestor_lets_the_next_be_asked():
    limit = Until(lambda each: 50.0 if each.id == "heavy" else 0.0)
    dispatcher = make(limits=(limit,))
    task = add(dispatcher, uses_lanes=True)
    heavy = job(task, "heavy", "a")
    result = run(dispatcher, at_zero(heavy, job(task, "light", "b")), cancels=[(0.5, heavy)])
    assert starts(result) == [("light", 0.5)]


def test_a_refused_woken_lane_lets_the_next_try():
    shared = Noting(1)
    broken = Until(0.0)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda lane: (broken, shared) if lane == "b" else shared)
    jobs = [job(task, lane, lane) for lane in "abc"]
    for each in jobs:
        dispatcher.offer(each, 0.0)
    assert begin(dispatcher, 0.0) == ["a"]
    broken.at = lambda each: 1 / 0
    dispatcher.finish(jobs[0], None, None, 1.0)
    assert begin(dispatcher, 1.0) == ["c"]
    assert [each.id for each, _ in dispatcher.ended] == ["b"]


def test_gates_with_the_same_time_all_open():
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: Until(2.0))
    result = run(dispatcher, at_zero(*(job(task, id, id) for id in range(4))))
    assert starts(result) == [(0, 2.0), (1, 2.0), (2, 2.0), (3, 2.0)]


def test_a_limit_that_changes_before_its_time_wakes_and_the_old_time_is_forgotten():
    limit = Until(9.0)
    dispatcher = make(limits=(limit,))
    task = add(dispatcher)
    for id in range(2):
        dispatcher.offer(job(task, id), 0.0)
    assert dispatcher.next(0.0) is None
    limit.at = 5.0
    limit.changed()
    assert begin(dispatcher, 1.0) == []
    assert dispatcher.wake_at == 5.0
    assert len(dispatcher.timeline) == 1


def test_notify_is_called_once_for_a_change_until_somebody_asks():
    limit, calls = Noting(0), list[int]()
    dispatcher = make(limits=(limit,), notify=lambda: calls.append(1))
    dispatcher.offer(job(add(dispatcher), 0), 0.0)
    limit.changed()
    assert calls == []
    assert dispatcher.next(0.0) is None
    limit.changed()
    limit.changed()
    assert calls == [1]
    assert dispatcher.next(0.0) is None
    limit.changed()
    assert calls == [1, 1]


def test_no_change_is_told_to_a_dispatcher_that_wants_no_notice():
    limit = Noting(0)
    dispatcher = make(limits=(limit,))
    dispatcher.offer(job(add(dispatcher), 0), 0.0)
    assert dispatcher.next(0.0) is None
    limit.n = 1
    limit.changed()
    assert dispatcher.may_start_more
    assert begin(dispatcher, 0.0) == [0]


def test_the_time_of_a_gate_moves_with_its_first_waiter():
    """Whoever comes while the first is being asked again does not leave two times behind."""
    shared = Until(1.0)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: shared)
    dispatcher.offer(job(task, 0, "a"), 0.0)
    assert dispatcher.next(0.0) is None
    for now in range(1, 200):
        shared.at = now + 1.0
        dispatcher.offer(job(task, now, now), now - 0.5)
        assert dispatcher.next(now) is None
        assert dispatcher.wake_at == now + 1.0
    assert len(dispatcher.timeline) <= 3


def test_a_limit_in_whose_queue_nobody_waits_is_quiet():
    dispatcher = make()
    gate = Gate(dispatcher.gates, Concurrency(1))
    gate.limit_changed()
    assert dispatcher.gates.changed == {}


def test_forgetting_a_limit_that_was_never_waited_for_does_nothing():
    dispatcher = make()
    limit = Concurrency(1)
    dispatcher.gates.remove(limit, 0.0)
    dispatcher.gates.reset(limit, 1.0)
    dispatcher.gates.forget((limit,))
    assert len(dispatcher.gates) == 0


def test_a_limit_that_others_wait_for_is_not_forgotten():
    shared = Until(5.0)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: shared)
    dispatcher.offer(job(task, 0, 0), 0.0)
    assert dispatcher.next(0.0) is None
    dispatcher.gates.forget((shared,))
    assert begin(dispatcher, 5.0) == [0]


def test_removing_a_limit_that_has_just_changed_lets_all_go():
    shared = Noting(0)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: shared)
    for id in range(3):
        dispatcher.offer(job(task, id, id), 0.0)
    assert dispatcher.next(0.0) is None
    shared.changed()
    dispatcher.gates.remove(shared, 0.0)
    assert dispatcher.gates.changed == {}
    assert shared._listeners == []
    shared.n = 3
    assert begin(dispatcher, 0.0) == [0, 1, 2]


def test_a_limit_that_changes_while_all_slots_are_taken_lets_its_lane_wait_for_a_slot():
    limit = Noting(0)
    dispatcher = make(capacity=1)
    task = add(dispatcher, lane_limits=lambda lane: limit if lane == "a" else ())
    waits, runs = job(task, 0, "a"), job(task, 1, "b")
    dispatcher.offer(waits, 0.0)
    dispatcher.offer(runs, 0.0)
    assert begin(dispatcher, 0.0) == [1]
    limit.n = 1
    limit.changed()
    assert dispatcher.next(2.0) is None
    why = dispatcher.why(waits)
    assert why is not None
    assert (why.cause, why.limit, why.since) == ("concurrency", "1", 2.0)
    dispatcher.finish(runs, None, None, 3.0)
    assert dispatcher.next(3.0) is waits
