"""What a view is, and which one suits which place."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol, TextIO

from qanat._app.consoles import is_console, is_terminal
from qanat._app.progress.lines import LineView, NoView
from qanat._app.progress.machine import MachineView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from qanat._app.progress.figures import Figures


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


def choose_view(stream: TextIO | Console | None, title: str, *, shown: bool, machine: bool) -> View | None:
    """Return the view that suits a stream or a rich console; None if nothing can be written there."""
    file: TextIO | None = stream.file if is_console(stream) else stream  # type: ignore[assignment]
    if stream is None or file is None or file.closed:
        return None
    if machine:
        return MachineView(file, title)
    if not shown:
        return NoView(file, "")
    # Redrawing in place takes escapes. NO_COLOR speaks of colours alone, and rich heeds it.
    if is_console(stream):
        suits = stream.is_terminal and not stream.is_dumb_terminal and not stream.legacy_windows
    else:
        suits = is_terminal(file) and os.environ.get("TERM") not in {"dumb", "unknown"}
    if suits:
        try:
            from qanat._app.progress.live import LiveView
        except ImportError:
            pass
        else:
            return LiveView(stream, title)
    return LineView(file, title)
