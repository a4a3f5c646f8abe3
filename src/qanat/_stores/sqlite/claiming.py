"""How a claim chooses: due jobs first made ready, then suspects, then the lanes by turns.

The ring is gone through in memory: lanes are read from its head in one go, and so are the first jobs of
each; what was taken and which lanes took their turns is written at the end. Only when a job that ends
here has a parent is everything written at once and read anew, since the parent may be ready by that.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from msgspec import json

from qanat._core.store.bounds import MOST, MOST_SUSPECTS
from qanat._core.store.rules import beyond
from qanat._core.store.values import Claim, Ended
from qanat._stores.sqlite import plain
from qanat._stores.sqlite.record import DEAD, LEASED, READY, SCHEDULED, WHOLE, stored

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from sqlite3 import Connection

    from qanat._core.store.values import StoredJob
    from qanat._stores.sqlite.lanes import Lane
    from qanat._stores.sqlite.record import Record
    from qanat._stores.sqlite.sheet import Sheet

AFTER_A_STIR: Final = 4
"""Jobs read at first after something came back while a claim went on, then twice as many with each read:
where each job that ends brings a parent back, all that was read ahead is read in vain."""

_FIRST_DUE: Final = "SELECT due_at FROM jobs WHERE queue = ? AND state = 0 ORDER BY due_at, ord LIMIT 1"
_FIRST_LEASE: Final = "SELECT due_at FROM jobs WHERE queue = ? AND state = 2 ORDER BY due_at, token LIMIT 1"
_PEEK: Final = (
    "SELECT paused, ready, "
    "(SELECT due_at FROM jobs WHERE queue = queues.n AND state = 0 ORDER BY due_at, ord LIMIT 1), "
    "(SELECT due_at FROM jobs WHERE queue = queues.n AND state = 2 ORDER BY due_at, token LIMIT 1) "
    "FROM queues WHERE name = ?"
)
_DUE: Final = (
    "SELECT n, lane, crashes FROM jobs WHERE queue = ? AND state = 0 AND due_at <= ? "
    "ORDER BY due_at, ord LIMIT ?"
)
_MAKE_READY: Final = "UPDATE jobs SET state = 1, due_at = NULL WHERE n IN (SELECT value FROM json_each(?))"
_LEASE: Final = (
    "UPDATE jobs SET state = 2, attempt = ?, token = ?, family = ?, worker = ?, note = '', started_at = ?, "
    "due_at = ? WHERE n = ?"
)
_SUSPECTS: Final = (
    "SELECT n, lane FROM jobs WHERE queue = ? AND state = 1 AND crashes > 0 ORDER BY priority, ord LIMIT ?"
)
_ONE: Final = "SELECT " + WHOLE + " FROM jobs WHERE n = ?"  # noqa: S608 - constants
_FIRST: Final = (
    "SELECT " + WHOLE + " FROM jobs WHERE queue = ? AND lane = ? AND state = 1 AND crashes = 0 "  # noqa: S608
    "ORDER BY priority, ord LIMIT ?"
)
_NEXT: Final = (
    "SELECT " + WHOLE + " FROM jobs WHERE queue = ? AND lane = ? AND state = 1 AND crashes = 0 "  # noqa: S608
    "AND (priority, ord) > (?, ?) ORDER BY priority, ord LIMIT ?"
)
_HEADS: Final = (
    "SELECT " + WHOLE + " FROM json_each(?) AS asked CROSS JOIN jobs ON jobs.n = ("  # noqa: S608
    "SELECT first.n FROM jobs AS first WHERE first.queue = ? AND first.lane = asked.value "
    "AND first.state = 1 AND first.crashes = 0 ORDER BY first.priority, first.ord LIMIT 1)"
)


Job: TypeAlias = "tuple[tuple[Any, ...], Record]"
"""A row as it was read, and its record."""


class Wish(NamedTuple):
    """What is asked for."""

    n: int
    worker: str
    lease: float
    skip: Collection[str]
    suspects: int


def peek(connection: Connection, queue: str, n: int, now: float) -> Claim | None:
    """Return the answer if a claim has nothing to change, which spares idle workers the lock; else None."""
    row = connection.execute(_PEEK, (queue,)).fetchone()
    if row is None:
        return Claim([])
    paused, ready, due, lease = row
    if paused:
        return Claim([], None, [], True)
    if (n and ready) or (due is not None and due <= now):
        return None
    return Claim([], _seconds_until(now, due, lease))


class Claiming:
    """One claim under way."""

    def __init__(self, sheet: Sheet, wish: Wish) -> None:
        self.sheet = sheet
        self.wish = wish
        self.rows: list[tuple[Any, ...]] = []
        self.records: list[Record] = []
        self.plain: list[StoredJob] = []
        """Those that went the short way, before the others."""
        self.ended: list[Ended] = []
        self.looks = 0
        """Jobs that ended instead of being leased."""
        self.stirred = False
        """Whether what was read of the ring may no longer be true."""
        self._leased: list[tuple[Any, ...]] = []
        self._passed: set[str] = set()
        """Lanes passed over, one after the other, since the last that was not."""

    def run(self) -> Claim:
        """Claim, and tell what came of it."""
        sheet, wish = self.sheet, self.wish
        if sheet.queue.paused:
            return Claim([], None, [], True)
        self._let_due_in()
        if wish.suspects and wish.n and self._has_suspects():
            self._take_suspects()
            self._write()
        ahead = MOST
        while True:
            self.stirred = False
            self._take_turns(ahead)
            self._write()
            if not self.stirred:
                break
            ahead = AFTER_A_STIR
        jobs = stored(sheet.connection, self.rows, self.records)
        jobs = self.plain + jobs
        return Claim(jobs, 0.0 if self.looks >= MOST else self._next_due(), self.ended)

    @property
    def wanted(self) -> int:
        """How many more may be leased."""
        return self.wish.n - len(self.rows) - len(self.plain)

    def _let_due_in(self) -> None:
        """Make scheduled jobs ready whose time has come, as many as one step may."""
        sheet = self.sheet
        if not sheet.counts[SCHEDULED]:
            return
        due = sheet.connection.execute(_DUE, (sheet.queue.n, sheet.now, MOST)).fetchall()
        if not due:
            return
        sheet.lanes.load({lane for _, lane, crashes in due if not crashes})
        for _, lane, crashes in due:
            if not crashes:
                sheet.lanes.enter(lane)
        sheet.counts[SCHEDULED] -= len(due)
        sheet.counts[READY] += len(due)
        sheet.connection.execute(_MAKE_READY, (json.encode([n for n, _, _ in due]).decode(),))
        sheet.lanes.write()

    def _has_suspects(self) -> bool:
        return self._suspects(1) != []

    def _suspects(self, most: int) -> list[tuple[int, str]]:
        return self.sheet.connection.execute(_SUSPECTS, (self.sheet.queue.n, most)).fetchall()

    def _take_suspects(self) -> None:
        left = min(self.wish.suspects, self.wish.n)
        for n, lane in self._suspects(MOST_SUSPECTS):
            if lane not in self.wish.skip:
                rows = self.sheet.connection.execute(_ONE, (n,)).fetchall()
                left -= self.lease(rows[0], self.sheet.adopt(rows)[0])
                if not left:
                    return

    def _take_turns(self, ahead: int) -> None:
        sheet, wish, passed = self.sheet, self.wish, self._passed
        ring = Ring(sheet, self.wanted, wish.skip, ahead)
        queue, weights = sheet.queue, sheet.conf.weights
        while self.wanted > 0 and self.looks < MOST and not self.stirred:
            lane = ring.head()
            if lane is None or lane.name in passed:
                return
            if lane.name in wish.skip:
                passed.add(lane.name)
                ring.turn()
                continue
            passed.clear()
            if ring.is_alone():
                self._take_alone(ring, lane)
                continue
            leased = self.lease(*ring.take(lane, self.wanted))
            if not lane.size:
                ring.drop()
                continue
            if not leased:
                continue
            if queue.given_turn != lane.turn:
                queue.given_turn, queue.given = lane.turn, 0
            queue.given += 1
            if queue.given >= weights.get(lane.name, 1):
                ring.turn()

    def _take_alone(self, ring: Ring, lane: Lane) -> None:
        """Take from the only lane there is: all its turns in a row, without sending it round for each."""
        sheet, wish = self.sheet, self.wish
        queue = sheet.queue
        weight = sheet.conf.weights.get(lane.name, 1)
        given = queue.given if queue.given_turn == lane.turn else 0
        if not (self.rows or self.plain or self.looks or ring.has_read(lane)) and sheet.conf.max_age is None:
            self.plain = plain.lease(sheet, lane.name, self.wanted, wish.worker, wish.lease)
            given += len(self.plain)
        while lane.size and self.wanted > 0 and self.looks < MOST and not self.stirred:
            given += self.lease(*ring.take(lane, self.wanted))
        queue.given_turn, queue.given = lane.turn, given % weight
        if not lane.size:
            ring.drop()

    def lease(self, row: tuple[Any, ...], record: Record) -> bool:
        """Lease a job, or let it end if it is beyond a bound."""
        sheet, now = self.sheet, self.sheet.now
        why = beyond(sheet.conf, attempt=record.attempt, crashes=record.crashes, age=now - record.born_at)
        if why:
            self.looks += 1
            ready = sheet.counts[READY]
            sheet.end(record, DEAD, why, self.ended, told=True)
            # A parent that came back for its callback stands in a lane now.
            self.stirred = self.stirred or sheet.counts[READY] != ready - 1
            return False
        if record.key is not None and sheet.conf.unique == "pending" and not record.phase:
            sheet.keys.free(record.key, record.id)
        sheet.counts[READY] -= 1
        sheet.counts[LEASED] += 1
        if not record.crashes:
            sheet.lanes.leave(record.lane)
        sheet.queue.tokens += 1
        record.state = LEASED
        record.attempt += 1
        record.token = sheet.queue.tokens
        record.family = record.family or record.token
        record.worker = self.wish.worker
        record.note = ""
        record.started_at = now
        record.due_at = now + self.wish.lease
        self.rows.append(row)
        self.records.append(record)
        self._leased.append(
            (record.attempt, record.token, record.family, record.worker, now, record.due_at, record.n)
        )
        return True

    def _write(self) -> None:
        if self._leased:
            self.sheet.connection.executemany(_LEASE, self._leased)
            self._leased.clear()
        self.sheet.write()

    def _next_due(self) -> float | None:
        sheet = self.sheet
        queue = (sheet.queue.n,)
        due = sheet.connection.execute(_FIRST_DUE, queue).fetchone() if sheet.counts[SCHEDULED] else None
        lease = sheet.connection.execute(_FIRST_LEASE, queue).fetchone() if sheet.counts[LEASED] else None
        return _seconds_until(sheet.now, due and due[0], lease and lease[0])


class Ring:
    """The lanes in their turns and their first jobs, as one claim goes through them.

    What is read is what was written before: whoever makes one has the sheet written. Lanes that took
    their turn come after all that the file has. `ahead` is how much is read at first.
    """

    def __init__(self, sheet: Sheet, wanted: int, skip: Collection[str], ahead: int) -> None:
        self._sheet = sheet
        self._skip = skip
        self._wanted = wanted
        self._most = ahead
        self._chunk = min(ahead, wanted) + len(skip) + 1
        self._ahead: deque[Lane] = deque()
        self._behind: deque[Lane] = deque()
        self._read_to = -1
        self._all_read = wanted <= 0
        self._jobs: dict[str, deque[Job]] = {}
        self._last: dict[str, Record] = {}

    def head(self) -> Lane | None:
        """Return the lane whose turn it is."""
        if not self._ahead:
            if not self._all_read:
                self._read()
            if not self._ahead:
                self._ahead, self._behind = self._behind, self._ahead
        return self._ahead[0] if self._ahead else None

    def is_alone(self) -> bool:
        """Whether there is no other lane than the one at the head."""
        return self._all_read and len(self._ahead) == 1 and not self._behind

    def turn(self) -> None:
        """Let the lane at the head go to the tail."""
        lane = self._ahead.popleft()
        self._sheet.lanes.to_tail(lane)
        self._behind.append(lane)

    def drop(self) -> None:
        """Let the lane at the head leave, as it has run empty."""
        self._ahead.popleft()

    def take(self, lane: Lane, wanted: int) -> Job:
        """Return the first job of a lane that has not been taken."""
        jobs = self._jobs.get(lane.name)
        if not jobs:
            share = -(-wanted // (len(self._ahead) + len(self._behind)))
            weight = self._sheet.conf.weights.get(lane.name, 1)
            jobs = self._jobs[lane.name] = self._fetch(lane, min(max(share, min(weight, wanted)), self._most))
            self._most *= 2
        job = jobs.popleft()
        self._last[lane.name] = job[1]
        return job

    def has_read(self, lane: Lane) -> bool:
        """Whether jobs of a lane were read, some of which may not have been taken."""
        return lane.name in self._jobs

    def _fetch(self, lane: Lane, most: int) -> deque[Job]:
        connection, queue = self._sheet.connection, self._sheet.queue.n
        last = self._last.get(lane.name)
        if last is None:
            rows = connection.execute(_FIRST, (queue, lane.name, most)).fetchall()
        else:
            rows = connection.execute(_NEXT, (queue, lane.name, last.priority, last.order, most)).fetchall()
        return deque(self._jobs_of(rows))

    def _jobs_of(self, rows: list[tuple[Any, ...]]) -> Iterator[Job]:
        # On the sheet, as any of them may be the parent of one that ends in this claim.
        return zip(rows, self._sheet.adopt(rows), strict=True)

    def _read(self) -> None:
        """Read more lanes, and if they are many the first job of each in one go."""
        lanes = self._sheet.lanes.after(self._read_to, self._chunk)
        self._all_read = len(lanes) < self._chunk
        if not lanes:
            return
        self._read_to = lanes[-1].kept_turn
        self._ahead.extend(lanes)
        names = [lane.name for lane in lanes if lane.name not in self._skip]
        if len(names) > 1 and self._wanted > 1:
            asked = json.encode(names).decode()
            rows = self._sheet.connection.execute(_HEADS, (asked, self._sheet.queue.n)).fetchall()
            for job in self._jobs_of(rows):
                self._jobs[job[1].lane] = deque((job,))


def _seconds_until(now: float, *times: float | None) -> float | None:
    return min((max(0.0, at - now) for at in times if at is not None), default=None)
