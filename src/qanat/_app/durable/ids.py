"""Ids of stored jobs: made before anything is sent, so that a put may be sent again.

128 bits as 32 hexadecimal digits: 48 of milliseconds since 1970, 16 that count within one, 64 that are
random. So texts sort as they were made by one process, and two processes, a fork among them, never
make the same.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_COUNTS = 1 << 16


class Ids:
    """Make ids in time order; used by one thread at a time, or ids of two may be out of order.

    Args:
        wall: Returns UTC seconds since 1970.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        """Begin to count."""
        self._wall = wall
        self._last = 0

    def make(self) -> str:
        """Return a new id."""
        # A clock that was set back, or more than 65,536 in a millisecond, borrow from the time to come.
        self._last = last = max(int(self._wall() * 1000.0) * _COUNTS, self._last + 1)
        return f"{last:016x}{os.urandom(8).hex()}"
