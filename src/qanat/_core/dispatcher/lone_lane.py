"""The lone lane: with one task, no lanes and no limit but a number of slots nothing is to be decided.

The dispatcher's `_lone` is that one lane: its jobs bypass turns, gates and accounts (0.4 us a job
less). Whatever makes it untrue (a second task, a lane, a valve, a pause, an observer) calls
`set_lone`, which moves between the two ways of running; everything else must work in both.

What the lone lane does without is made up for when it is left: how many jobs run under its nodes,
and what had been lost when its jobs arrived. Jobs that started there waited for slots, and for
nothing else.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher import ledger
from qanat._core.dispatcher.account import entered_at
from qanat._core.dispatcher.parking import park_if_full
from qanat._core.dispatcher.path import Straight

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.node import Node
    from qanat._core.job import Job

MOST_ENDS = 256
"""How many times are remembered at which the lone lane was left while jobs waited in it."""


class Unmarked:
    """Marks for the jobs that arrived in the lone lane, and noted none.

    While it lasts nothing is lost in its nodes. So what had been lost when it was left is what had
    been lost when any of those jobs arrived.
    """

    __slots__ = ("_ends", "_marks")

    def __init__(self) -> None:
        self._ends: list[float] = []
        self._marks: list[Any] = []

    def __len__(self) -> int:
        """Return how many marks are kept."""
        return len(self._ends)

    def leave(self, lane: Node, now: float) -> None:
        """Keep what has been lost as the lone lane is left, if jobs wait in it."""
        if not len(lane.order):
            self.clear()
            return
        self._ends.append(now)
        self._marks.append(ledger.mark(lane, now))
        if len(self._ends) > MOST_ENDS:
            # The oldest jobs then make do with a later mark: they are told to have waited for slots.
            del self._ends[0], self._marks[0]

    def mark_of(self, job: Job[Any]) -> Any:
        """Return what had been lost when a job without a mark arrived; None if nothing since."""
        place = bisect_left(self._ends, entered_at(job))
        return self._marks[place] if place < len(self._marks) else None

    def clear(self) -> None:
        """Forget all: no job waits any more that noted nothing."""
        self._ends.clear()
        self._marks.clear()


def set_lone(dispatcher: Dispatcher) -> None:
    """Find out whether there is a lone lane, and move to or from that way of running."""
    before, straight = dispatcher._lone, dispatcher._straight
    if straight is not None:
        count_running(dispatcher, straight.lane)
        straight.leave()
    lone = dispatcher._lone = _find(dispatcher)
    has_family = dispatcher.family is not None
    dispatcher.is_plain = lone is not None and not has_family
    dispatcher._straight = None if lone is not None or has_family else _find_straight(dispatcher)
    if lone is not None and before is not lone:
        _enter(dispatcher, lone)
    elif lone is None and before is not None:
        _leave(dispatcher, before)
    if (found := dispatcher._straight) is not None:
        dispatcher._elsewhere = dispatcher.running - found.task.running


def _find(dispatcher: Dispatcher) -> Node | None:
    tree, task = dispatcher.tree, _only_task(dispatcher)
    if task is None or task.limits or tree.root.limits:
        return None
    return tree.lane(task, None)


def _find_straight(dispatcher: Dispatcher) -> Straight | None:
    """Return the one lane there is, with its path, if nothing but limits decides in it; see `straight`."""
    tree, task = dispatcher.tree, _only_task(dispatcher)
    if task is None or task.valve is not None or tree.root.valve is not None:
        return None
    return Straight(tree, task, tree.lane(task, None))


def _only_task(dispatcher: Dispatcher) -> Node | None:
    """Return the one task there is, if it has one lane and nobody has to be told of anything."""
    tasks = dispatcher.tree.tasks
    if (
        len(tasks) != 1
        or dispatcher.is_paused
        or dispatcher._observe is not None
        or dispatcher.batches is not None
    ):
        return None
    task = tasks[0]
    return None if task.uses_lanes or task.budget is not None else task


def _enter(dispatcher: Dispatcher, lone: Node) -> None:
    """Leave turns, gates and accounts behind."""
    task = lone.parent
    assert task is not None  # noqa: S101 - a lane has a task
    root = dispatcher.tree.root
    for node in (lone, task, root):
        node.take_wake()
        if node.cause is not None:
            dispatcher.gates.withdraw(node, dispatcher.now)
            dispatcher.gates.unpark(node, dispatcher.now)
    task.turns.clear()
    root.turns.clear()
    dispatcher._lone_since = dispatcher.now
    # Jobs of tasks that were dropped may still hold slots.
    dispatcher._elsewhere = dispatcher.running - task.running
    has_unmarked = len(dispatcher._unmarked) > 0 and len(lone.order) > 0
    dispatcher._take_lone = dispatcher._take_unmarked if has_unmarked else lone.order.take
    if dispatcher.family is not None:
        dispatcher.family.ride()


def _leave(dispatcher: Dispatcher, lane: Node) -> None:
    """Make up for what the lone lane did without."""
    count_running(dispatcher, lane)
    now = dispatcher.now
    # Those who arrived before it and still wait have waited for slots all the while.
    ledger.lose(dispatcher.tree.root, "concurrency", now - dispatcher._lone_since)
    dispatcher._unmarked.leave(lane, now)
    lane.activate()
    park_if_full(dispatcher, now)


def count_running(dispatcher: Dispatcher, lane: Node) -> None:
    """Note how many jobs run under the nodes of the one lane, which do not count."""
    task = lane.parent
    assert task is not None  # noqa: S101 - a lane has a task
    lane.running = task.running = dispatcher.running - dispatcher._elsewhere
