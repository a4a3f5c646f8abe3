"""The courier: carries the calls of event loops and threads to a store that only knows plain calls.

A store is synchronous and speaks in deeds, each of which takes a list. Its courier has a thread for
the deeds and, where leases have to be renewed, one for the pulse, each with a connection of its own,
made in that thread. What is asked for while a round trip is under way waits, and goes together in the
next one: so commits come in groups without a timer, the larger the slower the store is.

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

import logging
import os
import time
from collections import deque
from threading import Condition, Event, Thread
from typing import TYPE_CHECKING, Any, Final

from qanat._engine.clock import clock_in_use
from qanat._engine.loop import running_loop
from qanat.errors import StoreForked

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.ports import Clock, Connection
    from qanat._engine.loop import Loop, Spot

_log = logging.getLogger("qanat")

MOST: Final = 1_000
"""How much is asked for in one round trip at most, unless a single call asks for more."""
AGAIN: Final = 1.0
"""Seconds after which a beat that failed is tried again."""


class Call:
    """Something asked of a store, by one caller.

    Attributes:
        deed: The name of the deed.
        asked: What it is asked for, a list.
        answers: The answers, as many, once it has ended; empty if there is an error.
        error: What the round trip raised; None if it went well.
    """

    __slots__ = ("answers", "asked", "deed", "error", "home", "on_end")

    def __init__(self, deed: str, asked: list[Any], home: _Home, on_end: Callable[[Call], object]) -> None:
        """Ask for nothing yet."""
        self.deed: str = deed
        self.asked: list[Any] = asked
        self.home: _Home = home
        self.on_end: Callable[[Call], object] = on_end
        self.answers: list[Any] = []
        self.error: BaseException | None = None

    def unwrap(self) -> list[Any]:
        """Return the answers, or raise what came instead: the first one that is an error, too."""
        if self.error is not None:
            raise self.error
        for answer in self.answers:
            if isinstance(answer, BaseException):
                raise answer
        return self.answers


class _Home:
    """Where answers go: here, to a thread that waits for each by itself."""

    def hear(self, calls: list[Call]) -> None:
        """Be told, in the line's thread, that calls have ended."""
        for call in calls:
            call.on_end(call)


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
        self._deeds = _Line(connect, f"{name}-deeds", most)
        self._pulse: _Line | None = None

    def desk(self, *, pulse: bool = False) -> Desk:
        """Return where the running event loop hands in its calls.

        Args:
            pulse: Go by the thread of the pulse, past all deeds that wait.
        """
        return Desk(self._line(pulse=pulse), running_loop(), clock_in_use())

    def ask(self, deed: str, asked: list[Any], *, pulse: bool = False) -> list[Any]:
        """Ask from a plain thread, and wait for the answers.

        Raises:
            StoreForked: If the process was forked since the courier was made.
            BaseException: What the store raised.
        """
        return self.begin(deed, asked, pulse=pulse).wait()

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

    def _line(self, *, pulse: bool) -> _Line:
        if not pulse:
            return self._deeds
        if self._pulse is None:
            self._pulse = _Line(self._connect, f"{self._name}-pulse", self._most)
        return self._pulse

    def _lines(self) -> list[_Line]:
        return [line for line in (self._deeds, self._pulse) if line is not None]


class PlainBegun:
    """A call that is under way for one plain thread; made by `Courier.begin`."""

    __slots__ = ("_call", "_ended", "_line")

    def __init__(self, line: _Line, deed: str, asked: list[Any]) -> None:
        self._ended = Event()
        self._line = line
        self._call = Call(deed, asked, _Home(), lambda _: self._ended.set())
        line.put(self._call)

    def wait(self) -> list[Any]:
        """Wait for the answers.

        Raises:
            BaseException: What the store raised.
        """
        try:
            self._ended.wait()
        except BaseException:
            self._line.withdraw(self._call)  # interrupted before it left, or nobody hears the answer
            raise
        return self._call.unwrap()


