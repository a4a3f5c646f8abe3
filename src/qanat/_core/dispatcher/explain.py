"""Why a job waits, read off the nodes that hold it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher.account import entered_at
from qanat._core.job import CHILDREN, SCHEDULED, WAITING
from qanat._core.reason import Reason

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.kinship import Kinship
    from qanat._core.dispatcher.node import Node
    from qanat._core.job import Job


def reason_of(node: Node, job: Job[Any] | None, capacity: float) -> Reason:
    """Return why a parked node is parked, or why a job waits there."""
    assert node.cause is not None  # noqa: S101 - asked of parked nodes only
    gate = node.gate
    limit = str(gate.limit) if gate is not None else None
    if node.cause == "concurrency" and limit is None:
        limit = f"{capacity:g}"
    until = None if gate is None or gate.at == math.inf else gate.at
    if job is None:
        is_lane = node.parent is not None and node.parent.parent is not None
        return Reason(node.cause, limit, node.key if is_lane else None, node.parked_at, until)
    return Reason(node.cause, limit, job.lane, max(node.parked_at, entered_at(job)), until)


def why_job(dispatcher: Dispatcher, job: Job[Any]) -> Reason | None:
    """Return why a job does not start; None if it runs or has ended."""
    if job._status == SCHEDULED:
        history = job._history
        assert history is not None  # noqa: S101 - scheduled jobs have one
        return Reason(history.cause, None, job.lane, history.scheduled_at, history.due_at)
    if job._status == CHILDREN and dispatcher.family is not None:
        return _why_held(dispatcher, dispatcher.family, job)
    if job._status != WAITING:
        return None
    root = dispatcher.tree.root
    if dispatcher.is_paused:
        return reason_of(root, job, dispatcher.capacity)
    if not dispatcher.is_plain:
        task: Node = job._task.node
        for node in (task.lanes[job.lane], task, root):
            if node.cause is not None:
                return reason_of(node, job, dispatcher.capacity)
    if dispatcher.running >= dispatcher.capacity:
        return Reason("concurrency", f"{dispatcher.capacity:g}", job.lane, entered_at(job), None)
    return Reason("turn", None, job.lane, entered_at(job), None)


def _why_held(dispatcher: Dispatcher, family: Kinship, job: Job[Any]) -> Reason | None:
    """Return why a job does not end whose handler has returned; None if its callback runs."""
    after = family.callback_of(job)
    if after is None:
        return Reason("children", None, job.lane, family.held_since(job), None)
    if after._status != WAITING:
        return why_job(dispatcher, after)
    if dispatcher.is_paused:
        return reason_of(dispatcher.tree.root, after, dispatcher.capacity)
    capacity = dispatcher.capacity
    limit = f"{capacity:g}" if dispatcher.running >= capacity else family.full()
    return Reason("concurrency", limit, job.lane, entered_at(after), None)


def why_all(dispatcher: Dispatcher) -> Reason | None:
    """Return why nothing more is started; None if nothing waits."""
    if not dispatcher.waiting:
        scheduled = dispatcher.timeline.jobs()
        return why_job(dispatcher, scheduled[0]) if scheduled else None
    root = dispatcher.tree.root
    if root.cause is not None:
        return reason_of(root, None, dispatcher.capacity)
    if dispatcher.running >= dispatcher.capacity:
        return Reason("concurrency", f"{dispatcher.capacity:g}", None, dispatcher.now, None)
    gate = dispatcher.gates.first()
    if gate is None:
        return Reason("turn", None, None, dispatcher.now, None)
    return reason_of(gate.first(), None, dispatcher.capacity)
