"""Where one event loop hands in its calls to a courier, and begins small ones by itself."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from qanat._engine.call import Call, Home
from qanat._engine.line import Flight, deal, tell
from qanat._engine.vigil import Vigil

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.ports import Begun as BegunDeed
    from qanat._core.ports import Clock
    from qanat._engine.line import Line
    from qanat._engine.loop import Loop, Spot, Watch

TICK: Final = 1.0
"""Seconds between two looks whether an answer is late; one that is late twice is the thread's to wait for."""


class Desk(Home):
    """Where one event loop hands in its calls to a courier; made by `Courier.desk`."""

    def __init__(self, line: Line, loop: Loop, clock: Clock) -> None:
        """Begin with none."""
        self._line = line
        self._loop = loop
        self._clock = clock
        self._ended: deque[Call] = deque()
        self._hop_pending = False
        # Virtual time knows threads, and no sockets.
        self._begins = clock.precision > 0.0
        self._watch: Watch | None = None
        self._vigil = Vigil(loop)
        self._flown = 0
        self._last: Flight | None = None

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
        self._hand_in(call)
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
        begun = Begun(self, self._loop.spot(), deed, asked, late)
        self._hand_in(begun)
        return begun

    async def ask(
        self, deed: str, asked: list[Any], late: Callable[[list[Any]], object] | None = None
    ) -> list[Any]:
        """Ask, and wait for the answers; as `begin` and then `Begun.wait`.

        Raises:
            BaseException: What the store raised.
        """
        return await self.begin(deed, asked, late).wait()

    def _hand_in(self, call: Call) -> None:
        self._clock.work_outside_began()
        try:
            calls = self._line.put(call, begins=self._begins)
        except BaseException:
            if self._line.is_held_for(call):
                self._line.give_up([])
            self._clock.work_outside_ended()
            raise
        if calls:
            self._begin(calls)

    # What is begun here.

    def rest(self) -> None:
        """Watch no socket any more; in the loop's thread, or once the loop has ended."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()

    def leave_loop(self) -> None:
        """Rest as soon as the loop runs; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self.rest)
        except RuntimeError:
            self.rest()

    def _begin(self, calls: list[Call]) -> None:
        """Begin calls that were taken with the connection, or leave them to the thread."""
        line = self._line
        try:
            begun = line.begin_deed(calls)
            if begun is not None and self._watch is None:
                self._watch = self._watched(begun.fileno())
        except BaseException:
            line.give_up(calls)
            raise
        flight = Flight(self, calls, begun)
        if begun is None or self._watch is None:
            line.leave(flight)
        else:
            self._flown += 1
            line.let_fly(flight)
            self._vigil.begin()

    def _watched(self, number: int) -> Watch | None:
        try:
            return self._loop.watch(number, self._look, self._tick, TICK)
        except (NotImplementedError, OSError):
            self._begins = False  # Windows' own loop, or no number is left
            return None

    def _look(self) -> None:
        """Take in what has come."""
        flight = self._line.take_flying(self)
        if flight is None or flight.begun is None:
            self.rest()  # what can be read is for somebody else, or the server has gone
            return
        try:
            if not flight.begun.is_over():
                self._line.let_fly(flight)
                return
            self._vigil.end()
            usual = _dealt(flight.calls, flight.begun)
        except BaseException:
            self._line.give_up(flight.calls)
            raise
        if not usual:
            self.rest()
            self._line.leave(flight)
            return
        more = self._line.release(begins=self._begins)
        try:
            if more:
                self._begin(more)
        finally:
            self._give(flight.calls)

    def _give(self, calls: list[Call]) -> None:
        """Tell of calls that ended, without a hop where all are of this loop."""
        if len(calls) == 1 and calls[0].home is self:
            try:
                calls[0].on_end(calls[0])
            finally:
                self._clock.work_outside_ended()
        elif all(call.home is self for call in calls):
            self._ended.extend(calls)
            self._hand_over()
        else:
            tell(calls)

    def _tick(self) -> None:
        """Leave an answer that is late to the thread, which knows how long to wait; rest when it is quiet."""
        flight = self._line.flying()
        if flight is not None and flight is self._last:
            flight = self._line.take_flying(self)
            if flight is not None:
                self.rest()
                self._line.leave(flight)
        elif flight is None and not self._flown:
            self.rest()
        self._last = flight
        self._flown = 0

    # What was asked.

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


class Begun(Call):
    """A call that is under way for one caller; made by `Desk.begin`.

    It is the call itself, and what is told of its end is no method of it: one that held the other would be
    garbage that nothing but the collector finds.
    """

    __slots__ = ("_desk", "_late", "_spot", "_told")

    def __init__(
        self, desk: Desk, spot: Spot, deed: str, asked: list[Any], late: Callable[[list[Any]], object] | None
    ) -> None:
        """Ask for nothing yet."""
        super().__init__(deed, asked, desk, _wake)
        self._desk = desk
        self._spot = spot
        self._late = late
        self._told = False

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
        return self.unwrap()

    def leave(self) -> None:
        """Wait no more: take the call back if its round trip has not begun."""
        if self._told:
            # Cancelled in the very turn of the loop in which the answers came.
            _tell_late(self)
        elif not self._desk.withdraw(self):
            # By another name, as to set it by `self` would be to declare it anew for the type checkers.
            call: Call = self
            call.on_end = _tell_late


def _wake(begun: Any) -> None:
    begun._told = True
    begun._spot.wake()


def _tell_late(begun: Any) -> None:
    """Tell of a call whose caller has gone."""
    if begun._late is not None and begun.error is None:
        begun._late(begun.answers)


def _dealt(calls: list[Call], begun: BegunDeed) -> bool:
    """Give calls their answers, unless something about these is not as usual."""
    try:
        answers = begun.answers()
        if answers is None:
            return False
        deal(calls, answers)
    except Exception:  # noqa: BLE001 - the thread comes upon it again, and raises it to those who asked
        return False
    return True
