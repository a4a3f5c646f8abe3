"""`Cron`: what an expression means, and which are refused."""

from __future__ import annotations

import pickle
from datetime import datetime
from math import inf
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.schedules import Cron
from tests._core.schedules.clocks import utc


def dates(expression: str, after: str, n: int) -> list[str]:
    times = Cron(expression).next_times(utc(after), n)
    return [f"{datetime.fromtimestamp(at, ZoneInfo('UTC')):%Y-%m-%d %H:%M:%S}" for at in times]


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("*/15 * * * *", "2026-01-01T00:00", ["2026-01-01 00:15:00", "2026-01-01 00:30:00"]),
        ("*/20 * * * * *", "2026-01-01T00:00", ["2026-01-01 00:00:20", "2026-01-01 00:00:40"]),
        ("5 0 9 * * *", "2026-01-01T09:00", ["2026-01-01 09:00:05", "2026-01-02 09:00:05"]),
        ("0 0 31 * *", "2026-01-31T12:00", ["2026-03-31 00:00:00", "2026-05-31 00:00:00"]),
        ("0 0 30 * *", "2026-01-30T12:00", ["2026-03-30 00:00:00", "2026-04-30 00:00:00"]),
        ("0 0 29 2 *", "2026-01-01T00:00", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"]),
        ("0 0 29 2 *", "2096-03-01T00:00", ["2104-02-29 00:00:00"]),
        ("0 0 L * *", "2028-01-31T12:00", ["2028-02-29 00:00:00", "2028-03-31 00:00:00"]),
        ("0 0 LW * *", "2026-05-01T00:00", ["2026-05-29 00:00:00", "2026-06-30 00:00:00"]),
        ("0 0 * * 5L", "2026-01-01T00:00", ["2026-01-30 00:00:00", "2026-02-27 00:00:00"]),
        ("0 0 * * FRI#2", "2026-01-01T00:00", ["2026-01-09 00:00:00", "2026-02-13 00:00:00"]),
        ("0 0 * * 7", "2026-01-01T00:00", ["2026-01-04 00:00:00", "2026-01-11 00:00:00"]),
        ("0 0 * * sat-sun", "2026-01-01T00:00", ["2026-01-03 00:00:00", "2026-01-04 00:00:00"]),
        ("0 0 1 jan,JUL *", "2026-01-01T00:00", ["2026-07-01 00:00:00", "2027-01-01 00:00:00"]),
        # Either of both days will do ...
        ("0 0 13 * FRI", "2026-02-07T00:00", ["2026-02-13 00:00:00", "2026-02-20 00:00:00"]),
        ("0 0 31 4 MON", "2026-04-01T00:00", ["2026-04-06 00:00:00", "2026-04-13 00:00:00"]),
        # ... but for one that begins with a star, which has to match as well.
        ("0 0 */2 * MON", "2026-01-01T00:00", ["2026-01-05 00:00:00", "2026-01-19 00:00:00"]),
        ("59 23 31 12 *", "2026-12-31T23:59", ["2027-12-31 23:59:00"]),
        ("@yearly", "2026-01-01T00:00", ["2027-01-01 00:00:00"]),
        ("@annually", "2026-01-01T00:00", ["2027-01-01 00:00:00"]),
        ("@monthly", "2026-01-01T00:00", ["2026-02-01 00:00:00"]),
        ("@weekly", "2026-01-01T00:00", ["2026-01-04 00:00:00"]),
        ("@Daily", "2026-01-01T00:00", ["2026-01-02 00:00:00"]),
        ("@midnight", "2026-01-01T00:00", ["2026-01-02 00:00:00"]),
        ("  @hourly ", "2026-01-01T00:00", ["2026-01-01 01:00:00"]),
        ("\t0  1 * *\n*", "2026-01-01T00:00", ["2026-01-01 01:00:00"]),
    ],
)
def test_an_expression_names_these_times(expression: str, after: str, expected: list[str]):
    assert dates(expression, after, len(expected)) == expected


