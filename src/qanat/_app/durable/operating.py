"""What operators ask a store for that takes several looks: done in the courier's thread, one after the other.

Each function here takes the store itself, and `asked` makes an ask of it that both faces carry.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from msgspec import Struct

from qanat._app.durable.asking import Ask
from qanat._core.store.bounds import checked_name
from qanat._core.store.explaining import Around, explained
from qanat._core.store.finding import Finding
from qanat._core.store.levels import level_in_words, rank, suffices
from qanat._core.store.queue_health import queue_findings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qanat._app.durable.queue_job import QueueJob
    from qanat._core.store.ports import Store
    from qanat._core.store.states import State
    from qanat._core.store.values import Counts, Page, StoredJob
    from qanat._stores.deeds import Deeds

A = TypeVar("A")

LOOKS: Final = 1_000
"""Jobs of a lane that are looked at to tell how many come before one."""
FIRST: Final = 100
"""Jobs on a first page, before it is known how large they are."""
PAGE_BYTES: Final = 8 * 2**20
"""Bytes of items that a page should have at most: an item may have one MiB."""
REQUEUED: Final = ("scheduled", "dead", "cancelled", "done")
"""States from which jobs can be made ready."""
CHILDREN: Final = 5
"""Children that are named."""


class Examination(Struct, frozen=True):
    """What an examination found.

    Attributes:
        level: What the store promises, as `guarantees` tells.
        findings: What was looked at, the store first and then its queues.
    """

    level: str
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether every promise holds."""
        return all(finding.ok for finding in self.findings)


def asked(function: Callable[..., A], *args: Any, **more: Any) -> Ask[A]:
    """Return an ask for what a function makes of the store."""
    work = partial(function, *args, **more)

    def call(deeds: Deeds) -> A:
        return work(store=deeds.store)

    return Ask("call", [call], lambda answers: cast("A", answers[0]))


def examination(queue: str | None, require: str | None, *, check: bool, repair: bool) -> Ask[Examination]:
    """Ask to look at a store.

    Raises:
        ValueError: If an argument is out of range.
    """
    if queue is not None:
        checked_name("queue", queue)
    if require is not None:
        rank("require", require)
    if repair and not check:
        raise ValueError("repair must come with check=True, got check=False")
    queues = None if queue is None else [queue]
    return asked(examined, queues=queues, required=require, check=check, repair=repair)


def examined(
    *, store: Store, queues: Sequence[str] | None, required: str | None, check: bool, repair: bool
) -> Examination:
    """Look at a store and at its queues.

    Args:
        store: The store.
        queues: Which queues; None: all.
        required: The level of durability that is asked for.
        check: Whether to look for contradictions, which looks at every job.
        repair: Whether to mend them.
    """
    level = store.guarantees()
    findings: list[Finding] = []
    if required is not None:
        ok = suffices(level, required)
        findings.append(
            Finding(
                "required", "ok" if ok else "broken", f"{level}, where {required} is required",
                level_in_words(level), "" if ok else "see what is found below",
            )
        )  # fmt: skip
    findings += _of_store(store, thorough=check)
    for name in store.queues() if queues is None else queues:
        findings += _of_queue(store, name, check=check, repair=repair)
    return Examination(level, findings)


def _of_store(store: Store, *, thorough: bool) -> list[Finding]:
    # A store of somebody else's need not be able to do this.
    examine: Callable[..., list[Finding]] | None = getattr(store, "examine", None)
    if examine is not None:
        return examine(thorough=thorough)
    return [Finding("store", "unverified", type(store).__name__, "it cannot be examined")]


def _of_queue(store: Store, name: str, *, check: bool, repair: bool) -> list[Finding]:
    problems = store.check(name, repair=repair) if check else None
    mended = bool(problems) and repair and not store.check(name)
    return queue_findings(
        name, store.count(name), overdue=_overdue(store, name), problems=problems, mended=mended
    )


def _overdue(store: Store, name: str) -> float:
    now = store.now()
    leased = store.find(name, "leased", limit=100).jobs
    return max((now - job.due_at for job in leased if job.due_at is not None), default=0.0)


def reasons(queue: str, id: str, *, store: Store) -> list[str] | None:
    """Return why a job does not run, in sentences; None if there is no record of it."""
    (job,) = store.get(queue, [id])
    if job is None:
        return None
    before, all_seen = _before(store, queue, job) if job.state == "ready" and not job.crashes else (0, True)
    children: list[str] = []
    if job.state == "waiting":
        found = store.find(queue, parent=id, limit=100).jobs
        children = [child.id for child in found if child.state not in {"done", "dead", "cancelled"}]
    return explained(
        job,
        Around(
            now=store.now(), conf=store.conf(queue), counts=store.count(queue), before=before,
            all_seen=all_seen, children=tuple(children[:CHILDREN]),
        ),
    )  # fmt: skip


def _before(store: Store, queue: str, job: StoredJob) -> tuple[int, bool]:
    """Return how many jobs of its lane come before one, and whether all of them were looked at."""
    before = looked = seen = 0
    after: str | None = None
    place = (job.priority, job.order)
    limit = FIRST
    while looked < LOOKS and seen < PAGE_BYTES:
        page = store.find(queue, "ready", lane=job.lane, limit=min(limit, LOOKS - looked), after=after)
        limit = limit_after(page.jobs)
        looked += len(page.jobs)
        seen += sum(len(other.body) for other in page.jobs)
        before += sum(not other.crashes and (other.priority, other.order) < place for other in page.jobs)
        after = page.next
        if after is None:
            return before, True
    return before, False


def names(*, store: Store) -> list[str]:
    """Return the names of all queues."""
    return store.queues()


def table(*, store: Store) -> dict[str, Counts]:
    """Return how many jobs each queue has, by its name."""
    return {name: store.count(name) for name in store.queues()}


def problems_of(queue: str, *, repair: bool, store: Store) -> list[str]:
    """Return what contradicts itself in a queue."""
    return store.check(queue, repair=repair)


def record(queue: str, id: str, *, store: Store) -> tuple[StoredJob | None, float]:
    """Return all that is known of a job, and the time on the store's clock."""
    return store.get(queue, [id])[0], store.now()


def stored_page(
    queue: str, state: State, *, lane: str | None, limit: int, after: str | None, store: Store
) -> Page:
    """Return jobs of a state as the store has them."""
    return store.find(queue, state, lane=lane, limit=limit, after=after)


def time_of(*, store: Store) -> float:
    """Return the time on the store's clock."""
    return store.now()


def limit_after(jobs: Sequence[QueueJob[Any] | StoredJob]) -> int:
    """Return how many jobs the next page may have, by how large those of the last one are."""
    largest = max((len(job.body) for job in jobs), default=0)
    return min(max(PAGE_BYTES // max(largest, 1), 1), 1000)


def ids_until(jobs: Sequence[QueueJob[Any]], until: float) -> list[str]:
    """Return the ids of jobs that came into their state by then, so that no loop runs after its own tail."""
    return [job.id for job in jobs if (job.ended_at or job.put_at or 0.0) <= until]
