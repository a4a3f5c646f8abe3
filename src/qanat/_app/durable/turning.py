"""What a rotation asks of its store. It is a queue of one job an item, whose leases end with "again".

    add         put, under an id that the item's content makes; its own interval goes into the metadata
    remove      delete, leased or not
    contains    get
    hasten      requeue
    lease       claim, behind a rescue now and then
    ack         settle "again", delayed by the interval; one that is not the rotation's is kept as the value
    counts      count
    clear       purge, and delete of what is leased

The store orders by when items fell due (`Conf.order`), and counts no lost leases.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from msgspec.structs import replace

from qanat._app.durable.asking import Ask, leases_of
from qanat._app.durable.chunks import Chunk
from qanat._core.arguments import at_least, number
from qanat._core.content_key import content_key
from qanat._core.intervals import Between
from qanat._core.shown import shown
from qanat._core.store import bounds
from qanat._core.store.states import LIVE, State
from qanat._core.store.values import Settle
from qanat._stores.codec import decode, encode, is_simple
from qanat.errors import SerialisationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from qanat._app.durable.asking import Asking
    from qanat._app.durable.queue_job import QueueJob
    from qanat._core.intervals import Interval
    from qanat._core.ports import Clock
    from qanat._core.store.values import Counts, NewJob, StoredJob

RESCUE: Final = 1.0
"""Seconds between two looks for expired leases, at least, while enough else is due."""
PURGED: Final[tuple[State, ...]] = ("scheduled", "ready")
"""States of items that nobody has leased, in the order in which they are cleared."""


class RotationCounts(NamedTuple):
    """How many items a rotation has.

    Attributes:
        all: All of them, those that are leased included.
        due: Those that would be leased now.
    """

    all: int
    due: int


class Turning:
    """The asks that only a rotation makes, and how its items come again."""

    def __init__(self, asking: Asking, clock: Clock, every: object, jitter: object) -> None:
        """Check what is a rotation's own."""
        self.asking: Asking = asking
        asking.turning = self
        self.every: Interval = every if isinstance(every, Between) else _seconds("every", every)
        self.jitter: float = at_least("jitter", jitter, 0.0)
        if self.jitter > 1.0:
            raise ValueError(f"jitter must be at most 1, got {shown(jitter)}: it is a share of every")
        self._clock = clock
        self._rng = random.Random(clock.seed)
        self._rescued_at = float("-inf")

    # Items come and go.

    def chunks(self, items: Sequence[object], every: object, due: object) -> Iterator[list[NewJob]]:
        """Return new jobs for items, in what goes in one step; all are checked before the first."""
        delay = at_least("due", due, 0.0)
        bounds.check_seconds("due", delay)
        metadata = None if every is None else {"every": self._checked("every", every)}
        chunk = Chunk()
        chunks = [chunk.take() for item in items if chunk.add(self._new(item, delay, metadata))]
        return iter([*chunks, chunk.jobs] if chunk.jobs else chunks)

    def _new(self, item: object, delay: float, metadata: Mapping[str, Any] | None) -> NewJob:
        new = self.asking.new(item, id=id_of(item), delay=delay, metadata=metadata)
        # What has left may come in again at once.
        return replace(new, dedupe_for=0.0)

    def _checked(self, name: str, every: object) -> float:
        """Return an interval of an item's own."""
        seconds = _seconds(name, every)
        common = self.every
        if isinstance(common, Between) and not common.lowest <= seconds <= common.highest:
            raise ValueError(
                f"{name} must be within {common.lowest!r} and {common.highest!r}, got {shown(every)}"
            )
        return seconds

    def remove(self, items: Sequence[object]) -> Ask[int]:
        """Ask to take items out, whoever has them."""
        return self.delete([id_of(item) for item in items])

    def delete(self, ids: list[str]) -> Ask[int]:
        """Ask to take out by ids."""
        return Ask(f"delete {self.asking.name} leased", list(ids), _counting("deleted"))

    def hasten(self, items: Sequence[object]) -> Ask[int]:
        """Ask to let items be due now."""
        ids: list[Any] = [id_of(item) for item in items]
        return Ask(f"requeue {self.asking.name}", ids, _counting("ready"), rings=True)

    def get(self, item: object) -> Ask[QueueJob[Any] | None]:
        """Ask what is known of an item."""
        ask = self.asking.get(id_of(item))

        def understand(answers: list[Any]) -> QueueJob[Any] | None:
            job = ask.understand(answers)
            return job if job is not None and job.state in LIVE else None

        return Ask(ask.deed, ask.asked, understand)

    def counts(self) -> Ask[RotationCounts]:
        """Ask how many there are."""

        def understand(answers: list[Counts]) -> RotationCounts:
            counts = answers[0]
            return RotationCounts(counts.scheduled + counts.ready + counts.leased, counts.ready + counts.due)

        return Ask(f"count {self.asking.name}", [None], understand)

    # Items are done.

    def wants_rescue(self) -> bool:
        """Say whether it is time to look for leases that have expired; then it is not for a while."""
        now = self._clock.now()
        if now - self._rescued_at < min(RESCUE, self.asking.options.lease / 3.0):
            return False
        self._rescued_at = now
        return True

    def ack(self, jobs: Sequence[QueueJob[Any]], changed: object, every: object) -> Ask[None]:
        """Ask to let items come again."""
        if changed is not None and every is not None:
            raise ValueError(f"every must be None where changed is given, got {shown(every)}")
        if changed is not None and not isinstance(changed, bool):
            raise TypeError(f"changed must be True, False or None, got {shown(changed)}")
        if changed is not None and not isinstance(self.every, Between):
            raise ValueError(
                f"changed must be None, as every is the same each time, got {changed}: give the rotation "
                "every=Between(lowest, highest)"
            )
        own = None if every is None else self._checked("every", every)
        leases_of(jobs)
        return self.asking.settle(
            [self._again(job.id, job.token, job._value, job._metadata, changed, own) for job in jobs]
        )

    def done(self, stored: StoredJob, value: bytes | None) -> Settle:
        """Return how a lease ends whose handler has returned; its value says whether the item changed."""
        changed = None if value is None else value == b"true"
        return self._again(stored.id, stored.token, stored.value, stored.metadata, changed, None)

    def failed(self, stored: StoredJob, reason: str, error: str = "") -> Settle:
        """Return how a lease ends whose item could not be done: it comes again all the same."""
        return self._again(
            stored.id, stored.token, stored.value, stored.metadata, None, None, reason=reason, error=error
        )

    def seal(self, value: object) -> bytes | None:
        """Return what is to be known of what a handler returned, for `done`.

        Raises:
            TypeError: If it is to say whether the item has changed, and does not.
        """
        if value is None or not isinstance(self.every, Between):
            return None
        if not isinstance(value, bool):
            raise TypeError(
                "the handler of a rotation with every=Between(...) must return True if the item has changed, "
                f"False if not, None if it cannot tell, got {type(value).__name__}"
            )
        return encode(value)

    def _again(
        self, id: str, token: int, kept: bytes | None, metadata: bytes, changed: bool | None,
        own: float | None, *, reason: str = "", error: str = "",
    ) -> Settle:  # fmt: skip
        every = self.every
        value: bytes | None = None
        if isinstance(every, Between):
            last = _found(kept) or _own(kept) or _own(metadata) or every.lowest
            interval = every.after(last, changed=changed) if own is None else own
            value = encode(interval)
        elif own is not None:
            interval = own
            value = encode({"every": own})
        else:
            interval = _own(kept) or _own(metadata) or every
        delay = min(interval * (1.0 + self.jitter * self._rng.random()), bounds.LONGEST)
        return Settle(id=id, token=token, kind="again", delay=delay, value=value, reason=reason, error=error)


