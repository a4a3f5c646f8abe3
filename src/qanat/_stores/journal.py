"""The journal: an SQLite file of finished jobs by the keys of their items.

A row is of one handler (its name and version) and one key, and says how that job ended last. A job that
is done stays as it is; one that failed is replaced by what came of it later. Values are JSON.

This is what a courier asks for deeds; the engine's keeper knows them by these names:

    count   (done, failed) of this handler
    look    for each key: None, or what is kept of it
    keep    commits what ended; answers None to each
    forget  drops what is kept of this handler; answers how many
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from qanat._core.kept import FAILED, Kept
from qanat._stores.sqlite.opener import Kind, open_database
from qanat.errors import JournalError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

T = TypeVar("T")

PATIENCE: Final = 30.0
"""Seconds to wait for another run that writes to the same journal."""

_HANDLERS: Final = (
    "CREATE TABLE handlers(id INTEGER PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, "
    "UNIQUE(name, version))"
)
# Rows lie in the order in which they came, so that only the small index is written all over.
_JOBS: Final = (
    "CREATE TABLE jobs(id INTEGER PRIMARY KEY, handler INTEGER NOT NULL, key BLOB NOT NULL, "
    "state INTEGER NOT NULL, attempts INTEGER NOT NULL, ran REAL NOT NULL, ended_at REAL NOT NULL, "
    "value BLOB NOT NULL)"
)

KIND: Final = Kind(
    "journal",
    application_id=0x71616E6A,  # "qanj"
    version=1,
    schema=(_HANDLERS, _JOBS, "CREATE UNIQUE INDEX jobs_by_key ON jobs(handler, key)"),
    refused=JournalError,
)

# SQLite is stepped without Python's lock, which each step may wait 5 ms for when the loop is busy. So a
# batch is one step, or a few: rows go in together, and what is found comes out as one row.
_SIZES: Final = (512, 64, 8, 1)
"""How many keys or rows go into one statement, the largest first; each has a statement of its own."""

_LOOK: Final = (
    "SELECT json_group_array(json_array(hex(key), state, attempts, ran, hex(value))) FROM jobs "
    "WHERE handler=? AND key IN (?{})"
)
_KEEP: Final = (
    "INSERT INTO jobs(handler, key, state, attempts, ran, ended_at, value) VALUES{} "
    "ON CONFLICT(handler, key) DO UPDATE SET state=excluded.state, attempts=excluded.attempts, "
    f"ran=excluded.ran, ended_at=excluded.ended_at, value=excluded.value WHERE jobs.state={FAILED:d}"
)
_LOOKS: Final = {size: _LOOK.replace("{}", ",?" * (size - 1)) for size in _SIZES}
_KEEPS: Final = {size: _KEEP.replace("{}", ",".join(["(?,?,?,?,?,?,?)"] * size)) for size in _SIZES}

_decode = msgspec.json.Decoder(list[tuple[str, int, int, float, str]]).decode


class JournalConnection:
    """A connection to a journal, for the jobs of one handler.

    Args:
        path: The file; it is made if there is none.
        handler: The handler's name.
        version: Of the handler.
    """

    def __init__(
        self, path: str | os.PathLike[str], handler: str, version: str, *, patience: float = PATIENCE
    ) -> None:
        """Open the file.

        Raises:
            JournalError: If it is no journal, is damaged, or lies where others may write.
            StoreError: If a newer version made it, it cannot be written, or has no room.
        """
        self._database = open_database(path, KIND, patience=patience)
        self._deeds: dict[str, Callable[[list[Any]], list[Any]]] = {
            "count": self._count, "look": self._look, "keep": self._keep, "forget": self._forget,
        }  # fmt: skip
        try:
            with self._database.transaction() as connection:
                named = (handler, version)
                connection.execute("INSERT OR IGNORE INTO handlers(name, version) VALUES(?, ?)", named)
                self._handler: int = connection.execute(
                    "SELECT id FROM handlers WHERE name=? AND version=?", named
                ).fetchone()[0]
        except BaseException:
            self._database.close()
            raise

    def do(self, deed: str, asked: list[Any]) -> list[Any]:
        """Carry out one deed for a batch."""
        return self._deeds[deed](asked)

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    def _count(self, asked: list[None]) -> list[tuple[int, int]]:
        counts: dict[int, int] = dict(
            self._database.execute(
                "SELECT state, count(*) FROM jobs WHERE handler=? GROUP BY state", (self._handler,)
            ).fetchall()
        )
        failed = counts.pop(FAILED, 0)
        return [(sum(counts.values()), failed)] * len(asked)

    def _look(self, asked: list[bytes]) -> list[Kept | None]:
        found: dict[bytes, Kept] = {}
        for keys in _in_parts(asked):
            (rows,) = self._database.execute(_LOOKS[len(keys)], (self._handler, *keys)).fetchone()
            for key, state, attempts, ran, value in _decode(rows):
                found[bytes.fromhex(key)] = Kept(state, attempts, ran, bytes.fromhex(value))
        return [found.get(key) for key in asked]

    def _keep(self, asked: list[tuple[bytes, int, int, float, float, bytes]]) -> list[None]:
        handler = self._handler
        if not asked:
            return []
        with self._database.transaction() as connection:
            for rows in _in_parts(asked):
                connection.execute(_KEEPS[len(rows)], [value for row in rows for value in (handler, *row)])
        return [None] * len(asked)

    def _forget(self, asked: list[None]) -> list[int]:
        with self._database.transaction() as connection:
            gone = connection.execute("DELETE FROM jobs WHERE handler=?", (self._handler,)).rowcount
        return [gone] * len(asked)


def _in_parts(asked: list[T]) -> Iterator[list[T]]:
    """Cut a batch into parts, each as long as there is a statement for."""
    begin = 0
    for size in _SIZES:
        while len(asked) - begin >= size:
            yield asked[begin : begin + size]
            begin += size
