"""How much memory many items take: streamed through, and waiting in a Pool."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING

import psutil

import qanat
from benchmarks.child import run_on
from benchmarks.crew import Child, Contender, MeasureError
from benchmarks.figures import median
from benchmarks.report import Table, Wanted, number
from benchmarks.work import no_op

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.crew import Plan

EVERY = 10_000
"""Items between two looks at the memory while they stream through."""


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    held: int = psutil.Process().memory_info().rss
    return held


def generated(items: int) -> Iterator[int]:
    """Give items that are made as they are asked for."""
    yield from range(items)


def stream_through(items: int) -> dict[str, float]:
    """Stream items from a generator, and return how far the memory rose above the start."""

    async def streamed() -> float:
        async with qanat.stream(no_op, generated(1000)) as outcomes:
            async for _ in outcomes:
                pass
        gc.collect()
        start = most = resident()
        async with qanat.stream(no_op, generated(items)) as outcomes:
            async for outcome in outcomes:
                if not outcome.index % EVERY:
                    most = max(most, resident())
        return max(most, resident()) - start

    return {"bytes": run_on("asyncio", streamed)}


def wait_in_pool(items: int, keep: bool = False, rate: str | None = None) -> dict[str, float]:
    """Submit one and the same item many times, and return the bytes for each that waits.

    Args:
        items: How many times.
        keep: Whether the handles are kept.
        rate: A rate, so that the Pool is waiting for it when the items come.
    """

    async def waiting() -> float:
        async with qanat.Pool(no_op, rate=rate) as pool:
            await pool.submit(0)
            if rate is not None:
                pool.submit(0)
                await asyncio.sleep(0.05)
            gc.collect()
            start = resident()
            before = pool.stats().waiting
            handles: list[object] = []
            # Nothing is awaited, so nothing starts meanwhile.
            for _ in range(items):
                handle = pool.submit(0)
                if keep:
                    handles.append(handle)
            assert pool.stats().waiting == items + before
            held = resident() - start
            handles.clear()
            pool.cancel()
        return held / items

    return {"bytes": run_on("asyncio", waiting)}


def wait_in_queue(items: int) -> dict[str, float]:
    """Put a position and an item into an asyncio.Queue many times."""

    async def waiting() -> float:
        queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        gc.collect()
        start = resident()
        for number_ in range(items):
            queue.put_nowait((number_, 0))
        return (resident() - start) / items

    return {"bytes": run_on("asyncio", waiting)}


def wait_as_tasks(items: int) -> dict[str, float]:
    """Start an asyncio task for each item, none of which has run yet."""

    async def waiting() -> float:
        gc.collect()
        start = resident()
        tasks = [asyncio.create_task(no_op(0)) for _ in range(items)]
        held = resident() - start
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return held / items

    return {"bytes": run_on("asyncio", waiting)}


def memory(plan: Plan) -> list[Table]:
    """Measure both, each run in a fresh process."""
    runs = min(3, plan.runs)
    some, few = plan.many // 5, plan.many // 10
    ways = (
        ("qanat.stream", "stream_through", {"items": plan.many}),
        ("qanat.Pool", "wait_in_pool", {"items": plan.many}),
        ("qanat.Pool that waits for its rate", "wait_in_pool", {"items": some, "rate": "1/h"}),
        ("qanat.Pool, handles kept", "wait_in_pool", {"items": some, "keep": True}),
        ("asyncio.Queue", "wait_in_queue", {"items": some}),
        ("asyncio tasks", "wait_as_tasks", {"items": few}),
    )
    found: dict[str, list[float]] = {}
    failed: list[str] = []
    for _ in range(runs):
        for name, probe, arguments in ways:
            try:
                with Child(Contender(name, arguments, f"{__name__}:{probe}")) as child:
                    found.setdefault(name, []).append(child.ask()["bytes"])
            except MeasureError as error:
                if (line := f"{name} ({error})") not in failed:
                    failed.append(line)
    medians = {name: median(values) for name, values in found.items()}
    wanted: list[Wanted] = []
    rows: list[list[str]] = []
    for name, value in medians.items():
        if name == "qanat.stream":
            rows.append(
                [f"{plan.many:,} items streamed through {name}", f"{number(value / 1e6)} MB above the start"]
            )
            wanted.append(
                Wanted(f"{plan.many:,} items through stream take", value / 1e6, most=20, unit=" MB")
            )
        else:
            rows.append([f"waiting in {name}", f"{number(value)} bytes an item"])
        if name.startswith("qanat.Pool") and "kept" not in name:
            wanted.append(Wanted(f"an item that waits in {name} takes", value, most=300, unit=" bytes"))
    about = (
        f"{plan.many:,} items in stream and in a Pool, fewer elsewhere; resident memory, each run in a fresh "
        f"process, median of {runs} runs; streamed items are made by a generator, waiting ones are one and "
        "the same object."
    )
    return [Table("Memory", about, ("", "memory"), rows, wanted, failed)]
