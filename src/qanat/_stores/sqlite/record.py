"""The row of a job as deeds change it, and as it is handed out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct, json
from msgspec.structs import replace

from qanat._core.store.states import STATES
from qanat._core.store.values import StoredJob

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from sqlite3 import Connection

SCHEDULED, READY, LEASED, WAITING, DONE, DEAD, CANCELLED = range(7)
"""States as they are numbered in the file, in the order of `STATES`."""

BODY, METADATA, VALUE, ERROR = 1, 2, 4, 8
"""What may lie beside a row: a bit each in its `large`."""


class Record(Struct, gc=False):
    """The row of a job, without its bytes. Whoever changes one tells its sheet.

    The fields are the columns of `COLUMNS`, then those of `RARE`, in that order, and then what is to be
    written of the value and the error, which are not read.
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
    rare: int
    cancel: int = 0
    keep: float | None = None
    dedupe_for: float = 0.0
    failure: int = 0
    note: str = ""
    ended_at: float | None = None
    reason: str = ""
    parent: str | None = None
    parent_family: int = 0
    phase: int = 0
    after: str = ""
    open_children: int = 0
    done_children: int = 0
    dead_children: int = 0
    cancelled_children: int = 0
    failed_children: int = 0
    large: int = 0
    new_value: bytes | None = None
    new_error: str | None = None


COLUMNS: Final = (
    "jobs.n, jobs.id, jobs.state, jobs.lane, jobs.priority, jobs.ord, jobs.key, jobs.handler, jobs.attempt, "
    "jobs.crashes, jobs.token, jobs.family, jobs.worker, jobs.put_at, jobs.born_at, jobs.due_at, "
    "jobs.started_at, jobs.rare"
)
WIDTH: Final = 18
WHOLE: Final = COLUMNS + ", jobs.body, jobs.metadata"
"""The columns of a record, and its bytes after them."""
_RARE: Final = (
    "SELECT n, cancel, keep, dedupe_for, failure, note, ended_at, reason, jobs.parent, parent_family, phase, "
    "after, open_children, done_children, dead_children, cancelled_children, failed_children, large "
    "FROM json_each(?) AS asked CROSS JOIN jobs ON jobs.n = asked.value"
)
_BYTES: Final = (
    "SELECT n, jobs.value, error FROM json_each(?) AS asked CROSS JOIN jobs ON jobs.n = asked.value"
)
_BESIDE: Final = (
    "SELECT large.n, what, data FROM json_each(?) AS asked CROSS JOIN large ON large.n = asked.value"
)


def records(connection: Connection, rows: Iterable[tuple[Any, ...]]) -> list[Record]:
    """Return the records of rows that begin with `COLUMNS`."""
    found = [Record(*row[:WIDTH]) for row in rows]
    complete(connection, found)
    return found


def complete(connection: Connection, found: Iterable[Record]) -> None:
    """Read the rare columns of those records that have any."""
    rare = {record.n: record for record in found if record.rare}
    if not rare:
        return
    for row in connection.execute(_RARE, (json.encode(list(rare)).decode(),)):
        record = rare[row[0]]
        (
            _, record.cancel, record.keep, record.dedupe_for, record.failure, record.note, record.ended_at,
            record.reason, record.parent, record.parent_family, record.phase, record.after,
            record.open_children, record.done_children, record.dead_children, record.cancelled_children,
            record.failed_children, record.large,
        ) = row  # fmt: skip


def stored(
    connection: Connection, rows: Sequence[tuple[Any, ...]], found: Sequence[Record] | None = None
) -> list[StoredJob]:
    """Return rows of `WHOLE` as they are handed out, or the records that were made of them and changed."""
    if found is None:
        found = records(connection, rows)
    rare = [record.n for record in found if record.rare]
    if not rare:
        return [_plain(row, record) for row, record in zip(rows, found, strict=True)]
    asked = (json.encode(rare).decode(),)
    more: dict[int, tuple[Any, Any]] = {
        n: (value, error) for n, value, error in connection.execute(_BYTES, asked)
    }
    beside: dict[tuple[int, int], bytes] = {}
    if any(record.large for record in found):
        beside.update(((n, what), data) for n, what, data in connection.execute(_BESIDE, asked))
    return [
        _whole(row, record, more[record.n], beside) if record.rare else _plain(row, record)
        for row, record in zip(rows, found, strict=True)
    ]


def _plain(row: tuple[Any, ...], record: Record) -> StoredJob:
    """Return a job that has nothing rare: half the fields, half the time."""
    return StoredJob(
        id=record.id,
        state=STATES[record.state],
        body=row[WIDTH],
        handler=record.handler,
        lane=record.lane,
        priority=record.priority,
        key=record.key,
        metadata=row[WIDTH + 1],
        attempt=record.attempt,
        crashes=record.crashes,
        token=record.token,
        worker=record.worker,
        put_at=record.put_at,
        born_at=record.born_at,
        due_at=record.due_at,
        started_at=record.started_at,
        family=record.family,
        order=record.order,
    )


def _whole(
    row: tuple[Any, ...], record: Record, more: tuple[Any, Any], beside: dict[tuple[int, int], bytes]
) -> StoredJob:
    large, n = record.large, record.n
    value, error = more
    return replace(
        _plain(row, record),
        body=beside[n, BODY] if large & BODY else row[WIDTH],
        metadata=beside[n, METADATA] if large & METADATA else row[WIDTH + 1],
        value=beside[n, VALUE] if large & VALUE else value,
        error=beside[n, ERROR].decode() if large & ERROR else error,
        keep=record.keep,
        dedupe_for=record.dedupe_for,
        failure="fail" if record.failure else "ignore",
        note=record.note,
        cancel=record.cancel != 0,
        ended_at=record.ended_at,
        reason=record.reason,
        parent=record.parent,
        phase=record.phase,
        after=record.after,
        open_children=record.open_children,
        done_children=record.done_children,
        dead_children=record.dead_children,
        cancelled_children=record.cancelled_children,
        failed_children=record.failed_children,
        parent_family=record.parent_family,
    )
