"""Progress on a terminal, redrawn in place."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from qanat._app.progress.logs import logs_follow
from qanat._app.progress.words import clock_words, count_words, error_lines, pace_words, state_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._app.progress.figures import Figures

MOST_ERRORS: Final = 6
"""Lines of errors."""


class _Console(Console):
    """A console on a stream that may go away."""

    def on_broken_pipe(self) -> None:
        """Let the view hear of it; rich would end the program and take standard output with it."""
        raise BrokenPipeError

    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor alone, so that it is there however the process ends."""
        return False


class LiveView:
    """Draw a bar, the figures and the first errors, and let what is printed scroll by above."""

    interval = 0.2
    redraws = True

    def __init__(self, stream: TextIO, title: str) -> None:
        """Take over the terminal that a stream writes to."""
        self._console = _Console(file=stream, highlight=False, markup=False, emoji=False)
        self._title = title
        stdout: Any = sys.stdout
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, vertical_overflow="crop",
            # A standard output that is a file keeps what is printed into it.
            redirect_stdout=stdout is not None and stdout.isatty(), redirect_stderr=True,
        )  # fmt: skip
        self._logs = logs_follow()
        self._begun = False

    def show(self, figures: Figures, rate: float | None, left: float | None, note: str | None) -> None:
        """Draw the figures."""
        if not self._begun:
            self._begun = True
            self._live.start()
            self._logs.__enter__()
        self._live.update(self._drawn(figures, rate, left, note), refresh=True)

    def say(self, text: str) -> None:
        """Print a text that is safe to show above the figures."""
        self._console.print(Text(text), soft_wrap=True)

    def close(self, lines: Sequence[str], figures: Figures | None) -> None:
        """Take the figures away and say what is to be said at the end."""
        if self._begun:
            self._begun = False
            self._logs.__exit__(None, None, None)
            self._live.stop()
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)

    def _drawn(
        self, figures: Figures, rate: float | None, left: float | None, note: str | None
    ) -> RenderableType:
        head = Table.grid(expand=True)
        head.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        head.add_column(no_wrap=True, justify="right")
        head.add_row(Text(self._title, style="bold"), Text(clock_words(figures.seconds), style="dim"))
        pace = pace_words(rate, left)
        rows: list[RenderableType] = [head, self._bar(figures), _line(count_words(figures))]
        if pace:
            rows.append(_line(pace))
        rows.append(_line(state_words(figures)))
        if note:
            rows.append(_line(note, "yellow"))
        rows += [_line(f"  {line}", "red") for line in error_lines(figures, MOST_ERRORS)]
        # What matters most comes last to go when the terminal is low.
        return _Fitted(rows)

    def _bar(self, figures: Figures) -> RenderableType:
        if not figures.total:
            return ProgressBar(total=None, pulse=True, animation_time=figures.seconds)
        share = figures.ended / figures.total
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True, justify="right", width=4)
        bar = ProgressBar(total=figures.total, completed=figures.ended)
        grid.add_row(bar, Text(f"{min(share, 1.0):.0%}" if share < 0.995 or figures.left == 0 else "99%"))
        return grid


class _Fitted:
    """Rows of one line each, as many as the terminal is high."""

    def __init__(self, rows: list[RenderableType]) -> None:
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Give the rows that fit; one line stays free for the cursor."""
        room = max(1, console.size.height - 1)
        rows = self._rows
        if room < 4:
            rows = [rows[2], *rows[4:5], rows[0]]
        yield Group(*rows[:room])


def _line(text: str, style: str = "") -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
