"""Where the jobs of a lane gather until there are enough of them for a batch.

To the tree a `Gathering` is the lane's order: all that wait are in it, one by one. Its `filling`
is one more limit of the lane, which says no until a batch may start; so a lane whose batch is not
full is parked, woken, told apart and accounted for like one that waits for any other limit.

Which jobs make up the batch is settled at its start and not before: as long as a rate holds it up,
newcomers fill it, and a more urgent one comes first. Two things stay together, as *groups*, ahead of
all others: the halves of a batch that was split, and a batch whose jobs have costs of their own, while
the limits are asked about it, as they have to know what it costs. If they say no, its jobs go back to
the places that they had, so asking changes nothing.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, ClassVar

from qanat._core.batch import BatchJob, halves, make_batch, size_of
from qanat._core.dispatcher.account import entered_at
from qanat._core.limit import Limit

if TYPE_CHECKING:
    from qanat._core.batch import Batch
    from qanat._core.job import Job
    from qanat._core.order import Order
    from qanat._core.ports import Random
    from qanat._core.reason import Cause


class Batches:
    """What the lanes of one dispatcher share: whether to wait, and the number of the next batch.

    Attributes:
        is_closed: Whether no more jobs arrive.
        hurries: How many want everything that waits to start now.
        number: How many batches were started.
        open: The gatherings that wait for more, the one that has waited longest first.
    """

    __slots__ = ("hurries", "is_closed", "number", "open")

    def __init__(self) -> None:
        self.is_closed = False
        self.hurries = 0
        self.number = 0
        # Ordered by its own means: a dict is slow to find its first entry once many have left.
        self.open: OrderedDict[Gathering, None] = OrderedDict()

    @property
    def may_wait(self) -> bool:
        """Whether a batch may wait for more jobs."""
        return not (self.is_closed or self.hurries)

    def changed(self) -> None:
        """Let all that wait for more be asked again."""
        for gathering in self.open:
            gathering.filling.changed()

    def squeeze(self) -> bool:
        """Let the one that has waited longest start as it is; False if none waits for more."""
        if not self.open:
            return False
        gathering, _ = self.open.popitem(last=False)
        gathering.is_squeezed = True
        gathering.filling.changed()
        return True


class Gathering:
    """The waiting jobs of one lane, and the batch that they make up.

    Attributes:
        batch: How batches are made.
        filling: The limit that holds a batch back until it may start.
        is_squeezed: Whether the next batch starts as it is.
    """

    __slots__ = (
        "_batches",
        "_cost",
        "_entered",
        "_formed",
        "_groups",
        "_lifted",
        "_most",
        "_number",
        "_order",
        "_own_costs",
        "batch",
        "filling",
        "is_squeezed",
    )

    def __init__(self, batch: Batch, order: Order, batches: Batches) -> None:
        self.batch = batch
        self.filling = Filling(self)
        self.is_squeezed = False
        self._batches = batches
        self._order = order
        self._groups: deque[list[Job[Any]]] = deque()
        # Whether the first group was formed to ask the limits, and is to dissolve if they say no.
        self._formed = False
        # Its jobs as the order gave them, to be brought back to where they were.
        self._lifted: list[Any] = []
        self._most = batch.size
        # Those that wait in no group: how many, what they cost, how many have a cost of their own, and
        # when they came, if that matters.
        self._number = 0
        self._cost = 0.0
        self._own_costs = 0
        self._entered: OrderedDict[Job[Any], float] | None = None if batch.within is None else OrderedDict()

    @property
    def next_number(self) -> int:
        """The number of the batch that starts next."""
        return self._batches.number

    # --- as the order of a lane --------------------------------------------------------------

    @property
    def by_priority(self) -> bool:
        """Whether the order sorts by `job.priority`."""
        return bool(getattr(self._order, "by_priority", False))

    def bind(self, rng: Random) -> None:
        """Hand the source of randomness on to an order that wants it."""
        bind = getattr(self._order, "bind", None)
        if bind is not None:
            bind(rng)

    def add(self, job: Job[Any]) -> None:
        """Take a job in."""
        self._order.add(job)
        self._came(job)

    def put_back(self, job: Job[Any]) -> None:
        """Take a job in again."""
        if job._history is not None and job._history.alone:
            self.add_groups([[job]])
            return
        self._order.put_back(job)
        self._came(job)

    def head(self) -> Job[Any]:
        """Return the next job."""
        return self._groups[0][0] if self._groups else self._order.head()

    def take(self) -> Job[Any]:
        """Remove and return the next job that is in no group."""
        job = self._order.take()
        self._left(job)
        return job

    def _left(self, job: Job[Any]) -> None:
        self._number -= 1
        self._cost -= size_of(job.cost)
        self._own_costs -= job.cost != 1.0

    def discard(self, job: Job[Any]) -> None:
        """Remove a job that is in."""
        group = next((group for group in self._groups if job in group), None)
        if group is None:
            self._order.discard(job)
            self._left(job)
        else:
            if self._formed and group is self._groups[0] and self._lifted:
                del self._lifted[group.index(job)]
            group.remove(job)
            if not group:
                self._groups.remove(group)
                self._formed = False
        if self._entered is not None:
            self._entered.pop(job, None)
        if not len(self):
            self._refresh()

    def __len__(self) -> int:
        return self._number + sum(map(len, self._groups)) if self._groups else self._number

    def _came(self, job: Job[Any]) -> None:
        was_full = self.is_full
        self._number += 1
        self._cost += size_of(job.cost)
        self._own_costs += job.cost != 1.0
        if self._entered is not None:
            self._entered[job] = entered_at(job)
        if not was_full and self.is_full:
            self.filling.changed()
        if not self.is_squeezed:
            self._batches.open.setdefault(self)

    # --- as what a batch is made of ------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether no more jobs would go into the next batch."""
        batch = self.batch
        return self._number >= batch.size or (batch.max_cost is not None and self._cost >= batch.max_cost)

    @property
    def ready_at(self) -> float:
        """When the next batch may start: minus infinity is now, infinity until more come."""
        if self._groups or self.is_squeezed or self.is_full or not self._batches.may_wait:
            return -math.inf
        within = self.batch.within
        if within is None or self._entered is None or not self._entered:
            return math.inf
        return next(iter(self._entered.values())) + within

    def propose(self, now: float) -> BatchJob:
        """Return the batch that the limits are to be asked about; there is at least one job.

        If it may not start, `dissolve` has to be called.
        """
        if not self._groups and self._own_costs and self.ready_at <= now:
            self._form()
        if self._groups:
            return make_batch(self._groups[0], self._batches.number)
        head = self._order.head()
        return BatchJob(
            f"batch-{self._batches.number}", [], head.index, head._task,
            offered_at=head.offered_at, priority=head.priority, lane=head.lane,
            attempt=head.attempt, cost=float(min(self._number, self._most_jobs())),
        )  # fmt: skip

    def narrow(self, batch: BatchJob) -> bool:
        """Propose half as many next time, as a limit refused so many for good; False if it was one."""
        count = len(batch.members) or min(self._number, self._most_jobs())
        if count == 1:
            return False
        if self._groups and not self._formed:
            self._groups.extendleft(reversed(halves(self._groups.popleft())))
        self.dissolve()
        self._most = count // 2
        return True

    def widen(self) -> None:
        """Propose as many as there may be again."""
        self._most = self.batch.size

    def dissolve(self) -> None:
        """Let jobs that were only taken together for asking wait one by one again."""
        if self._formed:
            self._formed = False
            lower: Any = getattr(self._order, "_lower", None)
            jobs = self._groups.popleft()
            for place in reversed(range(len(jobs))):
                job = jobs[place]
                if lower is not None:
                    lower(self._lifted[place])
                else:
                    self._order.put_back(job)
                self._number += 1
                self._cost += size_of(job.cost)
                self._own_costs += job.cost != 1.0

    def members(self) -> list[Job[Any]]:
        """Settle which jobs the next batch is made of, and return them; they are still in."""
        if not self._groups:
            self._form()
        return list(self._groups[0])

    def start(self) -> None:
        """Let the members of the next batch go."""
        members = self._groups.popleft()
        self._formed = False
        self._batches.number += 1
        if self._entered is not None:
            for job in members:
                self._entered.pop(job, None)
        self._refresh()

    def _refresh(self) -> None:
        """Begin the next batch like any other."""
        self._most = self.batch.size
        self.is_squeezed = False
        if self._number:
            self._batches.open.setdefault(self)
        else:
            self._cost = 0.0  # whatever rounding has left of it
            self._batches.open.pop(self, None)

    def add_groups(self, groups: list[list[Job[Any]]]) -> None:
        """Take in what is to be a batch each, before all others: the halves of one that was split."""
        self._groups.extendleft(reversed(groups))
        self.filling.changed()

    def _most_jobs(self) -> int:
        """Return how many jobs without costs of their own the next batch may have."""
        most, max_cost = self._most, self.batch.max_cost
        return most if max_cost is None else max(1, min(most, math.floor(max_cost)))

    def _form(self) -> None:
        """Take the next batch out of the order, and keep it as the first group."""
        order, max_cost = self._order, self.batch.max_cost
        lift: Any = getattr(order, "_lift", None)
        members: list[Job[Any]] = []
        self._lifted = []
        cost = 0.0
        while self._number and len(members) < self._most:
            job = order.head()
            cost += size_of(job.cost)
            if max_cost is not None and cost > max_cost and members:
                break
            if lift is None:
                job = self.take()
            else:
                self._lifted.append(lift())
                self._left(job)
            members.append(job)
        self._groups.appendleft(members)
        self._formed = True


class Filling(Limit):
    """Hold a lane's batch back until it is full, or has waited long enough."""

    __slots__ = ("_gathering",)

    cause: ClassVar[Cause] = "batch"

    def __init__(self, gathering: Gathering) -> None:
        self._gathering = gathering

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return when the batch may start; infinity if only more jobs help."""
        return self._gathering.ready_at

    def fresh_at(self, now: float) -> float:
        """Return `now`: an empty lane has nothing to remember."""
        return now

    def __str__(self) -> str:
        return self._gathering.batch.in_words
