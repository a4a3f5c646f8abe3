"""What the clocks on the wall show, found the slow way: minute by minute."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = 60

AWKWARD = {
    "Prague, spring": ("Europe/Prague", "2026-03-29T01:00"),
    "Prague, autumn": ("Europe/Prague", "2026-10-25T01:00"),
    "New York, spring": ("America/New_York", "2026-03-08T07:00"),
    "New York, autumn": ("America/New_York", "2026-11-01T06:00"),
    "Lord Howe, half an hour forward": ("Australia/Lord_Howe", "2026-10-03T15:30"),
    "Lord Howe, half an hour back": ("Australia/Lord_Howe", "2026-04-04T15:00"),
    "Santiago, no midnight": ("America/Santiago", "2026-09-06T04:00"),
    "Santiago, midnight again": ("America/Santiago", "2026-04-05T03:00"),
    "Apia, a day left out": ("Pacific/Apia", "2011-12-30T10:00"),
    "Kwajalein, a day left out": ("Pacific/Kwajalein", "1993-08-21T12:00"),
    "Kathmandu, a quarter of an hour once": ("Asia/Kathmandu", "1985-12-31T18:30"),
    "Casablanca, before Ramadan": ("Africa/Casablanca", "2026-02-15T02:00"),
    "Casablanca, after Ramadan": ("Africa/Casablanca", "2026-03-22T02:00"),
    "Dublin, summer is the standard": ("Europe/Dublin", "2026-10-25T01:00"),
    "Troll, two hours": ("Antarctica/Troll", "2026-03-29T01:00"),
    "Pyongyang, half an hour for good": ("Asia/Pyongyang", "2018-05-04T15:00"),
    "Caracas, half an hour back for good": ("America/Caracas", "2007-12-09T07:00"),
    "Kolkata, nothing at all": ("Asia/Kolkata", "2026-03-29T01:00"),
}
"""Where clocks jump, and when, in UTC."""


def utc(text: str) -> float:
    """Return the UTC seconds of a time that is written in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def shown(zone: str, *times: float) -> list[str]:
    """Return what a clock shows at these times, with the offset that tells equal ones apart."""
    return [f"{datetime.fromtimestamp(at, ZoneInfo(zone)):%Y-%m-%d %H:%M:%S %z}" for at in times]


@dataclass(frozen=True)
class Fields:
    """The minutes, hours, days, months and weekdays (0 is Sunday) of a schedule; None is all."""

    minutes: frozenset[int] | None = None
    hours: frozenset[int] | None = None
    days: frozenset[int] | None = None
    months: frozenset[int] | None = None
    weekdays: frozenset[int] | None = None

    @property
    def expression(self) -> str:
        """Write them for cron."""
        fields = (self.minutes, self.hours, self.days, self.months, self.weekdays)
        return " ".join("*" if each is None else ",".join(map(str, sorted(each))) for each in fields)

    @property
    def has_dates(self) -> bool:
        """Tell whether one of the months has one of the days for certain."""
        return not self.days or not self.months or min(self.days) < 30 or 1 in self.months

    def match(self, wall: datetime) -> bool:
        """Tell whether a wall time, of a whole minute, is one of them."""
        day = self.days is None or wall.day in self.days
        weekday = self.weekdays is None or wall.isoweekday() % 7 in self.weekdays
        either = self.days is not None and self.weekdays is not None
        return (
            (self.minutes is None or wall.minute in self.minutes)
            and (self.hours is None or wall.hour in self.hours)
            and (self.months is None or wall.month in self.months)
            and ((day or weekday) if either else (day and weekday))
        )

    def scanned(self, zone: str, begin: float, end: float) -> list[float]:
        """Return the times in [begin, end), by looking at the clock every minute.

        A schedule that names its hours comes when the clock has first reached a time that
        matches; one of all hours whenever the clock shows one. The clock is watched from four hours
        before, so as to know what it has shown.
        """
        times: list[float] = []
        tz = ZoneInfo(zone)
        everything = self.hours is None or len(self.hours) == 24
        at = begin - 4 * 3_600
        furthest = datetime.fromtimestamp(at - MINUTE, tz).replace(tzinfo=None, fold=0)
        while at < end:
            wall = datetime.fromtimestamp(at, tz).replace(tzinfo=None, fold=0)
            if everything:
                comes = self.match(wall)
            else:
                comes = False
                while furthest < wall:
                    furthest += timedelta(seconds=MINUTE)
                    comes = comes or self.match(furthest)
            if comes and at >= begin:
                times.append(at)
            at += MINUTE
        return times
