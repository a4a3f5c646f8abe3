"""What aqute gives back for each item."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, cast

from qanat import JobTimeoutError
from qanat.compat.aqute.errors import AquteError, AquteTaskTimeoutError

TData = TypeVar("TData")
TResult = TypeVar("TResult")

END_MARKER = object()
"""As the data of a task it ends a `Worker` that reads from a queue of your own."""


class AquteCounters(NamedTuple):
    """How many tasks of a run are where.

    Attributes:
        pending: Tasks that were added and wait for a worker, or to be tried again.
        running: Tasks in the handler.
        succeeded: Tasks that ended well.
        failed: Tasks that failed for good.
        retries: Calls of the handler beyond the first of each task that has ended.
    """

    pending: int
    running: int
    succeeded: int
    failed: int
    retries: int


@dataclass(eq=False, slots=True)
class AquteTask(Generic[TData, TResult]):
    """An item and what came of it.

    Attributes:
        data: What the handler is called with.
        task_id: Its id; one that was given is not checked for being the only one.
        result: What the handler returned, which may be None.
        error: Why it failed for good; None if it did not.
        success: Whether it ended well.
    """

    data: TData
    task_id: str
    result: TResult | None = None
    error: Exception | None = None
    success: bool = False
    _remaining_tries: int = 0
    _priority: int = 1_000_000

    def unwrap(self) -> TResult:
        """Return the result, or raise the error.

        Raises:
            AquteError: If the task has not ended.
            Exception: The task's error.
        """
        if self.error is not None:
            raise self.error
        if not self.success:
            raise AquteError(f"task {self.task_id} has not ended")
        return cast("TResult", self.result)

    def __lt__(self, other: AquteTask[Any, Any]) -> bool:
        """Be less if it comes first in a priority queue."""
        return self._priority < other._priority


AquteTaskQueueType = asyncio.Queue[AquteTask[TData, TResult]]


def timed_out(task_id: str) -> AquteTaskTimeoutError:
    """Return the error of a task whose attempt ran too long."""
    return AquteTaskTimeoutError(f"Task {task_id} timed out")


def renamed(error: BaseException | None, task_id: str) -> Exception | None:
    """Return why a job failed, as aqute names it."""
    if type(error) is JobTimeoutError:
        found: AquteError = timed_out(task_id)
    elif isinstance(error, asyncio.CancelledError):
        # Raised to a caller it would be taken for the caller's own cancellation.
        found = AquteError(f"Task {task_id} awaited something that was cancelled elsewhere")
    else:
        return cast("Exception | None", error)
    found.__cause__ = error
    return found
