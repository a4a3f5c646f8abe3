"""`Timetable`: what is due, what was missed, what overlaps, and clocks that are set anew."""

from __future__ import annotations

import random
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.schedules import At, Cron, Every, Schedule, Timetable
from qanat._core.schedules.timetable import COUNTED, newest_times

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
DAILY = Cron("0 2 * * *")
MINUTELY = Cron("* * * * *")


def finish_all(table: Timetable, now: float) -> None:
    while table.running:
        table.finish(now)


# --- plain going ---------------------------------------------------------------------------------


def test_nothing_is_due_before_the_time():
    table = Timetable(Every(10), 0.0)
    assert table.next_at == 10.0
    assert table.due(9.999) == []
    assert table.due(10.0) == [10.0]
    assert (table.next_at, table.runs, table.skipped, table.running) == (20.0, 1, 0, 1)


def test_a_time_is_handed_out_once():
    table = Timetable(Every(10), 0.0)
    assert table.due(10.0) == [10.0]
    table.finish(10.0)
    assert table.due(10.0) == []
    assert table.last == 10.0


def test_the_rate_does_not_drift_with_those_who_ask_late():
    table = Timetable(Every(10), 0.0)
    for now, time in ((10.5, 10.0), (20.7, 20.0), (31.0, 30.0)):
        assert table.due(now) == [time]
        table.finish(now)


def test_a_fixed_delay_counts_from_the_end_of_the_run():
    table = Timetable(Every(10, fixed="delay"), 0.0)
    assert table.due(10.0) == [10.0]
    assert table.next_at == inf
    assert not table.ended
    table.finish(17.0)
    assert table.next_at == 27.0


def test_at_is_over_after_its_run():
    table = Timetable(At(100), 0.0)
    assert table.due(100.0) == [100.0]
    assert not table.ended
    table.finish(101.0)
    assert table.ended
    assert table.next_at == inf


def test_a_schedule_is_over_at_its_end():
    table = Timetable(Every(10, end=25), 0.0)
    table.due(10.0)
    table.finish(10.0)
    table.due(20.0)
    table.finish(20.0)
    assert table.ended


def test_stopped_it_hands_out_nothing_more():
    table = Timetable(Every(10, fixed="delay"), 0.0)
    table.due(10.0)
    table.stop()
    table.finish(11.0)
    assert table.ended
    assert table.due(1000.0) == []


def test_stopped_it_forgets_what_it_owes():
    table = Timetable(Every(10, overlap="queue"), 0.0)
    for now in (10.0, 20.0, 30.0):
        table.due(now)
    table.stop()
    table.finish(31.0)
    assert table.ended


def test_jitter_comes_from_the_source_and_does_not_add_up():
    table = Timetable(Every(10, jitter=4), 0.0, rng=random.Random(7))
    rng = random.Random(7)
    for time in (10.0, 20.0, 30.0):
        due = time + 4.0 * rng.random()
        assert table.next_at == due
        assert table.due(due - 0.001) == []
        assert table.due(due) == [time]
        table.finish(due)


def test_without_a_source_there_is_no_jitter():
    assert Timetable(Every(10, jitter=4), 0.0).next_at == 10.0


def test_a_run_that_could_not_start_counts_as_skipped():
    table = Timetable(Every(10, fixed="delay"), 0.0)
    table.due(10.0)
    table.refuse(10.0)
    assert (table.runs, table.skipped, table.running, table.next_at) == (0, 1, 0, 20.0)


# --- missed --------------------------------------------------------------------------------------


def test_a_time_that_is_a_minute_late_is_not_missed_yet():
    assert Timetable(DAILY, 0.0).due(2 * HOUR + MINUTE) == [2 * HOUR]
    late = Timetable(DAILY, 0.0)
    assert late.due(2 * HOUR + MINUTE + 0.001) == []
    assert (late.runs, late.skipped, late.next_at) == (0, 1, 26 * HOUR)


