"""Loops written by hand, as short as they can be: what the event loop and Python cost by themselves."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.work import Handler


async def deque_loop(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Take items from a deque; an error would end everything."""
    left = deque(items)
    results: list[int] = []

    async def worker() -> None:
        while left:
            results.append(await handler(left.popleft()))

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return len(results)


async def deque_timeout(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Take items from a deque, each with `asyncio.timeout` around it."""
    left = deque(items)
    results: list[int] = []

    async def worker() -> None:
        while left:
            async with asyncio.timeout(30):
                results.append(await handler(left.popleft()))

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return len(results)


async def deque_retry(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Take items from a deque, and call the handler again if it failed."""
    left = deque(items)
    results: list[int] = []

    async def worker() -> None:
        while left:
            item = left.popleft()
            try:
                results.append(await handler(item))
            except Exception:  # noqa: BLE001 - whatever it was, it is tried again
                results.append(await handler(item))

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return len(results)


async def queue_loop(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Do what one writes first: an `asyncio.Queue`, workers that survive errors, results by position."""
    queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
    results: dict[int, tuple[bool, Any]] = {}
    for entry in enumerate(items):
        queue.put_nowait(entry)

    async def worker() -> None:
        while True:
            index, item = await queue.get()
            try:
                results[index] = (True, await handler(item))
            except Exception as error:  # noqa: BLE001 - kept as a result
                results[index] = (False, error)
            finally:
                queue.task_done()

    workers = [asyncio.create_task(worker()) for _ in range(concurrency)]
    await queue.join()
    for each in workers:
        each.cancel()
    await asyncio.gather(*workers, return_exceptions=True)
    return len(results)


async def task_group(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Start a task for each item, all at once, and let a semaphore hold them back."""
    semaphore = asyncio.Semaphore(concurrency)
    results: list[int] = []

    async def one(item: int) -> None:
        async with semaphore:
            results.append(await handler(item))

    async with asyncio.TaskGroup() as group:
        for item in items:
            group.create_task(one(item))
    return len(results)


async def trio_deque_loop(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Take items from a deque, on trio."""
    import trio

    left = deque(items)
    results: list[int] = []

    async def worker() -> None:
        while left:
            results.append(await handler(left.popleft()))

    async with trio.open_nursery() as nursery:
        for _ in range(concurrency):
            nursery.start_soon(worker)
    return len(results)


async def in_executor(function: Callable[[int], Any], items: Iterable[int], concurrency: int) -> int:
    """Call a plain function in the loop's default executor, so many at once."""
    loop = asyncio.get_running_loop()

    async def call(item: int) -> Any:
        return await loop.run_in_executor(None, function, item)

    return await deque_loop(call, items, concurrency)
