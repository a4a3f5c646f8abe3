"""The short way of a job's plain children into the world.

Most jobs that spawn do so many times in a row, and nothing of what `Spawner.spawn` asks each time has changed
in between. So the first child goes that way, and what was found is kept in a `Nest`; the next ones only ask
what can have changed, and do all that is left in one frame: a call each for the rules, the family, the
arrival, the dispatcher and its order was two thirds of a spawn. Whatever is not plain goes the long way, at
any time.

Plain is a child of the job's own handler that is spawned on the loop, in the first attempt, with nothing
but its item, where no rule asks for a key, a lane, a priority or a cost, no journal notes it, `max_jobs` and
`max_depth` leave room, and its place is in the lone lane.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING, Any

from qanat._app.handle import Handle
from qanat._core.branch import MOST_ID, FamilyJob, child_id
from qanat._core.job import WAITING
from qanat._core.orders.fifo import Fifo

if TYPE_CHECKING:
    from qanat._core.branch import Branch
    from qanat._core.dispatcher.node import Node
    from qanat._core.job import Job, Task
    from qanat._engine.carrier import Carrier
    from qanat._engine.engine import Engine


class Nest:
    """What the plain children of one job have in common.

    Attributes:
        job: The job that spawns.
        nests: Those of all jobs of the run that spawn plainly.
    """

    __slots__ = (
        "_branch", "_carrier", "_dispatcher", "_engine", "_id", "_index", "_is_fifo", "_lone", "_most",
        "_now", "_prefix", "_task", "_thread", "job", "nests",
    )  # fmt: skip

    def __init__(
        self, job: Job[Any], branch: Branch, task: Task, carrier: Carrier, engine: Engine, lone: Node,
        nests: dict[Job[Any], Nest],
    ) -> None:  # fmt: skip
        """Serve a job that was found to spawn plainly."""
        self.job = job
        self.nests = nests
        self._branch = branch
        self._task = task
        self._carrier = carrier
        self._engine = engine
        self._dispatcher = engine.dispatcher
        self._lone = lone
        self._is_fifo = type(lone.order) is Fifo
        self._now = engine.now
        self._thread = get_ident()
        self._id = job.id
        self._index = job.index
        self._prefix = f"{job.id}/"
        # From this place on the id would be too long to be told as it is.
        self._most = 10 ** max(0, min(9, MOST_ID - len(self._prefix)))

    def hatch(self, item: Any) -> Handle[Any, Any] | None:
        """Spawn a plain child and return its handle; None if it is none, and nothing was done."""
        branch, dispatcher, engine = self._branch, self._dispatcher, self._engine
        lone = self._lone
        now = self._now()
        if (
            not branch.is_plain
            or (self._carrier._job is not self.job and self._carrier.job is not self.job)
            or get_ident() != self._thread
            or dispatcher._lone is not lone
            or not dispatcher.now <= now < dispatcher.timeline.at
            or engine.stopped
        ):
            return None
        # What `Family.adopt` does for one that is new,
        place = next(branch.places)
        id = f"{self._prefix}{place}"
        if place >= self._most:
            id = child_id(self._id, place)
        child = FamilyJob(
            id, item, self._index, self._task, now, WAITING, 0.0, 0.0, None, None, self._id, _above=branch
        )
        branch.line.append(child)
        branch.open_jobs += 1
        # and `Dispatcher.offer`.
        dispatcher.now = now
        dispatcher.waiting += 1
        order: Any = lone.order
        if self._is_fifo:
            order._jobs.append(child)
        else:
            order.add(child)
        if not engine.called or dispatcher.ended:
            engine.offered()
        return Handle(child, engine)
