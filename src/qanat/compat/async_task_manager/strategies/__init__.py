"""What decides when a manager's tasks begin."""

from qanat.compat.async_task_manager.strategies.base import BaseStrategy
from qanat.compat.async_task_manager.strategies.concurrent_limit import ConcurrentLimitStrategy
from qanat.compat.async_task_manager.strategies.delayed import DelayedStrategy
from qanat.compat.async_task_manager.strategies.fixed_window import FixedWindowStrategy

__all__ = ["BaseStrategy", "ConcurrentLimitStrategy", "DelayedStrategy", "FixedWindowStrategy"]
