"""Most urgent first, with or without growing more urgent with age."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, cast

from qanat._core.arguments import at_least, plain
from qanat._core.orders.by_key import KeyOrder

if TYPE_CHECKING:
    from qanat._core.job import Job

_priority = attrgetter("priority")


@dataclass(frozen=True, kw_only=True, slots=True)
class Priority:
    """Start the job with the smallest priority first, and let waiting jobs grow more urgent.

    To be given as `order=Priority(ageing=0.1)`; `order="priority"` is `Priority()`. The priorities
    come from the rule `priority`, or from `Pool.submit(priority=)`. Equals start in the order of
    their arrival; a job that comes again, such as a retry, starts before its equals.

    Without ageing, urgent jobs that keep arriving hold up the others for ever. With it, a job is as
    urgent as one with a priority smaller by `ageing` for each second that it was offered earlier. So
    a job of priority `p` is overtaken by a later one of priority `q` only if that was offered within
    `(p - q) / ageing` seconds after it, and no job starves.

    Ageing costs nothing: all jobs age alike, so `priority + ageing * offered_at` never changes, and
    sorts them. Adding and taking a job cost O(log n).

    Args:
        ageing: By how much a waiting job's priority counts as smaller each second. At least 0; 0 is
            no ageing.
        inherit: Whether a job that is spawned without a priority of its own has that of the job that
            spawned it; if not, the rule `priority` is asked, as for every other.

    Raises:
        TypeError: If `ageing` is not a number, or `inherit` not True or False.
        ValueError: If it is negative, NaN or infinite.

    Example:
        >>> str(Priority(ageing=0.5))
        'priority (0.5 smaller each second)'
    """

    ageing: float = 0.0
    inherit: bool = False

    def __post_init__(self) -> None:
        """Check the number."""
        object.__setattr__(self, "ageing", at_least("ageing", self.ageing, 0.0))
        if not isinstance(cast("object", self.inherit), bool):
            raise TypeError(f"inherit must be True or False, got {self.inherit!r}")

    def __call__(self) -> KeyOrder:
        """Return a new, empty order."""
        ageing = self.ageing
        if not ageing:
            return KeyOrder(_priority, by_priority=True)

        def aged(job: Job[Any]) -> float:
            return job.priority + ageing * job.offered_at

        return KeyOrder(aged, by_priority=True)

    def __str__(self) -> str:
        """Say it in words."""
        words = [f"{plain(self.ageing)} smaller each second"] if self.ageing else []
        if self.inherit:
            words.append("inherited")
        return f"priority ({', '.join(words)})" if words else "priority"
