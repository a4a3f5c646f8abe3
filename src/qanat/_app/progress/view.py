"""Watch a run: figures are taken in its event loop and shown by a thread.

    progress = Progress("app:fetch", shown=rules.progress, total=len_or_none)
    engine = make_engine(rules, ..., on_failure=progress.failed)     # or call it from yours
    async with progress.shown(engine), hosted(engine):               # outside: the end is shown, too
        ...

Nothing is done for a job that ends well. A few times a second the thread asks the loop to take the
figures, about 10 us, and draws them, some milliseconds, on its own time. So the view costs the jobs
next to nothing, goes on while the run waits for its threads to end, and says so when a handler
keeps the loop from answering. There is no task, so no error is ever turned into a group. `shown` is
`watch`, a plain context manager, with `finish` after it, for callers that have nothing to add.

Where nothing is to be shown (`shown` is False, or None and standard error is no terminal) there is
no thread, and `failed` only counts.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from msgspec import structs

from qanat._app.progress.figures import ErrorTally, Figures, figures_of
from qanat._app.progress.lines import LineView, NoView
from qanat._app.progress.machine import MachineView
from qanat._app.progress.rates import RateMeter, seconds_left
from qanat._app.progress.words import summary_lines

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Sequence

    from qanat._core.outcome import Outcome
    from qanat._engine.engine import Engine

BLOCKED = 2.0
"""Seconds without an answer of the loop from which on it is said to be blocked."""
PATIENCE = 1.0
"""Seconds that the end of a run waits for a view whose terminal does not take what it writes."""


class View(Protocol):
    """A way to show figures."""

    interval: float
    redraws: bool

    def show(self, figures: Figures, rate: float | None, left: float | None, note: str | None) -> None:
        """Show the figures of this moment."""
        ...

    def say(self, text: str) -> None:
        """Show a text that is safe to show."""
        ...

    def close(self, lines: Sequence[str], figures: Figures | None) -> None:
        """Show how it ended; no lines: only stop to show."""
        ...


class Progress:
    """Show how a run goes.

    Args:
        title: What the run is called.
        shown: Whether to show anything; None: if the stream is a terminal or programs read it.
        total: How many jobs there will be, or a function that says it once it is known.
        machine: Write JSON lines for programs.
        stream: Where to; None is standard error as it is now.
    """

    def __init__(
        self,
        title: str = "",
        *,
        shown: bool | None = None,
        total: int | Callable[[], int | None] | None = None,
        machine: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        """Show nothing yet."""
        self._stream = sys.stderr if stream is None else stream
        self.is_shown = machine or is_terminal(self._stream) if shown is None else shown
        self._total = total if callable(total) else lambda: total
        self._view: View | None = choose_view(self._stream, title, shown=self.is_shown, machine=machine)
        self.tally = ErrorTally()
        self.note: Callable[[], str | None] = _no_note
        self.last: Figures | None = None
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._stuck = False
        self._engine: Engine | None = None
        self._begun = 0.0
        self._asked = False
        self._meter: RateMeter | None = None

    def failed(self, outcome: Outcome[Any, Any]) -> None:
        """Hear of a job that failed for good; made to be an engine's `on_failure`."""
        self.tally.add(outcome)

    @property
    def redraws(self) -> bool:
        """Whether figures are drawn in place, so that what else is written there harms them."""
        return self.is_shown and self._view is not None and self._view.redraws

    def say(self, text: str) -> bool:
        """Show a text that is safe to show; above the figures, where these stay in place.

        Returns:
            False if it could not be shown.
        """
        return self._try(lambda view: view.say(text))

    @contextmanager
    def watch(self, engine: Engine) -> Generator[None]:
        """Show how an engine fares while the block lasts; to be entered in its loop's thread."""
        self._engine = engine
        self._begun = engine.now()
        self._meter = RateMeter(self._begun)
        thread: threading.Thread | None = None
        if self.is_shown and self._view is not None:
            thread = threading.Thread(target=self._draw, name="qanat-view", daemon=True)
            thread.start()
        try:
            yield
        finally:
            self.last = figures_of(engine, self._begun, self._total(), self.tally)
            self._ended.set()
            if thread is not None:
                thread.join(PATIENCE)
                self._stuck = thread.is_alive()

    @asynccontextmanager
    async def shown(self, engine: Engine) -> AsyncGenerator[None]:
        """Show how an engine fares while the block lasts, and at its end say how it went."""
        try:
            with self.watch(engine):
                yield
        finally:
            self.finish()

    def finish(self, *more: str, summary: bool | None = None) -> None:
        """Take the figures away, and say how it went if it was shown.

        Args:
            *more: Further lines, safe to show.
            summary: Say how it went; None: if it was shown.
        """
        figures = self.last
        said = self.is_shown if summary is None else summary
        lines = summary_lines(figures) if said and figures is not None else []
        self._try(lambda view: view.close([*lines, *more], figures if said else None))

    # --- in the view's thread --------------------------------------------------------------

    def _draw(self) -> None:
        view, meter, engine = self._view, self._meter, self._engine
        assert view is not None  # noqa: S101 - or there would be no thread
        assert meter is not None  # noqa: S101 - watching
        assert engine is not None  # noqa: S101 - watching
        while True:
            self._ask(engine)
            if self._ended.wait(view.interval) or self._view is None:
                return
            if self.last is not None:
                self._show(self.last, meter, engine.now())

    def _show(self, figures: Figures, meter: RateMeter, now: float) -> None:
        """Show figures that the loop took."""
        meter.note(figures.finished, now)
        rate = meter.rate(figures.finished, now)
        left = None if figures.stopping else seconds_left(rate, figures.left)
        notes = [self.note() or ""]
        if now - figures.at >= BLOCKED:
            notes.append(f"the event loop has been blocked for {now - figures.at:.0f} s")
            figures = structs.replace(figures, seconds=now - self._begun)
        note = "; ".join(filter(None, notes)) or None
        self._try(lambda view: view.show(figures, rate, left, note))

    def _ask(self, engine: Engine) -> None:
        """Let the loop take the figures, unless it has not even done so the last time."""
        if not self._asked:
            self._asked = True
            try:
                engine.loop.call_soon_threadsafe(self._take)
            except RuntimeError:
                pass  # the loop has ended

    def _take(self) -> None:
        assert self._engine is not None  # noqa: S101 - watching
        self.last = figures_of(self._engine, self._begun, self._total(), self.tally)
        self._asked = False

    def _try(self, act: Callable[[View], object]) -> bool:
        """Do something with the view; one that cannot write any more is given up."""
        if self._stuck:
            return False  # without the lock, which is held for as long as that
        with self._lock:
            view = self._view
            if view is None:
                return False
            try:
                act(view)
            except (OSError, ValueError):  # closed, or gone, as a terminal may be
                self._view = None
                return False
            return True


def choose_view(stream: TextIO | None, title: str, *, shown: bool, machine: bool) -> View | None:
    """Return the view that suits a stream; None if nothing can be written there."""
    if stream is None or stream.closed:
        return None
    if machine:
        return MachineView(stream, title)
    if not shown:
        return NoView(stream, "")
    # Redrawing in place takes escapes. NO_COLOR speaks of colours alone, and rich heeds it.
    poor = os.environ.get("TERM") in {"dumb", "unknown"}
    if is_terminal(stream) and not poor:
        try:
            from qanat._app.progress.live import LiveView
        except ImportError:
            pass
        else:
            return LiveView(stream, title)
    return LineView(stream, title)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal, as far as it can say."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False


def _no_note() -> str | None:
    return None
