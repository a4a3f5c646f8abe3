"""Many lanes: shares by weight and cost, nobody held back, nothing scanned, nothing left behind."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Any

import pytest

from qanat._core.limits import Concurrency, SlidingWindow
from qanat.errors import Throttled
from tests._core.dispatcher.world import Until, add, at_zero, begin, failing, job, make, order_of, run, starts


def turn(dispatcher: Any, times: int) -> list[Any]:
    """Start and finish so many jobs, one at a time; return their lanes."""
    lanes: list[Any] = []
    for _ in range(times):
        each = dispatcher.next(0.0)
        assert each is not None
        lanes.append(each.lane)
        dispatcher.finish(each, None, None, 0.0)
    return lanes


def test_shares_of_the_starts_are_as_the_weights():
    weights = {"a": 5.0, "b": 2.5, "c": 0.05}
    dispatcher = make(capacity=1)
    task = add(dispatcher, weights=weights.__getitem__)
    for id in range(30_000):
        dispatcher.offer(job(task, id, "abc"[id % 3]), 0.0)
    counts = Counter(turn(dispatcher, 10_000))
    for lane, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(counts[lane] / 10_000 - share) <= 0.02 * share


def test_a_lane_whose_jobs_cost_more_has_fewer_of_them():
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=True)
    for id in range(800):
        each = job(task, id, "ab"[id % 2])
        each.cost = 3.0 if each.lane == "a" else 1.0
        dispatcher.offer(each, 0.0)
    assert Counter(turn(dispatcher, 400)) == {"a": 100, "b": 300}


def test_costs_by_currency_count_as_one_turn():
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=True)
    for id in range(200):
        each = job(task, id, "ab"[id % 2])
        each.cost = {"tokens": 900.0} if each.lane == "a" else 1.0
        dispatcher.offer(each, 0.0)
    assert Counter(turn(dispatcher, 100)) == {"a": 50, "b": 50}


def test_tasks_take_turns_by_starts_whatever_their_jobs_cost():
    dispatcher = make(capacity=1)
    first, second = add(dispatcher, "first"), add(dispatcher, "second")
    jobs = [job(task, f"{task.name}{number}") for number in range(3) for task in (first, second)]
    for each in jobs:
        each.cost = 50.0 if each._task is first else 1.0
    result = run(dispatcher, at_zero(*jobs))
    assert order_of(result) == ["first0", "second0", "first1", "second1", "first2", "second2"]


def test_weights_are_asked_once_in_a_lanes_life():
    asked: list[object] = []
    dispatcher = make()

    def weights(lane: object) -> float:
        asked.append(lane)
        return 2.0

    task = add(dispatcher, weights=weights)
    for id, lane in enumerate(["a", "b", "a", None]):
        dispatcher.offer(job(task, id, lane), 0.0)
    assert asked == ["a", "b", None]


@pytest.mark.parametrize("weight", [0, -2.0, inf, float("nan"), "1", None, True], ids=repr)
def test_a_lane_without_a_weight_fails_its_jobs_at_their_offering(weight: Any):
    dispatcher = make()
    task = add(dispatcher, weights=lambda lane: weight if lane == "a" else 1)
    for id, lane in enumerate("ab"):
        dispatcher.offer(job(task, id, lane), 0.0)
    ((ended, outcome),) = dispatcher.ended
    assert (ended.id, outcome.state) == (0, "dead")
    assert type(outcome.error) is (TypeError if weight in ("1", None, True) else ValueError)
    assert str(outcome.error).startswith("weights must be ")
    assert str(outcome.error).endswith(" for lane 'a'")
    assert begin(dispatcher, 0.0) == [1]
    assert set(task.node.lanes) == {"b"}


@pytest.mark.parametrize("at_once", [1, 7])
def test_the_only_job_of_a_tenant_waits_for_a_round_at_most(at_once: int):
    """With one other lane in turn: at most one start of it comes in between."""
    dispatcher = make(capacity=at_once)
    task = add(dispatcher, uses_lanes=True)
    for id in range(10_000):
        dispatcher.offer(job(task, id, "big"), 0.0)
    turn(dispatcher, 20)
    dispatcher.offer(job(task, "one", "small"), 0.0)
    assert "small" in turn(dispatcher, 2)


def test_a_newcomer_waits_for_one_start_of_each_other_lane_at_most():
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=True)
    for id in range(5_000):
        dispatcher.offer(job(task, id, id % 50), 0.0)
    for _ in range(20):
        turn(dispatcher, 33)
        dispatcher.offer(job(task, "one", "small"), 0.0)
        assert "small" in turn(dispatcher, 51)


def test_a_lane_at_its_own_limit_holds_up_no_other():
    dispatcher = make(capacity=4)
    task = add(dispatcher, lane_limits=lambda lane: Concurrency(1) if lane == "slow" else ())
    slow = [job(task, id, "slow") for id in range(10)]
    fast = [job(task, id, "fast") for id in range(10, 16)]
    seconds: dict[int | str, float] = {id: 100.0 if id < 10 else 1.0 for id in range(16)}
    result = run(dispatcher, at_zero(*slow, *fast), seconds)
    assert {id: at for id, at in starts(result) if int(id) >= 10} == {
        10: 0.0, 11: 0.0, 12: 0.0, 13: 1.0, 14: 1.0, 15: 1.0,
    }  # fmt: skip


def test_a_lane_that_is_told_to_retry_after_holds_up_no_other():
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=True)
    jobs = [job(task, id, "told" if id < 3 else "other") for id in range(6)]
    fails = failing(Throttled(50.0))
    result = run(
        dispatcher, at_zero(*jobs),
        failures=lambda each, rng: fails(each, rng) if each.id == 0 and dispatcher.now < 50.0 else None,
    )  # fmt: skip
    assert starts(result) == [(0, 0.0), (3, 1.0), (4, 2.0), (5, 3.0), (0, 51.0), (1, 52.0), (2, 53.0)]


def test_blocked_lanes_cost_a_decision_nothing():
    """Nobody asks their limits again, and nobody has them in the turns."""
    blocked = Until(inf)
    dispatcher = make(capacity=1)
    task = add(dispatcher, lane_limits=lambda lane: blocked if lane != "free" else ())
    for id in range(1_000):
        dispatcher.offer(job(task, id, id), 0.0)
    assert dispatcher.next(0.0) is None
    asked = blocked.asked
    for id in range(1_000, 1_100):
        dispatcher.offer(job(task, id, "free"), 0.0)
    assert turn(dispatcher, 100) == ["free"] * 100
    assert blocked.asked == asked
    assert len(task.node.turns) == 0


def test_waiters_leave_a_shared_gate_in_one_step_wherever_they_stand():
    """Seen in the kind of thing that holds them, and in that the others keep their order."""
    limit = Until(lambda each: 5.0)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: limit)
    jobs = [job(task, id, id) for id in range(20)]
    for each in jobs:
        dispatcher.offer(each, 0.0)
    assert begin(dispatcher, 0.0) == []
    for each in jobs[0:20:3]:
        assert dispatcher.cancel(each, 1.0)
    assert begin(dispatcher, 5.0) == [id for id in range(20) if id % 3]


def nodes_of(dispatcher: Any) -> int:
    return 1 + sum(1 + len(task.lanes) for task in dispatcher.tree.tasks)


def test_an_empty_lane_keeps_its_window_until_that_is_as_good_as_new_and_then_goes():
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: SlidingWindow(1, 10.0))
    run(dispatcher, at_zero(*(job(task, id, id) for id in range(100))))
    assert nodes_of(dispatcher) == 102
    # Within the window a lane still knows of its start; each later call sweeps two that are over.
    result = run(dispatcher, [(5.0, job(task, 100, 0))])
    assert starts(result) == [(100, 10.0)]
    for id in range(101, 160):
        run(dispatcher, [(float(id), job(task, id, id))])
    assert nodes_of(dispatcher) <= 2 + 12
    assert len(dispatcher.tree._fading) <= 12


def test_a_lane_that_owes_turns_is_kept_until_they_are_paid_for():
    """One dear job at a time, in a lane that is empty in between, gains nothing by that."""
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=True)
    for id in range(1_000):
        dispatcher.offer(job(task, id, "cheap"), 0.0)
    counts = Counter[Any]()
    for number in range(50):
        each = job(task, f"dear {number}", "dear")
        each.cost = 9.0
        dispatcher.offer(each, 0.0)
        lanes = [""]
        while "dear" not in lanes:
            lanes = turn(dispatcher, 1)
            counts += Counter(lanes)
    assert abs(counts["cheap"] - 9 * 50) <= 9


def test_a_lane_that_owes_turns_goes_once_they_are_paid_for():
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=True)
    for id in range(60):
        dispatcher.offer(job(task, id, id % 2), 0.0)
    dear = job(task, "dear", "dear")
    dear.cost = 9.0
    dispatcher.offer(dear, 0.0)
    turn(dispatcher, 5)
    assert set(task.node.lanes) == {0, 1, "dear"}
    turn(dispatcher, 16)
    assert set(task.node.lanes) == {0, 1, "dear"}
    turn(dispatcher, 40)
    assert set(task.node.lanes) == set()


@pytest.mark.long
def test_a_hundred_thousand_lanes_are_served_in_rounds():
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=True)
    for id in range(200_000):
        dispatcher.offer(job(task, id, id % 100_000), 0.0)
    assert turn(dispatcher, 200_000) == [*range(100_000), *range(100_000)]
    assert nodes_of(dispatcher) == 2
