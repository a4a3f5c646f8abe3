"""Failures grouped by type and by the shape of their message, with memory that has a bound."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome

MOST_GROUPS: Final = 20
"""Groups that are told apart; what comes after counts as others."""
MOST_SHAPES: Final = 4
"""Shapes of one type that are told apart; its further ones are one group."""
LOOKED_AT: Final = 200
"""Characters of a message that tell its shape."""

_VARYING: Final = re.compile(
    r"""
      https?://\S+
    | '[^']{0,80}' | "[^"]{0,80}"       # what is quoted
    | 0x[0-9a-fA-F]+
    | \b(?=\w*\d)[0-9a-fA-F-]{8,}\b     # hashes, UUIDs
    | \d+(?:[.,:]\d+)*
    """,
    re.VERBOSE,
)


def shape_of(message: str) -> str:
    """Return a message with what varies from case to case left out.

    Examples:
        >>> shape_of("page 17 of 'a.html' took 2.5 s")
        'page # of # took # s'
    """
    return _VARYING.sub("#", message[:LOOKED_AT].partition("\n")[0])


class ErrorGroup(msgspec.Struct, frozen=True):
    """The failures of one type and one shape of message.

    Attributes:
        name: The type's name.
        count: How many jobs failed with it for good.
        sample: The last one's message.
        id: The last one's job.
        again: How many attempts failed with it and were followed by another.
        last_at: When the last one came, on the engine's timeline.
    """

    name: str
    count: int
    sample: str
    id: int | str
    again: int = 0
    last_at: float = 0.0


class _Group(msgspec.Struct):
    name: str
    count: int = 0
    again: int = 0
    sample: str = ""
    id: int | str = 0
    last_at: float = 0.0


class ErrorTally:
    """Count failures by type and shape, with the last of each as a sample; nothing else is kept of them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._groups: dict[tuple[str, str | None], _Group] = {}
        self._shapes: dict[str, int] = {}
        self._told: tuple[ErrorGroup, ...] | None = ()
        self.others = 0

    def add(self, outcome: Outcome[Any, Any]) -> None:
        """Count a job that failed for good."""
        group = self._group(outcome.error, outcome.id, outcome.ended_at)
        if group is None:
            self.others += 1
        else:
            group.count += 1

    def add_retry(self, job: Job[Any], error: BaseException, now: float) -> None:
        """Count an attempt that failed and is followed by another."""
        group = self._group(error, job.id, now)
        if group is not None:
            group.again += 1

    def _group(self, error: BaseException | None, id: int | str, at: float) -> _Group | None:
        """Return the group of an error, which is its last one from now on; None if there are too many."""
        name = type(error).__name__
        said = _first_words(error)
        shape: str | None = shape_of(said)
        if (name, shape) not in self._groups and self._shapes.get(name, 0) >= MOST_SHAPES:
            shape = None
        group = self._groups.get((name, shape))
        if group is None:
            if len(self._groups) >= MOST_GROUPS:
                return None
            group = self._groups[name, shape] = _Group(name)
            self._shapes[name] = self._shapes.get(name, 0) + 1
        group.sample, group.id, group.last_at = said, id, at
        self._told = None
        return group

    def groups(self) -> tuple[ErrorGroup, ...]:
        """Return the groups, those with the most failed jobs first, then those with the most attempts."""
        if self._told is None:
            found = sorted(self._groups.values(), key=lambda each: (-each.count, -each.again))
            self._told = tuple(
                ErrorGroup(each.name, each.count, each.sample, each.id, each.again, each.last_at)
                for each in found
            )
        return self._told


def _first_words(error: object) -> str:
    try:
        return str(error)[:500]
    except Exception as problem:  # noqa: BLE001 - the user's code may raise anything
        return f"<its str raised {type(problem).__name__}>"
