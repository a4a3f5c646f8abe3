"""Results as they are kept: written within the attempt, so that one that cannot be is its failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qanat._engine.callee import Callee
from qanat._stores.codec import encode
from qanat.errors import SerialisationError

if TYPE_CHECKING:
    from qanat._app.durable.holding import Holding
    from qanat._core.job import Job
    from qanat._engine.carrier import Carrier
    from qanat._engine.outside import Outside


class Sealing(Callee):
    """A handler whose results are written as soon as they are there."""

    __slots__ = ("_holding", "_inner")

    def __init__(self, inner: Callee, holding: Holding) -> None:
        """Keep how the handler is called, and where its results go."""
        super().__init__(inner.function, on_loop=False)
        self._inner = inner
        self._holding = holding

    def prepare(self, outside: Outside) -> None:
        """Make ready what the calls need."""
        self._inner.prepare(outside)

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call the function and write what it returns."""
        value, error = await self._inner.call_anyhow(carrier, job)
        if error is not None:
            return value, error
        if job.members:
            return self._sealed_all(job.members, value), None
        try:
            self._seal(job, value)
        except SerialisationError as problem:
            return None, problem
        return value, None

    def _sealed_all(self, members: tuple[Job[Any], ...], values: object) -> object:
        """Return what a batch returned, with an error in the place of each result that cannot be kept."""
        if not isinstance(values, (list, tuple)):
            return values  # which the batch's own rules see to
        sealed = list(cast("list[object]", values))
        for place, (member, value) in enumerate(zip(members, sealed, strict=False)):
            if not isinstance(value, BaseException):
                try:
                    self._seal(member, value)
                except SerialisationError as problem:
                    sealed[place] = problem
        return sealed

    def _seal(self, job: Job[Any], value: object) -> None:
        held = self._holding.of(job)
        if held is not None:
            held.value = None if value is None else encode(value)
