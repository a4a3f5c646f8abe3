"""`open`: a store by its URL, for event loops and for plain threads.

Both faces hand the same asks to a courier of their own: one awaits the answers, one waits for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, overload

import anyio
from msgspec import UNSET

from qanat._app.durable.asking import Ask, Asking
from qanat._app.durable.connecting import connector
from qanat._app.durable.hints import Hints
from qanat._app.durable.ids import Ids
from qanat._app.durable.operating import asked, examination, names, time_of
from qanat._app.durable.options import QueueArgs, RotationArgs, checked_options, rotation_options
from qanat._app.durable.plain_queue import PlainQueue
from qanat._app.durable.plain_rotation import PlainRotation
from qanat._app.durable.pulse import Pulse
from qanat._app.durable.queue import Queue
from qanat._app.durable.rotation import Rotation
from qanat._app.durable.turning import Turning
from qanat._app.durable.worker_name import worker_name
from qanat._core.store import bounds
from qanat._core.store.levels import rank, suffices
from qanat._core.store.values import Settle
from qanat._engine.clock import clock_in_use
from qanat._engine.courier import Courier, Desk
from qanat._engine.loop import running_loop
from qanat._stores.deeds import Deeds
from qanat.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from qanat._app.durable.connecting import Reach
    from qanat._core.intervals import Interval
    from qanat._core.ports import Clock
    from qanat._core.store.finding import Finding
    from qanat._engine.courier import Begun, PlainBegun
    from qanat._engine.loop import Loop
    from qanat._stores.url import StoreUrl

T = TypeVar("T")
A = TypeVar("A")

POLL: Final = 1.0
"""Seconds after which a store is looked at that others may have handed something."""
ROTATION_LEASE: Final = 600.0
"""Seconds of a lease in a rotation, unless it is told."""
_CONTROL_ASK: Final[Ask[str]] = Ask("guarantees", [None], lambda answers: str(answers[0]))


def open(url: str, *, require_durability: str | None = None) -> Opening:  # noqa: A001 - the name is promised
    """Open a store of durable queues by its URL.

        async with qanat.open("sqlite:///work.db") as store: ...     # in async code: a `Store`
        with qanat.open("sqlite:///work.db") as store: ...           # in plain code: a `PlainStore`

    Args:
        url: `memory://` in this process, `sqlite:///work.db` a file, `redis://host` and its kin a server.
        require_durability: Refuse a store that promises less: "process" what is put survives the end of
            the process, "~1s" a loss of power takes a second with it at most, "fsync" it takes nothing,
            "replicas(n)" the loss of n machines takes nothing.

    Returns:
        What is to be entered; nothing is opened before.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If the URL names no store that is installed, or the durability is none of these.
    """
    if require_durability is not None:
        rank("require_durability", require_durability)
    parsed, reach = connector(url)
    return Opening(parsed, reach, require_durability)


class Opening:
    """A store about to be entered, by `async with` or by `with`."""

    def __init__(self, url: StoreUrl, reach: Reach, required: str | None) -> None:
        """Open nothing yet."""
        self._url = url
        self._reach = reach
        self._required = required
        self._store: Store | None = None
        self._plain: PlainStore | None = None

    def __repr__(self) -> str:
        """Show the URL, without its secrets."""
        return f"<qanat.open({str(self._url)!r})>"

    async def __aenter__(self) -> Store:
        """Connect.

        Raises:
            StoreError: If it cannot be used, or promises less than required.
        """
        if self._store is not None:
            raise RuntimeError("the store is open: open it again by another call of qanat.open")
        # AnyIO brings its parts in with their first use, which is not to be a worker's first claim.
        anyio.get_cancelled_exc_class()
        store = self._store = Store(self._url, self._reach)
        try:
            _check_durability(self._url, self._required, await store.guarantees())
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return store

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Carry out what was handed in, and let go."""
        store, self._store = self._store, None
        if store is not None:
            with anyio.CancelScope(shield=True):
                await store.aclose()

    def __enter__(self) -> PlainStore:
        """Connect; as `async with` does, but waiting.

        Raises:
            StoreError: If it cannot be used, or promises less than required.
        """
        if self._plain is not None:
            raise RuntimeError("the store is open: open it again by another call of qanat.open")
        store = self._plain = PlainStore(self._url, self._reach)
        try:
            _check_durability(self._url, self._required, store.guarantees())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return store

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Carry out what was handed in, and let go."""
        store, self._plain = self._plain, None
        if store is not None:
            store.close()


class _Face:
    """What both faces of a store share.

    Attributes:
        hints: Who waits at which queue.
        poll: Seconds after which to look, whether there was a hint or not.
        step: Jobs in one step of the store at most.
        clock: The clock of this process.
    """

    def __init__(self, url: StoreUrl, reach: Reach, loop: Loop | None) -> None:
        self._url = url
        self._reach = reach
        self.step: int = reach.step
        self.courier: Courier = Courier(
            lambda: Deeds(reach.connect()), name=f"qanat-{url.kind}", most=reach.step
        )
        # What is in memory comes through here or not at all.
        self.poll: float = float("inf") if url.kind == "memory" else POLL
        self.clock: Clock = clock_in_use()
        # Virtual time knows nothing of threads that wait, so there is the poll alone.
        make_ear = reach.make_ear if loop is None or self.clock.precision > 0.0 else None
        bring = None if loop is None else loop.call_soon_threadsafe
        self.hints: Hints = Hints(make_ear, bring, f"qanat-{url.kind}-ear")
        self._ids = Ids(self.clock.wall)
        self.worker: str = worker_name()

    def __repr__(self) -> str:
        """Show the URL, without its secrets."""
        return f"<{type(self).__name__} {self._url}>"

    @property
    def is_private(self) -> bool:
        """Whether nobody else can reach this store."""
        return self._url.kind == "memory"

    def heard(self, ask: Ask[A], queue: str, answers: list[Any]) -> A:
        """Return what a caller gets, and tell who waits if there is work for them."""
        if ask.rings:
            self.hints.ring(queue)
        return ask.understand(answers)

    def _asking(self, name: str, options: Any) -> Asking:
        bounds.checked_name("name", name)
        return Asking(name, checked_options(options), self._ids, self.worker)

    def _turning(self, name: str, every: object, jitter: object, options: Mapping[str, Any]) -> Turning:
        bounds.checked_name("name", name)
        asking = Asking(name, rotation_options(options), self._ids, self.worker)
        return Turning(asking, self.clock, every, jitter)


class Store(_Face):
    """A store of durable queues, in an event loop; it belongs to that loop."""

    def __init__(self, url: StoreUrl, reach: Reach) -> None:
        """Take the running event loop."""
        super().__init__(url, reach, running_loop())
        self._desk = self.courier.desk()
        self._pulse_desk: Desk | None = None
        self._claim_desk: Desk | None = None
        self.pulse: Pulse = Pulse(self)
        # By queue, who is told of the ids of jobs that ended here.
        self.watchers: dict[str, list[Callable[[list[str]], object]]] = {}

    @overload
    def queue(self, name: str, *, type: type[T], **options: Unpack[QueueArgs]) -> Queue[T]: ...
    @overload
    def queue(self, name: str, **options: Unpack[QueueArgs]) -> Queue[Any]: ...
    def queue(self, name: str, *, type: Any = UNSET, **options: Unpack[QueueArgs]) -> Queue[Any]:
        """Return a queue; nothing is asked of the store yet.

        `unique`, `max_attempts`, `max_age` and `keep` are fixed in the store at first use. Later they may
        be left out; those that are given have to be the same, which is checked with the first call of a
        method. Those left out at first use have their defaults.

        Args:
            name: 1 to 128 letters, digits, dots, dashes and underscores.
            type: What items are, for all but JSON's own types: a dataclass or a msgspec Struct.
            **options: `unique`, default None: how long a key keeps other jobs away: "pending" until its
                job is leased first, "active" until it has ended, "forever".
                `lease`, default 30.0: seconds for which a job is leased.
                `max_attempts`, default 20: how often a job is leased at most; None is any number.
                `max_age`, default None: seconds after which a job is leased no more.
                `keep`, default 0: seconds for which jobs that are done or cancelled are kept with their
                values; those that are dead are kept until they are purged.
                `replicas`, default 0, and `durable`, default False: how many replicas must have what is
                put, and whether it must be on disk, before a put returns.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of range.
        """
        given: dict[str, Any] = {**options}
        if type is not UNSET:
            given["type"] = type
        return Queue(self, self._asking(name, given))

    @overload
    def rotation(
        self, name: str, *, every: Interval, type: type[T], jitter: float = 0.1,
        **options: Unpack[RotationArgs],
    ) -> Rotation[T]: ...  # fmt: skip
    @overload
    def rotation(
        self, name: str, *, every: Interval, jitter: float = 0.1, **options: Unpack[RotationArgs]
    ) -> Rotation[Any]: ...
    def rotation(
        self, name: str, *, every: Interval, type: Any = UNSET, jitter: float = 0.1,
        **options: Unpack[RotationArgs],
    ) -> Rotation[Any]:  # fmt: skip
        """Return a rotation: items that come again and again; nothing is asked of the store yet.

        All options are this handle's own; the store keeps the items, when each falls due, and the
        intervals that are not the rotation's. A name is that of a rotation or that of a queue.

        Args:
            name: 1 to 128 letters, digits, dots, dashes and underscores.
            every: Seconds until an item that was done is due again; or `Between(lowest, highest)`, where
                the interval of each item follows how often it changes.
            type: What items are, for all but JSON's own types: a dataclass or a msgspec Struct.
            jitter: A share of the interval, from 0 to 1: up to so much later, at random, an item comes, so
                that what was added at once does not come at once for ever.
            **options: `lease`, default 600.0: seconds after which an item that was leased and not
                acknowledged is due again.
                `replicas`, default 0, and `durable`, default False: how many replicas must have what is
                added, and whether it must be on disk, before an `add` returns.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of range.
        """
        return Rotation(self, self._turning(name, every, jitter, _given(options, type)))

    async def guarantees(self) -> str:
        """Return what survives: "none", "process", "~1s", "fsync", "replicas(n)", or "unverified"."""
        return await self.carry(_CONTROL_ASK, "")

    async def queues(self) -> list[str]:
        """Return the names of all queues, sorted."""
        return await self.carry(asked(names), "")

    async def now(self) -> float:
        """Return the time on the store's clock, as all that ends in `_at` in its jobs."""
        return await self.carry(asked(time_of), "")

    async def doctor(
        self,
        *,
        queue: str | None = None,
        require: str | None = None,
        check: bool = False,
        repair: bool = False,
    ) -> list[Finding]:
        """Look whether what the store promises holds: at its settings, its state and its queues.

        Args:
            queue: Which queue to look at; None: all.
            require: A level of durability to compare with, as in `open`.
            check: Whether to look for contradictions in the queues, which looks at every job; a Redis
                server answers nobody else meanwhile.
            repair: Whether to mend those; no job is deleted.

        Returns:
            What was looked at; a promise does not hold where `ok` is False.

        Raises:
            ValueError: If `repair` is without `check`, or an argument is out of range.
        """
        return (await self.carry(examination(queue, require, check=check, repair=repair), "")).findings

    async def carry(self, ask: Ask[A], queue: str) -> A:
        """Carry out an ask, together with those of others that gather meanwhile."""
        answers = await self.begin(ask).wait()
        return self.heard(ask, queue, answers)

    def begin(self, ask: Ask[Any]) -> Begun:
        """Let an ask go; `heard` makes of its answers what the caller gets."""
        return self._desk.begin(ask.deed, ask.asked, lambda answers: self._too_late(ask, answers))

    def _too_late(self, ask: Ask[Any], answers: list[Any]) -> None:
        """Give back what was leased for somebody who was cancelled meanwhile."""
        name, _, queue = ask.deed.partition(" ")
        if name == "claim":
            back = [
                Settle(id=job.id, token=job.token, kind="release") for claim in answers for job in claim.jobs
            ]
            if back:
                self._desk.send(f"settle {queue}", back, lambda _call: self.hints.ring(queue))
        elif ask.rings:
            self.hints.ring(queue.partition(" ")[0])

    @property
    def desk(self) -> Desk:
        """Where deeds are handed in."""
        return self._desk

    @property
    def claim_desk(self) -> Desk:
        """Where consumers hand in their claims: beside settles, where a server is at work for both in turns.

        A file has one writer at a time, and what is in memory makes nobody wait.
        """
        if self._claim_desk is None:
            has_server = self._url.kind not in {"memory", "sqlite"}
            self._claim_desk = self.courier.claim_desk() if has_server else self._desk
        return self._claim_desk

    @property
    def pulse_desk(self) -> Desk:
        """Where what must not wait behind deeds is handed in."""
        if self._pulse_desk is None:
            self._pulse_desk = self.courier.desk(pulse=True)
        return self._pulse_desk

    async def aclose(self) -> None:
        """Carry out what was handed in, and let go; leaving the block does it."""
        await self.hints.aclose()
        await self.courier.aclose()


