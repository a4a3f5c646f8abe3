"""Measure trees of jobs with callbacks, beside a flat run of as many and floors by hand.

A part of `make bench` (`make bench ARGS="trees"`). Each way takes an item count and grows a tree of about
that many leaves: in three levels, a hundred below each of its last parents; or a narrow one, two below each,
where every other job is a parent. What a node costs above a flat run is by processor time, within one round.
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


def widths(items: int, narrow: bool = False) -> tuple[int, ...]:
    """Return how many children a node has on each level, for so many leaves at least."""
    if narrow:
        return (2,) * max(1, (items - 1).bit_length())
    return max(1, -(-items // FANOUT**2)), FANOUT, FANOUT


def nodes(items: int, narrow: bool = False) -> int:
    """Return how many jobs a tree of so many leaves has."""
    return 1 + sum(itertools.accumulate(widths(items, narrow), int.__mul__))


async def flat(handler: Handler, items: Iterable[int], concurrency: int, narrow: bool = False) -> int:
    """Run as many jobs as the tree has, none below another; what they do is what a leaf does."""
    number = len(list(items))
    wide = widths(number, narrow)

    async def node(level: int) -> int:
        if level < len(wide):
            raise AssertionError
        return await handler(level)

    await qanat.collect(node, [len(wide)] * nodes(number, narrow), concurrency=concurrency)
    return number


async def tree(
    handler: Handler, items: Iterable[int], concurrency: int, order: Any = "fifo", narrow: bool = False
) -> int:
    """Spawn a tree, each parent with a callback."""
    number = len(list(items))
    wide = widths(number, narrow)

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
    assert len(outcomes) == nodes(number, narrow)
    return number


async def tree_lifo(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Spawn a tree depth first."""
    return await tree(handler, items, concurrency, "lifo")


async def task_groups(handler: Handler, items: Iterable[int], concurrency: int, narrow: bool = False) -> int:
    """Start a task for each node, in a task group of its parent, under one semaphore."""
    number = len(list(items))
    wide = widths(number, narrow)
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


async def flat_beside_narrow(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Run as many jobs as the narrow tree has."""
    return await flat(handler, items, concurrency, narrow=True)


async def narrow_tree(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Spawn two below each."""
    return await tree(handler, items, concurrency, narrow=True)


async def narrow_tree_lifo(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Spawn two below each, depth first."""
    return await tree(handler, items, concurrency, "lifo", narrow=True)


async def narrow_task_groups(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Start two tasks in each task group."""
    return await task_groups(handler, items, concurrency, narrow=True)


async def aqueue(handler: Handler, items: Iterable[int], concurrency: int) -> int:
    """Use aqueue, first in first out and without its live view."""
    import aqueue as library

    number = len(list(items))
    wide = widths(number)

    class Node(library.Item):  # type: ignore[misc]
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
        initial_items=[Node(0)], num_workers=concurrency, order="fifo", visualize=False
    )
    return number


WAYS = (
    (FLAT, "flat"),
    (TREE, "tree"),
    ("qanat, depth first", "tree_lifo"),
    ("a TaskGroup by hand", "task_groups"),
)
NARROW = (
    (FLAT, "flat_beside_narrow"),
    (TREE, "narrow_tree"),
    ("qanat, depth first", "narrow_tree_lifo"),
    ("a TaskGroup by hand", "narrow_task_groups"),
)


def trees(plan: Plan) -> list[Table]:
    """Measure trees of about 100,000 leaves, and narrow ones of a third."""
    items = 10_000 if plan.quick else 100_000
    newer = {} if plan.newer is None else {"aqueue": ("aqueue", plan.newer)}
    return [
        _table(plan, "Trees", "in three levels", items, nodes(items), WAYS, newer, ABOVE),
        _table(
            plan, "Narrow trees", "two below each", items // 3, nodes(items // 3, narrow=True), NARROW, {}
        ),
    ]


def _table(
    plan: Plan, title: str, shape: str, items: int, count: int, ways: tuple[tuple[str, str], ...],
    newer: dict[str, tuple[str, Any]], most: float | None = None,
) -> Table:  # fmt: skip
    arguments = {"handler": "no-op", "items": items, "concurrency": 10}
    contenders = [Contender(name, {**arguments, "way": f"benchmarks.trees:{way}"}) for name, way in ways]
    contenders += [
        Contender(name, {**arguments, "way": f"benchmarks.trees:{way}"}, python=python)
        for name, (way, python) in newer.items()
    ]
    samples, failed = in_turns(contenders, plan.runs)
    # What was timed is for each leaf; the parents are some more.
    scale = 1e6 * items / count
    rows: list[list[str]] = []
    wanted: list[Wanted] = []
    for name, runs in samples.items():
        above = ""
        if FLAT in samples:
            extra = median(
                (run.cpu - base.cpu) * scale for run, base in zip(runs, samples[FLAT], strict=True)
            )
            above = number(extra)
            if name == TREE and most is not None:
                wanted.append(Wanted("a node above an item of a flat run", extra, most=most, unit=" us"))
        rows.append([name, number(median(run.cpu for run in runs) * scale), above])
    about = f"{count:,} nodes {shape}, no-op, asyncio, median of {plan.runs} interleaved runs."
    return Table(title, about, ("", "CPU us a node", "above flat"), rows, wanted, failed)
