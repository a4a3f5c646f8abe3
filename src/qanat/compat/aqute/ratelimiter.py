"""The rate limiters of aqute, each a limit of qanat.

Given to an engine, a limiter of this module is a limit of the engine's Pool: a task waits for it
before it has a worker. Any other object with an `acquire` is awaited by the worker that has the task.
"""

from __future__ import annotations

import math
import time
from math import cos, inf, isfinite, log, pi, sin, sqrt, tau
from typing import TYPE_CHECKING, Any, Protocol

import qanat

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat import Job, Limit
    from qanat.compat.aqute.task import AquteTask


class RateLimiter(Protocol):
    """Whoever decides when an attempt may begin, by waiting."""

    async def acquire(self, name: str = "", task: AquteTask[Any, Any] | None = None) -> None:
        """Wait until one attempt may begin.

        Args:
            name: The worker that asks.
            task: The task that it has; None if nobody says.
        """
        ...


class _Limiter:
    """A limiter that is made of limits."""

    def limits_of(self, workers: tuple[str, ...]) -> tuple[Limit, ...] | None:
        """Return what holds back the jobs of so many workers; None if only `acquire` can tell."""
        raise NotImplementedError

    async def acquire(self, name: str = "", task: AquteTask[Any, Any] | None = None) -> None:
        """Wait until one attempt may begin.

        Args:
            name: The worker that asks; only `PerWorkerRateLimiter` looks at it.
            task: Not looked at.
        """
        await qanat.collect(_nothing, (None,), concurrency=1, limits=self.limits_of((name,)) or ())


class TokenBucketRateLimiter(_Limiter):
    """Let attempts begin at a steady pace, with bursts if that is allowed.

    Args:
        max_rate: How many in a period; at least 1.
        time_period: Seconds of the period.
        allow_burst: Whether up to `max_rate` may begin at once after a quiet spell.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, max_rate: int, time_period: float = 1, allow_burst: bool = False) -> None:
        _check(max_rate, time_period)
        self._limit = qanat.TokenBucket(max_rate / time_period, burst=int(max_rate) if allow_burst else 1)

    def limits_of(self, workers: tuple[str, ...]) -> tuple[Limit, ...]:
        """Return the bucket."""
        return (self._limit,)


class SlidingRateLimiter(_Limiter):
    """Let at most so many attempts begin in any stretch of a period.

    Args:
        max_rate: How many in a period; at least 1.
        time_period: Seconds of the period.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, max_rate: int, time_period: float = 1) -> None:
        _check(max_rate, time_period)
        self._limit = qanat.SlidingWindow(int(max_rate), time_period)

    def limits_of(self, workers: tuple[str, ...]) -> tuple[Limit, ...]:
        """Return the window."""
        return (self._limit,)


class PerWorkerRateLimiter(_Limiter):
    """Let attempts begin at a steady pace for each worker.

    Jobs have no worker before they start, so an engine sends each to the one of as many places that
    is free and has a token, one job a place.

    Args:
        max_rate: How many in a period, for each worker; at least 1.
        time_period: Seconds of the period.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, max_rate: int, time_period: float = 1) -> None:
        _check(max_rate, time_period)
        self._per_second = max_rate / time_period
        self._buckets: dict[str, qanat.TokenBucket] = {}

    def limits_of(self, workers: tuple[str, ...]) -> tuple[Limit, ...]:
        """Return a balance over the buckets of these workers, or the bucket if it is one."""
        if len(workers) == 1:
            return (self._bucket(workers[0]),)
        return (
            qanat.Balance(
                dict.fromkeys(workers, 1), limits=lambda name: (qanat.Concurrency(1), self._bucket(name))
            ),
        )

    def _bucket(self, name: str) -> qanat.TokenBucket:
        return self._buckets.setdefault(name, qanat.TokenBucket(self._per_second))


class RandomizedIntervalRateLimiter(_Limiter):
    """Let attempts begin after random gaps, and at most so many in any stretch of a period.

    A gap is `time_period / max_rate` times a random number: a Gaussian one, times the sine of a
    random phase, kept within the bounds. There is none before the first attempt.

    Args:
        max_rate: How many in a period; at least 1.
        time_period: Seconds of the period.
        mean_target_multiplier: The mean of the Gaussian number.
        std_dev: Its standard deviation.
        lower_multiplier_bound: The least that a gap is multiplied with.
        upper_multiplier_bound: The most.
        lower_upper_fluctuation: How far the bounds move inwards with the phase.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        max_rate: int,
        time_period: float = 1,
        mean_target_multiplier: float = 0.9,
        std_dev: float = 0.2,
        lower_multiplier_bound: float = 0.0,
        upper_multiplier_bound: float = 1.1,
        lower_upper_fluctuation: float = 0.005,
    ) -> None:
        _check(max_rate, time_period)
        shape = (mean_target_multiplier, std_dev, lower_multiplier_bound, upper_multiplier_bound)
        if not all(map(isfinite, (*shape, lower_upper_fluctuation))):
            raise ValueError(f"the multipliers must be finite, got {(*shape, lower_upper_fluctuation)}")
        if not 0 <= lower_multiplier_bound <= upper_multiplier_bound:
            raise ValueError(
                "lower_multiplier_bound must be at least 0 and not above upper_multiplier_bound, "
                f"got {lower_multiplier_bound!r} and {upper_multiplier_bound!r}"
            )
        mean, spread, low, high = shape

        def multiplier(random: Callable[[], float]) -> float:
            # Box and Muller's way from two even numbers to a Gaussian one.
            gauss = mean + spread * sqrt(-2.0 * log(1.0 - random())) * cos(2.0 * pi * random())
            phase = abs(sin(tau * random()))
            inwards = phase * lower_upper_fluctuation
            return max(low + inwards, min(high - inwards, gauss * phase))

        window = qanat.SlidingWindow(int(max_rate), time_period)
        self._limits = (window, _RandomGaps(time_period / max_rate, multiplier))

    def limits_of(self, workers: tuple[str, ...]) -> tuple[Limit, ...]:
        """Return the window and the gaps."""
        return self._limits


