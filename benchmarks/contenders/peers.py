"""Other libraries, each used as its own documentation shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.work import Handler


async def asyncio_pool(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use asyncio-pool's `map`."""
    from asyncio_pool import AioPool

    async with AioPool(size=concurrency) as pool:
        return len(await pool.map(handler, items))


async def aqute(handler: Handler, items: Iterable[int], concurrency: int, **options: Any) -> int:
    """Use aqute's `process_all`; what it logs of each failure is not written anywhere."""
    import logging

    from aqute import Aqute

    logging.getLogger("aqute").setLevel(logging.CRITICAL)
    tasks = await Aqute(handler, concurrency, **options).process_all(items)
    return sum(task.success for task in tasks)


async def aqute_timeout(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use aqute with a timeout for each attempt."""
    return await aqute(handler, items, concurrency, task_timeout_seconds=30)


async def aqute_retry(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use aqute with one retry at once."""
    return await aqute(handler, items, concurrency, retry_count=1)


async def aiometer(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use aiometer's `amap`."""
    from aiometer import amap

    async with amap(handler, list(items), max_at_once=concurrency) as results:
        return len([result async for result in results])


async def aiostream(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use aiostream's `map`, results as they come."""
    from aiostream import stream

    mapped = stream.map(stream.iterate(items), handler, ordered=False, task_limit=concurrency)
    async with mapped.stream() as results:
        return len([result async for result in results])


async def tenacity_retry(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use tenacity around the handler, in a loop written by hand."""
    import tenacity

    from benchmarks.contenders.floors import deque_loop

    retrying = tenacity.retry(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_none())
    return await deque_loop(retrying(handler), items, concurrency)


# --- peers that need Python 3.12 -----------------------------------------------------------


async def werkpool(handler: Handler, items: Iterable[int], concurrency: int, **options: Any) -> int:
    """Use werkpool's `run`, and await every future."""
    from functools import partial

    from werkpool import worker_pool

    async with worker_pool(size=concurrency) as workers:
        futures = [workers.run(partial(handler, item), **options) for item in items]
        return len([await future for future in futures])


async def werkpool_timeout(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use werkpool with a timeout for each attempt."""
    return await werkpool(handler, items, concurrency, timeout=30)


async def werkpool_retry(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use werkpool with two attempts at most (its `retries` counts attempts), without delay."""
    return await werkpool(handler, items, concurrency, retries=2, backoff=lambda _attempts: 0.0)


async def aqueue(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use aqueue, first in first out and without its live view."""
    import aqueue as library

    results: list[int] = []

    class Work(library.Item):  # type: ignore[misc]
        def __init__(self, item: int) -> None:
            super().__init__()
            self.item = item

        async def process(self) -> None:
            results.append(await handler(self.item))

    await library.async_run_queue(
        initial_items=[Work(item) for item in items], num_workers=concurrency, order="fifo", visualize=False
    )
    return len(results)