class Desk(_Home):
    """Where one event loop hands in its calls to a courier; made by `Courier.desk`."""

    def __init__(self, line: _Line, loop: Loop, clock: Clock) -> None:
        """Begin with none."""
        self._line = line
        self._loop = loop
        self._clock = clock
        self._ended: deque[Call] = deque()
        self._hop_pending = False

    def send(self, deed: str, asked: list[Any], on_end: Callable[[Call], object]) -> Call:
        """Hand in a call and go on.

        Args:
            deed: The name of the deed.
            asked: What it is asked for; the list is not to be changed any more.
            on_end: Called with the call in the loop's thread, once it has ended. Must not raise.

        Raises:
            StoreForked: If the process was forked since the courier was made.
            RuntimeError: If the courier is closed.
        """
        call = Call(deed, asked, self, on_end)
        self._clock.work_outside_began()
        try:
            self._line.put(call)
        except BaseException:
            self._clock.work_outside_ended()
            raise
        return call

    def withdraw(self, call: Call) -> bool:
        """Take a call back whose round trip has not begun; False if it has, and `on_end` comes."""
        if not self._line.withdraw(call):
            return False
        self._clock.work_outside_ended()
        return True

    def begin(self, deed: str, asked: list[Any], late: Callable[[list[Any]], object] | None = None) -> Begun:
        """Ask, and go on; whoever begins waits for the answers in the end.

        Args:
            deed: The name of the deed.
            asked: What it is asked for.
            late: Called in the loop's thread with the answers that came for a caller that was
                cancelled meanwhile: to give back what it claimed.
        """
        return Begun(self, self._loop.spot(), deed, asked, late)

    async def ask(
        self, deed: str, asked: list[Any], late: Callable[[list[Any]], object] | None = None
    ) -> list[Any]:
        """Ask, and wait for the answers; as `begin` and then `Begun.wait`.

        Raises:
            BaseException: What the store raised.
        """
        return await Begun(self, self._loop.spot(), deed, asked, late).wait()

    def hear(self, calls: list[Call]) -> None:
        """Be told, in the line's thread, that calls have ended: one hop into the loop for all."""
        self._ended.extend(calls)
        if not self._hop_pending:
            self._hop_pending = True
            self._hop()

    def _hop(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._hand_over)
        except RuntimeError:
            # The loop has ended, and with it everybody who could want to know.
            for _ in range(len(self._ended)):
                self._ended.popleft()
                self._clock.work_outside_ended()

    def _hand_over(self) -> None:
        """Tell of the calls that ended; in the loop's thread."""
        self._hop_pending = False
        while True:
            try:
                call = self._ended.popleft()
            except IndexError:
                return
            try:
                call.on_end(call)
            except BaseException:
                self._hop()  # the calls behind this one are still to be told of
                raise
            finally:
                self._clock.work_outside_ended()


class Begun:
    """A call that is under way for one caller; made by `Desk.begin`."""

    __slots__ = ("_call", "_desk", "_late", "_spot", "_told")

    def __init__(
        self, desk: Desk, spot: Spot, deed: str, asked: list[Any], late: Callable[[list[Any]], object] | None
    ) -> None:
        self._desk = desk
        self._spot = spot
        self._late = late
        self._told = False
        self._call = desk.send(deed, asked, self._tell)

    def _tell(self, _call: Call) -> None:
        self._told = True
        self._spot.wake()

    async def wait(self) -> list[Any]:
        """Wait for the answers.

        A caller that is cancelled before its round trip begins has asked for nothing.

        Raises:
            BaseException: What the store raised.
        """
        try:
            await self._spot.wait()
        except BaseException:
            self.leave()
            raise
        return self._call.unwrap()

    def leave(self) -> None:
        """Wait no more: take the call back if its round trip has not begun."""
        if self._told:
            # Cancelled in the very turn of the loop in which the answers came.
            _told_late(self._late)(self._call)
        elif not self._desk.withdraw(self._call):
            self._call.on_end = _told_late(self._late)


def _told_late(late: Callable[[list[Any]], object] | None) -> Callable[[Call], object]:
    """Return who hears of a call whose caller has gone."""

    def hear(call: Call) -> None:
        if late is not None and call.error is None:
            late(call.answers)

    return hear


