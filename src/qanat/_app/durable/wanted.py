"""What a call over a queue wants of it: for each item a job, by whose id every such call finds it.

The id is a digest of the handler's name, the version, and the key of the item. So the same call in
another process, or after a crash, means the same jobs, and another handler means others.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from qanat._app.handler_names import handler_name
from qanat._app.handlers import name_of
from qanat._app.journaling import ValueCodec, short
from qanat._core.content_key import content_key, given_key
from qanat._core.outcome import Outcome, State
from qanat._core.store.bounds import BODY_BYTES
from qanat._stores.codec import decode
from qanat.errors import JobCancelledError, JobFailedError, SerialisationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._app.durable.asking import Asking
    from qanat._app.rules import Rules
    from qanat._core.store.values import NewJob, StoredJob

_PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types that come back from JSON as they went."""


class Wanted(NamedTuple):
    """An item whose outcome is wanted.

    Attributes:
        place: Its position in the input.
        item: What was handed in.
        since: When it was read, monotonic.
    """

    place: int
    item: Any
    since: float


class Making:
    """How items become jobs, and what became of jobs their outcomes.

    Args:
        handler: The handler.
        rules: The rules of the call.
        asking: How jobs of the queue are made.
    """

    def __init__(self, handler: Callable[..., Any], rules: Rules, asking: Asking) -> None:
        """Find out by what the handler is known, and what it returns."""
        known = handler_name(handler, rules.version, keeper="a queue")
        self._salt = repr((known, rules.version)).encode("utf-8", "surrogatepass")
        self._handler = name_of(handler)
        self._key = rules.key
        self._priority = rules.priority
        self._asking = asking
        self._codec = ValueCodec(handler, batch=rules.batch is not None, keeper="the queue")

    def new(self, item: object) -> NewJob:
        """Return the job of an item.

        Raises:
            SerialisationError: If the item has no key, or would not come back as it is.
            BaseException: What the rules `key` and `priority` raise.
        """
        key = content_key(item) if self._key is None else given_key(self._key(item))
        id = blake2b(self._salt + key, digest_size=16).hexdigest()
        priority = 0.0 if self._priority is None else self._priority(item)
        new = self._asking.new(item, id=id, priority=priority, handler=self._handler)
        if type(item) not in _PLAIN:
            back = decode(new.body, self._asking.options.type)
            if back != item:
                raise SerialisationError(
                    f"the item {short(item)} of type {type(item).__name__} would come back from the queue as "
                    f"{short(back)}: open the queue with type={type(item).__name__}, or hand in JSON types"
                )
        # Known as long as its record is there: a job that is forgotten is done anew.
        return replace(new, dedupe_for=0.0)

    def encode(self, value: object) -> bytes:
        """Return a value as it is kept, after it was read back and compared.

        Raises:
            SerialisationError: If it would not come back equal, or is too large.
        """
        content = self._codec.encode(value)
        if len(content) > BODY_BYTES:
            raise SerialisationError(f"the value is larger than {BODY_BYTES:,} bytes, all that a queue takes")
        return content

    def outcome(self, stored: StoredJob, now: float) -> Outcome[Any, Any]:
        """Return the outcome of a job that has ended, here or elsewhere, as its store knows it."""
        value: Any = None
        error: BaseException | None = None
        if stored.state == "done":
            try:
                value = None if stored.value is None else self._codec.decode(stored.value)
            except SerialisationError as problem:
                error = problem
        elif stored.state == "dead":
            error = JobFailedError(stored.reason, stored.error)
        else:
            error = JobCancelledError("the job was cancelled in the queue")
        return Outcome(
            stored.id, -1, None, value, error,
            "cancelled" if stored.state == "cancelled" else "done" if error is None else "dead",
            stored.attempt, stored.lane or None, None, None, now, None, now, 0.0,
        )  # fmt: skip


def outcome_for(wanted: Wanted, outcome: Outcome[Any, Any], *, first: bool = True) -> Outcome[Any, Any]:
    """Return what a job's outcome is for one of those who want it; for all but one it took no time."""
    waited = outcome.offered_at - wanted.since
    lost = dict(outcome.waits)
    if waited > 0.0:
        lost["turn"] = lost.get("turn", 0.0) + waited
    return replace(
        outcome, index=wanted.place, item=wanted.item, offered_at=wanted.since, metadata=None, parent=None,
        lost=lost, ran=outcome.ran if first else 0.0, ended_at=max(outcome.ended_at, wanted.since),
    )  # fmt: skip


def failed(wanted: Wanted, error: BaseException, now: float) -> Outcome[Any, Any]:
    """Return the outcome of an item that never was a job."""
    state: State = "cancelled" if isinstance(error, JobCancelledError) else "dead"
    return Outcome(
        wanted.place, wanted.place, wanted.item, None, error, state, 0, None, None, None, wanted.since, None,
        now, 0.0,
    )  # fmt: skip
