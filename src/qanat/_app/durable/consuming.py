"""`consume`: work the jobs of a queue off with the engine of every run; see `working`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, Unpack, cast

from qanat._app.durable.queue import Queue
from qanat._app.durable.renewing import STALL_LIMIT
from qanat._app.durable.rotation import Rotation
from qanat._app.durable.working import Handler, Worker
from qanat._app.handlers import check_handler, name_of
from qanat._app.rules import Rules
from qanat._core.arguments import at_least, positive
from qanat._core.shown import shown
from qanat._engine.callee import callee_of

if TYPE_CHECKING:
    from qanat._app.rule_args import AllArgs
    from qanat._app.stopping import Stopping

T = TypeVar("T")

Handlers = Mapping[str, Handler] | Iterable[Handler]


_MEANINGLESS: Final = {
    "queue": "it is the first argument",
    "id": "a job's id is given with put",
    "key": "a job's key is given with put",
    "max_jobs": "a queue has no end to count up to",
    "journal": "a queue keeps what is done",
    "version": "it goes with a journal",
    "retry_failed": "it goes with a journal",
    "record": "what a store answers is not replayed",
}
"""Rules that have nothing to say about jobs of a queue, and why."""


async def consume(
    queue: Queue[T] | Rotation[T],
    handler: Callable[[T], Any] | None,
    *,
    handlers: Handlers | None = None,
    burst: bool = False,
    grace: float = 25.0,
    stall_limit: float = STALL_LIMIT,
    rules: Rules | None = None,
    **options: Unpack[AllArgs],
) -> None:
    """Lease the jobs of a queue, run a handler for each, and settle them; for ever, or in a burst.

    Takes the rules of `collect`, but for those that mean nothing here. Leases are renewed while jobs
    wait or run here, whatever the event loop does. `retry` says whether and when a failed job is tried
    again; it goes back to the queue until then, whose `max_attempts` and `max_age` are the outer bound.
    Delivery is at least once: a worker that is lost leaves jobs that run again.

    What a handler spawns is put in the step that ends its attempt as a success; its job then waits for
    its children. `after_children` takes a function of `handlers`, or its name, and it is called by whoever
    knows it.

    Over a rotation an item whose handler returned is due again after its interval. So is one that failed
    and is not tried again; only `Discard` takes it out. With `every=Between(...)` the handler returns
    whether the item had changed: True, False, or None if it cannot tell. Else what it returns means
    nothing.

    To stop it, cancel it: nothing more is leased, what waits here goes back to the queue, what runs has
    `grace` seconds to end, is cancelled then, and goes back as if it had never been leased. Cancelled
    once more (on asyncio), it cancels at once.

    Args:
        queue: A queue of an open store, or a rotation.
        handler: A function of one item, for jobs that name no handler; None if all do.
        handlers: Functions for jobs that name one: by their names, or by their `__qualname__`. No other
            name runs; a job that has another waits for a worker that knows it.
        burst: End when the queue holds nothing that could be leased now, and nothing that failed here is
            to be tried again.
        grace: Seconds that what runs has to end when it is stopped.
        stall_limit: For how many seconds a handler may block the event loop and keep the leases of this
            call. Then they are renewed no more, which is logged, and other workers take the jobs; what
            comes of them here means nothing. Looked at three times in a lease.
        rules: The rules as one value.
        **options: Single rules, see `Rules`; they win over `rules`.

    Raises:
        TypeError: If an argument is of the wrong kind; before any work starts.
        ValueError: If an argument is out of range, or a rule means nothing here; before any work starts.
        TooManyFailuresError: If more jobs were given up than `max_failures` allows.
        StartTimeoutError: If no job arrived within `start_within`.
        StoreError: If the store cannot be used at all; one that is away for a time is waited for.
    """
    worker = make_worker(
        queue, handler, handlers, burst=burst, grace=grace, stall_limit=stall_limit,
        rules=Rules.of(rules, options),
    )  # fmt: skip
    await worker.run()


def make_worker(
    queue: Queue[Any] | Rotation[Any], handler: Handler | None, handlers: Handlers | None, *, burst: bool,
    grace: float, rules: Rules, stall_limit: float = STALL_LIMIT, stopping: Stopping | None = None,
    stalled: Callable[[], object] | None = None, progress: bool | None = False,
) -> Worker:  # fmt: skip
    """Check what a call was given, and return what does its work."""
    if isinstance(queue, Rotation):
        if handlers is not None:
            raise ValueError(
                f"handlers must be None for a rotation, got {shown(handlers)}: items name no handler"
            )
        queue = queue._queue
    if not isinstance(cast("object", queue), Queue):
        raise TypeError(f"queue must be a queue of an open store, got {shown(queue)}")
    if not isinstance(cast("object", burst), bool):
        raise TypeError(f"burst must be True or False, got {shown(burst)}")
    grace = at_least("grace", grace, 0.0)
    stall_limit = positive("stall_limit", stall_limit)
    for name, why in _MEANINGLESS.items():
        if getattr(rules, name) not in (None, False):
            raise ValueError(f"{name} must not be set for a queue, got {getattr(rules, name)!r}: {why}")
    table = _table(handler, handlers)
    for each in set(table.values()):
        check_handler(each, takes="the item" if rules.batch is None else "the list of items")
        callee_of(each, rules.executor)
    return Worker(
        queue, table, rules, burst=burst, grace=grace, stopping=stopping, stall=stall_limit, stalled=stalled,
        progress=progress,
    )  # fmt: skip


def _table(handler: Handler | None, handlers: Handlers | None) -> dict[str, Handler]:
    """Return the functions by the names that jobs give; "" is for those that give none."""
    table: dict[str, Handler] = {}
    if handler is not None:
        table[""] = handler
        if callable(cast("object", handler)):
            table[name_of(handler)] = handler
    if handlers is None:
        if handler is None:
            raise TypeError("handler must be a function of one item, got None without handlers")
        return table
    given: Any = handlers
    if isinstance(given, Mapping):
        named = list(cast("Mapping[object, Handler]", given).items())
    elif isinstance(given, Iterable) and not isinstance(given, (str, bytes)):
        named = [(name_of(each), each) for each in cast("Iterable[Handler]", given)]
    else:
        raise TypeError(
            f"handlers must be a mapping of names to functions, or functions, got {shown(handlers)}"
        )
    for name, each in named:
        if not isinstance(name, str):
            raise TypeError(f"handlers must have texts for names, got {name!r}")
        if name in table and table[name] is not each:
            raise ValueError(f"handlers must have different names, got {name!r} twice")
        table[name] = each
    return table
