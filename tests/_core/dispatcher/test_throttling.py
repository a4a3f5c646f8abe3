"""`Throttled` closes a lane, a task or a named limit's node, which reopens step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.retry import Retry
from qanat.errors import Throttled
from tests._core.dispatcher.world import (
    Noting,
    add,
    at_zero,
    failing,
    job,
    make,
    outcomes_by_id,
    run,
    starts,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from qanat._core.job import Job


def once(*ids: int | str, error: BaseException) -> Callable[[Job[Any], Random], BaseException | None]:
    """Fail the first attempt of these jobs."""
    left = set(ids)

    def failures(each: Job[Any], _rng: Random) -> BaseException | None:
        if each.id in left:
            left.remove(each.id)
            return error
        return None

    return failures


def test_it_closes_the_lane_and_no_other():
    dispatcher = make(capacity=2)
    task = add(dispatcher, uses_lanes=True)
    jobs = [job(task, f"{lane}{n}", lane) for lane in "ab" for n in range(3)]
    result = run(dispatcher, at_zero(*jobs), failures=once("a0", error=Throttled(5.0)))
    assert starts(result) == [
        ("a0", 0.0), ("b0", 0.0), ("b1", 1.0), ("b2", 1.0), ("a0", 6.0), ("a1", 7.0), ("a2", 7.0),
    ]  # fmt: skip


def test_without_lanes_it_closes_the_task_and_no_other():
    dispatcher = make(capacity=2)
    throttled, other = add(dispatcher, "throttled"), add(dispatcher, "other")
    jobs = [job(throttled, "a0"), job(throttled, "a1"), *(job(other, f"b{n}") for n in range(2))]
    result = run(dispatcher, at_zero(*jobs), failures=once("a0", error=Throttled(5.0)))
    assert starts(result) == [("a0", 0.0), ("b0", 0.0), ("b1", 1.0), ("a0", 6.0), ("a1", 7.0)]


@pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
def test_it_reopens_with_one_job_then_two_then_four(with_lanes: bool):
    dispatcher = make(capacity=8)
    task = add(dispatcher, uses_lanes=with_lanes)
    jobs = [job(task, id) for id in range(24)]
    result = run(dispatcher, at_zero(*jobs), failures=once(*range(8), error=Throttled(4.0)))
    times = [at for _, at in starts(result)]
    assert [times.count(at) for at in sorted(set(times))] == [8, 1, 2, 4, 8, 8, 1]
    assert sorted(set(times)) == [0.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]


@pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
def test_it_reopens_in_steps_when_one_of_many_was_throttled(with_lanes: bool):
    dispatcher = make(capacity=4)
    task = add(dispatcher, uses_lanes=with_lanes)
    result = run(
        dispatcher, at_zero(*(job(task, id) for id in range(12))), failures=once(0, error=Throttled(4.0))
    )
    times = [at for _, at in starts(result)]
    assert [(at, times.count(at)) for at in sorted(set(times))] == [
        (0.0, 4), (5.0, 1), (6.0, 2), (7.0, 4), (8.0, 2),
    ]  # fmt: skip


@pytest.mark.parametrize("level", ["lane", "task", "root"])
def test_a_named_limit_closes_where_it_stands(level: str):
    limit = Noting(name="api")
    dispatcher = make(capacity=3, limits=(limit,) if level == "root" else ())
    task = add(
        dispatcher, limits=(limit,) if level == "task" else (),
        lane_limits=lambda _lane: limit if level == "lane" else (),
    )  # fmt: skip
    other = add(dispatcher, "other")
    arrivals = [(0.0, job(task, "a", "x")), (2.0, job(task, "b", "y")), (2.0, job(other, "c"))]
    result = run(dispatcher, arrivals, failures=once("a", error=Throttled(9.0, limit="api")))
    held_up = {id for id, at in starts(result) if at >= 10.0}
    assert held_up == {"lane": {"a"}, "task": {"a", "b"}, "root": {"a", "b", "c"}}[level]


def test_a_limit_that_is_not_there_ends_the_job_and_says_which_are():
    dispatcher = make(limits=(Noting(name="one"), Noting(), Noting(name="two")))
    task = add(dispatcher, retry=3)
    (outcome,) = run(dispatcher, at_zero(job(task, 0)), failures=failing(Throttled(limit="three"))).outcomes
    assert isinstance(outcome.error, ValueError)
    assert str(outcome.error) == (
        "Throttled(limit='three') names no limit of this job, its named limits are 'one', 'two': "
        "leave limit out to close the job's lane"
    )
    assert isinstance(outcome.error.__context__, Throttled)
    assert outcome.attempts == 1


def test_a_named_limit_where_there_is_none_ends_the_job():
    dispatcher = make()
    result = run(dispatcher, at_zero(job(add(dispatcher), 0)), failures=failing(Throttled(limit="x")))
    (outcome,) = result.outcomes
    assert "its named limits are none" in str(outcome.error)


def test_jobs_throttled_while_in_flight_do_not_lengthen_an_unknown_pause():
    dispatcher = make(capacity=4)
    task = add(dispatcher, uses_lanes=True)
    seconds: dict[int | str, float] = {0: 1.0, 1: 1.25, 2: 1.5, 3: 1.75}
    jobs = [job(task, id, "a") for id in range(4)]
    result = run(dispatcher, at_zero(*jobs), seconds, failures=once(*range(4), error=Throttled()))
    assert starts(result)[4] == (0, 2.0)


def test_an_unknown_pause_doubles_while_it_keeps_happening():
    dispatcher = make()
    task = add(dispatcher)
    left = [Throttled(), Throttled(), Throttled()]
    result = run(dispatcher, at_zero(job(task, 0)), failures=lambda _each, _rng: left.pop() if left else None)
    assert [at for _, at in starts(result)] == [0.0, 2.0, 5.0, 10.0]


def test_throttled_attempts_keep_their_number_and_hold_their_place():
    dispatcher = make(capacity=1)
    task = add(dispatcher, retry=0)
    result = run(dispatcher, at_zero(job(task, 0), job(task, 1)), failures=once(0, error=Throttled(3.0)))
    assert starts(result) == [(0, 0.0), (0, 4.0), (1, 5.0)]
    assert outcomes_by_id(result)[0].attempts == 1
    assert dispatcher.retried == 0


@pytest.mark.parametrize("most", [0, 1, 3])
def test_a_job_throttled_too_often_fails(most: int):
    dispatcher = make()
    task = add(dispatcher, retry=Retry(0, max_throttles=most))
    result = run(dispatcher, at_zero(job(task, 0)), failures=lambda _each, _rng: Throttled(1.0))
    assert len(starts(result)) == most + 1
    (outcome,) = result.outcomes
    assert isinstance(outcome.error, Throttled)
    assert outcome.state == "dead"


def test_the_valve_is_taken_away_once_it_is_open_and_the_lone_lane_comes_back():
    dispatcher = make(capacity=2)
    task = add(dispatcher)
    assert dispatcher.is_plain
    seen: list[bool] = []
    run(
        dispatcher, at_zero(*(job(task, id) for id in range(8))), failures=once(0, error=Throttled(3.0)),
        calls=[(at, lambda _now: seen.append(dispatcher.is_plain)) for at in (0.5, 1.5, 4.5, 9.0)],
    )  # fmt: skip
    assert seen == [True, False, False, True]
    assert task.node.limits == ()
    assert len(dispatcher.gates) == 0
    assert dispatcher.done == 8


def test_the_valve_of_a_named_root_limit_is_taken_away_too():
    limit = Noting(name="api")
    dispatcher = make(capacity=2, limits=(limit,))
    task = add(dispatcher)
    run(
        dispatcher, at_zero(*(job(task, id) for id in range(5))),
        failures=once(0, 1, error=Throttled(3.0, limit="api")),
    )  # fmt: skip
    assert dispatcher.tree.root.limits == (limit,)


def test_the_pause_is_lengthened_for_those_who_wait_already():
    dispatcher = make(capacity=2)
    task = add(dispatcher, uses_lanes=True)
    seconds: dict[int | str, float] = {0: 1.0, 1: 1.5}
    failures = {0: Throttled(2.0), 1: Throttled(9.0)}
    result = run(
        dispatcher, at_zero(job(task, 0), job(task, 1), job(task, 2)), seconds,
        failures=lambda each, _rng: failures.pop(each.index, None),
    )  # fmt: skip
    assert starts(result)[2] == (0, 10.5)


def test_waiting_for_it_is_told_by_its_cause():
    dispatcher = make(capacity=1)
    task = add(dispatcher)
    result = run(dispatcher, at_zero(job(task, 0), job(task, 1)), failures=once(0, error=Throttled(3.0)))
    ends = outcomes_by_id(result)
    assert ends[0].waits == {"throttled": 3.0}
    assert ends[1].waits == {"concurrency": 2.0, "throttled": 3.0}


def test_a_valve_that_nobody_of_the_jobs_path_holds_is_left_alone():
    from qanat._core.dispatcher.valve import Valve

    dispatcher = make()
    each = job(add(dispatcher), 0)
    dispatcher._throttling.open(each, Valve(), 0.0)
    assert dispatcher.is_plain


def test_a_job_that_was_throttled_by_what_is_open_again_waits_from_then_on():
    """It began before the pause, and says so after it: nothing of that is told as of the past."""
    dispatcher = make(capacity=2)
    task = add(dispatcher)
    jobs = [job(task, number) for number in range(4)]
    left = {1, 2, 3}

    def failures(each: Job[Any], _rng: Random) -> BaseException | None:
        if each.id in left:
            left.remove(int(each.id))
            return Throttled()
        return None

    seconds: dict[int | str, float] = {1: 0.0, 3: 2.5}
    result = run(dispatcher, at_zero(*jobs), seconds, failures=failures)
    found = outcomes_by_id(result)
    assert {number: found[number].waits for number in range(4)} == {
        0: {}, 1: {"throttled": 1.0}, 2: {"throttled": 2.5}, 3: {"throttled": 2.0},
    }  # fmt: skip
