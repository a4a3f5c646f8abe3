"""aqute's rate limiters, given to an engine and awaited by themselves."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest

from qanat.compat.aqute import Aqute, AquteTask
from qanat.compat.aqute.ratelimiter import (
    PausableRateLimiter,
    PerWorkerRateLimiter,
    RandomizedIntervalRateLimiter,
    RateLimiter,
    SlidingRateLimiter,
    TokenBucketRateLimiter,
)

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio")


class Starts:
    """A handler that notes when it was called, from the beginning."""

    def __init__(self, time: VirtualTime, seconds: float = 0.0) -> None:
        self._time = time
        self._seconds = seconds
        self._began = time.now()
        self.at: list[float] = []

    async def __call__(self, item: int) -> None:
        self.at.append(round(self._time.now() - self._began, 6))
        await asyncio.sleep(self._seconds)


@pytest.mark.parametrize(
    ("limiter", "at"),
    [
        (lambda: TokenBucketRateLimiter(2), [0, 0.5, 1, 1.5, 2, 2.5]),
        (lambda: TokenBucketRateLimiter(2, 4, allow_burst=True), [0, 0, 2, 4, 6, 8]),
        (lambda: SlidingRateLimiter(2, 3), [0, 0, 3, 3, 6, 6]),
        (lambda: PerWorkerRateLimiter(1, 2), [0, 0, 0, 2, 2, 2]),
        (lambda: PausableRateLimiter(SlidingRateLimiter(3, 2)), [0, 0, 0, 2, 2, 2]),
    ],
    ids=["bucket", "burst", "window", "per worker", "pausable"],
)
async def test_a_limiter_spaces_the_attempts_of_an_engine(
    virtual_time: VirtualTime, limiter: Any, at: list[float]
):
    starts = Starts(virtual_time)
    await Aqute(starts, 3, rate_limiter=limiter()).apply_to_all(range(6))
    assert starts.at == pytest.approx(at)


async def test_permits_do_not_pile_up_while_nobody_asks(virtual_time: VirtualTime):
    """FAULT: 132 began within 0.1 s at 50/s."""
    starts = Starts(virtual_time)
    engine = Aqute(starts, 100, rate_limiter=TokenBucketRateLimiter(50))
    async with engine:
        await engine.add_task(0)
        await asyncio.sleep(10)
        for number in range(100):
            await engine.add_task(number)
        await engine.wait_till_end()
    assert sum(10 <= at < 10.1 for at in starts.at) <= 6


async def test_retries_need_a_permit_too(virtual_time: VirtualTime):
    starts = Starts(virtual_time)

    async def handle(item: int) -> None:
        await starts(item)
        raise ValueError

    await Aqute(handle, 1, rate_limiter=TokenBucketRateLimiter(1), retry_count=2).apply_to_all([1])
    assert starts.at == [0, 1, 2]


async def test_random_gaps_keep_the_rate(virtual_time: VirtualTime):
    starts = Starts(virtual_time)
    limiter = RandomizedIntervalRateLimiter(10, lower_multiplier_bound=0.5, lower_upper_fluctuation=0.0)
    await Aqute(starts, 5, rate_limiter=limiter).apply_to_all(range(100))
    gaps = [after - before for before, after in zip(starts.at, starts.at[1:], strict=False)]
    assert min(gaps) >= 0.05 - 1e-6
    assert len({round(gap, 4) for gap in gaps}) > 10
    assert all(later - at >= 1 - 1e-6 for at, later in zip(starts.at, starts.at[10:], strict=False))


async def test_a_pause_holds_back_what_has_not_begun(virtual_time: VirtualTime):
    limiter = PausableRateLimiter(TokenBucketRateLimiter(1))
    assert limiter.paused_until == 0.0
    starts = Starts(virtual_time)

    async def handle(item: int) -> None:
        await starts(item)
        if item == 1:
            limiter.pause_until(virtual_time.now() + 10)
            limiter.pause_until(virtual_time.now() + 5)

    await Aqute(handle, 1, rate_limiter=limiter).apply_to_all(range(3))
    assert starts.at == [0, 1, 11]
    with pytest.raises(ValueError, match="seconds must be finite and at least 0"):
        limiter.pause_for(-1)
    with pytest.raises(ValueError, match="deadline must be finite and at least 0"):
        limiter.pause_until(math.inf)


async def test_limiters_may_be_awaited_by_themselves(virtual_time: VirtualTime):
    for limiter, seconds in (
        (TokenBucketRateLimiter(1), 2),
        (SlidingRateLimiter(1), 2),
        (PerWorkerRateLimiter(1), 2),
        (PausableRateLimiter(TokenBucketRateLimiter(1)), 2),
        (PausableRateLimiter(Named()), 0),
    ):
        began = virtual_time.now()
        for _ in range(3):
            await limiter.acquire("a")
        assert virtual_time.now() - began == seconds
    own = PerWorkerRateLimiter(1)
    began = virtual_time.now()
    await own.acquire("a")
    await own.acquire("b")
    assert virtual_time.now() == began


class Named:
    """A limiter of the user's own that notes who asks."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def acquire(self, name: str = "", task: AquteTask[Any, Any] | None = None) -> None:
        self.names.append(name)


async def test_an_own_limiter_is_told_the_worker_and_the_task(virtual_time: VirtualTime):
    limiter = Named()
    as_port: RateLimiter = PausableRateLimiter(limiter)
    starts = Starts(virtual_time, 1.0)
    for each in (limiter, as_port):
        await Aqute(starts, 2, rate_limiter=each).apply_to_all(range(4))
    assert set(limiter.names) == {"worker_0", "worker_1"}
    assert len(limiter.names) == 8


async def test_a_class_made_from_a_limiter_waits_in_its_own_way(virtual_time: VirtualTime):
    class Slow(TokenBucketRateLimiter):
        async def acquire(self, name: str = "", task: AquteTask[Any, Any] | None = None) -> None:
            await asyncio.sleep(3)

    starts = Starts(virtual_time)
    await Aqute(starts, 1, rate_limiter=Slow(100)).apply_to_all(range(2))
    assert starts.at == [3, 6]


@pytest.mark.parametrize(
    "kind", [TokenBucketRateLimiter, SlidingRateLimiter, PerWorkerRateLimiter, RandomizedIntervalRateLimiter]
)
@pytest.mark.parametrize(("rate", "period"), [(0, 1), (1, 0), (1, math.inf), (math.nan, 1), (1, math.nan)])
def test_a_rate_must_be_possible(kind: Any, rate: float, period: float):
    with pytest.raises(ValueError, match="max_rate must be at least 1"):
        kind(rate, period)


@pytest.mark.parametrize(
    "options", [{"std_dev": math.nan}, {"lower_multiplier_bound": 2.0}, {"lower_multiplier_bound": -1.0}]
)
def test_random_gaps_must_be_possible(options: dict[str, float]):
    with pytest.raises(ValueError, match="multiplier"):
        RandomizedIntervalRateLimiter(1, **options)
