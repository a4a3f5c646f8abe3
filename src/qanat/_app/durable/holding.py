"""What a consumer holds: the jobs that it has leased, from the claim until their settle was answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._app.durable.lineage import scope_of

if TYPE_CHECKING:
    from qanat._app.durable.brood import Brood
    from qanat._app.durable.lineage import Scope
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._core.store.values import StoredJob


class Held:
    """One leased job.

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

    __slots__ = (
        "_scope", "brood", "cancel", "job", "lost", "outcome", "safe_until", "spawns", "stored", "value",
    )  # fmt: skip

    def __init__(self, stored: StoredJob, job: Job[Any], safe_until: float) -> None:
        """Begin a lease."""
        self.stored = stored
        self.job = job
        self.safe_until = safe_until
        self.value: bytes | None = None
        self.outcome: Outcome[Any, Any] | None = None
        self.lost = False
        self.cancel = False
        self._scope: Scope | None = None
        self.brood: Brood | None = None
        self.spawns = False

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
    """

    def __init__(self) -> None:
        """Begin with empty hands."""
        self.live: dict[str, Held] = {}
        self._by_job: dict[Job[Any], Held] = {}
        self.suspects = 0

    def take(self, held: Held) -> None:
        """Hold one more."""
        self.live[held.stored.id] = held
        self._by_job[held.job] = held
        self.suspects += held.is_suspect

    def take_all(self, held: list[Held]) -> None:
        """Hold some more."""
        self.live.update([(each.stored.id, each) for each in held])
        self._by_job.update([(each.job, each) for each in held])
        self.suspects += sum([each.stored.crashes > 0 for each in held])

    def of(self, job: Job[Any]) -> Held | None:
        """Return what is held of a job; None if nothing is (any more)."""
        return self._by_job.get(job)

    def leave(self, job: Job[Any]) -> Held | None:
        """Renew a job no more, as it has ended here; None if it was not held."""
        held = self._by_job.pop(job, None)
        if held is not None and self.live.get(held.stored.id) is held:
            del self.live[held.stored.id]
        return held

    def settled(self, held: Held) -> None:
        """Let go of a job for good."""
        self.suspects -= held.is_suspect
