"""A thread with a connection, and the calls that wait for it.

Where the connection can be begun with (`BeginningConnection`), an event loop that finds it free sends a
small deed by itself and takes in the answer when it comes: no thread is woken, twice, for what takes a
fraction of that time. Whatever is not small, or does not go as usual, the thread carries out or finishes.
Where the connection may be used by any thread, one that waits for its call anyway carries it out itself.

What must stay true:

- **The connection is in one hand.** `_held` says whether it is in somebody's; who takes calls takes it
  with them, under the lock. What is on its way over it is in `_flying`, and belongs to who takes it out.
- **Nothing waits for a loop that does not run.** When the courier ends, or somebody else calls, what an
  event loop has under way is the thread's.
"""

from __future__ import annotations

import logging
import os
import time
from threading import Condition, RLock, Thread
from typing import TYPE_CHECKING, Any, Final, cast

from qanat.errors import StoreForked, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.ports import BeginningConnection, Begun, Connection
    from qanat._engine.call import Call, Home

_log = logging.getLogger("qanat")

AGAIN: Final = 1.0
"""Seconds after which a beat that failed is tried again."""
FEW: Final = 64
"""How much is asked for at most where an event loop packs and unpacks it itself: about a millisecond."""


class Flight:
    """Calls on their way, begun by somebody who does not wait.

    Attributes:
        home: Who began.
        calls: The calls.
        begun: What has their answers; None if they are still to be carried out.
    """

    __slots__ = ("begun", "calls", "home")

    def __init__(self, home: Home, calls: list[Call], begun: Begun | None) -> None:
        """Leave where it stands."""
        self.home: Home = home
        self.calls: list[Call] = calls
        self.begun: Begun | None = begun


