"""So many tasks at once."""

from __future__ import annotations

from qanat import Rules
from qanat.compat.async_task_manager.strategies.base import LimitStrategy


class ConcurrentLimitStrategy(LimitStrategy):
    """Let so many tasks run at once.

    Args:
        max_concurrent: How many; greater than 0.

    Raises:
        TypeError: If it is not a whole number.
        ValueError: If it is not greater than 0.
    """

    def __init__(self, max_concurrent: int) -> None:
        if max_concurrent <= 0:
            raise ValueError(f"max_concurrent must be greater than 0, got {max_concurrent}")
        super().__init__(Rules(concurrency=max_concurrent))
        self.max_concurrent: int = max_concurrent
