"""What tells that a file was written: inotify, where there is one. Costs nothing while nobody writes."""

from __future__ import annotations

import ctypes
import os
import select
import sys
from typing import Final

_IN_MODIFY: Final = 2


class Watch:
    """Tells that a file was written.

    Args:
        told: What inotify gives to read.
    """

    def __init__(self, told: int) -> None:
        self._told = told
        self._woken, self._wake = os.pipe()
        self._any = select.poll()
        for each in (told, self._woken):
            self._any.register(each, select.POLLIN)

    def wait(self, seconds: float) -> bool:
        """Wait for a write, a wake, or so long; False if nothing was written."""
        self._any.poll(seconds * 1000.0)
        try:
            return bool(os.read(self._told, 65_536))
        except BlockingIOError:
            return False

    def wake(self) -> None:
        """Let `wait` come back, now and from now on; from any thread."""
        os.write(self._wake, b"x")

    def close(self) -> None:
        """Let go of everything."""
        for each in (self._told, self._woken, self._wake):
            os.close(each)


def watch(path: str) -> Watch | None:
    """Return what tells of writes to a file; None where the system has no such thing, or none left."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None, use_errno=True)
    told = int(library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    if told < 0:
        return None
    if library.inotify_add_watch(told, os.fsencode(path), _IN_MODIFY) < 0:
        os.close(told)
        return None
    return Watch(told)