def id_of(item: object) -> str:
    """Return the id of an item: what it is as JSON makes it, so that all who hand it in mean the same."""
    # A text, a number and what is simple would come back as they are.
    is_plain = type(item) is str or type(item) is int or is_simple(item)
    return content_key(item if is_plain else decode(encode(item))).hex()


def _found(value: bytes | None) -> float | None:
    """Return the interval that was found out for an item, if this is one."""
    return _positive(_read(value))


def _own(value: bytes | None) -> float | None:
    """Return the interval that somebody gave an item, if this holds one."""
    if not value:
        return None  # as of nearly all
    read = _read(value)
    return _positive(cast("Mapping[str, object]", read).get("every")) if isinstance(read, dict) else None


def _read(value: bytes | None) -> object:
    try:
        return decode(value) if value else None
    except SerialisationError:
        return None  # nothing of ours


def _positive(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 < value <= bounds.LONGEST else None


def _seconds(name: str, value: object) -> float:
    if isinstance(value, (bool, str)):
        raise TypeError(f"{name} must be seconds, or Between(lowest, highest), got {shown(value)}")
    seconds = number(name, value)
    bounds.check_seconds(name, seconds, above=True)
    return seconds


def _counting(what: str) -> Callable[[list[Any]], int]:
    def count(answers: list[Any]) -> int:
        return sum(answer == what for answer in answers)

    return count
