"""The clock of a run: real, unless virtual time was installed for the current context.

Whoever needs the time asks `clock_in_use()` once, at the start of a run, and keeps the answer.
The choice is a context variable, so it reaches everything started from the context in which a
clock was installed: asyncio and trio tasks, and the threads that copy their caller's context.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Generator

    from qanat._core.ports import Clock


class RealClock:
    """Tell the time of the machine; it passes whatever anyone does."""

    # Seconds. From the decision to start a job to its handler's first instruction the engine
    # takes microseconds, unless the machine stops the process in between: up to 3 ms were seen on
    # two busy cores.
    precision: float = 0.005
    seed: int | None = None

    # The function itself, not a method around it: it is called at the end of every job.
    now = staticmethod(time.monotonic)

    def wall(self) -> float:
        """Return UTC seconds since 1970."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds on the running event loop."""
        await anyio.sleep(seconds)

    def work_outside_began(self) -> None:
        """Do nothing: real time stands still for nobody."""

    def work_outside_ended(self) -> None:
        """Do nothing: real time stands still for nobody."""


REAL = RealClock()

_clock: ContextVar[Clock] = ContextVar("qanat_clock", default=REAL)


def clock_in_use() -> Clock:
    """Return the clock installed for the current context, the real one by default."""
    return _clock.get()


@contextmanager
def installed(clock: Clock) -> Generator[None]:
    """Make a clock the one in use for the body and for all that is started from it.

    Args:
        clock: The clock to use; the one in use before comes back at the end.
    """
    before = _clock.set(clock)
    try:
        yield
    finally:
        _clock.reset(before)
