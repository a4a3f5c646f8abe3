"""The ways that qanat offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qanat

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.work import Handler


async def collect(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Gather every outcome."""
    return len((await qanat.collect(handler, items, concurrency=concurrency)).values())


async def map_values(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Gather the values."""
    return len(await qanat.map(handler, items, concurrency=concurrency))


async def stream(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Read the outcomes as they come."""
    done = 0
    async with qanat.stream(handler, items, concurrency=concurrency) as outcomes:
        async for outcome in outcomes:
            done += outcome.ok
    return done


async def pool(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Submit every item to a Pool and leave it, which waits for all."""
    done = 0

    async def counted(item: int) -> int:
        nonlocal done
        value = await handler(item)
        done += 1
        return value

    async with qanat.Pool(counted, concurrency=concurrency) as running:
        for item in items:
            running.submit(item)
    return done


async def pool_handles(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Submit every item to a Pool and await each handle."""
    async with qanat.Pool(handler, concurrency=concurrency) as running:
        handles = [running.submit(item) for item in items]
        return len([await handle for handle in handles])


async def collect_timeout(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Gather every outcome, with a timeout for each attempt."""
    return len((await qanat.collect(handler, items, concurrency=concurrency, timeout=30.0)).values())


async def collect_retry(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Gather every outcome, with one retry at once."""
    retry = qanat.Retry(1, backoff=qanat.constant(0))
    return len((await qanat.collect(handler, items, concurrency=concurrency, retry=retry)).values())


async def paced(handler: Handler, items: Iterable[int], rate: str) -> Any:
    """Gather every outcome at a rate."""
    return await qanat.collect(handler, items, concurrency=50, rate=rate)
