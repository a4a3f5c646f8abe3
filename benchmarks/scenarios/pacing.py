"""How well a rate is kept, and what waiting for it costs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import qanat
from benchmarks.child import run_on
from benchmarks.contenders.ours import paced
from benchmarks.crew import Child, Contender, MeasureError
from benchmarks.figures import median, most_in_window, share_of_ideal
from benchmarks.report import Table, Wanted, number
from benchmarks.work import no_op

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.crew import Plan
    from benchmarks.work import Handler

    Found = dict[str, list[dict[str, float]]]

RATE = 200
"""Starts a second."""


async def _windowed(handler: Handler, items: range) -> Any:
    return await paced(handler, items, f"{RATE}/s")


async def _evenly(handler: Handler, items: range) -> Any:
    return await paced(handler, items, f"{RATE}/s evenly")


async def _aiometer(handler: Handler, items: range) -> Any:
    from aiometer import amap

    async with amap(handler, list(items), max_at_once=50, max_per_second=RATE) as results:
        return [result async for result in results]


async def _aqute(handler: Handler, items: range) -> Any:
    from aqute import Aqute
    from aqute.ratelimiter import SlidingRateLimiter

    return await Aqute(handler, 50, rate_limiter=SlidingRateLimiter(RATE, 1)).process_all(items)


WAYS: dict[str, Callable[[Handler, range], Awaitable[Any]]] = {
    "qanat, 200/s": _windowed,
    "qanat, 200/s evenly": _evenly,
    "aiometer, max_per_second": _aiometer,
    "aqute, SlidingRateLimiter": _aqute,
}
WAITED_FOR = "qanat, 200/s"
"""The one that is promised to keep the pace: a spacing never makes up for a start that came late."""
IN_BURSTS = (WAITED_FOR, "aqute, SlidingRateLimiter")
"""Those that start a window's worth at once: the last burst comes one second before the others' end."""


APART = 0.3
"""Seconds between the beginnings of those that are measured together, so that no two bursts meet."""


def keep_rate(way: str, seconds: int) -> dict[str, float]:
    """Run instant handlers at the rate, and look at the clock inside of them."""
    items = RATE * seconds
    ideal = seconds - 1.0 if way in IN_BURSTS else (items - 1) / RATE
    starts: list[float] = []

    async def handler(item: int) -> int:
        starts.append(time.monotonic())
        return item

    async def timed() -> tuple[float, float]:
        await WAYS[way](no_op, range(10))
        cpu, wall = time.process_time(), time.perf_counter()
        await WAYS[way](handler, range(items))
        return time.process_time() - cpu, time.perf_counter() - wall

    cpu, wall = run_on("asyncio", timed)
    assert len(starts) == items
    return {
        "share": share_of_ideal(starts, ideal), "most": most_in_window(starts, 1.0), "busy": cpu / wall,
    }  # fmt: skip


def idle(seconds: float) -> dict[str, float]:
    """Keep a Pool open that has nothing to do."""

    async def waiting() -> float:
        async with qanat.Pool(no_op, rate=f"{RATE}/s") as pool:
            await pool.submit(0)
            await asyncio.sleep(0.1)
            cpu, wall = time.process_time(), time.perf_counter()
            await asyncio.sleep(seconds)
            return (time.process_time() - cpu) / (time.perf_counter() - wall)

    return {"busy": run_on("asyncio", waiting)}


def _in_waves(plan: Plan, waves: Sequence[Sequence[Contender]]) -> tuple[Found, dict[str, str]]:
    """Measure a wave at the same time, a little apart: they do next to nothing but wait."""
    found: Found = {}
    failed: dict[str, str] = {}
    for _ in range(plan.runs):
        for wave in waves:
            children = [Child(contender) for contender in wave]
            try:
                for child in children:
                    child.send()
                    time.sleep(APART)
                for child in children:
                    try:
                        found.setdefault(child.contender.name, []).append(child.receive())
                    except MeasureError as error:
                        failed[child.contender.name] = str(error)
            finally:
                for child in children:
                    child.__exit__(None, None, None)
    return found, failed


def pacing(plan: Plan) -> list[Table]:
    """Measure those that start in bursts, then those that start evenly, which keep a core busier."""
    seconds = int(plan.seconds)
    bursts, evenly = (
        [
            Contender(way, {"way": way, "seconds": seconds}, f"{__name__}:keep_rate")
            for way in WAYS
            if (way in IN_BURSTS) is in_bursts
        ]
        for in_bursts in (True, False)
    )
    bursts.append(Contender("qanat.Pool, idle", {"seconds": seconds}, f"{__name__}:idle"))
    found, failed = _in_waves(plan, (bursts, evenly))
    rows: list[list[str]] = []
    wanted: list[Wanted] = []
    for name, runs in found.items():
        busy = median(run["busy"] for run in runs) * 100
        if "share" not in runs[0]:
            rows.append([name, "", "", f"{number(busy)} %"])
            wanted.append(Wanted("an idle Pool keeps a core busy for", busy, most=0.5, unit=" %"))
            continue
        share = median(run["share"] for run in runs) * 100
        most = max(run["most"] for run in runs)
        rows.append([name, f"{number(share)} %", f"{most:.0f}", f"{number(busy)} %"])
        if name == WAITED_FOR:
            wanted += [
                Wanted(f"{name}: share of the ideal pace", share, least=98, unit=" %"),
                Wanted(f"{name}: starts in any second", most, most=RATE),
                Wanted(f"{name}: a core is busy for", busy, most=5, unit=" %"),
            ]
    about = (
        f"{RATE} starts a second for {seconds} s with instant handlers, asyncio, {plan.runs} runs in fresh "
        "processes: medians, and the most starts in any second of all runs, as seen inside the handlers. "
        "A machine that stops a process for more than 5 ms just before a handler makes it one more."
    )
    columns = ("", "share of the ideal", "most starts in a second", "CPU share of a core")
    lines = [f"{name} ({why})" for name, why in failed.items()]
    return [Table("A rate", about, columns, rows, wanted, lines)]
