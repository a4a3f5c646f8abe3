"""Lost time by cause: how long nodes were parked for what, and what of it a job waited through.

Each node keeps `lost`, seconds parked by cause, in a dict that is replaced, never changed, so
that a job can keep what stood there when it arrived; the difference at its start is what it
waited for. An instant counts once: where an ancestor was parked the ancestor's cause counts, so
a node adds up only time in which no ancestor was parked. All of it is constant work for a park,
a start or an arrival, whatever the number of jobs and lanes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qanat._core.dispatcher.node import Node
    from qanat._core.reason import Cause


def park(node: Node, cause: Cause, now: float) -> None:
    """Note that a node is parked from now on."""
    # Asked again and refused at the same moment: it has been waiting for that all along.
    if node.parked_for != cause or node.since != now:
        node.parked_at = now
    node.cause = node.parked_for = cause
    node.since = now
    node.above_since = _lost_above(node, now)


def settle(node: Node, now: float) -> None:
    """Add what a parked node lost until now to its account; it stays parked."""
    cause = node.cause
    if cause is None or node.since >= now:
        return
    above = _lost_above(node, now)
    lost = (now - node.since) - (above - node.above_since)
    node.since = now
    node.above_since = above
    lose(node, cause, lost)


def lose(node: Node, cause: Cause, seconds: float) -> None:
    """Add to a node's account."""
    if 0.0 < seconds < math.inf:
        node.lost = {**node.lost, cause: node.lost.get(cause, 0.0) + seconds}
        node.lost_total += seconds


def unpark(node: Node, now: float) -> None:
    """Note that a node is active again."""
    settle(node, now)
    node.since = now
    node.cause = None


def _lost_above(node: Node, now: float) -> float:
    """Return for how long, up to now, any ancestor was parked."""
    total = 0.0
    parent = node.parent
    if parent is not None:
        total = parent.lost_total + _lost_above(parent, now)
        if parent.cause is not None:
            total += (now - parent.since) - (_lost_above(parent, now) - parent.above_since)
    return total


def mark(lane: Node, now: float) -> Any:
    """Return what a job that arrives in a lane keeps: what its path has lost so far."""
    task = lane.parent
    assert task is not None  # noqa: S101 - a lane has a task, a task the root
    root = task.parent
    assert root is not None  # noqa: S101
    settle(root, now)
    settle(task, now)
    settle(lane, now)
    kept = lane.mark
    if kept is None or kept[0] is not root.lost or kept[1] is not task.lost or kept[2] is not lane.lost:
        kept = lane.mark = (root.lost, task.lost, lane.lost)
    return kept


def waited_for(then: Any, lane: Node) -> dict[str, float]:
    """Return the seconds by cause that the nodes of a lane's path have lost since a mark."""
    task = lane.parent
    assert task is not None  # noqa: S101 - as above
    assert task.parent is not None  # noqa: S101
    waits: dict[str, float] = {}
    for lost, before in ((task.parent.lost, then[0]), (task.lost, then[1]), (lane.lost, then[2])):
        if lost is not before:
            for cause, seconds in lost.items():
                more = seconds - before.get(cause, 0.0)
                if more > 0.0:
                    waits[cause] = waits.get(cause, 0.0) + more
    return waits
