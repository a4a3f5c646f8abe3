"""How new jobs come in, by a put or with a settle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.store.rules import holds_key, priority_at, state_after
from qanat._core.store.states import STATES
from qanat._core.store.values import Placed
from qanat._stores.sqlite import plain
from qanat._stores.sqlite.record import BODY, METADATA, READY, SCHEDULED
from qanat._stores.sqlite.schema import LARGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._core.store.values import Lease, NewJob
    from qanat._stores.sqlite.record import Record
    from qanat._stores.sqlite.sheet import Sheet


def put(sheet: Sheet, jobs: Sequence[NewJob], *, hopeful: bool) -> list[Placed]:
    """Place jobs one after the other.

    Args:
        sheet: Of the step.
        jobs: What is to be placed.
        hopeful: Not to look whether there are jobs of these ids: the unique index says so when they are
            written, and then the step is done again. Measured at 1,000 jobs: 1.3 us less for each.
    """
    sheet.queue.conf_set = 1
    sheet.load({job.parent.id for job in jobs if job.parent is not None})
    keys = {job.key for job in jobs if job.key is not None} if sheet.conf.unique is not None else ()
    if keys:
        sheet.keys.load(keys)
        # A job that is refused for its key is not written, so the index would not tell that its id is known.
        hopeful = False
    ids = [job.id for job in jobs]
    if hopeful and not sheet.known(ids, records=False):
        placed = plain.put(sheet, jobs)
        if placed is not None:
            return placed
    known = sheet.known(ids, records=not hopeful)
    sheet.lanes.load({job.lane for job in jobs})
    return [place(sheet, job, job.parent, known) for job in jobs]


def place(sheet: Sheet, job: NewJob, lease: Lease | None, known: set[str]) -> Placed:
    """Store a job, or tell what stands in its way; `known` are the ids that are taken."""
    family: Record | None = None
    if lease is not None:
        family = sheet.live(lease.id, lease.token)
        if family is None or family.cancel:
            return Placed(job.id, "parent", lease.id)
    if job.id in known:
        return Placed(job.id, "id", job.id)
    unique = sheet.conf.unique
    if job.key is not None and unique is not None:
        holder = sheet.keys.holder(job.key)
        if holder is not None:
            return Placed(job.id, "key", holder)
    if family is not None:
        family.open_children += 1
        sheet.touch(family)
    known.add(job.id)
    sheet.placed.add(job.id)
    sheet.queue.put += 1
    state = READY if state_after(job.delay) == "ready" else SCHEDULED
    sheet.counts[state] += 1
    if state == READY:
        sheet.lanes.enter(job.lane)
    if job.key is not None and holds_key(unique, STATES[state], 0):
        sheet.keys.hold(job.key, job.id)
    sheet.new.append(_row(sheet, job, family, state))
    return Placed(job.id)


def _row(sheet: Sheet, job: NewJob, family: Record | None, state: int) -> tuple[Any, ...]:
    """Return the row of a new job, and let what is too large for it lie beside."""
    body, metadata, large = job.body, job.metadata, 0
    if len(body) >= LARGE:
        large |= BODY
        sheet.beside.append((job.id, BODY, body))
        body = b""
    if len(metadata) >= LARGE:
        large |= METADATA
        sheet.beside.append((job.id, METADATA, metadata))
        metadata = b""
    due_at = sheet.now + job.delay
    fails = 1 if job.failure == "fail" else 0
    return (
        sheet.queue.n,
        job.id,
        state,
        job.lane,
        priority_at(sheet.conf, job.priority, due_at),
        sheet.next_order(),
        job.key,
        job.handler,
        sheet.now,
        due_at,
        None if state == READY else due_at,
        job.keep,
        job.dedupe_for,
        fails,
        None if family is None else family.id,
        0 if family is None else family.family,
        large,
        1 if large or family is not None or job.keep is not None or job.dedupe_for or fails else 0,
        body,
        metadata,
    )
