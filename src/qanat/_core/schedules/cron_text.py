"""Cron expressions as text: shorthands, fields, and what is said of a wrong one."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from cronsim import CronSim, CronSimError

SHORTHANDS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

_LISTS: Final = "with lists (1,3), ranges (1-5) and steps (*/2)"
_FIELDS: Final = {
    "second": f"0 to 59, {_LISTS}",
    "minute": f"0 to 59, {_LISTS}",
    "hour": f"0 to 23, {_LISTS}",
    "day-of-month": f"1 to 31, L for the last day or LW for the last working day, {_LISTS}",
    "month": f"1 to 12 or JAN to DEC, {_LISTS}",
    "day-of-week": f"0 to 7 or SUN to SAT, 5L for the last Friday or 5#2 for the second, {_LISTS}",
}
_NAMES: Final = tuple(_FIELDS)
_LONGEST: Final = 500  # characters; sixty of each of sixty minutes fit

# Any wall time will do to try a field with: cronsim looks at it no earlier than for the next time.
PROBE: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - a wall time has no zone


def fields_of(expression: object) -> tuple[str, ...]:
    """Return the six fields of an expression, in capitals and valid one by one.

    Raises:
        TypeError: If it is not a text.
        ValueError: If it has another number of fields, or a wrong one, which the message names.
    """
    if not isinstance(expression, str):
        raise TypeError(f'expression must be a text such as "*/5 * * * *", got {expression!r}')
    if len(expression) > _LONGEST:
        raise ValueError(f"expression must be at most {_LONGEST} characters long, got {len(expression)}")
    text = expression.strip()
    if text.startswith("@"):
        text = _spelt_out(expression, text.lower())
    # On Unix Sunday is 0 and 7, so as the end of a range it is 7.
    fields = text.upper().replace("-SUN", "-7").split()
    if len(fields) not in {5, 6}:
        raise ValueError(
            f"expression must have five fields (minute hour day-of-month month day-of-week) or six "
            f'(with seconds first), got {len(fields)} in {expression!r}: "30 2 * * *" is every day at 02:30'
        )
    if len(fields) == 5:
        fields.insert(0, "0")
    for place, field in enumerate(fields):
        _check(expression, place, field)
    return tuple(fields)


def _spelt_out(expression: str, word: str) -> str:
    found = SHORTHANDS.get(word)
    if found is not None:
        return found
    remedy = ""
    if word.startswith("@every"):
        remedy = ": use Every(seconds)"
    elif word == "@reboot":
        remedy = ": run that when the program starts"
    raise ValueError(f"expression must be one of {', '.join(SHORTHANDS)}, got {expression!r}{remedy}")


def _check(expression: str, place: int, field: str) -> None:
    fields = ["*"] * 6
    fields[place] = field
    try:
        CronSim(" ".join(fields), PROBE)
    except CronSimError:
        pass
    else:
        return
    name = _NAMES[place]
    raise ValueError(
        f"expression has a wrong {name} field, got {field!r} in {expression!r}: "
        f"expected {_FIELDS[name]}{_hint(field)}"
    )


def _hint(field: str) -> str:
    """Say what may be meant."""
    if "?" in field:
        return "; write * for ?"
    if re.search(r"/0+$", field):
        return "; a step is at least 1"
    ends = re.search(r"([A-Z0-9]+)-([A-Z0-9]+)", field)
    return f"; if {ends[0]} is to go round the end, write it as a list" if ends else ""


def said_of(fields: str) -> str:
    """Return an expression in which Sunday is named once, and not as 0 and as 7."""
    *others, weekdays = fields.split()
    named = ["0" if day == "7" else day for day in weekdays.split(",")]
    return " ".join([*others, ",".join(dict.fromkeys(named))])


def covers_all_hours(field: str) -> bool:
    """Whether an hour field leaves no hour out."""
    simulated = CronSim(f"0 0 {field} * * *", PROBE)
    return len(simulated.hours) == 24
