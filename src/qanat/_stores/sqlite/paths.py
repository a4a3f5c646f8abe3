"""Where a database may lie: what is checked of a path before SQLite sees it.

A database runs what is in its schema and trusts the two files beside it, so nobody else may be able to
put one there. Its locks and its shared memory need a file system of this machine.

A file is looked at by its name and never opened here: closing any descriptor of a file drops the locks
that this process holds on it through others, those of an open database among them.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from pathlib import Path
from typing import Final

SIDES: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database."""

LEAST: Final = 512
"""Bytes of the smallest page."""

REMOTE: Final = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB",
    0x01021997: "9p",
    0x5346414F: "AFS",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
}
"""File systems of other machines, by the number that Linux has for them."""

VOLATILE: Final = {0x01021994: "tmpfs", 0x858458F6: "ramfs"}
"""File systems in memory."""
LOCAL: Final = {
    0xEF53: "ext4",
    0x58465342: "XFS",
    0x9123683E: "btrfs",
    0x2FC12FC1: "ZFS",
    0x794C7630: "overlay",
    0xF2F52010: "F2FS",
    0xCA451A4E: "bcachefs",
}
"""File systems of this machine, for their names."""


class UnsafePathError(Exception):
    """Say, in one sentence that begins with the path, why no database may lie there."""


def checked_path(path: str | os.PathLike[str]) -> tuple[Path, bool]:
    """Return where a database lies, as an absolute path, and whether there is a file yet.

    Raises:
        UnsafePathError: If none may lie there.
        OSError: If it cannot be found out.
    """
    given = Path(path)
    if given.name in {"", ".."}:
        raise UnsafePathError(f"{given} must be the path of a file, and names a directory")
    side = next((side for side in SIDES if given.name.endswith(side)), None)
    if side is not None:
        # Beside that database it would be taken for what is to be done to it, and written over.
        raise UnsafePathError(
            f"{given} has the name of what SQLite keeps beside a database: leave out {side!r}"
        )
    try:
        directory = given.parent.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise UnsafePathError(f"{given} cannot be made: there is no directory {given.parent}") from None
    place = directory / given.name
    # The log first: it is there only while the file is no longer empty.
    leftover = next((side for side in ("-wal",) if _size(place, side)), None)
    status = _status(place)
    if status is not None:
        _check_file(given, status)
    if leftover is not None and (status is None or not status.st_size):
        raise UnsafePathError(
            f"{given} is missing or empty, but its log {given.name}{leftover} is there and holds what was "
            "written last: put the file back, or move the log away"
        )
    if status is not None and 0 < status.st_size < LEAST:
        # SQLite would take it for an empty one, and write over it.
        raise UnsafePathError(
            f"{given} is no database, or is damaged: it was left as it is, use another file"
        )
    _check_directory(given, directory)
    for each in SIDES:
        beside = _status(place.with_name(place.name + each))
        if beside is not None:
            _check_file(given.with_name(given.name + each), beside)
    remote = file_system_of(directory)
    if remote is not None:
        raise UnsafePathError(
            f"{given} lies on {remote}, a file system of another machine, which does not keep the locks "
            "that a database needs: choose a directory on a disk of this one"
        )
    return place, status is not None


def make_file(place: Path) -> bool:
    """Make an empty file that only its owner may read and write; False if there is one by now.

    The name is safe on the disk when this returns.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        os.close(os.open(place, flags, 0o600))
    except FileExistsError:
        return False
    sync_directory(place.parent)
    return True


def sync_directory(directory: Path) -> None:
    """Write a directory's names to the disk, where a directory can be opened."""
    if hasattr(os, "O_DIRECTORY"):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def file_system_of(directory: Path) -> str | None:
    """Return the name of a directory's file system if it is one of another machine; on Linux only."""
    return REMOTE.get(file_system_number(directory))


def file_system_number(directory: Path) -> int:
    """Return the number that Linux has for the kind of a directory's file system; 0 if there is none."""
    if sys.platform != "linux":
        return 0
    buffer = ctypes.create_string_buffer(512)
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(directory), buffer) != 0:
        return 0
    return ctypes.c_long.from_buffer(buffer).value & 0xFFFFFFFF


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _size(place: Path, side: str) -> int:
    status = _status(place.with_name(place.name + side))
    return 0 if status is None else status.st_size


def _check_file(given: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise UnsafePathError(f"{given} is a symbolic link: name the file that it points to")
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise UnsafePathError(f"{given} must be a file, and is {kind}")
    if status.st_uid != _user():
        raise UnsafePathError(
            f"{given} belongs to another user, number {status.st_uid}: use a file of your own"
        )
    if status.st_mode & stat.S_IWOTH:
        raise UnsafePathError(f"{given} may be written by everybody: take that away with chmod o-w")


def _check_directory(given: Path, directory: Path) -> None:
    status = directory.stat()
    if status.st_mode & stat.S_IWOTH:
        raise UnsafePathError(
            f"{given} lies in {directory}, where everybody may put files: use a directory of your own"
        )


def _user() -> int:
    """Return the number of the user that this process works for; Windows has none, and files say 0."""
    return os.geteuid() if hasattr(os, "geteuid") else 0
