"""What `Throttled` does to the tree: a valve on the lane, the task or a named limit's node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher.valve import Valve
from qanat._core.limits.balance import Balance
from qanat._core.verdict import Verdict

if TYPE_CHECKING:
    from qanat._core.dispatcher.gate import Gates
    from qanat._core.dispatcher.node import Node
    from qanat._core.dispatcher.tree import Tree
    from qanat._core.job import Job
    from qanat._core.limit import Limit


def _names_of(limit: Limit) -> list[object]:
    """Return the name of a limit, and of those inside it: who throttles need not know where they are."""
    parts = limit.inside if isinstance(limit, Balance) else ()
    return [getattr(each, "name", None) for each in (limit, *parts)]


class Throttling:
    """Close and reopen nodes whose jobs were throttled."""

    __slots__ = ("_gates", "_tree")

    def __init__(self, tree: Tree, gates: Gates) -> None:
        self._tree = tree
        self._gates = gates

    def node_of(self, job: Job[Any], name: str | None) -> Node | None:
        """Return the node to close for a job: its lane, without lanes its task, or a limit's node."""
        task: Node = job._task.node
        lane = task.lanes.get(job.lane)
        if name is None:
            return lane if task.uses_lanes and lane is not None else task
        for node in (lane, task, self._tree.root):
            if node is not None and any(name in _names_of(limit) for limit in node.limits):
                return node
        return None

    def checked(self, verdict: Verdict, job: Job[Any]) -> Verdict:
        """Return the verdict, or the end of the job if it names a limit that there is not."""
        if verdict.kind != "throttled" or self.node_of(job, verdict.limit) is not None:
            return verdict
        task: Node = job._task.node
        limits = self._tree.path(task.lanes[job.lane], task)
        names = [repr(name) for limit in limits for name in _names_of(limit) if name is not None]
        problem = ValueError(
            f"Throttled(limit={verdict.limit!r}) names no limit of this job, its named limits are "
            f"{', '.join(names) or 'none'}: leave limit out to close the job's lane"
        )
        problem.__context__ = verdict.error
        return Verdict("dead", problem)

    def close(self, job: Job[Any], verdict: Verdict, running: int, now: float) -> None:
        """Close the node that a checked verdict means.

        Args:
            job: The job that was throttled.
            verdict: What was made of it.
            running: How many jobs run in all, this one among them.
            now: The time.
        """
        node = self.node_of(job, verdict.limit)
        assert node is not None  # noqa: S101 - `checked` has seen to it
        if node.parent is not None:
            running = node.running
        valve = node.valve
        if valve is None:
            valve = node.valve = Valve()
            self._tree.set_limits(node, node.limits + self._tree.bound((valve,)))
        valve.close(job, verdict.delay, running, now)
        # It may have been closed until a time that is past: what happens now is not to be told as of then.
        self._gates.reset(valve, max(valve.closed_until, now))

    def open(self, job: Job[Any], valve: Valve, now: float) -> None:
        """Take away a valve that is open again."""
        task: Node = job._task.node
        for node in (task.lanes.get(job.lane), task, self._tree.root):
            if node is not None and node.valve is valve:
                node.valve = None
                self._tree.set_limits(node, tuple(limit for limit in node.limits if limit is not valve))
                self._gates.remove(valve, now)
