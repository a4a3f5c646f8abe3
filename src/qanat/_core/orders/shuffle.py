"""Random order, the same for the same seed.

The jobs are a random permutation at every moment, the next one last: a job that is added changes
places with one of them, itself included, each as likely as the other (R. Durstenfeld, "Algorithm
235: Random permutation", 1964, the other way round). So each waiting job is as likely to be the
next one as any other, however many come later, and randomness is drawn once for each that is added
and never by asking.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.ports import Random


class Shuffle:
    """Serve the jobs in random order.

    Jobs that were put back come before all others, among themselves in the order of the input.

    `add`, `take` and `head` cost one step; `discard` too, as it only marks the job, and the
    marked ones are dropped when they come to the head, or all together once they are half. To
    put a job back costs O(log k) with k put back, and to add a discarded one again O(n).
    """

    __slots__ = ("_jobs", "_returned", "_rng", "_stale", "_turn")

    def __init__(self) -> None:
        self._jobs: list[Job[Any]] = []
        # Put back: by position in the input, and then in the order in which it happened.
        self._returned: list[tuple[int, int, Job[Any]]] = []
        self._stale: set[Job[Any]] = set()
        self._rng: Random | None = None
        self._turn = 0

    def bind(self, rng: Random) -> None:
        """Take the seeded source of randomness; called before the first `add`."""
        self._rng = rng

    def add(self, job: Job[Any]) -> None:
        """Take a job in, at a random place.

        Raises:
            RuntimeError: If the order was not bound to a source of randomness.
        """
        if self._rng is None:
            raise RuntimeError("a Shuffle has no source of randomness yet: call bind(rng) first")
        if self._stale and job in self._stale:
            self._compact()
        jobs = self._jobs
        jobs.append(job)
        place = int(self._rng.random() * len(jobs))
        jobs[place], jobs[-1] = job, jobs[place]

    def put_back(self, job: Job[Any]) -> None:
        """Take a job in before all that were not put back."""
        if self._stale and job in self._stale:
            self._compact()
        self._turn += 1
        heappush(self._returned, (job.index, self._turn, job))

    def head(self) -> Job[Any]:
        """Return the next job.

        Raises:
            IndexError: If no job waits.
        """
        if self._stale:
            self._drop_stale()
        return self._returned[0][2] if self._returned else self._jobs[-1]

    def take(self) -> Job[Any]:
        """Remove and return the job that `head` names.

        Raises:
            IndexError: If no job waits.
        """
        if self._stale:
            self._drop_stale()
        return heappop(self._returned)[2] if self._returned else self._jobs.pop()

    def _lift(self) -> Any:
        """Remove the next job and return it with its place, to which `_lower` brings it back."""
        if self._stale:
            self._drop_stale()
        return heappop(self._returned) if self._returned else self._jobs.pop()

    def _lower(self, lifted: Any) -> None:
        """Take a job in at the place that it had, the last one that was lifted first."""
        if type(lifted) is tuple:
            heappush(self._returned, cast("tuple[int, int, Job[Any]]", lifted))
        else:
            self._jobs.append(lifted)

    def discard(self, job: Job[Any]) -> None:
        """Remove a job that is in."""
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
        while stale and not returned and jobs[-1] in stale:
            stale.remove(jobs.pop())

    def _compact(self) -> None:
        """Drop all that is stale."""
        stale = self._stale
        self._jobs = [job for job in self._jobs if job not in stale]
        self._returned = [entry for entry in self._returned if entry[2] not in stale]
        heapify(self._returned)
        self._stale = set()
