"""Threads for plain functions: one shared queue in, one batch of results out.

A call crosses threads twice. On the way in it lies in a queue on which the idle threads sleep. On
the way out the thread lays it into `_ended` and sees to it that the loop comes to look: one
thread-safe hop serves all calls that gather until it is made, because the hop, a write that wakes
the loop, is the dear part.

No result is left lying. A thread appends to `_ended` first and reads `_hop_pending` after; the
loop clears `_hop_pending` first and takes from `_ended` after, until it is empty. A thread that
reads True therefore appended before the loop began to take, so that very hop finds its call; a
thread that reads False makes a hop itself. Two threads may both read False: the second hop finds
nothing, which is harmless. Emptiness is learnt from a failed `popleft`, not from the length, so
that the argument rests on the deque's own lock where there is no global one.

What else must stay true:

- There are at least as many threads as open calls, so a call never waits behind another one,
  unless the system has no thread to spare.
- Whoever removes a call from `_waiting` owns it: a thread to run it, or the loop to withdraw it.
- Once a call has ended, nothing here refers to its item, value, error or context.
- The threads are daemons. `close` waits for them however long; an interpreter that ends without
  `close` is not held up by idle threads, nor by a function that hangs.
"""

from __future__ import annotations

import logging
import reprlib
import sys
from collections import deque
from contextvars import ContextVar, copy_context
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, Protocol

from qanat._engine.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from qanat._engine.loop import Loop

__all__ = ["Call", "Threads", "WorkOutside", "described", "running_call"]

_log = logging.getLogger("qanat")

running_call: ContextVar[Call | None] = ContextVar("qanat_call", default=None)
"""Which call this code runs for, in its thread and in what that starts."""


class WorkOutside(Protocol):
    """What a clock wants to know: virtual time stands still while work goes on outside the loop."""

    def work_outside_began(self) -> None:
        """Note that something runs that the loop cannot see; thread-safe."""
        ...

    def work_outside_ended(self) -> None:
        """Note that it is over; thread-safe."""
        ...


class Call:
    """One call of a function on its way through a thread.

    Attributes:
        function: What is called; None once the call has ended or was withdrawn.
        item: What it is called with; None from then on.
        value: What the function returned, once `ended`.
        error: What it raised, of any kind, once `ended`; None if it returned.
        began: True once a thread has taken the call.
        ended: True once the function is over; `on_end` follows in the loop's thread.
    """

    __slots__ = ("_context", "_on_end", "began", "ended", "error", "function", "item", "value")

    def __init__(
        self, function: Callable[[Any], Any], item: Any, on_end: Callable[[Call], object], context: Context
    ) -> None:
        """Keep what is to be called, where, and who wants to hear of the end."""
        self.function: Any = function
        self.item = item
        self._on_end: Any = on_end
        self._context: Any = context
        self.value: Any = None
        self.error: BaseException | None = None
        self.began = False
        self.ended = False


def _context_outside() -> Context:
    """Return a copy of the context for a thread: no event loop runs there, until one is started."""
    context = copy_context()
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, None)
    return context


def described(function: Any, item: Any) -> str:
    """Return the function's name and a short form of the item, whatever state that is in."""
    name = getattr(function, "__qualname__", None) or type(function).__name__
    try:
        return f"{name}({reprlib.repr(item)})"
    except Exception:  # noqa: BLE001 - a strange item, or one that its function changes just now
        return f"{name}(<{type(item).__name__}>)"


