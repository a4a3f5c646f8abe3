"""Lost time by cause: it adds up exactly, and each instant counts once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.backoff import constant
from qanat._core.limits import SlidingWindow
from qanat._core.retry import Retry
from tests._core.dispatcher.world import (
    Noting,
    Until,
    add,
    at_zero,
    begin,
    failing,
    job,
    make,
    outcomes_by_id,
    run,
)

if TYPE_CHECKING:
    from qanat._core.limit import Limit
    from tests._core.driver import Drive


def waits(result: Drive) -> dict[Any, dict[str, float]]:
    return {outcome.id: dict(outcome.waits) for outcome in result.outcomes}


BOTH = pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])


@BOTH
def test_a_job_that_starts_at_once_waited_for_nothing(with_lanes: bool):
    dispatcher = make()
    result = run(dispatcher, [(3.0, job(add(dispatcher, uses_lanes=with_lanes), 0))])
    assert waits(result) == {0: {}}


@BOTH
def test_time_without_a_slot_is_concurrency(with_lanes: bool):
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=with_lanes)
    result = run(dispatcher, [(0.0, job(task, 0)), (0.5, job(task, 1)), (0.75, job(task, 2))])
    assert waits(result) == {0: {}, 1: {"concurrency": 0.5}, 2: {"concurrency": 1.25}}
    assert dispatcher.waits == {"concurrency": 1.75}


def test_time_at_a_limit_is_told_by_its_cause():
    dispatcher = make()
    task = add(dispatcher, limits=(SlidingWindow(1, 2.0),))
    result = run(dispatcher, at_zero(job(task, 0), job(task, 1), job(task, 2)))
    assert waits(result) == {0: {}, 1: {"rate": 2.0}, 2: {"rate": 4.0}}


def test_the_root_counts_before_the_task_and_the_task_before_the_lane():
    """All three refuse from 0; the root is asked last, and so parks when the others agree."""
    dispatcher = make()
    lane_limit, task_limit = Until(4.0), Until(3.0)
    task = add(dispatcher, limits=(task_limit,), lane_limits=lambda lane: lane_limit if lane == "a" else ())
    jobs = at_zero(job(task, 0, "a"), job(task, 1, "b"))
    result = run(dispatcher, jobs, calls=[(1.0, dispatcher.pause), (2.0, dispatcher.resume)])
    # Lane a is parked until 4, but up to 3 its task is too, and from 1 to 2 the root.
    assert waits(result) == {0: {"rate": 3.0, "paused": 1.0}, 1: {"rate": 2.0, "paused": 1.0}}


def test_each_cause_counts_only_while_no_ancestor_waits():
    class Slow(Until):
        cause = "budget"

    dispatcher = make(capacity=1)
    task = add(dispatcher, lane_limits=lambda lane: Slow(3.0) if lane == "a" else ())
    arrivals = [(0.0, job(task, "a", "a")), (1.0, job(task, "b", "b")), (1.0, job(task, "c", "b"))]
    result = run(dispatcher, arrivals, {"b": 1.0, "c": 3.0})
    # The root waits for a slot while c does, from 1 to 2, and from 3 on, when lane a could start.
    assert waits(result) == {"b": {}, "c": {"concurrency": 1.0}, "a": {"budget": 2.0, "concurrency": 3.0}}


def test_a_lane_whose_time_comes_while_all_slots_are_taken_waits_for_a_slot_from_then_on():
    """Nobody asks while it is full, and yet it is told to the instant."""
    dispatcher = make(capacity=1)
    task = add(dispatcher, lane_limits=lambda lane: Until(2.0) if lane == "a" else ())
    result = run(dispatcher, [(0.0, job(task, "a", "a")), (1.0, job(task, "b", "b"))], {"b": 4.0})
    assert waits(result) == {"b": {}, "a": {"rate": 2.0, "concurrency": 3.0}}


@BOTH
def test_a_delay_ends_when_it_is_due_however_late_somebody_asks(with_lanes: bool):
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=with_lanes)
    first, late = job(task, 0), job(task, 1)
    dispatcher.offer(first, 0.0)
    assert dispatcher.next(0.0) is first
    dispatcher.offer(late, 0.0, delay=1.0)
    dispatcher.finish(first, None, None, 5.0)
    assert dispatcher.next(5.0) is late
    outcome = dispatcher.finish(late, None, None, 6.0)
    assert outcome is not None
    assert outcome.waits == {"delay": 1.0, "concurrency": 4.0}


@BOTH
def test_waiting_for_a_retry_is_told_apart(with_lanes: bool):
    dispatcher = make(capacity=1)
    task = add(dispatcher, retry=Retry(1, backoff=constant(2.0)), uses_lanes=with_lanes)
    result = run(
        dispatcher, at_zero(job(task, 0), job(task, 1)), {0: 1.0, 1: 4.0},
        failures=lambda each, _rng: OSError() if each.id == 0 and each.attempt == 1 else None,
    )  # fmt: skip
    # It is due at 3, and the slot is free at 5.
    assert waits(result) == {1: {"concurrency": 1.0}, 0: {"retry": 2.0, "concurrency": 2.0}}
    assert outcomes_by_id(result)[0].waited == 4.0


@BOTH
def test_a_pause_is_told_apart_from_a_want_of_slots(with_lanes: bool):
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=with_lanes)
    result = run(
        dispatcher, [(0.0, job(task, 0)), (0.5, job(task, 1)), (3.0, job(task, 2)), (6.0, job(task, 3))], 2.0,
        calls=[(1.0, dispatcher.pause), (5.0, dispatcher.resume)],
    )  # fmt: skip
    assert waits(result) == {
        0: {},
        1: {"concurrency": 0.5, "paused": 4.0},
        2: {"paused": 2.0, "concurrency": 2.0},
        3: {"concurrency": 3.0},
    }


@BOTH
def test_two_pauses_add_up_for_whom_they_concern(with_lanes: bool):
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=with_lanes)
    arrivals = [(float(id), job(task, id)) for id in range(5)]
    pause, resume = dispatcher.pause, dispatcher.resume
    result = run(
        dispatcher, arrivals, 2.0, calls=[(0.5, pause), (1.5, resume), (2.25, pause), (3.25, resume)]
    )
    # They start at 0, 2, 4, 6 and 8.
    assert waits(result) == {
        0: {},
        1: {"paused": 0.5, "concurrency": 0.5},
        2: {"paused": 1.0, "concurrency": 1.0},
        3: {"paused": 0.25, "concurrency": 2.75},
        4: {"concurrency": 4.0},
    }


@BOTH
def test_slots_lacking_when_it_resumes_or_shrinks_are_told_although_nobody_asks(with_lanes: bool):
    dispatcher = make(capacity=2)
    task = add(dispatcher, uses_lanes=with_lanes)
    first, second = job(task, 0), job(task, 1)
    dispatcher.offer(first, 0.0)
    assert dispatcher.next(0.0) is first
    dispatcher.pause(0.0)
    dispatcher.offer(second, 0.0)
    dispatcher.resize(1, 1.0)
    dispatcher.resume(2.0)
    dispatcher.finish(first, None, None, 5.0)
    assert dispatcher.next(5.0) is second
    outcome = dispatcher.finish(second, None, None, 6.0)
    assert outcome is not None
    assert outcome.waits == {"paused": 2.0, "concurrency": 3.0}


def test_slots_taken_away_are_told_although_nobody_asks():
    dispatcher = make(capacity=2, limits=(limit := Until(0.0),))
    task = add(dispatcher)
    first, second = job(task, 0), job(task, 1)
    dispatcher.offer(first, 0.0)
    assert dispatcher.next(0.0) is first
    dispatcher.offer(second, 0.0)
    dispatcher.resize(1, 0.0)
    assert limit.asked == 1
    dispatcher.finish(first, None, None, 5.0)
    assert dispatcher.next(5.0) is second
    outcome = dispatcher.finish(second, None, None, 6.0)
    assert outcome is not None
    assert outcome.waits == {"concurrency": 5.0}


def test_what_no_node_was_parked_for_is_a_turn():
    """The driver asked late."""
    dispatcher = make()
    each = job(add(dispatcher, uses_lanes=True), 0)
    dispatcher.offer(each, 0.0)
    assert dispatcher.next(3.0) is each
    outcome = dispatcher.finish(each, None, None, 4.0)
    assert outcome is not None
    assert outcome.waits == {"turn": 3.0}


def test_a_cancelled_job_is_told_what_it_waited_for():
    dispatcher = make(limits=(Until(9.0),))
    each = job(add(dispatcher), 0)
    assert waits(run(dispatcher, at_zero(each), cancels=[(4.0, each)])) == {0: {"rate": 4.0}}


@BOTH
def test_a_cancelled_job_is_told_of_pause_and_slots(with_lanes: bool):
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=with_lanes)
    jobs = [job(task, id) for id in range(3)]
    result = run(
        dispatcher, [(0.0, jobs[0]), (1.0, jobs[1]), (3.0, jobs[2])], 8.0,
        calls=[(2.0, dispatcher.pause), (4.0, dispatcher.resume)], cancels=[(6.0, jobs[1]), (7.0, jobs[2])],
    )  # fmt: skip
    assert waits(result) == {
        0: {}, 1: {"concurrency": 3.0, "paused": 2.0}, 2: {"paused": 1.0, "concurrency": 3.0},
    }  # fmt: skip


def test_a_job_that_a_limit_ends_is_told_what_it_waited_for():
    limit = Until(3.0)
    dispatcher = make(limits=(limit,))
    each = job(add(dispatcher), 0)
    dispatcher.offer(each, 0.0)
    assert dispatcher.next(0.0) is None
    limit.at = lambda _each: 1 / 0
    assert dispatcher.next(3.0) is None
    ((_, outcome),) = dispatcher.ended
    assert outcome.waits == {"rate": 3.0}


def test_a_job_whose_taking_fails_is_told_what_it_waited_for():
    class Broken(Noting):
        def take(self, job, now):
            raise OSError("no")

    dispatcher = make(limits=(Until(3.0), Broken()))
    result = run(dispatcher, at_zero(job(add(dispatcher), 0)))
    assert waits(result) == {0: {"rate": 3.0}}


def test_totals_are_the_sums_over_the_outcomes():
    dispatcher = make(capacity=2, limits=(SlidingWindow(3, 1.0),))
    task = add(dispatcher, retry=Retry(2, backoff=constant(0.5)), uses_lanes=True)
    arrivals = [(id / 8, job(task, id, id % 3)) for id in range(30)]
    result = run(
        dispatcher, arrivals, 0.75, failures=failing(OSError(), None),
        calls=[(2.0, dispatcher.pause), (4.0, dispatcher.resume)],
    )  # fmt: skip
    total: Counter[str] = Counter()
    for outcome in result.outcomes:
        assert sum(outcome.waits.values()) == outcome.waited
        total.update(outcome.waits)
    assert dispatcher.waits == dict(total)
    assert set(total) == {"rate", "concurrency", "retry", "paused"}


def test_a_job_that_fell_due_while_nobody_asked_does_not_end_the_others_waiting_for_the_rate():
    dispatcher = make(limits=(SlidingWindow(1, 2.0),))
    task = add(dispatcher)
    first, second, delayed = job(task, 0), job(task, 1), job(task, 2)
    dispatcher.offer(first, 0.0)
    dispatcher.offer(second, 0.0)
    dispatcher.offer(delayed, 0.0, delay=0.5)
    assert dispatcher.next(0.0) is first
    assert dispatcher.next(0.0) is None
    assert dispatcher.wake_at == 0.5
    assert dispatcher.next(2.0) is second
    outcome = dispatcher.finish(second, None, None, 2.0)
    assert outcome is not None
    assert outcome.waits == {"rate": 2.0}


@BOTH
def test_jobs_that_arrive_while_nothing_changes_share_one_mark(with_lanes: bool):
    """At any time: so a job that waits for its rate takes no more memory than another."""
    dispatcher = make(limits=(SlidingWindow(1, 90.0),))
    task = add(dispatcher, uses_lanes=with_lanes)
    jobs = [job(task, id, "a" if with_lanes else None) for id in range(9)]
    dispatcher.offer(jobs[0], 0.0)
    dispatcher.offer(jobs[1], 0.0)
    assert begin(dispatcher, 0.0) == [0]
    for second, each in enumerate(jobs[2:], 1):
        dispatcher.offer(each, float(second))
    assert len({id(each._mark) for each in jobs[2:]}) == 1
    dispatcher.cancel(jobs[5], 60.0)
    ((_, outcome),) = dispatcher.ended
    assert outcome.waits == {"rate": 56.0}


def test_arrivals_in_other_lanes_do_not_end_a_mark():
    """Also where the lanes lost time of their own before the root parked."""
    dispatcher = make(capacity=1)
    task = add(dispatcher, lane_limits=lambda _lane: Until(2.0))
    jobs = [job(task, id, "ab"[id % 2]) for id in range(8)]
    dispatcher.offer(jobs[0], 0.0)
    dispatcher.offer(jobs[1], 0.0)
    assert begin(dispatcher, 0.0) == []
    dispatcher.pause(1.0)
    for second, each in enumerate(jobs[2:], 2):
        dispatcher.offer(each, float(second))
    assert len({id(each._mark) for each in jobs[2::2]}) == len({id(each._mark) for each in jobs[3::2]}) == 1
    dispatcher.resume(9.0)
    assert dispatcher.next(9.0) is jobs[0]
    outcome = dispatcher.finish(jobs[0], None, None, 10.0)
    assert outcome is not None
    assert outcome.waits == {"rate": 1.0, "paused": 8.0}
    assert dispatcher.next(10.0) is jobs[1]
    assert dispatcher.next(10.0) is None
    dispatcher.cancel(jobs[2], 12.0)
    assert dispatcher.ended[-1][1].waits == {"paused": 7.0, "concurrency": 3.0}


def test_a_task_that_was_parked_before_and_after_the_root_was_counts_only_its_own():
    dispatcher = make()
    task = add(dispatcher, limits=(Until(8.0),))
    first, second = job(task, 0), job(task, 1)
    dispatcher.offer(first, 0.0)
    assert dispatcher.next(0.0) is None
    dispatcher.pause(1.0)
    dispatcher.resume(4.0)
    dispatcher.offer(second, 5.0)
    assert begin(dispatcher, 8.0) == [0, 1]
    ends = [dispatcher.finish(each, None, None, 8.0) for each in (first, second)]
    assert [end and end.waits for end in ends] == [{"rate": 5.0, "paused": 3.0}, {"rate": 3.0}]


def test_what_a_lane_lost_before_its_root_parked_is_added_up_once():
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: Until(6.0))
    jobs = [job(task, id, "a") for id in range(3)]
    dispatcher.offer(jobs[0], 0.0)
    assert dispatcher.next(0.0) is None
    dispatcher.pause(1.0)
    dispatcher.offer(jobs[1], 2.0)
    lane = task.node.lanes["a"]
    lane.marked_at = -1
    dispatcher.offer(jobs[2], 3.0)
    assert lane.lost == {"rate": 1.0}
    assert jobs[1]._mark == jobs[2]._mark


class Spent(Until):
    """Refuse until a time, for want of a budget."""

    cause = "budget"


class Broken(Until):
    """Refuse until a time, as something is broken."""

    cause = "breaker"


def test_what_a_lane_itself_lost_is_told_apart_exactly():
    dispatcher = make()
    lane_limits: dict[str, list[Limit]] = {"a": [SlidingWindow(1, 2.0)], "b": [], "c": [Broken(7.0)]}
    task = add(dispatcher, limits=(Spent(1.0),), lane_limits=lane_limits.__getitem__, uses_lanes=True)
    arrivals = at_zero(*(job(task, each, lane=each[0]) for each in ("a1", "a2", "a3", "b1", "c1")))
    result = run(dispatcher, [*arrivals, (4.25, job(task, "a4", lane="a")), (6.0, job(task, "c2", lane="c"))])
    assert waits(result) == {
        "a1": {"budget": 1.0}, "a2": {"budget": 1.0, "rate": 2.0}, "a3": {"budget": 1.0, "rate": 4.0},
        "b1": {"budget": 1.0}, "c1": {"budget": 1.0, "breaker": 6.0}, "a4": {"rate": 2.75}, "c2": {"breaker": 1.0},
    }  # fmt: skip
    assert dispatcher.lane_waits == {"a": {"rate": 2.0 + 4.0 + 2.75}, "c": {"breaker": 6.0 + 1.0}}


def test_time_in_which_something_above_was_parked_is_not_the_lanes():
    dispatcher = make(capacity=1)
    task = add(dispatcher, lane_limits=lambda _lane: SlidingWindow(1, 2.0), uses_lanes=True)
    result = run(
        dispatcher, at_zero(job(task, "a1", lane="a"), job(task, "a2", lane="a"), job(task, "b1", lane="b"))
    )
    # For a second each the only slot is taken; from 2.0 on nobody waits.
    assert waits(result) == {
        "a1": {}, "b1": {"concurrency": 1.0}, "a2": {"concurrency": 2.0},
    }  # fmt: skip
    assert dispatcher.lane_waits == {}


def test_beyond_a_thousand_lanes_their_waits_are_added_up():
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: SlidingWindow(1, 2.0), uses_lanes=True)
    run(dispatcher, at_zero(*(job(task, id, lane=id % 1002) for id in range(2004))))
    assert len(dispatcher.lane_waits) == 1001
    assert dispatcher.lane_waits[None] == {"rate": 4.0}
    assert dispatcher.lane_waits[7] == {"rate": 2.0}