class _Line:
    """A thread with a connection, and the calls that wait for it by the names of their deeds."""

    def __init__(self, connect: Callable[[], Connection], name: str, most: int) -> None:
        self._connect = connect
        self._name = name
        self._most = most
        self._pid = os.getpid()
        self._change = Condition()
        self._waiting: dict[str, dict[Call, None]] = {}
        self._thread: Thread | None = None
        self._beat: Callable[[Connection], float] | None = None
        self._beat_at = 0.0
        self._ending = False
        self._gone: list[Callable[[], object]] = []
        self._connection: Connection | None = None

    def put(self, call: Call) -> None:
        """Let a call wait for the next round trip."""
        if os.getpid() != self._pid:
            raise StoreForked(
                "the store was opened before the process was forked: open it again in the child"
            )
        with self._change:
            if self._ending:
                raise RuntimeError("the store is closed")
            self._waiting.setdefault(call.deed, {})[call] = None
            self._wake()

    def withdraw(self, call: Call) -> bool:
        """Take a call back; False if its round trip has begun."""
        with self._change:
            calls = self._waiting.get(call.deed, {})
            if call not in calls:
                return False
            del calls[call]
            return True

    def begin(self, beat: Callable[[Connection], float]) -> None:
        """Call a function now, and again when it says."""
        with self._change:
            self._beat = beat
            self._beat_at = time.monotonic()
            self._wake()

    def end(self, gone: Callable[[], object] | None = None) -> None:
        """Let the thread end when nothing waits any more; `gone` is called in it then."""
        if os.getpid() != self._pid:
            return
        with self._change:
            self._ending = True
            if gone is not None:
                self._gone.append(gone)
            if self._thread is not None and self._thread.is_alive():
                self._change.notify()
                return
            told, self._gone = self._gone, []
        for each in told:
            each()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None and os.getpid() == self._pid:
            self._thread.join()

    def _wake(self) -> None:
        """Start the thread, or see to it that it looks; with the lock held."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        else:
            self._change.notify()

    def _work(self) -> None:
        """Carry out what waits until told to end; the body of the thread."""
        while True:
            calls, beat = self._next()
            if beat is not None:
                self._pulsate(beat)
            elif calls:
                self._carry_out(calls)
                calls = []  # or the frame holds them for as long as the thread sleeps
            else:
                break
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception as error:  # noqa: BLE001 - a store may raise anything, and nobody waits for it
                _log.warning("a store raised when it was closed: %r", error)
        with self._change:
            told, self._gone = self._gone, []
        for each in told:
            each()

    def _next(self) -> tuple[list[Call], Callable[[Connection], float] | None]:
        """Wait for something to do, and take it."""
        with self._change:
            while True:
                if self._beat is not None and not self._ending and time.monotonic() >= self._beat_at:
                    return [], self._beat
                calls = self._take()
                if calls or self._ending:
                    return calls, None
                self._change.wait(None if self._beat is None else self._beat_at - time.monotonic())

    def _take(self) -> list[Call]:
        """Take the calls of the deed that has waited longest, as many as go in one round trip."""
        for deed in list(self._waiting):
            waiting = self._waiting.pop(deed)
            taken: list[Call] = []
            size = 0
            for call in waiting:
                if taken and size + len(call.asked) > self._most:
                    break
                taken.append(call)
                size += len(call.asked)
            for call in taken:
                del waiting[call]
            if waiting:
                self._waiting[deed] = waiting  # behind the other deeds
            if taken:
                return taken
        return []

    def _carry_out(self, calls: list[Call]) -> None:
        """Make one round trip, and hand the answers over."""
        try:
            if self._connection is None:
                self._connection = self._connect()
            asked = calls[0].asked if len(calls) == 1 else [each for call in calls for each in call.asked]
            answers = self._connection.do(calls[0].deed, asked)
            if len(answers) != len(asked):
                raise RuntimeError(
                    f"the store gave {len(answers)} answers to {len(asked)} questions of {calls[0].deed!r}"
                )
        except BaseException as error:  # noqa: BLE001 - raised to those who asked
            for call in calls:
                call.error = error
        else:
            begin = 0
            for call in calls:
                call.answers = answers[begin : begin + len(call.asked)]
                begin += len(call.asked)
        homes: dict[_Home, list[Call]] = {}
        for call in calls:
            homes.setdefault(call.home, []).append(call)
        for home, theirs in homes.items():
            home.hear(theirs)

    def _pulsate(self, beat: Callable[[Connection], float]) -> None:
        try:
            if self._connection is None:
                self._connection = self._connect()
            seconds = beat(self._connection)
        except BaseException as error:  # noqa: BLE001 - nobody waits for it
            _log.warning("the pulse of a store raised, and is tried again: %r", error)
            seconds = AGAIN
        self._beat_at = time.monotonic() + seconds