def test_a_part_of_a_second_is_before_the_next_second():
    assert Cron("* * * * * *").next_after(99.5) == 100.0
    assert Cron("* * * * * *").next_after(-0.5) == 0.0


def test_asked_at_one_of_its_times_it_gives_the_next():
    assert Cron("* * * * *").next_after(60) == 120.0


numbers = st.lists(st.integers(0, 23), min_size=1, max_size=3).map(lambda hours: ",".join(map(str, hours)))


@given(
    minute=st.sampled_from(["*", "*/7", "0", "5-20/3", "1,59"]),
    hour=st.one_of(st.sampled_from(["*", "*/5", "3-9"]), numbers),
    day=st.sampled_from(["*", "*/3", "31", "L", "LW", "1,15", "28-30"]),
    month=st.sampled_from(["*", "*/2", "1-3", "MAY,DEC"]),
    weekday=st.sampled_from(["*", "*/2", "MON-FRI", "5L", "0#1", "6,7"]),
    after=st.integers(0, 4_000_000_000),
)
def test_in_utc_it_is_what_cronsim_says(
    minute: str, hour: str, day: str, month: str, weekday: str, after: int
):
    expression = f"{minute} {hour} {day} {month} {weekday}"
    begin = datetime.fromtimestamp(after, ZoneInfo("UTC")).replace(tzinfo=None)
    expected = next(CronSim(expression, begin)).replace(tzinfo=ZoneInfo("UTC")).timestamp()
    cron = Cron(expression)
    assert cron.next_after(after) == expected
    assert str(cron)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("60 * * * *", "expression has a wrong minute field, got '60' in '60 \\* \\* \\* \\*': expected 0 to 59"),
        ("x * * * * *", "expression has a wrong second field, got 'X'"),
        ("* 24 * * *", "wrong hour field, got '24'"),
        ("* * 0 * *", "wrong day-of-month field, got '0'"),
        ("* * * 13 *", "wrong month field, got '13' .*: expected 1 to 12 or JAN to DEC"),
        ("* * * * MOON", "wrong day-of-week field, got 'MOON' .*: expected 0 to 7 or SUN to SAT"),
        ("*/0 * * * *", "wrong minute field.* a step is at least 1$"),
        ("* * ? * *", "wrong day-of-month field.* write \\* for \\?$"),
        ("0 22-2 * * *", "wrong hour field.* if 22-2 is to go round the end, write it as a list$"),
        ("0 9- * * *", "wrong hour field, got '9-'.*\\(\\*/2\\)$"),
        ("", "must have five fields .* or six .*, got 0 in ''"),
        ("* * * *", "must have five fields .* or six .*, got 4"),
        ("* * * * * * *", "must have five fields .* or six .*, got 7"),
        ("@every 5m", "must be one of @yearly, .*, got '@every 5m': use Every\\(seconds\\)"),
        ("@reboot", "got '@reboot': run that when the program starts"),
        ("@noon", "must be one of @yearly, .*, got '@noon'$"),
        ("1" * 501 + " * * * *", "expression must be at most 500 characters long, got 509"),
        ("0 0 30 2 *", "expression must come at some time, got '0 0 30 2 \\*': no date .*L is the last day"),
        ("0 0 31 4,6,9,11 *", "must come at some time"),
        ("0 0 LW * */7", "must come at some time"),
    ],
)  # fmt: skip
def test_a_wrong_expression_is_refused_with_the_field_and_the_remedy(expression: str, message: str):
    with pytest.raises(ValueError, match=message):
        Cron(expression)


@pytest.mark.parametrize("expression", [None, 5, b"* * * * *", ["*"]])
def test_an_expression_is_a_text(expression: object):
    with pytest.raises(TypeError, match="expression must be a text such as"):
        Cron(expression)  # type: ignore[arg-type]


