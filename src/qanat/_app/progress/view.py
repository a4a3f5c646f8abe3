"""Watch a run: figures are taken in its event loop and shown by a thread.

    progress = Progress("app:fetch", shown=rules.progress, total=len_or_none)
    engine = make_engine(rules, ..., on_failure=progress.failed)     # or call it from yours
    async with progress.shown(engine), hosted(engine):               # outside: the end is shown, too
        ...

Nothing is done for a job that ends well. A few times a second the thread asks the loop to take the
figures, some 20 us, and draws them, less than a millisecond, on its own time. So the view costs the
jobs next to nothing, goes on while the run waits for its threads to end, and says so when a handler
keeps the loop from answering. There is no task, so no error is ever turned into a group. `shown` is
`watch`, a plain context manager, with `finish` after it, for callers that have nothing to add.

Where nothing is to be shown (`shown` is False, or None and standard error is no terminal) there is
no thread, and `failed` only counts.

A view that raises is taken away, with a warning in the log, and the run goes on: the run is what matters.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from msgspec import structs

from qanat._app.consoles import is_console, is_terminal
from qanat._app.progress.figures import ErrorTally, Figures, figures_of
from qanat._app.progress.places import View, choose_view
from qanat._app.progress.rates import RateMeter, Stood, seconds_left
from qanat._app.progress.words import stopping_words, summary_lines
from qanat._app.progress.workers import Places
from qanat._core.job import ENDED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from rich.console import Console

    from qanat._app.stopping import Stopping
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._engine.engine import Engine

BLOCKED = 2.0
"""Seconds without an answer of the loop from which on it is said to be blocked."""
AHEAD = 0.1
"""Seconds before figures are shown that the loop is asked for them: asked after a show, they would be old."""
PATIENCE = 1.0
"""Seconds that the end of a run waits for a view whose terminal does not take what it writes."""

_log = logging.getLogger("qanat")


class Progress:
    """Show how a run goes.

    Args:
        title: What the run is called.
        shown: Whether to show anything; None: if the stream is a terminal or programs read it. A rich
            console: show it there.
        total: How many jobs there will be, or a function that says it once it is known.
        machine: Write JSON lines for programs.
        stream: Where to; None is standard error as it is now.
        item_of: What of an item is shown.
    """

    def __init__(
        self,
        title: str = "",
        *,
        shown: bool | Console | None = None,
        total: int | Callable[[], int | None] | None = None,
        machine: bool = False,
        stream: TextIO | None = None,
        item_of: Callable[[Any], Any] | None = None,
    ) -> None:
        """Show nothing yet."""
        place: TextIO | Console = sys.stderr if stream is None else stream
        if is_console(shown):
            place, shown = shown, True
        self.is_shown: bool = machine or _is_terminal(place) if shown is None else bool(shown)
        self._total = total if callable(total) else lambda: total
        self._view: View | None = choose_view(place, title, shown=self.is_shown, machine=machine)
        self.tally = ErrorTally()
        self.note: Callable[[], str | None] = _no_note
        self.stopping: Stopping | None = None
        self._item_of = item_of
        self._places = Places()
        self._stood = Stood()
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

    def retried(self, job: Job[Any], error: BaseException) -> None:
        """Hear of a job that will run again, and why; made to be an engine's `when_retried`."""
        engine = self._engine
        now = 0.0 if engine is None else engine.now()
        for each in job.members or (job,):
            if each._status != ENDED:
                self.tally.add_retry(each, error, now)

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
        if self.is_shown:
            engine.when_retried(self.retried)
        thread: threading.Thread | None = None
        if self.is_shown and self._view is not None:
            thread = threading.Thread(target=self._draw, name="qanat-view", daemon=True)
            thread.start()
        try:
            yield
        finally:
            figures = figures_of(engine, self._begun, self._total(), self.tally)
            self.last = structs.replace(figures, stood=dict(self._stood.seconds))
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

    def say_stopping(self, *, always: bool = False) -> None:
        """Say at once that the run stops, where figures are shown now and then only.

        Args:
            always: Say it also where no figures are shown.
        """
        note = self._stopping_note()
        if note is not None and (always or self.is_shown) and not self.redraws:
            self.say(note)

    def last_words(self) -> None:
        """Bring out what is held back, past all locks: the process is about to end."""
        words = getattr(self._view, "last_words", None)
        if words is not None:
            words()

    def _stopping_note(self) -> str | None:
        """Say what a run that was told to stop waits for."""
        stopping, engine = self.stopping, self._engine
        if stopping is None or not stopping.times or engine is None:
            return None
        crowd = None if self.last is None else self.last.crowd
        oldest = None if crowd is None else crowd.oldest_at
        running = engine.dispatcher.running + len(engine.outside.left_behind)
        longest = None if oldest is None else engine.now() - oldest
        return stopping_words(stopping.times, running, longest, stopping.again)

    # --- in the view's thread --------------------------------------------------------------

    def _draw(self) -> None:
        view, meter, engine = self._view, self._meter, self._engine
        assert view is not None  # noqa: S101 - or there would be no thread
        assert meter is not None  # noqa: S101 - watching
        assert engine is not None  # noqa: S101 - watching
        self._ask(engine)
        while not self._ended.wait(max(0.0, view.interval - AHEAD)):
            self._ask(engine)
            if self._ended.wait(min(view.interval, AHEAD)) or self._view is None:
                return
            if self.last is not None:
                self._show(self.last, meter, engine.now())

    def _show(self, figures: Figures, meter: RateMeter, now: float) -> None:
        """Show figures that the loop took."""
        stood = self._stood
        # Time in which it stood still says nothing about how fast jobs end.
        active = now - stood.total
        meter.note(figures.finished, active)
        rate = meter.rate(figures.finished, active)
        left = None if figures.stopping else seconds_left(rate, figures.left)
        reason = figures.reason
        if left and stood.is_standing and reason is not None and reason.until is not None:
            left += max(0.0, reason.until - now)
        figures = structs.replace(figures, stood=dict(stood.seconds))
        notes = [self._stopping_note() or "", self.note() or ""]
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
        room = getattr(self._view, "rows", 0)
        try:
            figures = figures_of(
                self._engine, self._begun, self._total(), self.tally, self._places, room, whole=False
            )
        except Exception as error:  # noqa: BLE001 - a limit's own words may raise anything
            # It is not asked again: what there was until now stays.
            _log.warning("the figures of the run cannot be taken any more: %r", error, exc_info=error)
            return
        reason = figures.reason
        self._stood.look(None if reason is None else reason.cause, figures.running, figures.at)
        if self._item_of is not None:
            figures = _with_items(figures, self._item_of)
        self.last = figures
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
                self._give_up(view)
                return False
            except BaseException as error:  # noqa: BLE001 - whatever it is, the run goes on
                self._give_up(view)
                if not isinstance(error, Exception):  # what a console makes of a broken pipe, for one
                    return False
                _log.warning("the view raised and is gone; the run goes on: %r", error, exc_info=error)
                return False
            return True

    def _give_up(self, view: View) -> None:
        """Do without the view; whatever it took over it gives back."""
        self._view = None
        try:
            view.close([], None)
        except BaseException:  # noqa: BLE001, S110 - it could not even be closed
            pass


def _with_items(figures: Figures, item_of: Callable[[Any], Any]) -> Figures:
    """Return figures with what is shown of the items in the place of these."""
    crowd = figures.crowd
    rows = tuple(None if row is None else structs.replace(row, item=item_of(row.item)) for row in crowd.rows)
    return structs.replace(figures, crowd=structs.replace(crowd, rows=rows))


def _is_terminal(place: TextIO | Console) -> bool:
    return place.is_terminal if is_console(place) else is_terminal(place)  # type: ignore[arg-type]


def _no_note() -> str | None:
    return None
