"""What schedules say of themselves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qanat._core.schedules.schedule import Missed, Schedule

_MISSED = {
    "skip": "missed times left out",
    "once": "missed times made up by one run",
    "all": "up to {} missed times made up",
}
_OVERLAP = {"queue": "runs wait for the one before", "allow": "runs may overlap"}


def time_in_words(at: float) -> str:
    """Say a time: `2026-01-01 09:00:00 UTC`."""
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at)
    text = f"{when.replace(tzinfo=None):%Y-%m-%d %H:%M:%S.%f}".removesuffix(".000000")
    return f"{text} UTC"


def conditions(schedule: Schedule, *, missed: Missed = "skip") -> str:
    """Say what else holds for a schedule, to follow the words for its times.

    Args:
        schedule: The schedule.
        missed: What it does with missed times if it is not told.
    """
    words: list[str] = []
    if schedule.starts_at is not None:
        words.append(f"from {time_in_words(schedule.starts_at)}")
    if schedule.end is not None:
        words.append(f"before {time_in_words(schedule.ends_at)}")
    if schedule.missed != missed:
        words.append(_MISSED[schedule.missed].format(schedule.most))
    if schedule.overlap in _OVERLAP:
        words.append(_OVERLAP[schedule.overlap])
    return "".join(f", {each}" for each in words)
