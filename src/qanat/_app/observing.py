"""Observers: told of every event, and dropped when they keep failing."""

from __future__ import annotations

import logging
from functools import partial
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


class _Watched:
    """An observer, and how often it raised."""

    __slots__ = ("errors", "observer")

    def __init__(self, observer: Observer) -> None:
        self.observer = observer
        self.errors = 0


class _Observing:
    def __init__(self, observers: tuple[Observer, ...]) -> None:
        self._watched = [_Watched(observer) for observer in observers]

    def tell(self, event: Event) -> None:
        for watched in list(self._watched):
            self._try(watched, partial(watched.observer.event, event))
            if isinstance(event, RunEnded):
                self._try(watched, watched.observer.close)

    def _try(self, watched: _Watched, call: Callable[[], None]) -> None:
        """Call an observer; drop and close one that raised too often."""
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - anybody may observe
            blamed_on_job(error)  # interrupts go on
            watched.errors += 1
            if watched.errors == 1:
                _log.warning("an observer raised: %r", error, exc_info=error)
            if watched.errors == MOST_ERRORS:
                self._watched.remove(watched)
                _log.warning("observer %r raised %d times and is dropped", watched.observer, MOST_ERRORS)
                self._try(watched, watched.observer.close)
