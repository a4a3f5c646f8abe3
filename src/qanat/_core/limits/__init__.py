"""The limits: small classes that decide when a job may start."""

from qanat._core.limits.adaptive import Adaptive
from qanat._core.limits.balance import Balance
from qanat._core.limits.breaker import CircuitBreaker
from qanat._core.limits.budget import Budget
from qanat._core.limits.concurrency import Concurrency
from qanat._core.limits.spacing import Spacing
from qanat._core.limits.token_bucket import TokenBucket
from qanat._core.limits.windows import FixedWindow, SlidingWindow

__all__ = [
    "Adaptive",
    "Balance",
    "Budget",
    "CircuitBreaker",
    "Concurrency",
    "FixedWindow",
    "SlidingWindow",
    "Spacing",
    "TokenBucket",
]
