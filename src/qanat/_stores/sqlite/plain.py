"""The short way of plain jobs: put, leased for the first time, done, and gone.

Nearly all jobs have an item, perhaps a handler and metadata, and nothing else that a rule looks at: no
key, delay, priority or parent, no attempt before this one. For them the rules say so little that whole
batches go by single statements, in a third of the time. Whoever is not plain goes the long way, in the
same step; what comes of a job is the same on both.

Statements of many rows let go of Python's lock once, and not for each row: beside a busy event loop that
counts for more than the work of SQLite itself.
"""

from __future__ import annotations

import sqlite3
from operator import lt
from typing import TYPE_CHECKING, Any, Final

from msgspec import json

from qanat._core.store.values import Placed, Settled, StoredJob
from qanat._stores.sqlite.record import LEASED, READY
from qanat._stores.sqlite.schema import LARGE
from qanat._stores.sqlite.sheet import DELETE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._core.store.values import NewJob, Settle
    from qanat._stores.sqlite.sheet import Sheet

ROWS: Final = 100
"""Rows that one INSERT takes: with 403 parameters well below the 999 of an old SQLite."""
CAN_UPDATE_FROM: Final = sqlite3.sqlite_version_info >= (3, 33, 0)

_COLUMNS: Final = (
    "jobs(queue, id, state, lane, priority, ord, key, handler, put_at, born_at, due_at, keep, "
    "dedupe_for, failure, parent, parent_family, large, rare, body, metadata) VALUES"
)


def _row(k: int) -> str:
    """Return the values of one row: ?1 is the queue, ?2 the lane, ?3 the time."""
    at = 5 * k + 4
    return (
        f"(?1, ?{at}, 1, ?2, 0.0, ?{at + 1}, NULL, ?{at + 2}, ?3, ?3, NULL, NULL, 0.0, 0, NULL, 0, 0, 0, "
        f"?{at + 3}, ?{at + 4})"
    )


_INSERT: Final = "INSERT INTO " + _COLUMNS + _row(0)
_INSERT_MANY: Final = "INSERT INTO " + _COLUMNS + ", ".join(map(_row, range(ROWS)))
_FIRST: Final = (
    "SELECT n, id, ord, put_at, handler, body, metadata, attempt = 0 AND token = 0 AND rare = 0 "
    "AND key IS NULL AND priority = 0 AND born_at = put_at FROM jobs "
    "WHERE queue = ? AND lane = ? AND state = 1 AND crashes = 0 ORDER BY priority, ord LIMIT ?"
)
_LEASE: Final = (
    "UPDATE jobs SET state = 2, attempt = 1, token = ? + asked.key, family = ? + asked.key, worker = ?, "
    "started_at = ?, due_at = ? FROM json_each(?) AS asked WHERE jobs.n = asked.value"
)
_LEASE_RUN: Final = (
    "UPDATE jobs SET state = 2, attempt = 1, token = ?1 + n, family = ?1 + n, worker = ?2, "
    "started_at = ?3, due_at = ?4 WHERE n BETWEEN ?5 AND ?6"
)
"""The same for rows that follow one another, as most do, in three quarters of the time."""
_ALL_LEASED: Final = (
    "SELECT count(*), min(jobs.n), max(jobs.n), json_group_array(jobs.n) "
    "FROM json_each(?) AS asked CROSS JOIN jobs ON jobs.queue = ? AND jobs.id = asked.key "
    "WHERE jobs.token = asked.value AND jobs.state = 2 AND jobs.rare = 0 AND jobs.key IS NULL"
)
"""Tokens by id are asked for; one row answers, as each row lets go of Python's lock and takes it again."""
_LEASED: Final = (
    "SELECT jobs.id, jobs.token, jobs.n FROM json_each(?) AS asked CROSS JOIN jobs "
    "ON jobs.queue = ? AND jobs.id = asked.value "
    "WHERE jobs.state = 2 AND jobs.rare = 0 AND jobs.key IS NULL"
)
_DELETE_RUN: Final = "DELETE FROM jobs WHERE n BETWEEN ? AND ?"


