"""What the state of an SQLite file and of its place mean for the queues in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from qanat._core.store.finding import Finding, size_in_words, span_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MENDED: Final = (3, 51, 3)
"""The first version of SQLite without the race of checkpoints."""
LEAST_ROOM: Final = 16 * 2**20
"""Bytes free on the disk below which puts are about to be refused."""
LITTLE_ROOM: Final = 512 * 2**20
"""Bytes free below which it is mentioned."""
LARGE_LOG: Final = 256 * 2**20
"""Bytes of the log from which it is mentioned."""
MUCH_UNUSED: Final = 64 * 2**20
"""Bytes of unused pages from which they are mentioned, if they are half of the file."""
DRIFT: Final = 1.0
"""Seconds by which the store's clock may be off unmentioned."""

_SYNCHRONOUS: Final = {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}


class SqliteReadings(Struct, frozen=True, kw_only=True):
    """What was read of one file.

    Attributes:
        library: The version of SQLite.
        journal_mode: That of the file.
        synchronous: That of the connection, 0 to 3.
        file_system: What it lies on; "" if that cannot be told.
        volatile: Whether that is in memory.
        remote: Whether that is on another machine.
        mode: Who may do what with the file; None where files have no such thing.
        directory_mode: Who may do what with its directory.
        size: Bytes of the file.
        unused: Bytes of it in pages that hold nothing.
        log: Bytes of the log beside it.
        free: Bytes free on its disk.
        boot: Which start of the machine its times belong to; "" if that cannot be told.
        drift: Seconds by which the store's clock is ahead of the wall clock.
        damage: What was found in a look at the whole file; None if there was none.
    """

    library: tuple[int, ...]
    journal_mode: str
    synchronous: int
    file_system: str = ""
    volatile: bool = False
    remote: bool = False
    mode: int | None = None
    directory_mode: int | None = None
    size: int = 0
    unused: int = 0
    log: int = 0
    free: int = 0
    boot: str = ""
    drift: float = 0.0
    damage: tuple[str, ...] | None = None


def sqlite_findings(readings: SqliteReadings) -> list[Finding]:
    """Return what the readings of one file mean."""
    return [finding for look in _LOOKS for finding in look(readings)]


def _library(at: SqliteReadings) -> Iterator[Finding]:
    read = f"SQLite {'.'.join(map(str, at.library))}"
    if at.library < MENDED:
        yield Finding(
            "library", "advice", read,
            "two checkpoints at once may damage a file; qanat makes one at a time, other programs may not",
            "let nothing but qanat write to the file, or use a Python with SQLite 3.51.3 or newer",
        )  # fmt: skip
    else:
        yield Finding("library", "ok", read)


def _durability(at: SqliteReadings) -> Iterator[Finding]:
    level = _SYNCHRONOUS.get(at.synchronous, str(at.synchronous))
    read = f"journal_mode {at.journal_mode}, synchronous {level}"
    if at.journal_mode != "wal":
        yield Finding(
            "durability",
            "broken",
            read,
            "the file is to have a log beside it, and has none",
            "end whatever else opens the file, and open it again",
        )
    elif at.synchronous < 1:
        yield Finding(
            "durability",
            "broken",
            read,
            "a loss of power may damage the file",
            "leave synchronous out of the URL",
        )
    elif at.synchronous < 2:
        yield Finding(
            "durability", "advice", read,
            "a loss of power takes the last jobs with it, except those that are put with durable=True",
            "leave synchronous=NORMAL out of the URL",
        )  # fmt: skip
    else:
        yield Finding("durability", "ok", read, "jobs survive a loss of power, if the disk does not lie")


