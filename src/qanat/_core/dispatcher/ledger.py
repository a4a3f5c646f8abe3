"""Lost time by cause: how long nodes were parked for what, and what of it a job waited through.

Each node adds up `lost`, seconds parked by cause. A job that arrives keeps a `Mark`: what stood there
for the nodes of its path, and for what they lose time from then on. The difference at its start is what
it waited for. An instant counts once: where an ancestor was parked the ancestor's cause counts, so
a node adds up only time in which no ancestor was parked. All of it is constant work for a park,
a start or an arrival, whatever the number of jobs and lanes.

A mark tells a rate and no point in time, and a job knows when it came in. So all jobs that arrive in a
lane while nothing changes above it share one mark: a job that waits for its rate takes no more
memory than any other.
"""

from __future__ import annotations

import math
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from qanat._core.dispatcher.account import LEAST
from qanat._core.reason import Cause

if TYPE_CHECKING:
    from qanat._core.dispatcher.node import Node


class Mark(msgspec.Struct, frozen=True, gc=False):
    """What the nodes of a lane's path had lost, as long as none of them parks or wakes.

    Attributes:
        cause: What they lose time for, which is what the topmost parked one is parked for; None if
            none is.
        since: Since when, less what it did not lose: that time is not in `lost`.
        lost: Each cause, followed by the seconds lost for it: half as large as a dict.
        own: The same of the lane alone.
        is_own: Whether the topmost parked node is the lane itself.
    """

    cause: Cause | None
    since: float
    lost: tuple[Any, ...]
    own: tuple[Any, ...] = ()
    is_own: bool = False

    def lost_until(self, now: float) -> dict[str, float]:
        """Return the seconds lost by cause up to a time while the mark holds."""
        return _unfolded(self.lost, self.cause, now - self.since)

    def own_until(self, now: float) -> dict[str, float]:
        """Return those that the lane itself has lost."""
        return _unfolded(self.own, self.cause if self.is_own else None, now - self.since)


def _unfolded(flat: tuple[Any, ...], cause: Cause | None, more: float) -> dict[str, float]:
    """Return the seconds by cause of a flat tuple, with more for one of them."""
    lost: dict[str, float] = dict(zip(flat[::2], flat[1::2], strict=True)) if flat else {}
    if cause is not None:
        lost[cause] = lost.get(cause, 0.0) + more
    return lost


def _flat(lost: dict[Cause, float]) -> tuple[Any, ...]:
    return tuple(chain.from_iterable(lost.items()))


NOTHING_LOST = Mark(None, 0.0, ())
"""The mark where nothing was lost and nothing is."""


def park(node: Node, cause: Cause, now: float) -> None:
    """Note that a node is parked from now on."""
    # Asked again and refused at the same moment: it has been waiting for that all along.
    if node.parked_for != cause or node.since != now:
        node.parked_at = now
    node.cause = node.parked_for = cause
    node.since = now
    node.above_since = 0.0 if node.parent is None else _lost_above(node, now)
    _change(node)


def settle(node: Node, now: float) -> None:
    """Add what a parked node lost until now to its account; it stays parked."""
    cause = node.cause
    if cause is None or node.since >= now:
        return
    above = 0.0 if node.parent is None else _lost_above(node, now)
    lost = (now - node.since) - (above - node.above_since)
    node.since = now
    node.above_since = above
    lose(node, cause, lost)


def lose(node: Node, cause: Cause, seconds: float) -> None:
    """Add to a node's account."""
    if 0.0 < seconds < math.inf:
        node.lost[cause] = node.lost.get(cause, 0.0) + seconds
        node.lost_total += seconds
        node.changes += 1


def unpark(node: Node, now: float) -> None:
    """Note that a node is active again."""
    settle(node, now)
    node.since = now
    node.cause = None
    _change(node)


def _change(node: Node) -> None:
    """Let marks below a node be other ones, and say so if it is on the one path there is."""
    node.changes += 1
    if node.straight is not None:
        node.straight.is_clear = False


