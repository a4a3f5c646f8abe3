"""What can be seen of jobs without changing anything: get, find and count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from msgspec import DecodeError, json

from qanat._core.shown import shown
from qanat._core.store.values import Counts, Page
from qanat._stores.sqlite.queue_row import read_queue
from qanat._stores.sqlite.record import LEASED, READY, WHOLE, stored
from qanat._stores.sqlite.settling import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from sqlite3 import Connection

    from qanat._core.store.states import State
    from qanat._core.store.values import StoredJob

LOOKS: Final = 10_000
"""Jobs of another lane or state that one find passes over: it gives a short page then."""

_GET: Final = (
    "SELECT " + WHOLE + " FROM json_each(?) AS asked CROSS JOIN jobs "  # noqa: S608 - constants
    "ON jobs.queue = ? AND jobs.id = asked.value"
)
_BY_NUMBER: Final = (
    "SELECT " + WHOLE + " FROM json_each(?) AS asked CROSS JOIN jobs ON jobs.n = asked.value"  # noqa: S608
)
# Each gives the number of a job, whether it fits, and where it stands in the order of its index.
_CHILDREN: Final = (
    "SELECT n, state, lane FROM jobs WHERE queue = ? AND parent = ? AND n > ? ORDER BY n LIMIT ?"
)
_STATE: Final = (
    "SELECT n, state, lane FROM jobs WHERE queue = ? AND state = ? AND state <> 1 AND state <> 2 AND n > ? "
    "ORDER BY n LIMIT ?"
)
# Leases are few, and their index follows their extensions, so they are sorted here.
_LEASED: Final = "SELECT n, state, lane FROM jobs WHERE queue = ? AND state = 2 AND n > ? ORDER BY n LIMIT ?"
_READY: Final = (
    "SELECT n, lane, priority, ord FROM jobs WHERE queue = ? AND state = 1 AND crashes = 0 "
    "AND (lane, priority, ord) > (?, ?, ?) ORDER BY lane, priority, ord LIMIT ?"
)
_READY_OF_LANE: Final = (
    "SELECT n, lane, priority, ord FROM jobs WHERE queue = ? AND lane = ? AND state = 1 AND crashes = 0 "
    "AND (priority, ord) > (?, ?) ORDER BY priority, ord LIMIT ?"
)
_SUSPECTS: Final = (
    "SELECT n, lane, priority, ord FROM jobs WHERE queue = ? AND state = 1 AND crashes > 0 "
    "AND (priority, ord) > (?, ?) ORDER BY priority, ord LIMIT ?"
)
_DUE: Final = (
    "SELECT (SELECT count(*) FROM jobs WHERE queue = :queue AND state = 0 AND due_at <= :now) + "
    "(SELECT count(*) FROM jobs WHERE queue = :queue AND state = 2 AND due_at <= :now)"
)
_BEFORE_ALL: Final = ("", -1.8e308, 0)


def get(connection: Connection, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
    """Return what is known of jobs, in order."""
    row = read_queue(connection, queue)
    rows = connection.execute(_GET, (json.encode(list(dict.fromkeys(ids))).decode(), row.n)).fetchall()
    found = {job.id: job for job in stored(connection, rows)}
    return [found.get(id) for id in ids]


def count(connection: Connection, queue: str, now: float) -> Counts:
    """Return how many jobs are in each state."""
    row = read_queue(connection, queue)
    (due,) = connection.execute(_DUE, {"queue": row.n, "now": now}).fetchone()
    return Counts(
        scheduled=row.scheduled,
        ready=row.ready,
        leased=row.leased,
        waiting=row.waiting,
        done=row.done,
        dead=row.dead,
        cancelled=row.cancelled,
        put=row.put,
        removed=row.removed,
        paused=row.paused != 0,
        due=due,
    )


class Search:
    """What is looked for, and from where on."""

    def __init__(
        self,
        state: State | None,
        lane: str | None,
        parent: str | None,
        bodies: Collection[bytes] | None,
        limit: int,
        after: str | None,
    ) -> None:
        self.state = None if state is None else NUMBERS[state]
        self.lane = lane
        self.parent = parent
        self.bodies = None if bodies is None else frozenset(bodies)
        self.limit = limit
        self.by_line = parent is None and self.state == READY
        """Ready jobs are found by their lines, so that the way of every job spares an index of states."""
        self.cursor = _cursor(after, by_line=self.by_line)

    def run(self, connection: Connection, queue: str) -> Page:
        """Look, and return a page."""
        row = read_queue(connection, queue)
        numbers, cursor = (self._lines if self.by_line else self._rows)(connection, row.n)
        rows = connection.execute(_BY_NUMBER, (json.encode(numbers).decode(),)).fetchall()
        jobs = stored(connection, rows)
        if self.bodies is not None:
            # So a page of these looks at as many jobs as it may hold.
            jobs = [job for job in jobs if job.body in self.bodies]
        return Page(jobs, None if cursor is None else json.encode(cursor).decode())

    def _rows(self, connection: Connection, queue: int) -> tuple[list[int], list[Any] | None]:
        """Look through the jobs of a state or of a parent, in the order in which they came in."""
        after = self.cursor[0]
        filtering = self.lane is not None or (self.parent is not None and self.state is not None)
        most = LOOKS if filtering else self.limit
        if self.parent is not None:
            rows = connection.execute(_CHILDREN, (queue, self.parent, after, most))
        elif self.state == LEASED:
            rows = connection.execute(_LEASED, (queue, after, most))
        else:
            rows = connection.execute(_STATE, (queue, self.state, after, most))
        numbers: list[int] = []
        looked = 0
        for n, state, lane in rows:
            looked += 1
            after = n
            if self.lane in {None, lane} and self.state in {None, state}:
                numbers.append(n)
                if len(numbers) == self.limit:
                    return numbers, [after]
        return numbers, [after] if looked == most else None

    def _lines(self, connection: Connection, queue: int) -> tuple[list[int], list[Any] | None]:
        """Look through the line of suspects, and then through the lanes."""
        line, lane, priority, order = self.cursor
        numbers: list[int] = []
        if line == 0:
            rows = connection.execute(_SUSPECTS, (queue, priority, order, LOOKS)).fetchall()
            for n, of, priority, order in rows:
                if self.lane in {None, of}:
                    numbers.append(n)
                    if len(numbers) == self.limit:
                        return numbers, [0, "", priority, order]
            if len(rows) == LOOKS:
                return numbers, [0, "", priority, order]
            lane, priority, order = _BEFORE_ALL
        most = self.limit - len(numbers)
        if self.lane is not None:
            rows = connection.execute(_READY_OF_LANE, (queue, self.lane, priority, order, most)).fetchall()
        else:
            rows = connection.execute(_READY, (queue, lane, priority, order, most)).fetchall()
        numbers += [row[0] for row in rows]
        return numbers, [1, *rows[-1][1:]] if len(rows) == most else None


def _cursor(after: str | None, *, by_line: bool) -> list[Any]:
    if after is None:
        return [0, *_BEFORE_ALL] if by_line else [0]
    kind: Any = tuple[int, str, float, int] if by_line else tuple[int]
    try:
        return list(json.decode(after, type=kind))
    except (DecodeError, UnicodeEncodeError, TypeError):
        _refuse(after)


def _refuse(after: object) -> NoReturn:
    raise ValueError(f"after must be the next of a page before, got {shown(after)}") from None
