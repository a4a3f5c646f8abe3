"""`run`: a function over items from synchronous code."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from signal import SIGINT
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, cast, overload

import anyio

from qanat._app.durable.plain_queue import PlainQueue
from qanat._app.failures import with_outcomes
from qanat._app.functions import checked, gather
from qanat._app.journaling import tell_how_to_go_on
from qanat._app.stopping import Stopping
from qanat._core.arguments import one_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence

    from qanat._app.outcomes import Outcomes
    from qanat._app.rule_args import AllCallArgs, CallArgs
    from qanat._app.rules import Rules
    from qanat._core.batch import Batch

T = TypeVar("T")
R = TypeVar("R")

Backend = Literal["asyncio", "uvloop", "trio"]
BACKENDS: tuple[Backend, ...] = ("asyncio", "uvloop", "trio")


@overload
def run(
    handler: Callable[[list[T]], Awaitable[Sequence[R | BaseException]]],
    items: Iterable[T] | AsyncIterable[T], *, batch: Batch, backend: Backend = "asyncio",
    graceful: bool = True,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
@overload
def run(
    handler: Callable[[list[T]], Sequence[R | BaseException]],
    items: Iterable[T] | AsyncIterable[T], *, batch: Batch, backend: Backend = "asyncio",
    graceful: bool = True,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
@overload
def run(
    handler: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], *,
    backend: Backend = "asyncio", graceful: bool = True,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
@overload
def run(
    handler: Callable[[T], R], items: Iterable[T] | AsyncIterable[T], *,
    backend: Backend = "asyncio", graceful: bool = True,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
def run(
    handler: Callable[[Any], Any], items: Iterable[Any] | AsyncIterable[Any], *,
    backend: Backend = "asyncio", graceful: bool = True,
    rules: Rules | None = None, **options: Unpack[AllCallArgs],
) -> Outcomes[Any, Any]:  # fmt: skip
    """Run a handler over items from synchronous code, and return every outcome in input order.

    Shows its progress on a terminal. The first Ctrl-C (or SIGTERM) starts nothing more and lets
    what runs end, a second one cancels, a third ends the process at once; the view says for what it
    waits. With `graceful=False` the first one cancels, and the second ends the process.

    Args:
        handler: A coroutine function or a plain function of one item; called once an attempt.
        items: Any iterable or async iterable.
        backend: The event loop: "asyncio", "uvloop" or "trio".
        graceful: Whether the first Ctrl-C lets what runs end; False cancels it at once.
        rules: The rules as one value.
        **options: Single rules, see `Rules`; they win over `rules`.

    Returns:
        The outcomes, as from `collect`.

    Raises:
        RuntimeError: If an event loop runs in this thread.
        KeyboardInterrupt: If Ctrl-C stopped it; `errors.outcomes_of` gives what was done.
        SystemExit: If SIGTERM stopped it, with status 143.
        TypeError: If an argument is of the wrong kind; before any work starts.
        ValueError: If a rule is out of range; before any work starts.
        TooManyFailuresError: If more jobs failed than `max_failures` allows.
        StartTimeoutError: If no job arrived within `start_within`.
        BaseException: What the source of items raised; `errors.outcomes_of` gives what was done.
    """
    found = checked(handler, items, rules, options)
    name, loop_options = backend_of(backend)
    if not isinstance(cast("object", graceful), bool):
        raise TypeError(f"graceful must be True or False, got {graceful!r}")
    if found.queue is not None and not isinstance(found.queue, PlainQueue):
        raise TypeError(
            f"queue must be one of a store opened by `with qanat.open(...)`, got {found.queue!r}: "
            "run has an event loop of its own, so one of `async with` does not do"
        )
    if in_event_loop():
        raise RuntimeError(
            "qanat.run starts an event loop of its own, and one runs in this thread: "
            "write `await qanat.collect(...)` instead"
        )
    with Stopping(graceful=graceful) as stopping:
        outcomes = anyio.run(
            partial(gather, handler, items, found, stopping=stopping, progress=None),
            backend=name, backend_options=loop_options,
        )  # fmt: skip
    if stopping.signal is not None:
        if found.journal is not None or found.queue is not None:
            tell_how_to_go_on(found, outcomes)
        problem = KeyboardInterrupt() if stopping.signal == SIGINT else SystemExit(stopping.status)
        raise with_outcomes(problem, outcomes)
    return outcomes


def backend_of(backend: Backend) -> tuple[str, dict[str, Any]]:
    """Return AnyIO's name and options for an event loop.

    Raises:
        TypeError: If it is not a text.
        ValueError: If it is none of the three, or is not installed.
    """
    one_of("backend", backend, BACKENDS)
    if backend == "asyncio":
        return "asyncio", {}
    try:
        __import__(backend)
    except ImportError:
        raise ValueError(f"backend {backend!r} is not installed: pip install 'qanat[{backend}]'") from None
    return ("trio", {}) if backend == "trio" else ("asyncio", {"use_uvloop": True})


def in_event_loop() -> bool:
    """Whether an event loop runs in this thread."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return True
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
