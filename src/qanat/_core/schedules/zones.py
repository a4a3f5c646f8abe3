"""Time zones: their names, and where their clocks jump.

A wall time is a datetime without a zone, as read off a clock on the wall; an instant is whole UTC
seconds. Where clocks are set back a wall time comes twice (an overlap), where they are set
forward it is left out (a gap). Python tells which by the offsets of both folds (PEP 495).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, cast
from zoneinfo import ZoneInfo, available_timezones

if TYPE_CHECKING:
    from datetime import tzinfo

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - wall times have no zone
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)


def zone_of(name: str, value: object) -> ZoneInfo:
    """Return the zone of a name such as "Europe/Prague".

    Raises:
        TypeError: If it is not a text.
        ValueError: If there is no such zone.
    """
    if isinstance(value, ZoneInfo):
        return value
    if not isinstance(value, str):
        raise TypeError(f'{name} must be the name of a time zone such as "Europe/Prague", got {value!r}')
    try:
        return ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        # A folder of zones, an absolute path and a text that is no file name come as other errors.
        raise ValueError(_no_zone(name, value)) from None


def _no_zone(name: str, value: str) -> str:
    from difflib import get_close_matches  # only wrong names need it

    known = available_timezones()
    problem = f'{name} must be the name of a time zone such as "Europe/Prague", got {value!r}'
    if not known:
        return f"{problem}, and this machine knows none: install the package tzdata"
    folded = {zone.casefold(): zone for zone in known}
    wanted = value.strip().replace(" ", "_").casefold()
    ends = sorted(zone for zone in known if zone.casefold().endswith(f"/{wanted}"))
    close = ends or [folded[each] for each in get_close_matches(wanted, folded, n=1, cutoff=0.7)]
    return f"{problem}: did you mean {close[0]!r}" if close else problem


def wall_at(zone: tzinfo, second: int) -> datetime:
    """Return the wall time at an instant; its fold is 1 if it comes the second time."""
    return (_EPOCH_UTC + timedelta(seconds=second)).astimezone(zone).replace(tzinfo=None)


def offsets(zone: tzinfo, wall: datetime) -> tuple[timedelta, timedelta]:
    """Return how far from UTC a wall time is, taken as the first and as the second of its kind.

    The first is greater in an overlap and less in a gap; else they are equal.
    """
    aware = wall.replace(tzinfo=zone, fold=0)
    # A zone always has one, for a datetime that is not None.
    return cast("timedelta", aware.utcoffset()), cast("timedelta", aware.replace(fold=1).utcoffset())


def instant_of(wall: datetime, offset: timedelta) -> int:
    """Return the instant of a wall time that is so far from UTC."""
    return (wall.replace(fold=0) - _EPOCH - offset) // _SECOND


def jump_between(zone: tzinfo, low: int, high: int) -> int:
    """Return the first instant in (low, high] with another offset than at `low`; there is one."""
    before = _offset_at(zone, low)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_at(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def _offset_at(zone: tzinfo, second: int) -> timedelta | None:
    return (_EPOCH_UTC + timedelta(seconds=second)).astimezone(zone).utcoffset()
