"""What follows for the tree when a slot is taken, or when a job comes to a lane or leaves it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher import ledger
from qanat._core.dispatcher.explain import reason_of
from qanat._core.events import JobParked
from qanat._core.orders.fifo import Fifo

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.node import Node
    from qanat._core.job import Job


def park_if_full(dispatcher: Dispatcher, now: float) -> bool:
    """Park the root if jobs could start but for a slot; what they wait for is known from now on."""
    root = dispatcher.tree.root
    if dispatcher.running < dispatcher.capacity or root.cause is not None:
        return False
    task = root.turns.current()
    lane = None if task is None else task.turns.current()
    if lane is None:
        return False
    ledger.park(root, "concurrency", now)
    tell_parked(dispatcher, root, lane.order.head(), now)
    return True


def tell_parked(dispatcher: Dispatcher, node: Node, job: Job[Any], now: float) -> None:
    """Tell the observer why a job waits."""
    if dispatcher._observe is not None:
        dispatcher._observe(JobParked(now, job, reason_of(node, job, dispatcher.capacity)))


def after_leaving(dispatcher: Dispatcher, lane: Node, task: Node, now: float) -> None:
    """See to a lane that a job has left: let others through its gates, drop it if it is empty."""
    if not len(lane.order):
        lane.leave_turns()
        dispatcher.tree.fade(lane, task, now)
    for node in (lane, task, dispatcher.tree.root):
        if node.woken_by is not None:
            dispatcher.gates.pass_on(node, now)


def offer_rest(dispatcher: Dispatcher, jobs: list[Job[Any]], now: float) -> None:
    """Let all jobs but the first arrive, which has: those behind it in a fifo lane change nothing there."""
    first = jobs[0]
    task: Node = first._task.node
    lane = task.lanes.get(None)
    if (
        first._mark is None or lane is None or not isinstance(lane.order, Fifo)
        or any(job.lane is not None or job._task.node is not task for job in jobs)
    ):  # fmt: skip
        for job in jobs[1:]:
            dispatcher.offer(job, now)
        return
    rest, mark = jobs[1:], first._mark
    for job in rest:
        job._mark = mark
    lane.order.extend(rest)
    dispatcher.waiting += len(rest)


def change_priority(dispatcher: Dispatcher, job: Job[Any], priority: float, now: float) -> None:
    """Give a job that waits in its lane another priority, and another place if the order goes by it."""
    task: Node = job._task.node
    lane = task.lanes[job.lane]
    order = lane.order
    if not getattr(order, "by_priority", False):
        job.priority = priority
        return
    before = order.head()
    order.discard(job)
    job.priority = priority
    order.add(job)
    if dispatcher._lone is None and order.head() is not before:
        head_changed(dispatcher, lane, task, now)
        park_if_full(dispatcher, now)


def head_changed(dispatcher: Dispatcher, lane: Node, task: Node, now: float) -> None:
    """See to a lane whose first job is another one now: it may get another answer."""
    gates, root = dispatcher.gates, dispatcher.tree.root
    if lane.gate is not None:
        gates.ask_again(lane, now)
    elif task.turns.current() is lane:
        # The turn stays while an ancestor is parked, and it is this lane's.
        if task.gate is not None:
            gates.ask_again(task, now)
        elif root.gate is not None and root.turns.current() is task:
            gates.ask_again(root, now)
