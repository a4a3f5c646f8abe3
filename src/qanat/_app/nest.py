"""The short way of a job's plain children into the world.

Most jobs spawn plainly, and nothing of what `Spawner.spawn` asks each time has changed since it was asked
last. So the first child of a run goes that way, and what was found is kept in a `Nest`, for all jobs of its
task; the next ones only ask what can have changed, and do all that is left in one frame: a call each for the
rules, the family, the arrival, the dispatcher and its order was two thirds of a spawn. Whatever is not plain
goes the long way, at any time.

Plain is a child of the job's own handler that is spawned on the loop, in the first attempt, with nothing
but its item, where no rule asks for a key, a lane, a priority or a cost, no journal notes it, `max_jobs` and
`max_depth` leave room, and its place is in the lone lane.
"""

from __future__ import annotations

from functools import wraps
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, cast

from qanat._app.handle import Handle
from qanat._core.branch import MOST_ID, FamilyJob, child_id
from qanat._core.job import WAITING, Job
from qanat._core.orders.fifo import Fifo
from qanat._core.orders.lifo import Lifo
from qanat._engine.context import running_carrier

if TYPE_CHECKING:
    from threading import Lock

    from qanat._core.branch import Branch
    from qanat._core.dispatcher.node import Node
    from qanat._core.family import Family
    from qanat._core.job import Task
    from qanat._engine.carrier import Carrier
    from qanat._engine.engine import Engine


PLACES: Final = [str(place) for place in range(256)]
"""The last parts of most ids: to make one of text takes twice as long as to look it up."""


class Nest:
    """What the plain children of a task's jobs have in common; and, of one job at a time, what its own have.

    Attributes:
        job: The job that spawned last; None if that has ended.
    """

    __slots__ = (
        "_appends", "_book", "_branch", "_carrier", "_dispatcher", "_engine", "_few", "_lock", "_lone",
        "_max_depth", "_most", "_now", "_prefix", "_task", "_thread", "job",
    )  # fmt: skip

    def __init__(
        self, task: Task, book: Family, engine: Engine, lone: Node, max_depth: int | None, lock: Lock
    ) -> None:
        """Serve the jobs whose children are of a task."""
        self.job: Job[Any] | None = None
        self._branch: Branch | None = None
        self._carrier: Carrier | None = None
        self._prefix = ""
        self._few = self._most = 0
        self._task = task
        self._book = book
        self._engine = engine
        self._dispatcher = engine.dispatcher
        self._lone = lone
        self._appends = type(lone.order) in {Fifo, Lifo}
        self._max_depth = max_depth
        self._lock = lock
        self._now = engine.now
        self._thread = get_ident()

    def leave(self) -> None:
        """Forget the job that spawned last, as it has ended."""
        self.job = self._branch = self._carrier = None

    def _turns_to(self, job: Job[Any]) -> bool:
        """Go on with another job; False if its children are not plain."""
        carrier = running_carrier.get(None)
        if carrier is None or (carrier._job is not job and carrier.job is not job):
            return False
        with self._lock:
            branch = self._book.known(job)
            if branch is None:
                branch = self._book.branch(job)
        if branch.is_fresh or (self._max_depth is not None and branch.depth >= self._max_depth):
            return False
        self.job = job
        self._branch = branch
        self._carrier = carrier
        self._prefix = f"{job.id}/"
        # From this place on the id would be too long to be told as it is.
        room = MOST_ID - len(self._prefix)
        self._most = 10 ** min(9, room) if room > 0 else 0
        self._few = min(self._most, len(PLACES))
        return True


_spawn: Any = cast("Any", Job).spawn


@wraps(_spawn)
def spawn(self: Job[Any], item: Any, **options: Any) -> Handle[Any, Any]:
    """Spawn a plain child here; stands in front of `Job.spawn`, which takes all others.

    To fill in its eight defaults takes as long as the rest of a plain call.
    """
    nest = self._task.nest
    if (
        nest is None
        or options
        or get_ident() != nest._thread
        or (nest.job is not self and not nest._turns_to(self))
    ):
        return cast("Handle[Any, Any]", _spawn(self, item, **options))
    dispatcher, engine, lone = nest._dispatcher, nest._engine, nest._lone
    branch: Any = nest._branch
    carrier: Any = nest._carrier
    now = nest._now()
    if (
        not branch.is_plain
        or (carrier._job is not self and carrier.job is not self)
        or dispatcher._lone is not lone
        or not dispatcher.now <= now < dispatcher.timeline.at
        or engine.stopped
    ):
        return cast("Handle[Any, Any]", _spawn(self, item))
    # What `Family.adopt` does for one that is new,
    place: int = next(branch.places)
    if place < nest._few:
        id: str = nest._prefix + PLACES[place]
    else:
        id = f"{nest._prefix}{place}"
        if place >= nest._most:
            id = child_id(self.id, place)
    child = FamilyJob(
        id, item, self.index, nest._task, now, WAITING, 0.0, 0.0, None, None, self.id, _above=branch
    )
    branch.line.append(child)
    branch.born += 1
    # and `Dispatcher.offer`.
    dispatcher.now = now
    dispatcher.waiting += 1
    order: Any = lone.order
    if nest._appends:
        order._jobs.append(child)
    else:
        order.add(child)
    if not engine.called or dispatcher.ended:
        engine.offered()
    return Handle(child, engine)


cast("Any", Job).spawn = spawn
