"""Records from inputs that may block (pipes, terminals), read by a thread and awaited by the loop."""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable, Iterator
from threading import Condition, Thread
from typing import Self

from qanat._cli.reading import Record
from qanat._cli.sources import Watch
from qanat._engine.loop import Loop, Spot

AHEAD = 256
"""Records that are read before anybody asks: enough that the threads seldom wait for each other."""
BATCH = 64
"""Records that are handed over together at most."""


class Feed:
    """An async iterator of records that a thread reads.

    Args:
        read: Gives the records; handed what to ask before each read that may block.
        loop: The event loop that asks for them.
    """

    def __init__(self, read: Callable[[Watch], Iterator[Record]], loop: Loop) -> None:
        """Start to read."""
        self._loop = loop
        self._records = deque[Record]()
        self._batch: list[Record] = []
        self._change = Condition()
        self._error: Exception | None = None
        self._ended = False
        self._closed = False
        self._spot: Spot | None = None
        self._wake, self._to_wake = os.pipe()
        self._read = read
        self._thread = Thread(target=self._work, name="qanat-input", daemon=True)
        self._thread.start()

    def __aiter__(self) -> Self:
        """Return itself: there is one pass over the records."""
        return self

    async def __anext__(self) -> Record:
        """Return the next record, waiting for it.

        Raises:
            StopAsyncIteration: If there are no more, or the feed was closed.
            InputError: If the input cannot be read any further.
        """
        while not self._closed:
            with self._change:
                if self._records:
                    if len(self._records) == AHEAD // 2:
                        self._change.notify()
                    return self._records.popleft()
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    break
                spot = self._spot = self._loop.spot()
            await spot.wait()
        raise StopAsyncIteration

    def close(self) -> None:
        """Give no more records, and end the thread."""
        if self._closed:
            return
        with self._change:
            self._closed = True
            self._change.notify()
        os.write(self._to_wake, b"x")
        self._thread.join()
        os.close(self._wake)
        os.close(self._to_wake)
        self._hear()

    def _work(self) -> None:
        """Read; the body of the thread."""
        try:
            for record in self._read(self._may_read):
                self._batch.append(record)
                if len(self._batch) >= BATCH and not self._hand_over():
                    return
        except Exception as error:  # noqa: BLE001 - raised where the records are awaited
            self._error = error
        finally:
            self._hand_over()
            with self._change:
                self._ended = True
                self._tell()

    def _may_read(self, fd: int) -> bool:
        """Hand over what there is, and wait for more of it, or for the end."""
        return self._hand_over() and self._wake not in select.select([fd, self._wake], [], [])[0]

    def _hand_over(self) -> bool:
        """Let the loop have the batch, once it has used what it had; False if it wants no more."""
        with self._change:
            while len(self._records) > AHEAD and not self._closed:
                self._change.wait()
            self._records.extend(self._batch)
            self._batch.clear()
            self._tell()
            return not self._closed

    def _tell(self) -> None:
        """Wake whoever waits for a record."""
        if self._spot is not None and not self._closed:
            try:
                self._loop.call_soon_threadsafe(self._hear)
            except RuntimeError:
                pass  # the loop has ended

    def _hear(self) -> None:
        spot, self._spot = self._spot, None
        if spot is not None:
            spot.wake()
