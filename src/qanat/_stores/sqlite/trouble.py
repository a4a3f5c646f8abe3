"""What SQLite's errors mean: each is translated once, here."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Final

from qanat.errors import StoreError, StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from qanat.errors import QanatError

_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_LOCKED: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_FORBIDDEN: Final = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_AUTH,
}


def translated(
    error: sqlite3.Error, path: Path, *, patience: float = 0.0, refused: type[QanatError] = StoreError
) -> QanatError:
    """Return the error of ours that says the same.

    Args:
        error: What SQLite raised.
        path: The database.
        patience: Seconds that were waited for a lock.
        refused: What is raised for a file that cannot be used as what it should be.
    """
    # The low byte is the kind, the rest says more about it. Errors of Python's own module have none.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    kind = code & 0xFF
    if kind in _DAMAGED:
        return refused(
            f"{path} is no database, or is damaged ({error}): it was left as it is, use another file"
        )
    if kind in _LOCKED:
        return StoreUnavailable(f"{path} is locked: another process has written to it for {patience:g} s")
    if kind == sqlite3.SQLITE_FULL:
        return StoreFull(f"{path} cannot grow: {_without_stop(error)}; what it held it still holds")
    if code == sqlite3.SQLITE_IOERR_WRITE:
        # A limit or quota of the process or user; a full disk has a code of its own.
        return StoreFull(f"{path} cannot be written: {_without_stop(error)}; what it held it still holds")
    if kind == sqlite3.SQLITE_IOERR or kind in _FORBIDDEN:
        return StoreUnavailable(f"{path} cannot be read and written: {_without_stop(error)}")
    return refused(f"{path}: {_without_stop(error)}")


def _without_stop(error: BaseException) -> str:
    return str(error).rstrip(".")
