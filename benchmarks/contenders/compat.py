"""The same work by the calls of other libraries: by the library itself, and by ours of the same names."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.work import Handler

FANOUT = 50


async def _aqute_batch(
    module: str, handler: Handler, items: Iterable[int], concurrency: int, **options: Any
) -> int:
    logging.getLogger("aqute").setLevel(logging.CRITICAL)
    engine = importlib.import_module(module).Aqute(handler, concurrency, **options)
    return sum(task.success for task in await engine.process_all(items))


async def _aqute_stream(module: str, handler: Handler, items: Iterable[int], concurrency: int) -> int:
    engine = importlib.import_module(module).Aqute(handler, concurrency)
    async with engine.iter_results(items) as results:
        return len([task async for task in results])


async def _aqute_tasks(module: str, handler: Handler, items: Iterable[int], concurrency: int) -> int:
    results: asyncio.Queue[Any] = asyncio.Queue()
    engine = importlib.import_module(module).Aqute(
        handler, concurrency, input_task_queue_size=0, result_queue=results
    )
    for item in items:
        await engine.add_task(item)
    async with engine:
        await engine.finish()
    return results.qsize()


async def _werkpool_burst(
    module: str, handler: Handler, items: Iterable[int], concurrency: int, **options: Any
) -> int:
    library = importlib.import_module(module)
    rate = options.pop("rate", None)
    size = None if options.pop("any_size", False) else concurrency
    async with library.worker_pool(size=size, rate=rate) as pool:
        futures = [pool.run(partial(handler, item), **options) for item in items]
        return len([await future for future in futures])


async def _by_hand(module: str, handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Run a burst by werkpool, and in the place of ours by nothing but workers that set futures.

    It knows no limit, no timeout, no retry and no end.
    """
    if module == "werkpool":
        return await _werkpool_burst(module, handler, items, concurrency)
    create_future = asyncio.get_running_loop().create_future
    calls: deque[Any] = deque()

    async def work() -> None:
        while calls:
            function, future = calls.popleft()
            try:
                value = await function()
            except BaseException as error:  # noqa: BLE001 - whoever awaits it is told
                future.set_exception(error)
            else:
                future.set_result(value)

    futures: list[asyncio.Future[Any]] = []
    for item in items:
        future = create_future()
        calls.append((partial(handler, item), future))
        futures.append(future)
    workers = [asyncio.create_task(work()) for _ in range(concurrency)]
    done = len([await future for future in futures])
    await asyncio.gather(*workers)
    return done


async def _werkpool_alone(module: str, handler: Handler, items: Iterable[int], concurrency: int) -> int:
    done = 0
    async with importlib.import_module(module).worker_pool(size=concurrency) as pool:
        for item in items:
            await pool.run(partial(handler, item))
            done += 1
    return done


async def _aqueue_flat(module: str, handler: Handler, items: Iterable[int], concurrency: int) -> int:
    library = importlib.import_module(module)
    done = 0

    class Work(library.Item):  # type: ignore[misc, name-defined]
        def __init__(self, item: int) -> None:
            super().__init__()
            self.item = item

        async def process(self) -> None:
            nonlocal done
            await handler(self.item)
            done += 1

    initial = [Work(item) for item in items]
    await library.async_run_queue(initial_items=initial, num_workers=concurrency, visualize=False)
    return done


async def _aqueue_tree(
    module: str, handler: Handler, items: Iterable[int], concurrency: int, order: str = "lifo"
) -> int:
    library = importlib.import_module(module)
    number = len(list(items))
    wide = (max(1, number // FANOUT), FANOUT)

    class Node(library.Item):  # type: ignore[misc, name-defined]
        def __init__(self, level: int) -> None:
            super().__init__()
            self.level = level

        async def process(self) -> None:
            await handler(self.level)
            if self.level < len(wide):
                for _ in range(wide[self.level]):
                    self.enqueue(Node(self.level + 1))

        async def after_children_processed(self) -> None:
            """Be called."""

    await library.async_run_queue(
        initial_items=[Node(0)], num_workers=concurrency, order=order, visualize=False
    )
    return number


WORKLOADS: dict[str, tuple[str, Any, bool, dict[str, Any]]] = {
    "aqute: a batch": ("aqute", _aqute_batch, True, {}),
    "aqute: a stream": ("aqute", _aqute_stream, True, {}),
    "aqute: a timeout for each": ("aqute", _aqute_batch, False, {"task_timeout_seconds": 30}),
    "aqute: tasks added by hand": ("aqute", _aqute_tasks, False, {}),
    "werkpool: a burst": ("werkpool", _werkpool_burst, True, {}),
    "werkpool: a burst, by hand instead": ("werkpool", _by_hand, False, {}),
    "werkpool: a timeout for each": ("werkpool", _werkpool_burst, False, {"timeout": 30}),
    "werkpool: without a size": ("werkpool", _werkpool_burst, False, {"any_size": True}),
    "werkpool: under a rate": ("werkpool", _werkpool_burst, False, {"rate": 1_000_000}),
    "werkpool: one at a time": ("werkpool", _werkpool_alone, False, {}),
    "aqueue: initial items": ("aqueue", _aqueue_flat, True, {}),
    "aqueue: a tree, depth first": ("aqueue", _aqueue_tree, True, {}),
    "aqueue: a tree, breadth first": ("aqueue", _aqueue_tree, True, {"order": "fifo"}),
}
"""What is run: by whose calls, by what, whether it is to be many times faster, and with which options."""


async def run(handler: Handler, items: Iterable[int], concurrency: int, *, workload: str, ours: bool) -> int:
    """Run a workload."""
    library, function, _, options = WORKLOADS[workload]
    module = f"qanat.compat.{library}" if ours else library
    done: int = await function(module, handler, items, concurrency, **options)
    return done


ways = {
    f"{workload}{', ours' if ours else ''}": partial(run, workload=workload, ours=ours)
    for workload in WORKLOADS
    for ours in (False, True)
}


def __getattr__(name: str) -> Any:
    """Return a way by its name, for a process that measures."""
    if name not in ways:
        raise AttributeError(name)
    return ways[name]
