"""Whose turn it is among the children of a node: deficit round robin.

M. Shreedhar and G. Varghese, "Efficient Fair Queuing Using Deficit Round Robin", 1995. Only
children that can be asked are in the ring; one that parks or runs out of jobs leaves it, and its
deficit with it, so nothing is saved up while blocked.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qanat._core.dispatcher.node import Node


class Turns:
    """The active children of one node, each in turn for as long as its deficit lasts."""

    __slots__ = ("_ring",)

    def __init__(self) -> None:
        self._ring: deque[Node] = deque()

    def __len__(self) -> int:
        return len(self._ring)

    def add(self, child: Node) -> None:
        """Let a child take part, last in the round."""
        if not child.in_turns:
            child.in_turns = True
            child.deficit = child.weight
            self._ring.append(child)

    def current(self) -> Node | None:
        """Return the child whose turn it is; None if there is none."""
        return self._ring[0] if self._ring else None

    def spend(self, child: Node, cost: float = 1.0) -> None:
        """Charge the current child for a start; its turn ends when its deficit is used up."""
        child.deficit -= cost
        if child.deficit <= 0.0:
            child.deficit += child.weight
            self._ring.rotate(-1)

    def leave(self, child: Node) -> None:
        """Take a child out."""
        if child.in_turns:
            child.in_turns = False
            ring = self._ring
            # It is first if it parks, and last if it just had its turn: the search is for the rest.
            if ring[-1] is child:
                ring.pop()
            else:
                ring.remove(child)

    def clear(self) -> None:
        """Take all children out."""
        for child in self._ring:
            child.in_turns = False
        self._ring.clear()
