"""Progress on a terminal, redrawn in place."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich.console import Console
from rich.text import Text

from qanat._app.consoles import is_terminal
from qanat._app.progress.frame import Line, Memory, frame
from qanat._app.progress.logs import logs_follow
from qanat._app.progress.printed import Printed
from qanat._app.progress.region import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._app.progress.figures import Figures

MOST_ROWS: Final = 200
"""Workers that are told one by one, however high the terminal is."""


class _Console(Console):
    """A console on a stream that may go away."""

    def on_broken_pipe(self) -> None:
        """Let the view hear of it; rich would end the program and take standard output with it."""
        raise BrokenPipeError


class LiveView:
    """Draw what happens at the bottom of a terminal, and let what is printed scroll by above.

    Args:
        stream: The terminal; or a rich console, which then says how wide it is and what it can show.
        title: What the run is called.
    """

    interval = 0.1
    redraws = True

    def __init__(self, stream: TextIO | Console, title: str) -> None:
        """Take over the terminal that a stream writes to."""
        if isinstance(stream, Console):
            self._console = stream
        else:
            self._console = _Console(file=stream, highlight=False, markup=False, emoji=False)
        self._title = title
        self._printed = Printed(self._print_out)
        self._region = Region(self._console, self._printed.take)
        self._memory = Memory()
        self._lines: list[Line] = []
        self._logs: Any = None
        self._kept_file: Any = None
        self._begun = False

    @property
    def rows(self) -> int:
        """How many workers there may be room for."""
        return min(MOST_ROWS, max(0, self._console.size.height - 5))

    def show(self, figures: Figures, rate: float | None, left: float | None, note: str | None) -> None:
        """Draw the figures."""
        size = self._console.size
        # The last column and the last line stay free: there is no terminal that wraps or scrolls then.
        self._lines = frame(
            figures, rate, left, note,
            title=self._title, width=max(1, size.width - 1), height=max(1, size.height - 1),
            memory=self._memory,
        )  # fmt: skip
        if not self._begun:
            self._begin()
        self._region.draw(self._lines)

    def say(self, text: str) -> None:
        """Print a text that is safe to show above the figures."""
        self._console.print(Text(text), soft_wrap=True)

    def close(self, lines: Sequence[str], figures: Figures | None) -> None:
        """Take the figures away and say what is to be said at the end."""
        self._end()
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)

    def last_words(self) -> None:
        """Write what was printed and not shown yet, past all locks: the process is about to end."""
        text = self._printed.take()
        if text:
            os.write(self._console.file.fileno(), text.replace("\n", "\r\n").encode("utf-8", "replace"))

    def _begin(self) -> None:
        self._begun = True
        # One that writes to whatever standard output is at a time would write into ours.
        self._kept_file = getattr(self._console, "_file", None)
        self._console.file = self._console.file
        # A standard output that is a file keeps what is printed into it.
        streams: dict[str, Any] = {"stdout": sys.stdout, "stderr": sys.stderr}
        self._printed.begin(*(name for name, stream in streams.items() if is_terminal(stream)))
        self._logs = logs_follow(self._printed.real_streams)
        self._logs.__enter__()
        self._region.open()

    def _end(self) -> None:
        if not self._begun:
            return
        self._begun = False
        self._printed.end()
        self._logs.__exit__(None, None, None)
        try:
            self._region.close()
            text = self._printed.take()
            if text:
                self._console.file.write(text)
                self._console.file.flush()
        finally:
            self._console.file = self._kept_file

    def _print_out(self) -> None:
        """Show what was printed at once."""
        self._region.draw(self._lines)
