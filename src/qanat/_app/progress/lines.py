"""Progress as plain lines of text, for places that are no terminal or a poor one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TextIO

from qanat._app.progress.words import count_words, error_lines, pace_words, state_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._app.progress.figures import Figures

EVERY: Final = 10.0
"""Seconds between two lines in the first ten minutes; a shorter run is quiet until its end."""
LATER: Final = 60.0
"""Seconds between two lines from then on."""


class LineView:
    """Write one line now and then."""

    interval = 1.0
    redraws = False

    def __init__(self, stream: TextIO, title: str) -> None:
        """Write nothing yet."""
        self._stream = stream
        self._title = title
        self._next = EVERY

    def show(self, figures: Figures, rate: float | None, left: float | None, note: str | None) -> None:
        """Write a line if it is time for one."""
        if figures.seconds < self._next:
            return
        while self._next <= figures.seconds:
            self._next += EVERY if self._next < 600.0 else LATER
        words = [count_words(figures), pace_words(rate, left), state_words(figures), note or ""]
        words += error_lines(figures, 1)
        self.say("; ".join(word for word in words if word))

    def say(self, text: str) -> None:
        """Write a text that is safe to show."""
        self._stream.write(f"{self._title}: {text}\n" if self._title else f"{text}\n")
        self._stream.flush()

    def close(self, lines: Sequence[str], figures: Figures | None) -> None:
        """Write what is to be said at the end."""
        if lines:
            self._stream.write("".join(f"{line}\n" for line in lines))
            self._stream.flush()


class NoView(LineView):
    """Write nothing but what is said, and the end."""

    def show(self, figures: Figures, rate: float | None, left: float | None, note: str | None) -> None:
        """Show nothing."""
