"""What every schedule is: a value that names its next time, and says what becomes of times missed.

A schedule keeps no state and reads no clock. What is due, was missed or overlaps is for a
`Timetable` to decide, which is handed the time.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime
from math import inf, nextafter
from typing import Final, Literal

from qanat._core.arguments import number, one_of, whole

Missed = Literal["skip", "once", "all"]
Overlap = Literal["skip", "queue", "allow"]

MISSED: Final[tuple[Missed, ...]] = ("skip", "once", "all")
OVERLAPS: Final[tuple[Overlap, ...]] = ("skip", "queue", "allow")

# UTC seconds. Two days inside of what a datetime holds, as no zone is further from UTC than one.
FIRST_AT: Final = -62_135_596_800.0 + 2 * 86_400
LAST_AT: Final = 253_402_300_800.0 - 2 * 86_400


@dataclass(frozen=True, slots=True)
class Schedule:
    """Name times, one after the other; `At`, `Every` and `Cron` are the kinds.

    All times are UTC seconds since 1970. A schedule is an immutable value: it may be shared,
    compared and pickled.

    Attributes:
        missed: What becomes of times that passed unseen, as the process was down or slept: "skip"
            leaves them out, "once" runs once for all of them, "all" runs for each.
        most: How many times missed are made up at most, the newest; and how many runs wait for
            the one before with `overlap="queue"`.
        start: The first time allowed: UTC seconds or a datetime with a zone. None is any.
        end: The time from which on there are none, in the same forms. None is never.
        overlap: What becomes of a time at which the run before goes on: "skip" leaves it out,
            "queue" runs afterwards, "allow" runs both at once.
        starts_at: `start` in UTC seconds.
        ends_at: `end` in UTC seconds; far away if there is none.
    """

    _: KW_ONLY
    missed: Missed = "skip"
    most: int = 100
    start: float | datetime | None = None
    end: float | datetime | None = None
    overlap: Overlap = "skip"
    starts_at: float | None = field(init=False, repr=False, compare=False, default=None)
    ends_at: float = field(init=False, repr=False, compare=False, default=LAST_AT)

    def next_after(self, timestamp: float) -> float:
        """Return the first time strictly after another one; `math.inf` if there is none.

        Args:
            timestamp: UTC seconds since 1970.

        Raises:
            TypeError: If it is not a number.
            ValueError: If it is NaN or infinite.
        """
        return self.following(number("timestamp", timestamp))

    def next_times(self, timestamp: float, n: int) -> list[float]:
        """Return the next `n` times strictly after another one; fewer if there are no more.

        Args:
            timestamp: UTC seconds since 1970.
            n: How many, at least 1.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of range.
        """
        times: list[float] = []
        at = self.next_after(timestamp)
        for _ in range(whole("n", n, 1)):
            if at == inf:
                break
            times.append(at)
            at = self.following(at)
        return times

    def following(self, after: float, anchor: float | None = None) -> float:
        """Return the first time strictly after another one; infinity if there is none.

        Args:
            after: Any finite time.
            anchor: When the schedule was put to use, from which intervals count that have no
                `start`. None counts them from `after`.
        """
        first = FIRST_AT if self.starts_at is None else nextafter(self.starts_at, -inf)
        after = max(after, first)
        if after >= self.ends_at:
            return inf
        at = self._following(after, anchor)
        return at if at < self.ends_at else inf

    def _following(self, after: float, anchor: float | None) -> float:
        """Return the first time strictly after another one, whatever start and end say."""
        raise NotImplementedError

    @property
    def is_free(self) -> bool:
        """Whether its times are all alike, so that a clock set back may bring them again."""
        return False

    @property
    def counts_elapsed(self) -> bool:
        """Whether it counts time that passed, and not the time of day."""
        return False

    @property
    def waits_for_end(self) -> bool:
        """Whether the next time counts from the end of the run before."""
        return False

    @property
    def spread(self) -> float:
        """Seconds by which a time may come later at random."""
        return 0.0

    def begins_after(self, now: float) -> float:
        """Return the time after which times count, for a schedule put to use now."""
        return now


def set_checked(schedule: Schedule, **own: object) -> None:
    """Check what all schedules have, and keep it together with what a kind has of its own.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range.
    """
    one_of("missed", schedule.missed, MISSED)
    one_of("overlap", schedule.overlap, OVERLAPS)
    start = None if schedule.start is None else instant("start", schedule.start)
    end = LAST_AT if schedule.end is None else instant("end", schedule.end)
    if start is not None and end <= start:
        raise ValueError(f"end must be after start, got {schedule.end!r} and {schedule.start!r}")
    checked: dict[str, object] = {
        "most": whole("most", schedule.most, 1), "start": start, "starts_at": start,
        "end": None if schedule.end is None else end, "ends_at": end, **own,
    }  # fmt: skip
    for name, value in checked.items():
        object.__setattr__(schedule, name, value)


def instant(name: str, value: object) -> float:
    """Return UTC seconds from a number of them or from a datetime with a zone.

    Raises:
        TypeError: If it is neither.
        ValueError: If the datetime has no zone, or it is not between the years 1 and 10000.
    """
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise ValueError(
                f"{name} must have a time zone, got {value!r}: "
                "give it one, with .astimezone() that of this machine"
            )
        found = (value.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    elif isinstance(value, str):
        raise TypeError(
            f"{name} must be UTC seconds or a datetime with a time zone, got {value!r}: "
            "datetime.fromisoformat reads a text"
        )
    else:
        found = number(name, value)
    if not FIRST_AT < found < LAST_AT:
        raise ValueError(
            f"{name} must be between the years 1 and 10000, got {value!r}: it counts seconds, not "
            "milliseconds"
        )
    return found


def checked_schedule(name: str, value: object) -> Schedule:
    """Return what is a schedule.

    Raises:
        TypeError: If it is something else.
    """
    if isinstance(value, Schedule):
        return value
    remedy = f": write Cron({value!r})" if isinstance(value, str) else ""
    raise TypeError(f"{name} must be an At, Every or Cron, got {value!r}{remedy}")
