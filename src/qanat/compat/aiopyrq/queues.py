"""aio-py-rq's queue, over a queue of a store."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from qanat import LeaseLost, NotReplicated
from qanat.compat.aiopyrq._texts import whole
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
    "Queue",
]

CHUNK_SIZE: Final = 10
"""What aio-py-rq sends at once; here it is up to 1,000 items."""


class Queue(Waiting):
    """A queue of texts, in which an item may be more than once.

    Args:
        name: Its name.
        redis: A pool or a client of redis-py's asyncio side, a URL, or an open `Store`.
        **kwargs: `synced_slaves_enabled`, `synced_slaves_count` and `synced_slaves_timeout`
            (milliseconds): how many replicas have to have what is added. `max_retry` and `max_timeout`
            (minutes), or `max_retry_rollback` and `max_timeout_in_queue`: see `can_rollback_item`.

    Raises:
        TypeError: If an argument is of the wrong kind, or connections are of a class that is not known.
        ValueError: If an argument is out of range, or a setting cannot be carried over.

    Attributes:
        name: Its name.
    """

    def __init__(self, name: str, redis: object, **kwargs: Any) -> None:
        super().__init__(name, redis, kwargs, None)
        self.name: str = name

    async def add_item(self, item: object) -> bool:
        """Add an item to the end, and return True.

        Args:
            item: A text, bytes, a number, or what `str` makes a text of.

        Raises:
            NotEnoughSyncedSlavesError: If it is stored, and too few replicas have it.
            TypeError: If it is None, a bool or a container.
        """
        text = self._texts.of(item)
        queue = await self._queue()
        try:
            await queue.put(text)
        except NotReplicated as error:
            raise not_enough(error) from error
        return True

    async def add_items(self, items: list[Any]) -> None:
        """Add items to the end, up to 1,000 in one step; errors as `add_item`."""
        texts = self._texts.of_all(items)
        queue = await self._queue()
        try:
            await queue.put_many(texts)
        except NotReplicated as error:
            raise not_enough(error) from error

    async def delete_item(self, item: object, count: int = 0) -> None:
        """Delete an item that waits; the store looks through all that wait.

        Args:
            item: Which.
            count: How often at most: 1 deletes the one that was added last, -1 the one that was added
                first, 0 all of them.
        """
        await self._delete([self._texts.of(item)], whole("count", count))

    async def delete_items(self, items: list[Any], count: int = 0) -> None:
        """Delete items that wait, as `delete_item` does each of them; the store looks through them once."""
        await self._delete(self._texts.of_all(items), whole("count", count))

    async def _delete(self, texts: list[str], count: int) -> None:
        queue = await self._queue()
        # Below nothing it never comes to an end.
        left = {text: abs(count) * times or -1 for text, times in Counter(texts).items()}
        bodies = queue._asking.bodies_of(left)
        found: list[QueueJob[str]] = []
        after: str | None = None
        while left:
            page = await queue.carry(queue._asking.find("ready", None, MOST, after, bodies))
            found += [job for job in page.jobs if job.item in left]
            after = page.next
            if after is None:
                break
        found.sort(key=lambda job: (job.put_at or 0.0, job.id), reverse=count > 0)
        ids: list[str] = []
        for job in found:
            if left[job.item]:
                left[job.item] -= 1
                ids.append(job.id)
        for at in range(0, len(ids), MOST):
            await queue.admin.delete(*ids[at : at + MOST])

    async def _give_back(self, queue: qanat.Queue[str], jobs: list[QueueJob[str]]) -> Sequence[str]:
        try:
            await queue.release(*jobs)
        except LeaseLost as error:
            return error.ids
        return ()
