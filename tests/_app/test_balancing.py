"""`Balance` in whole runs: where jobs go, and how they wait for targets."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Balance, CircuitBreaker, Concurrency, Spacing, current_job
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def target(_: object) -> Any:
    return current_job().target


async def test_a_handler_knows_its_target(virtual_time: VirtualTime):
    targets = await qanat.map(target, range(8), limits=Balance({"eu": 3, "us": 1}))
    assert Counter(targets) == {"eu": 6, "us": 2}


@pytest.mark.slow
async def test_shares_are_kept_over_ten_thousand_starts(virtual_time: VirtualTime):
    targets = await qanat.map(target, range(10_000), limits=Balance({"a": 5, "b": 3, "c": 0.5}))
    counts: Counter[str] = Counter(targets)
    for name, weight in {"a": 5, "b": 3, "c": 0.5}.items():
        assert abs(counts[name] - 10_000 * weight / 8.5) <= 0.02 * 10_000 * weight / 8.5


async def test_jobs_wait_for_the_first_target_to_be_free(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    balance = Balance({"a": 1, "b": 1}, limits={"a": Concurrency(1), "b": Spacing(5)})
    await qanat.collect(diary.taking(2.0), range(6), limits=balance)
    assert diary.times == [0.0, 0.0, 2.0, 4.0, 5.0, 6.0]


async def test_a_limit_inside_that_is_shared_wakes_whoever_waits(virtual_time: VirtualTime):
    shared = Concurrency(1)
    diary = Diary(virtual_time)
    async with (
        qanat.Pool(diary.taking(2.0), limits=shared) as plain,
        qanat.Pool(diary.taking(2.0), limits=Balance({"a": 1}, limits={"a": shared})) as balanced,
    ):
        plain.submit("plain")
        balanced.submit("balanced")
        await anyio.sleep(0.5)
        plain.submit("plain")
    assert diary.times == [0.0, 2.0, 4.0]
    assert shared._listeners == []


async def test_a_balance_shared_by_two_runs_counts_for_both(virtual_time: VirtualTime):
    balance = Balance({"a": 1, "b": 1}, limits=lambda _: Concurrency(1))
    diary = Diary(virtual_time)
    async with (
        qanat.Pool(diary.taking(1.0), limits=balance) as first,
        qanat.Pool(diary.taking(1.0), limits=balance) as second,
    ):
        for item in range(3):
            first.submit(item)
            second.submit(item)
    assert diary.times == [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]


async def test_a_retry_goes_elsewhere(virtual_time: VirtualTime):
    tried: list[str] = []

    async def handler(_: int) -> None:
        tried.append(current_job().target)
        if tried[-1] == "a":
            raise ConnectionError

    await qanat.map(handler, [0], limits=Balance({"a": 100, "b": 1}), retry=1)
    assert tried == ["a", "b"]


async def test_a_dead_target_is_passed_over_until_its_check_is_good(virtual_time: VirtualTime):
    calls: list[tuple[float, str]] = []

    async def handler(_: int) -> None:
        job = current_job()
        calls.append((virtual_time.now(), job.target))
        await anyio.sleep(1.0)
        if job.target == "a" and virtual_time.now() < 15.0:
            raise ConnectionError

    async def check() -> bool:
        return virtual_time.now() >= 15.0

    balance = Balance({"a": 1, "b": 1}, breaker=CircuitBreaker(2, cooldown=10, check=check))
    outcomes = await qanat.collect(handler, range(60), concurrency=2, limits=balance, retry=3)
    assert all(outcome.ok for outcome in outcomes)
    failing = [at for at, name in calls if name == "a" and at < 15.0]
    assert len(failing) == 2
    back = [at for at, name in calls if name == "a" and at >= 15.0]
    assert back
    assert min(back) >= 20.0


async def test_jobs_that_wait_say_what_for(virtual_time: VirtualTime):
    balance = Balance({"a": 1, "b": 1}, limits=lambda _: Spacing(5))
    async with qanat.Pool(target, limits=balance) as pool:
        pool.submit(0)
        pool.submit(1)
        third = pool.submit(2)
        await anyio.sleep(1.0)
        reason = third.why()
        await third
    assert reason is not None
    assert (reason.cause, reason.limit, reason.until) == ("spacing", "a 1, b 1", 5.0)
    assert (await third.outcome()).waits == {"spacing": 5.0}


async def test_a_cancelled_job_gives_back_to_its_target(virtual_time: VirtualTime):
    limits = {"a": Concurrency(1), "b": Concurrency(1)}
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(10.0), limits=Balance({"a": 1, "b": 1}, limits=limits)) as pool:
        handles = [pool.submit(item) for item in range(3)]
        await anyio.sleep(1.0)
        assert handles[1].job.target == "b"
        handles[1].cancel()
        await anyio.sleep(1.0)
        assert handles[2].job.target == "b"
    assert [limit._running for limit in limits.values()] == [0, 0]
