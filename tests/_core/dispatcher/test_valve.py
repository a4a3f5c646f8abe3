"""A valve closes until a time and reopens in steps: one job, two, four."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher.account import make_outcome
from qanat._core.dispatcher.valve import FIRST_PAUSE, LONGEST_PAUSE, Valve
from qanat.errors import Throttled
from tests._core.dispatcher.world import add, job, make

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.outcome import State


def started(at: float) -> Job[Any]:
    each = job(add(make()), 0)
    each.started_at = at
    return each


def end(
    valve: Valve, each: Job[Any], now: float, error: BaseException | None = None, state: State = "done"
) -> None:
    valve.give_back(each, make_outcome(each, None, error, state, now, 0.0, 0.0, 1), now)


def closed(until: float, running: int = 4) -> Valve:
    valve = Valve()
    valve.close(started(0.0), until, running, 0.0)
    return valve


def test_it_is_closed_until_its_time():
    valve = closed(3.0)
    assert valve.ready_at(started(0.0), 2.0) == 3.0
    assert valve.ready_at(started(0.0), 3.0) == 3.0


def test_one_may_run_when_its_time_has_come():
    valve = closed(3.0)
    valve.take(started(3.0), 3.0)
    assert valve.ready_at(started(0.0), 3.0) == inf


def test_each_that_ends_makes_room_for_one_more():
    valve, room = closed(3.0, running=8), list[int]()
    running = list[Any]()
    now = 3.0
    for _ in range(3):
        while valve.ready_at(started(0.0), now) <= now:
            running.append(started(now))
            valve.take(running[-1], now)
        room.append(len(running))
        now += 1.0
        while running:
            end(valve, running.pop(), now)
    assert room == [1, 2, 4]


def test_it_is_open_when_more_than_ran_before_could_run():
    valve = closed(3.0, running=2)
    for count in range(2):
        assert not valve.is_open, count
        each = started(3.0)
        valve.take(each, 3.0)
        end(valve, each, 4.0)
    assert valve.is_open


def test_a_job_that_was_throttled_or_cancelled_makes_no_room():
    valve = closed(3.0, running=1)
    for error, state in ((Throttled(), "dead"), (None, "cancelled")):
        each = started(3.0)
        valve.take(each, 3.0)
        end(valve, each, 4.0, error, state)  # type: ignore[arg-type]
    assert not valve.is_open


def test_a_job_that_fails_otherwise_makes_room():
    valve = closed(3.0, running=1)
    each = started(3.0)
    valve.take(each, 3.0)
    end(valve, each, 4.0, OSError(), "dead")
    assert valve.is_open


def test_a_job_from_before_the_pause_makes_no_room():
    valve = closed(3.0, running=1)
    each = started(3.0)
    valve.take(each, 3.0)
    valve.close(started(3.0), 5.0, 1, 4.0)
    end(valve, each, 5.0)
    assert not valve.is_open


def test_an_unknown_pause_doubles_up_to_the_longest():
    valve, now, pauses = Valve(), 0.0, list[float]()
    for _ in range(8):
        valve.close(started(now), None, 1, now)
        pauses.append(valve.closed_until - now)
        now = valve.closed_until
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (1.0, 60.0)


def test_an_unknown_pause_begins_anew_after_a_job_that_did_well():
    valve = Valve()
    valve.close(started(0.0), None, 4, 0.0)
    valve.close(started(1.0), None, 4, 1.0)
    assert valve.closed_until == 3.0
    valve.take(started(3.0), 3.0)
    end(valve, started(3.0), 4.0)
    valve.close(started(4.0), None, 4, 4.0)
    assert valve.closed_until == 5.0


def test_a_stale_answer_without_a_time_lengthens_nothing():
    valve = Valve()
    valve.close(started(0.0), None, 4, 0.5)
    for now in (0.75, 1.0, 1.25):
        valve.close(started(0.25), None, 4, now)
    assert valve.closed_until == 1.5
    valve.close(started(1.5), None, 4, 2.0)
    assert valve.closed_until == 4.0


def test_a_stale_answer_does_not_shut_a_valve_that_has_begun_to_open():
    valve = closed(1.0, running=8)
    each = started(1.0)
    valve.take(each, 1.0)
    end(valve, each, 2.0)
    valve.close(started(-1.0), None, 8, 2.0)
    valve.take(started(2.0), 2.0)
    assert valve.ready_at(started(2.0), 2.0) <= 2.0


def test_a_time_that_the_other_side_named_is_kept_even_by_a_stale_answer():
    """It was told to come then, and no sooner."""
    valve = closed(1.0)
    valve.close(started(-1.0), 9.0, 4, 0.5)
    assert valve.closed_until == 9.5


def test_an_earlier_time_opens_nothing():
    valve = closed(9.0)
    valve.close(started(0.5), 1.0, 4, 1.0)
    assert valve.closed_until == 9.0


def test_a_lane_may_forget_it_a_minute_after_the_pause():
    valve = closed(3.0)
    assert valve.fresh_at(0.0) == 63.0
    valve.take(started(3.0), 3.0)
    assert valve.fresh_at(3.0) == inf


def test_it_is_told_in_words():
    assert str(Valve()) == "Throttled"
    assert Valve.cause == "throttled"
