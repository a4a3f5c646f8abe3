"""What a call of a plain function in a thread costs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import qanat
from benchmarks import threads
from benchmarks.child import run_on
from benchmarks.crew import Contender, in_turns
from benchmarks.report import Table
from benchmarks.scenarios.overhead import rows

if TYPE_CHECKING:
    from benchmarks.crew import Plan

OURS = "qanat.collect of a plain function"
BASES = ("anyio.to_thread", "run_in_executor", OURS)


async def collected(calls: int) -> float:
    """Return the seconds that collect takes with a plain function."""
    began = time.perf_counter()
    outcomes = await qanat.collect(threads.nothing, range(calls), concurrency=threads.AT_ONCE)
    assert len(outcomes.values()) == calls
    return time.perf_counter() - began


def time_calls(way: str, calls: int, warm: bool) -> dict[str, float]:
    """Time one way of calling (in the process that measures)."""
    function = {
        "collect": collected, "threads": threads.ours, "anyio": threads.anyios, "executor": threads.loops
    }[way]  # fmt: skip
    calls = calls if warm else calls // 10
    cpu = time.process_time()
    wall: float = run_on("asyncio", function, calls)
    return {"wall": wall / calls, "cpu": (time.process_time() - cpu) / calls}


def calls_in_threads(plan: Plan) -> list[Table]:
    """Measure calls of a function that does nothing."""
    ways = (
        ("anyio.to_thread", "anyio"), ("run_in_executor", "executor"),
        ("qanat's threads alone", "threads"), (OURS, "collect"),
    )  # fmt: skip
    calls = plan.items // 4
    probe = f"{__name__}:time_calls"
    samples, failed = in_turns(
        [Contender(name, {"way": way, "calls": calls}, probe) for name, way in ways], plan.runs
    )
    about = (
        f"{calls:,} calls of a function that does nothing, 10 at once, asyncio, median of {plan.runs} "
        "interleaved runs; CPU time is that of all threads together."
    )
    columns = ("", "wall us", "CPU us", "x anyio", "x executor", "x collect")
    return [Table("Plain functions in threads", about, columns, rows(samples, BASES), (), failed)]
