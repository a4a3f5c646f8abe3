"""The event loops side by side: asyncio, uvloop and trio."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.crew import Contender, in_turns
from benchmarks.figures import median, ratio
from benchmarks.report import Table, Wanted, number
from benchmarks.scenarios.overhead import FLOORS, OURS

if TYPE_CHECKING:
    from benchmarks.crew import Plan

LOOPS = ("asyncio", "uvloop", "trio")
HANDLERS = (("no-op", 10), ("sleep(0)", 100))


def loops(plan: Plan) -> list[Table]:
    """Measure collect on each loop, beside the bare deque loop there."""
    contenders: list[Contender] = []
    for handler, concurrency in HANDLERS:
        for loop in LOOPS:
            usual = {"handler": handler, "items": plan.items, "concurrency": concurrency, "backend": loop}
            floor = f"{FLOORS}:trio_deque_loop" if loop == "trio" else f"{FLOORS}:deque_loop"
            contenders.append(Contender(f"floor, {handler}, {loop}", {"way": floor, **usual}))
            contenders.append(Contender(f"ours, {handler}, {loop}", {"way": f"{OURS}:collect", **usual}))
    samples, failed = in_turns(contenders, plan.runs)
    rows: list[list[str]] = []
    wanted: list[Wanted] = []
    for handler, _ in HANDLERS:
        base = samples.get(f"ours, {handler}, asyncio")
        for loop in LOOPS:
            bare, ours = samples.get(f"floor, {handler}, {loop}"), samples.get(f"ours, {handler}, {loop}")
            if bare is None or ours is None or base is None:
                continue
            times = ratio(ours, base)
            rows.append(
                [
                    f"qanat.collect, {handler}, {loop}",
                    number(median(run.wall for run in ours) * 1e6),
                    number(median(run.cpu for run in ours) * 1e6),
                    number(median(run.cpu for run in bare) * 1e6),
                    number(times),
                ]
            )
            if loop == "trio":
                what = f"collect on trio, against asyncio, {handler},"
                wanted.append(Wanted(what, times, most=1.6, unit=" x"))
    about = (
        f"{plan.items:,} items, no-op with 10 at once and sleep(0) with 100, "
        f"median of {plan.runs} interleaved runs."
    )
    columns = ("", "wall us", "CPU us", "CPU us, deque loop", "x asyncio")
    return [Table("Event loops", about, columns, rows, wanted, failed)]
