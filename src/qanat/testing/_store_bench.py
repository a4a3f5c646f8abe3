"""A store under test, and the hand that drives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qanat._core.store.values import Lease, NewJob, Settle
from qanat.testing._plans import BrokenPromiseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.store.ports import Store
    from qanat._core.store.values import Claim, Conf, Placed, Settled, StoredJob

QUEUE = "under-test"
CLOSE = 0.002
"""Seconds by which a store may round a length up, twice."""


def _nothing() -> None:
    """Close nothing more."""


@dataclass(frozen=True, kw_only=True)
class StoreBench:
    """A new, empty store, and a way to move its clock.

    Attributes:
        store: The store. Its clock must stand still but for `advance`.
        advance: Moves the store's clock forward by so many seconds.
        connect: Opens another connection to the same data; None if there is no such thing.
        close: Clears up after `store.close()`.
    """

    store: Store
    advance: Callable[[float], None]
    connect: Callable[[], Store] | None = None
    close: Callable[[], None] = _nothing


def expect(got: object, wanted: object, what: str) -> None:
    """Break the promise unless two values are the same."""
    if got != wanted:
        raise BrokenPromiseError(f"{what}: got {got!r}, expected {wanted!r}")


def expect_refusal(call: Callable[[], object], what: str, *, error: type[Exception] = ValueError) -> None:
    """Break the promise unless a call raises."""
    try:
        got = call()
    except error:
        return
    raise BrokenPromiseError(f"{what} must raise {error.__name__}, got {got!r}")


class Hand:
    """A short way to say what a promise is about: one queue, one worker."""

    def __init__(self, bench: StoreBench, conf: Conf | None = None) -> None:
        self.bench = bench
        self.store = bench.store
        self.start = bench.store.now()
        if conf is not None:
            self.store.conf(QUEUE, conf)

    def put(self, *ids: str, **given: Any) -> list[Placed]:
        """Put jobs that differ in their ids alone."""
        return self.store.put(QUEUE, [NewJob(id=id, **given) for id in ids])

    def claim(self, n: int = 1, *, worker: str = "worker", lease: float = 30.0, **given: Any) -> Claim:
        """Claim jobs."""
        return self.store.claim(QUEUE, n, worker=worker, lease=lease, **given)

    def take(self, n: int = 1, **given: Any) -> list[StoredJob]:
        """Claim exactly so many jobs."""
        jobs = self.claim(n, **given).jobs
        expect(len(jobs), n, "how many jobs were leased")
        return jobs

    def ids(self, n: int, **given: Any) -> list[str]:
        """Claim up to so many jobs, and say which came."""
        return [job.id for job in self.claim(n, **given).jobs]

    def settle(self, job: StoredJob, kind: Any = "done", **given: Any) -> Settled:
        """Settle one lease."""
        [settled] = self.store.settle(QUEUE, [Settle(id=job.id, token=job.token, kind=kind, **given)])
        return settled

    def extend(self, job: StoredJob, lease: float = 30.0, note: str | None = None) -> list[str]:
        """Extend one lease; return whether it is lost."""
        return self.store.extend(QUEUE, [Lease(job.id, job.token, note)], lease).lost

    def get(self, id: str) -> StoredJob | None:
        """Return what is known of a job."""
        [job] = self.store.get(QUEUE, [id])
        return job

    def job(self, id: str) -> StoredJob:
        """Return what is known of a job that is there."""
        job = self.get(id)
        if job is None:
            raise BrokenPromiseError(f"job {id!r} is gone")
        return job

    def expect_states(self, what: str, **wanted: str) -> None:
        """Break the promise unless jobs are where they should be."""
        expect({id: self.job(id).state for id in wanted}, wanted, what)

    def expect_time(self, got: float | None, wanted: float, what: str) -> None:
        """Break the promise unless a time is so many seconds from the start."""
        if got is None or not wanted <= got - self.start + CLOSE / 10 or got - self.start > wanted + CLOSE:
            shown = None if got is None else got - self.start
            raise BrokenPromiseError(f"{what}: got {shown!r} s from the start, expected {wanted!r}")

    def expect_length(self, got: float | None, wanted: float, what: str) -> None:
        """Break the promise unless a length is what it should be, but for rounding up."""
        self.expect_time(None if got is None else self.start + got, wanted, what)

    def expect_sound(self, queue: str = QUEUE) -> None:
        """Break the promise unless the store finds nothing wrong with itself, and counts add up."""
        expect(self.store.check(queue), [], "what check() finds")
        counts = self.store.count(queue)
        sum_ = sum(
            (
                counts.scheduled,
                counts.ready,
                counts.leased,
                counts.waiting,
                counts.done,
                counts.dead,
                counts.cancelled,
            )
        )
        expect(counts.put, counts.removed + sum_, "the count of jobs put")
