"""Observers: told of every event, and dropped when they keep failing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from qanat._core.events import RunEnded
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.events import Event, Observer

MOST_ERRORS = 10
"""An observer that raised this often is dropped."""

_log = logging.getLogger("qanat")


def observe_function(observers: tuple[Observer, ...]) -> Callable[[Event], None] | None:
    """Return what to call with each event; None without observers, so that none is built."""
    if not observers:
        return None
    return _Observing(observers).tell


class _Observing:
    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self._observers = [[observer, 0] for observer in observers]

    def tell(self, event: Event) -> None:
        for entry in list(self._observers):
            observer: Observer = entry[0]  # type: ignore[assignment]
            try:
                observer.event(event)
                if isinstance(event, RunEnded):
                    observer.close()
            except BaseException as error:  # noqa: BLE001 - anybody may observe
                blamed_on_job(error)  # interrupts go on
                entry[1] += 1  # type: ignore[operator]
                if entry[1] == 1:
                    _log.warning("an observer raised: %r", error, exc_info=error)
                if entry[1] == MOST_ERRORS:
                    self._observers.remove(entry)
                    _log.warning("observer %r raised %d times and is dropped", observer, MOST_ERRORS)
