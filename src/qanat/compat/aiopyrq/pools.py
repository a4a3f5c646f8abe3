"""aio-py-rq's pool, over a rotation of a store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from qanat import LeaseLost, NotReplicated
from qanat.compat.aiopyrq._names import stored_name
from qanat.compat.aiopyrq._source import Handles, Source
from qanat.compat.aiopyrq._texts import Texts, check_options, seconds, whole
from qanat.compat.aiopyrq._waiting import MOST, client_id, not_enough, replicas_of

if TYPE_CHECKING:
    import qanat
    from qanat import QueueJob

DEFAULT_CHUNK_SIZE: Final = 100
DEFAULT_SYNC_SLAVES_COUNT: Final = 0
DEFAULT_SYNC_SLAVES_TIMEOUT: Final = 100
"""Milliseconds."""
DEFAULT_ACK_TTL: Final = 600
"""Seconds after which an item that was taken and not acknowledged is due again."""
DEFAULT_ACK_VALID_FOR: Final = 129_600
"""Seconds after which an item that was acknowledged is due again: 36 hours."""

OPTIONS: Final[dict[str, Any]] = {
    "chunk_size": DEFAULT_CHUNK_SIZE,
    "synced_slaves_enabled": False,
    "synced_slaves_count": DEFAULT_SYNC_SLAVES_COUNT,
    "synced_slaves_timeout": DEFAULT_SYNC_SLAVES_TIMEOUT,
    "ack_ttl": DEFAULT_ACK_TTL,
    "ack_valid_for": DEFAULT_ACK_VALID_FOR,
}


class Pool:
    """A set of texts that come again and again.

    Args:
        name: Its name.
        redis: A pool or a client of redis-py's asyncio side, a URL, or an open `Store`.
        **kwargs: `ack_ttl`, default 600: seconds after which an item that was taken and not acknowledged
            is due again. `ack_valid_for`, default 129600: seconds after which one that was acknowledged
            is. `chunk_size`, default 100: how many `get_all_items` takes at once.
            `synced_slaves_enabled`, `synced_slaves_count` and `synced_slaves_timeout` (milliseconds):
            how many replicas have to have what is added.

    Raises:
        TypeError: If an argument is of the wrong kind, or connections are of a class that is not known.
        ValueError: If an argument is out of range, or a setting cannot be carried over.

    Attributes:
        client_id: Who takes items here.
        redis: What was handed in.
        name: Its name.
        options: All options with their values.
    """

    def __init__(self, name: str, redis: object, **kwargs: Any) -> None:
        check_options(kwargs, tuple(OPTIONS))
        self.client_id: str = client_id()
        self.redis = redis
        self.name: str = name
        self.options: dict[str, Any] = OPTIONS | kwargs
        if whole("chunk_size", self.options["chunk_size"]) < 1:
            raise ValueError(f"chunk_size must be at least 1, got {self.options['chunk_size']!r}")
        self._ttl = seconds("ack_ttl", self.options["ack_ttl"], 0.0)
        self._valid_for = seconds("ack_valid_for", self.options["ack_valid_for"], 0.0)
        self._replicas, within = replicas_of(self.options)
        self._source = Source(redis, within)
        self._texts = Texts(self._source.encoding, as_bytes=self._source.as_bytes, strict=True)
        self._stored_as = stored_name(name)
        self._rotations = Handles(self._source, self._make)
        self._taken: dict[str, QueueJob[str]] = {}

    def _make(self, store: qanat.Store) -> qanat.Rotation[str]:
        return store.rotation(
            self._stored_as, type=str, every=self._valid_for, lease=self._ttl, jitter=0.0,
            replicas=self._replicas,
        )  # fmt: skip

    async def _rotation(self) -> qanat.Rotation[str]:
        return await self._rotations.get()

    # --- what is in it ---------------------------------------------------------------------------

    async def get_count(self) -> int:
        """Return how many items it has."""
        return (await (await self._rotation()).counts()).all

    async def get_count_to_process(self) -> int:
        """Return how many items are due."""
        return (await (await self._rotation()).counts()).due

    async def is_in_pool(self, item: object) -> bool:
        """Say whether an item is in it."""
        return await (await self._rotation()).contains(self._texts.of(item))

    async def add_item(self, item: object) -> None:
        """Add an item, which is due at once, also if it was in it and due later.

        Args:
            item: A text, bytes, a number, or what `str` makes a text of.

        Raises:
            NotEnoughSyncedSlavesError: If it is stored, and too few replicas have it.
            TypeError: If it is None, a bool or a container.
        """
        await self._add([self._texts.of(item)])

    async def add_items(self, items: list[Any]) -> None:
        """Add items, up to 1,000 in one step; all is as with `add_item`."""
        await self._add(self._texts.of_all(items))

    async def _add(self, texts: list[str]) -> None:
        rotation = await self._rotation()
        try:
            new = await rotation.add(*texts)
        except NotReplicated as error:
            raise not_enough(error) from error
        if new < len(texts):
            await rotation.hasten(*texts)

    async def delete_item(self, item: object) -> None:
        """Take an item out."""
        await self._delete([self._texts.of(item)])

    async def delete_items(self, items: list[Any]) -> None:
        """Take items out."""
        await self._delete(self._texts.of_all(items))

    async def _delete(self, texts: list[str]) -> None:
        await (await self._rotation()).remove(*texts)
        for text in texts:
            self._taken.pop(text, None)

    async def clear_pool(self) -> None:
        """Take everything out."""
        await (await self._rotation()).clear()
        self._taken.clear()

    # --- items are taken, and done -----------------------------------------------------------------

    async def get_items(self, count: int) -> list[Any]:
        """Take items that are due, the longest overdue first.

        They are due again `ack_ttl` seconds later, unless they are acknowledged.

        Args:
            count: How many at most; 0 or less is none.

        Raises:
            TypeError: If it is no whole number.
        """
        whole("count", count)
        rotation = self._rotations.at_hand() or await self._rotation()
        found: list[str] = []
        while len(found) < count:
            wanted = min(count - len(found), MOST)
            jobs = await rotation.lease(wanted)
            for job in jobs:
                text = job.item  # which reads it
                self._taken[text] = job
                found.append(text)
            if len(jobs) < wanted:
                break
        return [self._texts.given_back(text) for text in found]

    async def get_all_items(self) -> list[Any]:
        """Take all items that are due, `chunk_size` at once."""
        found: list[Any] = []
        while True:
            chunk = await self.get_items(self.options["chunk_size"])
            found += chunk
            if len(chunk) < self.options["chunk_size"]:
                return found

    async def ack_item(self, item: object) -> None:
        """Say that an item is done: it is due again in `ack_valid_for` seconds.

        Whoever took it; one that nobody has taken is left alone.
        """
        await self._ack([self._texts.of(item)])

    async def ack_items(self, items: list[Any]) -> None:
        """Say that items are done, in one step for those that were taken here."""
        await self._ack(self._texts.of_all(items))

    async def _ack(self, texts: list[str]) -> None:
        jobs = [self._taken[text] for text in dict.fromkeys(texts) if text in self._taken]
        if len(jobs) < len(texts):
            # Those that others took are looked up.
            jobs += await self._known([text for text in texts if text not in self._taken])
        for at in range(0, len(jobs), MOST):
            rotation = self._rotations.at_hand() or await self._rotation()
            try:
                await rotation.ack(*jobs[at : at + MOST])
            except LeaseLost:
                pass  # they are due again, or somebody else has them
        for text in texts:
            self._taken.pop(text, None)

    async def remove_item(self, item: object) -> None:
        """Take an item out that was taken and turned out to be no longer valid; others stay in it."""
        await self._remove([self._texts.of(item)])

    async def remove_items(self, items: list[Any]) -> None:
        """Take items out as `remove_item` does."""
        await self._remove(self._texts.of_all(items))

    async def _remove(self, texts: list[str]) -> None:
        # What was taken here may be due again by now, and then it is not to go.
        jobs = await self._known(texts)
        if jobs:
            await self._delete([job.item for job in jobs])

    async def _known(self, texts: list[str]) -> list[QueueJob[str]]:
        if not texts:
            return []
        rotation = await self._rotation()
        # Asked at the same time they go together.
        found = await asyncio.gather(*(rotation.get(text) for text in dict.fromkeys(texts)))
        return [job for job in found if job is not None and job.state == "leased"]
