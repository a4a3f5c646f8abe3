"""How late a timer is beside a run whose handlers never wait."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import qanat
from benchmarks.child import named, run_on
from benchmarks.crew import Child, Contender, MeasureError
from benchmarks.figures import median
from benchmarks.report import Table, Wanted, number
from benchmarks.scenarios.overhead import FLOORS, OURS
from benchmarks.work import no_op

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.crew import Plan
    from benchmarks.work import Handler

TICK = 0.010
"""Seconds between two rings of the timer."""

WAYS = (
    ("asyncio, nothing beside", None, "asyncio"),
    ("asyncio, qanat.collect", f"{__name__}:collect_alone", "asyncio"),
    ("asyncio, qanat.stream", f"{OURS}:stream", "asyncio"),
    ("asyncio, asyncio.Queue loop", f"{FLOORS}:queue_loop", "asyncio"),
    ("trio, nothing beside", None, "trio"),
    ("trio, qanat.collect", f"{__name__}:collect_alone", "trio"),
    ("trio, qanat.stream", f"{OURS}:stream", "trio"),
)


async def collect_alone(handler: Handler, items: Iterable[int], concurrency: int) -> object:
    """Gather every outcome, and do nothing with them that would keep the loop, not even free them."""
    return await qanat.collect(handler, items, concurrency=concurrency)


def lateness(way: str | None, items: int, backend: str) -> dict[str, float]:
    """Return the latest that a timer was late while a way ran no-op handlers over items."""
    import anyio

    late: list[float] = []
    kept: list[object] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK
            await anyio.sleep(TICK)
            late.append(time.perf_counter() - due)

    async def watched(number_: int) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            await anyio.sleep(2 * TICK)
            late.clear()
            if way is None:
                await anyio.sleep(0.3)
            else:
                run: Any = named(way)
                kept.append(await run(no_op, range(number_), 10))
            # What rings after the end was due before it.
            await anyio.sleep(2 * TICK)
            group.cancel_scope.cancel()

    run_on(backend, watched, items // 10)
    late.clear()
    run_on(backend, watched, items)
    return {"late": max(late)}


def timer(plan: Plan) -> list[Table]:
    """Measure each way in turns."""
    items = plan.items * 10
    children = [
        Child(Contender(name, {"way": way, "items": items, "backend": backend}, f"{__name__}:lateness"))
        for name, way, backend in WAYS
    ]
    found: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    try:
        for _ in range(plan.runs):
            for child in children:
                try:
                    found.setdefault(child.contender.name, []).append(child.ask()["late"] * 1000)
                except MeasureError as error:
                    failed[child.contender.name] = str(error)
    finally:
        for child in children:
            child.__exit__(None, None, None)
    rows = [[name, number(median(late)), number(max(late))] for name, late in found.items()]
    wanted = [
        Wanted(f"the latest of a 10 ms timer, {name},", median(late), most=5, unit=" ms")
        for name, late in found.items()
        if "qanat" in name
    ]
    about = (
        f"A timer of 10 ms beside {items:,} no-op items, 10 at once, {plan.runs} interleaved runs: "
        "the latest ring of a run, its median and its worst, which has Python's garbage collection in it."
    )
    lines = [f"{name} ({why})" for name, why in failed.items()]
    return [
        Table("A timer beside", about, ("", "latest ms, median", "latest ms, worst"), rows, wanted, lines)
    ]
