"""How leases end: settled by their workers, extended, or taken back once they have expired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qanat._core.store.rules import (
    REMEMBERED_FOR,
    after_rescue,
    after_settle,
    as_settled,
    crashes_after,
    priority_at,
)
from qanat._core.store.states import STATES
from qanat._core.store.values import Ended, Extended, Lease, Placed, Rescued, Settled
from qanat._stores.sqlite import plain
from qanat._stores.sqlite.placing import place
from qanat._stores.sqlite.record import COLUMNS, LEASED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._core.store.states import State
    from qanat._core.store.values import Settle
    from qanat._stores.sqlite.record import Record
    from qanat._stores.sqlite.sheet import Sheet

NUMBERS: Final[dict[State, int]] = {state: number for number, state in enumerate(STATES)}
"""States as they are numbered in the file."""

_EXPIRED: Final = (
    "SELECT " + COLUMNS + " FROM jobs WHERE queue = ? AND state = 2 AND due_at <= ? "  # noqa: S608 - constants
    "ORDER BY due_at, token LIMIT ?"
)
_OVER: Final = (
    "SELECT " + COLUMNS + " FROM jobs WHERE queue = ? AND state >= 4 AND due_at IS NOT NULL "  # noqa: S608
    "AND due_at <= ? ORDER BY due_at, ord LIMIT ?"
)
_ANY_EXPIRED: Final = (
    "SELECT EXISTS(SELECT 1 FROM jobs WHERE queue = :queue AND state = 2 AND due_at <= :now) OR "
    "EXISTS(SELECT 1 FROM jobs WHERE queue = :queue AND state >= 4 AND due_at IS NOT NULL AND due_at <= :now)"
)
_ANYTHING: Final = (
    "SELECT EXISTS(SELECT 1 FROM known WHERE queue = :queue AND until <= :now) OR "
    "EXISTS(SELECT 1 FROM answers WHERE queue = :queue AND answered_at <= :then)"
)
_FORGET_IDS: Final = (
    "DELETE FROM known WHERE (queue, id) IN "
    "(SELECT queue, id FROM known WHERE queue = ? AND until <= ? ORDER BY until LIMIT ?)"
)
_FORGET_ANSWERS: Final = (
    "DELETE FROM answers WHERE rowid IN "
    "(SELECT rowid FROM answers WHERE queue = ? AND answered_at <= ? ORDER BY answered_at LIMIT ?)"
)
_EXTEND: Final = "UPDATE jobs SET due_at = ?, note = ?, rare = ? WHERE n = ?"


def settle(sheet: Sheet, settles: Sequence[Settle]) -> list[Settled]:
    """End leases one after the other; most go the short way."""
    ended = plain.settle(sheet, settles)
    if len(ended) == len(settles):
        return list(ended.values())
    sheet.load([settle.id for settle in settles])
    sheet.load_parents()
    return [ended.pop(settle.id) if settle.id in ended else _settle(sheet, settle) for settle in settles]


def _settle(sheet: Sheet, settle: Settle) -> Settled:
    record = sheet.live(settle.id, settle.token)
    if record is None:
        return _settle_late(sheet, settle)
    if settle.yields:
        holder = None if record.key is None else sheet.keys.holder(record.key)
        settle = as_settled(settle, cancel=record.cancel != 0, holder=holder)
    if _is_plain(sheet, record, settle):
        # The way of nearly all jobs: what follows comes to the same, and takes 4 us instead of 1.
        sheet.leave_done(record)
        return Settled(settle.id, "ok", "done")
    # Most have none, and even an empty list is a tenth of a microsecond.
    placed = _place_children(sheet, settle) if settle.children else []
    was = record.phase
    step = after_settle(
        sheet.conf,
        kind=settle.kind,
        attempt=record.attempt,
        phase=was,
        age=sheet.now - record.born_at,
        delay=settle.delay,
        cancel=record.cancel != 0,
        open_children=record.open_children + (len(placed) if record.cancel else 0),
        failed_children=record.failed_children,
        after=bool(settle.after),
    )
    state = NUMBERS[step.state]
    _keep(sheet, record, settle)
    record.attempt = step.attempt
    record.reason = reason = step.reason or settle.reason
    if settle.kind == "done":
        record.after = settle.after
        if step.phase > was:
            sheet.call_back(record)
    elif settle.kind == "again" and step.state != "cancelled":
        sheet.begin_anew(record, sheet.now + settle.delay)
    elif settle.kind == "retry" and state < 4:
        record.priority = priority_at(sheet.conf, record.priority, sheet.now + settle.delay)
    ended: list[Ended] = []
    if state >= 4:
        sheet.end(record, state, reason, ended)
    else:
        sheet.move(record, state, step.phase)
    if settle.also:
        placed += _place_also(sheet, settle)
    return Settled(settle.id, "ok", step.state, reason if step.reason else "", tuple(placed), tuple(ended))


def _is_plain(sheet: Sheet, record: Record, settle: Settle) -> bool:
    """Whether a job is done of which nothing stays: no record, no key, no family, no callback."""
    return (
        settle.kind == "done"
        and not record.rare
        and record.key is None
        and not (settle.children or settle.also or settle.after)
        and sheet.conf.keep == 0
    )


def _keep(sheet: Sheet, record: Record, settle: Settle) -> None:
    """Keep what a settle says of a job."""
    record.crashes = 0
    record.due_at = sheet.now + settle.delay if settle.delay > 0 else None
    if settle.value is not None:
        record.new_value = settle.value
    if settle.error:
        record.new_error = settle.error


def _place_children(sheet: Sheet, settle: Settle) -> list[Placed]:
    lease = Lease(settle.id, settle.token)
    known = sheet.known([job.id for job in settle.children])
    return [place(sheet, job, lease, known) for job in settle.children]


def _place_also(sheet: Sheet, settle: Settle) -> list[Placed]:
    known = sheet.known([job.id for job in settle.also])
    return [place(sheet, job, None, known) for job in settle.also]


def _settle_late(sheet: Sheet, settle: Settle) -> Settled:
    """Tell of a lease that is over whether it was this client that ended it."""
    record = sheet.record(settle.id)
    if record is None or record.state == LEASED or not record.token or record.token != settle.token:
        return Settled(settle.id, "stale")
    return Settled(settle.id, "repeated", STATES[record.state])


def extend(sheet: Sheet, leases: Sequence[Lease], lease: float) -> Extended:
    """Let live leases expire later."""
    lost: list[str] = []
    cancelled: list[str] = []
    until = sheet.now + lease
    changed: list[tuple[Any, ...]] = []
    sheet.load([each.id for each in leases])
    for each in leases:
        record = sheet.live(each.id, each.token)
        if record is None:
            lost.append(each.id)
            continue
        if each.note is not None:
            record.note = each.note
            record.rare = 1
        record.due_at = until
        changed.append((until, record.note, record.rare, record.n))
        if record.cancel:
            cancelled.append(each.id)
    # Two columns instead of all of a record: one index is written instead of two.
    sheet.connection.executemany(_EXTEND, changed)
    return Extended(lost, cancelled)


def rescue(sheet: Sheet, n: int) -> Rescued:
    """Take back leases that have expired, and forget what was kept long enough."""
    connection, queue, now = sheet.connection, sheet.queue.n, sheet.now
    ids: list[str] = []
    ended: list[Ended] = []
    expired = sheet.adopt(connection.execute(_EXPIRED, (queue, now, n)).fetchall())
    sheet.load_parents()
    for record in expired:
        record.crashes = crashes_after(sheet.conf, record.crashes)
        record.priority = priority_at(sheet.conf, record.priority, record.due_at or 0.0)
        step = after_rescue(
            sheet.conf,
            attempt=record.attempt,
            crashes=record.crashes,
            phase=record.phase,
            age=now - record.born_at,
            cancel=record.cancel != 0,
        )
        record.token = 0
        record.due_at = None
        record.reason = step.reason
        state = NUMBERS[step.state]
        if state >= 4:
            sheet.end(record, state, step.reason, ended, told=True)
        else:
            sheet.move(record, state, record.phase)
            ids.append(record.id)
    sheet.write()
    over = sheet.adopt(connection.execute(_OVER, (queue, now, n)).fetchall())
    for record in over:
        sheet.remove(record)
    sheet.write()
    connection.execute(_FORGET_IDS, (queue, now, n))
    connection.execute(_FORGET_ANSWERS, (queue, now - REMEMBERED_FOR, n))
    (more,) = connection.execute(_ANY_EXPIRED, {"queue": queue, "now": now}).fetchone()
    return Rescued(ids, ended, len(over), more == 1)


def has_work(sheet: Sheet) -> bool:
    """Say whether a rescue would change anything; asked before the lock is taken."""
    times = {"queue": sheet.queue.n, "now": sheet.now, "then": sheet.now - REMEMBERED_FOR}
    return any(
        sheet.connection.execute(statement, times).fetchone() == (1,)
        for statement in (_ANY_EXPIRED, _ANYTHING)
    )
