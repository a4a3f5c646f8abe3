"""What an attempt leaves behind: its result, written within it, and the jobs that it spawned.

A result that cannot be kept is the attempt's failure. Children for which the step that ends their parent
has no room are put before that, under the parent's lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

from qanat._engine.callee import Callee
from qanat._stores.codec import encode
from qanat.errors import SerialisationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from qanat._app.durable.brood import Brood
    from qanat._app.durable.holding import Held, Holding
    from qanat._core.job import Job
    from qanat._engine.carrier import Carrier
    from qanat._engine.outside import Outside


Seal: TypeAlias = "Callable[[object], bytes | None]"
"""Writes a result; raises SerialisationError or TypeError if it cannot be."""


class Sealing(Callee):
    """A handler whose results are written as soon as they are there."""

    __slots__ = ("_holding", "_inner", "_put_ahead", "_written")

    def __init__(
        self, inner: Callee, holding: Holding, put_ahead: Callable[[Held, Brood], Awaitable[object]],
        seal: Seal | None = None,
    ) -> None:  # fmt: skip
        """Keep how the handler is called, where its results go, how children are put.

        What writes the results is `seal`; None is JSON.
        """
        super().__init__(inner.function, on_loop=False)
        self._inner = inner
        self._written = seal or _as_json
        self._holding = holding
        self._put_ahead = put_ahead

    def prepare(self, outside: Outside) -> None:
        """Make ready what the calls need."""
        self._inner.prepare(outside)

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call the function and write what it returns."""
        jobs = job.members or (job,)
        inner = self._inner
        self._open(jobs)
        try:
            if inner.on_loop:
                # As `call_anyhow` does, but for a frame that each step of the handler would pass through.
                value, error = await inner.function(job.item), None
            else:
                value, error = await inner.call(carrier, job)
        finally:
            self._close(jobs)
        if error is not None:
            return value, error
        if job.members:
            value = self._sealed_all(job.members, value)
        else:
            try:
                self._seal(job, value)
            except (SerialisationError, TypeError) as problem:
                return None, problem
        for each in jobs:
            held = self._holding.of(each)
            if held is not None and held.brood is not None:
                await self._put_ahead(held, held.brood)
        return value, None

    def _open(self, jobs: Iterable[Job[Any]]) -> None:
        """Let an attempt begin: nothing of an earlier one is left."""
        for each in jobs:
            held = self._holding.of(each)
            if held is not None:
                held.value = held.brood = None
                held.spawns = True

    def _close(self, jobs: Iterable[Job[Any]]) -> None:
        """Let nothing more be spawned."""
        for each in jobs:
            held = self._holding.of(each)
            if held is not None:
                held.spawns = False

    def _sealed_all(self, members: tuple[Job[Any], ...], values: object) -> object:
        """Return what a batch returned, with an error in the place of each result that cannot be kept."""
        if not isinstance(values, (list, tuple)):
            return values  # which the batch's own rules see to
        sealed = list(cast("list[object]", values))
        for place, (member, value) in enumerate(zip(members, sealed, strict=False)):
            if not isinstance(value, BaseException):
                try:
                    self._seal(member, value)
                except (SerialisationError, TypeError) as problem:
                    sealed[place] = problem
        return sealed

    def _seal(self, job: Job[Any], value: object) -> None:
        written = self._written(value)
        held = self._holding.of(job)
        if held is not None:
            held.value = written


def _as_json(value: object) -> bytes | None:
    return None if value is None else encode(value)
