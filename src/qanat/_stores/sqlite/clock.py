"""The clock of a store: the same for all processes of a host, and never stepped.

It counts from the start of the machine (sleep included), so it does not follow when somebody sets the
wall clock. What it shows is moved by `zero`, kept in the file, to UTC as it was when the file was first
opened after that start; people can read it, and it survives into the next start. The file also keeps
which start of the machine that was: under another one all leases have expired, as their workers are gone.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from sqlite3 import Connection


class HostClock(NamedTuple):
    """Where the time comes from; tests hand in their own.

    Attributes:
        boot: Which start of the machine this is; "" if it cannot be told.
        since_boot: Returns the seconds since then, the same in all processes.
        wall: Returns UTC seconds since 1970.
    """

    boot: str
    since_boot: Callable[[], float]
    wall: Callable[[], float]


def host_clock() -> HostClock:
    """Return the clock of this machine."""
    if sys.platform == "linux":
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        ahead = _offset_of_namespace()
        clock = time.CLOCK_BOOTTIME
        return HostClock(boot, lambda: time.clock_gettime(clock) - ahead, time.time)
    return HostClock(_boot_session(), time.monotonic, time.time)


def _offset_of_namespace() -> float:
    """Return the seconds by which this process's time namespace is ahead of the machine."""
    try:
        lines = Path("/proc/self/timens_offsets").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    for line in lines:
        name, seconds, nanoseconds = line.split()
        # By its number in older kernels.
        if name in {"boottime", "7"}:
            return int(seconds) + int(nanoseconds) / 1e9
    return 0.0


def _boot_session() -> str:
    """Return what macOS calls this start of the machine; "" elsewhere."""
    if sys.platform != "darwin":
        return ""
    buffer = ctypes.create_string_buffer(64)
    size = ctypes.c_size_t(64)
    system = ctypes.CDLL(ctypes.util.find_library("c"))
    if system.sysctlbyname(b"kern.bootsessionuuid", buffer, ctypes.byref(size), None, 0) != 0:
        return ""
    return buffer.value.decode("ascii")


class StoreClock:
    """The clock that one file goes by."""

    def __init__(self, host: HostClock, zero: float) -> None:
        self._since_boot = host.since_boot
        self._zero = zero

    def now(self) -> float:
        """Return seconds since 1970, as this clock counts them."""
        return self._zero + self._since_boot()


def settle_clock(connection: Connection, host: HostClock) -> StoreClock:
    """Return the clock of a file, inside a transaction; after a new start of the machine, set it first."""
    kept = connection.execute("SELECT boot, zero FROM clock").fetchone()
    since_boot = host.since_boot()
    (seen,) = connection.execute("SELECT coalesce(max(seen), 0) FROM queues").fetchone()
    # Where starts of the machine have no name, a new one is told by a clock that has run backwards.
    if kept is not None and kept[0] == host.boot and (host.boot or kept[1] + since_boot >= seen):
        return StoreClock(host, kept[1])
    # A machine that wakes in 1970 must not go behind what the file has seen.
    zero = max(host.wall(), seen) - since_boot
    connection.execute("REPLACE INTO clock(one, boot, zero) VALUES(1, ?, ?)", (host.boot, zero))
    connection.execute("UPDATE jobs SET due_at = min(due_at, ?) WHERE state = 2", (zero + since_boot,))
    return StoreClock(host, zero)
