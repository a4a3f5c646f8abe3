"""Work outside of the loop: threads, processes, and calls that outlived their attempt."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from qanat._engine.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from qanat._core.job import Job
    from qanat._core.ports import Clock
    from qanat._engine.loop import Loop, Spot
    from qanat._engine.processes import Processes
    from qanat._engine.threads import Call


def _key_of(function: Callable[[Any], Any]) -> Hashable:
    """Return by what a function is known; one without a hash, such as a dataclass, by its identity."""
    try:
        hash(function)
    except TypeError:
        return id(function)
    return function


class Outside:
    """What an engine has running in threads and processes; made with the first such job."""

    def __init__(self, loop: Loop, clock: Clock, on_release: Callable[[Job[Any], Call], None]) -> None:
        """Start nothing yet; `on_release` hears when a call that was left behind has ended."""
        self._loop = loop
        self._clock = clock
        self._on_release = on_release
        self._threads: Threads | None = None
        self._processes: dict[Hashable, Processes] = {}
        self._left: dict[Call, Job[Any]] = {}
        self._spots: dict[Call, Spot] = {}
        self._told: deque[Callable[[], object]] = deque()
        self._hop_pending = False

    def tell(self, action: Callable[[], object]) -> None:
        """Do something in the loop's thread soon; to be called from any other.

        It is done before the end of any call is heard of that ends after this. One hop serves all
        that gather until it is made; why none is left lying is told in `threads`.
        """
        self._told.append(action)
        if self._hop_pending:
            return
        self._hop_pending = True
        try:
            self._loop.call_soon_threadsafe(self._hop)
        except RuntimeError:
            pass  # the loop has ended, and with it everybody who could want to know

    def _hop(self) -> None:
        self._hop_pending = False
        self.do_told()

    def do_told(self) -> None:
        """Do what was told by now; in the loop's thread."""
        while True:
            try:
                action = self._told.popleft()
            except IndexError:
                return
            action()

    def has_left(self, call: Call) -> bool:
        """Whether the attempt of a call is over, though the call still runs."""
        return call in self._left

    def stand_in(self, call: Call | None, job: Job[Any]) -> Job[Any]:
        """Return what stands for a job: another one if its attempt is over and this call still runs."""
        return job if call is None else self._left.get(call, job)

    def submit_to_thread(self, function: Callable[[Any], Any], item: Any) -> Call:
        """Call a function in a thread."""
        if self._threads is None:
            self._threads = Threads(self._loop, self._clock)
        return self._threads.submit(function, item, self._ended)

    def prepare_processes(self, function: Callable[[Any], Any]) -> None:
        """Get ready to call a function in child processes; they start with the first calls.

        Raises:
            TypeError: If a child could not find the function.
        """
        # Imported here: multiprocessing costs 15 ms, and most runs have no use for it.
        from qanat._engine.processes import Processes

        key = _key_of(function)
        if key not in self._processes:
            self._processes[key] = Processes(self._loop, self._clock, function)

    def submit_to_process(
        self, function: Callable[[Any], Any], item: Any, hear: Callable[[list[bytes]], object] | None = None
    ) -> Call:
        """Call a function that was prepared in a child process; who hears is told what the call spawned."""

        def told(frames: list[bytes]) -> None:
            if hear is not None:
                self.tell(partial(hear, frames))

        return self._processes[_key_of(function)].submit(item, self._ended, told)

    async def wait(self, call: Call) -> None:
        """Wait until a call has ended."""
        while call in self._spots or not call.ended:
            spot = self._spots[call] = self._loop.spot()
            try:
                await spot.wait()
            finally:
                self._spots.pop(call, None)
        if self._told:
            # It may have ended before anybody waited for it.
            self.do_told()

    def withdraw_from_thread(self, call: Call) -> bool:
        """Take a call back that no thread has taken yet."""
        return self._threads is not None and self._threads.withdraw(call)

    async def kill_process(self, function: Callable[[Any], Any], call: Call) -> None:
        """End a call in a process by ending the process, and wait until it is gone."""
        processes = self._processes[_key_of(function)]
        if not call.ended and not processes.withdraw(call):
            processes.kill(call)
            with anyio.CancelScope(shield=True):
                await self.wait(call)

    def leave_behind(self, call: Call, held: Job[Any]) -> None:
        """Note that nobody waits for a call any more, but what its job took stays taken."""
        self._left[call] = held

    @property
    def left_behind(self) -> list[Job[Any]]:
        """The jobs with an attempt that is over, but whose call still runs."""
        return list(self._left.values())

    def _ended(self, call: Call) -> None:
        if self._told:
            self.do_told()
        spot = self._spots.pop(call, None)
        if spot is not None:
            spot.wake()
        held = self._left.pop(call, None)
        if held is not None:
            self._on_release(held, call)

    async def close(self) -> None:
        """Wait for what still runs, however long, and end the threads and processes."""
        for processes in self._processes.values():
            await processes.close()
        if self._threads is not None:
            await self._threads.close()