@pytest.mark.parametrize(
    ("missed", "runs", "skipped"),
    [("skip", [], 3), ("once", [50 * HOUR], 2), ("all", [2 * HOUR, 26 * HOUR, 50 * HOUR], 0)],
)  # fmt: skip
def test_missed_times_are_left_out_or_made_up_once_or_all(missed: str, runs: list[float], skipped: int):
    table = Timetable(Cron("0 2 * * *", missed=missed, overlap="allow"), 0.0)  # type: ignore[arg-type]
    assert table.due(60 * HOUR) == runs
    assert (table.runs, table.skipped, table.last) == (len(runs), skipped, 50 * HOUR)
    assert table.next_at == 74 * HOUR


def test_skip_runs_the_newest_if_that_is_not_missed():
    table = Timetable(Every(10), 0.0)
    assert table.due(3605.0) == [3600.0]
    assert table.skipped == 359


def test_all_makes_up_the_newest_if_there_are_more_than_most():
    table = Timetable(Every(10, missed="all", most=3, overlap="allow"), 0.0)
    assert table.due(3605.0) == [3580.0, 3590.0, 3600.0]
    assert table.skipped == 357


def test_what_is_made_up_runs_one_after_the_other():
    table = Timetable(Every(10, missed="all", most=3), 0.0)
    assert table.due(1005.0) == [980.0]
    assert table.due(1006.0) == []
    table.finish(1007.0)
    assert table.next_at <= 1007.0
    assert table.due(1007.0) == [990.0]
    assert table.due(1010.0) == []  # due while a run goes on, so it is left out
    table.finish(1012.0)
    assert table.due(1012.0) == [1000.0]
    table.finish(1013.0)
    assert table.next_at == 1020.0
    assert (table.runs, table.skipped) == (3, 98)


def test_a_time_that_comes_between_two_runs_made_up_holds_up_neither():
    table = Timetable(Every(10, missed="all", most=2), 0.0)
    assert table.due(35.0) == [20.0]
    table.finish(40.0)
    assert table.due(40.0) == [30.0]
    assert table.skipped == 2  # 10 and 40


def test_a_fixed_delay_that_is_missed_begins_anew():
    table = Timetable(Every(10, fixed="delay"), 0.0)
    assert table.due(100.0) == []
    assert (table.skipped, table.next_at) == (1, 110.0)
    once = Timetable(Every(10, fixed="delay", missed="once"), 0.0)
    assert once.due(100.0) == [10.0]


def test_at_in_the_past_is_made_up_at_once_unless_it_is_to_be_skipped():
    assert Timetable(At(100), 5000.0).due(5000.0) == [100.0]
    skipping = Timetable(At(100, missed="skip"), 5000.0)
    assert skipping.due(5000.0) == []
    assert skipping.ended
    assert skipping.skipped == 1
    assert Timetable(At(100, missed="skip"), 130.0).due(130.0) == [100.0]


def test_it_goes_on_from_the_last_time_after_down_time():
    table = Timetable(Cron("0 * * * *", missed="all"), 10 * HOUR, since=6 * HOUR)
    assert table.due(10 * HOUR) == [7 * HOUR]
    finish_all(table, 10 * HOUR)
    assert table.due(10 * HOUR) == [8 * HOUR]
    every = Timetable(Every(7, missed="once"), 100.0, since=50.0)
    assert every.due(100.0) == [99.0]
    assert every.next_at == 106.0


@pytest.mark.parametrize("missed", ["skip", "once", "all"])
@pytest.mark.parametrize(
    "schedule", ["* * * * *", "* * * 1 1 *", "0 0 29 2 *", "*/20 * * * * *"]
)  # fmt: skip
def test_half_a_century_is_caught_up_with_at_once(schedule: str, missed: str):
    table = Timetable(Cron(schedule, missed=missed, overlap="allow", most=5), 0.0)  # type: ignore[arg-type]
    now = 50 * 365 * DAY + 0.5
    runs = table.due(now)
    assert len(runs) == {"skip": bool(runs), "once": 1, "all": 5}[missed]
    assert runs == sorted(runs)
    assert table.next_at > now
    if runs:
        assert Cron(schedule).next_after(runs[-1]) == table.next_at


