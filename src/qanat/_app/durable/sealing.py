"""What an attempt leaves behind: its result, written within it, and the jobs that it spawned.

A result that cannot be kept is the attempt's failure. Children for which the step that ends their parent
has no room are put before that, under the parent's lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

from qanat._app.durable.holding import Held, held_of
from qanat._engine.callee import Callee
from qanat._stores.codec import encode
from qanat.errors import SerialisationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qanat._app.durable.brood import Brood
    from qanat._core.job import Job
    from qanat._engine.carrier import Carrier
    from qanat._engine.outside import Outside


Seal: TypeAlias = "Callable[[object], bytes | None]"
"""Writes a result; raises SerialisationError or TypeError if it cannot be."""


class Sealing(Callee):
    """A handler whose results are written as soon as they are there."""

    __slots__ = ("_inner", "_put_ahead", "_written")

    def __init__(
        self, inner: Callee, put_ahead: Callable[[Held, Brood], Awaitable[object]],
        seal: Seal | None = None,
    ) -> None:  # fmt: skip
        """Keep how the handler is called, where its results go, how children are put.

        What writes the results is `seal`; None is JSON.
        """
        super().__init__(inner.function, on_loop=False)
        self._inner = inner
        self._written = seal or _as_json
        self._put_ahead = put_ahead

    def prepare(self, outside: Outside) -> None:
        """Make ready what the calls need."""
        self._inner.prepare(outside)

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call the function and write what it returns."""
        if job.members:
            return await self._call_batch(carrier, job)
        # In one frame and with one look at what is held: this is done for each job.
        held = job if type(job) is Held and job.is_held else None
        inner = self._inner
        if held is not None:
            held.value = held.brood = None
            held.spawns = True
        try:
            if inner.on_loop:
                # As `call_anyhow` does, but for a frame that each step of the handler would pass through.
                value = await inner.function(job.item)
            else:
                value, error = await inner.call(carrier, job)
                if error is not None:
                    return value, error
        finally:
            if held is not None:
                held.spawns = False
        try:
            written = self._written(value)
        except (SerialisationError, TypeError) as problem:
            return None, problem
        if held is not None:
            held.value = written
            if held.brood is not None:
                await self._put_ahead(held, held.brood)
        return value, None

    async def _call_batch(self, carrier: Carrier, batch: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call the function with several jobs, and write what it returns for each."""
        members = [held for job in batch.members if (held := held_of(job)) is not None]
        for held in members:
            held.value = held.brood = None
            held.spawns = True
        try:
            value, error = await self._inner.call_anyhow(carrier, batch)
        finally:
            for held in members:
                held.spawns = False
        if error is not None:
            return value, error
        value = self._sealed_all(batch.members, value)
        for held in members:
            if held.brood is not None:
                await self._put_ahead(held, held.brood)
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
                except (SerialisationError, TypeError) as problem:
                    sealed[place] = problem
        return sealed

    def _seal(self, job: Job[Any], value: object) -> None:
        written = self._written(value)
        held = held_of(job)
        if held is not None:
            held.value = written


def _as_json(value: object) -> bytes | None:
    return None if value is None else encode(value)
