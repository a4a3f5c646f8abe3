"""What one start under a limit costs, ours beside those of other packages.

Run it with `make bench ARGS=limits`, or alone with `python -m benchmarks.limits`. All rates are so high
that nobody ever waits: what is timed is the asking and the taking. Processor time is taken, the
best of several rounds, as a machine that does something else meanwhile only adds to it.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from typing import TYPE_CHECKING, Any

import qanat
from benchmarks.report import Table, Wanted, as_text, number
from qanat._core.dispatcher import Dispatcher
from qanat._core.job import Job, Task
from qanat._core.orders import Fifo
from qanat._core.outcome import Outcome
from qanat._core.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.crew import Plan
    from qanat._core.limit import Limit

    Timed = Callable[[int], float]
    """Take so many, and return the seconds that it took."""

STEP = 0.0001
"""Seconds from one start to the next on the limits' clock."""

THREE = "three limits"


def three() -> tuple[Limit, ...]:
    return qanat.SlidingWindow(100_000, 1), qanat.TokenBucket(100_000, burst=100), qanat.Concurrency(50)


def ours(*limits: Limit, cost: Any = 1.0) -> Timed:
    """Ask, take and give back, as the dispatcher does."""

    def timed(times: int) -> float:
        for limit in limits:
            limit.bind(1, random.Random(1))
        job: Job[None] = Job(0, None, 0, Task("job", None, None, Retry(0)), cost=cost)
        outcome: Outcome[None, None] = Outcome(
            0, 0, None, None, None, "done", 1, None, None, None, 1.0, 1.0, 1.0, 0.0
        )
        now = 1.0
        begun = time.process_time()
        for _ in range(times):
            now += STEP
            for limit in limits:
                limit.ready_at(job, now)
            for limit in limits:
                limit.take(job, now)
            for limit in limits:
                limit.give_back(job, outcome, now)
        return time.process_time() - begun

    return timed


def dispatched(make: Callable[[], tuple[Limit, ...]], cost: Any = 1.0) -> Timed:
    """Start and finish jobs of one lane through a dispatcher."""

    def timed(times: int) -> float:
        dispatcher = Dispatcher(rng=random.Random(1), limits=make(), capacity=10)
        task = dispatcher.add_task("task", None, make_order=Fifo, retry=Retry(0))
        for index in range(times):
            dispatcher.offer(Job(index, index, index, task, cost=cost), 0.0)
        now = 1.0
        begun = time.process_time()
        for _ in range(times):
            now += STEP
            job = dispatcher.next(now)
            assert job is not None
            dispatcher.finish(job, None, None, now)
        return time.process_time() - begun

    return timed


def called(take: Callable[[], object]) -> Timed:
    """Call a peer's function for each start."""

    def timed(times: int) -> float:
        begun = time.process_time()
        for _ in range(times):
            take()
        return time.process_time() - begun

    return timed


def awaited(take: Callable[[], Awaitable[object]]) -> Timed:
    """Await a peer's function for each start."""

    async def run(times: int) -> float:
        begun = time.process_time()
        for _ in range(times):
            await take()
        return time.process_time() - begun

    return lambda times: asyncio.run(run(times))


# --- peers, each as its own documentation shows it ----------------------------------------------


def aiolimiter() -> dict[str, Timed]:
    from aiolimiter import AsyncLimiter

    def timed(times: int) -> float:
        # One for each loop, as it asks.
        limiter = AsyncLimiter(1e9, 1)
        return awaited(limiter.acquire)(times)

    return {"aiolimiter, leaky bucket": timed}


def pyrate_limiter() -> dict[str, Timed]:
    from pyrate_limiter import Duration, Limiter, Rate

    limiter = Limiter(Rate(10**9, Duration.SECOND))
    return {"pyrate-limiter": called(lambda: limiter.try_acquire("key", blocking=False))}


def limits_() -> dict[str, Timed]:
    from limits import RateLimitItemPerSecond, storage, strategies

    item, memory = RateLimitItemPerSecond(10**9), storage.MemoryStorage()
    fixed = strategies.FixedWindowRateLimiter(memory)
    return {"limits, fixed window": called(lambda: fixed.hit(item, "key"))}


