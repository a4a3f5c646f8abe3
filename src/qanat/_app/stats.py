"""How a Pool is doing: `Stats`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Stats(msgspec.Struct, frozen=True):
    """How a Pool is doing.

    Attributes:
        waiting: Jobs that wait for a slot, their turn or a limit.
        running: Jobs that hold a slot.
        scheduled: Jobs that wait for a time of their own: delayed, or before a retry.
        done: Jobs that have a value.
        failed: Jobs that failed for good.
        cancelled: Jobs that were cancelled.
        retried: Attempts that were followed by another.
        waits: Seconds that ended jobs waited, by cause.
    """

    waiting: int
    running: int
    scheduled: int
    done: int
    failed: int
    cancelled: int
    retried: int
    waits: Mapping[str, float]
