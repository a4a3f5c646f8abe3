"""What a consumer holds: the jobs that it has leased, from the claim until their settle was answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qanat._app.durable.lineage import Scope, scope_of
from qanat._core.job import Job
from qanat._core.store.values import Settle, StoredJob

if TYPE_CHECKING:
    from qanat._app.durable.brood import Brood
    from qanat._core.outcome import Outcome


_NOTHING: Final = StoredJob(id="", state="ready")


class Held(Job[Any], eq=False):
    """One leased job: as the engine knows it, with what its store and its lease say.

    One object for both, as there is one for each job: a second one, and a dict that led to it, were a tenth
    of what a job took in the event loop of a drain.

    Attributes:
        stored: The job as the store gave it.
        safe_until: Until when the lease cannot have expired, monotonic: counted from before it was sent for.
        value: The result as it is to be kept; None without.
        outcome: What it ended with here, if somebody listens; None before.
        lost: Whether the lease is lost, so that whatever comes of the job means nothing.
        cancel: Whether its cancellation was asked for.
        brood: What its present attempt spawned; None without.
        spawns: Whether its handler is being called, and may spawn.
        is_held: Whether it waits or runs here.
        settle: How its lease ends; None before, and if it is done and that is all.
        settled_at: Since when that is to be stored.
    """

    stored: StoredJob = _NOTHING
    safe_until: float = 0.0
    value: bytes | None = None
    outcome: Outcome[Any, Any] | None = None
    lost: bool = False
    cancel: bool = False
    brood: Brood | None = None
    spawns: bool = False
    is_held: bool = True
    settle: Settle | None = None
    settled_at: float = 0.0
    _scope: Scope | None = None

    @property
    def scope(self) -> Scope:
        """What the ids of its children are made of."""
        if self._scope is None:
            self._scope = scope_of(self.stored)
        return self._scope


def held_of(job: Job[Any]) -> Held | None:
    """Return what is held of a job; None if nothing is (any more)."""
    return job if type(job) is Held and job.is_held else None


class Holding:
    """All that a consumer holds.

    Attributes:
        live: By id, what waits or runs here, and is renewed. Read by the thread of the pulse.
        suspects: How many suspects are held, those included whose settle is not answered.
        left: How many jobs have ended here, or left, since the beginning.
    """

    def __init__(self) -> None:
        """Begin with empty hands."""
        self.live: dict[str, Held] = {}
        self.suspects = 0
        self.left = 0

    def take(self, held: Held) -> None:
        """Hold one more."""
        self.live[held.stored.id] = held
        if held.stored.crashes:
            self.suspects += 1

    def take_all(self, held: list[Held]) -> None:
        """Hold some more, of which none is a suspect."""
        self.live.update([(each.stored.id, each) for each in held])

    def leave(self, held: Held) -> None:
        """Renew a job no more, as it has ended here."""
        held.is_held = False
        self.left += 1
        id = held.stored.id
        if self.live.get(id) is held:
            del self.live[id]

    def settled(self, held: list[Held]) -> None:
        """Let go of jobs for good."""
        if self.suspects:
            self.suspects -= sum([each.stored.crashes > 0 for each in held])
