"""Hints: whoever waits at a queue is told at once of what was handed in, here and elsewhere.

What the same store was handed is told where it is handed in. What others hand in is heard by the store's
ear, in a thread that is there once somebody waits, and brings the news to where the waiting is done. A
hint may be late, doubled or lost: underneath there is a bounded poll.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Final

from qanat._engine.loop import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from qanat._core.store.ports import Ear

_log = logging.getLogger("qanat")

FIRST_BACKOFF: Final = 0.1
LONGEST_BACKOFF: Final = 5.0
"""Seconds before a store that is away is listened to again."""


def _here(function: Callable[[], object]) -> None:
    function()


class Hints:
    """Who waits at which queue of one store.

    Args:
        make_ear: Makes what hears of others; None where nobody else can reach the store.
        bring: Calls a function where those who wait are told, from another thread; None: right there.
        name: What the thread is called.
    """

    def __init__(
        self,
        make_ear: Callable[[], Ear] | None = None,
        bring: Callable[[Callable[[], object]], object] | None = None,
        name: str = "qanat-ear",
    ) -> None:
        """Begin with nobody."""
        self._listeners: dict[str, list[Callable[[], object]]] = {}
        self._make_ear = make_ear
        self._bring = bring or _here
        self._name = name
        self._change = Condition()
        self._waiting = 0
        self._ended = self._told = False
        self._ear: Ear | None = None
        self._thread: Thread | None = None
        self._gone: list[Callable[[], object]] = []

    def ring(self, queue: str) -> None:
        """Tell all who listen at a queue; "" stands for every queue."""
        for each in (queue,) if queue else tuple(self._listeners):
            listeners = self._listeners.get(each)
            if listeners:
                for hear in tuple(listeners):
                    hear()

    @contextmanager
    def listening(self, queue: str, hear: Callable[[], object], *, far: bool = True) -> Generator[None]:
        """Tell somebody while the block lasts; only with `far` also of what others hand in."""
        listeners = self._listeners.setdefault(queue, [])
        listeners.append(hear)
        if far:
            self._count(1)
        try:
            yield
        finally:
            listeners.remove(hear)
            if far:
                self._count(-1)

    def end(self, gone: Callable[[], object] | None = None) -> None:
        """Hear nothing more; `gone` is called when the thread has ended, in it."""
        with self._change:
            self._ended = True
            if self._thread is not None and not self._told:
                if gone is not None:
                    self._gone.append(gone)
                gone = None
                self._change.notify()
                if self._ear is not None:
                    self._ear.stop()
        if gone is not None:
            gone()

    def close(self) -> None:
        """Hear nothing more, and wait for the thread; from a plain thread."""
        self.end()
        if self._thread is not None:
            self._thread.join()

    async def aclose(self) -> None:
        """Hear nothing more, and wait for the thread; in an event loop."""
        spot = running_loop().spot()

        def gone() -> None:
            try:
                self._bring(spot.wake)
            except RuntimeError:
                pass  # the loop has ended

        self.end(gone)
        await spot.wait()
        if self._thread is not None:
            self._thread.join()  # what woke us was the last thing that it does

    def _count(self, more: int) -> None:
        """Let the thread hear as long as somebody waits."""
        if self._make_ear is None:
            return
        with self._change:
            self._waiting += more
            if more > 0 and self._thread is None and not self._ended:
                self._ear = self._make_ear()
                self._thread = Thread(target=self._hear, args=(self._ear,), name=self._name, daemon=True)
                self._thread.start()
            elif self._waiting == 1:
                self._change.notify()

    def _hear(self, ear: Ear) -> None:
        """Bring what is heard to those who wait; the body of the thread."""
        backoff = 0.0
        while self._is_wanted(backoff):
            try:
                heard = ear.hear()
            except Exception as error:  # noqa: BLE001 - a store may raise anything, and is polled meanwhile
                if not backoff:
                    _log.info("hints of a store cannot be heard, and it is tried again: %s", error)
                backoff = min(max(backoff * 2.0, FIRST_BACKOFF), LONGEST_BACKOFF)
                continue
            backoff = 0.0
            for queue in heard:
                self._tell(queue)
        with self._change:
            self._ear = None  # which is not to be stopped any more
        try:
            ear.close()
        except Exception as error:  # noqa: BLE001 - a store may raise anything, and somebody waits for this end
            _log.warning("what hears hints of a store raised when it was closed: %r", error)
        with self._change:
            # Whoever comes from now on is told at once: the thread lives on for a moment, and tells nobody.
            self._told = True
            told, self._gone = self._gone, []
        for each in told:
            each()

    def _is_wanted(self, backoff: float) -> bool:
        """Wait until somebody listens, and no less than so long; False if it is over."""
        with self._change:
            if backoff:
                self._change.wait_for(lambda: self._ended, backoff)
            self._change.wait_for(lambda: self._ended or self._waiting > 0)
            return not self._ended

    def _tell(self, queue: str) -> None:
        def tell() -> Any:
            self.ring(queue)

        try:
            self._bring(tell)
        except RuntimeError:
            pass  # the loop has ended, and with it everybody who could want to know
