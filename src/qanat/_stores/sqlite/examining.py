"""What a file and its place tell of themselves, read for `sqlite_findings`: nothing is changed by it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import time
from typing import TYPE_CHECKING, Final

from qanat._core.store.sqlite_health import SqliteReadings
from qanat._stores.sqlite.paths import LOCAL, REMOTE, VOLATILE, file_system_number

if TYPE_CHECKING:
    from pathlib import Path

    from qanat._stores.sqlite.clock import StoreClock
    from qanat._stores.sqlite.opener import Database

_QUICK: Final = "PRAGMA quick_check(20)"


def examine(database: Database, clock: StoreClock, *, thorough: bool) -> SqliteReadings:
    """Read a file that is open, and where it lies.

    Args:
        database: The file.
        clock: The clock that it goes by.
        thorough: Whether to look through the whole file for damage, about a second for 100 MB.

    Raises:
        StoreError: If it cannot be read.
    """

    def read(statement: str) -> int:
        found: int = database.execute(statement).fetchone()[0]
        return found

    (journal_mode,) = database.execute("PRAGMA journal_mode").fetchone()
    (boot,) = database.execute("SELECT boot FROM clock").fetchone()
    path = database.path
    directory = path.parent
    number = file_system_number(directory)
    known = REMOTE | VOLATILE | LOCAL
    has_modes = hasattr(os, "geteuid")
    return SqliteReadings(
        library=sqlite3.sqlite_version_info,
        journal_mode=journal_mode,
        synchronous=read("PRAGMA synchronous"),
        file_system=known.get(number, f"kind {number:#x}") if number else "",
        volatile=number in VOLATILE,
        remote=number in REMOTE,
        mode=stat.S_IMODE(path.stat().st_mode) if has_modes else None,
        directory_mode=stat.S_IMODE(directory.stat().st_mode) if has_modes else None,
        size=path.stat().st_size,
        unused=read("PRAGMA freelist_count") * read("PRAGMA page_size"),
        log=_size(path.with_name(f"{path.name}-wal")),
        free=shutil.disk_usage(directory).free,
        boot=boot,
        drift=clock.now() - time.time(),
        damage=_damage(database) if thorough else None,
    )


def _damage(database: Database) -> tuple[str, ...]:
    return tuple(text for (text,) in database.execute(_QUICK) if text != "ok")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
