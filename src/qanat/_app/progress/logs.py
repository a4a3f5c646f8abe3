"""Let log handlers follow standard output and error to where they are redirected for a while.

A `StreamHandler` keeps the stream that it was made with, so what it writes would go past the live
view, into the middle of it.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def logs_follow() -> Generator[None]:
    """Point the handlers of the standard streams at what `sys` has now, while the block lasts."""
    moved: list[tuple[logging.StreamHandler[Any], Any]] = []
    for handler in _stream_handlers():
        stream = handler.stream
        for now, real in ((sys.stderr, sys.__stderr__), (sys.stdout, sys.__stdout__)):
            proxied = getattr(now, "rich_proxied_file", None)
            if proxied is not None and stream in (real, proxied):
                handler.setStream(now)
                moved.append((handler, stream))
                break
    try:
        yield
    finally:
        for handler, stream in moved:
            handler.setStream(stream)


def _stream_handlers() -> list[logging.StreamHandler[Any]]:
    loggers: list[Any] = [logging.root, *logging.root.manager.loggerDict.values()]
    return [
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]
