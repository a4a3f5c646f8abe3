"""Measure trees of jobs: three levels with callbacks, beside a flat run of as many and floors by hand.

A part of `make bench` (`make bench ARGS="trees"`). Each way takes an item count and grows a tree of about
that many leaves, a hundred below each of its last parents; what a node costs above a flat run is by
processor time, within one round.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import qanat
from benchmarks.crew import Contender, in_turns
from benchmarks.figures import median
from benchmarks.report import Table, Wanted, number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.crew import Plan
    from benchmarks.work import Handler

FANOUT = 100
ABOVE = 3.0
"""Microseconds that a node of a tree may cost above an item of a flat run."""
FLAT, TREE = "qanat.collect, flat", "qanat, a tree with callbacks"


def widths(items: int) -> tuple[int, int, int]:
    """Return how many children a node has on each level, for so many leaves at least."""
    return max(1, -(-items // FANOUT**2)), FANOUT, FANOUT


def nodes(items: int) -> int:
    """Return how many jobs a tree of so many leaves has."""
    return 1 + sum(itertools.accumulate(widths(items), int.__mul__))


async def flat(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Run as many jobs as the tree has, none below another; what they do is what a leaf does."""
    number = len(list(items))
    wide = widths(number)

    async def node(level: int) -> int:
        if level < len(wide):
            raise AssertionError
        return await handler(level)

    await qanat.collect(node, [len(wide)] * nodes(number), concurrency=concurrency)
    return number


async def tree(handler: Handler, items: Iterable[int], concurrency: int, order: Any = "fifo") -> int:
    """Spawn a tree, each parent with a callback."""
    number = len(list(items))
    wide = widths(number)

    async def node(level: int) -> int:
        if level < len(wide):
            job = qanat.current_job()
            for _ in range(wide[level]):
                job.spawn(level + 1)
            job.after_children(called)
        return await handler(level)

    async def called(children: qanat.Children[int]) -> int:
        return children.done

    outcomes = await qanat.collect(node, [0], concurrency=concurrency, order=order)
    assert len(outcomes) == nodes(number)
    return number


async def tree_lifo(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Spawn a tree depth first."""
    return await tree(handler, items, concurrency, "lifo")


async def task_groups(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Start a task for each node, in a task group of its parent, under one semaphore."""
    number = len(list(items))
    wide = widths(number)
    semaphore = asyncio.Semaphore(concurrency)

    async def node(level: int) -> None:
        async with semaphore:
            await handler(level)
        if level < len(wide):
            async with asyncio.TaskGroup() as group:
                for _ in range(wide[level]):
                    group.create_task(node(level + 1))

    await node(0)
    return number


async def aqueue(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use aqueue, first in first out and without its live view."""
    import aqueue as library

    number = len(list(items))
    wide = widths(number)

    class Node(library.Item):  # type: ignore[misc]
        def __init__(self, level: int) -> None:
            super().__init__()
            self.level = level

        async def process(self) -> Any:
            await handler(self.level)
            if self.level < len(wide):
                for _ in range(wide[self.level]):
                    yield Node(self.level + 1)

        async def after_children_processed(self) -> None:
            """Be called."""

    await library.async_run_queue(
        initial_items=[Node(0)], num_workers=concurrency, order="fifo", visualize=False
    )
    return number


WAYS = (
    (FLAT, "flat"),
    (TREE, "tree"),
    ("qanat, depth first", "tree_lifo"),
    ("a TaskGroup by hand", "task_groups"),
)


def trees(plan: Plan) -> list[Table]:
    """Measure trees of about 100,000 leaves."""
    items = 10_000 if plan.quick else 100_000
    arguments = {"handler": "no-op", "items": items, "concurrency": 10}
    contenders = [Contender(name, {**arguments, "way": f"benchmarks.trees:{way}"}) for name, way in WAYS]
    if plan.newer is not None:
        way = {**arguments, "way": "benchmarks.trees:aqueue"}
        contenders.append(Contender("aqueue", way, python=plan.newer))
    samples, failed = in_turns(contenders, plan.runs)
    # What was timed is for each leaf; the parents are some more.
    scale = 1e6 * items / nodes(items)
    rows: list[list[str]] = []
    wanted: list[Wanted] = []
    for name, runs in samples.items():
        above = ""
        if FLAT in samples:
            extra = median(
                (run.cpu - base.cpu) * scale for run, base in zip(runs, samples[FLAT], strict=True)
            )
            above = number(extra)
            if name == TREE:
                wanted.append(Wanted("a node above an item of a flat run", extra, most=ABOVE, unit=" us"))
        rows.append([name, number(median(run.cpu for run in runs) * scale), above])
    about = f"{nodes(items):,} nodes in three levels, no-op, asyncio, median of {plan.runs} interleaved runs."
    return [Table("Trees", about, ("", "CPU us a node", "above flat"), rows, wanted, failed)]
