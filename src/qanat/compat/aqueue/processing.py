"""aqueue's runs, each a `stream` of items that spawn others."""

from __future__ import annotations

import asyncio
import sys
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import anyio

import qanat
from qanat import JobCancelledError
from qanat.compat.aqueue.queue import Item, Ordering, check_item, enqueue

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from qanat import Children, Job, Outcome, OutcomeStream

AsyncBackend: TypeAlias = Literal["trio", "asyncio"]

ORDERS: dict[str, Ordering] = {
    "fifo": "fifo", "queue": "fifo", "lifo": "lifo", "stack": "lifo", "priority": "priority"
}  # fmt: skip
"""The orders, by the names that they have had."""


@dataclass(frozen=True, kw_only=True)
class VisOptions:
    """How a run is shown.

    Attributes:
        console: Where; None is standard error.
    """

    console: Console | None = None


async def async_run_queue(
    *,
    initial_items: Iterable[Item],
    num_workers: int = 5,
    order: Ordering = "lifo",
    graceful_ctrl_c: bool = True,
    visualize: bool | VisOptions = True,
    queue_type_name: str | None = None,
) -> None:
    """Process items and all that stems from them, on asyncio or trio.

    The first item that fails cancels the rest, and its error is raised.

    Args:
        initial_items: The items to begin with.
        num_workers: How many are processed at once; at least 1.
        order: "lifo" goes deep first, "fifo" broad, "priority" by the items' `priority`.
        graceful_ctrl_c: Whether a cancelled run lets running items end, and what then comes after
            trees that are done; False cancels them.
        visualize: Whether to show the run, on a terminal; with options that name a console, there.
        queue_type_name: The order by an older name: "queue", "stack" or "priority".

    Raises:
        KeyError: If the order is none of these.
        TypeError: If an item has no `process`.
        ValueError: If `num_workers` is less than 1.
        BaseException: The error of the first item that failed.
    """
    name = order if queue_type_name is None else queue_type_name
    if name not in ORDERS:
        raise KeyError(f"order must be one of {', '.join(ORDERS)}, got {name!r}")
    if not isinstance(cast("object", num_workers), int) or num_workers < 1:
        raise ValueError(f"num_workers must be a whole number of at least 1, got {num_workers!r}")
    items = list(initial_items)
    for item in items:
        check_item(item)
    console = visualize.console if isinstance(visualize, VisOptions) else None
    run = _Run()
    stream = qanat.stream(
        run.process, items, only_failed=True,
        concurrency=num_workers,
        order=ORDERS[name],
        priority=_priority_of if ORDERS[name] == "priority" else None,
        progress=console or (bool(visualize) and sys.stderr.isatty()),
    )  # fmt: skip
    async with stream as failures:
        try:
            await _raise_first(failures)
        except (anyio.get_cancelled_exc_class(), KeyboardInterrupt):
            if graceful_ctrl_c:
                run.stopping = True
                with anyio.CancelScope(shield=True):
                    async for _ in failures:
                        pass
            raise


async def _raise_first(failures: OutcomeStream[Any, None]) -> None:
    async for failed in failures:
        raise _error_of(failed)


def _error_of(failed: Outcome[Any, Any]) -> BaseException:
    error = failed.error
    if error is None or isinstance(error, asyncio.CancelledError):
        # Raised as it is, it would be taken for the cancellation of the run.
        cancelled = JobCancelledError(f"{failed.item!r} awaited something that was cancelled elsewhere")
        cancelled.__cause__ = error
        return cancelled
    return error