class PausableRateLimiter(_Limiter):
    """Put a pause that all share before another limiter.

    Args:
        inner: The limiter; any object with an `acquire`.
    """

    def __init__(self, inner: RateLimiter) -> None:
        self._inner = inner
        self._pause = _Pause()

    @property
    def paused_until(self) -> float:
        """When the latest pause ends, by `time.monotonic()`; 0 if there was none."""
        return max(0.0, self._pause.until)

    def pause_for(self, seconds: float) -> None:
        """Let nothing begin for so many seconds; a shorter pause shortens none.

        Raises:
            ValueError: If it is less than 0 or not finite.
        """
        if not isfinite(seconds) or seconds < 0:
            raise ValueError(f"seconds must be finite and at least 0, got {seconds!r}")
        self._pause.extend(time.monotonic() + seconds)

    def pause_until(self, deadline: float) -> None:
        """Let nothing begin before a time of `time.monotonic()`; an earlier one shortens no pause.

        Raises:
            ValueError: If it is less than 0 or not finite.
        """
        if not isfinite(deadline) or deadline < 0:
            raise ValueError(f"deadline must be finite and at least 0, got {deadline!r}")
        self._pause.extend(deadline)

    def limits_of(self, workers: tuple[str, ...]) -> tuple[Limit, ...] | None:
        """Return the inner limits and the pause; None if the inner limiter is not made of limits."""
        inner = limits_of(self._inner, workers)
        return None if inner is None else (*inner, self._pause)

    async def acquire(self, name: str = "", task: AquteTask[Any, Any] | None = None) -> None:
        """Wait for the end of the pause, for the inner limiter, and for a pause that began meanwhile."""
        await qanat.collect(_nothing, (None,), concurrency=1, limits=self._pause)
        await self._inner.acquire(name=name, task=task)
        await qanat.collect(_nothing, (None,), concurrency=1, limits=self._pause)


OURS = (
    TokenBucketRateLimiter,
    SlidingRateLimiter,
    PerWorkerRateLimiter,
    RandomizedIntervalRateLimiter,
    PausableRateLimiter,
)


def limits_of(limiter: RateLimiter | None, workers: tuple[str, ...]) -> tuple[Limit, ...] | None:
    """Return the limits that a limiter is made of; None if it has to be asked by its `acquire`."""
    if limiter is None:
        return ()
    # A class of the user's that is made from one of these may wait in its own way.
    return limiter.limits_of(workers) if isinstance(limiter, OURS) and type(limiter) in OURS else None


class _RandomGaps(qanat.Limit):
    """Keep a random gap from one start to the next."""

    cause = "spacing"

    def __init__(self, usual: float, multiplier: Callable[[Callable[[], float]], float]) -> None:
        self._usual = usual
        self._multiplier = multiplier
        self._free_at = -inf

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return when the gap is over."""
        return self._free_at

    def take(self, job: Job[Any], now: float) -> None:
        """Begin the next gap."""
        self._free_at = now + self._usual * self._multiplier(self.rng.random)


class _Pause(qanat.Limit):
    """Let nothing start before a time."""

    cause = "paused"

    def __init__(self) -> None:
        self.until = -inf

    def extend(self, until: float) -> None:
        """Let it be later."""
        self.until = max(self.until, until)
        self.changed()

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return when the pause is over."""
        return self.until


async def _nothing(_item: None) -> None:
    """Be let through."""


def _check(max_rate: float, time_period: float) -> None:
    if not 1 <= max_rate < math.inf or not 0 < time_period < math.inf:
        raise ValueError(
            f"max_rate must be at least 1 and time_period greater than 0, both finite, "
            f"got {max_rate=}, {time_period=}"
        )
