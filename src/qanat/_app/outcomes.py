"""All outcomes of a run, and what can be said of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast

import msgspec

from qanat._app.why import Held, why_waited
from qanat._core.outcome import Outcome

T = TypeVar("T")
R = TypeVar("R")


class Summary(msgspec.Struct, frozen=True):
    """What happened in a run, in figures; `str` says it in words.

    Attributes:
        total: How many jobs ended.
        done: How many have a value.
        failed: How many failed for good.
        cancelled: How many were cancelled.
        retried: How many attempts were followed by another.
        seconds: From the first job's arrival to the last one's end.
        waits: Seconds waited by cause, all jobs together.
        errors: How many jobs failed with each type of error.
        held: What the jobs waited for, by the names of limits and lanes; None is not known.
        left_out: How many jobs were spawned and not taken, by the rule that left no room for them:
            "max_depth" or "max_jobs". They are no jobs of the run.
        recalled: How many of the done were taken from a journal, or done elsewhere or earlier in a queue.
        recalled_from: "journal" or "queue".
    """

    total: int
    done: int
    failed: int
    cancelled: int
    retried: int
    seconds: float
    waits: Mapping[str, float]
    errors: Mapping[str, int]
    held: Held | None = None
    left_out: Mapping[str, int] = MappingProxyType({})
    recalled: int = 0
    recalled_from: str = "journal"

    @property
    def why(self) -> str:
        """What jobs waited for, in a sentence; an empty text if they waited for next to nothing."""
        return why_waited(self.waits, self.held)

    def __str__(self) -> str:
        """Say it in a few lines."""
        rate = f", {self.total / self.seconds:,.1f} a second" if self.seconds > 0.0 else ""
        lines = [f"{self.done:,} of {self.total:,} done in {self.seconds:,.2f} s{rate}"]
        also = [
            f"{number:,} {word}"
            for number, word in (
                (self.failed, "failed"), (self.cancelled, "cancelled"), (self.retried, "retried"),
                (self.recalled, f"taken from the {self.recalled_from}"),
            )
            if number
        ]  # fmt: skip
        if also:
            lines.append(", ".join(also))
        for rule, number in self.left_out.items():
            lines.append(f"{number:,} spawned jobs were left out: {rule}")
        for name, number in sorted(self.errors.items(), key=lambda each: -each[1]):
            lines.append(f"  {number:,} x {name}")
        if self.why:
            lines.append(self.why)
        return "\n".join(lines)


class Outcomes(list[Outcome[T, R]], Generic[T, R]):
    """The outcomes of a run, in input order: a list with a few questions answered."""

    # Set by the run, for its summary.
    _held: Held | None = None
    _left_out: Mapping[str, int] = MappingProxyType({})
    _recalled_from = "journal"

    def __repr__(self) -> str:
        """Show the first few and the number: asyncio.run takes the repr of what it returns."""
        shown = ", ".join(map(repr, self[:3]))
        return f"Outcomes([{shown}, ... {len(self):,} in all])" if len(self) > 3 else f"Outcomes([{shown}])"

    def values(self) -> list[R]:
        """Return the values of the jobs that are done, in input order."""
        return [cast("R", outcome.value) for outcome in self if outcome.state == "done"]

    @property
    def failed(self) -> list[Outcome[T, R]]:
        """The outcomes of the jobs that failed for good, in input order."""
        return [outcome for outcome in self if outcome.state == "dead"]

    def summary(self) -> Summary:
        """Return what happened, in figures."""
        states = Counter(outcome.state for outcome in self)
        waits: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        retried = 0
        for outcome in self:
            for cause, seconds in outcome.waits.items():
                waits[cause] += seconds  # type: ignore[assignment]  # a Counter of seconds
            if outcome.state == "dead":
                errors[type(outcome.error).__name__] += 1
            retried += max(0, outcome.attempts - 1) if outcome.started_at is not None else 0
        begun = min((outcome.offered_at for outcome in self), default=0.0)
        ended = max((outcome.ended_at for outcome in self), default=0.0)
        return Summary(
            total=len(self), done=states["done"], failed=states["dead"], cancelled=states["cancelled"],
            retried=retried, seconds=ended - begun, waits=dict(waits), errors=dict(errors),
            held=self._held, left_out=self._left_out, recalled=sum(outcome.recalled for outcome in self),
            recalled_from=self._recalled_from,
        )  # fmt: skip


PART = 4096
"""Outcomes placed in one go: about a quarter of a millisecond."""


async def put_in_order(
    outcomes: Outcomes[Any, Any], total: int, checkpoint: Callable[[], Awaitable[None]]
) -> Outcomes[Any, Any]:
    """Return outcomes, which came as they ended, in input order; the loop runs in between.

    To sort a million in one piece would keep the loop for a tenth of a second, and to copy 200,000
    back into their list 5 ms: so the list that they are placed in is what is returned.

    Args:
        outcomes: Each with an index of its own, below `total`; left as it is.
        total: How many items were read.
        checkpoint: Lets the loop run.
    """
    placed: Outcomes[Any, Any] = Outcomes(cast("list[Outcome[Any, Any]]", [None] * total))
    for begin in range(0, len(outcomes), PART):
        for outcome in outcomes[begin : begin + PART]:
            placed[outcome.index] = outcome
        if begin + PART < len(outcomes):
            await checkpoint()
    if len(outcomes) == total:
        return placed
    kept: Outcomes[Any, Any] = Outcomes()
    for begin in range(0, total, PART):
        kept.extend(filter(None, placed[begin : begin + PART]))
        if begin + PART < total:
            await checkpoint()
    return kept


def put_families_in_order(outcomes: Outcomes[Any, Any]) -> None:
    """Bring outcomes into order: roots as they were in the input, then the spawned ones as they ended."""
    roots = [outcome for outcome in outcomes if outcome.parent is None]
    roots.sort(key=lambda outcome: outcome.index)
    outcomes[:] = roots + [outcome for outcome in outcomes if outcome.parent is not None]
