"""The sheet of one step: what it has read, and what it is to write.

A deed reads its jobs in one go, decides in plain code with the rules that all stores share, changes the
records on its sheet, and the sheet is written in few statements of many rows. All of it happens between
BEGIN IMMEDIATE and COMMIT, so nobody else changes what was read.

What must stay true: whoever changes a record's state calls `move`, which keeps counts, lanes and keys
in step; whoever changes anything else calls `touch`. A record that was changed reads as changed, one
that was removed as not there, before and after it is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import json
from msgspec.structs import astuple

from qanat._core.store.rules import after_children, holds_key, kept_for, priority_at
from qanat._core.store.states import STATES
from qanat._core.store.values import Ended
from qanat._stores.sqlite.keys import Keys
from qanat._stores.sqlite.lanes import Lanes
from qanat._stores.sqlite.queue_row import decoded, write_queue
from qanat._stores.sqlite.record import (
    CANCELLED,
    COLUMNS,
    DEAD,
    DONE,
    ERROR,
    LEASED,
    READY,
    VALUE,
    WAITING,
    Record,
)
from qanat._stores.sqlite.record import records as read
from qanat._stores.sqlite.schema import LARGE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from sqlite3 import Connection

    from qanat._stores.sqlite.queue_row import QueueRow

_LOAD: Final = (
    "SELECT " + COLUMNS + " FROM json_each(?) AS asked CROSS JOIN jobs "  # noqa: S608 - constants
    "ON jobs.queue = ? AND jobs.id = asked.value"
)
_IDS: Final = (
    "SELECT jobs.id FROM json_each(?) AS asked CROSS JOIN jobs ON jobs.queue = ? AND jobs.id = asked.value"
)
_KNOWN: Final = (
    "SELECT known.id FROM json_each(?) AS asked CROSS JOIN known "
    "ON known.queue = ? AND known.id = asked.value WHERE known.until > ?"
)
_ANY_KNOWN: Final = "SELECT 1 FROM known WHERE queue = ? LIMIT 1"
# One statement for all: half the time of one for each.
DELETE: Final = "DELETE FROM jobs WHERE n IN (SELECT value FROM json_each(?))"
_DELETE_BESIDE: Final = "DELETE FROM large WHERE n IN (SELECT value FROM json_each(?))"
# The parent is not among them: it does not change, and its index would be written with it.
_UPDATE: Final = (
    "UPDATE jobs SET state = ?, priority = ?, ord = ?, attempt = ?, crashes = ?, token = ?, family = ?, "
    "worker = ?, put_at = ?, born_at = ?, due_at = ?, started_at = ?, rare = 1, cancel = ?, note = ?, "
    "ended_at = ?, reason = ?, phase = ?, after = ?, open_children = ?, done_children = ?, "
    "dead_children = ?, cancelled_children = ?, failed_children = ?, large = ?, value = coalesce(?, value), "
    "error = coalesce(?, error) WHERE n = ?"
)
_BESIDE: Final = "REPLACE INTO large(n, what, data) VALUES(?, ?, ?)"
_NOT_BESIDE: Final = "DELETE FROM large WHERE n = ? AND what = ?"
_INSERT: Final = (
    "INSERT INTO jobs(queue, id, state, lane, priority, ord, key, handler, put_at, born_at, due_at, keep, "
    "dedupe_for, failure, parent, parent_family, large, rare, body, metadata) "
    "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_NUMBER: Final = "SELECT n FROM jobs WHERE queue = ? AND id = ?"
_REMEMBER: Final = "REPLACE INTO known(queue, id, until) VALUES(?, ?, ?)"
_FORGET: Final = "DELETE FROM known WHERE queue = ? AND id = ?"


class Sheet:
    """What one step on one queue has read and is to write."""

    def __init__(self, connection: Connection, queue: QueueRow, now: float) -> None:
        self.connection = connection
        self.queue = queue
        self.conf = decoded(queue.conf)
        self.now = now
        self.counts = queue.counts()
        self.lanes = Lanes(connection, queue)
        self.keys = Keys(connection, queue.n)
        self.placed: set[str] = set()
        """Ids of jobs placed in this step."""
        self.new: list[tuple[Any, ...]] = []
        """Rows of jobs to be inserted."""
        self.beside: list[tuple[str, int, bytes]] = []
        """What is to lie beside new rows: id, what, bytes."""
        self._records: dict[str, Record | None] = {}
        self._changed: dict[int, Record] = {}
        self._gone: list[Record] = []
        self._remembered: dict[str, float | None] = {}
        """Ids that stay known, and until when; None: no more."""
        self._before = astuple(queue)

    # Reading.

    def load(self, ids: Iterable[str]) -> None:
        """Read records in one go, as far as they are not read."""
        records = self._records
        missing = [id for id in ids if id not in records]
        if not missing:
            return
        records.update(dict.fromkeys(missing))
        rows = self.connection.execute(_LOAD, (_listed(missing), self.queue.n)).fetchall()
        for record in read(self.connection, rows):
            records[record.id] = record

    def load_parents(self) -> None:
        """Read the parents of the jobs that are read."""
        self.load(
            {record.parent for record in self._records.values() if record is not None and record.parent}
        )

    def record(self, id: str) -> Record | None:
        """Return a record; None if there is none, or none any more."""
        if id not in self._records:
            self.load((id,))
        return self._records[id]

    def live(self, id: str, token: int) -> Record | None:
        """Return the job that is leased under a token, or None."""
        record = self.record(id)
        return record if record is not None and record.state == LEASED and record.token == token else None

    def adopt(self, rows: Iterable[tuple[Any, ...]]) -> list[Record]:
        """Return the records of rows that were read by a deed itself."""
        adopted: list[Record] = []
        for record in read(self.connection, rows):
            known = self._records.get(record.id)
            if known is None:
                known = self._records[record.id] = record
            adopted.append(known)
        return adopted

    def known(self, ids: list[str], *, records: bool = True) -> set[str]:
        """Return which of these ids are known; without `records`, by what is no record any more."""
        known: set[str] = set()
        asked = (_listed(ids), self.queue.n)
        if records:
            known.update(id for (id,) in self.connection.execute(_IDS, asked))
            known.difference_update(record.id for record in self._gone)
        if self.connection.execute(_ANY_KNOWN, (self.queue.n,)).fetchone() is not None:
            known.update(id for (id,) in self.connection.execute(_KNOWN, (*asked, self.now)))
        for id, until in self._remembered.items():
            if until is not None and until > self.now:
                known.add(id)
        known |= self.placed
        return known

    # Changing.

    def touch(self, record: Record) -> None:
        """Let a changed record be written."""
        self._changed[record.n] = record

    def move(self, record: Record, state: int, phase: int) -> None:
        """Let a job go to another state; what else is new of it has been set."""
        old, was = record.state, record.phase
        self.counts[old] -= 1
        self.counts[state] += 1
        if not record.crashes:
            if old == READY:
                self.lanes.leave(record.lane)
            if state == READY:
                self.lanes.enter(record.lane)
        record.state = state
        record.phase = phase
        self._changed[record.n] = record
        if record.key is not None and self.conf.unique is not None:
            self._hold(record, holds_key(self.conf.unique, STATES[old], was))

    def _hold(self, record: Record, held: bool) -> None:
        """Let a job that came to another state take its key, or let it go."""
        assert record.key is not None  # noqa: S101 - asked before, to spare most jobs the call
        holds = holds_key(self.conf.unique, STATES[record.state], record.phase)
        if holds and not held:
            if self.keys.holder(record.key) is None:
                self.keys.hold(record.key, record.id)
        elif held and not holds:
            self.keys.free(record.key, record.id)

    def remove(self, record: Record) -> None:
        """Let a record go; what was counted stays counted, and the key stays held."""
        self._changed.pop(record.n, None)
        self._records[record.id] = None
        self._gone.append(record)

    def remember(self, id: str, until: float | None) -> None:
        """Keep an id known for a time, or let it be forgotten."""
        self._remembered[id] = until

    def next_order(self) -> int:
        """Return the order number of a job that comes in last."""
        self.queue.orders += 1
        return -self.queue.orders if self.conf.order == "lifo" else self.queue.orders

    def begin_anew(self, record: Record, born_at: float) -> None:
        """Let a job begin again, last in its order and without its children."""
        record.order = self.next_order()
        record.priority = priority_at(self.conf, record.priority, born_at)
        record.born_at = born_at
        record.after = ""
        record.done_children = record.dead_children = 0
        record.cancelled_children = record.failed_children = 0

    # Ending.

    def end(self, record: Record, state: int, reason: str, ended: list[Ended], *, told: bool = False) -> None:
        """Let a job end, and then those whose last child it was; `told` if it is to be named itself."""
        ending: Record | None = record
        while ending is not None:
            if told:
                ended.append(Ended(ending.id, STATES[state], reason))
            ending.reason = reason
            self._close(ending, state)
            ending = self.count_child(ending, state)
            if ending is not None:
                state, reason = _by_children(ending)
            told = True

    def end_parent(self, parent: Record, ended: list[Ended]) -> None:
        """Let a parent end that waits for nobody any more."""
        state, reason = _by_children(parent)
        self.end(parent, state, reason, ended, told=True)

    def leave_done(self, record: Record) -> None:
        """Let a leased job be done and go, of which nothing stays."""
        self.counts[LEASED] -= 1
        self.counts[DONE] += 1
        self.remove(record)

    def leave_all_done(self, ids: Collection[str]) -> None:
        """Count leased jobs as done that nobody has read, and whose rows are gone."""
        self.counts[LEASED] -= len(ids)
        self.counts[DONE] += len(ids)
        self._records.update(dict.fromkeys(ids))

    def _close(self, record: Record, state: int) -> None:
        """Keep the record of a job that has ended, for as long as it is wanted."""
        kept = kept_for(self.conf, STATES[state], record.keep)
        record.ended_at = self.now
        record.due_at = None if kept is None else self.now + kept
        self.move(record, state, record.phase)
        if kept == 0:
            self.remove(record)
        if record.dedupe_for:
            self.remember(record.id, self.now + record.dedupe_for)

    def count_child(self, child: Record, state: int) -> Record | None:
        """Tell a parent how its child ended; return the parent if it ends by that."""
        if child.parent is None:
            return None
        parent = self.record(child.parent)
        if parent is None or parent.family != child.parent_family:
            return None
        parent.open_children -= 1
        if state == DONE:
            parent.done_children += 1
        elif state == CANCELLED:
            parent.cancelled_children += 1
        else:
            parent.dead_children += 1
            parent.failed_children += child.failure
        self.touch(parent)
        return self.go_on(parent)

    def go_on(self, parent: Record) -> Record | None:
        """Let a parent go on if it waits for nobody any more; return it if it ends by that."""
        if parent.state != WAITING or parent.open_children:
            return None
        step = after_children(
            attempt=parent.attempt,
            phase=parent.phase,
            failed_children=parent.failed_children,
            after=bool(parent.after),
        )
        if step.state != "ready":
            return parent
        parent.attempt = step.attempt
        parent.reason = step.reason
        self.call_back(parent)
        self.move(parent, READY, step.phase)
        return None

    def call_back(self, record: Record) -> None:
        """Let a job begin a callback."""
        record.priority = priority_at(self.conf, record.priority, self.now)
        record.born_at = self.now
        record.due_at = None
        record.failed_children = 0

    # Writing.

    def write(self) -> None:
        """Write all that has changed."""
        connection = self.connection
        if self._gone:
            connection.execute(DELETE, (_listed([record.n for record in self._gone]),))
            beside = [record.n for record in self._gone if record.large]
            if beside:
                connection.execute(_DELETE_BESIDE, (_listed(beside),))
            self._gone.clear()
        if self._changed:
            self._write_changed()
        if self.new:
            connection.executemany(_INSERT, self.new)
            self.new.clear()
            self._write_beside()
        self.lanes.write()
        self.keys.write()
        self._write_known()
        self._write_queue()

    def _write_changed(self) -> None:
        for record in self._changed.values():
            record.rare = 1
            if record.new_value is not None or record.new_error is not None:
                self._split(record)
        self.connection.executemany(_UPDATE, list(map(_changes, self._changed.values())))
        self._changed.clear()

    def _split(self, record: Record) -> None:
        """Put a large value or error beside its row, and take one away that is replaced."""
        error = record.new_error.encode() if record.new_error is not None else None
        for what, data in ((VALUE, record.new_value), (ERROR, error)):
            if data is None:
                continue
            if len(data) >= LARGE:
                self.connection.execute(_BESIDE, (record.n, what, data))
                record.large |= what
            elif record.large & what:
                self.connection.execute(_NOT_BESIDE, (record.n, what))
                record.large &= ~what
        if record.large & VALUE:
            record.new_value = None
        if record.large & ERROR:
            record.new_error = None

    def _write_beside(self) -> None:
        """Put large bytes beside the rows that were inserted."""
        for id, what, data in self.beside:
            (n,) = self.connection.execute(_NUMBER, (self.queue.n, id)).fetchone()
            self.connection.execute(_BESIDE, (n, what, data))
        self.beside.clear()

    def _write_known(self) -> None:
        for id, until in self._remembered.items():
            if until is None:
                self.connection.execute(_FORGET, (self.queue.n, id))
            else:
                self.connection.execute(_REMEMBER, (self.queue.n, id, until))
        self._remembered.clear()

    def _write_queue(self) -> None:
        queue = self.queue
        queue.set_counts(self.counts)
        if queue.n and astuple(queue) != self._before:
            queue.seen = self.now
            write_queue(self.connection, queue)
            self._before = astuple(queue)


def _listed(values: list[Any]) -> str:
    """Return values as `json_each` takes them apart again."""
    return json.encode(values).decode()


def _by_children(parent: Record) -> tuple[int, str]:
    """Return how a parent ends that has no callback: `rules.after_children` in the file's numbers."""
    step = after_children(
        attempt=parent.attempt, phase=parent.phase, failed_children=parent.failed_children, after=False
    )
    return (DEAD if step.state == "dead" else DONE), step.reason


def _changes(record: Record) -> tuple[Any, ...]:
    return (
        record.state,
        record.priority,
        record.order,
        record.attempt,
        record.crashes,
        record.token,
        record.family,
        record.worker,
        record.put_at,
        record.born_at,
        record.due_at,
        record.started_at,
        record.cancel,
        record.note,
        record.ended_at,
        record.reason,
        record.phase,
        record.after,
        record.open_children,
        record.done_children,
        record.dead_children,
        record.cancelled_children,
        record.failed_children,
        record.large,
        record.new_value,
        record.new_error,
        record.n,
    )
