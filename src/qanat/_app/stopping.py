"""Signals that ask a run to stop: the first gently, the second at once, the third ends the process.

With `graceful=False` the first one cancels at once, and the second ends the process.

`run` and the command line handle signals, nobody else. The handlers are plain ones, set with
`signal.signal`, and not the event loop's own: they are heard while a handler blocks the loop, and
the third signal then still ends the process. All that they do is count, and ask the loop to call
`stop` or `cancel` in its own thread. Signals that come before the loop runs are kept for it.

    with Stopping() as stopping:                        # the main thread, in a loop or before it
        ...
        with stopping.reach(loop.call_soon_threadsafe, stop=engine.stop, cancel=engine.cancel):
            await engine.wait_over()
    if stopping.signal is not None:
        raise SystemExit(stopping.status)               # 130 or 143
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType, TracebackType

# A closed terminal sends SIGHUP, once: nobody is left to send a second signal.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Stopping:
    """Handle SIGINT, SIGTERM and SIGHUP while the block lasts.

    Outside of the main thread, where Python lets nobody handle signals, this does nothing. A
    signal that the process was told to ignore (`nohup`) stays ignored. SIGHUP counts twice, as
    whoever could send a second signal has gone.

    Args:
        last_words: Called before the third signal ends the process, to set the terminal right.
        graceful: Whether the first signal lets what runs finish; else it counts twice.

    Attributes:
        signal: The first signal that came; None if none did.
        times: How many came; one that counts twice is two.
    """

    def __init__(self, last_words: Callable[[], object] | None = None, *, graceful: bool = True) -> None:
        """Handle nothing yet."""
        self._graceful = graceful
        self.signal: signal.Signals | None = None
        self.times = 0
        self.last_words = last_words
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        self._call: Callable[[Callable[[], object]], object] | None = None
        self._steps: tuple[Callable[[], object], ...] = ()
        self._taken = 0

    @property
    def status(self) -> int | None:
        """The exit status by custom, 130 for SIGINT and 143 for SIGTERM; None if none came."""
        return None if self.signal is None else 128 + self.signal

    @property
    def again(self) -> str:
        """How whoever stopped the run may ask once more."""
        return "Ctrl-C" if self.signal in (None, signal.SIGINT) else self.signal.name

    def __enter__(self) -> Self:
        """Begin to handle the signals."""
        if threading.current_thread() is threading.main_thread():
            for name in _NAMES:
                number = getattr(signal.Signals, name, None)  # Windows has no SIGHUP
                # None is a handler that Python did not set and could not restore.
                if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the signals go where they went before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextmanager
    def reach(
        self,
        call: Callable[[Callable[[], object]], object],
        *,
        stop: Callable[[], object],
        cancel: Callable[[], object],
    ) -> Generator[None]:
        """Say what the signals call while the block lasts, those included that came before.

        Args:
            call: The loop's `call_soon_threadsafe` (`Loop.call_soon_threadsafe` for trio, too).
            stop: Called in the loop's thread after the first signal.
            cancel: Called in the loop's thread after the second.
        """
        self._steps = (stop, cancel)
        self._call = call
        self._ask()
        try:
            yield
        finally:
            self._call = None
            self._steps = ()

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        """Count a signal; Python calls this in the main thread, between any two instructions."""
        came = signal.Signals(number)
        if self.signal is None:
            self.signal = came
        self.times += 1
        if self.times > 2:
            try:
                if self.last_words is not None:
                    self.last_words()
            finally:
                os._exit(128 + number)
        if came.name == "SIGHUP" or not self._graceful:
            self.times = 2
        self._ask()

    def _ask(self) -> None:
        if self._call is not None and self.times:
            try:
                self._call(self._take_steps)
            except RuntimeError:  # the loop has ended
                pass

    def _take_steps(self) -> None:
        """Call what is due and was not called before; in the loop's thread."""
        while self._taken < min(self.times, len(self._steps)):
            step = self._steps[self._taken]
            self._taken += 1
            step()
