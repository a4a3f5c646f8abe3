"""An SQLite store whose clock is moved by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanat._stores.sqlite.clock import HostClock
from qanat._stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

START = 1_000_000.0


class HandClock:
    """Time that passes when it is told to; `boot` and `wall` may be set, too."""

    def __init__(self) -> None:
        self.boot = "this start"
        self.seconds = START
        self.wall = START

    def advance(self, seconds: float) -> None:
        self.seconds += seconds

    def as_host(self) -> HostClock:
        return HostClock(self.boot, lambda: self.seconds, lambda: self.wall)


def open_store(path: Path, clock: HandClock, **options) -> SqliteStore:
    return SqliteStore(path, clock=clock.as_host(), **options)
