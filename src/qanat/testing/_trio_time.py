"""Virtual time on trio: a clock, and a task that moves it when all others are blocked.

Trio tells a clock the next deadline each time before it waits with nothing to run, and wakes
`wait_all_tasks_blocked` when such a wait brought nothing. A system task, the mover, waits there.
When it is woken alone, every other task is blocked and nothing was to be read or written; so it
moves the clock to the deadline that trio told last. When others were woken with it (they too had
asked to be told that all is blocked), they go first. Only public parts of trio are used.

A thread works for the loop while `trio.testing.active_thread_count()` says so, which covers
`trio.to_thread` and `anyio.to_thread`, and while the clock was told so. A task that waits in
`wait_all_tasks_blocked` with a cushion above 0 does not keep the time from moving.
"""

from __future__ import annotations

from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, TypeVar, cast

import trio
import trio.testing

from qanat.testing._deadlock import DeadlockError, place
from qanat.testing._virtual_clock import GRACE, PATIENCE, Move

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from qanat.testing._virtual_clock import VirtualClock

T = TypeVar("T")

_LONG = 86_400.0  # real seconds of one wait for events; after it trio just waits again


def run(clock: VirtualClock, main: Callable[[], Awaitable[T]]) -> T:
    """Run an async function to its end in a trio run of its own."""
    mover = _Mover(clock)
    try:
        return trio.run(mover.host, main, clock=mover, instruments=[mover])
    except trio.TrioInternalError:
        if mover.deadlock is None:
            raise
        raise mover.deadlock from None


class _Mover(trio.abc.Clock, trio.abc.Instrument):
    """Trio's clock, its ear for what happens, and the task that moves the time."""

    def __init__(self, clock: VirtualClock) -> None:
        self.deadlock: DeadlockError | None = None
        self._clock = clock
        self._deadline = inf
        self._outside = 0
        self._stirs = 0  # how often a task other than the mover was woken
        self._stirs_before_wait = 0
        self._task: trio.lowlevel.Task | None = None
        self._nap: trio.CancelScope | None = None
        self._last_resort: DeadlockError | None = None

    def start_clock(self) -> None:
        """Do nothing: the time goes on from where it stands."""

    def current_time(self) -> float:
        return self._clock.now()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Hear the next deadline; called just before trio waits for events with nothing to run."""
        if self._last_resort is not None:
            raise self._last_resort  # ends a run whose tasks refuse to be cancelled
        self._deadline = deadline
        self._outside = self._clock.outside
        self._stirs_before_wait = self._stirs
        return 0 if deadline <= self._clock.now() else _LONG

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """Hear that a task was woken."""
        if task is not self._task:
            self._stirs += 1
            if self._nap is not None:
                self._nap.cancel()

    async def host(self, main: Callable[[], Awaitable[T]]) -> T:
        """Run the main function with the mover beside it."""
        token = trio.lowlevel.current_trio_token()

        def wake() -> None:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(_nothing)

        task = trio.lowlevel.current_task()
        task.name = "main"
        with self._clock.running(wake), trio.CancelScope() as scope:
            self._task = trio.lowlevel.spawn_system_task(self._move, task, scope, name="virtual time")
            try:
                return await main()
            except BaseException as error:
                if self.deadlock is None or isinstance(error, trio.Cancelled):
                    raise
                raise self.deadlock from error
        raise cast("DeadlockError", self.deadlock)  # nothing else cancels the scope

    async def _move(self, main: trio.lowlevel.Task, scope: trio.CancelScope) -> None:
        """Move the time each time all is blocked, until the run ends or can go no further."""
        while True:
            await trio.testing.wait_all_tasks_blocked()
            if self._stirs != self._stirs_before_wait:
                continue
            move = self._clock.move_on(self._deadline, self._outside + trio.testing.active_thread_count())
            if move is Move.WAIT:
                await self._stirred_within(inf)
            elif move is Move.STUCK and not await self._stirred_within(_patience()):
                self._give_up(main, scope)

    async def _stirred_within(self, seconds: float) -> bool:
        """Wait for another task to be woken by real events, so many real seconds."""
        with trio.CancelScope() as nap:
            self._nap = nap
            await trio.testing.wait_all_tasks_blocked(seconds)
        self._nap = None
        return nap.cancel_called

    def _give_up(self, main: trio.lowlevel.Task, scope: trio.CancelScope) -> None:
        """Cancel the main function; if that was done and it is stuck again, end the run."""
        if self.deadlock is not None:
            self._last_resort = self.deadlock
        else:
            places = [place(f"task {task.name!r}", task.iter_await_frames()) for task in _family(main)]
            self.deadlock = DeadlockError(self._clock.now(), places)
            scope.cancel()


def _nothing() -> None:
    """Be something to wake up for."""


def _patience() -> float:
    """Return how long real events may take: longer if files are waited for, whatever the system."""
    files = trio.lowlevel.current_statistics().io_statistics
    names = ("tasks_waiting_read", "tasks_waiting_write", "tasks_waiting")
    own_only = sum(getattr(files, name, 0) for name in names) == 1  # trio's own, to be woken
    return GRACE if own_only else PATIENCE


def _family(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """Walk over a task and all that descend from it."""
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _family(child)
