"""How a claim chooses: due jobs first made ready, then suspects, then the lanes by turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from qanat._core.store.bounds import MOST, MOST_SUSPECTS
from qanat._core.store.rules import beyond
from qanat._core.store.values import Claim, Ended, StoredJob

if TYPE_CHECKING:
    from collections.abc import Collection

    from qanat._stores.memory.life import Life
    from qanat._stores.memory.places import Places


class Wish(NamedTuple):
    """What is asked for."""

    n: int
    worker: str
    lease: float
    skip: Collection[str]
    suspects: int
    now: float


class Claiming:
    """One claim under way."""

    def __init__(self, life: Life, wish: Wish) -> None:
        self.life = life
        self.wish = wish
        self.jobs: list[StoredJob] = []
        self.ended: list[Ended] = []
        self.looks = 0
        """Jobs that ended instead of being leased."""

    def run(self) -> Claim:
        """Claim, and tell what came of it."""
        places = self.life.places
        let_due_in(places, self.wish.now)
        if self.wish.suspects and self.wish.n:
            self._take_suspects()
        self._take_turns()
        return Claim(self.jobs, 0.0 if self.looks >= MOST else next_due(places, self.wish.now), self.ended)

    def _take_suspects(self) -> None:
        left = min(self.wish.suspects, self.wish.n)
        for id in self.life.places.suspects.first(MOST_SUSPECTS):
            record = self.life.places.records[id]
            if record.lane not in self.wish.skip:
                left -= self._lease(record)
                if not left:
                    return

    def _take_turns(self) -> None:
        places = self.life.places
        passed = 0
        while len(self.jobs) < self.wish.n and self.looks < MOST and passed < len(places.ring):
            lane = next(iter(places.ring))
            if lane in self.wish.skip:
                places.turn()
                passed += 1
                continue
            passed = 0
            head = places.lanes[lane].head()
            assert head is not None  # noqa: S101 - a lane without jobs is not in the ring
            if not self._lease(places.records[head[1]]) or lane not in places.ring:
                continue
            places.given += 1
            if places.given >= places.conf.weights.get(lane, 1):
                places.turn()

    def _lease(self, record: StoredJob) -> bool:
        """Lease a job, or let it end if it is beyond a bound."""
        now = self.wish.now
        why = beyond(
            self.life.places.conf, attempt=record.attempt, crashes=record.crashes, age=now - record.born_at
        )
        if why:
            self.looks += 1
            self.life.end(replace(record, state="dead", reason=why), now, self.ended, told=True)
            return False
        self.jobs.append(self.life.lease(record, self.wish.worker, self.wish.lease, now))
        return True


def let_due_in(places: Places, now: float) -> None:
    """Make scheduled jobs ready whose time has come, as many as one step may."""
    for _ in range(MOST):
        head = places.scheduled.head()
        if head is None or head[0][0] > now:
            return
        places.move(replace(places.records[head[1]], state="ready", due_at=None))


def next_due(places: Places, now: float) -> float | None:
    """Return the seconds until something falls due or a lease expires."""
    heads = [line.head() for line in (places.scheduled, places.leased)]
    return min((max(0.0, head[0][0] - now) for head in heads if head is not None), default=None)
