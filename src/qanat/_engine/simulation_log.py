"""What happened to the jobs of a simulation, in as little room as it takes."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qanat._core.job import Job

START, AGAIN, END, UNRUN = range(4)
"""Kinds of entries: an attempt began; ended, its job comes again; ended for good; a job ended unrun."""
ATTEMPTS = 1 << 14
"""Attempts are counted up to here in the log; they share a number with the kind and the index."""
_INDEX = ATTEMPTS * 4
"""What the index counts in that number."""
STARTED, ENDED = 4 + START, 4 + END
"""The first attempt, and that it began or was the last, in that number."""


class Log:
    """What happened to the jobs of a simulation, sixteen bytes an entry."""

    __slots__ = ("at", "codes")

    def __init__(self) -> None:
        """Begin with no entries."""
        self.at: array[float] = array("d")
        self.codes: array[int] = array("q")

    def add(self, at: float, kind: int, index: int, attempt: int) -> None:
        """Add an entry."""
        self.at.append(at)
        self.codes.append((index * ATTEMPTS + min(attempt, ATTEMPTS - 1)) * 4 + kind)

    def add_all(self, at: float, jobs: list[Job[Any]], what: int) -> None:
        """Add an entry for each job: `STARTED` or `ENDED`."""
        add_at, add_code = self.at.append, self.codes.append
        for job in jobs:
            add_at(at)
            add_code(job.index * _INDEX + what)

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.at)

    def entry(self, number: int) -> tuple[float, int, int, int]:
        """Return an entry by its number: time, kind, the job's position in the input, and attempt."""
        code = self.codes[number]
        return self.at[number], code & 3, (code >> 2) // ATTEMPTS, (code >> 2) % ATTEMPTS
