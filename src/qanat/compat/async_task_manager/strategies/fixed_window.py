"""So many tasks in each window."""

from __future__ import annotations

import math

from qanat import FixedWindow, Rules
from qanat.compat.async_task_manager.strategies.base import ANY, LimitStrategy


class FixedWindowStrategy(LimitStrategy):
    """Let so many tasks begin in each window of time.

    Args:
        max_requests: How many; greater than 0.
        window_seconds: The length of a window; greater than 0.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If one is not greater than 0, or not finite.
    """

    def __init__(self, max_requests: int, window_seconds: float) -> None:
        if max_requests <= 0:
            raise ValueError(f"max_requests must be greater than 0, got {max_requests}")
        if not 0 < window_seconds < math.inf:
            raise ValueError(f"window_seconds must be greater than 0, got {window_seconds}")
        super().__init__(Rules(concurrency=ANY, limits=FixedWindow(max_requests, window_seconds)))
        self.max_requests: int = max_requests
        self.window_seconds: float = window_seconds
