"""aio-py-rq's unique queue, over a queue of a store whose keys are held while jobs wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qanat import LeaseLost, NotReplicated
from qanat.compat.aiopyrq._waiting import (
    DEFAULT_SYNC_SLAVES_COUNT,
    DEFAULT_SYNC_SLAVES_TIMEOUT,
    MOST,
    PROCESSING_TIMEOUT,
    Waiting,
    not_enough,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import qanat
    from qanat import QueueJob

__all__ = [
    "CHUNK_SIZE",
    "DEFAULT_SYNC_SLAVES_COUNT",
    "DEFAULT_SYNC_SLAVES_TIMEOUT",
    "PROCESSING_TIMEOUT",
    "UniqueQueue",
]

CHUNK_SIZE: Final = 10
"""What aio-py-rq sends at once; here it is up to 1,000 items."""
SET_QUEUE_SUFFIX: Final = "-unique"
PROBED: Final = {"aiopyrq": "probe"}
"""The metadata of a job that was put to find another by its key."""
PROBE: Final = 60.0
"""Seconds for which it stays out of the way of whoever takes items."""


class UniqueQueue(Waiting):
    """A queue of texts, in which an item waits once at most.

    An item that was taken may be added again at once.

    Args:
        queue_name: Its name.
        redis: As for `Queue`; so are the keywords and the errors.
        **kwargs: As for `Queue`.

    Attributes:
        queue_name: Its name.
    """

    def __init__(self, queue_name: str, redis: object, **kwargs: Any) -> None:
        super().__init__(queue_name, redis, kwargs, "pending")
        self.queue_name: str = queue_name

    async def add_item(self, item: object) -> None:
        """Add an item to the end, unless it waits already; what it is, `str` says.

        Raises:
            NotEnoughSyncedSlavesError: If it is stored, and too few replicas have it.
        """
        await self._add([self._texts.of(item)])

    async def add_items(self, items: list[Any]) -> None:
        """Add items to the end that do not wait already, up to 1,000 in one step."""
        await self._add(self._texts.of_all(items))

    async def _add(self, texts: list[str]) -> None:
        queue = await self._queue()
        try:
            await queue.put_many(texts, key=_key)
        except NotReplicated as error:
            raise not_enough(error) from error

    async def delete_item(self, item: object) -> None:
        """Delete an item that waits."""
        await self._delete([self._texts.of(item)])

    async def delete_items(self, items: list[Any]) -> None:
        """Delete items that wait, in two steps for up to 1,000."""
        await self._delete(self._texts.of_all(items))

    async def _delete(self, texts: list[str]) -> None:
        """Put probes, and delete what stands in their way, and those that nothing stood in the way of."""
        queue = await self._queue()
        for at in range(0, len(texts), MOST):
            jobs = await queue.put_many(
                dict.fromkeys(texts[at : at + MOST]), key=_key, delay=PROBE, metadata=lambda _text: PROBED
            )  # fmt: skip
            await queue.admin.delete(*(job.id for job in jobs))

    async def _lease(self, queue: qanat.Queue[str], count: int, jobs: list[QueueJob[str]]) -> None:
        await super()._lease(queue, count, jobs)
        probes = [job for job in jobs if job.metadata == PROBED]
        if probes:
            # Whoever put them was lost before it could delete them.
            jobs[:] = [job for job in jobs if job.metadata != PROBED]
            await queue.ack(*probes)

    async def _give_back(self, queue: qanat.Queue[str], jobs: list[QueueJob[str]]) -> Sequence[str]:
        """Let items wait again where they do not wait already, and end the leases of the others."""
        try:
            await queue.carry(queue._asking.release(jobs, yields=True))
        except LeaseLost as error:
            return error.ids
        return ()

    @property
    def set_name(self) -> str:
        """The name of the set of what waits, with aio-py-rq."""
        return self.queue_name + SET_QUEUE_SUFFIX


def _key(text: str) -> tuple[str]:
    """Return the key of an item, which is hashed: a text may be longer than a key."""
    return (text,)
