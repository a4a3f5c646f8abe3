"""The reference store: what every other is held to. Clear first, yet no hot path grows with the backlog.

One lock makes every deed one atomic step, so a store may be shared by threads: `connect` gives
another connection to the same queues. Nothing outlives the process, and a fork is refused.
"""

from __future__ import annotations

import os
import time
from heapq import nsmallest
from math import inf
from threading import Lock
from typing import TYPE_CHECKING, Literal, cast

from qanat._core.shown import shown
from qanat._core.store import bounds, rules
from qanat._core.store.finding import Finding
from qanat._core.store.values import Conf, Counts, Page, Placed, Settled
from qanat._stores.memory.checking import problems
from qanat._stores.memory.claiming import Wish
from qanat._stores.memory.queue import Queue
from qanat.errors import StoreError, StoreForked

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from qanat._core.store.states import State
    from qanat._core.store.values import (
        Claim,
        Extended,
        Lease,
        NewJob,
        Rescued,
        Settle,
        Stamp,
        StoredJob,
    )


def steady_clock() -> Callable[[], float]:
    """Return a clock that shows UTC seconds now, and from then on never steps."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()


class _Shared:
    """What all connections to one store have in common."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.queues: dict[str, Queue] = {}
        self.lock = Lock()
        self.pid = os.getpid()