class Threads:
    """Run plain functions in threads of our own, as many as calls are open at once.

    All methods belong to the loop's thread.

    Args:
        loop: The event loop that hears of the ends.
        clock: Told of every call from `submit` until its `on_end` has returned.
        name: What the threads are called, with a number each.
    """

    def __init__(self, loop: Loop, clock: WorkOutside, name: str = "qanat") -> None:
        """Start nothing yet: threads come with the calls."""
        self._loop = loop
        self._clock = clock
        self._name = name
        self._threads: list[Thread] = []
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._open: set[Call] = set()
        self._waiting: set[Call] = set()
        self._ended: deque[Call] = deque()
        self._hop_pending = False
        self._bell = Bell(loop)
        self._closing = False
        self._last: Thread | None = None
        self._leaving = False
        self._warned = False

    @property
    def running(self) -> list[Call]:
        """The calls whose function runs at this moment; `described` says which they are."""
        return [call for call in self._open if call.began and not call.ended]

    def submit(self, function: Callable[[Any], Any], item: Any, on_end: Callable[[Call], object]) -> Call:
        """Call `function(item)` in a thread, in a copy of the caller's context.

        Args:
            function: What to call. Whatever it raises, `SystemExit` and the like included, is
                that call's error and harms no thread.
            item: Its only argument.
            on_end: Called later with the call, in the loop's thread, exactly once. Must not raise.

        Raises:
            RuntimeError: If `close` has begun, or no thread can be started and there is none yet.
        """
        if self._closing:
            raise RuntimeError("the threads are closed")
        if len(self._open) >= len(self._threads):
            self._grow()
        context = _context_outside()
        call = Call(function, item, on_end, context)
        context.run(running_call.set, call)
        self._open.add(call)
        self._waiting.add(call)
        self._clock.work_outside_began()
        self._calls.put(call)
        return call

    def withdraw(self, call: Call) -> bool:
        """Take a call back that no thread has taken yet.

        Returns:
            True: it will never run and its `on_end` is not called. False: it runs or has ended,
            and `on_end` comes or came.
        """
        try:
            self._waiting.remove(call)
        except KeyError:
            return False
        call.function = call.item = call._context = call._on_end = None
        self._close_book(call)
        self._ring_if_idle()
        return True

    async def wait_idle(self) -> None:
        """Wait until no call is open: all have ended and every `on_end` has been called."""
        while self._open:
            await self._bell.wait()

    async def close(self) -> None:
        """Wait for the open calls, however long, and end the threads: nothing runs afterwards.

        Takes no calls from here on. If the waiting is cancelled, a second `close` goes on with it.
        """
        self._closing = True
        await self.wait_idle()
        if self._threads and not self._leaving:
            self._leaving = True
            # Until they are gone a virtual clock stands still, or timers around us would run out.
            self._clock.work_outside_began()
            # Not joined here: as a thread ends, what its thread-locals hold is finalised, which
            # may take long, a connection being closed for one.
            last = Thread(target=self._see_off, name=f"{self._name}-last", daemon=True)
            try:
                last.start()
            except RuntimeError:  # the system has no thread to spare
                self._see_off()
            else:
                self._last = last
        while self._threads:
            await self._bell.wait()

    def _grow(self) -> None:
        thread = Thread(target=self._work, name=f"{self._name}-{len(self._threads) + 1}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            if not self._threads:
                raise
            if not self._warned:
                self._warned = True
                _log.warning("only %d threads can be started; calls wait for one", len(self._threads))
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        """Run calls until told to leave; the body of every thread."""
        get, waiting, ended = self._calls.get, self._waiting, self._ended
        while True:
            call = get()
            if call is None:
                return
            try:
                waiting.remove(call)
            except KeyError:  # withdrawn
                del call
                continue
            call.began = True
            try:
                call.value = call._context.run(call.function, call.item)
            except BaseException as error:  # noqa: BLE001 - SystemExit and the like are the job's, too
                # Without this frame, which lives as long as the thread and sees later calls.
                trace = error.__traceback__
                call.error = BaseException.with_traceback(error, trace and trace.tb_next)
                del trace
            call.function = call.item = call._context = None
            call.ended = True
            ended.append(call)
            del call  # or the frame holds it for as long as the thread sleeps
            if not self._hop_pending:
                self._hop_pending = True
                self._hop(self._hand_over)

    def _hop(self, function: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass  # the loop has ended, and with it everybody who could want to know

    def _hand_over(self) -> None:
        """Tell of the calls that ended; in the loop's thread."""
        self._hop_pending = False
        while True:
            try:
                call = self._ended.popleft()
            except IndexError:
                break
            on_end, call._on_end = call._on_end, None
            try:
                on_end(call)
            except BaseException:
                self._hop(self._hand_over)  # the calls behind this one are still to be told of
                raise
            finally:
                self._close_book(call)
        self._ring_if_idle()

    def _close_book(self, call: Call) -> None:
        self._open.remove(call)
        self._clock.work_outside_ended()

    def _ring_if_idle(self) -> None:
        if not self._open:
            self._bell.ring()

    def _see_off(self) -> None:
        """Send the threads away and wait until they are gone; in a thread of its own."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        self._hop(self._farewell)

    def _farewell(self) -> None:
        if self._last is not None:
            self._last.join()  # what brought us here was the last thing that it does
        self._threads.clear()
        self._bell.ring()
        self._clock.work_outside_ended()
