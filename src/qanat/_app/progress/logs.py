"""Let log handlers follow standard output and error to where they are redirected for a while.

A `StreamHandler` keeps the stream that it was made with, so what it writes would go past the live
view, into the middle of it.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable


@contextmanager
def logs_follow(streams: Iterable[tuple[TextIO, TextIO]]) -> Generator[None]:
    """Point the handlers of some streams at others while the block lasts.

    Args:
        streams: Each stream, and what stands for it. What Python began with counts as the same stream.
    """
    moved: list[tuple[logging.StreamHandler[Any], Any, Any]] = []
    by_real: list[tuple[Any, Any]] = []
    for real, now in streams:
        first = sys.__stderr__ if now is sys.stderr else sys.__stdout__
        by_real += [(real, now)] if first is real or first is None else [(real, now), (first, now)]
    for handler in _stream_handlers():
        stream = handler.stream
        for real, now in by_real:
            if stream is real:
                handler.setStream(now)
                moved.append((handler, stream, now))
                break
    try:
        yield
    finally:
        for handler, stream, now in moved:
            if handler.stream is now:
                handler.setStream(stream)


def _stream_handlers() -> list[logging.StreamHandler[Any]]:
    loggers: list[Any] = [logging.root, *list(logging.root.manager.loggerDict.values())]
    return [
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]
