"""What a consumer holds: the jobs that it has leased, from the claim until their settle was answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from qanat._app.durable.brood import Brood
from qanat._app.durable.lineage import Scope, scope_of
from qanat._core.job import Job
from qanat._core.outcome import Outcome
from qanat._core.store.values import StoredJob

if TYPE_CHECKING:
    from collections.abc import Callable


class Held(Struct, eq=False):
    """One leased job.

    A Struct, as there is one for each job: it is made in a third of the time of a class with slots.

    Attributes:
        stored: The job as the store gave it.
        job: The job as the engine knows it.
        safe_until: Until when the lease cannot have expired, monotonic: counted from before it was sent for.
        value: The result as it is to be kept; None without.
        outcome: What it ended with here; None before.
        lost: Whether the lease is lost, so that whatever comes of the job means nothing.
        cancel: Whether its cancellation was asked for.
        brood: What its present attempt spawned; None without.
        spawns: Whether its handler is being called, and may spawn.
    """

    stored: StoredJob
    job: Job[Any]
    safe_until: float
    value: bytes | None = None
    outcome: Outcome[Any, Any] | None = None
    lost: bool = False
    cancel: bool = False
    brood: Brood | None = None
    spawns: bool = False
    _scope: Scope | None = None

    @property
    def scope(self) -> Scope:
        """What the ids of its children are made of."""
        if self._scope is None:
            self._scope = scope_of(self.stored)
        return self._scope

    @property
    def is_suspect(self) -> bool:
        """Whether it has lost its worker before."""
        return self.stored.crashes > 0


class Holding:
    """All that a consumer holds.

    Attributes:
        live: By id, what waits or runs here, and is renewed. Read by the thread of the pulse.
        suspects: How many suspects are held, those included whose settle is not answered.
        left: How many jobs have ended here, or left, since the beginning.
        of: Return what is held of a job; None if nothing is (any more).
    """

    def __init__(self) -> None:
        """Begin with empty hands."""
        self.live: dict[str, Held] = {}
        self._by_job: dict[Job[Any], Held] = {}
        self.suspects = 0
        self.left = 0
        # The dict's own method: it is asked twice a job.
        self.of: Callable[[Job[Any]], Held | None] = self._by_job.get

    def take(self, held: Held) -> None:
        """Hold one more."""
        self.live[held.stored.id] = held
        self._by_job[held.job] = held
        self.suspects += held.is_suspect

    def take_all(self, ids: list[str], jobs: list[Job[Any]], held: list[Held]) -> None:
        """Hold some more, of which none is a suspect."""
        self.live.update(zip(ids, held, strict=True))
        self._by_job.update(zip(jobs, held, strict=True))

    def leave(self, job: Job[Any]) -> Held | None:
        """Renew a job no more, as it has ended here; None if it was not held."""
        held = self._by_job.pop(job, None)
        if held is not None:
            self.left += 1
            id = held.stored.id
            if self.live.get(id) is held:
                del self.live[id]
        return held

    def settled(self, held: Held) -> None:
        """Let go of a job for good."""
        if held.stored.crashes:
            self.suspects -= 1
