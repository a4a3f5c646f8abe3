"""The ring of lanes with ready jobs, as one step reads and changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct, json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from sqlite3 import Connection

    from qanat._stores.sqlite.queue_row import QueueRow

_LOAD: Final = (
    "SELECT lane, turn, size FROM lanes WHERE queue = ? AND lane IN (SELECT value FROM json_each(?))"
)
_NEXT: Final = "SELECT lane, turn, size FROM lanes WHERE queue = ? AND turn > ? ORDER BY turn LIMIT ?"
_ENTER: Final = "INSERT INTO lanes(queue, lane, turn, size) VALUES(?, ?, ?, ?)"
_RESIZE: Final = "UPDATE lanes SET size = ? WHERE queue = ? AND lane = ?"
_TURN: Final = "UPDATE lanes SET turn = ?, size = ? WHERE queue = ? AND lane = ?"
_LEAVE: Final = "DELETE FROM lanes WHERE queue = ? AND lane = ?"


class Lane(Struct):
    """A lane and how many ready jobs it has, suspects apart; one without any is in no ring.

    Attributes:
        name: Its name.
        turn: Its place in the ring: the smallest is the head.
        size: Its jobs.
        kept_turn: Its place as the file has it; 0: it is not there.
        kept_size: Its jobs as the file has them.
    """

    name: str
    turn: int
    size: int
    kept_turn: int
    kept_size: int


class Lanes:
    """Those lanes of a queue that one step looks at."""

    def __init__(self, connection: Connection, queue: QueueRow) -> None:
        self._connection = connection
        self._queue = queue
        self._read: dict[str, Lane] = {}

    def load(self, names: Iterable[str]) -> None:
        """Read lanes in one go, as far as they are not read."""
        missing = [name for name in names if name not in self._read]
        if not missing:
            return
        rows = self._connection.execute(_LOAD, (self._queue.n, json.encode(missing).decode()))
        for name, turn, size in rows.fetchall():
            self._read[name] = Lane(name, turn, size, turn, size)
        for name in missing:
            if name not in self._read:
                self._read[name] = Lane(name, 0, 0, 0, 0)

    def after(self, turn: int, most: int) -> list[Lane]:
        """Return the lanes that the file has behind a place in the ring; what was changed is written."""
        rows = self._connection.execute(_NEXT, (self._queue.n, turn, most)).fetchall()
        found: list[Lane] = []
        for name, place, size in rows:
            lane = self._read.get(name)
            if lane is None:
                lane = self._read[name] = Lane(name, place, size, place, size)
            found.append(lane)
        return found

    def enter(self, name: str, jobs: int = 1) -> None:
        """Let jobs into a lane; one that had none enters the ring at its tail."""
        lane = self._lane(name)
        if not lane.size:
            self.to_tail(lane)
        lane.size += jobs

    def leave(self, name: str, jobs: int = 1) -> None:
        """Let jobs out of a lane; without any it leaves the ring."""
        self._lane(name).size -= jobs

    def to_tail(self, lane: Lane) -> None:
        """Let a lane go to the tail of the ring."""
        self._queue.turns += 1
        lane.turn = self._queue.turns

    def write(self) -> None:
        """Write what has changed."""
        queue = self._queue.n
        changed = [
            lane for lane in self._read.values() if lane.size != lane.kept_size or lane.turn != lane.kept_turn
        ]
        gone: list[tuple[int, str]] = []
        new: list[tuple[int, str, int, int]] = []
        resized: list[tuple[int, int, str]] = []
        turned: list[tuple[int, int, int, str]] = []
        for lane in changed:
            if not lane.size:
                if lane.kept_size:
                    gone.append((queue, lane.name))
                lane.turn = 0
            elif not lane.kept_size:
                new.append((queue, lane.name, lane.turn, lane.size))
            elif lane.turn == lane.kept_turn:
                resized.append((lane.size, queue, lane.name))
            else:
                turned.append((lane.turn, lane.size, queue, lane.name))
            lane.kept_turn, lane.kept_size = lane.turn, lane.size
        for statement, rows in ((_LEAVE, gone), (_ENTER, new), (_RESIZE, resized), (_TURN, turned)):
            if rows:
                self._connection.executemany(statement, rows)

    def _lane(self, name: str) -> Lane:
        lane = self._read.get(name)
        if lane is None:
            self.load((name,))
            lane = self._read[name]
        return lane