def _lost_above(node: Node, now: float) -> float:
    """Return for how long, up to now, any ancestor was parked."""
    total = 0.0
    parent = node.parent
    if parent is not None:
        total = parent.lost_total + _lost_above(parent, now)
        if parent.cause is not None:
            total += (now - parent.since) - (_lost_above(parent, now) - parent.above_since)
    return total


def mark(lane: Node, now: float) -> Mark:
    """Return what a job that arrives in a lane keeps: what its path has lost so far."""
    task = lane.parent
    assert task is not None  # noqa: S101 - a lane has a task, a task the root
    root = task.parent
    assert root is not None  # noqa: S101
    if lane.marked_at != root.changes + task.changes + lane.changes:
        lane.mark = _mark((root, task, lane), now)
        # Adding up what was lost below a parked node was a change too, and the last one.
        lane.marked_at = root.changes + task.changes + lane.changes
    return lane.mark


def _mark(path: tuple[Node, Node, Node], now: float) -> Mark:
    lost: dict[Cause, float] = {}
    top: Node | None = None
    for node in path:
        if node.cause is not None:
            if top is None:
                top = node
            elif node.since < top.since:
                # What it lost before its ancestor parked; since then, nothing.
                settle(node, now)
        if not lost:
            lost = node.lost.copy()
            continue
        for cause, seconds in node.lost.items():
            lost[cause] = lost.get(cause, 0.0) + seconds
    flat, lane = _flat(lost), path[2]
    # One tuple if nothing above the lane has lost any: marks stay small.
    own = flat if lane.lost == lost else _flat(lane.lost)
    if top is not None:
        # Time in which an ancestor was parked meanwhile was not its own.
        since = top.since + (_lost_above(top, now) - top.above_since)
        return Mark(top.cause, since, flat, own, top is lane)
    return Mark(None, 0.0, flat, own) if flat else NOTHING_LOST


def waited_between(then: Mark, since: float, here: Mark, now: float) -> dict[str, float]:
    """Return the seconds by cause that a lane's path has lost from one time, with its mark, to another."""
    lost, before = here.lost, then.lost
    if here.cause is None and len(lost) == 2 and len(before) <= 2:
        # All was lost for one cause, as with a rate alone: without dicts, a simulated job takes a tenth
        # fewer steps.
        cause = lost[0]
        seconds = before[-1] if before else 0.0
        if then.cause == cause:
            seconds += since - then.since
        seconds = lost[1] - seconds
        return {cause: seconds} if seconds > LEAST else {}
    return _more(here.lost_until(now), then.lost_until(since))


def waited_since(then: Mark, since: float, path: tuple[Node, Node]) -> dict[str, float]:
    """Return the seconds by cause that a path of which no node is parked has lost since a time with its mark.

    As `waited_between` with the mark that the path has now, which need not be made for this.
    """
    root, task = path
    before_all, parked_for = then.lost, then.cause
    if len(root.lost) == 1 and not task.lost and len(before_all) <= 2:
        # All was lost for one cause, as above: a third of the steps.
        (only,) = root.lost
        more = root.lost[only] - (before_all[-1] if before_all else 0.0)
        if parked_for == only:
            more -= since - then.since
        return {only: more} if more > LEAST else {}
    lost = root.lost.copy()
    for cause, seconds in task.lost.items():
        lost[cause] = lost.get(cause, 0.0) + seconds
    waited: dict[str, float] = {}
    before = dict(zip(before_all[::2], before_all[1::2], strict=True))
    for cause, seconds in lost.items():
        earlier = before.get(cause, 0.0)
        if cause == parked_for:
            earlier += since - then.since
        if seconds - earlier > LEAST:
            waited[cause] = seconds - earlier
    return waited


def own_between(then: Mark, since: float, here: Mark, now: float) -> dict[str, float]:
    """Return those of them that the lane itself has lost."""
    if here.own is then.own and not here.is_own and not then.is_own:
        return {}
    return _more(here.own_until(now), then.own_until(since))


def _more(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    for cause, seconds in before.items():
        after[cause] = after.get(cause, 0.0) - seconds
    return {cause: seconds for cause, seconds in after.items() if seconds > LEAST}
