"""How an `after_children` callback is called: in the place of its job."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from qanat._engine.callee import Callee, Returned

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.branch import Branch
    from qanat._core.job import Job
    from qanat._engine.carrier import Carrier


class CallAfter(Callee):
    """A callback, called with what became of the job's children in the way of another callee."""

    __slots__ = ("_branch", "_inner", "_job", "_seal")

    def __init__(
        self, inner: Callee, branch: Branch, job: Job[Any], seal: Callable[[Job[Any], Any], Any] | None
    ) -> None:
        """Keep how the callback is called, and for whom."""
        super().__init__(inner.function, on_loop=False)
        self._inner = inner
        self._branch = branch
        self._job = job
        self._seal = seal

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call it; `current_job()` is the job that it is for."""
        carrier.stand_for(self._job)
        if job.item is None:
            # Not before: the last child's outcome may be on its way when the call becomes due.
            job.item = self._branch.told()
        value, error = await self._inner.call_anyhow(carrier, job)
        if inspect.iscoroutine(value):
            value.close()
            error = TypeError(
                "the after_children callback returned a coroutine that nobody awaited: "
                "write `return await ...` in it"
            )
        if error is None and value is not None and self._seal is not None:
            value = self._seal(self._job, value)
        return None, Returned(value) if error is None else error
