"""Look at the machine twice a second, for limits that want to know.

There is one sampler for an engine, from the first limit on that wants signals, and none without. On
virtual time there is none either: nothing of this machine says anything about a simulated one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qanat._engine.machine import Machine

if TYPE_CHECKING:
    from qanat._core.dispatcher import Dispatcher
    from qanat._core.ports import Clock

INTERVAL: Final = 0.5
"""Seconds between two looks; one takes some 0.2 ms."""


class Sampler:
    """Tell a dispatcher's limits how late the event loop is, and how busy the machine is."""

    def __init__(self, dispatcher: Dispatcher, clock: Clock, machine: Machine | None = None) -> None:
        """Look at nothing yet."""
        self._dispatcher = dispatcher
        self._clock = clock
        self._machine = Machine() if machine is None else machine

    async def run(self) -> None:
        """Look again and again; to be cancelled."""
        clock = self._clock
        self._machine.cpu()  # its share is told since the last time, so there has to be one
        while True:
            due_at = clock.now() + INTERVAL
            await clock.sleep(INTERVAL)
            now = clock.now()
            self.look(max(0.0, now - due_at), now)

    def look(self, lag: float, now: float) -> None:
        """Tell each wanted signal, if the system tells it."""
        dispatcher, machine = self._dispatcher, self._machine
        wanted = dispatcher.wanted
        if "lag" in wanted:
            dispatcher.sense("lag", lag, now)
        if "cpu" in wanted and (cpu := machine.cpu()) is not None:
            dispatcher.sense("cpu", cpu, now)
        if "memory" in wanted and (memory := machine.memory()) is not None:
            dispatcher.sense("memory", memory, now)
