"""Time that jumps: run asyncio or trio code whose sleeps take no real time, exactly.

The rules, the same for both loops:

- Time begins at 0.0 and moves only when every task is blocked and nothing waits to be read or
  written; then it jumps to the next deadline, to exactly that float.
- It stands still while a call works in a thread (`asyncio.to_thread`, `loop.run_in_executor`,
  `trio.to_thread`, `anyio.to_thread`) or qanat runs a job in a thread or process.
- When all is blocked and nothing could ever wake it, the run ends with `DeadlockError`.

What it cannot know:

- A process or a peer that takes real time to answer looks like a socket or pipe on which nothing
  comes, and timeouts set around it fire at once. Hold the time with `time.still()` meanwhile.
  Data between two tasks of the same loop is seen in time. So it is with threads that were
  started in other ways than those above.
- A call in a thread that itself waits for virtual time to pass waits for ever; let time pass in
  spite of it with `await time.advance(seconds, wait_outside=False)`.
- A task that spins on `sleep(0)` until some time has come spins for ever: it is never blocked.
"""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar

import anyio

from qanat._app.run import in_event_loop
from qanat._engine.clock import installed
from qanat.testing._virtual_clock import Stop, VirtualClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator
    from contextlib import AbstractContextManager
    from typing import TypeVarTuple, Unpack

    Ts = TypeVarTuple("Ts")

T = TypeVar("T")

Backend: TypeAlias = Literal["asyncio", "trio"]

NEW_YEAR = 1_767_225_600.0  # 2026-01-01 00:00 UTC: far from 0.0, so that mixing clocks up shows


class _Run(Protocol):
    def __call__(self, clock: VirtualClock, main: Callable[[], Coroutine[Any, Any, T]], /) -> T: ...


class VirtualTime:
    """Hold one virtual timeline, and run async functions on it; made by `virtual_time`."""

    def __init__(self, backend: Backend, run: _Run, clock: VirtualClock) -> None:
        """Join a clock to one loop's way of running on it."""
        self.backend = backend
        self._run = run
        self._clock = clock

    def __repr__(self) -> str:
        """Tell the loop and the time."""
        return f"<VirtualTime {self.backend} {self.now()!r}>"

    def run(self, function: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts) -> T:
        """Run an async function to its end, on a loop of its own, and return what it returns.

        It may be called several times; time goes on from where it stands. What the function
        left running is cancelled at the end, as in `asyncio.run`.

        Raises:
            DeadlockError: If nothing is left that could wake a blocked task. Tasks are
                cancelled before; the message says where each of them waited.
            RuntimeError: If it is called inside of a run, or of another event loop.
        """
        if self._clock.is_running:
            raise RuntimeError("time.run cannot be called inside of itself: await the function instead")
        if in_event_loop():
            raise RuntimeError(
                "time.run starts an event loop of its own, and one runs in this thread: call it from "
                "code that is not async, or let the fixture virtual_time run the async test"
            )

        async def main() -> T:
            return await function(*args)

        with installed(self._clock):
            return self._run(self._clock, main)

    def now(self) -> float:
        """Return the virtual seconds since the beginning; from any thread."""
        return self._clock.now()

    def wall(self) -> float:
        """Return the virtual UTC seconds since 1970; from any thread."""
        return self._clock.wall()

    async def advance(self, seconds: float, *, wait_outside: bool = True) -> None:
        """Run everything due up to `now() + seconds`, in order, and return at exactly that time.

        When it returns every other task is blocked, so `advance(0)` lets all that can run now
        run. On cancellation the time stays where it is.

        Args:
            seconds: How far to go; 0 or more.
            wait_outside: Whether to stand still while threads and processes work. False goes
                on in spite of them: for a test in which one is blocked on purpose.

        Raises:
            ValueError: If `seconds` is negative or not finite.
            RuntimeError: If it is awaited outside of `run`.
        """
        if not 0 <= seconds < inf:
            raise ValueError(f"seconds must be a finite number of at least 0, got {seconds!r}")
        if not self._clock.is_running:
            raise RuntimeError("advance must be awaited inside time.run, as only there the time is virtual")
        reached = anyio.Event()
        with self._clock.stopping_at(Stop(self.now() + seconds, reached.set, wait_outside)):
            await reached.wait()

    @contextmanager
    def still(self) -> Generator[None]:
        """Keep time from jumping by itself in the body, while something outside is waited for.

        For what takes real time without a thread that is known here: a process, a server,
        a thread of one's own.
        """
        self._clock.work_outside_began()
        try:
            yield
        finally:
            self._clock.work_outside_ended()


def virtual_time(
    backend: Backend = "asyncio", *, wall: float = NEW_YEAR
) -> AbstractContextManager[VirtualTime]:
    """Make a virtual timeline that begins at 0.0, and the clock in use for the body.

    Args:
        backend: The event loop to run on, "asyncio" or "trio".
        wall: UTC seconds since 1970 at the beginning.

    Raises:
        ValueError: If there is no such backend.
        ModuleNotFoundError: If the backend is trio and it is not installed.

    Examples:
        >>> import anyio
        >>> from qanat.testing import virtual_time
        >>> with virtual_time() as time:
        ...     time.run(anyio.sleep, 3600)
        ...     time.now()
        3600.0
    """
    return _in_use(VirtualTime(backend, _runner(backend), VirtualClock(wall)))


@contextmanager
def _in_use(time: VirtualTime) -> Generator[VirtualTime]:
    with installed(time._clock):
        yield time


def _runner(backend: str) -> _Run:
    """Import the half for a loop, and only that: trio may be missing."""
    if backend == "asyncio":
        from qanat.testing._asyncio_time import run as run_on_asyncio

        return run_on_asyncio
    if backend == "trio":
        from qanat.testing._trio_time import run as run_on_trio

        return run_on_trio
    raise ValueError(f"backend must be 'asyncio' or 'trio', got {backend!r}")