def limits_moving() -> dict[str, Timed]:
    from limits import RateLimitItemPerSecond, storage, strategies

    item, memory = RateLimitItemPerSecond(10_000), storage.MemoryStorage()
    moving = strategies.MovingWindowRateLimiter(memory)
    return {"limits, moving window": called(lambda: moving.hit(item, "key"))}


def throttled() -> dict[str, Timed]:
    from throttled import Throttled, per_sec, store

    found: dict[str, Timed] = {}
    for using in ("fixed_window", "sliding_window", "token_bucket", "gcra"):
        limiter = Throttled(
            key="key", using=using, quota=per_sec(10**6, burst=10**6), store=store.MemoryStore()
        )
        found[f"throttled-py, {using.replace('_', ' ')}"] = called(limiter.limit)
    return found


def purgatory() -> dict[str, Timed]:
    from purgatory import AsyncCircuitBreakerFactory

    factory = AsyncCircuitBreakerFactory()

    async def call() -> None:
        async with await factory.get_breaker("key"):
            pass

    return {"purgatory, circuit breaker": awaited(call)}


PEERS = (aiolimiter, pyrate_limiter, limits_, limits_moving, throttled, purgatory)


def contenders(skipped: list[str]) -> dict[str, Timed]:
    """Return what is timed; peers that are not installed are told."""
    found = {
        "qanat, Concurrency": ours(qanat.Concurrency(50)),
        "qanat, FixedWindow": ours(qanat.FixedWindow(100_000, 1)),
        "qanat, SlidingWindow": ours(qanat.SlidingWindow(100_000, 1)),
        "qanat, TokenBucket": ours(qanat.TokenBucket(100_000, burst=100)),
        "qanat, Spacing": ours(qanat.Spacing(STEP / 2)),
        f"qanat, {THREE}": ours(*three()),
        "qanat, Budget of calls": ours(qanat.Budget("api", requests="100000/s")),
        "qanat, Budget of calls and tokens": ours(
            qanat.Budget("api", requests="100000/s", tokens="1000000/s"), cost={"tokens": 5.0}
        ),
    }
    breaker = getattr(qanat, "CircuitBreaker", None)
    if breaker is not None:
        found["qanat, CircuitBreaker"] = ours(breaker())
    for peer in PEERS:
        try:
            found.update(peer())
        except ImportError as error:
            skipped.append(f"{peer.__name__.strip('_')} is not installed ({error.name})")
    return found


def best(timed: dict[str, Timed], rounds: int, times: int) -> dict[str, float]:
    """Return microseconds for each, the best of several rounds in turns."""
    found: dict[str, float] = {}
    for _ in range(rounds):
        for name, take in timed.items():
            gc.collect()
            gc.disable()
            micros = take(times) / times * 1e6
            gc.enable()
            found[name] = min(micros, found.get(name, micros))
    return found


def limits(plan: Plan) -> list[Table]:
    """Time limits by themselves, and a dispatcher with and without them."""
    rounds, times = (3, 5_000) if plan.quick else (15, 10_000)
    skipped: list[str] = []
    alone = best(contenders(skipped), rounds, times)
    under = best(
        {
            "none": dispatched(tuple),
            THREE: dispatched(three),
            "a Budget of calls and tokens": dispatched(
                lambda: (qanat.Budget("api", requests="100000/s", tokens="1000000/s"),), {"tokens": 5.0}
            ),
        },
        rounds, times,
    )  # fmt: skip
    more = under[THREE] - under["none"]
    about = f"Microseconds of processor time, the best of {rounds} rounds of {times:,}"
    return [
        Table(
            "One start under a limit",
            f"{about}: asking, taking and giving back, without waiting.",
            ("", "us"), [[name, number(micros)] for name, micros in alone.items()], (), skipped,
        ),
        Table(
            "One lane under limits",
            f"{about}: the dispatcher's `next` and `finish` of a job in one lane.",
            ("", "us"), [[name, number(micros)] for name, micros in under.items()],
            [Wanted("what three limits add to a job in one lane", more, most=1.5, unit=" us")],
        ),
    ]  # fmt: skip


def main() -> None:
    """Print the tables."""
    from benchmarks.crew import Plan

    plan = Plan(runs=7, items=20_000, many=0, seconds=0, quick=False, newer=None, newer_version="")
    for table in limits(plan):
        print(as_text(table), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
