"""Between the dispatcher and an order of the user's own, which may raise or say what is not so.

The dispatcher counts on its orders: a job that one of them loses would be waited for without end. So what
waits is noted here as well. With the first thing that is wrong the run is told that it has to end, and
the jobs are given out from what was noted, so that each of them still ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from qanat._core.dispatcher.gathering import Gathering
from qanat._core.order import checked_order
from qanat._core.orders import Fifo, KeyOrder, Lifo, Shuffle

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.job import Job
    from qanat._core.order import Order
    from qanat._core.ports import Random

_OURS: Final[frozenset[type]] = frozenset({Fifo, Gathering, KeyOrder, Lifo, Shuffle})

_FAILED: Final = object()


def guarded(order: Any, on_broken: Callable[[BaseException], object] | None) -> Order:
    """Return an order that was made, behind a guard if it is not one of ours.

    Args:
        order: The order.
        on_broken: Called with what is wrong with it; None lets it raise.

    Raises:
        TypeError: If it lacks a method.
    """
    found = checked_order(order)
    return found if on_broken is None or type(found) in _OURS else Guard(found, on_broken)


class Guard:
    """An order of the user's own, and what it holds.

    Attributes:
        by_priority: Whether it sorts by `job.priority`.
    """

    __slots__ = ("_head", "_is_broken", "_jobs", "_on_broken", "_order", "by_priority")

    def __init__(self, order: Order, on_broken: Callable[[BaseException], object]) -> None:
        self.by_priority = bool(getattr(order, "by_priority", False))
        self._order = order
        self._on_broken = on_broken
        self._jobs: dict[Job[Any], None] = {}
        # What it said last is next, as long as nothing has changed.
        self._head: Job[Any] | None = None
        self._is_broken = False

    def bind(self, rng: Random) -> None:
        """Hand the source of randomness on to an order that wants it."""
        if getattr(self._order, "bind", None) is not None:
            self._ask("bind", rng)

    def add(self, job: Job[Any]) -> None:
        """Take a job in."""
        self._changes("add", job)
        self._jobs[job] = None

    def put_back(self, job: Job[Any]) -> None:
        """Take a job in again."""
        self._changes("put_back", job)
        self._jobs[job] = None

    def discard(self, job: Job[Any]) -> None:
        """Remove a job that is in."""
        self._changes("discard", job)
        del self._jobs[job]

    def head(self) -> Job[Any]:
        """Return the next job.

        Raises:
            IndexError: If no job waits.
        """
        job = self._head = self._job("head")
        return job

    def take(self) -> Job[Any]:
        """Remove and return the next job.

        Raises:
            IndexError: If no job waits.
        """
        before = self._head
        job = self._job("take")
        if before is not None and job is not before:
            self._break("take", ValueError(f"take must return the job that head named, got {job!r}"))
            job = before
        self._head = None
        del self._jobs[job]
        return job

    def __len__(self) -> int:
        if not self._is_broken:
            number = self._ask("__len__")
            if number is not _FAILED and number != len(self._jobs):
                told = f"__len__ must return how many jobs wait, {len(self._jobs)}, got {number!r}"
                self._break("__len__", ValueError(told))
        return len(self._jobs)

    def _changes(self, name: str, job: Job[Any]) -> None:
        self._head = None
        if not self._is_broken:
            self._ask(name, job)

    def _job(self, name: str) -> Job[Any]:
        """Return what a method gives, or any job that waits if it cannot be that."""
        if not self._is_broken:
            job = self._ask(name)
            if job is not _FAILED:
                if self._holds(job):
                    return cast("Job[Any]", job)
                self._break(name, ValueError(f"{name} must return a job that waits, got {job!r}"))
        if self._head is not None:
            return self._head
        for job in self._jobs:
            return job
        raise IndexError("no job waits")

    def _holds(self, job: Any) -> bool:
        try:
            return job in self._jobs
        except TypeError:
            return False  # nothing that could be a job

    def _ask(self, name: str, *given: Any) -> Any:
        """Return what a method of the order gives; `_FAILED` if it raised, which is told."""
        try:
            return getattr(self._order, name)(*given)
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            self._break(name, error)
            return _FAILED

    def _break(self, name: str, error: BaseException) -> None:
        """Ask the order for nothing any more, and tell why."""
        self._is_broken = True
        what = f"{name}() of the order {type(self._order).__qualname__}"
        if isinstance(error, Exception):
            error.add_note(f"raised by {what}" if error.__traceback__ else f"said of {what}")
        else:
            cause = error
            error = RuntimeError(f"{what} awaited something that was cancelled elsewhere")
            error.__cause__ = cause
        self._on_broken(error)
