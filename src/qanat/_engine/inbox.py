"""An input that is added to while it is read: `Inbox`.

A run reads it like any iterable, straight where a job starts. That it is empty does not mean that it has
ended: the intake goes dry, and the next item that is added wets it again. So an item that arrives in
the middle of a run costs as little as one that was there from the beginning.
"""

from __future__ import annotations

from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from qanat._core.arguments import whole
from qanat._engine.loop import running_loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from qanat._engine.loop import Spot

T = TypeVar("T")


class Reader(Protocol):
    """Who reads an inbox: the intake of a run."""

    def wetted(self) -> None:
        """Hear that there are items again, or never will be; in the loop's thread."""
        ...

    def wetted_elsewhere(self) -> None:
        """Hear the same in another thread."""
        ...


class Inbox(Generic[T]):
    """Hold items for a run that goes on until `close` is called.

    To be given as the items of `stream`, `collect`, `map` or `run`; a handler, a callback or another task
    adds to it meanwhile. For handles of single jobs use a `Pool`: an inbox has none, and an item costs
    a third. One run reads it at a time; what it has not read is there for the next.

    Args:
        most: How many items may wait in it for `put`; None is any number.

    Raises:
        TypeError: If `most` is not a whole number.
        ValueError: If `most` is less than 1.
    """

    __slots__ = ("_items", "_most", "_putters", "_reader", "_thread", "closed")

    def __init__(self, *, most: int | None = None) -> None:
        """Begin empty and open."""
        self._most = None if most is None else whole("most", most, 1)
        self._items: deque[T] = deque()
        self._putters: deque[Spot] = deque()
        self._reader: Reader | None = None
        self._thread = 0
        self.closed: bool = False
        """Whether nothing more is taken; what is in it is still read."""

    @property
    def waiting(self) -> int:
        """How many items are in it, not read by a run."""
        return len(self._items)

    def add(self, item: T) -> None:
        """Add an item without waiting, whatever `most` says; may be called in any thread.

        Raises:
            RuntimeError: If the inbox is closed.
        """
        if self.closed:
            raise RuntimeError("the inbox is closed and takes no more items")
        self._items.append(item)
        if self._reader is not None:
            self._tell(self._reader)

    def add_all(self, items: Iterable[T]) -> None:
        """Add items without waiting, whatever `most` says; may be called in any thread.

        Raises:
            RuntimeError: If the inbox is closed.
        """
        if self.closed:
            raise RuntimeError("the inbox is closed and takes no more items")
        self._items.extend(items)
        if self._reader is not None:
            self._tell(self._reader)

    async def put(self, item: T) -> None:
        """Add an item once fewer than `most` are in it, in the loop of the run.

        Raises:
            RuntimeError: If the inbox is closed, also while this waits.
        """
        while self._most is not None and len(self._items) >= self._most and not self.closed:
            spot = running_loop().spot()
            self._putters.append(spot)
            try:
                await spot.wait()
            except BaseException:
                if spot in self._putters:
                    self._putters.remove(spot)
                else:
                    self._let_put()  # the turn goes to the next
                raise
        self.add(item)

    def close(self) -> None:
        """Take no more items: the run ends when what is in it is done. May be called in any thread."""
        if self.closed:
            return
        self.closed = True
        if self._reader is not None:
            self._tell(self._reader)
        while self._putters:
            self._putters.popleft().wake()

    def clear(self) -> list[T]:
        """Take out and return what no run has read."""
        found = list(self._items)
        self._items.clear()
        self._let_put()
        return found

    def __iter__(self) -> Iterator[T]:
        """Take out the items that are in it; that there are no more does not mean that none will come."""
        items = self._items
        while items:
            item = items.popleft()
            if self._putters:
                self._let_put()
            yield item

    def __repr__(self) -> str:
        """Show how many items are in it."""
        return f"<Inbox with {len(self._items)} items{', closed' if self.closed else ''}>"

    # --- for the intake that reads it ------------------------------------------------------------

    def _begin(self, reader: Reader) -> None:
        """Hear who reads it from now on.

        Raises:
            RuntimeError: If another one does.
        """
        if self._reader is not None:
            raise RuntimeError("the inbox is read by another run: wait for its end, or make another inbox")
        self._reader = reader
        self._thread = get_ident()

    def _end(self, reader: Reader) -> None:
        """Hear that somebody reads it no more."""
        if self._reader is reader:
            self._reader = None

    def _tell(self, reader: Reader) -> None:
        if get_ident() == self._thread:
            reader.wetted()
        else:
            reader.wetted_elsewhere()

    def _let_put(self) -> None:
        """Wake one who waits for room, if there is some."""
        if self._putters and (self._most is None or len(self._items) < self._most):
            self._putters.popleft().wake()
