"""The row of a job as deeds change it, and as it is handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, json

from qanat._core.store.states import STATES
from qanat._core.store.values import StoredJob

if TYPE_CHECKING:
    from collections.abc import Iterable
    from sqlite3 import Connection

SCHEDULED, READY, LEASED, WAITING, DONE, DEAD, CANCELLED = range(7)
"""States as they are numbered in the file, in the order of `STATES`."""

BODY, METADATA, VALUE, ERROR = 1, 2, 4, 8
"""What may lie beside a row: a bit each in its `large`."""


class Record(Struct, gc=False):
    """The row of a job, without its bytes. Whoever changes one tells its sheet.

    The fields are the columns of `COLUMNS`, in that order, and then what is to be written of the value
    and the error, which are not read.
    """

    n: int
    id: str
    state: int
    lane: str
    priority: float
    order: int
    key: str | None
    handler: str
    attempt: int
    crashes: int
    token: int
    family: int
    worker: str
    put_at: float
    born_at: float
    due_at: float | None
    started_at: float | None
    cancel: int
    keep: float | None
    dedupe_for: float
    failure: int
    note: str
    ended_at: float | None
    reason: str
    parent: str | None
    parent_family: int
    phase: int
    after: str
    open_children: int
    done_children: int
    dead_children: int
    cancelled_children: int
    failed_children: int
    large: int
    new_value: bytes | None = None
    new_error: str | None = None


COLUMNS: Final = (
    "jobs.n, jobs.id, jobs.state, jobs.lane, jobs.priority, jobs.ord, jobs.key, jobs.handler, jobs.attempt, "
    "jobs.crashes, jobs.token, jobs.family, jobs.worker, jobs.put_at, jobs.born_at, jobs.due_at, "
    "jobs.started_at, jobs.cancel, jobs.keep, jobs.dedupe_for, jobs.failure, jobs.note, jobs.ended_at, "
    "jobs.reason, jobs.parent, jobs.parent_family, jobs.phase, jobs.after, jobs.open_children, "
    "jobs.done_children, jobs.dead_children, jobs.cancelled_children, jobs.failed_children, jobs.large"
)
WIDTH: Final = 34
WHOLE: Final = COLUMNS + ", jobs.body, jobs.metadata, jobs.value, jobs.error"
"""The columns of a record, and its bytes after them."""

_BESIDE: Final = "SELECT n, what, data FROM large WHERE n IN (SELECT value FROM json_each(?))"


def stored(row: tuple[Any, ...], record: Record | None = None) -> StoredJob:
    """Return a row of `WHOLE` as it is handed out, or the record that was made of it and changed."""
    if record is None:
        record = Record(*row[:WIDTH])
    return StoredJob(
        id=record.id,
        state=STATES[record.state],
        body=row[WIDTH],
        handler=record.handler,
        lane=record.lane,
        priority=record.priority,
        key=record.key,
        metadata=row[WIDTH + 1],
        keep=record.keep,
        dedupe_for=record.dedupe_for,
        failure="fail" if record.failure else "ignore",
        attempt=record.attempt,
        crashes=record.crashes,
        token=record.token,
        worker=record.worker,
        note=record.note,
        cancel=record.cancel != 0,
        put_at=record.put_at,
        born_at=record.born_at,
        due_at=record.due_at,
        started_at=record.started_at,
        ended_at=record.ended_at,
        value=row[WIDTH + 2],
        reason=record.reason,
        error=row[WIDTH + 3],
        parent=record.parent,
        phase=record.phase,
        after=record.after,
        open_children=record.open_children,
        done_children=record.done_children,
        dead_children=record.dead_children,
        cancelled_children=record.cancelled_children,
        failed_children=record.failed_children,
        family=record.family,
        parent_family=record.parent_family,
        order=record.order,
    )


def whole(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows of `WHOLE` with what lies beside them in its place."""
    found = list(rows)
    split = [row[0] for row in found if row[WIDTH - 1]]
    if not split:
        return found
    beside: dict[tuple[int, int], Any] = {
        (n, what): data for n, what, data in connection.execute(_BESIDE, (json.encode(split).decode(),))
    }
    return [_joined(row, beside) if row[WIDTH - 1] else row for row in found]


def _joined(row: tuple[Any, ...], beside: dict[tuple[int, int], Any]) -> tuple[Any, ...]:
    n, large = row[0], row[WIDTH - 1]
    parts = list(row)
    for index, what in enumerate((BODY, METADATA, VALUE)):
        if large & what:
            parts[WIDTH + index] = beside[n, what]
    if large & ERROR:
        parts[WIDTH + 3] = beside[n, ERROR].decode()
    return tuple(parts)
