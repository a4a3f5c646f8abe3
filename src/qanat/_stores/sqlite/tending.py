"""What operators do to jobs: cancel, requeue, delete, purge, forget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import json

from qanat._core.store.rules import priority_at
from qanat._stores.sqlite.record import CANCELLED, DONE, ERROR, LEASED, READY, SCHEDULED, VALUE
from qanat._stores.sqlite.settling import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._core.store.states import State
    from qanat._stores.sqlite.record import Record
    from qanat._stores.sqlite.sheet import Sheet

_CLEAR: Final = "UPDATE jobs SET value = NULL, error = '', parent = NULL, parent_family = 0 WHERE n = ?"
_CLEAR_BESIDE: Final = "DELETE FROM large WHERE n = ? AND what IN (4, 8)"
_IN_STATE: Final = (
    "SELECT id FROM jobs WHERE queue = ? AND state = ? AND state <> 1 AND state <> 2 ORDER BY n LIMIT ?"
)
_READY: Final = "SELECT id FROM jobs WHERE queue = ? AND state = 1 AND crashes = 0 LIMIT ?"
_SUSPECTS: Final = "SELECT id FROM jobs WHERE queue = ? AND state = 1 AND crashes > 0 LIMIT ?"
_FORGET: Final = (
    "SELECT keys.key, keys.id FROM json_each(?) AS asked CROSS JOIN keys "
    "ON keys.queue = ? AND keys.key = asked.value"
)


def cancel(sheet: Sheet, ids: Sequence[str]) -> list[Literal["cancelled", "asked", "ended", "unknown"]]:
    """Cancel what has not ended."""
    sheet.load(ids)
    return [_cancel(sheet, id) for id in ids]


def _cancel(sheet: Sheet, id: str) -> Literal["cancelled", "asked", "ended", "unknown"]:
    record = sheet.record(id)
    if record is None:
        return "unknown"
    if record.state >= DONE:
        return "ended"
    if record.state == LEASED:
        record.cancel = 1
        sheet.touch(record)
        return "asked"
    sheet.end(record, CANCELLED, "cancelled", [])
    return "cancelled"


def requeue(sheet: Sheet, ids: Sequence[str]) -> list[Literal["ready", "key", "live", "unknown"]]:
    """Let jobs that have ended run again, or scheduled ones now."""
    sheet.load(ids)
    return [_requeue(sheet, id) for id in ids]


def _requeue(sheet: Sheet, id: str) -> Literal["ready", "key", "live", "unknown"]:
    record = sheet.record(id)
    if record is None:
        return "unknown"
    if record.state == SCHEDULED:
        record.priority = priority_at(sheet.conf, record.priority, sheet.now)
        record.due_at = None
        sheet.move(record, READY, record.phase)
        return "ready"
    if record.state < DONE:
        return "live"
    if record.key is not None and sheet.conf.unique is not None:
        if sheet.keys.holder(record.key) not in {None, id}:
            return "key"
        sheet.keys.hold(record.key, id)
    _clear(sheet, record)
    sheet.begin_anew(record, sheet.now)
    sheet.move(record, READY, 0)
    sheet.remember(id, None)
    return "ready"


def _clear(sheet: Sheet, record: Record) -> None:
    """Take from a record what the first run left; the bytes at once, as a sheet only adds to them."""
    sheet.connection.execute(_CLEAR, (record.n,))
    if record.large & (VALUE | ERROR):
        sheet.connection.execute(_CLEAR_BESIDE, (record.n,))
        record.large &= ~(VALUE | ERROR)
    record.attempt = record.crashes = record.token = record.cancel = 0
    record.note = record.reason = ""
    record.put_at = sheet.now
    record.due_at = record.ended_at = None
    record.new_value = record.new_error = None
    record.parent = None
    record.parent_family = 0


def delete(
    sheet: Sheet, ids: Sequence[str], *, leased: bool = False
) -> list[Literal["deleted", "leased", "unknown"]]:
    """Remove jobs, leased ones only if that is asked for."""
    sheet.load(ids)
    return [_delete(sheet, id, leased=leased) for id in ids]


def _delete(sheet: Sheet, id: str, *, leased: bool = False) -> Literal["deleted", "leased", "unknown"]:
    record = sheet.record(id)
    if record is None:
        return "unknown"
    if record.state == LEASED and not leased:
        return "leased"
    sheet.counts[record.state] -= 1
    sheet.queue.removed += 1
    if record.state == READY and not record.crashes:
        sheet.lanes.leave(record.lane)
    sheet.remove(record)
    if record.key is not None and sheet.conf.unique is not None:
        sheet.keys.free(record.key, id)
    sheet.remember(id, None)
    if record.state < DONE:
        parent = sheet.count_child(record, CANCELLED)
        if parent is not None:
            sheet.end_parent(parent, [])
    return "deleted"


def purge(sheet: Sheet, state: State, n: int) -> int:
    """Remove up to `n` jobs of a state."""
    number = NUMBERS[state]
    ids = _some(sheet, number, n)
    sheet.load(ids)
    deleted = 0
    for id in ids:
        # One that was the parent of another may have gone on.
        record = sheet.record(id)
        if record is not None and record.state == number:
            _delete(sheet, id)
            deleted += 1
    sheet.write()
    if not _some(sheet, number, 1):
        sheet.queue.removed += sheet.counts[number]
        sheet.counts[number] = 0
    return deleted


def _some(sheet: Sheet, state: int, n: int) -> list[str]:
    """Return the ids of some jobs of a state."""
    connection, queue = sheet.connection, sheet.queue.n
    if state != READY:
        rows: list[tuple[Any, ...]] = connection.execute(_IN_STATE, (queue, state, n)).fetchall()
    else:
        rows = connection.execute(_SUSPECTS, (queue, n)).fetchall()
        rows += connection.execute(_READY, (queue, n - len(rows))).fetchall()
    return [id for (id,) in rows]


def forget(sheet: Sheet, keys: Sequence[str]) -> int:
    """Let go of keys whose jobs have ended."""
    held = dict(sheet.connection.execute(_FORGET, (json.encode(keys).decode(), sheet.queue.n)))
    sheet.load(held.values())
    sheet.keys.load(held)
    forgotten = 0
    for key, id in held.items():
        record = sheet.record(id)
        # Its id may have gone to another job since.
        if record is None or record.key != key or record.state >= DONE:
            sheet.keys.free(key, id)
            forgotten += 1
    return forgotten
