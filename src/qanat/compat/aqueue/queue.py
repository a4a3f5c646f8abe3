"""What aqueue processes: items, which enqueue others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextvars import Context
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import qanat

if TYPE_CHECKING:
    from qanat import Job


class Item(ABC):
    """One piece of work, which may enqueue more.

    Subclasses define `process`: a coroutine function without arguments, or of `enqueue` and `set_desc`;
    or an async generator, which enqueues what it yields. They need not call `super().__init__()`.

    Attributes:
        parent: The item that enqueued this one, from `process` on; None for an initial one.
        priority: Smaller is first, with `order="priority"`.
        track_overall: Kept for those who set it; the live view counts all items.
    """

    priority: ClassVar[int] = 0
    track_overall: ClassVar[bool] = False
    parent: Item | None = None
    _job: Job[Any] | Context | None = None
    """While `process` runs its job, or the context in which that is looked up once somebody wants it."""
    _has_children = False

    @abstractmethod
    def process(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work of this item."""

    def enqueue(self, *items: Item) -> None:
        """Have other items processed later.

        Raises:
            RuntimeError: If `process` does not run.
            TypeError: If something has no `process`.
        """
        job: Any = self._job
        if job is None or job.__class__ is Context:
            job = self._job = _job_of(self)
        if items:
            self._has_children = True
        for item in items:
            # Most are as this one, and to ask an abstract class takes as long as a third of a spawn.
            if item.__class__ is not self.__class__:
                check_item(item)
            item.parent = self
            job.spawn(item)

    def set_worker_desc(self, description: str) -> None:
        """Say what is being done, for whoever watches.

        Raises:
            RuntimeError: If `process` does not run.
        """
        _job_of(self).describe(description)

    async def after_children_processed(self) -> None:
        """Be called once, after this item and all that stems from it."""


def _job_of(item: Item) -> Job[Any]:
    """Return the job that processes an item, for whoever has the item: also another thread or task.

    Raises:
        RuntimeError: If `process` does not run.
    """
    job = item._job
    if job is None:
        raise RuntimeError("This function may only be called inside process()")
    # Of a copy, as two threads may not be in one context.
    return job.copy().run(qanat.current_job) if isinstance(job, Context) else job


def enqueue(job: Job[Any], parent: Any, item: Any) -> None:
    """Spawn a job for an item.

    Raises:
        TypeError: If it has no `process`.
    """
    check_item(item)
    item.parent = parent
    job.spawn(item)
    parent._has_children = True


def check_item(item: object) -> None:
    """Check that something can be processed.

    Raises:
        TypeError: If it has no `process`.
    """
    if not isinstance(item, Item) and not callable(getattr(item, "process", None)):
        raise TypeError(f"an item must have a process method, got {item!r}")


ProcessRetVal: TypeAlias = AsyncIterator[Item] | None
Ordering: TypeAlias = Literal["fifo", "lifo", "priority"]
