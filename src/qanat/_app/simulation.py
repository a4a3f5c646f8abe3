"""What came of a simulation: figures, and what happened when."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, overload

import msgspec

from qanat._app.why import Held, duration_words, why_waited
from qanat._core.arguments import whole
from qanat._engine.simulation_log import END, START, UNRUN

if TYPE_CHECKING:
    from array import array

    from qanat._engine.simulation_log import Log

StepKind = Literal["start", "again", "end"]
_KINDS: tuple[StepKind, ...] = ("start", "again", "end", "end")


class Step(msgspec.Struct, frozen=True):
    """What happened to a job of a simulation.

    Attributes:
        at: The time, in seconds from the beginning.
        kind: "start": an attempt began. "again": an attempt ended, and the job comes again. "end":
            the job ended for good, running or not. The call of a batch is told as an attempt of its
            first job, which ends with "again"; then come those of its jobs that ended with it.
        index: The job's position in the input, from 0.
        attempt: The number of the attempt, from 1.
    """

    at: float
    kind: StepKind
    index: int
    attempt: int


class Trace(Sequence[Step]):  # noqa: PLW1641 - equal by what it holds, and so without a hash
    """Every start and end of an attempt, in order; kept in sixteen bytes each, and made as it is read."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self._log)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...
    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        """Return a step, or a list of them."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        at, kind, position, attempt = self._log.entry(index)
        return Step(at, _KINDS[kind], position, attempt)

    def __eq__(self, other: object) -> bool:
        """Be equal to a trace of the same steps."""
        if not isinstance(other, Trace):
            return NotImplemented
        return self._log.at == other._log.at and self._log.codes == other._log.codes

    def __iter__(self) -> Iterator[Step]:
        """Give the steps in order."""
        return (self[number] for number in range(len(self)))

    def __repr__(self) -> str:
        """Show the number of steps."""
        return f"<Trace of {len(self):,} steps>"


class Percentiles(NamedTuple):
    """How a length of time is spread over the jobs, exactly: sorted, none estimated.

    The `p`th percentile is the smallest of them that at least `p` percent do not exceed.

    Attributes:
        mean: Their mean.
        p50: Half of them are no longer.
        p90: Nine of ten are no longer.
        p99: Ninety-nine of a hundred are no longer.
        most: The longest.
    """

    mean: float
    p50: float
    p90: float
    p99: float
    most: float

    def __str__(self) -> str:
        """Say it in one line."""
        half, ninety, most_of, longest = map(duration_words, self[1:])
        return f"half within {half}, 90% within {ninety}, 99% within {most_of}, the longest {longest}"


def percentiles_of(values: array[float]) -> Percentiles:
    """Return how values are spread; zeros if there are none."""
    if not values:
        return Percentiles(0.0, 0.0, 0.0, 0.0, 0.0)
    ordered = sorted(values)
    count = len(ordered)
    half, ninety, most_of = (ordered[math.ceil(count * share / 100) - 1] for share in (50, 90, 99))
    return Percentiles(math.fsum(ordered) / count, half, ninety, most_of, ordered[-1])


class Slice(NamedTuple):
    """A part of the time of a simulation.

    Attributes:
        at: When it begins.
        seconds: How long it is.
        started: How many attempts began in it.
        ended: How many jobs ended in it.
        running: How many attempts ran in it, on average.
    """

    at: float
    seconds: float
    started: int
    ended: int
    running: float

    @property
    def throughput(self) -> float:
        """Jobs that ended a second."""
        return self.ended / self.seconds if self.seconds > 0.0 else 0.0


@dataclass(frozen=True)
class Simulation:
    """What rules would do with items; `str` says it in words.

    Attributes:
        items: How many jobs ended.
        outcomes: How many ended as "done", "dead" and "cancelled".
        left: How many never ended, as what they wait for never comes; of a source without a size,
            those that were read.
        retried: How many attempts were followed by another.
        errors: How many jobs failed with each type of error.
        makespan: Seconds from the beginning to the last end.
        waits: Seconds waited by cause, all jobs together.
        most_running: How many attempts ran at once at most.
        busy: Seconds that all attempts ran, added up.
        slots: How many may run at once; infinity if a `Concurrency` among the limits says so.
        stopped: What ended it early, if something did.
        trace: Every start and end, in order.
        seed: What randomness began with.
        rules: The rules in words.
        held: What the waits were for, by the names of limits and lanes.
    """

    items: int
    outcomes: Mapping[str, int]
    left: int
    retried: int
    errors: Mapping[str, int]
    makespan: float
    waits: Mapping[str, float]
    most_running: int
    busy: float
    slots: float
    stopped: BaseException | None
    trace: Trace = field(repr=False)
    seed: int
    rules: str
    held: Held = field(repr=False)
    _waited: array[float] = field(repr=False)
    _ran: array[float] = field(repr=False)
    _log: Log = field(repr=False)

    @property
    def throughput(self) -> float:
        """Jobs that ended a second, from the beginning to the last end."""
        return self.items / self.makespan if self.makespan > 0.0 else 0.0

    @cached_property
    def wait(self) -> Percentiles:
        """How long jobs waited, from when they were read to their end, without the time in the handler."""
        return percentiles_of(self._waited)

    @cached_property
    def run(self) -> Percentiles:
        """How long jobs ran, all their attempts together."""
        return percentiles_of(self._ran)

    def over_time(self, parts: int = 60) -> list[Slice]:
        """Return how it went over time, in so many equal parts of the makespan.

        Raises:
            TypeError: If `parts` is not a whole number.
            ValueError: If there is to be no part.
        """
        whole("parts", parts, 1)
        span = self.makespan / parts
        if not span > 0.0:
            return []
        at, codes = self._log.at, self._log.codes
        found: list[Slice] = []
        running, first = 0, 0
        for part in range(parts):
            begin = part * span
            end = math.inf if part == parts - 1 else (part + 1) * span
            last = bisect_left(at, end, first)
            busy, since, started, ended = 0.0, begin, 0, 0
            for number in range(first, last):
                code = codes[number]
                now = at[number]
                busy += running * (now - since)
                since = now
                kind = code & 3
                if kind == START:
                    running += 1
                    started += 1
                else:
                    ended += kind >= END
                    running -= kind != UNRUN
            busy += running * (begin + span - since)
            found.append(Slice(begin, span, started, ended, max(0.0, busy / span)))
            first = last
        return found

    @property
    def why(self) -> str:
        """What jobs waited for, in a sentence; an empty text if they waited for nothing."""
        return why_waited(self.waits, self.held)

    def __str__(self) -> str:
        """Say it in a few lines."""
        rate = f", {rate_words(self.throughput)}" if self.throughput else ""
        done = self.outcomes["done"]
        lines = [f"{done:,} of {self.items:,} done in {duration_words(self.makespan)}{rate}"]
        also = [
            f"{number:,} {word}"
            for number, word in (
                (self.outcomes["dead"], "failed"), (self.outcomes["cancelled"], "cancelled"),
                (self.retried, "retried"),
            )
            if number
        ]  # fmt: skip
        if also:
            lines.append(", ".join(also))
        lines += [f"  {number:,} x {name}" for name, number in sorted(self.errors.items(), key=_by_number)]
        if self.left:
            lines.append(f"{self.left:,} never ended: what they wait for never comes")
        if self.stopped is not None:
            lines.append(f"stopped early: {self.stopped}")
        lines.append(self._running_words())
        lines.append(f"ran: {self.run}")
        if self.wait.most > 0.0:
            lines.append(f"waited: {self.wait}")
        if self.why:
            lines.append(self.why)
        return "\n".join(lines)

    def _running_words(self) -> str:
        mean = self.busy / self.makespan if self.makespan > 0.0 else 0.0
        of = "" if math.isinf(self.slots) else f" of {self.slots:,.0f}"
        return f"at once: {mean:,.1f} on average, {self.most_running:,}{of} at most"


def _by_number(entry: tuple[str, int]) -> int:
    return -entry[1]


def rate_words(rate: float) -> str:
    """Say a rate in the unit that gives a number people can picture."""
    for seconds, unit in ((1.0, "s"), (60.0, "min"), (3600.0, "h")):
        if rate * seconds >= 1.0:
            return f"{rate * seconds:,.1f}/{unit}"
    return f"{rate * 86400.0:,.2f}/d"