def _place(at: SqliteReadings) -> Iterator[Finding]:
    if at.remote:
        yield Finding(
            "file system",
            "broken",
            at.file_system,
            "a file system of another machine does not keep the locks of a database",
            "move the file to a disk of this machine",
        )
    elif at.volatile:
        yield Finding(
            "file system",
            "broken",
            at.file_system,
            "it lies in memory: all jobs are gone when the machine stops",
            "move the file to a directory on a disk",
        )
    elif at.file_system:
        yield Finding("file system", "ok", at.file_system)
    else:
        yield Finding(
            "file system",
            "unverified",
            "not told on this system",
            "a network file system would not keep the locks of a database",
        )


def _access(at: SqliteReadings) -> Iterator[Finding]:
    if at.mode is None or at.directory_mode is None:
        return
    read = f"file {at.mode:04o}, directory {at.directory_mode:04o}"
    if at.mode & 0o002 or (at.directory_mode & 0o002 and not at.directory_mode & 0o1000):
        yield Finding(
            "access",
            "broken",
            read,
            "everybody on this machine can change jobs",
            "chmod o-w on the file and its directory",
        )
    elif at.mode & 0o077:
        yield Finding(
            "access",
            "advice",
            read,
            "others on this machine may read or change jobs",
            "chmod 600 on the file and on those beside it, -wal and -shm",
        )
    else:
        yield Finding("access", "ok", read)


def _room(at: SqliteReadings) -> Iterator[Finding]:
    read = f"{size_in_words(at.free)} free, the file has {size_in_words(at.size)}"
    if at.free < LEAST_ROOM:
        yield Finding(
            "room",
            "broken",
            read,
            "puts are refused, or are about to be",
            "make room on the disk: qanat purge --state done, then sqlite3 FILE VACUUM",
        )
    elif at.free < LITTLE_ROOM:
        yield Finding(
            "room", "advice", read, "puts are refused once the disk is full", "make room on the disk"
        )
    else:
        yield Finding("room", "ok", read)
    if at.unused >= MUCH_UNUSED and at.unused * 2 >= at.size:
        yield Finding(
            "unused",
            "advice",
            f"{size_in_words(at.unused)} of the file hold nothing",
            "they are used again before the file grows",
            "sqlite3 FILE VACUUM, when nothing runs",
        )


def _log(at: SqliteReadings) -> Iterator[Finding]:
    read = f"{size_in_words(at.log)} in the log"
    if at.log >= LARGE_LOG:
        yield Finding(
            "log",
            "advice",
            read,
            "somebody reads the file all the while, so it cannot be emptied",
            "end that program: fuser FILE names it",
        )
    else:
        yield Finding("log", "ok", read)


def _clock(at: SqliteReadings) -> Iterator[Finding]:
    if at.boot:
        yield Finding("boot", "ok", f"boot id {at.boot}", "leases of before a restart are known as lost")
    else:
        yield Finding(
            "boot",
            "advice",
            "the system gives a start no name",
            "leases of before a restart may have to expire before their jobs run again",
        )
    ahead = "ahead of" if at.drift >= 0 else "behind"
    read = f"the store is {abs(at.drift):.3f} s {ahead} the wall clock"
    if abs(at.drift) > DRIFT:
        yield Finding(
            "clock", "advice", f"{read} ({span_in_words(at.drift)})",
            "leases and delays do not follow a wall clock that is set, so times shown are off by so much; "
            "the next start of the machine sets it right",
        )  # fmt: skip
    else:
        yield Finding("clock", "ok", read)


def _damage(at: SqliteReadings) -> Iterator[Finding]:
    if at.damage is None:
        return
    if at.damage:
        yield Finding(
            "file",
            "broken",
            "; ".join(at.damage[:5]),
            "the file is damaged",
            "stop all workers, then sqlite3 FILE .recover | sqlite3 NEW, or take a copy",
        )
    else:
        yield Finding("file", "ok", "quick_check ok")


_LOOKS: Final[tuple[Callable[[SqliteReadings], Iterator[Finding]], ...]] = (
    _library, _durability, _place, _access, _room, _log, _clock, _damage,
)  # fmt: skip
