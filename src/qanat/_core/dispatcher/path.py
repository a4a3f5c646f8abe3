"""The path of the one lane under limits: what `straight` walks along without looking anything up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qanat._core.limits import Concurrency, FixedWindow, SlidingWindow, Spacing, TokenBucket
from qanat._core.orders.fifo import Fifo

if TYPE_CHECKING:
    from qanat._core.dispatcher.node import Node
    from qanat._core.dispatcher.tree import Tree
    from qanat._core.limit import Limit

STORED: Final[frozenset[Any]] = frozenset(
    kind.ready_at for kind in (SlidingWindow, FixedWindow, TokenBucket, Spacing, Concurrency)
)
"""Answers that only say whether the time in `_free_at` is past: reading it is as good as asking."""


class Straight:
    """The one lane there is, with its path at hand.

    Attributes:
        lane: The lane.
        task: Its task.
        root: The root.
        path: The limits of the path.
        stored: Those of them of which `_free_at` is the answer: three calls are a seventh of the time of
            a job under three limits.
        asks: The `ready_at` of the others, bound: to look up a method of objects of several kinds in one
            place is a quarter of the time of taking three limits.
        takes: The `take` of all, bound for the same reason.
        is_fifo: Whether the lane's order is a `Fifo`, of which the head can be had without a call.
        clear_at: The sum of the nodes' changes at which none of them was parked or woken. Whatever parks
            or wakes one adds to it.
    """

    __slots__ = ("asks", "clear_at", "is_fifo", "lane", "path", "root", "stored", "takes", "task")

    def __init__(self, tree: Tree, task: Node, lane: Node) -> None:
        """Take the limits that the path has now; another one is made when it gets others."""
        self.lane = lane
        self.task = task
        self.root = tree.root
        self.path = tree.path(lane, task)
        self.stored: tuple[Any, ...] = tuple(limit for limit in self.path if _is_stored(limit))
        self.asks = tuple(limit.ready_at for limit in self.path if not _is_stored(limit))
        self.takes = tuple(limit.take for limit in self.path)
        self.is_fifo = type(lane.order) is Fifo
        self.clear_at = -1

    def is_clear(self, changes: int) -> bool:
        """Whether no node is parked or woken; if so, that holds as long as their changes add up to this."""
        root, task = self.root, self.task
        if root.cause is None and task.cause is None and task.woken_by is None and root.woken_by is None:
            self.clear_at = changes
            return True
        return False


def _is_stored(limit: Limit) -> bool:
    """Whether reading a limit's time is as good as asking it; a subclass may answer otherwise."""
    return getattr(limit.ready_at, "__func__", None) in STORED
