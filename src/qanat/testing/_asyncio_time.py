"""Virtual time on asyncio: a selector loop that jumps where another would sleep.

The loop keeps its timers itself, in a heap of its own: so it knows the exact time of the next
one, timers of one instant run in the order in which they were set, and none runs early. What
`asyncio.BaseEventLoop` sees is a loop without timers, which therefore asks the selector to wait
for events without end whenever nothing is ready. That question is answered here: events that are
there are taken first; then, if a thread works for the loop, real events are waited for; else the
time jumps.

A thread works for the loop while a call made through `run_in_executor` (and so `to_thread` and
name look-ups) has not come back, while a worker of `anyio.to_thread` is not idle, and while the
clock was told so. The first two are counted here without a gap: the count goes down in the loop's
thread, in the step that wakes whoever awaits the result. A call that its awaiter was cancelled
out of counts no more in the first case, and until it ends in the second.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

# Read only: which of AnyIO's threads are at work is not told in any other way.
from anyio._backends._asyncio import WorkerThread

from qanat.testing._deadlock import DeadlockError, await_frames, place
from qanat.testing._timers import Timers
from qanat.testing._virtual_clock import GRACE, PATIENCE, Move

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Executor
    from contextvars import Context
    from typing import TypeVarTuple, Unpack

    from qanat.testing._virtual_clock import VirtualClock

    Ts = TypeVarTuple("Ts")
    Events = list[tuple[selectors.SelectorKey, int]]
    Poll = Callable[[float | None], Events]

T = TypeVar("T")


def run(clock: VirtualClock, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function to its end on an asyncio loop of its own."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        loop = runner.get_loop()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody to wake
                loop.call_soon_threadsafe(_nothing)

        with clock.running(wake):
            return runner.run(main())


def _nothing() -> None:
    """Be something to wake up for."""


class _Selector(selectors.DefaultSelector):
    """Leave the waiting to the loop."""

    def __init__(self, wait: Callable[[Poll, float | None], Events]) -> None:
        super().__init__()
        self._wait = wait

    def select(self, timeout: float | None = None) -> Events:
        return self._wait(super().select, timeout)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Run asyncio on a virtual clock."""

    def __init__(self, clock: VirtualClock) -> None:
        """Take the time from the clock, and move it."""
        self._virtual = clock
        self._timers = Timers()
        self._children: list[asyncio.SubprocessTransport] = []
        self._events = _Selector(self._wait)
        super().__init__(self._events)

    def time(self) -> float:
        """Return the virtual time."""
        return self._virtual.now()

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Call a function at a virtual time; those of one instant in the order of the calls."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        return self._timers.add(self, when, callback, args, context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Call a function in a thread or process; virtual time stands still meanwhile."""
        result = super().run_in_executor(executor, func, *args)
        self._virtual.work_outside_began()
        result.add_done_callback(self._came_back)
        return result

    def _came_back(self, _result: object) -> None:
        self._virtual.work_outside_ended()

    async def shutdown_default_executor(self, *args: Any, **options: Any) -> None:
        """Wait for the default executor's threads; virtual time stands still meanwhile."""
        self._virtual.work_outside_began()
        try:
            await super().shutdown_default_executor(*args, **options)
        finally:
            self._virtual.work_outside_ended()

    async def subprocess_exec(self, *args: Any, **options: Any) -> Any:
        """Start a process, and know it as one that may still give a sign of life."""
        return self._with_child(await super().subprocess_exec(*args, **options))

    async def subprocess_shell(self, *args: Any, **options: Any) -> Any:
        """Start a shell, and know it as one that may still give a sign of life."""
        return self._with_child(await super().subprocess_shell(*args, **options))

    def _with_child(self, made: tuple[asyncio.SubprocessTransport, Any]) -> object:
        self._children.append(made[0])
        return made

    def _wait(self, poll: Poll, timeout: float | None) -> Events:
        """Return events; a timeout of None says that nothing is ready to run."""
        if self._timers.run_due(self) or timeout is not None:
            return poll(0)
        outside = self._virtual.outside + self._threads_at_work()
        events = poll(0)
        if events:
            return events
        move = self._virtual.move_on(self._timers.next_at(), outside)
        if move is Move.WAIT:
            return poll(None)
        if move is Move.STUCK:
            return self._wait_for_life(poll)
        self._timers.run_due(self)
        return []

    def _threads_at_work(self) -> int:
        return sum(
            isinstance(thread, WorkerThread)
            and thread.loop is self
            and not thread.stopping
            and thread not in thread.idle_workers
            for thread in threading.enumerate()
        )

    def _wait_for_life(self, poll: Poll) -> Events:
        """Give real events a last chance, as the loop would wait for ever."""
        self._children = [child for child in self._children if child.get_returncode() is None]
        own_pipe_only = len(self._events.get_map()) == 1
        events = poll(GRACE if own_pipe_only and not self._children else PATIENCE)
        if not events:
            places = [
                place(f"task {task.get_name()!r}", await_frames(task.get_coro()))
                for task in asyncio.all_tasks(self)
            ]
            raise DeadlockError(self.time(), sorted(places))
        return events
