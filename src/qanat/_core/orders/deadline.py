"""Earliest deadline first.

C. L. Liu and J. W. Layland, "Scheduling Algorithms for Multiprogramming in a Hard-Real-Time
Environment", 1973: if any order meets all deadlines on one slot, this one does.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from qanat._core.orders.by_key import KeyOrder

if TYPE_CHECKING:
    from qanat._core.job import Job


def by_deadline() -> KeyOrder:
    """Return a new, empty order; jobs without a deadline come last."""
    return KeyOrder(_due_at)


def _due_at(job: Job[Any]) -> float:
    return inf if job.deadline is None else job.deadline
