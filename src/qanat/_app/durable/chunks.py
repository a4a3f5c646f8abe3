"""Items for `put_many`, cut into what a store takes in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import Struct

from qanat._app.failures import add_note
from qanat._core.shown import shown
from qanat._core.store.bounds import MOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qanat._app.durable.asking import Asking
    from qanat._core.store.values import NewJob

MOST_BYTES: Final = 8 * 2**20
"""Bytes of items in one chunk, unless a single one is larger."""

E = TypeVar("E", bound=BaseException)


class Given(Struct, frozen=True, kw_only=True):
    """Functions of an item that say of its job what `put` is told by keywords; None is not asked."""

    id: Callable[[Any], str] | None = None
    key: Callable[[Any], Any] | None = None
    priority: Callable[[Any], float] | None = None
    lane: Callable[[Any], str | None] | None = None
    metadata: Callable[[Any], Mapping[str, Any] | None] | None = None
    delay: float = 0.0
    handler: str = ""

    def checked(self) -> Given:
        """Return itself, if what should be functions are.

        Raises:
            TypeError: If one is not.
        """
        for name in ("id", "key", "priority", "lane", "metadata"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise TypeError(f"{name} must be a function of the item, got {shown(value)}")
        return self

    def maker(self, asking: Asking) -> Callable[[Any], NewJob]:
        """Return what makes the job of an item."""
        if self == _NOTHING_GIVEN:
            return asking.new
        return lambda item: self.new(asking, item)

    def new(self, asking: Asking, item: object) -> NewJob:
        """Return the job of an item."""
        return asking.new(
            item,
            id=None if self.id is None else self.id(item),
            key=None if self.key is None else self.key(item),
            priority=0.0 if self.priority is None else self.priority(item),
            lane=None if self.lane is None else self.lane(item),
            metadata=None if self.metadata is None else self.metadata(item),
            delay=self.delay,
            handler=self.handler,
        )


_NOTHING_GIVEN: Final = Given()


class Chunk:
    """Jobs that go together."""

    def __init__(self, most: int = MOST) -> None:
        """Begin with none; `most` make it full."""
        self._most = most
        self.jobs: list[NewJob] = []
        self._bytes = self._taken = 0

    def add(self, job: NewJob) -> bool:
        """Take a job; True if the chunk is full."""
        self.jobs.append(job)
        self._bytes += len(job.body) + len(job.metadata)
        return len(self.jobs) >= self._most or self._bytes >= MOST_BYTES

    def take(self) -> list[NewJob]:
        """Return the jobs, and begin anew."""
        jobs, self.jobs, self._bytes = self.jobs, [], 0
        self._taken += len(jobs)
        return jobs

    def blame(self, error: BaseException) -> None:
        """Say of an error which item it came of: the next one."""
        add_note(error, f"put_many: this came of item {self._taken + len(self.jobs)}, counted from 0")


def chunks(asking: Asking, items: Iterable[Any], given: Given, most: int = MOST) -> Iterator[list[NewJob]]:
    """Cut items into chunks of so many at most, each read when it is asked for."""
    chunk, new = Chunk(most), given.maker(asking)
    for item in items:
        try:
            job = new(item)
        except BaseException as error:
            chunk.blame(error)
            raise
        if chunk.add(job):
            yield chunk.take()
    if chunk.jobs:
        yield chunk.take()


def with_stored(error: E, ids: list[str]) -> E:
    """Attach to an error what was stored before it, for `errors.stored_of`."""
    try:
        error._qanat_stored = tuple(ids)  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001, S110 - it lets nothing be set
        pass
    add_note(error, f"put_many: {len(ids):,} jobs were stored before this, see errors.stored_of")
    return error
