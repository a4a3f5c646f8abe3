"""`Balance` in whole runs: where jobs go, and how they wait for targets."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Adaptive, Balance, Budget, CircuitBreaker, Concurrency, Spacing, current_job
from qanat.testing import SimulatedServer
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


async def test_a_batch_of_retries_goes_elsewhere(virtual_time: VirtualTime):
    tried: list[tuple[str, list[int]]] = []

    async def handler(items: list[int]) -> list[int]:
        tried.append((current_job().target, items))
        if tried[-1][0] == "a":
            raise ConnectionError
        return items

    balance = Balance({"a": 100, "b": 1})
    async with qanat.Pool(handler, batch=qanat.Batch(3), limits=balance, retry=qanat.Retry(1)) as pool:
        handles = [pool.submit(item) for item in range(3)]
        await pool.drain()
        assert [handle.job.target for handle in handles] == ["b"] * 3
    assert [target for target, _ in tried] == ["a"] + ["b"] * (len(tried) - 1)
    assert sorted(item for _, items in tried[1:] for item in items) == [0, 1, 2]


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


# --- limits inside that learn more while a job runs ----------------------------------------------


async def test_a_budget_of_a_target_is_charged_for_its_jobs_and_for_no_others(virtual_time: VirtualTime):
    began: list[tuple[float, str]] = []

    async def handler(_: int) -> None:
        job = current_job()
        began.append((virtual_time.now(), job.target))
        await anyio.sleep(1.0)
        job.charge("tokens", 1000 if job.target == "a" else 0)

    balance = Balance(
        {"a": 1, "b": 1}, limits={"a": Budget("a", tokens="100/m"), "b": Budget("b", tokens="100/m")}
    )
    await qanat.collect(handler, range(6), concurrency=1, cost=lambda _: {"tokens": 50}, limits=balance)
    # What the first one really cost keeps `a` closed for ten minutes; `b` gets back each estimate.
    assert began == [(0.0, "a"), (1.0, "b"), (2.0, "b"), (3.0, "b"), (4.0, "b"), (5.0, "b")]


async def test_what_is_charged_less_wakes_those_who_wait_for_a_target(virtual_time: VirtualTime):
    began: list[float] = []

    async def handler(_: int) -> None:
        began.append(virtual_time.now())
        await anyio.sleep(2.0)
        current_job().charge("tokens", 10)

    balance = Balance({"a": 1}, limits=lambda _: Budget("llm", tokens="100/m"))
    await qanat.collect(handler, range(3), cost=lambda _: {"tokens": 80}, limits=balance)
    assert began == [0.0, 2.0, 4.0]


async def test_a_currency_that_no_target_counts_is_refused(virtual_time: VirtualTime):
    async def handler(_: int) -> None:
        current_job().charge("pages", 10)

    balance = Balance({"a": 1, "b": 1}, limits={"a": Budget("a", tokens="100/m")})
    (outcome,) = await qanat.collect(handler, [0], limits=balance)
    assert str(outcome.error).startswith(
        "currency must be one that the limits of this job count, tokens, got"
    )


async def test_a_call_left_behind_in_a_thread_is_still_charged_to_its_target(virtual_time: VirtualTime):
    budgets = {name: Budget(name, tokens="1000/m") for name in "ab"}
    go_on, begun = threading.Event(), threading.Semaphore(0)

    def handler(_: int) -> None:
        job = current_job()
        attempt = job.attempt
        begun.release()
        if attempt == 1:
            go_on.wait(10)
        job.charge("tokens", (700, 30)[attempt - 1])

    retry = qanat.Retry(1, backoff=qanat.constant(1.0))
    balance = Balance({"a": 1, "b": 1}, limits=budgets)
    async with qanat.Pool(handler, limits=balance, timeout=2.0, retry=retry) as pool:
        handle = pool.submit(0, cost=400)
        await anyio.to_thread.run_sync(begun.acquire)
        await virtual_time.advance(3.0, wait_outside=False)
        await handle
        assert handle.job.target == "b"
        assert [budget._windows["tokens"].load for budget in budgets.values()] == [400, 30]
        go_on.set()
    assert [budget._windows["tokens"].load for budget in budgets.values()] == [700, 30]
    assert [budget._open for budget in budgets.values()] == [{}, {}]


async def test_each_target_finds_its_own_knee(virtual_time: VirtualTime):
    servers = {"small": SimulatedServer(10), "large": SimulatedServer(40)}
    limits = {name: Adaptive(1, 200) for name in servers}

    async def handler(item: int) -> Any:
        return await servers[current_job().target].handle(item)

    balance = Balance({"small": 1, "large": 1}, limits=limits)
    assert await qanat.map(handler, range(4000), concurrency=400, limits=balance) == list(range(4000))
    assert 6 <= limits["small"].current <= 16
    assert 32 <= limits["large"].current <= 48
    assert [limit._running for limit in limits.values()] == [0, 0]
