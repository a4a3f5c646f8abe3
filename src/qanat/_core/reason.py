"""Why a job waits: made by the code that parks it, so it cannot lie."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal

import msgspec

Cause = Literal[
    "concurrency",
    "rate",
    "spacing",
    "budget",
    "breaker",
    "throttled",
    "delay",
    "retry",
    "paused",
    "turn",
    "children",
    "batch",
]
"""What a job can wait for."""


class Reason(msgspec.Struct, frozen=True):
    """Say why a job waits.

    Attributes:
        cause: What it waits for.
        limit: The limit that said no, in words; None if none did.
        lane: The job's lane; None is the unnamed one.
        since: When this waiting began, monotonic seconds.
        until: When it may end, never too late but perhaps too early; None if only a change helps.
    """

    cause: Cause
    limit: str | None
    lane: Hashable
    since: float
    until: float | None

    def __str__(self) -> str:
        """Say it in one line."""
        text = self.cause if self.limit is None else f"{self.cause} {self.limit}"
        return text if self.lane is None else f"{text}, lane {self.lane}"
