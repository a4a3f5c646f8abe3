"""First come, first served."""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from qanat._core.job import Job


class Fifo:
    """Serve jobs in the order in which they arrived.

    Jobs that were put back come before all others, among themselves in the order of the
    input: after an outage the oldest is served first again.

    `add`, `take` and `head` cost one step; `discard` too, as it only marks the job, and the
    marked ones are dropped when they come to the head, or all together once they are half. To
    put a job back costs O(log k) with k put back, and to add a discarded one again O(n).
    """

    __slots__ = ("_jobs", "_plain", "_returned", "_stale", "_turn")

    def __init__(self) -> None:
        self._jobs: deque[Job[Any]] = deque()
        # Whether nothing is stale and nothing was put back: then the deque alone knows.
        self._plain = True
        # Put back: by position in the input, and then in the order in which it happened.
        self._returned: list[tuple[int, int, Job[Any]]] = []
        self._stale: set[Job[Any]] = set()
        self._turn = 0

    def add(self, job: Job[Any]) -> None:
        """Take a job in, behind all others."""
        if self._stale and job in self._stale:
            self._compact()
        self._jobs.append(job)

    def extend(self, jobs: Iterable[Job[Any]]) -> None:
        """Take new jobs in, behind all others."""
        self._jobs.extend(jobs)

    def put_back(self, job: Job[Any]) -> None:
        """Take a job in before all that were not put back."""
        if self._stale and job in self._stale:
            self._compact()
        self._plain = False
        self._turn += 1
        heappush(self._returned, (job.index, self._turn, job))

    def head(self) -> Job[Any]:
        """Return the next job.

        Raises:
            IndexError: If no job waits.
        """
        if self._plain:
            return self._jobs[0]
        self._drop_stale()
        return self._returned[0][2] if self._returned else self._jobs[0]

    def take(self) -> Job[Any]:
        """Remove and return the job that `head` names.

        Raises:
            IndexError: If no job waits.
        """
        if self._plain:
            return self._jobs.popleft()
        if self._stale:
            self._drop_stale()
        returned = self._returned
        job = heappop(returned)[2] if returned else self._jobs.popleft()
        self._plain = not returned and not self._stale
        return job

    def _lift(self) -> Any:
        """Remove the next job and return it with its place, to which `_lower` brings it back."""
        if self._stale:
            self._drop_stale()
        if not self._returned:
            return self.take()
        lifted = self._returned[0]
        self.take()
        return lifted

    def _lower(self, lifted: Any) -> None:
        """Take a job in at the place that it had, the last one that was lifted first."""
        if type(lifted) is tuple:
            self._plain = False
            heappush(self._returned, cast("tuple[int, int, Job[Any]]", lifted))
        else:
            self._jobs.appendleft(lifted)

    def discard(self, job: Job[Any]) -> None:
        """Remove a job that is in."""
        self._plain = False
        self._stale.add(job)
        if 2 * len(self._stale) >= len(self._jobs) + len(self._returned):
            self._compact()

    def __len__(self) -> int:
        return len(self._jobs) + len(self._returned) - len(self._stale)

    def _drop_stale(self) -> None:
        """Drop what is stale at the head."""
        stale, returned, jobs = self._stale, self._returned, self._jobs
        while stale and returned and returned[0][2] in stale:
            stale.remove(heappop(returned)[2])
        while stale and not returned and jobs[0] in stale:
            stale.remove(jobs.popleft())

    def _compact(self) -> None:
        """Drop all that is stale."""
        stale = self._stale
        self._jobs = deque(job for job in self._jobs if job not in stale)
        self._returned = [entry for entry in self._returned if entry[2] not in stale]
        heapify(self._returned)
        self._stale = set()
        self._plain = not self._returned
