"""Where nodes wait that one limit refused, first come first asked.

A gate opens for one node at a time: when its time has come or its limit has changed, the first
node becomes active and is asked again. Once it is clear what became of it (it started a job, or
something else holds it), the next one may try; if the same limit says no again, it is back at
the front, and those behind it need not ask. So ten thousand lanes at one shared limit cost no
more than one.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.node import Node
    from qanat._core.limit import Limit


class Gate:
    """The nodes of one dispatcher that wait for one limit.

    Attributes:
        limit: The limit that said no.
        at: When the first node is to be asked again; `math.inf` if only a change helps.
    """

    __slots__ = ("_dispatcher", "at", "limit", "waiters")

    def __init__(self, dispatcher: Dispatcher, limit: Limit) -> None:
        """Begin with nobody waiting."""
        self._dispatcher = dispatcher
        self.limit = limit
        self.waiters: deque[Node] = deque()
        self.at = math.inf

    def awaits(self, at: float) -> bool:
        """Whether an entry of the timeline for this time still counts."""
        return self.at == at

    def limit_changed(self) -> None:
        """Hear from the limit that asking again may help."""
        if self.waiters:
            self._dispatcher.gate_changed(self)
