"""`Cron` where the clocks on the wall jump."""

from __future__ import annotations

from itertools import pairwise
from math import nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.schedules import Cron
from tests._core.schedules.clocks import AWKWARD, MINUTE, Fields, shown, utc

HOUR = 3600

# What comes after the given UTC time, as the clocks of the zone show it.
TABLE = {
    "gap: once, at the first instant after it": (
        "30 2 * * *", "Europe/Prague", "2026-03-28T00:00",
        ["2026-03-28 02:30:00 +0100", "2026-03-29 03:00:00 +0200", "2026-03-30 02:30:00 +0200"],
    ),
    "gap: once for all that is in it": (
        "*/20 2 * * *", "Europe/Prague", "2026-03-29T00:30",
        ["2026-03-29 03:00:00 +0200", "2026-03-30 02:00:00 +0200", "2026-03-30 02:20:00 +0200"],
    ),
    "gap: once, with what is due at its end": (
        "30 2,3 * * *", "Europe/Prague", "2026-03-29T00:30",
        ["2026-03-29 03:00:00 +0200", "2026-03-29 03:30:00 +0200", "2026-03-30 02:30:00 +0200"],
    ),
    "gap: what is due at its end comes once": (
        "0,30 2,3 * * *", "Europe/Prague", "2026-03-29T00:30",
        ["2026-03-29 03:00:00 +0200", "2026-03-29 03:30:00 +0200", "2026-03-30 02:00:00 +0200"],
    ),
    "gap: six fields": (
        "15 30 2 * * *", "Europe/Prague", "2026-03-28T12:00",
        ["2026-03-29 03:00:00 +0200", "2026-03-30 02:30:15 +0200"],
    ),
    "gap: every other hour": (
        "0 */2 * * *", "Europe/Prague", "2026-03-28T23:30",
        ["2026-03-29 03:00:00 +0200", "2026-03-29 04:00:00 +0200"],
    ),
    "gap: every hour goes on": (
        "30 * * * *", "Europe/Prague", "2026-03-29T00:00",
        ["2026-03-29 01:30:00 +0100", "2026-03-29 03:30:00 +0200", "2026-03-29 04:30:00 +0200"],
    ),
    "gap: every second goes on": (
        "* * * * * *", "Europe/Prague", "2026-03-29T00:59:58",
        ["2026-03-29 01:59:59 +0100", "2026-03-29 03:00:00 +0200", "2026-03-29 03:00:01 +0200"],
    ),
    "overlap: the first time only": (
        "30 2 * * *", "Europe/Prague", "2026-10-24T12:00",
        ["2026-10-25 02:30:00 +0200", "2026-10-26 02:30:00 +0100"],
    ),
    "overlap: asked between both": (
        "30 2 * * *", "Europe/Prague", "2026-10-25T01:15",
        ["2026-10-26 02:30:00 +0100", "2026-10-27 02:30:00 +0100"],
    ),
    "overlap: its end comes once": (
        "0 3 * * *", "Europe/Prague", "2026-10-25T00:59",
        ["2026-10-25 03:00:00 +0100", "2026-10-26 03:00:00 +0100"],
    ),
    "overlap: every hour comes again": (
        "30 * * * *", "Europe/Prague", "2026-10-25T00:00",
        ["2026-10-25 02:30:00 +0200", "2026-10-25 02:30:00 +0100", "2026-10-25 03:30:00 +0100"],
    ),
    "overlap: every second goes on": (
        "* * * * * *", "Europe/Prague", "2026-10-25T00:59:58",
        ["2026-10-25 02:59:59 +0200", "2026-10-25 02:00:00 +0100", "2026-10-25 02:00:01 +0100"],
    ),
    "New York, spring": (
        "30 2 * * SUN", "America/New_York", "2026-03-07T00:00",
        ["2026-03-08 03:00:00 -0400", "2026-03-15 02:30:00 -0400"],
    ),
    "New York, autumn": (
        "30 1 * * *", "America/New_York", "2026-11-01T00:00",
        ["2026-11-01 01:30:00 -0400", "2026-11-02 01:30:00 -0500"],
    ),
    "Lord Howe: half an hour is left out": (
        "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00",
        ["2026-10-04 02:30:00 +1100", "2026-10-05 02:15:00 +1100"],
    ),
    "Lord Howe: half an hour comes again": (
        "45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00",
        ["2026-04-05 01:45:00 +1100", "2026-04-05 01:45:00 +1030", "2026-04-05 02:45:00 +1030"],
    ),
    "Lord Howe: a fixed time comes once": (
        "45 1 * * *", "Australia/Lord_Howe", "2026-04-04T14:00",
        ["2026-04-05 01:45:00 +1100", "2026-04-06 01:45:00 +1030"],
    ),
    "Santiago: a day without midnight": (
        "@daily", "America/Santiago", "2026-09-05T12:00",
        ["2026-09-06 01:00:00 -0300", "2026-09-07 00:00:00 -0300"],
    ),
    "Santiago: an hour before midnight twice": (
        "30 23 * * *", "America/Santiago", "2026-04-04T12:00",
        ["2026-04-04 23:30:00 -0300", "2026-04-05 23:30:00 -0400"],
    ),
    "Santiago: the day after is not begun twice": (
        "0 0 * * *", "America/Santiago", "2026-04-04T12:00",
        ["2026-04-05 00:00:00 -0400", "2026-04-06 00:00:00 -0400"],
    ),
    "Apia: a day that never was": (
        "0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00",
        ["2011-12-31 00:00:00 +1400", "2012-12-30 12:00:00 +1400"],
    ),
    "Apia: noon, and the noon that never was": (
        "0 12 * * *", "Pacific/Apia", "2011-12-29T12:00",
        ["2011-12-29 12:00:00 -1000", "2011-12-31 00:00:00 +1400", "2011-12-31 12:00:00 +1400"],
    ),
    "Apia: every hour": (
        "0 * * * *", "Pacific/Apia", "2011-12-30T08:30",
        ["2011-12-29 23:00:00 -1000", "2011-12-31 00:00:00 +1400", "2011-12-31 01:00:00 +1400"],
    ),
    "Kathmandu: offsets of a quarter": (
        "0 9 * * *", "Asia/Kathmandu", "2026-01-01T00:00",
        ["2026-01-01 09:00:00 +0545", "2026-01-02 09:00:00 +0545"],
    ),
    "Casablanca: back for Ramadan": (
        "30 2 * * *", "Africa/Casablanca", "2026-02-14T12:00",
        ["2026-02-15 02:30:00 +0100", "2026-02-16 02:30:00 +0000"],
    ),
    "Casablanca: forward after Ramadan": (
        "30 2 * * *", "Africa/Casablanca", "2026-03-21T12:00",
        ["2026-03-22 03:00:00 +0100", "2026-03-23 02:30:00 +0100"],
    ),
    "Troll: two hours are left out": (
        "30 1,2 * * *", "Antarctica/Troll", "2026-03-28T12:00",
        ["2026-03-29 03:00:00 +0200", "2026-03-30 01:30:00 +0200"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("expression", "zone", "after", "expected"), TABLE.values(), ids=TABLE)
def test_the_times_around_a_jump_are(expression: str, zone: str, after: str, expected: list[str]):
    times = Cron(expression, tz=zone).next_times(utc(after), len(expected))
    assert shown(zone, *times) == expected


@pytest.mark.parametrize(("zone", "jump"), AWKWARD.values(), ids=AWKWARD)
def test_every_minute_is_every_real_minute(zone: str, jump: str):
    begin = utc(jump) - 30 * HOUR
    times = Cron("* * * * *", tz=zone).next_times(begin, 60 * 60)
    assert times == [begin + MINUTE * number for number in range(1, 60 * 60 + 1)]


@pytest.mark.parametrize(("zone", "jump"), AWKWARD.values(), ids=AWKWARD)
def test_the_first_second_after_a_jump_is_found_from_the_last_before_it(zone: str, jump: str):
    assert Cron("* * * * * *", tz=zone).next_after(utc(jump) - 1) == utc(jump)


def sets(low: int, high: int, most: int) -> st.SearchStrategy[frozenset[int] | None]:
    some = st.frozensets(st.integers(low, high), min_size=1, max_size=most)
    return st.one_of(st.none(), some)


fields = st.builds(
    Fields,
    minutes=sets(0, 59, 4), hours=st.one_of(sets(0, 23, 3), sets(0, 4, 4), st.just(frozenset(range(24)))),
    days=sets(1, 31, 20), months=sets(1, 12, 9),
    weekdays=sets(0, 6, 4),
).filter(lambda each: each.has_dates)  # fmt: skip


@pytest.mark.slow
@given(fields=fields, where=st.sampled_from(sorted(AWKWARD.values())), offset=st.integers(-8 * 60, 8 * 60))
def test_what_is_found_is_what_a_scan_of_every_minute_finds(
    fields: Fields, where: tuple[str, str], offset: int
):
    zone, jump = where
    begin = utc(jump) + offset * MINUTE
    end = begin + 12 * HOUR
    cron = Cron(fields.expression, tz=zone)
    found: list[float] = []
    at = cron.next_after(nextafter(begin, 0.0))
    while at < end:
        found.append(at)
        at = cron.next_after(at)
    assert found == fields.scanned(zone, begin, end)


@given(
    zone=st.sampled_from(sorted({zone for zone, _ in AWKWARD.values()})),
    expression=st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 0 * * *", "15 */5 * * * *", "0 12 29 2 *"]),
    after=st.floats(-62_000_000_000, 250_000_000_000),
)
def test_times_strictly_increase_from_any_time(zone: str, expression: str, after: float):
    times = [after, *Cron(expression, tz=zone).next_times(after, 5)]
    assert len(times) == 6
    assert all(earlier < later for earlier, later in pairwise(times))
    assert all(at == int(at) for at in times[1:])
