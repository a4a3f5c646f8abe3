"""`run`: a function over items from synchronous code."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from functools import partial
from signal import SIGINT
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

import anyio

from qanat._app.failures import with_outcomes
from qanat._app.functions import checked, gather
from qanat._app.stopping import Stopping
from qanat._core.arguments import one_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Sequence

    from qanat._app.outcomes import Outcomes
    from qanat._app.rules import AllArgs, RuleArgs, Rules
    from qanat._core.batch import Batch
    from qanat._engine.engine import Engine

T = TypeVar("T")
R = TypeVar("R")

Backend = Literal["asyncio", "uvloop", "trio"]
BACKENDS: tuple[Backend, ...] = ("asyncio", "uvloop", "trio")


@overload
def run(
    handler: Callable[[list[T]], Awaitable[Sequence[R | BaseException]]],
    items: Iterable[T] | AsyncIterable[T], *, batch: Batch, backend: Backend = "asyncio",
    rules: Rules | None = None, **options: Unpack[RuleArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
@overload
def run(
    handler: Callable[[list[T]], Sequence[R | BaseException]],
    items: Iterable[T] | AsyncIterable[T], *, batch: Batch, backend: Backend = "asyncio",
    rules: Rules | None = None, **options: Unpack[RuleArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
@overload
def run(
    handler: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], *,
    backend: Backend = "asyncio", rules: Rules | None = None, **options: Unpack[RuleArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
@overload
def run(
    handler: Callable[[T], R], items: Iterable[T] | AsyncIterable[T], *,
    backend: Backend = "asyncio", rules: Rules | None = None, **options: Unpack[RuleArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
def run(
    handler: Callable[[Any], Any], items: Iterable[Any] | AsyncIterable[Any], *,
    backend: Backend = "asyncio", rules: Rules | None = None, **options: Unpack[AllArgs],
) -> Outcomes[Any, Any]:  # fmt: skip
    """Run a handler over items from synchronous code, and return every outcome in input order.

    Shows its progress on a terminal. The first Ctrl-C (or SIGTERM) starts nothing more and lets
    what runs end, a second one cancels, a third ends the process at once.

    Args:
        handler: A coroutine function or a plain function of one item; called once an attempt.
        items: Any iterable or async iterable.
        backend: The event loop: "asyncio", "uvloop" or "trio".
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
    if in_event_loop():
        raise RuntimeError(
            "qanat.run starts an event loop of its own, and one runs in this thread: "
            "write `await qanat.collect(...)` instead"
        )
    with Stopping() as stopping:
        outcomes = anyio.run(
            partial(gather, handler, items, found, around=partial(_in_front, stopping), progress=None),
            backend=name, backend_options=loop_options,
        )  # fmt: skip
    if stopping.signal is not None:
        problem = KeyboardInterrupt() if stopping.signal == SIGINT else SystemExit(stopping.status)
        raise with_outcomes(problem, outcomes)
    return outcomes


@asynccontextmanager
async def _in_front(stopping: Stopping, engine: Engine) -> AsyncGenerator[None]:
    """Let signals stop a run."""
    with stopping.reach(engine.loop.call_soon_threadsafe, stop=engine.stop, cancel=engine.cancel):
        yield


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