class Line:
    """A thread with a connection, and the calls that wait for it by the names of their deeds.

    Args:
        connect: Makes the connection, in the thread.
        name: What the thread is called.
        most: How much is asked for in one round trip at most.
    """

    def __init__(self, connect: Callable[[], Connection], name: str, most: int) -> None:
        self._connect = connect
        self._name = name
        self._most = most
        self._pid = os.getpid()
        self._lock = RLock()
        self._change = Condition(self._lock)
        self._waiting: dict[str, dict[Call, None]] = {}
        self._thread: Thread | None = None
        self._beat: Callable[[Connection], float] | None = None
        self._beat_at = 0.0
        self._ending = self._told = False
        self._gone: list[Callable[[], object]] = []
        self._connection: Connection | None = None
        self._begins = False
        self._roams = False
        self._held = False
        self._holder: Call | None = None
        self._flying: Flight | None = None
        self._left: Flight | None = None

    def put(self, call: Call, *, begins: bool = False, waits: bool = False) -> list[Call]:
        """Let a call wait for the next round trip.

        Args:
            call: The call.
            begins: Whether the caller would begin it by itself.
            waits: Whether it would carry it out by itself, and wait.

        Returns:
            What the caller is to begin or carry out, together with the connection; nothing if others see
            to it.
        """
        if os.getpid() != self._pid:
            raise StoreForked(
                "the store was opened before the process was forked: open it again in the child"
            )
        with self._lock:
            if self._ending:
                raise RuntimeError("the store is closed")
            if not self._held and ((begins and self._begins) or (waits and self._roams)):
                self._holder, self._held = call, True
                if not self._waiting:
                    return [call]
                self._waiting.setdefault(call.deed, {})[call] = None
                return self._take()
            self._waiting.setdefault(call.deed, {})[call] = None
            if not self._held:
                self._wake()
            elif self._flying is not None and self._flying.home is not call.home:
                self._leave(self._flying)
            return []

    def withdraw(self, call: Call) -> bool:
        """Take a call back; False if its round trip has begun."""
        with self._lock:
            calls = self._waiting.get(call.deed, {})
            if call not in calls:
                return False
            del calls[call]
            return True

    # By who holds the connection and does not wait.

    def begin_deed(self, calls: list[Call]) -> Begun | None:
        """Send calls if they are few; None if nothing was sent. What is wrong with them the thread tells."""
        asked = all_asked(calls)
        if len(calls) > FEW or len(asked) > FEW:
            return None
        try:
            return cast("BeginningConnection", self._connection).begin(calls[0].deed, asked)
        except Exception:  # noqa: BLE001 - asked once more, it is raised to those who asked
            return None

    def let_fly(self, flight: Flight) -> None:
        """Note what is on its way; whoever comes upon it takes it out by `take_flying`."""
        with self._lock:
            self._holder = None
            if self._ending:
                self._leave(flight)
            else:
                self._flying = flight

    def flying(self) -> Flight | None:
        """Return what is on its way."""
        return self._flying

    def take_flying(self, home: Home) -> Flight | None:
        """Take out what somebody began; None if it is not theirs any more."""
        with self._lock:
            flight = self._flying
            if flight is None or flight.home is not home:
                return None
            self._flying = None
            return flight

    def leave(self, flight: Flight) -> None:
        """Leave it to the thread to carry calls out or to finish what was begun."""
        with self._lock:
            self._holder = None
            self._leave(flight)

    def give_up(self, calls: list[Call]) -> None:
        """Let go of the connection after an interruption anywhere, also behind the sending.

        Nobody knows what comes next over it, so it is closed, and the thread makes a new one.
        """
        self._holder = None
        connection, self._connection = self._connection, None
        self._begins = self._roams = False
        _close(cast("Connection", connection))
        for call in calls:
            call.error = StoreUnavailable("the call was interrupted on its way: it may have happened")
        self.release(begins=False)
        tell(calls)

    def is_held_for(self, call: Call) -> bool:
        """Say whether somebody who was interrupted has the connection, and does not know of it."""
        return self._holder is call

    def carry_out_here(self, calls: list[Call]) -> None:
        """Carry out what was taken with the connection, in this thread, which waits."""
        try:
            try:
                deal(calls, cast("Connection", self._connection).do(calls[0].deed, all_asked(calls)))
            except Exception as error:  # noqa: BLE001 - raised to those who asked
                for call in calls:
                    call.error = error
            self.release(begins=False)
        except BaseException:
            self.give_up(calls)
            raise
        tell(calls)

    def release(self, *, begins: bool) -> list[Call]:
        """Let go of the connection, or return what waits and is to be begun with it."""
        with self._lock:
            self._held, self._holder = False, None
            if self._waiting and begins and not self._ending:
                calls = self._take()
                self._held = bool(calls)
                return calls
            if self._waiting or self._ending:
                self._change.notify()
            return []

    # The thread.

    def begin(self, beat: Callable[[Connection], float]) -> None:
        """Call a function now, and again when it says."""
        with self._lock:
            self._beat = beat
            self._beat_at = time.monotonic()
            self._wake()

    def end(self, gone: Callable[[], object] | None = None) -> None:
        """Let the thread end when nothing waits any more; `gone` is called in it then."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._ending = True
            if gone is not None:
                self._gone.append(gone)
            if self._thread is not None and not self._told:
                if self._flying is not None:
                    self._leave(self._flying)
                self._change.notify()
                return
            told, self._gone = self._gone, []
        for each in told:
            each()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None and os.getpid() == self._pid:
            self._thread.join()

    def _leave(self, flight: Flight) -> None:
        """Leave something to the thread; with the lock held."""
        self._flying = None
        self._left = flight
        self._change.notify()

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
            calls, begun, beat = self._next()
            if beat is not None:
                self._pulsate(beat)
            elif calls:
                self._carry_out(calls, begun)
                calls, begun = [], None  # or the frame holds them for as long as the thread sleeps
            else:
                break
        connection, self._connection = self._connection, None
        if connection is not None:
            _close(connection)
        with self._lock:
            # Whoever comes from now on is told at once: the thread lives on for a moment, and tells nobody.
            self._told = True
            told, self._gone = self._gone, []
        for each in told:
            each()

    def _next(self) -> tuple[list[Call], Begun | None, Callable[[Connection], float] | None]:
        """Wait for something to do, and take it, with the connection."""
        with self._lock:
            while True:
                if self._left is not None:
                    left, self._left = self._left, None
                    return left.calls, left.begun, None
                if not self._held:
                    if self._beat is not None and not self._ending and time.monotonic() >= self._beat_at:
                        return [], None, self._beat
                    calls = self._take()
                    if calls or self._ending:
                        self._held = True
                        return calls, None, None
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

    def _carry_out(self, calls: list[Call], begun: Begun | None) -> None:
        """Make one round trip, or the rest of it, and hand the answers over."""
        try:
            if begun is not None:
                answers = begun.finish()
            else:
                answers = self._connected().do(calls[0].deed, all_asked(calls))
            deal(calls, answers)
        except BaseException as error:  # noqa: BLE001 - raised to those who asked
            for call in calls:
                call.error = error
        with self._lock:
            self._held = False  # first, so that who hears the answer finds the connection free
        tell(calls)

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._connect()
            self._begins = bool(getattr(self._connection, "begins", False))
            self._roams = bool(getattr(self._connection, "roams", False))
        return self._connection

    def _pulsate(self, beat: Callable[[Connection], float]) -> None:
        try:
            seconds = beat(self._connected())
        except BaseException as error:  # noqa: BLE001 - nobody waits for it
            _log.warning("the pulse of a store raised, and is tried again: %r", error)
            seconds = AGAIN
        self._beat_at = time.monotonic() + seconds


def all_asked(calls: list[Call]) -> list[Any]:
    """Return all that calls ask for, in their order."""
    return calls[0].asked if len(calls) == 1 else [each for call in calls for each in call.asked]


def deal(calls: list[Call], answers: list[Any]) -> None:
    """Give each call its answers.

    Raises:
        RuntimeError: If there are more, or fewer, than was asked for.
    """
    if len(calls) == 1 and len(answers) == len(calls[0].asked):
        calls[0].answers = answers
        return
    asked = sum(len(call.asked) for call in calls)
    if len(answers) != asked:
        raise RuntimeError(f"the store gave {len(answers)} answers to {asked} questions of {calls[0].deed!r}")
    begin = 0
    for call in calls:
        call.answers = answers[begin : begin + len(call.asked)]
        begin += len(call.asked)


def tell(calls: list[Call]) -> None:
    """Tell those who asked that their calls have ended, each of them once."""
    homes: dict[Home, list[Call]] = {}
    for call in calls:
        homes.setdefault(call.home, []).append(call)
    for home, theirs in homes.items():
        home.hear(theirs)


def _close(connection: Connection) -> None:
    try:
        connection.close()
    except Exception as error:  # noqa: BLE001 - a store may raise anything, and nobody waits for it
        _log.warning("a store raised when it was closed: %r", error)
