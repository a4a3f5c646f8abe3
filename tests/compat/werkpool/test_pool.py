"""werkpool: what its documentation shows, and what it must not do."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from qanat import JobCancelledError
from qanat.compat.werkpool import WorkerPool, worker_pool

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio")


class Work:
    """Functions without arguments that note when they are called, from the beginning."""

    def __init__(self, time: VirtualTime, seconds: float = 1.0) -> None:
        self._time = time
        self._began = time.now()
        self._seconds = seconds
        self.at: list[float] = []
        self.running = 0
        self.most = 0

    async def __call__(self) -> int:
        number = len(self.at)
        self.at.append(round(self._time.now() - self._began, 6))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.running -= 1
        return number


# --- size and rate ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({"rate": 2}, [0, 0, 1, 1, 2, 2]),
        ({"rate": 0.2}, [0, 5, 10, 15, 20, 25]),
        ({"rate": 2.5}, [0, 0, 0, 1.2, 1.2, 1.2]),
        ({"size": 2}, [0, 0, 1, 1, 2, 2]),
        ({"size": 1, "rate": 0.5}, [0, 2, 4, 6, 8, 10]),
        ({"size": 1, "rate": 10}, [0, 1, 2, 3, 4, 5]),
        ({}, [0] * 6),
    ],
    ids=["high rate", "low rate", "fraction", "size", "both, rate", "both, size", "neither"],
)
async def test_the_modes_of_a_pool(virtual_time: VirtualTime, options: dict[str, Any], at: list[float]):
    work = Work(virtual_time)
    async with worker_pool(**options) as pool:
        values = await asyncio.gather(*[pool.run(work) for _ in range(6)])
    assert values == list(range(6))
    assert work.at == pytest.approx(at)


async def test_permits_do_not_pile_up_while_nobody_asks(virtual_time: VirtualTime):
    """FAULT: 132 calls began within 0.1 s at 50/s."""
    work = Work(virtual_time, 0.0)
    async with worker_pool(rate=50) as pool:
        await pool.run(work)
        await asyncio.sleep(60)
        await asyncio.gather(*[pool.run(work) for _ in range(300)])
    later = [at for at in work.at if at >= 60]
    assert max(sum(at <= other < at + 1 for other in later) for at in later) <= 50


async def test_what_run_returns_is_a_future(virtual_time: VirtualTime):
    pool = WorkerPool(size=1)
    future = pool.run(Work(virtual_time))
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    assert isinstance(future, asyncio.Future)
    assert not future.done()
    await pool.shutdown()
    assert future.result() == 0
    await asyncio.sleep(0)
    assert seen == [future]


# --- retries and timeouts --------------------------------------------------------------------------


class Failing:
    """A function that raises these errors, one after the other, and then returns."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "well"


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, 1),
        ({"retries": 1}, 2),
        ({"retries": 2}, 3),
        ({"retries": 5, "retryable_exceptions": [ConnectionError, TimeoutError]}, 2),
    ],
    ids=["none", "FAULT: one gave none", "two", "some errors"],
)
async def test_retries(virtual_time: VirtualTime, options: dict[str, Any], calls: int):
    failing = Failing(ConnectionError("a"), ValueError("b"), ConnectionError("c"), ConnectionError("d"))
    async with worker_pool(size=10, rate=50) as pool:
        with pytest.raises((ConnectionError, ValueError)):
            await pool.run(failing, **options)
    assert failing.calls == calls


async def test_the_default_backoff_grows_from_two_seconds(virtual_time: VirtualTime):
    async with worker_pool() as pool:
        began = virtual_time.now()
        assert await pool.run(Failing(OSError(), OSError()), retries=2) == "well"
        assert 6 <= virtual_time.now() - began <= 8


async def test_a_backoff_is_told_how_many_attempts_there_were(virtual_time: VirtualTime):
    asked: list[int] = []

    def backoff(attempts: int) -> float:
        asked.append(attempts)
        return 10.0

    async with worker_pool() as pool:
        began = virtual_time.now()
        await pool.run(Failing(OSError(), OSError()), retries=2, backoff=backoff)
        assert virtual_time.now() - began == 20
    assert asked == [1, 2]


async def test_a_call_that_waits_for_its_retry_holds_no_place(virtual_time: VirtualTime):
    began = virtual_time.now()
    async with worker_pool(size=1) as pool:
        late = pool.run(Failing(OSError()), retries=1, backoff=lambda attempts: 100.0)
        assert await pool.run(Failing()) == "well"
        assert virtual_time.now() == began
        assert await late == "well"
    assert virtual_time.now() - began == 100


