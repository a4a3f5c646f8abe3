"""The row of a queue: its settings, its counters and its counts."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct, json
from msgspec.structs import astuple

from qanat._core.store.values import Conf

if TYPE_CHECKING:
    from sqlite3 import Connection

_READ: Final = "SELECT * FROM queues WHERE name = ?"
_MAKE: Final = (
    "INSERT INTO queues(name, conf, conf_set, paused, orders, tokens, turns, given, given_turn, put, "
    "removed, scheduled, ready, leased, waiting, done, dead, cancelled, seen) "
    "VALUES(?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)"
)
_WRITE: Final = (
    "UPDATE queues SET conf = ?, conf_set = ?, paused = ?, orders = ?, tokens = ?, turns = ?, given = ?, "
    "given_turn = ?, put = ?, removed = ?, scheduled = ?, ready = ?, leased = ?, waiting = ?, done = ?, "
    "dead = ?, cancelled = ?, seen = ? WHERE n = ?"
)
PLAIN: Final = json.encode(Conf())


class QueueRow(Struct):
    """A queue as the file has it; `n` is 0 for one that is not there.

    Attributes:
        orders: The last order number given, and so `tokens` and `turns`.
        given: How many jobs the lane whose place in the ring is `given_turn` has given in this turn.
        seen: The time of the last change.
    """

    n: int
    name: str
    conf: bytes
    conf_set: int
    paused: int
    orders: int
    tokens: int
    turns: int
    given: int
    given_turn: int
    put: int
    removed: int
    scheduled: int
    ready: int
    leased: int
    waiting: int
    done: int
    dead: int
    cancelled: int
    seen: float

    def counts(self) -> list[int]:
        """Return how many jobs are in each state, by its number."""
        return [self.scheduled, self.ready, self.leased, self.waiting, self.done, self.dead, self.cancelled]

    def set_counts(self, counts: list[int]) -> None:
        """Keep how many jobs are in each state."""
        (
            self.scheduled, self.ready, self.leased, self.waiting, self.done, self.dead, self.cancelled,
        ) = counts  # fmt: skip


def read_queue(connection: Connection, name: str, *, make: bool = False) -> QueueRow:
    """Return the row of a queue; with `make` there is one afterwards, else an empty one that is not kept."""
    row = connection.execute(_READ, (name,)).fetchone()
    if row is None and make:
        connection.execute(_MAKE, (name, PLAIN))
        row = connection.execute(_READ, (name,)).fetchone()
    return QueueRow(*row) if row is not None else _absent(name)


def _absent(name: str) -> QueueRow:
    return QueueRow(0, name, PLAIN, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0)


def write_queue(connection: Connection, row: QueueRow) -> None:
    """Write a row."""
    n, _, *rest = astuple(row)
    connection.execute(_WRITE, (*rest, n))


@lru_cache(maxsize=64)
def decoded(conf: bytes) -> Conf:
    """Return the settings that a row holds; most steps find the same again."""
    return json.decode(conf, type=Conf)
