"""One task after the other, with a gap."""

from __future__ import annotations

import math

from qanat import Rules, Spacing
from qanat.compat.async_task_manager.strategies.base import ANY, LimitStrategy


class DelayedStrategy(LimitStrategy):
    """Let one task run at a time, each so long after the end of the one before.

    Args:
        delay_seconds: The gap; greater than 0.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not greater than 0, or not finite.
    """

    def __init__(self, delay_seconds: float) -> None:
        if not 0 < delay_seconds < math.inf:
            raise ValueError(f"delay_seconds must be greater than 0, got {delay_seconds}")
        super().__init__(Rules(concurrency=ANY, limits=Spacing(delay_seconds, after="finish")))
        self.delay_seconds: float = delay_seconds
