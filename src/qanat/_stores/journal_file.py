"""What a journal's file holds, and how a file of an older version becomes one.

Rows of jobs lie in the order in which they came, and nothing else is written with them: an index of
digests is scattered, and to keep it up with each commit costs more than the rows, the more the longer it
is. So `known` says where the row of a key is for all rows up to `filed` only, and is brought up many rows
at a time, in the order of the keys. The few rows behind that are known by whoever has the file open.

Rows have numbers that never come again, so a number that was seen once says the same for ever.
"""

from __future__ import annotations

from array import array
from sys import byteorder
from typing import TYPE_CHECKING, Final

from qanat._core.kept import FAILED
from qanat._stores.sqlite.opener import Kind, Older
from qanat.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from sqlite3 import Connection

_HANDLERS: Final = (
    "CREATE TABLE handlers(id INTEGER PRIMARY KEY, name TEXT NOT NULL, version TEXT NOT NULL, "
    "UNIQUE(name, version))"
)
_JOBS: Final = (
    "CREATE TABLE jobs(id INTEGER PRIMARY KEY AUTOINCREMENT, handler INTEGER NOT NULL, key BLOB NOT NULL, "
    "state INTEGER NOT NULL, attempts INTEGER NOT NULL, ran BLOB NOT NULL, spawned BLOB, value BLOB NOT NULL)"
)
_KNOWN: Final = (
    "CREATE TABLE known(handler INTEGER NOT NULL, key BLOB NOT NULL, job INTEGER NOT NULL, "
    "PRIMARY KEY(handler, key)) WITHOUT ROWID"
)
_FILED: Final = "CREATE TABLE filed(upto INTEGER NOT NULL)"

_FILE: Final = (
    "INSERT INTO known(handler, key, job) SELECT handler, key, id FROM jobs WHERE id>? "  # noqa: S608 - constants
    "ORDER BY handler, key, id ON CONFLICT(handler, key) DO UPDATE SET job=excluded.job "
    f"WHERE coalesce((SELECT state FROM jobs WHERE id=known.job), {FAILED:d})={FAILED:d} "
    f"OR (SELECT state FROM jobs WHERE id=excluded.job)<>{FAILED:d}"
)

_FIRST: Final = (
    _HANDLERS,
    (
        "CREATE TABLE jobs(id INTEGER PRIMARY KEY, handler INTEGER NOT NULL, key BLOB NOT NULL, "
        "state INTEGER NOT NULL, attempts INTEGER NOT NULL, ran REAL NOT NULL, ended_at REAL NOT NULL, "
        "spawned BLOB, value BLOB NOT NULL)"
    ),
    "CREATE UNIQUE INDEX jobs_by_key ON jobs(handler, key)",
)


def as_doubles(numbers: Sequence[float]) -> bytes:
    """Return numbers as eight bytes each, the least one first."""
    doubles = array("d", numbers)
    if byteorder == "big":
        doubles.byteswap()
    return doubles.tobytes()


def _as_double(number: float) -> bytes:
    return as_doubles([number])


def from_doubles(content: bytes) -> list[float]:
    """Return the numbers that were written by `as_doubles`."""
    doubles = array("d", content)
    if byteorder == "big":
        doubles.byteswap()
    return doubles.tolist()


def file_rows(connection: Connection) -> int:
    """Bring `known` up to the last row, in a transaction; return its number.

    Of several rows of one key, as two runs may have left at the same time, the last that is done counts.
    """
    (upto, last) = connection.execute(
        "SELECT coalesce((SELECT max(upto) FROM filed), 0), coalesce((SELECT max(id) FROM jobs), 0)"
    ).fetchone()
    if last > upto:
        connection.execute(_FILE, (upto,))
        connection.execute("DELETE FROM filed")
        connection.execute("INSERT INTO filed(upto) VALUES(?)", (last,))
    return int(max(last, upto))


def _renew_first(connection: Connection) -> None:
    """Bring over a file of version 1, which had an index of all rows at any time."""
    connection.create_function("as_double", 1, _as_double)
    connection.execute("ALTER TABLE jobs RENAME TO jobs_before")
    for statement in (_JOBS, _KNOWN, _FILED):
        connection.execute(statement)
    connection.execute(
        "INSERT INTO jobs(id, handler, key, state, attempts, ran, spawned, value) SELECT "
        "id, handler, key, state, attempts, as_double(ran), spawned, value FROM jobs_before ORDER BY id"
    )
    connection.execute("DROP TABLE jobs_before")
    connection.create_function("as_double", 1, None)
    file_rows(connection)


KIND: Final = Kind(
    "journal",
    application_id=0x71616E6A,  # "qanj"
    version=2,
    schema=(_HANDLERS, _JOBS, _KNOWN, _FILED),
    refused=JournalError,
    older={1: Older(_FIRST, _renew_first)},
)