class PlainStore(_Face):
    """A store of durable queues for plain code; it may be used by several threads."""

    def __init__(self, url: StoreUrl, reach: Reach) -> None:
        """Belong to no event loop."""
        super().__init__(url, reach, None)

    @overload
    def queue(self, name: str, *, type: type[T], **options: Unpack[QueueArgs]) -> PlainQueue[T]: ...
    @overload
    def queue(self, name: str, **options: Unpack[QueueArgs]) -> PlainQueue[Any]: ...
    def queue(self, name: str, *, type: Any = UNSET, **options: Unpack[QueueArgs]) -> PlainQueue[Any]:
        """Return a queue; nothing is asked of the store yet. All is as in `Store.queue`."""
        given: dict[str, Any] = {**options}
        if type is not UNSET:
            given["type"] = type
        return PlainQueue(self, self._asking(name, given))

    @overload
    def rotation(
        self, name: str, *, every: Interval, type: type[T], jitter: float = 0.1,
        **options: Unpack[RotationArgs],
    ) -> PlainRotation[T]: ...  # fmt: skip
    @overload
    def rotation(
        self, name: str, *, every: Interval, jitter: float = 0.1, **options: Unpack[RotationArgs]
    ) -> PlainRotation[Any]: ...
    def rotation(
        self, name: str, *, every: Interval, type: Any = UNSET, jitter: float = 0.1,
        **options: Unpack[RotationArgs],
    ) -> PlainRotation[Any]:  # fmt: skip
        """Return a rotation; nothing is asked of the store yet. All is as in `Store.rotation`."""
        return PlainRotation(self, self._turning(name, every, jitter, _given(options, type)))

    def guarantees(self) -> str:
        """Return what survives: "none", "process", "~1s", "fsync", "replicas(n)", or "unverified"."""
        return self.carry(_CONTROL_ASK, "")

    def queues(self) -> list[str]:
        """Return the names of all queues, sorted."""
        return self.carry(asked(names), "")

    def now(self) -> float:
        """Return the time on the store's clock; all is as in `Store.now`."""
        return self.carry(asked(time_of), "")

    def doctor(
        self,
        *,
        queue: str | None = None,
        require: str | None = None,
        check: bool = False,
        repair: bool = False,
    ) -> list[Finding]:
        """Look whether what the store promises holds; all is as in `Store.doctor`."""
        return self.carry(examination(queue, require, check=check, repair=repair), "").findings

    def carry(self, ask: Ask[A], queue: str) -> A:
        """Carry out an ask, together with those of other threads that gather meanwhile."""
        return self.heard(ask, queue, self.courier.ask(ask.deed, ask.asked))

    def begin(self, ask: Ask[Any]) -> PlainBegun:
        """Let an ask go; `heard` makes of its answers what the caller gets."""
        return self.courier.begin(ask.deed, ask.asked)

    def close(self) -> None:
        """Carry out what was handed in, and let go; leaving the block does it."""
        self.hints.close()
        self.courier.close()


def _given(options: Any, type: Any) -> dict[str, Any]:
    given = {"lease": ROTATION_LEASE, **options}
    if type is not UNSET:
        given["type"] = type
    return given


def _check_durability(url: StoreUrl, required: str | None, found: str) -> None:
    """Refuse a store that promises less than is required."""
    if required is not None and not suffices(found, required):
        raise StoreError(
            f"the store {url} promises {found!r}, and {required!r} is required: "
            "set the store up for it, or require less"
        )
