"""The pulse of a store: renews what its consumers hold, whatever the event loop does.

On real time each beat is made by the courier's thread of the pulse. Virtual time knows nothing of
threads that sleep, so there a task makes the beats, by way of the same thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._app.durable.store import Store
    from qanat._stores.deeds import Deeds

    Beat = Callable[[Deeds], float]

IDLE: Final = 3600.0
"""Seconds between two beats when nobody holds anything."""


class Pulse:
    """The beats of one store."""

    def __init__(self, store: Store) -> None:
        """Beat for nobody."""
        self._store = store
        self._beats: tuple[Beat, ...] = ()

    def add(self, beat: Beat) -> None:
        """Call a function again and again, from now on, as often as it says."""
        self._beats = (*self._beats, beat)
        self._store.courier.begin_pulse(self._all)

    def remove(self, beat: Beat) -> None:
        """Call it no more."""
        self._beats = tuple(each for each in self._beats if each is not beat)

    def _all(self, connection: Any) -> float:
        # A tuple, replaced as a whole by the loop's thread.
        return min((beat(connection) for beat in self._beats), default=IDLE)
