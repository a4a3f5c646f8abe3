"""A rotation for plain threads: items that each fall due again some time after they were last done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from qanat._app.durable.plain_queue import PlainQueue
from qanat._app.durable.turning import PURGED
from qanat._core.arguments import at_least

if TYPE_CHECKING:
    from qanat._app.durable.queue_job import QueueJob
    from qanat._app.durable.store import PlainStore
    from qanat._app.durable.turning import RotationCounts, Turning

T = TypeVar("T")


class PlainRotation(Generic[T]):
    """A set of items that come again and again; made by `PlainStore.rotation`.

    An item is in it once: what is equal as JSON is the same item.
    """

    def __init__(self, store: PlainStore, turning: Turning) -> None:
        """Ask nothing yet."""
        self._turning = turning
        self._queue: PlainQueue[Any] = PlainQueue(store, turning.asking)

    @property
    def name(self) -> str:
        """The rotation's name."""
        return self._queue.name

    def add(self, *items: T, every: float | None = None, due: float = 0.0) -> int:
        """Add items; those that are in it stay as they are.

        Args:
            *items: The items; a list is one item.
            every: Their own interval in seconds, instead of the rotation's. Where that is a `Between`
                it is the one to begin with.
            due: Seconds until they are due for the first time.

        Returns:
            How many are new.

        Raises:
            SerialisationError: If an item cannot be kept; nothing was added.
            PutUnknown: If the answer was lost: add them again.
            StoreFull: If there is no room for up to 1,000 of them; those before were added.
            NotReplicated: If they are added, and fewer replicas have them than were asked for.
            TypeError: If an argument is of the wrong kind; nothing was added.
            ValueError: If an argument is out of range, or the name is that of a queue; nothing was added.
        """
        new = 0
        for chunk in self._turning.chunks(items, every, due):
            new += sum(job.is_new for job in self._queue._put(chunk))
        return new

    def remove(self, *items: T) -> int:
        """Take items out, those that are leased too, whose leases are lost by it.

        Returns:
            How many were in it.
        """
        return self._queue.carry(self._turning.remove(items))

    def contains(self, item: T) -> bool:
        """Say whether an item is in it."""
        return self.get(item) is not None

    def get(self, item: T) -> QueueJob[T] | None:
        """Return what is known of an item; None if it is not in it.

        `due_at` says when it falls due, or when its lease expires; `error` why it last failed.
        """
        return self._queue.carry(self._turning.get(item))

    def hasten(self, *items: T) -> int:
        """Let items be due now that were to be due later.

        Returns:
            How many are due now by this; those that are due or leased stay as they are.
        """
        return self._queue.carry(self._turning.hasten(items))

    def lease(self, n: int = 1, *, wait: float = 0.0) -> list[QueueJob[T]]:
        """Take items that are due, the longest overdue first; without an `ack` they are due again later.

        Args:
            n: How many at most, 1 to 1,000.
            wait: Seconds to wait for a first one.

        Returns:
            The jobs of the items; none if nothing is due.
        """
        at_least("wait", wait, 0.0)
        queue = self._queue
        if self._turning.wants_rescue():
            queue.rescue()
        # Nothing is waited for once there are jobs: who is cancelled meanwhile would take them along.
        jobs = queue.lease(n)
        if jobs or not (queue.rescue() or wait):
            return jobs
        return queue.lease(n, wait=wait)

    def ack(self, *jobs: QueueJob[T], changed: bool | None = None, every: float | None = None) -> None:
        """Say that items are done: each is due again after its interval and the jitter.

        Args:
            *jobs: Jobs that were leased.
            changed: Whether the items had changed, for a rotation with `every=Between(...)`; None if
                nobody knows.
            every: Their own interval from now on.

        Raises:
            LeaseLost: If some leases are lost, or items were removed; the others are acknowledged.
            ValueError: If `changed` is given to a rotation whose intervals stay, or with `every`.
        """
        self._queue.carry(self._turning.ack(jobs, changed, every))

    def extend(self, *jobs: QueueJob[T]) -> None:
        """Let leases last from now on as long as new ones.

        Raises:
            LeaseLost: If some leases are lost, or items were removed; the others were extended.
        """
        self._queue.extend(*jobs)

    def release(self, *jobs: QueueJob[T], delay: float = 0.0) -> None:
        """Hand leased items back as if they had never been leased.

        Args:
            *jobs: Jobs that were leased.
            delay: Seconds before they are due again.

        Raises:
            LeaseLost: If some leases are lost, or items were removed; the others are back.
        """
        self._queue.carry(self._turning.asking.release(jobs, delay))

    def counts(self) -> RotationCounts:
        """Return how many items there are, and how many of them are due."""
        return self._queue.carry(self._turning.counts())

    def clear(self) -> int:
        """Take out everything, and return how many they were; what comes in meanwhile may stay."""
        total = 0
        while True:
            removed = 0
            for state in PURGED:
                removed += self._queue.admin.purge(state)
            leased = self._queue.find(state="leased", limit=1000)
            removed += self._queue.carry(self._turning.delete([job.id for job in leased.jobs]))
            total += removed
            if not removed:
                return total
