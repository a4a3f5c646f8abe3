"""Terminals, and consoles of rich, which is an extra: known without being imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO, TypeGuard

if TYPE_CHECKING:
    from rich.console import Console


def is_console(value: object) -> TypeGuard[Console]:
    """Whether something is a console of rich; where nobody has imported that, nothing is."""
    rich: Any = sys.modules.get("rich.console")
    return rich is not None and isinstance(value, rich.Console)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal, as far as it can say."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False
