"""What `submit` returns: a job to be awaited, asked and cancelled."""

from __future__ import annotations

from asyncio import CancelledError
from collections import Counter
from inspect import CO_COROUTINE
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from qanat._app.failures import cancelled_elsewhere
from qanat._app.waiting import call_when_ended, wait_for
from qanat._core.arguments import number
from qanat._core.job import Job
from qanat._core.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import CodeType

    from qanat._core.reason import Reason
    from qanat._engine.engine import Engine

T = TypeVar("T")
R = TypeVar("R")

Unseen = Counter[str]
"""Types of errors that nobody has looked at; stands in the place of the mark of a job that ended so."""


class Handle(msgspec.Struct, Generic[T, R], eq=False):
    """A job that was handed to a Pool; await it for its value.

    Cancelling whoever awaits a handle does not cancel the job. A handle may be awaited by
    several, and again after the job has ended.

    Attributes:
        job: The job.
    """

    job: Job[T]
    _engine: Any

    @property
    def id(self) -> int | str:
        """The job's id."""
        return self.job.id

    @property
    def done(self) -> bool:
        """Whether the job has ended, well or not."""
        return isinstance(self.job._waiter, Outcome)

    def cancel(self) -> bool:
        """Cancel the job, whether it waits or runs; False if it has ended.

        A running handler is cancelled where it awaits; one that runs in a thread cannot be
        stopped and keeps its slot until it ends. Of a job that has a callback for when its children
        are done, the callback is called all the same, or runs to its end; a second call cancels that.
        """
        engine: Engine = self._engine
        return not self.done and engine.cancel_job(self.job)

    def prioritise(self, priority: float) -> bool:
        """Give the job another priority while it waits; False if it runs or has ended.

        With `order="priority"` or a `Priority` it goes behind those that have its new priority; the
        time that it has waited still counts for ageing. A job that waits for a delay or a retry has
        the priority when it comes back. With other orders it keeps its place. Costs O(log n) with n
        jobs waiting.

        Args:
            priority: Smaller is first.

        Raises:
            TypeError: If it is not a number.
            ValueError: If it is NaN or infinite.
        """
        engine: Engine = self._engine
        checked = number("priority", priority)
        return not self.done and engine.prioritise(self.job, checked)

    def why(self) -> Reason | None:
        """Return why the job waits; None if it runs or has ended."""
        engine: Engine = self._engine
        return None if self.done else engine.dispatcher.why(self.job)

    def when_done(self, callback: Callable[[Outcome[T, R]], object]) -> None:
        """Call a function with the job's outcome as soon as it has ended; now, if it has.

        It is called in the loop's thread, between jobs, so it must be quick and plain. What it raises
        is logged. Several are called in the order in which they were given. A failure that a function
        was told of counts as looked at.

        Args:
            callback: A plain function of one argument, the `Outcome`.

        Raises:
            TypeError: If it is not a plain function.
        """
        code: CodeType | None = getattr(callback, "__code__", None)
        # Told by the flags of its code, as this may be called for each of a million jobs.
        if not callable(cast("object", callback)) or (code is not None and code.co_flags & CO_COROUTINE):
            raise TypeError(f"callback must be a plain function, got {callback!r}")
        if self.done:
            self._look()
        call_when_ended(self.job, callback)

    def _look(self) -> None:
        """Count the failure of a job that has ended as looked at, if it had been counted as unseen."""
        unseen, self.job._mark = self.job._mark, None
        if isinstance(unseen, Counter):
            outcome = cast("Outcome[T, R]", self.job._waiter)
            cast("Unseen", unseen)[type(outcome.error).__name__] -= 1

    async def outcome(self) -> Outcome[T, R]:
        """Wait until the job has ended and return its outcome, whatever it is.

        Raises:
            PoolDeadlockError: If the caller is a handler that can never be answered.
        """
        if not self.done:
            await wait_for(self.job, self._engine)
        self._look()
        return cast("Outcome[T, R]", self.job._waiter)

    def __await__(self) -> Generator[Any, Any, R]:
        """Wait until the job has ended; return its value or raise its error.

        Raises:
            JobCancelledError: If the job was cancelled.
            PoolDeadlockError: If the caller is a handler that can never be answered.
            BaseException: What the handler raised.
        """
        outcome = yield from self.outcome().__await__()
        error = outcome.error
        if error is None:
            return cast("R", outcome.value)
        if isinstance(error, CancelledError):
            # Raised as it is, it would be taken for the cancellation of whoever awaits.
            raise cancelled_elsewhere(error)
        raise error

    def __repr__(self) -> str:
        """Show the job's id and how it is doing."""
        held = self.job._waiter
        return f"<Handle of job {self.job.id!r}, {held.state if isinstance(held, Outcome) else 'not ended'}>"
