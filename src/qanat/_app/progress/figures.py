"""The figures of a run at one moment, and its errors by type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from qanat._app.why import Held, held_of
from qanat._core.limits import Adaptive
from qanat._core.reason import Reason

if TYPE_CHECKING:
    from qanat._core.outcome import Outcome
    from qanat._engine.engine import Engine

MOST_TYPES = 20
"""Types of errors that are told apart; what comes after counts as others."""


class ErrorGroup(msgspec.Struct, frozen=True):
    """The failures of one type.

    Attributes:
        name: The type's name.
        count: How many jobs failed with it.
        sample: The first one's message.
        id: The first one's job.
    """

    name: str
    count: int
    sample: str
    id: int | str


class Figures(msgspec.Struct, frozen=True):
    """A run at one moment.

    Attributes:
        at: The moment, on the engine's timeline.
        seconds: Since the run began.
        total: How many jobs there will be; None if nobody knows.
        done, failed, cancelled: How many ended so.
        retried: How many attempts were followed by another.
        running: How many run.
        waiting: How many are known and neither run nor wait for a time of their own.
        scheduled: How many wait for a time of their own: most for a retry.
        reason: Why nothing more starts; None if nothing waits.
        waits: Seconds waited by cause, all jobs together.
        errors: The failures by type, the most frequent first.
        other_errors: How many failures were of further types.
        stopping: Whether it was told to stop, so that what is left will not be done.
        untimed: How many of the ended have no part in `waits`.
        left_behind: The jobs whose handler goes on in a thread although their attempt is over.
        at_once: How many may run at once now, if that adapts by itself; else None.
        held: What may hold up jobs, by name; None is not known.
    """

    at: float
    seconds: float
    total: int | None
    done: int
    failed: int
    cancelled: int
    retried: int
    running: int
    waiting: int
    scheduled: int
    reason: Reason | None
    waits: Mapping[str, float]
    errors: tuple[ErrorGroup, ...] = ()
    other_errors: int = 0
    stopping: bool = False
    untimed: int = 0
    left_behind: tuple[int | str, ...] = ()
    at_once: int | None = None
    held: Held | None = None

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return self.done + self.failed + self.cancelled

    @property
    def finished(self) -> int:
        """How many jobs have ended by themselves."""
        return self.done + self.failed

    @property
    def left(self) -> int | None:
        """How many are still to end; None if nobody knows."""
        return None if self.total is None else max(0, self.total - self.ended)


def figures_of(engine: Engine, begun: float, total: int | None, tally: ErrorTally) -> Figures:
    """Take the figures of an engine; to be called in its loop's thread."""
    dispatcher = engine.dispatcher
    now = engine.now()
    ended = dispatcher.done + dispatcher.failed + dispatcher.cancelled
    waiting = dispatcher.waiting
    if total is not None and not dispatcher.closed:
        # Items that nobody has read yet wait, too.
        waiting = max(waiting, total - ended - dispatcher.running - dispatcher.scheduled)
    return Figures(
        at=now, seconds=now - begun, total=total,
        done=dispatcher.done, failed=dispatcher.failed, cancelled=dispatcher.cancelled,
        retried=dispatcher.retried, running=dispatcher.running, waiting=waiting,
        scheduled=dispatcher.scheduled, reason=dispatcher.why(), waits=dispatcher.waits,
        errors=tally.groups(), other_errors=tally.others,
        stopping=engine.stopped, left_behind=tuple(job.id for job in engine.outside.left_behind),
        at_once=_adapted(engine), held=held_of(dispatcher),
    )  # fmt: skip


def _adapted(engine: Engine) -> int | None:
    """Return how many all jobs together may run at once, if that is found out while they run."""
    found = [limit.current for limit in engine.dispatcher.tree.root.limits if isinstance(limit, Adaptive)]
    return min(found, default=None)


class ErrorTally:
    """Count failures by type, with the first of each as a sample; nothing else is kept of them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._counts: dict[str, int] = {}
        self._samples: dict[str, tuple[str, int | str]] = {}
        self.others = 0

    def add(self, outcome: Outcome[Any, Any]) -> None:
        """Count a job that failed for good."""
        name = type(outcome.error).__name__
        if name in self._counts:
            self._counts[name] += 1
        elif len(self._counts) < MOST_TYPES:
            self._counts[name] = 1
            self._samples[name] = (_first_words(outcome.error), outcome.id)
        else:
            self.others += 1

    def groups(self) -> tuple[ErrorGroup, ...]:
        """Return the types, the most frequent first."""
        counts = sorted(self._counts.items(), key=lambda each: -each[1])
        return tuple(ErrorGroup(name, count, *self._samples[name]) for name, count in counts)


def _first_words(error: object) -> str:
    try:
        return str(error)[:500]
    except Exception as problem:  # noqa: BLE001 - the user's code may raise anything
        return f"<its str raised {type(problem).__name__}>"
