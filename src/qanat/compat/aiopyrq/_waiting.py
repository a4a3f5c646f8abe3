"""What `Queue` and `UniqueQueue` share: items wait, are taken, and are acknowledged, rejected or lost.

An item that was taken is a leased job, which this object knows by its text. Leases last two hours, after
which the next `get_items` that finds too little gives the items back, so no process has to collect them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, Final, Literal

from qanat import LeaseLost, NotReplicated
from qanat.compat.aiopyrq._names import stored_name
from qanat.compat.aiopyrq._rollbacks import Rollbacks
from qanat.compat.aiopyrq._source import Handles, Source
from qanat.compat.aiopyrq._texts import Texts, check_options, seconds, whole
from qanat.compat.aiopyrq.helpers import NotEnoughSyncedSlavesError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import qanat
    from qanat import QueueJob

    End = Callable[[qanat.Queue[str], list[QueueJob[str]]], Awaitable[Sequence[str]]]

TIMEOUT_SUFFIX: Final = "-retry-timeout"
PROCESSING_SUFFIX: Final = "-processing"
PROCESSING_TIMEOUT_SUFFIX: Final = "-timeouts"
PROCESSING_TIMEOUT: Final = 7200
"""Seconds after which an item that was taken is given back."""
DEFAULT_SYNC_SLAVES_COUNT: Final = 0
DEFAULT_SYNC_SLAVES_TIMEOUT: Final = 100
"""Milliseconds."""

OPTIONS: Final = (
    "synced_slaves_enabled", "synced_slaves_count", "synced_slaves_timeout", "max_retry", "max_timeout",
    "max_retry_rollback", "max_timeout_in_queue",
)  # fmt: skip
LOOK: Final = 60.0
"""Seconds between two looks for items that were taken and forgotten."""
MOST: Final = 1_000
"""Jobs of one call of a store."""


class Waiting(ABC):
    """A queue of texts.

    Attributes:
        client_id: Who takes items here.
        redis: What was handed in.
        options: The keywords that were given.
    """

    def __init__(
        self, name: str, redis: object, options: dict[str, Any], unique: Literal["pending"] | None
    ) -> None:
        check_options(options, OPTIONS)
        self.client_id: str = client_id()
        self.redis = redis
        self.options = options
        self._name = name
        self._replicas, within = replicas_of(options)
        self._source = Source(redis, within)
        self._texts = Texts(
            self._source.encoding, as_bytes=self._source.as_bytes, strict=unique is None
        )  # fmt: skip
        self._unique: Literal["pending"] | None = unique
        self._stored_as = stored_name(name)
        self._queues = Handles(self._source, self._make)
        self._taken: defaultdict[str, deque[QueueJob[str]]] = defaultdict(deque)
        self._looked_at = float("-inf")
        self._rollbacks = Rollbacks(name, self._source, options)

    def _make(self, store: qanat.Store) -> qanat.Queue[str]:
        return store.queue(
            self._stored_as, type=str, unique=self._unique, lease=PROCESSING_TIMEOUT, max_attempts=None,
            replicas=self._replicas,
        )  # fmt: skip

    async def _queue(self) -> qanat.Queue[str]:
        return await self._queues.get()

    # --- items wait -------------------------------------------------------------------------------

    async def get_count(self) -> int:
        """Return how many items wait."""
        return (await (await self._queue()).counts()).ready

    async def get_items(self, count: int) -> list[Any]:
        """Take items, the oldest first.

        They are this object's until they are acknowledged or rejected; after two hours they are given
        back.

        Args:
            count: How many at most; 0 or less is none.

        Raises:
            TypeError: If it is no whole number.
        """
        whole("count", count)
        queue = await self._queue()
        jobs: list[QueueJob[str]] = []
        try:
            await self._lease(queue, count, jobs)
            if not jobs and count > 0 and self._is_time_to_look():
                await self.re_enqueue_timeout_items()
                await self._lease(queue, count, jobs)
        except BaseException:
            if jobs:
                # Nobody hears of them. Shielded, as who is cancelled once may be so again.
                await asyncio.shield(asyncio.ensure_future(self._give_back(queue, jobs)))
            raise
        texts = queue._asking.items_of(jobs)
        for text, job in zip(texts, jobs, strict=True):
            self._taken[text].append(job)
        return [self._texts.given_back(text) for text in texts]

    async def _lease(self, queue: qanat.Queue[str], count: int, jobs: list[QueueJob[str]]) -> None:
        """Add leased jobs to those that are there, up to so many."""
        while len(jobs) < count:
            wanted = min(count - len(jobs), MOST)
            leased = await queue.lease(wanted)
            jobs += leased
            if len(leased) < wanted:
                break

    def _is_time_to_look(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._looked_at < LOOK:
            return False
        self._looked_at = now
        return True

    # --- items are done ------------------------------------------------------------------------------

    async def ack_item(self, item: object) -> None:
        """Say that an item is done; one that was not taken here is left alone."""
        await self._end([self._texts.of(item)], self._ack)

    async def ack_items(self, items: list[Any]) -> None:
        """Say that items are done, in one step."""
        await self._end(self._texts.of_all(items), self._ack)

    async def reject_item(self, item: object) -> None:
        """Give an item back to the place that it came from; one that was not taken here is left alone."""
        await self._end([self._texts.of(item)], self._give_back)

    async def reject_items(self, items: list[Any]) -> None:
        """Give items back to the places that they came from."""
        await self._end(self._texts.of_all(items), self._give_back)

    async def _end(self, texts: Sequence[str], end: End) -> None:
        """End what was taken here. Whose lease is lost may have been taken here once more."""
        while jobs := self._of_mine(texts):
            try:
                lost = set(await end(await self._queue(), jobs))
            except BaseException as error:
                for job in reversed(jobs):
                    self._taken[job.item].appendleft(job)
                if isinstance(error, NotReplicated):
                    raise not_enough(error) from error
                raise
            texts = [job.item for job in jobs if job.id in lost]

    def _of_mine(self, texts: Sequence[str]) -> list[QueueJob[str]]:
        """Let go of what was taken here, one for each text."""
        jobs: list[QueueJob[str]] = []
        for text in texts:
            taken = self._taken.get(text)
            if taken:
                jobs.append(taken.popleft())
                if not taken:
                    del self._taken[text]
        return jobs

    async def _ack(self, queue: qanat.Queue[str], jobs: list[QueueJob[str]]) -> Sequence[str]:
        """End leases, and return the ids of those that are lost: given back or dropped meanwhile."""
        try:
            await queue.ack(*jobs)
        except LeaseLost as error:
            return error.ids
        return ()

    @abstractmethod
    async def _give_back(self, queue: qanat.Queue[str], jobs: list[QueueJob[str]]) -> Sequence[str]:
        """Let leased jobs wait again, and return the ids of those whose leases are lost."""

    # --- items are forgotten ---------------------------------------------------------------------------

    async def re_enqueue_timeout_items(self, timeout: int = PROCESSING_TIMEOUT) -> None:
        """Give back items that were taken, by whomever, longer ago than so many seconds."""
        await self._for_taken(seconds("timeout", timeout), give_back=True)

    async def re_enqueue_all_items(self) -> None:
        """Give back all items that were taken, by whomever."""
        await self._for_taken(None, give_back=True)

    async def drop_timeout_items(self, timeout: int = PROCESSING_TIMEOUT) -> None:
        """Drop items that were taken, by whomever, longer ago than so many seconds."""
        await self._for_taken(seconds("timeout", timeout), give_back=False)

    async def drop_all_items(self) -> None:
        """Drop all items that were taken, by whomever."""
        await self._for_taken(None, give_back=False)

    async def _for_taken(self, timeout: float | None, *, give_back: bool) -> None:
        queue = await self._queue()
        now = await (await self._source.store()).now()
        old: list[QueueJob[str]] = []
        after: str | None = None
        while True:
            page = await queue.find(state="leased", limit=MOST, after=after)
            old += [
                job for job in page.jobs if timeout is None or (job.started_at or 0.0) + timeout < now
            ]  # fmt: skip
            after = page.next
            if after is None:
                break
        old.sort(key=lambda job: (job.priority, job.put_at or 0.0, job.id))
        end = self._give_back if give_back else self._ack
        for at in range(0, len(old), MOST):
            await end(queue, old[at : at + MOST])

    # --- items that fail again and again ----------------------------------------------------------------

    async def can_rollback_item(self, item: object) -> bool:
        """Count that an item failed, and say whether it may be rejected once more.

        It may not if it failed more than `max_retry` times, and `max_timeout` minutes have passed since
        the first of them. What is counted is forgotten by itself, a week and `max_timeout` later.

        Raises:
            ValueError: If the queue was made without `max_retry` and `max_timeout`.
        """
        return await self._rollbacks.may(self._texts.of(item))

    async def reset_blocked_item(self, item: object) -> None:
        """Forget how often an item failed."""
        await self._rollbacks.forget(self._texts.of(item))

    # --- the names of what there is in Redis with aio-py-rq ------------------------------------------------

    @property
    def retry_count_name(self) -> str:
        """The name under which failures are counted."""
        return self._rollbacks.name

    @property
    def retry_timeout_name(self) -> str:
        """The name that aio-py-rq keeps the time of first failures under; here they lie with the counts."""
        return self._name + TIMEOUT_SUFFIX

    @property
    def processing_queue_name(self) -> str:
        """The name of what is taken here."""
        return f"{self._name}{PROCESSING_SUFFIX}-{self.client_id}"

    @property
    def timeouts_hash_name(self) -> str:
        """The name that aio-py-rq keeps times under; here leases have them."""
        return self._name + PROCESSING_TIMEOUT_SUFFIX


def client_id() -> str:
    """Return who takes items, as aio-py-rq names it."""
    return f"{socket.gethostname()}[{os.getpid()}][{int(time.time())}]"


def replicas_of(options: dict[str, Any]) -> tuple[int, float]:
    """Return how many replicas must have what is added, and within how many milliseconds.

    Raises:
        TypeError: If one is no number.
        ValueError: If one is out of range.
    """
    if not options.get("synced_slaves_enabled"):
        return 0, 0.0
    count = whole("synced_slaves_count", options.get("synced_slaves_count") or DEFAULT_SYNC_SLAVES_COUNT)
    within = options.get("synced_slaves_timeout") or DEFAULT_SYNC_SLAVES_TIMEOUT
    return count, seconds("synced_slaves_timeout", within, 0.0)


def not_enough(error: NotReplicated) -> NotEnoughSyncedSlavesError:
    """Return our error as aio-py-rq names it; raise it `from` that."""
    return NotEnoughSyncedSlavesError(
        f"There are only {error.got} synced slaves. Required {error.wanted}: what was added is stored"
    )
