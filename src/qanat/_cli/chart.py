"""A row of bars in text: how a figure went over time."""

from __future__ import annotations

from collections.abc import Sequence

BARS = " ▁▂▃▄▅▆▇█"
ASCII_BARS = " .:-=+*#%@"


def bars(values: Sequence[float], *, ascii_only: bool = False) -> str:
    """Return a character for each value, as high as it is beside the highest.

    What is more than nothing shows, however little it is.
    """
    marks = ASCII_BARS if ascii_only else BARS
    top = max(values, default=0.0)
    if not top > 0.0:
        return marks[0] * len(values)
    steps = len(marks) - 1
    return "".join(
        marks[min(steps, max(1, round(value / top * steps))) if value > 0.0 else 0] for value in values
    )


def can_show(text: str, encoding: str | None) -> bool:
    """Whether an output of this encoding can take a text."""
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
