"""Whether a queue contradicts itself, and how its counts, lanes and keys are made to fit its records.

An index of SQLite cannot differ from its rows unless the file is damaged, and `integrity_check` sees
that. What can differ is what deeds keep beside the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qanat._core.store.rules import holds_key
from qanat._core.store.states import ENDED, LIVE, STATES
from qanat._stores.sqlite.record import COLUMNS
from qanat._stores.sqlite.settling import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection

    from qanat._core.store.values import Conf
    from qanat._stores.sqlite.queue_row import QueueRow
    from qanat._stores.sqlite.sheet import Sheet

_FILE: Final = "PRAGMA integrity_check(20)"
_REINDEX: Final = "REINDEX"
_STATES: Final = "SELECT state, count(*) FROM jobs WHERE queue = ? GROUP BY state"
_LANES: Final = (
    "SELECT lane, coalesce(told.size, 0), coalesce(jobs.size, 0) FROM "
    "(SELECT lane FROM lanes WHERE queue = :queue UNION "
    "SELECT lane FROM jobs WHERE queue = :queue AND state = 1 AND crashes = 0) "
    "LEFT JOIN (SELECT lane, size FROM lanes WHERE queue = :queue) AS told USING (lane) "
    "LEFT JOIN (SELECT lane, count(*) AS size FROM jobs WHERE queue = :queue AND state = 1 AND crashes = 0 "
    "GROUP BY lane) AS jobs USING (lane) WHERE told.size IS NOT jobs.size ORDER BY lane"
)
_SIZE: Final = "UPDATE lanes SET size = ? WHERE queue = ? AND lane = ?"
_ADD_LANE: Final = "INSERT INTO lanes(queue, lane, turn, size) VALUES(?, ?, ?, ?)"
_DROP_LANE: Final = "DELETE FROM lanes WHERE queue = ? AND lane = ?"
_KEYS: Final = (
    "SELECT keys.key, keys.id, jobs.key, jobs.state, jobs.phase FROM keys LEFT JOIN jobs "
    "ON jobs.queue = keys.queue AND jobs.id = keys.id WHERE keys.queue = ?"
)
_KEYLESS: Final = (
    "SELECT jobs.key, jobs.id, keys.id FROM jobs LEFT JOIN keys "
    "ON keys.queue = jobs.queue AND keys.key = jobs.key "
    "WHERE jobs.queue = ? AND jobs.key IS NOT NULL AND jobs.state < 4 AND keys.id IS NOT jobs.id"
)
_FREE: Final = "DELETE FROM keys WHERE queue = ? AND key = ?"
_HOLD: Final = "INSERT OR IGNORE INTO keys(queue, key, id) VALUES(?, ?, ?)"
_CHILDREN: Final = (
    "SELECT parents.id, parents.open_children, coalesce(children.open, 0) FROM jobs AS parents LEFT JOIN "
    "(SELECT parent, parent_family, count(*) AS open FROM jobs "
    "WHERE queue = :queue AND parent IS NOT NULL AND state < 4 GROUP BY parent, parent_family) AS children "
    "ON children.parent = parents.id AND children.parent_family = parents.family "
    "WHERE parents.queue = :queue AND parents.open_children <> coalesce(children.open, 0)"
)
_FORLORN: Final = (
    "SELECT " + COLUMNS + " FROM jobs WHERE queue = ? AND state = 3 "  # noqa: S608 - constants
    "AND state <> 1 AND state <> 2 AND open_children = 0"
)
_WAITING: Final = (
    "SELECT id FROM jobs WHERE queue = ? AND state = 3 AND state <> 1 AND state <> 2 AND open_children = 0"
)
_SET_CHILDREN: Final = "UPDATE jobs SET open_children = ?, rare = 1 WHERE queue = ? AND id = ?"
_BESIDE: Final = (
    "SELECT jobs.id FROM jobs WHERE queue = ? AND large <> 0 AND (SELECT coalesce(sum(what), 0) "
    "FROM large WHERE large.n = jobs.n) <> jobs.large"
)


def problems(connection: Connection, queue: QueueRow, conf: Conf) -> list[str]:
    """Return what contradicts itself, in words."""
    file = [f"the file: {text}" for (text,) in connection.execute(_FILE) if text != "ok"]
    return [
        *file,
        *_lanes(connection, queue),
        *_keys(connection, queue, conf),
        *_children(connection, queue),
        *_bytes(connection, queue),
        *_counts(connection, queue),
    ]


def _lanes(connection: Connection, queue: QueueRow) -> Iterator[str]:
    for lane, told, true in connection.execute(_LANES, {"queue": queue.n}):
        yield f"lane {lane!r} is counted with {told} ready jobs, and has {true}"


def _keys(connection: Connection, queue: QueueRow, conf: Conf) -> Iterator[str]:
    for key, id in _wrongly_held(connection, queue, conf):
        yield f"key {key!r} is held by job {id!r}, which has no claim to it"
    # Under "pending" one may go on without, and "forever" may have been forgotten.
    if conf.unique == "active":
        for key, id, holder in connection.execute(_KEYLESS, (queue.n,)):
            yield f"key {key!r} of job {id!r} is held by {holder!r}"


def _wrongly_held(connection: Connection, queue: QueueRow, conf: Conf) -> Iterator[tuple[str, str]]:
    if conf.unique == "forever":
        return
    rows: list[tuple[str, str, str | None, int | None, int]] = connection.execute(
        _KEYS, (queue.n,)
    ).fetchall()
    for key, id, own, state, phase in rows:
        if state is None or own != key or not holds_key(conf.unique, STATES[state], phase):
            yield key, id


def _children(connection: Connection, queue: QueueRow) -> Iterator[str]:
    for id, told, true in connection.execute(_CHILDREN, {"queue": queue.n}):
        yield f"job {id!r} counts {told} open children, and has {true}"
    for (id,) in connection.execute(_WAITING, (queue.n,)):
        yield f"job {id!r} waits, and has no open children"


def _bytes(connection: Connection, queue: QueueRow) -> Iterator[str]:
    for (id,) in connection.execute(_BESIDE, (queue.n,)):
        yield f"job {id!r} has large bytes that are not there, or more than it knows of"


def _counts(connection: Connection, queue: QueueRow) -> Iterator[str]:
    true = dict(connection.execute(_STATES, (queue.n,)).fetchall())
    counts = queue.counts()
    for state, number in NUMBERS.items():
        told, there = counts[number], true.get(number, 0)
        # Records of ended jobs go, and stay counted.
        if told < there or (told > there and state in LIVE):
            yield f"{told} jobs are counted as {state}, and there are {there}"
    if queue.put != queue.removed + sum(counts):
        yield (
            f"{queue.put} jobs were put, but {queue.removed} removed ones and those in the "
            f"seven states make {queue.removed + sum(counts)}"
        )


def repair(sheet: Sheet) -> None:
    """Make indexes, lanes, keys and counts fit the records; no job is deleted."""
    connection, queue = sheet.connection, sheet.queue
    connection.execute(_REINDEX)
    _repair_lanes(connection, queue)
    _repair_keys(sheet)
    for id, _, true in connection.execute(_CHILDREN, {"queue": queue.n}).fetchall():
        connection.execute(_SET_CHILDREN, (true, queue.n, id))
    _repair_counts(sheet)
    _let_go_on(sheet, connection.execute(_FORLORN, (queue.n,)).fetchall())
    sheet.write()
    queue.put = queue.removed + sum(sheet.counts)


def _repair_lanes(connection: Connection, queue: QueueRow) -> None:
    for lane, told, true in connection.execute(_LANES, {"queue": queue.n}).fetchall():
        if not true:
            connection.execute(_DROP_LANE, (queue.n, lane))
        elif told:
            connection.execute(_SIZE, (true, queue.n, lane))
        else:
            queue.turns += 1
            connection.execute(_ADD_LANE, (queue.n, lane, queue.turns, true))


def _repair_keys(sheet: Sheet) -> None:
    connection, queue = sheet.connection, sheet.queue
    for key, _ in list(_wrongly_held(connection, queue, sheet.conf)):
        connection.execute(_FREE, (queue.n, key))
    for key, id, _ in connection.execute(_KEYLESS, (queue.n,)).fetchall():
        if sheet.conf.unique == "active":
            connection.execute(_HOLD, (queue.n, key, id))


def _repair_counts(sheet: Sheet) -> None:
    true = dict(sheet.connection.execute(_STATES, (sheet.queue.n,)).fetchall())
    for state, number in NUMBERS.items():
        there = true.get(number, 0)
        sheet.counts[number] = max(there, sheet.counts[number]) if state in ENDED else there


def _let_go_on(sheet: Sheet, rows: list[tuple[Any, ...]]) -> None:
    for record in sheet.adopt(rows):
        parent = sheet.go_on(record)
        if parent is not None:
            sheet.end_parent(parent, [])
