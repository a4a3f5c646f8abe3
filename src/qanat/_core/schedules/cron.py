"""A schedule by the calendar, as cron knows it.

cronsim finds matching wall times; which instants these are is decided here, in whole seconds:

- A schedule that names hours runs when the clocks on the wall *first reach* a matching time. So a
  time in a gap runs at the first instant after it, once however many fall into it, and a time that
  comes twice runs the first time.
- A schedule of every hour runs whenever the clocks on the wall show a matching time: every real
  minute for `* * * * *`, with nothing to be made up after a gap.

The first rule maps wall times to instants in their order; for the second this holds for the first
and for the second of each two equal wall times taken apart, so that the earlier of both comes next.
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from math import floor, inf
from typing import TYPE_CHECKING, Final, cast

from cronsim import CronSim, CronSimError

from qanat._core.schedules.cron_text import PROBE, covers_all_hours, fields_of, said_of
from qanat._core.schedules.schedule import FIRST_AT, Schedule, set_checked
from qanat._core.schedules.words import conditions
from qanat._core.schedules.zones import instant_of, jump_between, offsets, wall_at, zone_of

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_SECOND: Final = timedelta(seconds=1)
_MISNUMBERED: Final = {"1th": "1st", "2th": "2nd", "3th": "3rd"}


@dataclass(frozen=True, slots=True)
class Cron(Schedule):
    """Run by the calendar, in a time zone.

    Five fields, `minute hour day-of-month month day-of-week`, or six with seconds first. A field is
    `*`, a number, a name (`MON`, `JAN`), a list `1,3`, a range `1-5` or a step `*/15`; a day of the
    month may be `L` (the last) or `LW` (the last working day), a day of the week `5L` (the last
    Friday) or `5#2` (the second). `@hourly`, `@daily`, `@midnight`, `@weekly`, `@monthly`,
    `@yearly` and `@annually` will do too.

    If both days are given, either will do; if one begins with `*`, both have to match (as in cron
    of Debian). A month that has no such day is left out.

    Where clocks are set forward, a schedule that names its hours runs at the first instant after
    the gap, once, for all times that are in it. Where they are set back it runs the first time
    only. A schedule of every hour goes on through both: `* * * * *` runs every real minute.

    Attributes:
        expression: The fields, or a shorthand.
        tz: The name of a time zone of the IANA database.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the expression is wrong or never comes, or there is no such zone.

    Examples:
        >>> from qanat._core.schedules import Cron
        >>> cron = Cron("30 2 * * MON-FRI", tz="Europe/Prague")
        >>> print(cron)
        at 02:30 on Monday through Friday, Europe/Prague
        >>> cron.next_times(1_767_225_600, 2)
        [1767231000.0, 1767317400.0]
    """

    expression: str
    _: KW_ONLY
    tz: str = "UTC"
    _fields: str = field(init=False, repr=False, compare=False, default="")
    _zone: ZoneInfo = field(init=False, repr=False, compare=False, default=cast("ZoneInfo", None))
    _names_hours: bool = field(init=False, repr=False, compare=False, default=True)

    def __post_init__(self) -> None:
        zone = zone_of("tz", self.tz)
        fields = fields_of(self.expression)
        set_checked(
            self, tz=str(zone), _zone=zone, _fields=" ".join(fields),
            _names_hours=not covers_all_hours(fields[2]),
        )  # fmt: skip
        try:
            # cronsim sees at once that a month is too short, and after 50 years that a weekday
            # never meets a date.
            self._matching(PROBE)
        except (CronSimError, StopIteration):
            raise ValueError(
                f"expression must come at some time, got {self.expression!r}: no date has such a month "
                "and day (L is the last day of any month)"
            ) from None
        if self.start is not None and self.following(FIRST_AT) == inf:
            raise ValueError(f"expression must come between start and end, got {self.expression!r}")

    def _following(self, after: float, anchor: float | None) -> float:
        second = floor(after)
        try:
            return float(self._reached(second) if self._names_hours else self._shown(second))
        except (OverflowError, StopIteration):  # after the year 9999
            return inf

    def _matching(self, wall: datetime) -> datetime:
        """Return the first wall time after another one that matches."""
        return next(CronSim(self._fields, wall.replace(fold=0)))

    def _reached(self, second: int) -> int:
        """Return the first instant after another one at which the walls first reach a matching time."""
        zone = self._zone
        wall = wall_at(zone, second)
        if wall.fold:
            # All of the overlap was shown before.
            first, again = offsets(zone, wall)
            jump = jump_between(zone, instant_of(wall, first), second)
            wall = wall_at(zone, jump) + (first - again) - _SECOND
        found = self._matching(wall)
        first, again = offsets(zone, found)
        if first < again:  # in a gap, before which the first offset holds
            return jump_between(zone, instant_of(found, again), instant_of(found, first))
        return instant_of(found, first)

    def _shown(self, second: int) -> int:
        """Return the first instant after another one at which the walls show a matching time."""
        zone = self._zone
        wall = wall_at(zone, second)
        if wall.fold:
            return self._existing(wall, again=True)
        found = self._existing(wall, again=False)
        first, again = offsets(zone, wall)
        if first > again:
            # Here for the first time. What matches in the rest of the overlap may come later than
            # what matches in its beginning, the second time.
            jump = jump_between(zone, second, instant_of(wall, again))
            found = min(found, self._existing(wall_at(zone, jump) - _SECOND, again=True))
        return found

    def _existing(self, wall: datetime, *, again: bool) -> int:
        """Return the instant of the first matching wall time after another one that no gap left out."""
        zone = self._zone
        while True:
            found = self._matching(wall)
            first, second = offsets(zone, found)
            if first >= second:
                return instant_of(found, second if again else first)
            # Straight to the end of the gap.
            jump = jump_between(zone, instant_of(found, second), instant_of(found, first))
            wall = wall_at(zone, jump) - _SECOND

    @property
    def is_free(self) -> bool:
        """Whether it runs in every hour."""
        return not self._names_hours

    def __str__(self) -> str:
        words = CronSim(said_of(self._fields), PROBE).explain()
        words = re.sub(r"(?<=[23])[123]th\b", lambda found: _MISNUMBERED[found[0]], words)
        return f"{words[0].lower()}{words[1:]}, {self.tz}{conditions(self)}"
