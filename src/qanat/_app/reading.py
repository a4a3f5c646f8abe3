"""Readers of a Pool's outcomes, each with a bounded queue of its own."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar
from weakref import WeakSet

from qanat._engine.bell import Bell

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.outcome import Outcome
    from qanat._engine.loop import Loop

T = TypeVar("T")
R = TypeVar("R")


class Readers:
    """All readers of a Pool. One that is dropped is forgotten, and holds up nothing any more."""

    def __init__(self, buffer: int, hold: Callable[[bool], None]) -> None:
        """Begin with none; `hold` is told when a reader is full, and when none is."""
        self._buffer = buffer
        self._hold = hold
        self._readers: WeakSet[OutcomeReader[Any, Any]] = WeakSet()
        self._held = False
        self._lifted = False
        # Asked with every outcome, where the length of a WeakSet would cost three calls.
        self._had_any = False

    def open(self) -> None:
        """Begin anew, for a Pool that is opened again."""
        self._lifted = False
        self._held = False

    def add(self, loop: Loop) -> OutcomeReader[Any, Any]:
        """Return a new reader."""
        reader: OutcomeReader[Any, Any] = OutcomeReader(self, loop)
        self._had_any = True
        self._readers.add(reader)
        return reader

    def tell(self, outcome: Outcome[Any, Any]) -> bool:
        """Hand an outcome to every reader; False if there are none."""
        if not self._had_any:
            return False
        if not self._readers:
            self.look()
            return False
        for reader in list(self._readers):
            reader.put(outcome)
        self.look()
        return True

    def look(self) -> None:
        """Find out whether any reader is full."""
        held = not self._lifted and any(len(reader) >= self._buffer for reader in list(self._readers))
        if held != self._held:
            self._held = held
            self._hold(held)

    def drop(self, reader: OutcomeReader[Any, Any]) -> bool:
        """Let a reader go that is about to vanish; True if `look` has to be called afterwards."""
        self._readers.discard(reader)
        return self._held

    def forget(self, reader: OutcomeReader[Any, Any]) -> None:
        """Let a reader go."""
        self._readers.discard(reader)
        self.look()

    def lift(self) -> None:
        """Hold nothing up any more: the Pool is closing."""
        self._lifted = True
        self.look()

    def close(self) -> None:
        """Tell the readers that nothing more comes."""
        for reader in list(self._readers):
            reader.end()
        self._readers.clear()


class OutcomeReader(Generic[T, R]):
    """An async iterator over the outcomes of a Pool, from when it was made."""

    def __init__(self, readers: Readers, loop: Loop) -> None:
        """Begin with none."""
        self._readers = readers
        self._loop = loop
        self._bell = Bell(loop)
        self._ready: deque[Outcome[T, R]] = deque()
        self._ended = False

    def __len__(self) -> int:
        """Return how many outcomes wait to be read."""
        return len(self._ready)

    def __bool__(self) -> bool:
        """Be there, also when it is empty."""
        return True

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Outcome[T, R]:
        """Return the next outcome, waiting for it."""
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            await self._bell.wait()
        outcome = self._ready.popleft()
        self._readers.look()
        return outcome

    async def aclose(self) -> None:
        """Stop reading."""
        self.end()
        self._readers.forget(self)

    def put(self, outcome: Outcome[T, R]) -> None:
        """Take an outcome in."""
        self._ready.append(outcome)
        self._bell.ring()

    def end(self) -> None:
        """Be told that nothing more comes."""
        self._ended = True
        self._bell.ring()

    def __del__(self) -> None:
        """Hold nothing up any more; may be called in any thread, by the garbage collector."""
        readers = self._readers
        if readers.drop(self):
            try:
                self._loop.call_soon_threadsafe(readers.look)
            except RuntimeError:
                pass  # the loop has ended, and with it everything that could be held up
