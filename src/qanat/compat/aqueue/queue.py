"""What aqueue processes: items, which enqueue others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeAlias

import qanat

if TYPE_CHECKING:
    from qanat import Job


def _inside() -> RuntimeError:
    return RuntimeError("This function may only be called inside process()")


class _Over:
    """What stands in the place of the job of an item whose `process` is over."""

    def spawn(self, _item: Any) -> None:
        """Refuse to enqueue an item."""
        raise _inside()

    def describe(self, _text: str) -> None:
        """Refuse to say what is being done."""
        raise _inside()


OVER: Final = _Over()


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
    _job: Job[Any] | _Over | None = None
    """Whose `process` runs, once it has enqueued something."""
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
        job = self._job
        if job is None:
            job = self._job = _job_of(self)
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
        (self._job or _job_of(self)).describe(description)

    async def after_children_processed(self) -> None:
        """Be called once, after this item and all that stems from it."""


def _job_of(item: Item) -> Job[Any]:
    """Return the job whose handler processes an item and calls this.

    Raises:
        RuntimeError: If it is called from elsewhere.
    """
    try:
        job = qanat.current_job()
    except LookupError:
        raise _inside() from None
    if job.item is not item:
        raise _inside()
    return job


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
