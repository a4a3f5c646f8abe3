"""Open an SQLite file as durable stores and the journal need it.

    kind = Kind("journal", application_id=0x716A, version=1, schema=("CREATE TABLE ...",))
    database = open_database("run.db", kind)
    with database.transaction() as connection:
        connection.executemany("INSERT ...", rows)

What must stay true:

- **Nothing of anybody else's is touched.** A file is used only if it is empty, or its application id,
  version and tables are ours and it has no trigger and no view; else it is left as it is. It is looked
  at through a connection that can only read.
- **A commit is on the disk when it returns**: WAL with `synchronous=FULL`. The schema is written in one
  transaction before the file goes over to WAL, so the file alone, without its log, is a whole store.
- **Writers ask for the lock first** (`BEGIN IMMEDIATE`): a transaction that read before it asks is
  refused at once when somebody else wrote in between, however long it would wait.
- **Checkpoints are made one at a time, and never beside a commit.** Up to 3.51.2 SQLite has a race that
  can damage a file when a checkpoint runs beside another one, or beside the commit that begins the log
  anew (sqlite.org/wal.html#walresetbug). So SQLite's own checkpoints are off; ours are made by a second
  connection while the first one holds the lock of all writers, which is the same for all processes.
- **A connection is of one process.** After a fork the child gets an error, and leaves the connection
  open: to close it would meddle with the locks.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

from qanat._stores.sqlite.paths import UnsafePathError, checked_path, make_file
from qanat._stores.sqlite.trouble import translated
from qanat.errors import QanatError, StoreError, StoreForked, StoreUnavailable, StoreVersionError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from pathlib import Path

_log = logging.getLogger("qanat")

OLDEST: Final = (3, 31, 0)
"""The first version of SQLite that lets a schema be distrusted."""
MENDED: Final = (3, 51, 3)
"""The first version of SQLite without the race of checkpoints."""

MOST_CHANGES: Final = 4_000
"""Rows changed between two checkpoints: of scattered ones each may put a page of 4 KiB into the log."""
MOST_GROWTH: Final = 4 * 2**20
"""Bytes by which the log may grow between two checkpoints."""
LARGE_LOG: Final = 256 * 2**20
"""Bytes of a log that are told of: somebody reads the database without an end."""
KEPT_LOG: Final = 16 * 2**20
"""Bytes of the log that are kept when it begins anew: to write over them is cheaper than to grow."""
CACHE: Final = 16 * 2**10
"""KiB of pages that a connection keeps."""

_POLL: Final = 0.005

_forked: list[object] = []
"""Connections of a parent process, kept from being closed in the child."""


class _Once:
    """What happens once in a process, and what keeps two threads from opening at the same time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.told = False

    def renew(self) -> None:
        """Begin anew in a child process, where nobody is left to release the lock."""
        self.lock = threading.Lock()


_once = _Once()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_once.renew)