class MemoryStore:
    """Jobs in memory, behind the ports of a store.

    Args:
        clock: Returns seconds, never running backwards; None: UTC as it was at the start, steadily on.
    """

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._shared = _Shared(clock or steady_clock())
        self._closed = False

    def connect(self) -> MemoryStore:
        """Return another connection to the same queues."""
        self._enter()
        other = type(self)(self._shared.clock)
        other._shared = self._shared
        return other

    # The life of jobs.

    def put(
        self,
        queue: str,
        jobs: Sequence[NewJob],
        *,
        stamp: Stamp | None = None,
        replicas: int = 0,
        durable: bool = False,
    ) -> list[Placed]:
        """Store new jobs."""
        bounds.check_put(queue, jobs, stamp)
        if replicas:
            raise ValueError(f"replicas must be 0 for a store in memory, got {replicas!r}")
        if durable:
            raise ValueError("durable must be False for a store in memory, got True")
        with self._enter():
            into = self._make(queue)
            answer = into.answered(stamp, "put") if stamp is not None else None
            if answer is None:
                answer = into.put(jobs, self._shared.clock())
                if stamp is not None:
                    into.remember(stamp, "put", answer, self._shared.clock())
            return list(cast("list[Placed]", answer))

    def claim(
        self,
        queue: str,
        n: int,
        *,
        worker: str,
        lease: float,
        skip: Collection[str] = (),
        suspects: int = 1,
    ) -> Claim:
        """Lease up to `n` jobs."""
        bounds.check_claim(queue, n, worker, lease, skip, suspects)
        with self._enter():
            wish = Wish(n, worker, lease, frozenset(skip), suspects, self._shared.clock())
            return self._at(queue).claim(wish)

    def settle(self, queue: str, settles: Sequence[Settle], *, stamp: Stamp | None = None) -> list[Settled]:
        """End leases."""
        bounds.check_settle(queue, settles, stamp)
        with self._enter():
            at = self._at(queue)
            answer = at.answered(stamp, "settle") if stamp is not None else None
            if answer is None:
                answer = at.settle(settles, self._shared.clock())
                if stamp is not None:
                    at.remember(stamp, "settle", answer, self._shared.clock())
            return list(cast("list[Settled]", answer))

    def extend(self, queue: str, leases: Sequence[Lease], lease: float) -> Extended:
        """Let live leases expire later."""
        bounds.check_extend(queue, leases, lease)
        with self._enter():
            return self._at(queue).extend(leases, lease, self._shared.clock())

    def rescue(self, queue: str, n: int = bounds.MOST) -> Rescued:
        """Take back leases that have expired."""
        bounds.checked_name("queue", queue)
        bounds.check_whole("n", n, 1, bounds.MOST)
        with self._enter():
            return self._at(queue).rescue(n, self._shared.clock())

    def cancel(
        self, queue: str, ids: Sequence[str]
    ) -> list[Literal["cancelled", "asked", "ended", "unknown"]]:
        """Cancel jobs that have not ended."""
        self._check_ids(queue, ids)
        with self._enter():
            return self._at(queue).cancel(ids, self._shared.clock())

    def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        """Return what is known of jobs."""
        self._check_ids(queue, ids)
        with self._enter():
            records = self._at(queue).life.places.records
            return [records.get(id) for id in ids]

    def find(
        self,
        queue: str,
        state: State | None = None,
        *,
        lane: str | None = None,
        parent: str | None = None,
        bodies: Collection[bytes] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page:
        """Return jobs by state and lane, or the children of one, in their order."""
        bounds.check_find(queue, state, parent, limit, bodies)
        past = _cursor(after)
        with self._enter():
            places = self._at(queue).life.places
            ids = (
                places.children.get(parent, {})
                if parent is not None
                else places.in_state[cast("State", state)]
            )
            fitting = (
                record
                for record in map(places.records.__getitem__, ids)
                if (past is None or record.order > past)
                and (state is None or record.state == state)
                and (lane is None or record.lane == lane)
                and (bodies is None or record.body in bodies)
            )
            jobs = nsmallest(limit, fitting, key=lambda record: record.order)
        return Page(jobs, str(jobs[-1].order) if len(jobs) == limit else None)

    def count(self, queue: str) -> Counts:
        """Return how many jobs are in each state."""
        bounds.checked_name("queue", queue)
        with self._enter():
            at = self._at(queue)
            places, now = at.life.places, self._shared.clock()
            due = sum(line.until((now, inf)) for line in (places.scheduled, places.leased))
            return Counts(
                **places.counts, put=at.life.put_total, removed=at.removed, paused=at.paused, due=due
            )

    # What operators do.

    def conf(self, queue: str, conf: Conf | None = None, *, change: bool = False) -> Conf:
        """Set a queue at its first use, and return what it is set to."""
        bounds.checked_name("queue", queue)
        if conf is not None:
            bounds.check_conf(conf)
        with self._enter():
            if conf is None:
                return self._at(queue).life.places.conf
            at = self._make(queue)
            places = at.life.places
            if change:
                empty = not (places.records or places.keys)
                places.conf = rules.changed(places.conf, conf, empty=empty or not at.conf_set)
            elif not at.conf_set:
                places.conf = conf
            at.conf_set = True
            return places.conf

    def pause(self, queue: str) -> None:
        """Let claims get nothing."""
        bounds.checked_name("queue", queue)
        with self._enter():
            self._make(queue).paused = True

    def resume(self, queue: str) -> None:
        """Let claims get jobs again."""
        bounds.checked_name("queue", queue)
        with self._enter():
            self._at(queue).paused = False

    def requeue(self, queue: str, ids: Sequence[str]) -> list[Literal["ready", "key", "live", "unknown"]]:
        """Let jobs that have ended run again, or scheduled ones now."""
        self._check_ids(queue, ids)
        with self._enter():
            return self._at(queue).requeue(ids, self._shared.clock())

    def delete(
        self, queue: str, ids: Sequence[str], *, leased: bool = False
    ) -> list[Literal["deleted", "leased", "unknown"]]:
        """Remove jobs with all that is known of them."""
        self._check_ids(queue, ids)
        with self._enter():
            return self._at(queue).delete(ids, self._shared.clock(), leased=leased)

    def purge(self, queue: str, state: State, n: int = bounds.MOST) -> int:
        """Delete up to `n` jobs of one state."""
        bounds.check_purge(queue, state, n)
        with self._enter():
            return self._at(queue).purge(state, n, self._shared.clock())

    def forget(self, queue: str, keys: Sequence[str]) -> int:
        """Let go of keys whose jobs have ended."""
        bounds.checked_name("queue", queue)
        bounds.check_ids("keys", keys)
        with self._enter():
            return self._at(queue).forget(keys)

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        with self._enter():
            return sorted(self._shared.queues)

    def check(self, queue: str, *, repair: bool = False) -> list[str]:
        """Return what contradicts itself; with `repair` the indexes are made anew."""
        bounds.checked_name("queue", queue)
        with self._enter():
            at = self._at(queue)
            found = problems(at)
            if found and repair:
                at.rebuild(self._shared.clock())
            return found

    # The store itself.

    def now(self) -> float:
        """Return the time on the clock that was handed in."""
        return self._shared.clock()

    def guarantees(self) -> str:
        """Return "none": all is lost with the process."""
        return "none"

    def examine(self, *, thorough: bool = False) -> list[Finding]:
        """Return what is to be known of a store in memory."""
        return [
            Finding(
                "durability", "advice", "memory of this process", "all jobs are gone when it ends",
                "for jobs that are to survive: sqlite:///work.db or redis://host",
            )
        ]  # fmt: skip

    def close(self) -> None:
        """Let go; the queues stay as long as another connection has them."""
        self._closed = True

    def _enter(self) -> Lock:
        if self._closed:
            raise StoreError("the store is closed")
        if self._shared.pid != os.getpid():
            raise StoreForked("a store in memory does not reach across a fork: use a file or a server")
        return self._shared.lock

    def _make(self, queue: str) -> Queue:
        return self._shared.queues.setdefault(queue, Queue())

    def _at(self, queue: str) -> Queue:
        """Return a queue; if it is not there, an empty one that nobody keeps."""
        return self._shared.queues.get(queue) or Queue()

    @staticmethod
    def _check_ids(queue: str, ids: Sequence[str]) -> None:
        bounds.checked_name("queue", queue)
        bounds.check_ids("ids", ids)


def _cursor(after: str | None) -> int | None:
    if after is None:
        return None
    try:
        return int(after)
    except ValueError:
        raise ValueError(f"after must be the next of a page before, got {shown(after)}") from None
