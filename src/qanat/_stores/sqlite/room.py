"""Room that new jobs leave on a disk, so that those that are there can be claimed and ended.

To end a job is to write, too: into the log first, and from there into the file, which may have to grow
by as much as the log holds. On a disk that puts had filled to the last block nothing could ever end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from qanat._stores.sqlite.opener import KEPT_LOG
from qanat.errors import StoreFull

if TYPE_CHECKING:
    from pathlib import Path

ROOM: Final = KEPT_LOG + 4 * 2**20
"""Bytes that stay free: what the log may grow by or bring into the file, and some for results."""


def check_room(path: Path) -> None:
    """Raise `StoreFull` if a put would take room that is kept for jobs to end."""
    status_of = getattr(os, "statvfs", None)
    if status_of is None:
        return  # Windows: a full disk is told by SQLite alone
    try:
        status = status_of(path)
    except OSError:
        return  # what is the matter is told by who writes
    free = status.f_bavail * status.f_frsize
    if free < ROOM:
        raise StoreFull(
            f"{path} cannot grow: {free / 2**20:.1f} MiB are left on its disk, and {ROOM // 2**20} are kept "
            "for the jobs that are there to end; let workers drain it, or make room"
        )
