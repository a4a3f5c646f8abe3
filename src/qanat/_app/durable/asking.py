"""What a queue asks its store for: made and understood here, once; carried by whoever has a courier.

An `Ask` is a deed, what it is asked for, and what is made of the answers. The queue for event loops
awaits it, the one for plain threads waits for it, and neither decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from msgspec import Struct

from qanat._app.durable.lineage import TREE
from qanat._app.durable.options import check_same, is_rotation
from qanat._app.durable.queue_job import Page, QueueJob, of_placed, of_stored
from qanat._core.arguments import at_least, number, whole
from qanat._core.branch import checked_key
from qanat._core.content_key import given_key
from qanat._core.shown import shown
from qanat._core.store import bounds
from qanat._core.store.rules import REMEMBERED_FOR
from qanat._core.store.values import Lease, NewJob, Settle
from qanat._stores.codec import decode_all, encode
from qanat._stores.deeds import Look, Wish
from qanat.errors import LeaseLost, SerialisationError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qanat._app.durable.ids import Ids
    from qanat._app.durable.options import Options
    from qanat._app.durable.turning import Turning
    from qanat._core.store.states import State
    from qanat._core.store.values import Claim, Conf, Counts, Placed, Rescued, Settled, StoredJob
    from qanat._stores.deeds import Renewed

A = TypeVar("A")

LOOKED_FOR: Final = 100_000
"""Characters of items that a store is asked to look for, all together."""


class Ask(Struct, Generic[A], frozen=True):
    """Something to be asked of a store.

    Attributes:
        deed: The name of the deed.
        asked: What it is asked for.
        understand: Makes what the caller gets of the answers; may raise.
        rings: Whether it may leave work for who waits at the queue.
    """

    deed: str
    asked: list[Any]
    understand: Callable[[list[Any]], A]
    rings: bool = False


class Leased(Struct, frozen=True):
    """What a lease got.

    Attributes:
        jobs: The jobs that can be handed out.
        spoilt: How to give up those whose items cannot be read; None if there are none.
        next_due: Seconds until it is worth to look again; None if only a put helps.
    """

    jobs: list[QueueJob[Any]]
    spoilt: Ask[None] | None
    next_due: float | None


class Asking:
    """The asks of one queue."""

    def __init__(self, name: str, options: Options, ids: Ids, worker: str) -> None:
        """Keep what all asks share."""
        self.name = name
        self.options = options
        self._ids = ids
        self._worker = worker
        self.deed_of_put: str = f"put {name} {options.replicas} {'durable' if options.durable else '-'}"
        self.conf: Conf | None = None
        """What the queue is set to; None before the first use."""
        self.turning: Turning | None = None
        """How items come again, where this is a rotation."""

    # Set at first use.

    def first(self) -> Ask[None]:
        """Ask what the queue is set to, and set it if nobody has."""

        def understand(answers: list[Any]) -> None:
            check_same(self.name, self.options, answers[0])
            self.conf = answers[0]

        return Ask(f"conf {self.name}", [self.options.conf], understand)

    def check(self, ask: Ask[Any]) -> None:
        """Check, once it is known what the queue is set to, that an ask fits what it is; errors as below."""
        if ask.deed.startswith(("put ", "claim ")):
            self.check_kind()

    def check_kind(self) -> None:
        """Check that a rotation is not used as a queue.

        Raises:
            ValueError: If it is.
        """
        if self.turning is None and self.conf is not None and is_rotation(self.conf):
            raise ValueError(
                f"name must be that of a queue, and {self.name!r} is a rotation: use it by "
                f"store.rotation({self.name!r}, every=...)"
            )

    # Producers.

    def new(
        self, item: object, *, id: str | None = None, key: object = None, priority: float = 0.0,
        lane: str | None = None, delay: float = 0.0, metadata: Mapping[str, Any] | None = None,
        handler: str = "",
    ) -> NewJob:  # fmt: skip
        """Return a job to be put; a wrong call fails here, before anything is sent."""
        if (
            id is None and lane is None and key is None and metadata is None and handler == ""
            and type(priority) is float and not priority and type(delay) is float and not delay
        ):  # fmt: skip
            # Only the item is left to be wrong.
            return NewJob(id=self._ids.make(), body=encode(item))
        if metadata is not None and not isinstance(cast("object", metadata), Mapping):
            raise TypeError(f"metadata must be a mapping, got {shown(metadata)}")
        if metadata and TREE in metadata:
            raise ValueError(f"metadata must not have the name {TREE!r}, which is kept for trees")
        new = NewJob(
            id=self._ids.make() if id is None else id,
            body=encode(item),
            handler=handler,
            lane="" if lane is None else lane,
            priority=number("priority", priority),
            key=None if key is None else _key(key),
            delay=at_least("delay", delay, 0.0) if delay else 0.0,
            metadata=encode(dict(metadata), most=bounds.METADATA_BYTES) if metadata else b"",
            dedupe_for=0.0 if id is None else REMEMBERED_FOR,
        )
        if lane is not None:
            bounds.check_text("lane", lane)
        if handler:
            bounds.check_text("handler", handler)
        bounds.check_job(new)
        return new

    def put(self, new: Sequence[NewJob]) -> Ask[list[QueueJob[Any]]]:
        """Ask to store jobs, all in one step if they are 1,000 at most.

        Raises:
            ValueError: If one has a key, and keys have no meaning here.
        """
        for each in new:
            if each.key is not None:
                self._check_key(each.key)
        kind = self.options.type

        def understand(answers: list[Placed]) -> list[QueueJob[Any]]:
            return [of_placed(each, placed, kind) for each, placed in zip(new, answers, strict=True)]

        return Ask(self.deed_of_put, list(new), understand, rings=True)

    def check_put(self, new: NewJob) -> None:
        """Check a single job that is to be put; errors as `put` and `check_kind`."""
        self.check_kind()
        if new.key is not None:
            self._check_key(new.key)

    def placed(self, new: NewJob, answers: list[Placed]) -> QueueJob[Any]:
        """Return what the caller gets who put a single job."""
        return of_placed(new, answers[0], self.options.type)

    def _check_key(self, key: str) -> None:
        if self.conf is not None and self.conf.unique is None:
            raise ValueError(
                f"key must be None, as queue {self.name!r} has unique=None, got {shown(key)}: "
                'open it with unique="active" or another mode at its first use'
            )

    # Workers.

    def lease(self, n: int) -> Ask[Leased]:
        """Ask for up to so many jobs."""
        bounds.check_whole("n", n, 1, bounds.MOST)
        kind = self.options.type

        def understand(answers: list[Claim]) -> Leased:
            claim = answers[0]
            if self._all_readable(claim.jobs):
                return Leased([of_stored(stored, kind) for stored in claim.jobs], None, claim.next_due)
            jobs: list[QueueJob[Any]] = []
            spoilt: list[Settle] = []
            for stored in claim.jobs:
                job = of_stored(stored, kind)
                try:
                    job.item  # noqa: B018 - whether it can be read
                    job.metadata  # noqa: B018
                except SerialisationError as error:
                    reason = f"undecodable: {error}"[: bounds.NOTE_CHARACTERS]
                    if self.turning is None:
                        spoilt.append(Settle(id=job.id, token=job.token, kind="dead", reason=reason))
                    else:
                        spoilt.append(self.turning.failed(stored, reason))
                else:
                    jobs.append(job)
            return Leased(jobs, self.settle(spoilt) if spoilt else None, claim.next_due)

        wish = Wish(n=n, worker=self._worker, lease=self.options.lease)
        return Ask(f"claim {self.name}", [wish], understand)

    def _all_readable(self, jobs: Sequence[StoredJob]) -> bool:
        """Say whether several jobs can surely be read, at a third of the cost of one by one."""
        if len(jobs) < 2 or any(job.metadata for job in jobs):
            return False
        return decode_all([job.body for job in jobs], self.options.type) is not None

    def items_of(self, jobs: Sequence[QueueJob[Any]]) -> list[Any]:
        """Return the items of jobs; errors as `QueueJob.item`."""
        items = decode_all([job.body for job in jobs], self.options.type) if len(jobs) > 1 else None
        return [job.item for job in jobs] if items is None else items

    def settle(self, settles: list[Settle]) -> Ask[None]:
        """Ask to end leases.

        Raises:
            LeaseLost: In the answer, if some were lost; the others have ended.
        """

        def understand(answers: list[Settled]) -> None:
            lost = [each.id for each in answers if each.status == "stale"]
            if lost:
                raise LeaseLost(lost)

        return Ask(f"settle {self.name}", list(settles), understand, rings=True)

    def ack(self, jobs: Sequence[QueueJob[Any]]) -> Ask[None]:
        """Ask to end jobs as done."""
        return self.settle([Settle(id=id, token=token, kind="done") for id, token in leases_of(jobs)])

    def reject(self, jobs: Sequence[QueueJob[Any]], delay: float) -> Ask[None]:
        """Ask to let jobs run again, as their attempt failed."""
        delay = _delay(delay)
        return self.settle(
            [Settle(id=id, token=token, kind="retry", delay=delay) for id, token in leases_of(jobs)]
        )

    def release(
        self, jobs: Sequence[QueueJob[Any]], delay: float = 0.0, *, yields: bool = False
    ) -> Ask[None]:
        """Ask to take jobs back as if they had not been leased, or with `yields` as `Settle` has it."""
        delay = _delay(delay)
        return self.settle(
            [
                Settle(id=id, token=token, kind="release", delay=delay, yields=yields)
                for id, token in leases_of(jobs)
            ]
        )

    def extend(self, jobs: Sequence[QueueJob[Any]]) -> Ask[list[str]]:
        """Ask to let leases expire later."""
        leases = [Lease(id, token) for id, token in leases_of(jobs)]

        def understand(answers: list[Renewed]) -> list[str]:
            lost = [each.id for each in answers if each.lost]
            if lost:
                raise LeaseLost(lost)
            return [each.id for each in answers if each.cancel]

        return Ask(f"extend {self.name} {self.options.lease!r}", leases, understand)

    # Everybody.

    def by_ids(self, deed: str, ids: Sequence[str], *, rings: bool = False) -> Ask[list[Any]]:
        """Ask for a deed that takes ids."""
        for each in ids:
            bounds.check_text("id", each)
        return Ask(f"{deed} {self.name}", list(ids), list, rings=rings)

    def get(self, id: str) -> Ask[QueueJob[Any] | None]:
        """Ask what is known of a job."""
        bounds.check_text("id", id)
        kind = self.options.type

        def understand(answers: list[Any]) -> QueueJob[Any] | None:
            return None if answers[0] is None else of_stored(answers[0], kind)

        return Ask(f"get {self.name}", [id], understand)

    def find(
        self, state: State, lane: str | None, limit: int, after: str | None,
        bodies: frozenset[bytes] | None = None,
    ) -> Ask[Page[Any]]:  # fmt: skip
        """Ask for jobs in a state, or for those of them that have one of these bodies."""
        bounds.check_find(self.name, state, None, whole("limit", limit, 1))
        if lane is not None:
            bounds.check_text("lane", lane, empty=True)
        if after is not None and not isinstance(cast("object", after), str):
            raise TypeError(f"after must be the next of a page before, got {shown(after)}")
        kind = self.options.type

        def understand(answers: list[Any]) -> Page[Any]:
            page = answers[0]
            return Page([of_stored(stored, kind) for stored in page.jobs], page.next)

        look = Look(state=state, lane=lane, bodies=bodies, limit=limit, after=after)
        return Ask(f"find {self.name}", [look], understand)

    def bodies_of(self, texts: Collection[str]) -> frozenset[bytes] | None:
        """Return what items that are texts are in a store.

        None if they are too much to be sent there as something to look for, or one cannot be there.
        """
        if len(texts) > bounds.MOST or sum(map(len, texts)) > LOOKED_FOR:
            return None
        try:
            return frozenset(map(encode, texts))
        except SerialisationError:
            return None

    def counts(self) -> Ask[Counts]:
        """Ask how many jobs are in each state."""
        return Ask(f"count {self.name}", [None], _only)

    def rescue(self) -> Ask[Rescued]:
        """Ask to take back leases that have expired."""
        return Ask(f"rescue {self.name}", [None], _only, rings=True)

    def plain(self, deed: str, *, rings: bool = False) -> Ask[None]:
        """Ask for a deed that takes nothing and gives nothing."""
        return Ask(f"{deed} {self.name}", [None], _only, rings=rings)

    def purge(self, state: State) -> Ask[int]:
        """Ask to delete up to 1,000 jobs of a state."""
        bounds.check_purge(self.name, state, bounds.MOST)
        return Ask(f"purge {self.name}", [state], _only)


def _only(answers: list[Any]) -> Any:
    return answers[0]


def _key(key: object) -> str:
    """Return a key as stores have it: a text is itself, all else is hashed."""
    if isinstance(key, str):
        return key
    return given_key(checked_key(cast("Any", key))).hex()


def _delay(delay: float) -> float:
    delay = at_least("delay", delay, 0.0)
    bounds.check_seconds("delay", delay)
    return delay


def leases_of(jobs: Sequence[QueueJob[Any]]) -> list[tuple[str, int]]:
    """Return the ids of leased jobs with their tokens."""
    for job in jobs:
        if not isinstance(cast("object", job), QueueJob):
            raise TypeError(f"jobs must be those that lease() gave, got {shown(job)}")
        if not job.token:
            raise ValueError(f"jobs must be leased, and job {job.id!r} is not: hand in what lease() gave")
    return [(job.id, job.token) for job in jobs]
