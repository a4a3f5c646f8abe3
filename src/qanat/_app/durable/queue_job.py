"""A job as it lies in a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from qanat._app.durable.lineage import read_metadata
from qanat._core.store.states import State
from qanat._stores.codec import decode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanat._core.store.values import NewJob, Placed, StoredJob

T = TypeVar("T")


class QueueJob(msgspec.Struct, Generic[T], frozen=True, kw_only=True, eq=False, gc=False):
    """A job in a queue, as it was when it was put, leased, got or found.

    Points in time are UTC seconds on the store's clock.

    Attributes:
        id: Its id; for a job that was not stored, that of the job that stands in its way.
        state: "scheduled", "ready", "leased", "waiting", "done", "dead" or "cancelled"; None for a
            job that was not stored.
        is_new: Whether a put stored it: False if its id is known, or its key is held.
        lane: Its lane; "" is the unnamed one.
        priority: Smaller is earlier within a lane. In a rotation when it last fell due, or will.
        key: What makes it unique, as the store has it; None without.
        handler: The name of the handler that is to run it; "" is the worker's own.
        attempt: Which lease it is on, from 1; 0 before the first.
        crashes: How often in a row its worker was lost.
        token: That of its lease; 0 if it is not leased.
        worker: Who holds, or held, the last lease.
        note: What its worker last said of it.
        put_at: When it was put; None for a job just put.
        due_at: When it falls due, its lease expires, or its record goes; None if never.
        started_at: When it was last leased.
        ended_at: When it ended.
        reason: Why it ended.
        error: Its last error, a traceback.
        parent: The id of its parent.
        body: Its item as it is stored, also if that cannot be read.
    """

    id: str
    state: State | None
    is_new: bool = False
    lane: str = ""
    priority: float = 0.0
    key: str | None = None
    handler: str = ""
    attempt: int = 0
    crashes: int = 0
    token: int = 0
    worker: str = ""
    note: str = ""
    put_at: float | None = None
    due_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    reason: str = ""
    error: str = ""
    parent: str | None = None
    body: bytes = b""
    _metadata: bytes = b""
    _value: bytes | None = None
    _type: Any = Any

    @property
    def item(self) -> T:
        """The item, read anew each time.

        Raises:
            SerialisationError: If it cannot be read, or is not of the queue's type.
        """
        return cast("T", decode(self.body, self._type))

    @property
    def value(self) -> Any:
        """What its handler returned; None without.

        Raises:
            SerialisationError: If it cannot be read.
        """
        return None if self._value is None else decode(self._value)

    @property
    def metadata(self) -> Mapping[str, Any] | None:
        """What was handed in with the item; None if nothing was.

        Raises:
            SerialisationError: If it cannot be read.
        """
        return read_metadata(self._metadata)


class Page(msgspec.Struct, Generic[T], frozen=True, eq=False):
    """A page of jobs.

    Attributes:
        jobs: Some jobs; may be none although there is a next page.
        next: What to hand in as `after` for the next page; None: this was the last.
    """

    jobs: list[QueueJob[T]]
    next: str | None = None


def of_stored(stored: StoredJob, type: Any) -> QueueJob[Any]:
    """Return a job as users see it."""
    if (
        not (stored.lane or stored.priority or stored.handler or stored.crashes or stored.note)
        and not (stored.reason or stored.error or stored.metadata)
        and stored.key is None and stored.parent is None and stored.value is None and stored.ended_at is None
    ):  # fmt: skip
        # So are nearly all that are leased, and this is a third of the cost.
        return QueueJob(
            id=stored.id, state=stored.state, attempt=stored.attempt,
            token=stored.token if stored.state == "leased" else 0, worker=stored.worker,
            put_at=stored.put_at, due_at=stored.due_at, started_at=stored.started_at, body=stored.body,
            _type=type,
        )  # fmt: skip
    return QueueJob(
        id=stored.id, state=stored.state, lane=stored.lane, priority=stored.priority, key=stored.key,
        handler=stored.handler, attempt=stored.attempt, crashes=stored.crashes,
        token=stored.token if stored.state == "leased" else 0, worker=stored.worker, note=stored.note,
        put_at=stored.put_at, due_at=stored.due_at, started_at=stored.started_at, ended_at=stored.ended_at,
        reason=stored.reason, error=stored.error, parent=stored.parent, body=stored.body,
        _metadata=stored.metadata, _value=stored.value, _type=type,
    )  # fmt: skip


def of_placed(new: NewJob, placed: Placed, type: Any) -> QueueJob[Any]:
    """Return a job that was put, or what stands in its way."""
    if not (placed.why or new.delay or new.lane or new.priority or new.handler or new.metadata or new.key):
        return QueueJob(id=new.id, state="ready", is_new=True, body=new.body, _type=type)
    is_new = not placed.why
    state: State = "scheduled" if new.delay else "ready"
    return QueueJob(
        id=new.id if is_new else placed.other, state=state if is_new else None, is_new=is_new,
        lane=new.lane, priority=new.priority, key=new.key, handler=new.handler, body=new.body,
        _metadata=new.metadata, _type=type,
    )  # fmt: skip
