"""How busy this machine is: from psutil where it is installed, else from what the system tells.

Without psutil Linux tells it all in `/proc`; elsewhere only the load average stands in for the CPU
time. What nobody tells is None. In a container it is the whole machine that is looked at.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

PROC = Path("/proc")


class Machine:
    """Tell shares of CPU time and memory in use, from 0 to 1.

    Args:
        psutil: The module; True is to use it if it is there, None to do without it.
        proc: Where Linux tells it.
    """

    def __init__(self, psutil: Any = True, proc: Path = PROC) -> None:
        self._psutil = _import_psutil() if psutil is True else psutil or None
        self._proc = proc
        self._before: tuple[int, int] | None = None

    def cpu(self) -> float | None:
        """Return the share of all CPU time that was used since the last call; None if unknown."""
        if self._psutil is not None:
            return float(self._psutil.cpu_percent(None)) / 100.0
        times = self._times()
        if times is None:
            return _load()
        before, self._before = self._before, times
        if before is None or times[1] <= before[1]:
            return None
        return (times[0] - before[0]) / (times[1] - before[1])

    def memory(self) -> float | None:
        """Return the share of memory that is in use; None if unknown."""
        if self._psutil is not None:
            return float(self._psutil.virtual_memory().percent) / 100.0
        try:
            lines = (self._proc / "meminfo").read_text().splitlines()
            parted = (line.partition(":") for line in lines)
            kilobytes = {name: int(rest.split()[0]) for name, _, rest in parted}
            return 1.0 - kilobytes["MemAvailable"] / kilobytes["MemTotal"]
        except (OSError, ValueError, LookupError, ZeroDivisionError):
            return None

    def _times(self) -> tuple[int, int] | None:
        """Return the ticks in use and all ticks since the machine was started."""
        try:
            with (self._proc / "stat").open() as file:
                # user, nice, system, idle, waiting for devices, interrupts (two kinds), stolen.
                ticks = [int(each) for each in file.readline().split()[1:9]]
        except (OSError, ValueError):
            return None
        return (sum(ticks) - ticks[3] - ticks[4], sum(ticks)) if len(ticks) == 8 else None


def _import_psutil() -> ModuleType | None:
    try:
        return import_module("psutil")
    except ImportError:
        return None


def _load() -> float | None:
    """Return the load of the last minute for each processor, at most 1."""
    try:
        return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    except (OSError, AttributeError):  # Windows has none
        return None
