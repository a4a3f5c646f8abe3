"""`At`, `Every`, and what all schedules share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.schedules import At, Cron, Every, Schedule
from qanat._core.schedules.schedule import checked_schedule

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=1)))


# --- At ------------------------------------------------------------------------------------------


def test_at_comes_once():
    assert At(100).next_times(0, 5) == [100.0]
    assert At(100).next_after(100) == inf


def test_at_takes_a_datetime_with_a_zone():
    assert At(NOON).next_after(0) == NOON.timestamp() == 1767265200.0
    assert At(NOON) == At(1767265200)


def test_at_outside_of_start_and_end_is_refused():
    with pytest.raises(ValueError, match="when must be between start and end, or it never comes, got 100"):
        At(100, start=101)
    with pytest.raises(ValueError, match="when must be between start and end"):
        At(100, end=100)
    assert At(100, start=100, end=101).next_after(0) == 100.0


@pytest.mark.parametrize("name", ["when", "start", "end"])
@pytest.mark.parametrize(
    ("value", "problem", "message"),
    [
        (nan, ValueError, "must be a finite number, got nan"),
        (inf, ValueError, "must be a finite number, got inf"),
        (True, TypeError, "must be a number, got True"),
        (1_767_225_600_000, ValueError, "must be between the years 1 and 10000, .* not milliseconds"),
        (datetime(2026, 1, 1), ValueError, "must have a time zone, got datetime.*astimezone"),  # noqa: DTZ001
        ("2026-01-01", TypeError, "must be UTC seconds or a datetime .*datetime.fromisoformat"),
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(name: str, value: object, problem: type[Exception], message: str):
    arguments = {"when": 100, name: value}
    with pytest.raises(problem, match=f"^{name} {message}"):
        At(**arguments)  # type: ignore[arg-type]


# --- Every ---------------------------------------------------------------------------------------


def test_every_without_a_start_counts_from_where_it_is_asked():
    assert Every(10).next_times(3, 3) == [13.0, 23.0, 33.0]


def test_every_with_a_start_keeps_to_its_grid():
    every = Every(10, start=100)
    assert every.next_times(3, 3) == [100.0, 110.0, 120.0]
    assert every.next_after(109.5) == 110.0
    assert every.next_after(110) == 120.0


def test_every_does_not_drift():
    at = Every(0.1, start=1000).next_times(0, 1001)[-1]
    assert at == 1000 + 1000 * 0.1


def test_a_fixed_delay_counts_from_where_it_is_asked():
    every = Every(10, fixed="delay", start=100)
    assert every.next_times(3, 3) == [100.0, 110.0, 120.0]
    assert every.next_after(105) == 115.0


@given(
    seconds=st.floats(0.001, 1e7), start=st.one_of(st.none(), st.floats(-1e9, 3e9)),
    after=st.floats(-1e9, 3e9),
)  # fmt: skip
def test_every_names_the_first_time_of_its_grid_that_is_later(
    seconds: float, start: float | None, after: float
):
    every = Every(seconds, start=start)
    at = every.next_after(after)
    assert at > after
    if start is not None:
        number = round((at - start) / seconds)
        assert at == start + number * seconds
        assert number == 0 or start + (number - 1) * seconds <= after


@pytest.mark.parametrize(
    ("arguments", "problem", "message"),
    [
        ({"seconds": 0}, ValueError, "seconds must be at least 0.001, got 0"),
        ({"seconds": nan}, ValueError, "seconds must be a finite number, got nan"),
        ({"seconds": "5m"}, TypeError, "seconds must be a number, got '5m'"),
        ({"seconds": 1, "fixed": "gap"}, ValueError, 'fixed must be "rate" or "delay", got \'gap\''),
        ({"seconds": 1, "jitter": -1}, ValueError, "jitter must be at least 0, got -1"),
        ({"seconds": 1, "jitter": 2}, ValueError, "jitter must be at most seconds, which is 1, got 2"),
        ({"seconds": 1, "missed": "never"}, ValueError, 'missed must be "skip" or "once" or "all"'),
        ({"seconds": 1, "overlap": True}, TypeError, 'overlap must be "skip" or "queue" or "allow"'),
        ({"seconds": 1, "most": 0}, ValueError, "most must be at least 1, got 0"),
        ({"seconds": 1, "start": 5, "end": 5}, ValueError, "end must be after start, got 5 and 5"),
        ({"seconds": 1, "fixed": "delay", "overlap": "queue"}, ValueError, 'overlap must be "skip" with fixed="delay"'),
        ({"seconds": 1, "fixed": "delay", "missed": "all"}, ValueError, 'missed must be "skip" or "once" with fixed="delay"'),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_refused_by_its_name(
    arguments: dict[str, object], problem: type[Exception], message: str
):
    with pytest.raises(problem, match=f"^{message}"):
        Every(**arguments)  # type: ignore[arg-type]


# --- all -----------------------------------------------------------------------------------------

ALL: list[Schedule] = [At(100), Every(10), Cron("* * * * *")]


@pytest.mark.parametrize("schedule", ALL, ids=lambda each: type(each).__name__)
def test_a_question_about_no_time_is_refused(schedule: Schedule):
    with pytest.raises(ValueError, match="^timestamp must be a finite number, got nan"):
        schedule.next_after(nan)
    with pytest.raises(TypeError, match="^timestamp must be a number, got None"):
        schedule.next_after(None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^n must be at least 1, got 0"):
        schedule.next_times(0, 0)


def test_start_is_the_first_time_allowed_and_end_the_first_that_is_not():
    assert Cron("* * * * *", start=120, end=240).next_times(0, 9) == [120.0, 180.0]
    assert Every(10, start=120, end=140).next_times(0, 9) == [120.0, 130.0]
    assert Every(10, end=25).next_times(0, 9) == [10.0, 20.0]
    assert Cron("* * * * *", end=60).next_after(60) == inf


def test_bounds_may_be_datetimes():
    assert Every(10, start=NOON, end=NOON + timedelta(seconds=15)).next_times(0, 9) == [
        1767265200.0, 1767265210.0,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (At(0.5), "once, at 1970-01-01 00:00:00.500000 UTC"),
        (At(datetime(2026, 1, 1, tzinfo=UTC), missed="skip"), "once, at 2026-01-01 00:00:00 UTC, missed times left out"),
        (Every(90), "every 90s"),
        (Every(3600, jitter=60, overlap="allow"), "every 1h, up to 1m later, runs may overlap"),
        (Every(60, fixed="delay", missed="once"), "1m after each run, missed times made up by one run"),
        (Every(60, start=0, end=86400, missed="all", most=5),
         "every 1m, from 1970-01-01 00:00:00 UTC, before 1970-01-02 00:00:00 UTC, up to 5 missed times made up"),
    ],
)  # fmt: skip
def test_it_says_in_words_when_it_comes(schedule: Schedule, words: str):
    assert str(schedule) == words


def test_what_is_no_schedule_is_refused_with_what_to_write():
    assert checked_schedule("schedule", ALL[0]) is ALL[0]
    with pytest.raises(TypeError, match=r"schedule must be an At, Every or Cron, got 5$"):
        checked_schedule("schedule", 5)
    with pytest.raises(TypeError, match=r"got '@daily': write Cron\('@daily'\)"):
        checked_schedule("schedule", "@daily")


def test_a_kind_of_schedule_has_to_say_what_follows():
    with pytest.raises(NotImplementedError):
        Schedule().next_after(0)
