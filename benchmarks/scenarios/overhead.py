"""What an item costs that does nothing, or nothing but wait for its turn: ours, floors and peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.crew import Contender, in_turns
from benchmarks.figures import median, ratio
from benchmarks.report import Table, Wanted, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.crew import Plan
    from benchmarks.figures import Sample

FLOORS = "benchmarks.contenders.floors"
PEERS = "benchmarks.contenders.peers"
OURS = "benchmarks.contenders.ours"

DEQUE = "deque loop (bare)"
QUEUE = "asyncio.Queue loop"
COLLECT = "qanat.collect"

WAYS = (
    (DEQUE, f"{FLOORS}:deque_loop", 1),
    (QUEUE, f"{FLOORS}:queue_loop", 1),
    ("TaskGroup + Semaphore", f"{FLOORS}:task_group", 1),
    (COLLECT, f"{OURS}:collect", 1),
    ("qanat.map", f"{OURS}:map_values", 1),
    ("qanat.stream", f"{OURS}:stream", 1),
    ("qanat.Pool", f"{OURS}:pool", 1),
    ("qanat.Pool, handles awaited", f"{OURS}:pool_handles", 1),
    ("asyncio-pool", f"{PEERS}:asyncio_pool", 1),
    ("aqute", f"{PEERS}:aqute", 1),
    ("aiometer", f"{PEERS}:aiometer", 4),
    ("aiostream", f"{PEERS}:aiostream", 4),
)
"""Who takes part on the Python that runs the benchmark; who is slow gets that part of the items."""

NEWER_WAYS = (
    (DEQUE, f"{FLOORS}:deque_loop", 1),
    (QUEUE, f"{FLOORS}:queue_loop", 1),
    (COLLECT, f"{OURS}:collect", 1),
    ("werkpool", f"{PEERS}:werkpool", 1),
    ("aqueue", f"{PEERS}:aqueue", 8),
)
"""Who takes part on a newer Python: the peers that need one, and what they are compared with there."""

COLUMNS = ("", "wall us", "CPU us", "x deque loop", "x Queue loop", "x collect")


def contenders(plan: Plan, handler: str, concurrency: int, python: str | None = None) -> list[Contender]:
    """Return who takes part, on this Python or on a newer one."""
    ways = WAYS if python is None else NEWER_WAYS
    return [
        Contender(
            name,
            {"way": way, "handler": handler, "items": plan.items // part, "concurrency": concurrency},
            python=python,
        )
        for name, way, part in ways
    ]


def rows(samples: dict[str, list[Sample]], bases: Sequence[str]) -> list[list[str]]:
    """Return the cells: microseconds an item, and the ratios to the bases."""
    return [
        [
            name,
            number(median(run.wall for run in runs) * 1e6),
            number(median(run.cpu for run in runs) * 1e6),
            *(number(ratio(runs, samples[base])) if base in samples else "" for base in bases),
        ]
        for name, runs in samples.items()
    ]


def overhead(plan: Plan, handler: str, concurrency: int) -> list[Table]:
    """Measure one handler, on this Python and on the newer one."""
    about = (
        f"{plan.items:,} items, handler `{handler}`, concurrency {concurrency:,}, asyncio, "
        f"median of {plan.runs} interleaved runs; ratios by CPU time."
    )
    samples, failed = in_turns(contenders(plan, handler, concurrency), plan.runs)
    wanted: list[Wanted] = []
    if {DEQUE, QUEUE, COLLECT} <= samples.keys():
        if handler == "no-op":
            figure = ratio(samples[COLLECT], samples[QUEUE])
            wanted.append(
                Wanted("collect on no-op, against the asyncio.Queue loop,", figure, most=1.5, unit=" x")
            )
        else:
            figure = ratio(samples[COLLECT], samples[DEQUE])
            wanted.append(
                Wanted("collect on sleep(0), against the bare deque loop,", figure, most=1.8, unit=" x")
            )
    if plan.newer is None:
        failed.append("werkpool and aqueue, which need Python 3.12 (`make bench NEWER=python3.12`)")
    bases = (DEQUE, QUEUE, COLLECT)
    title = f"An item of {handler}, {concurrency} at once"
    tables = [Table(title, about, COLUMNS, rows(samples, bases), wanted, failed)]
    if plan.newer is None:
        return tables
    samples, failed = in_turns(contenders(plan, handler, concurrency, plan.newer), plan.runs)
    title = f"An item of {handler}, on Python {plan.newer_version}"
    about = "The same for the peers that need a newer Python, with the floors and qanat on that Python."
    tables.append(Table(title, about, COLUMNS, rows(samples, bases), (), failed))
    return tables


def no_op(plan: Plan) -> list[Table]:
    """Measure handlers that return at once."""
    return overhead(plan, "no-op", 10)


def pause(plan: Plan) -> list[Table]:
    """Measure handlers that let the loop run once."""
    return overhead(plan, "sleep(0)", 100)