def put(sheet: Sheet, jobs: Sequence[NewJob]) -> list[Placed] | None:
    """Insert jobs, if all are plain and of one lane; their ids have to be different.

    Raises:
        sqlite3.IntegrityError: If one of the ids is there: nothing of this step is to stay.
    """
    if not jobs or sheet.conf.order == "due":
        return None
    lane = jobs[0].lane
    for job in jobs:
        if (
            job.lane != lane
            or job.key is not None
            or job.delay
            or job.priority
            or job.keep is not None
            or job.dedupe_for
            or job.parent is not None
            or job.failure != "ignore"
            or len(job.body) >= LARGE
            or len(job.metadata) >= LARGE
        ):
            return None
    queue, count = sheet.queue, len(jobs)
    step = 1 if sheet.conf.order == "fifo" else -1
    order, last = step * (queue.orders + 1), step * (queue.orders + count)
    orders = range(order, last + step, step)
    common = (queue.n, lane, sheet.now)
    for begin in range(0, count - count % ROWS, ROWS):
        values: list[Any] = [*common]
        for k in range(begin, begin + ROWS):
            job = jobs[k]
            values += (job.id, orders[k], job.handler, job.body, job.metadata)
        sheet.connection.execute(_INSERT_MANY, values)
    rest = [
        (*common, job.id, orders[k], job.handler, job.body, job.metadata)
        for k, job in enumerate(jobs[count - count % ROWS :], count - count % ROWS)
    ]
    if rest:
        sheet.connection.executemany(_INSERT, rest)
    queue.orders += count
    queue.put += count
    sheet.counts[READY] += count
    sheet.lanes.load((lane,))
    sheet.lanes.enter(lane, count)
    return [Placed(job.id) for job in jobs]


def lease(sheet: Sheet, lane: str, most: int, worker: str, seconds: float) -> list[StoredJob]:
    """Lease the first jobs of a lane, as far as they are plain."""
    if not CAN_UPDATE_FROM:
        return []
    connection, queue, now = sheet.connection, sheet.queue, sheet.now
    rows = connection.execute(_FIRST, (queue.n, lane, most)).fetchall()
    due_at, first = now + seconds, queue.tokens + 1
    jobs: list[StoredJob] = []
    numbers: list[int] = []
    for n, id, order, put_at, handler, body, metadata, is_plain in rows:
        if not is_plain:
            break
        token = first + len(numbers)
        numbers.append(n)
        jobs.append(
            StoredJob(
                id=id, state="leased", body=body, handler=handler, lane=lane, metadata=metadata, attempt=1,
                token=token, worker=worker, put_at=put_at, born_at=put_at, due_at=due_at, started_at=now,
                family=token, order=order,
            )
        )  # fmt: skip
    count = len(numbers)
    if count:
        begin, end = numbers[0], numbers[-1]
        # In their order, and as many as there is room between: so there are no others between.
        if end - begin == count - 1 and all(map(lt, numbers, numbers[1:])):
            connection.execute(_LEASE_RUN, (first - begin, worker, now, due_at, begin, end))
        else:
            connection.execute(_LEASE, (first, first, worker, now, due_at, json.encode(numbers).decode()))
        queue.tokens += count
        sheet.counts[READY] -= count
        sheet.counts[LEASED] += count
        sheet.lanes.leave(lane, count)
    return jobs


def settle(sheet: Sheet, settles: Sequence[Settle]) -> dict[str, Settled]:
    """End those leases of plain jobs that are done, in a queue that keeps no records; tell which, by id.

    Of two settles of one job the first counts, whatever comes of it.
    """
    asked: dict[str, Settle] = {}
    others: set[str] = set()
    for each in settles:
        if each.children or each.also:
            return {}  # whose ids may be those of jobs that end later in this step
        id = each.id
        if id in asked or id in others:
            continue
        if each.kind == "done" and not each.after:
            asked[id] = each
        else:
            others.add(id)
    if not asked or sheet.conf.keep != 0:
        return {}
    tokens = json.encode({id: each.token for id, each in asked.items()}).decode()
    connection = sheet.connection
    count, first, last, numbers = connection.execute(_ALL_LEASED, (tokens, sheet.queue.n)).fetchone()
    if count == len(asked):
        if last - first == count - 1:
            connection.execute(_DELETE_RUN, (first, last))
        else:
            connection.execute(DELETE, (numbers,))
        sheet.leave_all_done(asked)
        return {id: Settled(id, "ok", "done") for id in asked}
    rows = connection.execute(_LEASED, (json.encode(list(asked)).decode(), sheet.queue.n)).fetchall()
    ended = {id: n for id, token, n in rows if asked[id].token == token}
    connection.execute(DELETE, (json.encode(list(ended.values())).decode(),))
    sheet.leave_all_done(ended)
    return {id: Settled(id, "ok", "done") for id in ended}
