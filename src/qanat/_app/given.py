"""What a call says of one job, beside its item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from qanat._core.arguments import number
from qanat._core.costs import checked_cost
from qanat._engine.intake import checked_id, checked_lane

if TYPE_CHECKING:
    from collections.abc import Hashable

    from qanat._core.job import Job


class Given:
    """What a call says of its job, over what the rules' functions say."""

    __slots__ = ("cost", "id", "lane", "priority")

    def __init__(
        self, given_id: int | str | None, priority: float | None, lane: Hashable,
        cost: float | Mapping[str, float] | None,
    ) -> None:  # fmt: skip
        """Keep what was given, and check it."""
        if lane is not None:
            checked_lane(lane)
        if given_id is not None:
            checked_id(given_id)
        self.id = given_id
        self.priority = None if priority is None else number("priority", priority)
        self.cost = None if cost is None else checked_cost(cost)
        self.lane = lane

    def fill(self, job: Job[Any]) -> None:
        """Give it to a job."""
        if self.lane is not None:
            job.lane = self.lane
        if self.priority is not None:
            job.priority = self.priority
        if self.cost is not None:
            job.cost = self.cost
        if self.id is not None:
            job.id = self.id


def checked_metadata(metadata: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return the metadata of a job, if it is a mapping or None."""
    if metadata is not None and not isinstance(cast("object", metadata), Mapping):
        raise TypeError(f"metadata must be a mapping, got {metadata!r}")
    return metadata
