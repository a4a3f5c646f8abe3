"""A region at the bottom of a terminal that is redrawn in place, with what is printed scrolling by above.

The cursor rests below the region at the start of a line, and is never hidden. So however the process
ends, killed or not, the terminal is in order and the shell's prompt stands on a line of its own.

Each change is one write: to the top of the region, what is new above it, and the lines that differ.
Whatever others print to the same console (`console.print`) goes above, too, as this is a render hook. What
is printed to standard output and error is gathered by `printed` and written here, a few times a second,
because drawing anew for every line that a handler prints would cost the handlers dear.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import RenderHook
from rich.control import Control
from rich.segment import ControlType, Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, ConsoleRenderable

    from qanat._app.progress.frame import Line

REPAIRS: Final = 20
"""Frames after which all lines are written anew, as a child process may have written over some."""

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "magenta": "35"}
_COLOURS: Final = frozenset({"red", "green", "magenta"})


class _Raw(Control):
    """Text for the terminal as it is, escapes and all."""

    __slots__ = ()

    def __init__(self, text: str) -> None:
        self.segment = Segment(text, None, [(ControlType.CARRIAGE_RETURN,)])


class Region(RenderHook):
    """Lines at the bottom of a terminal.

    Args:
        console: The console that writes to the terminal.
        take: Called for the whole lines that are to be printed above before anything else is.
    """

    def __init__(self, console: Console, take: Callable[[], str] = str) -> None:
        """Draw nothing yet."""
        self._console = console
        self._take = take
        self._colours = console.color_system is not None and not console.no_color
        self._lock = threading.RLock()
        self._drawn: list[str] = []
        self._lengths: list[int] = []
        self._width = 0
        self._frames = 0

    def open(self) -> None:
        """Let what others print to the console go above."""
        self._console.push_render_hook(self)

    def close(self) -> None:
        """Take the lines away; the cursor is where they began."""
        with self._lock:
            self._console.pop_render_hook()
            if self._drawn:
                self._write(self._erased())
            self._drawn, self._lengths = [], []

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw lines in the place of those before, each no wider than the terminal."""
        with self._lock:
            above = self._take()
            shown = [self._styled(line) for line in lines]
            self._frames += 1
            narrower = self._console.size.width < self._width
            anew = bool(above) or narrower or self._frames % REPAIRS == 0 or not self._drawn
            if above or narrower or len(shown) < len(self._drawn):
                text = self._erased() + above.replace("\n", "\r\n")
                anew = True
            else:
                text = self._to_top()
            before = [] if anew else self._drawn
            for place, line in enumerate(shown):
                same = place < len(before) and before[place] == line
                # To the end of the line is erased only behind it: nothing flickers.
                text += "\r\n" if same else f"{line}\x1b[K\r\n"
            self._drawn = shown
            self._lengths = [sum(cell_len(part) for _, part in line) for line in lines]
            self._width = self._console.size.width
            # And what the keyboard has echoed below them.
            self._write(f"{text}\x1b[K")

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Put what somebody prints to the console above the lines."""
        with self._lock:
            if not self._drawn:
                return renderables
            above = self._take().replace("\n", "\r\n")
            again = "".join(f"{line}\x1b[K\r\n" for line in self._drawn)
            return [_Raw(self._erased() + above), *renderables, _Raw(again)]

    def _to_top(self) -> str:
        """Return what moves the cursor to the first line that is drawn."""
        height = self._height()
        return f"\r\x1b[{height}A" if height else "\r"

    def _erased(self) -> str:
        """Return what erases the lines and moves the cursor to where they began.

        Line by line: some terminals keep what is erased for scrolling back if it is all there is.
        """
        return "\r\x1b[2K" + "\x1b[1A\x1b[2K" * self._height()

    def _height(self) -> int:
        """Return in how many rows the lines are now."""
        height = len(self._drawn)
        width = self._console.size.width
        if 0 < width < self._width:
            # The terminal got narrower and most of them wrap what is too long now.
            height = sum(max(1, -(-length // width)) for length in self._lengths)
        return min(height, max(1, self._console.size.height) - 1)

    def _styled(self, line: Line) -> str:
        parts: list[str] = []
        for style, text in line:
            code = _CODES.get(style)
            if code is None or (style in _COLOURS and not self._colours):
                parts.append(text)
            else:
                parts.append(f"\x1b[{code}m{text}\x1b[0m")
        return "".join(parts)

    def _write(self, text: str) -> None:
        # Not by way of the hooks: this is what they would call.
        self._console.control(_Raw(text))