@dataclass(frozen=True, slots=True)
class Older:
    """A version that files may still have.

    Attributes:
        schema: Its statements, as those of a `Kind`.
        renew: Brings a file of it over; called in a transaction, which also writes the new version.
    """

    schema: tuple[str, ...]
    renew: Callable[[sqlite3.Connection], object]


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file has to be.

    Attributes:
        name: What it is called in messages, such as "journal".
        application_id: The number in the file that says so, below 2**31.
        version: Of the schema. A file with a newer one is refused.
        schema: The statements that make its tables and indexes, each as SQLite keeps it: beginning
            with `CREATE TABLE name` or `CREATE INDEX name`, without `IF NOT EXISTS`.
        refused: The error for a file that is something else, or lies where it must not.
        older: The versions before this one that are brought over when a file is opened.
    """

    name: str
    application_id: int
    version: int
    schema: tuple[str, ...]
    refused: type[QanatError] = StoreError
    older: Mapping[int, Older] = field(default_factory=dict[int, Older])


class Database:
    """An open file, used by one thread at a time.

    Attributes:
        path: Where it lies.
        made: Whether this call made it.
    """

    def __init__(
        self, path: Path, kind: Kind, connection: sqlite3.Connection, patience: float, *, made: bool
    ) -> None:
        """Take over a connection that is set up."""
        self.path = path
        self.made = made
        self._kind = kind
        self._connection: sqlite3.Connection | None = connection
        self._helper: sqlite3.Connection | None = None
        self._patience = patience
        self._pid = os.getpid()
        self._log_name = f"{path}-wal"
        self._log_size = 0
        self._changes = connection.total_changes
        self._told_of_log = False

    def execute(self, statement: str, parameters: Iterable[Any] = ()) -> sqlite3.Cursor:
        """Carry out a single statement that reads.

        Raises:
            StoreError: If it cannot be carried out.
            StoreForked: If the process was forked since.
        """
        connection = self._usable()
        try:
            return connection.execute(statement, tuple(parameters))
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def change(self, statement: str, parameters: tuple[Any, ...] = ()) -> int:
        """Carry out a single statement that inserts, as a step of its own; return the last row's number.

        It is like a transaction, but Python's lock is free from its beginning until it is on the disk.

        Raises:
            StoreUnavailable: If somebody else writes for longer than this waits.
            StoreFull: If there is no room; nothing has changed then.
            StoreForked: If the process was forked since.
        """
        connection = self._usable()
        try:
            # By itself it asks for the lock of writers before it reads, as BEGIN IMMEDIATE does.
            last = connection.execute(statement, parameters).lastrowid
        except sqlite3.Error as error:
            raise self._translated(error) from error
        self._tend_log(connection)
        return last or 0

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """Read and write in one step, which is on the disk when the block is left, or not at all.

        Raises:
            StoreUnavailable: If somebody else writes for longer than this waits.
            StoreFull: If there is no room; nothing has changed then.
            StoreForked: If the process was forked since.
        """
        connection = self._usable()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            if connection.in_transaction:
                # After some errors SQLite has rolled back by itself.
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise self._translated(error) from error
            raise
        self._tend_log(connection)

    @contextmanager
    def snapshot(self) -> Generator[sqlite3.Connection]:
        """Read in several statements what was there at one moment, without a lock that others wait for.

        Raises:
            StoreError: If it cannot be read.
            StoreForked: If the process was forked since.
        """
        connection = self._usable()
        try:
            connection.execute("BEGIN")
            yield connection
        except sqlite3.Error as error:
            raise self._translated(error) from error
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def checkpoint(self) -> bool:
        """Bring what the log holds into the file; False if somebody still reads what was there before.

        Raises:
            StoreError: If it cannot be done now.
        """
        connection = self._usable()
        try:
            return self._checkpoint(connection)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def close(self) -> None:
        """Let the file go. Does nothing if that has happened."""
        connection, self._connection = self._connection, None
        helper, self._helper = self._helper, None
        if os.getpid() != self._pid:
            _forked.append((connection, helper))
            return
        for each in (helper, connection):
            if each is not None:
                with suppress(sqlite3.Error):
                    each.close()

    def _usable(self) -> sqlite3.Connection:
        if os.getpid() != self._pid:
            raise StoreForked(
                f"{self.path} was opened before the process was forked: open it again in the child"
            )
        if self._connection is None:
            raise StoreError(f"{self.path} is closed")
        return self._connection

    def _translated(self, error: sqlite3.Error) -> QanatError:
        return translated(error, self.path, patience=self._patience, refused=self._kind.refused)

    def _tend_log(self, connection: sqlite3.Connection) -> None:
        """Make a checkpoint if it is time for one; what fails of it is tried again later."""
        try:
            size = os.stat(self._log_name).st_size  # noqa: PTH116 - after each commit: a Path costs as much again
        except OSError:
            size = 0
        if connection.total_changes - self._changes < MOST_CHANGES and size - self._log_size < MOST_GROWTH:
            return
        with suppress(sqlite3.Error):
            self._checkpoint(connection)
        self._log_size = size
        self._changes = connection.total_changes
        if size >= LARGE_LOG and not self._told_of_log:
            self._told_of_log = True
            _log.warning(
                "the log of %s has grown to %d MiB: somebody has been reading the database all the while",
                self.path, size // 2**20,
            )  # fmt: skip

    def _checkpoint(self, connection: sqlite3.Connection) -> bool:
        if self._helper is None:
            self._helper = _connected(self.path, "rw", 0.0)
            self._helper.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("BEGIN IMMEDIATE")
        try:
            _, in_log, done = self._helper.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        finally:
            connection.execute("ROLLBACK")
        return bool(in_log == done)


def open_database(
    path: str | os.PathLike[str],
    kind: Kind,
    *,
    patience: float = 5.0,
    synchronous: Literal["FULL", "NORMAL"] = "FULL",
) -> Database:
    """Open a file, and make it if there is none.

    Args:
        path: Where it lies.
        kind: What it has to be.
        patience: Seconds to wait for a lock of somebody else.
        synchronous: "FULL": what was committed survives a loss of power. "NORMAL": it survives the
            end of the process, and the file stays whole.

    Raises:
        QanatError: The kind's `refused`, if the file is something else, is damaged, or lies where
            others may write.
        StoreVersionError: If a newer version made it.
        StoreUnavailable: If it cannot be read and written, or stays locked.
        StoreFull: If there is no room for it.
    """
    _check_library()
    with _once.lock:
        try:
            place, there = checked_path(path)
            made = not there and make_file(place)
        except UnsafePathError as error:
            raise kind.refused(str(error)) from None
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be opened: {error.strerror}") from error
        try:
            # A file just made is empty: there is nothing to be looked at from afar.
            if not made:
                _look(place, kind)
            connection = _connected(place, "rw", patience)
            try:
                _set_up(connection, place, kind, patience, synchronous)
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise translated(error, place, patience=patience, refused=kind.refused) from error
    return Database(place, kind, connection, patience, made=made)


def _check_library() -> None:
    found = sqlite3.sqlite_version_info
    if found < OLDEST:
        raise StoreError(
            f"SQLite must be 3.31 or newer for a database that can be trusted, got {sqlite3.sqlite_version}"
        )
    if found < MENDED and not _once.told:
        _once.told = True
        _log.info(
            "SQLite %s has a race between checkpoints that was mended in 3.51.3: they are made one at a time",
            sqlite3.sqlite_version,
        )


def _connected(place: Path, mode: Literal["ro", "rw"], patience: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"file:{quote(str(place))}?mode={mode}",
        uri=True,
        timeout=patience,
        isolation_level=None,
        check_same_thread=False,  # the courier sees to it that one thread at a time uses it
    )
    connection.execute("PRAGMA trusted_schema=OFF")
    return connection


def _look(place: Path, kind: Kind) -> None:
    """Refuse what is not ours, through a connection that changes nothing.

    What such a connection cannot find out, as after a crash, is found out by the one that can write.
    """
    connection = _connected(place, "ro", 0.0)
    try:
        _is_empty(connection, place, kind)
    except sqlite3.OperationalError:
        pass
    finally:
        connection.close()


def _is_empty(connection: sqlite3.Connection, place: Path, kind: Kind) -> bool:
    """Whether a database has nothing in it; what is not ours is refused."""
    (found,) = connection.execute("PRAGMA application_id").fetchone()
    version = _version_of(connection)
    rows: list[tuple[str, str, str | None]] = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema"
    ).fetchall()
    if not found and not version and not rows:
        return True
    if found != kind.application_id:
        raise kind.refused(
            f"{place} is a database of another program and no {kind.name} of qanat: it was left as it is, "
            "name another file"
        )
    if version > kind.version:
        raise StoreVersionError(
            f"{place} was made by a newer qanat, as a {kind.name} of version {version} where this one knows "
            f"up to {kind.version}: it was left as it is, use the newer qanat or another file"
        )
    older = kind.older.get(version)
    if version != kind.version and older is None:
        raise kind.refused(f"{place} says that it is of version {version}, which no {kind.name} ever had")
    schema = kind.schema if older is None else older.schema
    statements = {sql for _, _, sql in rows if sql is not None}
    odd = next((name for type_, name, _ in rows if type_ in {"trigger", "view"}), None)
    if odd is not None or not statements.issuperset(schema):
        what = "other tables" if odd is None else f"{odd!r} in its schema"
        raise kind.refused(
            f"{place} is no {kind.name} as qanat makes it, as it has {what}: name another file"
        )
    return False


def _set_up(
    connection: sqlite3.Connection, place: Path, kind: Kind, patience: float, synchronous: str
) -> None:
    """Bring a connection into the state that everything relies on."""
    connection.execute("PRAGMA cell_size_check=ON")
    connection.execute("PRAGMA synchronous=EXTRA")
    if _is_empty(connection, place, kind):
        _fill(connection, place, kind)
    _renew(connection, place, kind)
    _go_over_to_wal(connection, place, patience)
    for name, value in (
        ("synchronous", synchronous),
        ("wal_autocheckpoint", 0),
        ("journal_size_limit", KEPT_LOG),
        ("cache_size", -CACHE),
    ):
        connection.execute(f"PRAGMA {name}={value}")


def _fill(connection: sqlite3.Connection, place: Path, kind: Kind) -> None:
    """Make the schema, unless somebody else does it at the same time."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if _is_empty(connection, place, kind):
            connection.execute(f"PRAGMA application_id={kind.application_id:d}")
            connection.execute(f"PRAGMA user_version={kind.version:d}")
            for statement in kind.schema:
                connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _renew(connection: sqlite3.Connection, place: Path, kind: Kind) -> None:
    """Bring a file of an older version over, unless somebody else does it at the same time."""
    if not kind.older or _version_of(connection) == kind.version:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _is_empty(connection, place, kind)
        older = kind.older.get(_version_of(connection))
        if older is not None:
            older.renew(connection)
            connection.execute(f"PRAGMA user_version={kind.version:d}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _go_over_to_wal(connection: sqlite3.Connection, place: Path, patience: float) -> None:
    """Let the database keep a log; SQLite does not wait for the lock that this needs, so we do."""
    give_up_at = time.monotonic() + patience
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up_at:
                raise
        else:
            if mode != "wal":
                raise StoreUnavailable(f"{place} cannot have a log beside it, its mode is {mode!r}")
            return
        time.sleep(_POLL)