async def test_a_timeout_is_of_one_attempt(virtual_time: VirtualTime):
    work = Work(virtual_time, 60)
    async with worker_pool() as pool:
        with pytest.raises(TimeoutError):
            await pool.run(work, timeout=5, retries=1, backoff=lambda attempts: 1.0)
    assert work.at == [0, 6]


async def test_a_timeout_of_nothing_gives_a_call_no_chance(virtual_time: VirtualTime):
    """FAULT: 0 was ignored."""
    work = Work(virtual_time)
    async with worker_pool() as pool:
        with pytest.raises(TimeoutError):
            await pool.run(work, timeout=0)
    assert work.at == []


async def test_a_failing_call_gives_its_place_back(virtual_time: VirtualTime):
    """FAULT: it leaked its slot."""
    async with worker_pool(size=2) as pool:
        futures = [pool.run(Failing(OSError(number))) for number in range(10)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(result) for result in results] == [OSError] * 10
        assert await pool.run(Failing()) == "well"


async def test_what_was_cancelled_elsewhere_is_that_calls_failure(virtual_time: VirtualTime):
    """FAULT: its awaiter hung, and so did `shutdown`."""
    other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    other.cancel()

    async def wait() -> None:
        await other

    async with worker_pool(size=1) as pool:
        with pytest.raises(JobCancelledError, match="cancelled elsewhere"):
            await pool.run(wait)
        assert await pool.run(Failing()) == "well"


async def test_a_future_that_was_cancelled_is_left_alone(virtual_time: VirtualTime):
    work = Work(virtual_time)
    async with worker_pool(size=1) as pool:
        first, second, third = (pool.run(work) for _ in range(3))
        await asyncio.sleep(0.5)
        first.cancel()
        second.cancel()
        assert await third == 1
        failing = pool.run(Failing(OSError()))
        failing.cancel()
    assert work.at == [0, 1]


# --- the end ---------------------------------------------------------------------------------------


async def test_shutdown_waits_for_all_and_takes_no_more(virtual_time: VirtualTime):
    work = Work(virtual_time)
    pool = WorkerPool(size=1)
    futures = [pool.run(work) for _ in range(3)]
    ending = asyncio.create_task(pool.shutdown())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="not accepting new tasks"):
        pool.run(work)
    await ending
    assert [future.result() for future in futures] == [0, 1, 2]
    await pool.shutdown()
    await pool.kill()
    await WorkerPool().shutdown()


async def test_kill_cancels_what_waits_and_what_runs(virtual_time: VirtualTime):
    """FAULT: what ran was left running."""
    work = Work(virtual_time, 100)
    pool = WorkerPool(size=2)
    futures = [pool.run(work) for _ in range(5)]
    await asyncio.sleep(1)
    assert work.running == 2
    await pool.kill()
    assert work.running == 0
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 5
    with pytest.raises(RuntimeError, match="not accepting new tasks"):
        pool.run(work)
    await WorkerPool().kill()


async def test_a_pool_that_is_forgotten_ends_when_its_calls_have(virtual_time: VirtualTime):
    pool = WorkerPool(size=1)
    futures = [pool.run(Work(virtual_time)) for _ in range(3)]
    load = pool._load
    del pool
    gc.collect()
    assert await asyncio.gather(*futures) == [0, 0, 0]
    await asyncio.sleep(1)
    assert load is not None
    assert load.done()


def test_a_pool_may_be_used_in_one_loop_after_the_other():
    pool = WorkerPool(size=1)

    async def main() -> str:
        return await pool.run(Failing())

    assert asyncio.run(main()) == "well"
    assert asyncio.run(main()) == "well"


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"size": 0}, {"size": -1}, {"size": 1.5}])
def test_a_size_must_be_possible(options: dict[str, Any]):
    with pytest.raises(ValueError, match="Size must be a positive integer or None"):
        WorkerPool(**options)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_must_be_possible(rate: float):
    with pytest.raises(ValueError, match="Rate must be a positive float or None"):
        WorkerPool(rate=rate)


async def test_a_call_must_be_possible(virtual_time: VirtualTime):
    async with worker_pool() as pool:
        coroutine = Failing()()
        wrong: list[tuple[type[Exception], Any, dict[str, Any]]] = [
            (TypeError, coroutine, {}),
            (ValueError, Failing(), {"timeout": float("nan")}),
            (ValueError, Failing(), {"retries": -1}),
            (TypeError, Failing(), {"retries": 1.5}),
            (TypeError, Failing(), {"retries": 1, "retryable_exceptions": ["OSError"]}),
            (TypeError, Failing(), {"retries": 1, "backoff": 3}),
        ]
        for error, function, options in wrong:
            with pytest.raises(error):
                pool.run(function, **options)
        coroutine.close()
