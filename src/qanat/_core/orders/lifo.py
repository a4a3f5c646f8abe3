"""Last come, first served."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qanat._core.job import Job


class Lifo:
    """Serve the newest job first.

    A job that was put back is the newest again, until another is added or put back.

    `add`, `take` and `head` cost one step; `discard` too, as it only marks the job, and the
    marked ones are dropped when they come to the head, or all together once they are half. To
    add a discarded job again costs O(n).
    """

    __slots__ = ("_jobs", "_stale")

    def __init__(self) -> None:
        self._jobs: list[Job[Any]] = []
        self._stale: set[Job[Any]] = set()

    def add(self, job: Job[Any]) -> None:
        """Take a job in, before all others."""
        if self._stale and job in self._stale:
            self._compact()
        self._jobs.append(job)

    def put_back(self, job: Job[Any]) -> None:
        """Take a job in again, before all others."""
        self.add(job)

    def head(self) -> Job[Any]:
        """Return the next job.

        Raises:
            IndexError: If no job waits.
        """
        if self._stale:
            self._drop_stale()
        return self._jobs[-1]

    def take(self) -> Job[Any]:
        """Remove and return the job that `head` names.

        Raises:
            IndexError: If no job waits.
        """
        if self._stale:
            self._drop_stale()
        return self._jobs.pop()

    def _lift(self) -> Any:
        """Remove the next job and return it, to be brought back by `_lower`."""
        return self.take()

    def _lower(self, lifted: Any) -> None:
        """Take a job in at the place that it had, the last one that was lifted first."""
        self._jobs.append(lifted)

    def discard(self, job: Job[Any]) -> None:
        """Remove a job that is in."""
        self._stale.add(job)
        if 2 * len(self._stale) >= len(self._jobs):
            self._compact()

    def __len__(self) -> int:
        return len(self._jobs) - len(self._stale)

    def _drop_stale(self) -> None:
        """Drop what is stale at the head."""
        stale, jobs = self._stale, self._jobs
        while stale and jobs[-1] in stale:
            stale.remove(jobs.pop())

    def _compact(self) -> None:
        """Drop all that is stale."""
        stale = self._stale
        self._jobs = [job for job in self._jobs if job not in stale]
        self._stale = set()
