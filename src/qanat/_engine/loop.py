"""The few things the engine needs from an event loop, at the loop's own price.

AnyIO's event costs about 10 us and its checkpoint several; a future of the loop's own costs
about 1 us. Everything that happens once a run or seldom goes through AnyIO; these three, which
may happen once a job, do not.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    import trio
    from anyio.abc import TaskGroup


class Spot(Protocol):
    """Where one task waits once, until it is woken; waking twice is harmless."""

    def wait(self) -> Awaitable[None]:
        """Wait to be woken; returns at once if that has happened. Cancellation is raised."""
        ...

    def wake(self) -> None:
        """Let the waiter go on; called in the loop's thread."""
        ...


class Watch(Protocol):
    """A socket that is watched; made by `Loop.watch`."""

    def stop(self) -> None:
        """Watch no more; in the loop's thread, or once the loop has ended. May be called twice."""
        ...


class Loop(Protocol):
    """An event loop, as the engine sees it."""

    name: str

    def spot(self) -> Spot:
        """Make a place to wait once."""
        ...

    def checkpoint(self) -> Awaitable[None]:
        """Let everything else that is ready run once."""
        ...

    def next_round(self, function: Callable[[], object]) -> bool:
        """Call a function in the next round, which so waits for nothing; in the loop's thread.

        Returns:
            False if nothing is called, as the rounds of this loop are too dear for it.
        """
        ...

    def call_soon_threadsafe(self, function: Callable[[], object]) -> None:
        """Call a function in the loop's thread, from any thread or signal handler.

        Raises:
            RuntimeError: If the loop has ended.
        """
        ...

    def watch(
        self, number: int, ready: Callable[[], object], tick: Callable[[], object], seconds: float
    ) -> Watch:
        """Watch a socket, in the loop's thread, until told to stop.

        Args:
            number: The number of the socket; it may be closed meanwhile.
            ready: Called whenever there is something to read, again until it was read.
            tick: Called now and then while nothing comes.
            seconds: How often.

        Raises:
            NotImplementedError: If this loop cannot.
        """
        ...

    def current_task(self) -> Any:
        """Return the loop's own object for the running task."""
        ...

    def is_being_cancelled(self) -> bool:
        """Whether somebody cancelled the running task by the loop's own means."""
        ...

    def cancel_mark(self) -> Any:
        """Return what says whether the running task is cancelled.

        `_must_cancel` is true while a cancellation waits for the task's next step; `cancelling()`
        is so if a scope around it may be cancelled.
        """
        ...

    async def shake_off_cancel(self) -> None:
        """Take the cancellation that waits for the running task, and forget it."""
        ...

    def may_be_cancelled(self) -> bool:
        """Whether a scope around the running task may be cancelled; False is certain."""
        ...

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task that belongs to nobody; it must see to its own errors."""
        ...

    def has_ended(self) -> bool:
        """Whether the loop is over for good; asked from another loop."""
        ...

    def is_running(self) -> bool:
        """Whether the loop runs; it does not when it closes what was left in it."""
        ...

    def start(self, group: TaskGroup, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task in a group, from a task or from a callback of the loop."""
        ...

    def protected(
        self, function: Callable[[], Coroutine[Any, Any, None]]
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        """Return the function so that Ctrl-C is not raised inside of it, but in the main task."""
        ...


# asyncio keeps weak references to its tasks only.
_spawned: set[asyncio.Task[None]] = set()


class _AsyncioSpot:
    __slots__ = ("_future",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._future: asyncio.Future[None] = loop.create_future()

    def wait(self) -> Awaitable[None]:
        return self._future

    def wake(self) -> None:
        if not self._future.done():
            self._future.set_result(None)


class _AsyncioWatch:
    """Of a number of its own: the loop would be confused by one that was closed and given anew."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        number: int,
        ready: Callable[[], object],
        tick: Callable[[], object],
        seconds: float,
    ) -> None:
        self._loop = loop
        self._tick = tick
        self._seconds = seconds
        self._number = os.dup(number)
        try:
            loop.add_reader(self._number, ready)
        except BaseException:
            os.close(self._number)
            raise
        self._timer = loop.call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        self._timer = self._loop.call_later(self._seconds, self._on_time)
        self._tick()

    def stop(self) -> None:
        if self._number >= 0:
            self._timer.cancel()
            if not self._loop.is_closed():
                self._loop.remove_reader(self._number)
            os.close(self._number)
            self._number = -1


class AsyncioLoop:
    """asyncio, and uvloop with it."""

    name = "asyncio"

    def __init__(self) -> None:
        """Take the running loop."""
        self._loop = asyncio.get_running_loop()

    def spot(self) -> Spot:
        """Make a place to wait once."""
        return _AsyncioSpot(self._loop)

    def checkpoint(self) -> Awaitable[None]:
        """Let everything else that is ready run once."""
        return asyncio.sleep(0)

    def next_round(self, function: Callable[[], object]) -> bool:
        """Call a function in the next round, which so waits for nothing."""
        self._loop.call_soon(function)
        return True

    def call_soon_threadsafe(self, function: Callable[[], object]) -> None:
        """Call a function in the loop's thread, from any thread or signal handler."""
        self._loop.call_soon_threadsafe(function)

    def watch(
        self, number: int, ready: Callable[[], object], tick: Callable[[], object], seconds: float
    ) -> Watch:
        """Watch a socket by the loop's selector."""
        return _AsyncioWatch(self._loop, number, ready, tick, seconds)

    def current_task(self) -> Any:
        """Return the running asyncio task."""
        return asyncio.current_task()

    def is_being_cancelled(self) -> bool:
        """Whether somebody called `cancel` on the running task."""
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0

    def cancel_mark(self) -> Any:
        """Return the running task: asyncio notes a cancellation that is still to be raised in it."""
        return asyncio.current_task()

    async def shake_off_cancel(self) -> None:
        """Take the cancellation that waits for the running task, and forget it."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if anyio.current_effective_deadline() == -math.inf:
                raise
        task = asyncio.current_task()
        while task is not None and task.uncancel():
            pass

    def may_be_cancelled(self) -> bool:
        """Whether somebody cancelled the running task: so AnyIO's scopes do it."""
        return self.is_being_cancelled()

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task of the loop's, kept until it ends."""
        task = self._loop.create_task(function(), name="qanat pool")
        _spawned.add(task)
        task.add_done_callback(_spawned.discard)

    def has_ended(self) -> bool:
        """Whether the loop was closed."""
        return self._loop.is_closed()

    def is_running(self) -> bool:
        """Whether the loop runs."""
        return self._loop.is_running()

    def start(self, group: TaskGroup, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task in a group, from a task or from a callback of the loop."""
        sniffio = sys.modules.get("sniffio")
        if sniffio is None:
            group.start_soon(function)
            return
        # In a callback no task runs, by which AnyIO would know that this is asyncio: it has to be told.
        local = sniffio.thread_local
        before, local.name = local.name, "asyncio"
        try:
            group.start_soon(function)
        finally:
            local.name = before

    def protected(
        self, function: Callable[[], Coroutine[Any, Any, None]]
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        """Return the function as it is: asyncio raises Ctrl-C in nobody's task."""
        return function


class _TrioSpot:
    __slots__ = ("_task", "_trio", "_woken")

    def __init__(self, module: Any) -> None:
        self._trio = module
        self._task: trio.lowlevel.Task | None = None
        self._woken = False

    async def wait(self) -> None:
        if self._woken:
            return
        lowlevel = self._trio.lowlevel
        self._task = lowlevel.current_task()

        def abort(_raise_cancel: object) -> Any:
            self._task = None
            return lowlevel.Abort.SUCCEEDED

        await lowlevel.wait_task_rescheduled(abort)

    def wake(self) -> None:
        self._woken = True
        task, self._task = self._task, None
        if task is not None:
            self._trio.lowlevel.reschedule(task)


class _NoMark:
    _must_cancel = False

    @staticmethod
    def cancelling() -> int:
        return 1  # the scopes have to be asked


class _TrioWatch:
    """A system task, which waits for the socket again and again."""

    def __init__(
        self,
        module: Any,
        number: int,
        ready: Callable[[], object],
        tick: Callable[[], object],
        seconds: float,
    ) -> None:
        self._trio = module
        self._ready = ready
        self._tick = tick
        self._seconds = seconds
        self._number = os.dup(number)
        self._scope: Any = module.CancelScope()
        module.lowlevel.spawn_system_task(self._run, name="qanat watch", context=copy_context())

    async def _run(self) -> None:
        try:
            with self._scope:
                while True:
                    with self._trio.move_on_after(self._seconds) as waiting:
                        await self._trio.lowlevel.wait_readable(self._number)
                    if waiting.cancelled_caught:
                        self._tick()
                    else:
                        self._ready()
        finally:
            os.close(self._number)

    def stop(self) -> None:
        self._scope.cancel()


class TrioLoop:
    """trio, imported only where it already runs."""

    name = "trio"

    def __init__(self) -> None:
        """Take the running loop."""
        self._trio: Any = sys.modules["trio"]
        self._token = self._trio.lowlevel.current_trio_token()

    def spot(self) -> Spot:
        """Make a place to wait once."""
        return _TrioSpot(self._trio)

    def checkpoint(self) -> Awaitable[None]:
        """Let everything else that is ready run once."""
        checkpoint: Awaitable[None] = self._trio.lowlevel.cancel_shielded_checkpoint()
        return checkpoint

    def next_round(self, function: Callable[[], object]) -> bool:
        """Return False: what trio calls soon wakes it by a socket."""
        return False

    def call_soon_threadsafe(self, function: Callable[[], object]) -> None:
        """Call a function in the loop's thread, from any thread or signal handler."""
        try:
            self._token.run_sync_soon(function)
        except self._trio.RunFinishedError:
            raise RuntimeError("the event loop has ended") from None

    def watch(
        self, number: int, ready: Callable[[], object], tick: Callable[[], object], seconds: float
    ) -> Watch:
        """Watch a socket by a system task."""
        return _TrioWatch(self._trio, number, ready, tick, seconds)

    def current_task(self) -> Any:
        """Return the running trio task."""
        return self._trio.lowlevel.current_task()

    def is_being_cancelled(self) -> bool:
        """Return False: trio has no other means than scopes."""
        return False

    def cancel_mark(self) -> Any:
        """Return what cannot tell: trio cancels scopes, not tasks."""
        return _NoMark

    async def shake_off_cancel(self) -> None:
        """Do nothing: there is nothing to forget."""

    def may_be_cancelled(self) -> bool:
        """Return True: here the scopes are all there is to ask."""
        return True

    def spawn(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a system task, which has no nursery of the caller's around it."""
        self._trio.lowlevel.spawn_system_task(function, name="qanat pool", context=copy_context())

    def has_ended(self) -> bool:
        """Whether the run is over: one thread has one at a time."""
        return self._token is not self._trio.lowlevel.current_trio_token()

    def is_running(self) -> bool:
        """Whether the loop runs."""
        running: bool = self._trio.lowlevel.in_trio_run()
        return running

    def start(self, group: TaskGroup, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task in a group."""
        group.start_soon(function)

    def protected(
        self, function: Callable[[], Coroutine[Any, Any, None]]
    ) -> Callable[[], Coroutine[Any, Any, None]]:
        """Return the function with KeyboardInterrupt protection."""

        async def protected() -> None:
            await function()

        wrapped: Callable[[], Coroutine[Any, Any, None]] = self._trio.lowlevel.enable_ki_protection(protected)
        return wrapped


def running_loop() -> Loop:
    """Return the event loop that runs in this thread.

    Raises:
        RuntimeError: If none runs.
    """
    module = sys.modules.get("trio")
    if module is not None and module.lowlevel.in_trio_run():
        return TrioLoop()
    return AsyncioLoop()
