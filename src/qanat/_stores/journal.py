"""The journal: an SQLite file of finished jobs by the keys of their items.

A row is of one handler (its name and version) and one key, and says how that job ended last. A job that
is done stays as it is; one that failed is replaced by what came of it later. Values are JSON.

This is what a courier asks for deeds; the engine's keeper knows them by these names:

    count   (done, failed) of this handler
    look    for each key: None, or what is kept of it
    keep    commits what ended; answers None to each
    forget  drops what is kept of this handler, or of the one that is named; answers how many

A key is of this handler, or comes in a pair behind the name of another one of the same version, as a run
may spawn jobs of several. What a job spawned lies beside its value, in the same row: so both are there or
neither. A row of such a job is replaced when its handler was called again all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

import msgspec

from qanat._core.kept import FAILED, Kept
from qanat._stores.sqlite.opener import Kind, open_database
from qanat.errors import JournalError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator

T = TypeVar("T")

Key: TypeAlias = "bytes | tuple[str, bytes]"

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
    "spawned BLOB, value BLOB NOT NULL)"
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
    "SELECT json_group_array(json_array(hex(key), state, attempts, ran, hex(spawned), hex(value))) FROM jobs "
    "WHERE handler=? AND key IN (?{})"
)
_KEEP: Final = (
    "INSERT INTO jobs(handler, key, state, attempts, ran, ended_at, spawned, value) VALUES{} "
    "ON CONFLICT(handler, key) DO UPDATE SET state=excluded.state, attempts=excluded.attempts, "
    f"ran=excluded.ran, ended_at=excluded.ended_at, spawned=excluded.spawned, "
    f"value=excluded.value WHERE jobs.state={FAILED:d} "
    f"OR (jobs.spawned IS NOT NULL AND excluded.state<>{FAILED:d})"
)
_LOOKS: Final = {size: _LOOK.replace("{}", ",?" * (size - 1)) for size in _SIZES}
_KEEPS: Final = {size: _KEEP.replace("{}", ",".join(["(?,?,?,?,?,?,?,?)"] * size)) for size in _SIZES}

_decode = msgspec.json.Decoder(list[tuple[str, int, int, float, str, str]]).decode


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
        self._version = version
        self._others: dict[str, int] = {}
        try:
            self._handler = self._id_of(handler)
        except BaseException:
            self._database.close()
            raise

    def _id_of(self, handler: str) -> int:
        """Return the number of a handler, which it is given if it has none."""
        named = (handler, self._version)
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO handlers(name, version) VALUES(?, ?)", named)
            number: int = connection.execute(
                "SELECT id FROM handlers WHERE name=? AND version=?", named
            ).fetchone()[0]
        return number

    def _other(self, handler: str) -> int:
        number = self._others.get(handler)
        if number is None:
            number = self._others[handler] = self._id_of(handler)
        return number

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

    def _look(self, asked: list[Key]) -> list[Kept | None]:
        others = {key[0] for key in asked if type(key) is tuple}
        if not others:
            found = self._found(self._handler, cast("list[bytes]", asked))
            return [found.get(cast("bytes", key)) for key in asked]
        of_all: dict[str | None, dict[bytes, Kept]] = {
            name: self._found(
                self._other(name), [key[1] for key in asked if type(key) is tuple and key[0] == name]
            )
            for name in others
        }
        of_all[None] = self._found(self._handler, [key for key in asked if type(key) is bytes])
        parts = [key if type(key) is tuple else (None, key) for key in asked]
        return [of_all[name].get(cast("bytes", key)) for name, key in parts]

    def _found(self, handler: int, asked: list[bytes]) -> dict[bytes, Kept]:
        found: dict[bytes, Kept] = {}
        for keys in _in_parts(asked):
            (rows,) = self._database.execute(_LOOKS[len(keys)], (handler, *keys)).fetchone()
            for key, state, attempts, ran, spawned, value in _decode(rows):
                found[bytes.fromhex(key)] = Kept(
                    state, attempts, ran, bytes.fromhex(value), bytes.fromhex(spawned) if spawned else None
                )
        return found

    def _keep(self, asked: list[tuple[Key, int, int, float, float, bytes | None, bytes]]) -> list[None]:
        if not asked:
            return []
        values = [self._values(row) for row in asked]
        with self._database.transaction() as connection:
            for rows in _in_parts(values):
                connection.execute(_KEEPS[len(rows)], [value for row in rows for value in row])
        return [None] * len(asked)

    def _values(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        key = row[0]
        if type(key) is bytes:
            return (self._handler, *row)
        return (self._other(key[0]), key[1], *row[1:])

    def _forget(self, asked: list[str | None]) -> list[int]:
        gone: list[int] = []
        for name in asked:
            handler = self._handler if name is None else self._other(name)
            with self._database.transaction() as connection:
                gone.append(connection.execute("DELETE FROM jobs WHERE handler=?", (handler,)).rowcount)
        return gone


def _in_parts(asked: list[T]) -> Iterator[list[T]]:
    """Cut a batch into parts, each as long as there is a statement for."""
    begin = 0
    for size in _SIZES:
        while len(asked) - begin >= size:
            yield asked[begin : begin + size]
            begin += size
