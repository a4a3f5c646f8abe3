"""The courier: carries the calls of event loops and threads to a store that only knows plain calls.

A store is synchronous and speaks in deeds, each of which takes a list. Its courier has a thread for
the deeds; where leases have to be renewed, one for the pulse; and where a server can be at work for both, one
for the claims of a worker beside its settles: each with a connection of its own, made in that thread. What
is asked for while a round trip is under way waits, and goes together in the next one: so commits come in
groups without a timer, the larger the slower the store is.

    courier = Courier(connect)
    desk = courier.desk()                       # in an event loop
    answers = await desk.ask("put", [job, job])
    answers = courier.ask("put", [job])         # in a plain thread
    await courier.aclose()                      # flushes, and joins the threads

What must stay true:

- **A call is in one place.** In the line's `_waiting` its caller may take it back; whoever takes it out
  of there under the lock owns it. The thread that takes it carries it out, whatever becomes of the caller.
- **No answer is left lying.** The thread lays answers into the desk's `_ended` and then sees to one hop
  into the loop for all of them; the loop clears the note of the hop before it takes from there. The
  argument is that of `threads`.
- **Order holds within a deed only.** Who needs two deeds one after the other awaits the first.
- **Virtual time stands still** from when a call is handed in until its answer was handed over.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from qanat._engine.call import Call, Home
from qanat._engine.clock import clock_in_use
from qanat._engine.desk import Begun, Desk
from qanat._engine.line import Line
from qanat._engine.loop import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.ports import Connection

__all__ = ["MOST", "Begun", "Call", "Courier", "Desk", "PlainBegun"]

MOST: Final = 1_000
"""How much is asked for in one round trip at most, unless a single call asks for more."""


class Courier:
    """Carry calls to one store.

    Args:
        connect: Makes a connection; called in the thread that uses it, with the first call and again
            with a later one if it raised.
        name: What the threads are called.
        most: How much is asked for in one round trip at most.
    """

    def __init__(
        self, connect: Callable[[], Connection], *, name: str = "qanat-store", most: int = MOST
    ) -> None:
        """Start nothing yet: threads come with the first calls."""
        self._connect = connect
        self._name = name
        self._most = most
        self._deeds = Line(connect, f"{name}-deeds", most)
        self._pulse: Line | None = None
        self._claims: Line | None = None
        self._desks: list[Desk] = []

    def desk(self, *, pulse: bool = False) -> Desk:
        """Return where the running event loop hands in its calls.

        Args:
            pulse: Go by the thread of the pulse, past all deeds that wait.
        """
        desk = Desk(self._line(pulse=pulse), running_loop(), clock_in_use())
        self._desks.append(desk)
        return desk

    def claim_desk(self) -> Desk:
        """Return where the running event loop hands in claims, which wait for no other deed."""
        if self._claims is None:
            self._claims = Line(self._connect, f"{self._name}-claims", self._most)
        desk = Desk(self._claims, running_loop(), clock_in_use())
        self._desks.append(desk)
        return desk

    def ask(self, deed: str, asked: list[Any], *, pulse: bool = False) -> list[Any]:
        """Ask from a plain thread, and wait for the answers.

        Raises:
            StoreForked: If the process was forked since the courier was made.
            BaseException: What the store raised.
        """
        return PlainBegun(self._line(pulse=pulse), deed, asked, waits=True).wait()

    def begin(self, deed: str, asked: list[Any], *, pulse: bool = False) -> PlainBegun:
        """Ask from a plain thread, and go on; whoever begins waits for the answers in the end.

        Raises:
            StoreForked: If the process was forked since the courier was made.
        """
        return PlainBegun(self._line(pulse=pulse), deed, asked)

    def begin_pulse(self, beat: Callable[[Connection], float]) -> None:
        """Call a function again and again in the thread of the pulse, whatever the event loops do.

        Args:
            beat: Called with that thread's connection; returns the seconds until it is to be called
                again. What it raises is logged, and it is called again after a second.
        """
        self._line(pulse=True).begin(beat)

    def close(self) -> None:
        """Carry out what was handed in, end the threads and wait for them; from a plain thread."""
        for line in self._lines():
            line.end()
        for line in self._lines():
            line.join()
        for desk in self._desks:
            desk.leave_loop()

    async def aclose(self) -> None:
        """Carry out what was handed in, end the threads and wait for them; in an event loop.

        If the waiting is cancelled, the threads end all the same; a second call waits for them.
        """
        loop, clock = running_loop(), clock_in_use()
        for line in self._lines():
            spot = loop.spot()
            # Until it is gone a virtual clock stands still.
            clock.work_outside_began()

            def gone(wake: Callable[[], object] = spot.wake) -> None:
                def hear() -> None:
                    wake()
                    clock.work_outside_ended()

                try:
                    loop.call_soon_threadsafe(hear)
                except RuntimeError:
                    clock.work_outside_ended()  # the loop has ended

            line.end(gone)
            await spot.wait()
            line.join()  # what woke us was the last thing that it does
        for desk in self._desks:
            desk.leave_loop()

    def _line(self, *, pulse: bool) -> Line:
        if not pulse:
            return self._deeds
        if self._pulse is None:
            self._pulse = Line(self._connect, f"{self._name}-pulse", self._most)
        return self._pulse

    def _lines(self) -> list[Line]:
        return [line for line in (self._deeds, self._pulse, self._claims) if line is not None]


class PlainBegun:
    """A call that is under way for one plain thread; made by `Courier.begin`."""

    __slots__ = ("_call", "_ended", "_line")

    def __init__(self, line: Line, deed: str, asked: list[Any], *, waits: bool = False) -> None:
        """Hand in a call; where the caller waits anyway, its own thread may carry it out at once."""
        # A lock that is let go of once: an Event is four times as dear.
        self._ended = Lock()
        self._ended.acquire()
        self._line = line
        self._call = Call(deed, asked, Home(), lambda _: self._ended.release())
        try:
            calls = line.put(self._call, waits=waits)
        except BaseException:
            if line.is_held_for(self._call):
                line.give_up([])
            raise
        if calls:
            line.carry_out_here(calls)

    def wait(self) -> list[Any]:
        """Wait for the answers.

        Raises:
            BaseException: What the store raised.
        """
        try:
            self._ended.acquire()
        except BaseException:
            self._line.withdraw(self._call)  # interrupted before it left, or nobody hears the answer
            raise
        return self._call.unwrap()
