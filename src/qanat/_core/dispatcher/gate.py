"""Where nodes wait that a limit refused, first come first asked.

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

from qanat._core.dispatcher import ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qanat._core.dispatcher.node import Node
    from qanat._core.dispatcher.timeline import Timeline
    from qanat._core.limit import Limit


class Gate:
    """The nodes of one dispatcher that wait for one limit.

    Attributes:
        limit: The limit that said no.
        at: When the first node is to be asked again; `math.inf` if only a change helps.
        waiters: The nodes, in the order in which they are asked.
    """

    __slots__ = ("_gates", "at", "limit", "waiters")

    def __init__(self, gates: Gates, limit: Limit) -> None:
        self._gates = gates
        self.limit = limit
        self.waiters: deque[Node] = deque()
        self.at = math.inf

    def awaits(self, at: float) -> bool:
        """Whether an entry of the timeline for this time still counts."""
        return self.at == at

    def limit_changed(self) -> None:
        """Hear from the limit that asking again may help."""
        if self.waiters:
            self._gates.note_change(self)


class Gates:
    """All gates of one dispatcher.

    Attributes:
        changed: Those whose limit has changed since the last call; opened at the next one, because
            a limit may change in the middle of a decision.
    """

    __slots__ = ("_gates", "_notify", "_timeline", "changed")

    def __init__(self, timeline: Timeline, notify: Callable[[], None] | None) -> None:
        self._timeline = timeline
        self._notify = notify
        self._gates: dict[Limit, Gate] = {}
        self.changed: list[Gate] = []

    def park(self, node: Node, limit: Limit, until: float, now: float) -> Gate:
        """Let a node wait for a limit that refused it; it leaves its parent's turns."""
        gate = self._gates.get(limit)
        if gate is None:
            gate = self._gates[limit] = Gate(self, limit)
            limit.listen(gate)
        woken_by, node.woken_by = node.woken_by, None
        ledger.park(node, limit.cause, now)
        node.gate = gate
        if woken_by is gate:
            gate.waiters.appendleft(node)
            self._set(gate, until)
        else:
            gate.waiters.append(node)
            if len(gate.waiters) == 1:
                self._set(gate, until)
            if woken_by is not None:
                self.open(woken_by, now)
        node.leave_turns()
        return gate

    def open(self, gate: Gate, now: float) -> None:
        """Let the first node be asked again, and those whom it would otherwise hold up."""
        while gate.waiters:
            node = gate.waiters.popleft()
            node.woken_by = gate
            self.unpark(node, now)
            if node.is_reachable:
                return
            # It is not asked while an ancestor is parked, so it must not hold up the next one.
            node.woken_by = None

    def open_at(self, gate: Gate, now: float) -> None:
        """Open a gate whose time has come."""
        gate.at = math.inf
        self.open(gate, now)

    def open_changed(self, now: float) -> None:
        """Open the gates whose limits have changed."""
        changed, self.changed = self.changed, []
        for gate in changed:
            self._unset(gate)
            self.open(gate, now)

    def note_change(self, gate: Gate) -> None:
        """Remember that a limit's answer may have changed."""
        if gate not in self.changed:
            self.changed.append(gate)
            if self._notify is not None:
                self._notify()

    def unpark(self, node: Node, now: float) -> None:
        """Let a node be asked again."""
        ledger.unpark(node, now)
        node.gate = None
        node.activate()

    def withdraw(self, node: Node, now: float) -> None:
        """Let a node that waits at a gate wait there no more; those behind it move up."""
        gate = node.gate
        if gate is None:
            return
        first = gate.waiters[0] is node
        gate.waiters.remove(node)
        self.unpark(node, now)
        if first:
            self._unset(gate)
            self.open(gate, now)

    def reset(self, limit: Limit, until: float) -> None:
        """Let those who wait for a limit wait for another time."""
        gate = self._gates.get(limit)
        if gate is not None and gate.waiters and gate.at != until:
            self._unset(gate)
            self._set(gate, until)

    def remove(self, limit: Limit, now: float) -> None:
        """Forget a limit that holds nobody any more, and let go of those who wait for it."""
        gate = self._gates.pop(limit, None)
        if gate is None:
            return
        limit.unlisten(gate)
        self._unset(gate)
        if gate in self.changed:
            self.changed.remove(gate)
        while gate.waiters:
            self.open(gate, now)

    def forget(self, limits: Iterable[Limit]) -> None:
        """Forget the limits of a lane that is forgotten, unless somebody else waits for them."""
        for limit in limits:
            gate = self._gates.get(limit)
            if gate is not None and not gate.waiters:
                del self._gates[limit]
                limit.unlisten(gate)

    def detach(self) -> None:
        """Stop listening to all limits, which may outlive the dispatcher."""
        for limit, gate in self._gates.items():
            limit.unlisten(gate)
        self._gates.clear()

    def first(self) -> Gate | None:
        """Return the gate that opens first; None if nobody waits at any."""
        return min((gate for gate in self._gates.values() if gate.waiters), key=_time_of, default=None)

    def _set(self, gate: Gate, until: float) -> None:
        gate.at = until
        if until < math.inf:
            self._timeline.add(until, gate)

    def _unset(self, gate: Gate) -> None:
        if gate.at < math.inf:
            gate.at = math.inf
            self._timeline.spoil()


def _time_of(gate: Gate) -> float:
    return gate.at
