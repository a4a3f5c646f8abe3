"""Who holds which key of a queue, as one step reads and changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import json

if TYPE_CHECKING:
    from collections.abc import Iterable
    from sqlite3 import Connection

_LOAD: Final = "SELECT key, id FROM keys WHERE queue = ? AND key IN (SELECT value FROM json_each(?))"
_HOLD: Final = "REPLACE INTO keys(queue, key, id) VALUES(?, ?, ?)"
_FREE: Final = "DELETE FROM keys WHERE queue = ? AND key = ?"


class Keys:
    """Those keys of a queue that one step looks at."""

    def __init__(self, connection: Connection, queue: int) -> None:
        self._connection = connection
        self._queue = queue
        self._holders: dict[str, str | None] = {}
        self._changed: set[str] = set()

    def load(self, keys: Iterable[str]) -> None:
        """Read keys in one go, as far as they are not read."""
        missing = [key for key in keys if key not in self._holders]
        if missing:
            self._holders.update(dict.fromkeys(missing))
            self._holders.update(
                self._connection.execute(_LOAD, (self._queue, json.encode(missing).decode()))
            )

    def holder(self, key: str) -> str | None:
        """Return the id of the job that holds a key, or None."""
        if key not in self._holders:
            self.load((key,))
        return self._holders[key]

    def hold(self, key: str, id: str) -> None:
        """Let a job hold a key."""
        self._holders[key] = id
        self._changed.add(key)

    def free(self, key: str, id: str) -> None:
        """Let a key go if it is this job that holds it."""
        if self.holder(key) == id:
            self._holders[key] = None
            self._changed.add(key)

    def write(self) -> None:
        """Write what has changed."""
        held = [(self._queue, key, id) for key in self._changed if (id := self._holders[key]) is not None]
        freed = [(self._queue, key) for key in self._changed if self._holders[key] is None]
        if held:
            self._connection.executemany(_HOLD, held)
        if freed:
            self._connection.executemany(_FREE, freed)
        self._changed.clear()