@given(st.text(alphabet="0123456789*/-,#LW?@ abMONJAF²\x00", max_size=30))
def test_whatever_is_written_is_a_schedule_or_refused(expression: str):
    try:
        cron = Cron(expression)
    except ValueError as error:
        problem = str(error)
        assert problem.startswith("expression ")
    else:
        assert 0 < cron.next_after(0) < inf
        assert str(cron).endswith(", UTC")


@pytest.mark.parametrize(
    ("tz", "hint"),
    [
        ("Prague", ": did you mean 'Europe/Prague'$"),
        ("europe/prag", ": did you mean 'Europe/Prague'$"),
        ("new york", ": did you mean 'America/New_York'$"),
        ("Nowhere/At/All", "got 'Nowhere/At/All'$"),
        ("", "got ''"), ("Europe", "got 'Europe'"), ("/etc/passwd", "got '/etc/passwd'"),
        ("../UTC", "got '../UTC'"), ("\ud800", "got "), ("U\0TC", "got "),
    ],
)  # fmt: skip
def test_a_zone_that_does_not_exist_is_refused(tz: str, hint: str):
    with pytest.raises(ValueError, match=f"tz must be the name of a time zone .*{hint}"):
        Cron("* * * * *", tz=tz)


def test_a_machine_without_zones_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("qanat._core.schedules.zones.available_timezones", set)
    with pytest.raises(ValueError, match="this machine knows none: install the package tzdata"):
        Cron("* * * * *", tz="Prague")


def test_a_zone_is_a_name():
    with pytest.raises(TypeError, match="tz must be the name of a time zone .* got 2"):
        Cron("* * * * *", tz=2)  # type: ignore[arg-type]


def test_a_zone_itself_will_do():
    cron = Cron("* * * * *", tz=ZoneInfo("Europe/Prague"))  # type: ignore[arg-type]
    assert cron == Cron("* * * * *", tz="Europe/Prague")


def test_an_expression_that_never_comes_between_start_and_end_is_refused():
    with pytest.raises(ValueError, match="expression must come between start and end, got '0 0 1 1"):
        Cron("0 0 1 1 *", start=utc("2026-02-01"), end=utc("2026-12-31"))


# --- as a value ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        (Cron("*/5 * * * *"), "every fifth minute of every hour, UTC"),
        (Cron("0 0 * * 7,0"), "at 00:00 on Sunday, UTC"),
        (Cron("0 0 * * 1,7,0,SUN"), "at 00:00 on Monday and Sunday, UTC"),
        (Cron("30 2 * * *", tz="Europe/Prague"), "at 02:30 every day, Europe/Prague"),
        (Cron("0 0 31 * *"), "at 00:00 on the 31st day of every month, UTC"),
        (Cron("0 0 22 * *"), "at 00:00 on the 22nd day of every month, UTC"),
        (Cron("0 0 1 1 *", missed="once", overlap="queue"),
         "at 00:00 on January 1, UTC, missed times made up by one run, runs wait for the one before"),
    ],
)  # fmt: skip
def test_it_says_in_words_when_it_comes(cron: Cron, words: str):
    assert str(cron) == words


def test_it_is_a_value():
    cron = Cron("30 2 * * *", tz="Europe/Prague")
    assert cron == Cron("30 2 * * *", tz="Europe/Prague") != Cron("30 2 * * *")
    assert len({cron, Cron("30 2 * * *", tz="Europe/Prague")}) == 1
    copied = pickle.loads(pickle.dumps(cron))  # noqa: S301 - our own bytes
    assert copied == cron
    assert copied.next_after(0) == cron.next_after(0)


def test_after_the_last_year_there_is_nothing():
    assert Cron("* * * * *").next_after(300_000_000_000) == inf
    assert Cron("0 0 1 1 *").next_after(253_402_000_000) == inf


def test_before_the_first_year_it_begins_with_the_first():
    assert Cron("0 0 1 1 *", tz="America/New_York").next_after(-1e18) == pytest.approx(-62e9, rel=0.01)