def test_very_many_missed_times_are_not_all_counted():
    table = Timetable(MINUTELY, 0.0)
    assert table.due(10 * DAY + 1) == [10 * DAY]
    assert COUNTED <= table.skipped <= COUNTED + 1


def test_jitter_of_what_may_still_be_ahead_is_drawn():
    table = Timetable(Every(10, jitter=10), 0.0, rng=random.Random(1))
    runs = table.due(100_000.0)
    assert runs[0] in {99_980.0, 99_990.0, 100_000.0}
    assert table.next_at > 100_000.0


@given(
    seconds=st.floats(0.01, 500.0), days=st.floats(0.0, 30.0), keep=st.integers(1, 40),
)  # fmt: skip
def test_the_newest_times_are_those_that_going_through_all_would_give(seconds: float, days: float, keep: int):
    begin, upto = 1_000_000.0, 1_000_000.0 + min(days * DAY, 500 * seconds)
    every = Every(seconds, start=begin)
    times = [at for at in every.next_times(begin, 501) if at <= upto]
    assert newest_times(every, begin, begin, upto, keep) == times[-keep:]


# --- overlapping ---------------------------------------------------------------------------------


def test_overlapping_times_are_left_out():
    table = Timetable(Every(10), 0.0)
    assert [table.due(now) for now in (10.0, 20.0, 30.0)] == [[10.0], [], []]
    table.finish(35.0)
    assert table.due(40.0) == [40.0]
    assert (table.runs, table.skipped) == (2, 2)


def test_overlapping_times_are_queued():
    table = Timetable(Every(10, overlap="queue"), 0.0)
    assert [table.due(now) for now in (10.0, 20.0, 30.0)] == [[10.0], [], []]
    assert table.next_at == 40.0  # until a run ends there is nothing to start
    table.finish(35.0)
    assert table.next_at <= 35.0
    assert table.due(35.0) == [20.0]
    table.finish(36.0)
    assert table.due(36.0) == [30.0]
    assert (table.runs, table.skipped) == (3, 0)


def test_no_more_than_most_are_queued():
    table = Timetable(Every(10, overlap="queue", most=2), 0.0)
    for number in range(1, 6):
        table.due(10.0 * number)
    assert table.skipped == 2
    table.finish(55.0)
    assert table.due(55.0) == [20.0]


def test_overlapping_times_are_allowed():
    table = Timetable(Every(10, overlap="allow"), 0.0)
    assert [table.due(now) for now in (10.0, 20.0)] == [[10.0], [20.0]]
    assert table.running == 2


# --- clocks that are set -------------------------------------------------------------------------


def test_a_clock_set_forward_an_hour_is_an_hour_missed():
    table = Timetable(DAILY, 1.5 * HOUR)
    assert table.due(2.5 * HOUR) == []
    assert table.next_at == 26 * HOUR


def test_a_clock_set_back_an_hour_does_not_bring_a_fixed_time_again():
    table = Timetable(DAILY, 0.0)
    assert table.due(2 * HOUR) == [2 * HOUR]
    table.finish(2 * HOUR)
    assert table.due(1 * HOUR) == []
    assert table.next_at == 26 * HOUR
    assert table.due(2 * HOUR) == []


def test_a_clock_set_back_an_hour_does_not_silence_what_runs_every_minute():
    table = Timetable(MINUTELY, 0.0)
    now = 2 * HOUR
    table.due(now)
    finish_all(table, now)
    table.due(now - HOUR)
    assert table.next_at == now - HOUR + MINUTE


def test_a_clock_set_back_a_little_does_not_run_a_minute_twice():
    table = Timetable(MINUTELY, 0.0)
    assert table.due(60.002) == [60.0]
    table.finish(60.002)
    assert table.due(59.99) == []
    assert table.due(60.0) == []
    assert table.due(120.0) == [120.0]


def test_intervals_count_what_has_passed_whatever_the_clock_says():
    table = Timetable(Every(10), 1000.0)
    table.due(1010.0)
    finish_all(table, 1010.0)
    table.due(1013.0)
    table.due(513.0)  # set back by 500: 3 of 10 seconds have passed
    assert table.next_at == 520.0
    assert table.due(520.0) == [520.0]
    delay = Timetable(Every(10, fixed="delay"), 1000.0)
    delay.due(1004.0)
    delay.due(4.0)
    assert delay.next_at == 10.0
    assert delay.due(10.0) == [10.0]
    assert delay.due(5.0) == []  # while it runs there is nothing to move
    assert delay.next_at == inf


