"""Where nodes wait that a limit refused, first come first asked.

A gate opens for one node at a time: when its time has come or its limit has changed, the first
node becomes active and is asked again. Once it is clear what became of it (it started a job, or
something else holds it), the next one may try; if the same limit says no again, it is back at
the front, and those behind it need not ask. So ten thousand lanes at one shared limit cost no
more than one.

Two things must stay true. While nodes wait, nobody else asks that limit: a newcomer queues up
behind them, so lanes take turns there too. And a node that was woken is one that the turns can
come to: as soon as something else holds it, it passes the wake on, or those behind it would
wait for what is none of theirs.
"""

from __future__ import annotations

import math
from collections import OrderedDict
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
        waiters: The nodes, in the order in which they are asked; any may leave at once.
        awake: How many nodes it has let go and not yet heard of.
    """

    __slots__ = ("_gates", "at", "awake", "limit", "waiters")

    def __init__(self, gates: Gates, limit: Limit) -> None:
        self._gates = gates
        self.limit = limit
        self.waiters: OrderedDict[Node, None] = OrderedDict()
        self.at = math.inf
        self.awake = 0

    def awaits(self, at: float) -> bool:
        """Whether an entry of the timeline for this time still counts."""
        return self.at == at

    def first(self) -> Node:
        """Return the node that is asked next; there has to be one."""
        return next(iter(self.waiters))

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
        # By identity: a limit of the user's may well be a dataclass, which has no hash.
        self._gates: dict[int, Gate] = {}
        self.changed: dict[Gate, None] = {}

    def __len__(self) -> int:
        """Return how many limits are listened to."""
        return len(self._gates)

    def queues(self, limit: Limit, node: Node) -> bool:
        """Whether others wait for a limit, so that a node has to queue up behind them."""
        gate = self._gates.get(id(limit))
        return gate is not None and node.woken_by is not gate and (gate.awake > 0 or len(gate.waiters) > 0)

    def park(self, node: Node, limit: Limit, until: float, now: float) -> None:
        """Let a node wait for a limit that refused it; it leaves its parent's turns."""
        gate = self._gates.get(id(limit))
        if gate is None:
            gate = self._gates[id(limit)] = Gate(self, limit)
            limit.listen(gate)
        ledger.park(node, limit.cause, now)
        node.gate = gate
        woken_by = node.take_wake()
        if woken_by is gate:
            gate.waiters[node] = None
            gate.waiters.move_to_end(node, last=False)
            self._set(gate, until)
        else:
            gate.waiters[node] = None
            if len(gate.waiters) == 1:
                self._set(gate, until)
        node.leave_turns()
        if woken_by is not None and woken_by is not gate:
            self.open(woken_by, now)
        self._pass_on_around(node, now)

    def _pass_on_around(self, node: Node, now: float) -> None:
        """Pass on the wakes of those whom the turns no longer come to because this node parked."""
        parent = node.parent
        if parent is None:
            return
        # Its lanes are not asked while it is parked, and a task without lanes to ask is not either.
        for lane in node.woken_children():
            self.pass_on(lane, now)
        if parent.parent is not None and not parent.in_turns:
            self.pass_on(parent, now)

    def pass_on(self, node: Node, now: float) -> None:
        """Let the next one try if a node was woken that has started a job, or is held elsewhere."""
        gate = node.take_wake()
        if gate is not None:
            self.open(gate, now)

    def open(self, gate: Gate, now: float) -> None:
        """Let the first node be asked again, and those whom it would otherwise hold up."""
        while gate.waiters:
            node, _ = gate.waiters.popitem(last=False)
            node.wake(gate)
            self.unpark(node, now)
            if node.is_reachable:
                return
            # It is not asked while its parent is parked, so it must not hold up the next one.
            node.take_wake()

    def open_at(self, gate: Gate, now: float) -> None:
        """Open a gate whose time has come."""
        gate.at = math.inf
        self.open(gate, now)

    def open_changed(self, now: float) -> None:
        """Open the gates whose limits have changed."""
        changed, self.changed = self.changed, {}
        for gate in changed:
            self._unset(gate)
            self.open(gate, now)

    def ask_again(self, node: Node, now: float) -> None:
        """Let a parked node be asked again because another job is its first now.

        The limit's answer may be another one for that job. Only who is first at the gate is asked;
        behind others it would be told to queue up.
        """
        gate = node.gate
        if gate is not None and gate.first() is node:
            self._unset(gate)
            self.open(gate, now)

    def note_change(self, gate: Gate) -> None:
        """Remember that a limit's answer may have changed."""
        if gate not in self.changed:
            self.changed[gate] = None
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
        first = gate.first() is node
        del gate.waiters[node]
        self.unpark(node, now)
        if first:
            self._unset(gate)
            self.open(gate, now)

    def reset(self, limit: Limit, until: float) -> None:
        """Let those who wait for a limit wait for another time."""
        gate = self._gates.get(id(limit))
        if gate is not None and gate.waiters:
            self._set(gate, until)

    def remove(self, limit: Limit, now: float) -> None:
        """Forget a limit that holds nobody any more, and let go of those who wait for it."""
        gate = self._gates.pop(id(limit), None)
        if gate is None:
            return
        limit.unlisten(gate)
        self._unset(gate)
        self.changed.pop(gate, None)
        while gate.waiters:
            self.open(gate, now)

    def forget(self, limits: Iterable[Limit]) -> None:
        """Forget the limits of a node that is forgotten, unless somebody else waits for them."""
        for limit in limits:
            gate = self._gates.get(id(limit))
            if gate is not None and not gate.waiters:
                del self._gates[id(limit)]
                limit.unlisten(gate)

    def detach(self) -> None:
        """Stop listening to all limits, which may outlive the dispatcher."""
        for gate in self._gates.values():
            gate.limit.unlisten(gate)
        self._gates.clear()

    def first(self) -> Gate | None:
        """Return the gate that opens first; None if nobody waits at any."""
        return min((gate for gate in self._gates.values() if gate.waiters), key=_time_of, default=None)

    def _set(self, gate: Gate, until: float) -> None:
        if gate.at != until < math.inf:
            self._unset(gate)
            gate.at = until
            self._timeline.add(until, gate)

    def _unset(self, gate: Gate) -> None:
        if gate.at < math.inf:
            gate.at = math.inf
            self._timeline.spoil()


def _time_of(gate: Gate) -> float:
    return gate.at
