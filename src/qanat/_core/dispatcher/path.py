"""The path of the one lane under limits: what `straight` walks along without looking anything up."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, cast

from qanat._core.dispatcher import ledger
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


class _Yes:
    """Stand for a limit that always says yes."""

    __slots__ = ("_free_at",)

    def __init__(self) -> None:
        self._free_at = -inf


class Straight:
    """The one lane there is, with its path at hand.

    Three limits are asked and taken each in a place of its own, as Python makes a place fast where objects
    of one kind come by only: a loop over three kinds takes four times as long to read an attribute of each
    (0.24 us for 0.05), and twice as long to call a method of each (0.24 us for 0.10).

    Attributes:
        lane: The lane.
        task: Its task.
        path: The limits of the path.
        held: Those of them that hear of the end.
        fifo: The lane's order if its head can be had without a call; else one of which it cannot.
        stored: The limits of which `_free_at` is the answer, three of them and a tuple of the others.
            Where there are fewer, one that always says yes stands in.
        asks: The `ready_at` of those whose answer is not stored, bound.
        takes: The `take` of all, bound, three of them and a tuple of the others; None where there are fewer.
        is_quiet: Whether these are three limits at most, of kinds of this library's own that do nothing at an
            end, and whose taking cannot fail and does nothing else.
        is_clear: Whether none of the nodes is parked or woken for sure: whatever parks or wakes one sets it
            to False.
        mark: The mark of the lane while that holds; nobody's mark if it is not known.
    """

    __slots__ = (
        "_since", "_then", "_waits", "asks", "fifo", "held", "is_clear", "is_quiet", "lane", "mark", "path",
        "root", "stored", "takes", "task",
    )  # fmt: skip

    def __init__(self, tree: Tree, task: Node, lane: Node) -> None:
        """Take the limits that the path has now; another one is made when it gets others."""
        self.lane = lane
        self.task = task
        self.root = tree.root
        self.path = tree.path(lane, task)
        self.held = lane.held
        self.stored = _in_places([limit for limit in self.path if _is_stored(limit)], _Yes())
        self.asks = tuple(limit.ready_at for limit in self.path if not _is_stored(limit))
        self.takes = _in_places([limit.take for limit in self.path], None)
        self.fifo: Any = lane.order if type(lane.order) is Fifo else _NotPlain()
        self.is_quiet = len(self.path) <= 3 and all(_is_quiet(limit) for limit in self.path)
        self.is_clear = False
        self.mark: Any = self
        # The last answer of `waited`, and to what.
        self._then: Any = self
        self._since = 0.0
        self._waits: dict[str, float] = {}
        self.root.straight = task.straight = lane.straight = self

    def leave(self) -> None:
        """Hear of the nodes no more."""
        self.root.straight = self.task.straight = self.lane.straight = None

    def clears(self) -> bool:
        """Whether no node is parked or woken; if so, that holds until it is heard otherwise."""
        root, task = self.root, self.task
        if root.cause is None and task.cause is None and task.woken_by is None and root.woken_by is None:
            self.is_clear = True
            self.mark = self._then = self
            return True
        return False

    def knows(self, mark: Any) -> bool:
        """Whether a job with this mark has waited for nothing; to be asked while the nodes are clear."""
        lane = self.lane
        if lane.marked_at == self.root.changes + self.task.changes + lane.changes:
            self.mark = lane.mark
        return mark is self.mark

    def waited(self, mark: Any, since: float) -> dict[str, float]:
        """Return what a job has waited for that came with this mark; to be asked while the nodes are clear.

        As `ledger.waited_between`, and nobody may change it: jobs that arrive together have the same mark and
        start together, so it is worked out once for all of them. The lane itself never parks.
        """
        if mark is not self._then or since != self._since:
            self._then, self._since = mark, since
            self._waits = ledger.waited_since(mark, since, (self.root, self.task))
        return self._waits


class _NotPlain:
    """Stand for an order of which the head cannot be had without a call."""

    _plain = False


def _in_places(found: list[Any], missing: Any) -> tuple[Any, Any, Any, tuple[Any, ...]]:
    """Return the first three, and the others together."""
    first, second, third = [*found, missing, missing, missing][:3]
    return first, second, third, tuple(found[3:])


def _is_stored(limit: Limit) -> bool:
    """Whether reading a limit's time is as good as asking it; a subclass may answer otherwise."""
    return getattr(limit.ready_at, "__func__", None) in STORED


def _is_quiet(limit: Limit) -> bool:
    """Whether taking a limit has no other effect and cannot fail, and it does nothing at the end."""
    kind = type(limit)
    if kind is Spacing:
        return not cast("Spacing", limit)._after_finish
    return kind in (SlidingWindow, FixedWindow, TokenBucket)
