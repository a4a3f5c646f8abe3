"""A node of the dispatcher's tree: the root, a task or a lane.

A node is active (its parent's turns hold it while it has jobs), or parked: at a limit that said
no, because it is full, or because it was paused. How long it was parked for what is added up
here; see `ledger` for what is made of it. A woken node is one that a gate let go to be asked again;
the gate waits for what becomes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanat._core.dispatcher.ledger import NOTHING_LOST, Mark
from qanat._core.dispatcher.turns import NOWHERE, ONE, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from qanat._core.dispatcher.gate import Gate
    from qanat._core.dispatcher.path import Straight
    from qanat._core.dispatcher.valve import Valve
    from qanat._core.limit import Limit
    from qanat._core.order import Order
    from qanat._core.reason import Cause
    from qanat._core.retry import RetryBudget


class Node:
    """The root, a task or a lane."""

    __slots__ = (
        "above_since",
        "budget",
        "cause",
        "changes",
        "gate",
        "held",
        "in_turns",
        "is_fading",
        "is_listed",
        "key",
        "lane_limits",
        "lanes",
        "limits",
        "lost",
        "lost_total",
        "make_order",
        "mark",
        "marked_at",
        "order",
        "parent",
        "parked_at",
        "parked_for",
        "path",
        "path_version",
        "place",
        "running",
        "since",
        "straight",
        "stride",
        "turns",
        "uses_lanes",
        "valve",
        "weights",
        "woken",
        "woken_by",
    )

    # There for lanes only.
    order: Order
    # There for the root and tasks only.
    turns: Turns
    # There for tasks only.
    lanes: dict[Hashable, Node]
    make_order: Callable[[], Order]
    lane_limits: Callable[[Hashable], Limit | Iterable[Limit]] | None
    weights: Callable[[Hashable], float] | None
    budget: RetryBudget | None

    def __init__(self, parent: Node | None, key: Hashable, limits: tuple[Limit, ...]) -> None:
        self.parent = parent
        self.key = key
        if parent is None or parent.parent is None:
            # Of lanes there may be a hundred thousand, and they have nothing below them.
            self.turns = Turns()
            self.lanes = {}
        self.limits = limits
        self.running = 0
        # For the parent's turns: how far a start moves it, where it is, and whether it is listed there.
        self.stride = ONE
        self.place = NOWHERE
        self.is_listed = False
        self.in_turns = False
        self.is_fading = False
        self.uses_lanes = False
        # Parked: the cause is set, and the gate if a limit said no.
        self.cause: Cause | None = None
        self.gate: Gate | None = None
        self.woken_by: Gate | None = None
        # Those of its children that are woken; made when the first one is.
        self.woken: dict[Node, None] | None = None
        self.valve: Valve | None = None
        # Since when it is parked for that, with no time between; and what it was parked for last.
        self.parked_at = 0.0
        self.parked_for: Cause | None = None
        # Time lost by cause, and in all, up to `since`; both in time in which no ancestor was parked.
        self.since = 0.0
        self.above_since = 0.0
        self.lost: dict[Cause, float] = {}
        self.lost_total = 0.0
        # Counts whatever makes a mark below here another one; and who hears of it, if this is the one path.
        self.changes = 0
        self.straight: Straight | None = None
        # Caches: all limits from here to the root, and those that hear of the end; the mark of a lane's path.
        self.path: tuple[Limit, ...] = ()
        self.held: tuple[Limit, ...] = ()
        self.path_version = -1
        self.mark: Mark = NOTHING_LOST
        self.marked_at = 0

    @property
    def has_jobs(self) -> bool:
        """Whether a job waits here that can be asked for."""
        parent = self.parent
        is_lane = parent is not None and parent.parent is not None
        return len(self.order) > 0 if is_lane else len(self.turns) > 0

    @property
    def is_reachable(self) -> bool:
        """Whether the turns come here before others: it takes part in them, and so does its parent.

        A parked root holds up all alike, so it does not count.
        """
        parent = self.parent
        return parent is None or (self.in_turns and (parent.parent is None or parent.cause is None))

    def activate(self) -> None:
        """Take part in the parent's turns, and let the parent in its own, as far as they can."""
        node, parent = self, self.parent
        while parent is not None and node.cause is None and node.has_jobs:
            parent.turns.add(node)
            node, parent = parent, parent.parent

    def leave_turns(self) -> None:
        """Leave the parent's turns; a parent that nobody is left in leaves its own."""
        node, parent = self, self.parent
        while parent is not None:
            parent.turns.leave(node)
            if len(parent.turns):
                return
            node, parent = parent, parent.parent

    def wake(self, gate: Gate) -> None:
        """Note which gate let it go."""
        self.woken_by = gate
        gate.awake += 1
        parent = self.parent
        if parent is not None:
            if parent.woken is None:
                parent.woken = {}
            parent.woken[self] = None

    def take_wake(self) -> Gate | None:
        """Return the gate that let it go and waits for what becomes of it; None the next time."""
        gate, self.woken_by = self.woken_by, None
        if gate is not None:
            gate.awake -= 1
            if self.parent is not None and self.parent.woken is not None:
                self.parent.woken.pop(self, None)
        return gate

    def woken_children(self) -> list[Node]:
        """Return those of its children that are woken."""
        return list(self.woken) if self.woken else []

    def __repr__(self) -> str:
        """Show the key and what it waits for."""
        return f"Node({self.key!r}, {self.cause or 'active'})"