def run_queue(
    *,
    initial_items: Iterable[Item],
    num_workers: int = 5,
    order: Ordering = "lifo",
    graceful_ctrl_c: bool = True,
    visualize: bool | VisOptions = True,
    async_backend: AsyncBackend = "asyncio",
    queue_type_name: str | None = None,
) -> None:
    """Process items and all that stems from them, from synchronous code.

    Args:
        initial_items: The items to begin with.
        num_workers: How many are processed at once; at least 1.
        order: "lifo" goes deep first, "fifo" broad, "priority" by the items' `priority`.
        graceful_ctrl_c: Whether Ctrl-C lets running items end, and what then comes after trees that are
            done; False cancels them.
        visualize: Whether to show the run, on a terminal; with options that name a console, there.
        async_backend: The event loop: "asyncio" or "trio".
        queue_type_name: The order by an older name: "queue", "stack" or "priority".

    Raises:
        KeyboardInterrupt: If Ctrl-C stopped it.
        BaseException: As `async_run_queue`.
    """
    anyio.run(
        partial(
            async_run_queue,
            initial_items=initial_items,
            num_workers=num_workers,
            order=order,
            graceful_ctrl_c=graceful_ctrl_c,
            visualize=visualize,
            queue_type_name=queue_type_name,
        ),
        backend=async_backend,
    )


class _Run:
    """The handler of a run.

    Attributes:
        stopping: Whether items that have not begun are left out.
    """

    def __init__(self) -> None:
        self.stopping = False
        self._cut: set[int] = set()
        self._kinds: dict[type[Any], _Kind] = {}

    async def process(self, item: Any) -> None:
        """Process one item."""
        if self.stopping:
            self._cut_off(item)
            return
        try:
            kind = self._kinds[item.__class__]
        except KeyError:
            kind = self._kinds[item.__class__] = _kind_of(item.__class__)
        if kind.is_usual:
            # Its job is looked up by those alone who enqueue or say something: leaves do neither, and that
            # takes 180 ns where this takes 40. Not where they call from, which may be a thread or another
            # item's job.
            item._job = copy_context()
            try:
                await item.process()
            finally:
                item._job = None
        else:
            await self._call_unusual(item, kind)
        if kind.has_after:
            if getattr(item, "_has_children", False):
                qanat.current_job().after_children(self._after(item))
            else:
                await item.after_children_processed()

    async def _call_unusual(self, item: Any, kind: _Kind) -> None:
        """Call the `process` of an item that is of the older form, a generator or no `Item`."""
        job = qanat.current_job()
        if kind.is_item:
            item._job = job
        try:
            work = item.process(*_calls_of(job, item)) if kind.is_told else item.process()
            if hasattr(work, "__aiter__"):
                async for child in work:
                    enqueue(job, item, child)
            else:
                await work
        finally:
            if kind.is_item:
                item._job = None

    def _cut_off(self, item: Any) -> None:
        """Keep that nothing comes after the trees that an item belongs to."""
        while item is not None and id(item) not in self._cut:
            self._cut.add(id(item))
            item = getattr(item, "parent", None)

    def _after(self, item: Any) -> Any:
        async def after(_children: Children[Any]) -> None:
            if id(item) not in self._cut:
                await item.after_children_processed()

        return after


def _calls_of(job: Job[Any], item: Any) -> tuple[Any, Any]:
    """Return what an item of the older form is called with."""

    def enqueue_all(*children: Any) -> None:
        for child in children:
            enqueue(job, item, child)

    return enqueue_all, job.describe


@dataclass(frozen=True, slots=True)
class _Kind:
    """How items of a class are processed.

    Attributes:
        is_usual: Whether they are an `Item` whose `process` is a coroutine function without arguments.
        is_item: Whether they have methods of `Item`, which need to know their job.
        is_told: Whether `process` takes `enqueue` and `set_desc`.
        has_after: Whether something comes after their children.
    """

    is_usual: bool
    is_item: bool
    is_told: bool
    has_after: bool


def _kind_of(cls: type[Any]) -> _Kind:
    """Return how items of a class are processed."""
    after = getattr(cls, "after_children_processed", None)
    is_item, is_told = issubclass(cls, Item), len(signature(cls.process).parameters) > 1
    return _Kind(
        is_usual=is_item and not is_told and iscoroutinefunction(cls.process),
        is_item=is_item,
        is_told=is_told,
        has_after=after is not None and after is not Item.after_children_processed,
    )


def _priority_of(item: Any) -> float:
    return getattr(item, "priority", 0)