def test_who_knows_how_far_the_clock_was_set_back_may_say_so():
    table = Timetable(Every(10), 1000.0)
    table.saw(1009.0)
    table.saw(1003.0)
    table.due(509.0)
    assert table.next_at == 510.0


def test_a_start_stays_where_it_is():
    table = Timetable(Every(10, fixed="delay", start=2000), 1000.0)
    table.due(1500.0)
    table.due(500.0)
    assert table.next_at == 2000.0
    grid = Timetable(Every(10, start=0), 1003.0)
    grid.due(703.0)
    assert grid.next_at == 710.0


def test_a_clock_that_was_years_ahead_is_put_right():
    table = Timetable(DAILY, 100 * 365 * DAY)
    assert table.next_at > 99 * 365 * DAY
    table.due(50 * 365 * DAY)
    assert table.next_at == 50 * 365 * DAY + 2 * HOUR


def test_a_time_that_came_does_not_come_again_however_far_the_clock_goes_back():
    table = Timetable(At(100 * DAY), 0.0)
    table.due(100 * DAY)
    table.finish(100 * DAY)
    assert table.due(0.0) == []
    assert table.ended


# --- whatever happens ----------------------------------------------------------------------------

schedules: st.SearchStrategy[Schedule] = st.one_of(
    st.builds(
        Every, st.floats(1.0, 500.0), jitter=st.sampled_from([0, 0.5, 1.0]),
        missed=st.sampled_from(["skip", "once", "all"]), most=st.integers(1, 5),
        overlap=st.sampled_from(["skip", "queue", "allow"]), start=st.sampled_from([None, 0, 1e6]),
    ),
    st.builds(Every, st.floats(1.0, 500.0), fixed=st.just("delay"), missed=st.sampled_from(["skip", "once"])),
    st.builds(
        Cron, st.sampled_from(["* * * * *", "*/7 3 * * *", "0 2 * * *", "*/20 * * * * *"]),
        missed=st.sampled_from(["skip", "once", "all"]), most=st.integers(1, 5),
        overlap=st.sampled_from(["skip", "queue", "allow"]), tz=st.sampled_from(["UTC", "Europe/Prague"]),
    ),
    st.builds(At, st.floats(0, 2e6), missed=st.sampled_from(["skip", "once", "all"])),
)  # fmt: skip
steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0.0, 200.0)),
        st.tuples(st.just("sleep"), st.floats(0.0, 200_000.0)),
        st.tuples(st.just("back"), st.floats(0.0, 30_000.0)),
        st.tuples(st.just("finish"), st.just(0.0)),
        st.tuples(st.just("refuse"), st.just(0.0)),
    ),
    max_size=40,
)


@given(schedule=schedules, steps=steps, seed=st.integers(0, 5))
def test_whatever_a_clock_does_times_are_handed_out_when_they_have_come_and_within_bounds(
    schedule: Schedule, steps: list[tuple[str, float]], seed: int
):
    now = 1_000_000.0
    table = Timetable(schedule, now, rng=random.Random(seed))
    handed, latest = 0, now
    for kind, seconds in steps:
        if kind in {"finish", "refuse"} and table.running:
            handed -= kind == "refuse"
            (table.finish if kind == "finish" else table.refuse)(now)
        now += -seconds if kind == "back" else seconds
        runs = table.due(now)
        handed += len(runs)
        latest = max(latest, now)
        assert all(at <= latest for at in runs)
        assert runs == sorted(runs)
        assert len(runs) <= (schedule.most if schedule.overlap == "allow" else 1)
        assert schedule.overlap == "allow" or table.running <= 1
        assert table.runs == handed
        assert table.skipped >= 0
        # What it waits for is ahead, and what could be started was.
        assert table.next_at > now
        assert not table.ended or table.next_at == inf
