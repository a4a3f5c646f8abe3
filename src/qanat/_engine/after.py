"""How an `after_children` callback is called: in the place of its job."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from qanat._engine.callee import Callee

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.branch import AfterJob, Branch
    from qanat._core.job import Job
    from qanat._engine.carrier import Carrier


COROUTINE: Any = CoroutineType
"""Named without its parameters, which nobody knows."""


class CallAfter(Callee):
    """The callbacks of a task's jobs, each called with what became of the job's children.

    Args:
        seal: What the value of a callback becomes, given the job; None is as it is.
    """

    __slots__ = ("_seal",)

    def __init__(self, seal: Callable[[Job[Any], Any], Any] | None) -> None:
        super().__init__(unknown, on_loop=False)
        self._seal = seal

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call one; `current_job()` is the job that it is for."""
        branch: Branch = cast("AfterJob", job)._branch
        above = branch.job
        assert above is not None  # noqa: S101 - its end is held
        carrier.stand_for(above)
        if job.item is None:
            # Not before: the last child's outcome may be on its way when the call becomes due.
            job.item = branch.told()
        inner: Callee = branch.callback
        value, error = await inner.call_anyhow(carrier, job)
        if type(value) is COROUTINE:
            value.close()
            error = TypeError(
                "the after_children callback returned a coroutine that nobody awaited: "
                "write `return await ...` in it"
            )
        if error is not None:
            return None, error
        if value is not None and self._seal is not None:
            value = self._seal(above, value)
        carrier.divert(job)
        return value, None


def unknown(_item: Any) -> None:
    """Stand for the function of a callee that calls many."""
