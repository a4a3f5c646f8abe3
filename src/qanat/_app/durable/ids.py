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
_AT_ONCE = 256
"""Ids for which random digits are fetched in one go: a call of the system for each takes half the time."""


class Ids:
    """Make ids in time order; used by one thread at a time, or ids of two may be out of order.

    Args:
        wall: Returns UTC seconds since 1970.
    """

    def __init__(self, wall: Callable[[], float]) -> None:
        """Begin to count."""
        self._wall = wall
        self._last = 0
        self._digits: list[str] = []
        self._process = 0

    def make(self) -> str:
        """Return a new id."""
        # A clock that was set back, or more than 65,536 in a millisecond, borrow from the time to come.
        last = self._last + 1
        at_least = int(self._wall() * 1000.0) * _COUNTS
        if last < at_least:
            last = at_least
        self._last = last
        if not self._digits or os.getpid() != self._process:
            self._fetch()
        return f"{last:016x}{self._digits.pop()}"

    def _fetch(self) -> None:
        """Fetch random digits, 16 for each id; after a fork two processes would have the same left."""
        digits = os.urandom(8 * _AT_ONCE).hex()
        self._digits = [digits[at : at + 16] for at in range(0, 16 * _AT_ONCE, 16)]
        self._process = os.getpid()
