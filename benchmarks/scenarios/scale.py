"""Whether an item costs the same among many at once, and among very many in all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.crew import Contender, in_turns
from benchmarks.figures import median, ratio
from benchmarks.report import Table, Wanted, number
from benchmarks.scenarios.overhead import FLOORS, OURS

if TYPE_CHECKING:
    from benchmarks.crew import Plan

WAYS = (
    ("deque loop", f"{FLOORS}:deque_loop"),
    ("asyncio.Queue loop", f"{FLOORS}:queue_loop"),
    ("qanat.collect", f"{OURS}:collect"),
    ("qanat.stream", f"{OURS}:stream"),
)
HANDLERS = ("no-op", "sleep(0)")
FLAT = 1.25
"""How many times dearer an item may be at most, for the cost to be called flat."""


def many_at_once(plan: Plan) -> list[Table]:
    """Measure concurrency 10 beside concurrency 1,000, with enough items for each of the 1,000."""
    items = 20_000 if plan.quick else 50_000
    contenders = [
        Contender(
            f"{name}, {handler}, {concurrency}",
            {"way": way, "handler": handler, "items": items, "concurrency": concurrency},
        )
        for name, way in WAYS
        for handler in HANDLERS
        for concurrency in (10, 1000)
    ]
    samples, failed = in_turns(contenders, plan.runs)
    rows: list[list[str]] = []
    wanted: list[Wanted] = []
    for name, _ in WAYS:
        for handler in HANDLERS:
            few, many = (samples.get(f"{name}, {handler}, {concurrency}") for concurrency in (10, 1000))
            if few is None or many is None:
                continue
            times = ratio(many, few)
            cells = [number(median(run.cpu for run in runs) * 1e6) for runs in (few, many)]
            rows.append([f"{name}, {handler}", *cells, number(times)])
            if name == "qanat.collect":
                what = f"collect of 1,000 at once, against 10, {handler},"
                wanted.append(Wanted(what, times, most=FLAT, unit=" x"))
    about = f"{items:,} items, asyncio, median of {plan.runs} interleaved runs."
    return [
        Table(
            "Many at once", about, ("", "CPU us, 10 at once", "CPU us, 1,000 at once", "ratio"),
            rows, wanted, failed,
        )
    ]  # fmt: skip


def many_in_all(plan: Plan) -> list[Table]:
    """Measure ever more items."""
    sizes = [plan.many // 100, plan.many // 10, plan.many]
    contenders = [
        Contender(
            f"{handler}, {size}",
            {"way": f"{OURS}:collect", "handler": handler, "items": size, "concurrency": 10},
        )
        for handler in HANDLERS
        for size in sizes
    ]
    samples, failed = in_turns(contenders, plan.runs)
    rows: list[list[str]] = []
    wanted: list[Wanted] = []
    for handler in HANDLERS:
        found = [samples.get(f"{handler}, {size}") for size in sizes]
        runs = [each for each in found if each is not None]
        if len(runs) < len(sizes):
            continue
        times = ratio(runs[-1], runs[0])
        cells = [number(median(run.cpu for run in each) * 1e6) for each in runs]
        rows.append([f"qanat.collect, {handler}", *cells, number(times)])
        what = f"collect of {sizes[-1]:,} items, against {sizes[0]:,}, {handler},"
        wanted.append(Wanted(what, times, most=FLAT, unit=" x"))
    columns = ("CPU us an item of", *(f"{size:,}" for size in sizes), "ratio")
    about = f"Concurrency 10, asyncio, median of {plan.runs} interleaved runs."
    return [Table("Many in all", about, columns, rows, wanted, failed)]
