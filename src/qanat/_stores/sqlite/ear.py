"""The ear of the SQLite store: wakes when somebody may have committed, and looks whether it is so.

`PRAGMA data_version` tells of every commit of another connection, and of nothing else. Size and time of
the log cannot: a log that begins anew keeps its size, and a file's time may be as coarse as 4 ms.

Linux tells when the log is written, so waiting costs nothing there. A commit is seen by others only once
it is on the disk, some time after the last write that is told: so it is looked for some times, for a
quarter of a second. Elsewhere, and where Linux has no watch left to give, it is looked for always.
"""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Final

from qanat._stores.sqlite.opener import open_database
from qanat._stores.sqlite.schema import KIND
from qanat._stores.sqlite.watch import watch

if TYPE_CHECKING:
    import os

    from qanat._stores.sqlite.opener import Database
    from qanat._stores.sqlite.watch import Watch

EVERY: Final = 0.02
"""Seconds between two looks where nobody tells of writes."""
SOON: Final = (0.001, 0.002, 0.003, 0.004, 0.005, *[0.01] * 24)
"""Seconds before each look after a write: most disks sync in some milliseconds, slow ones take their time."""
REST: Final = 0.002
"""Seconds between a write and the first look, so that a busy neighbour costs few of them."""
A_WHILE: Final = 1.0
"""Seconds after which `hear` comes back though nothing was heard."""


class SqliteEar:
    """Hears that somebody else has written to a file.

    Args:
        path: Where the file lies.
        patience: Seconds to wait for a lock of somebody else.
        watches: Whether to be told of writes by the system, where it can.
    """

    def __init__(self, path: str | os.PathLike[str], patience: float = 5.0, *, watches: bool = True) -> None:
        self._path = path
        self._patience = patience
        self._watches = watches
        self._stopped = Event()
        self._database: Database | None = None
        self._version = 0
        self._watch: Watch | None = None
        self._looks = len(SOON)
        """Looks since the last write."""

    def hear(self) -> list[str]:
        """Wait for a while, and return [""] if something was written: to which queue, nobody knows.

        Raises:
            StoreError: If the file cannot be read.
        """
        if self._database is None:
            self._database = open_database(self._path, KIND, patience=self._patience)
            # The log is there, and stays as long as we have the file open.
            self._watch = watch(f"{self._database.path}-wal") if self._watches else None
            self._has_changed()
            return [""]
        if self._watch is not None:
            # What is told stands for a commit yet to be seen, even if another one is seen now.
            if self._watch.wait(SOON[self._looks] if self._looks < len(SOON) else A_WHILE):
                self._looks = 0
                self._stopped.wait(REST)
            else:
                self._looks += 1
            return [""] if not self._stopped.is_set() and self._has_changed() else []
        for _ in range(round(A_WHILE / EVERY)):
            if self._stopped.wait(EVERY):
                break
            if self._has_changed():
                return [""]
        return []

    def stop(self) -> None:
        """Let `hear` come back; may be called from any thread, until `close`."""
        self._stopped.set()
        if self._watch is not None:
            self._watch.wake()

    def close(self) -> None:
        """Let the file go."""
        if self._database is not None:
            self._database.close()
        if self._watch is not None:
            self._watch.close()

    def _has_changed(self) -> bool:
        assert self._database is not None  # noqa: S101 - opened by `hear`
        (version,) = self._database.execute("PRAGMA data_version").fetchone()
        before, self._version = self._version, version
        return bool(version != before)
