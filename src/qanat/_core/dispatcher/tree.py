"""The tree of nodes: the root, its tasks, and their lanes, which come and go."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher.gathering import Gathering
from qanat._core.dispatcher.guarding import guarded
from qanat._core.dispatcher.node import Node
from qanat._core.dispatcher.turns import checked_weight, stride_of
from qanat._core.limit import Limit, given_twice, limits_given
from qanat._core.limits.balance import Balance
from qanat._core.retry import RetryBudget
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from qanat._core.checks import Keeper
    from qanat._core.dispatcher.gate import Gates
    from qanat._core.order import Order
    from qanat._core.ports import Random


class Tree:
    """Make and forget nodes, and keep what all their limits need.

    Attributes:
        root: The node above all.
        tasks: The task nodes.
        sensing: The limits that want signals of the machine, with how many nodes have each.
        version: Counts changes of any node's limits; paths made before are made again.
    """

    __slots__ = (
        "_fading", "_gates", "_keeper", "_on_broken", "_on_fault", "_on_wanted", "_owner", "_precision",
        "_rng", "root", "sensing", "tasks", "version",
    )  # fmt: skip

    def __init__(
        self,
        gates: Gates,
        limits: Iterable[Limit],
        *,
        owner: int,
        rng: Random,
        precision: float,
        on_fault: Callable[[BaseException, str], object],
        keeper: Keeper | None = None,
        on_wanted: Callable[[], object] | None = None,
        on_broken: Callable[[BaseException], object] | None = None,
    ) -> None:
        self._gates = gates
        self._keeper = keeper
        self._on_fault = on_fault
        self._on_wanted = on_wanted
        self._on_broken = on_broken
        # By identity, as at the gates.
        self.sensing: dict[int, tuple[Limit, int]] = {}
        self._owner = owner
        self._rng = rng
        self._precision = precision
        # Empty lanes, each with the time until which it is not looked at again.
        self._fading: deque[tuple[float, Node]] = deque()
        self.version = 0
        self.tasks: list[Node] = []
        self.root = Node(None, None, self.bound(limits))

    def bound(self, limits: Iterable[Limit]) -> tuple[Limit, ...]:
        """Return limits, tied to the thread that uses them."""
        bound = tuple(limits)
        for limit in bound:
            limit.bind(self._owner, self._rng, self._precision)
            if self._keeper is not None:
                self._keeper.bound(limit)
            if limit.wants():
                _, uses = self.sensing.get(id(limit), (limit, 0))
                self.sensing[id(limit)] = limit, uses + 1
                if self._on_wanted is not None:
                    self._on_wanted()
        return bound

    def add_task(
        self,
        name: str,
        *,
        make_order: Callable[[], Order],
        limits: Iterable[Limit],
        lane_limits: Callable[[Any], Limit | Iterable[Limit]] | None,
        weights: Callable[[Any], float] | None = None,
        uses_lanes: bool,
        budget: float | None,
    ) -> Node:
        """Add a task."""
        node = Node(self.root, name, self.bound(limits))
        node.make_order = make_order
        node.lane_limits = lane_limits
        node.weights = weights
        node.uses_lanes = uses_lanes or lane_limits is not None or weights is not None
        node.budget = None if budget is None else RetryBudget(budget)
        self.tasks.append(node)
        return node

    def drop_task(self, task: Node) -> None:
        """Forget a task that has no jobs left."""
        self.root.turns.leave(task)
        self.tasks.remove(task)
        self._let_go(task.limits)
        for lane in task.lanes.values():
            self._let_go(lane.limits)

    def lane(self, task: Node, key: Hashable) -> Node:
        """Return a task's lane, making it if need be.

        Raises:
            Exception: What the user's functions for its weight and its limits raise.
            TypeError: If its weight is not a number, or its limits or its order are none.
            ValueError: If its weight is not greater than 0, or not finite, or it has a second `Balance`,
                or a limit twice.
        """
        lane = task.lanes.get(key)
        if lane is None:
            weights = task.weights
            weight = 1.0 if weights is None else checked_weight(key, weights(key))
            order = guarded(task.make_order(), self._on_broken)
            limits: tuple[Limit, ...] = ()
            if task.lane_limits is not None:
                limits = limits_given(
                    task.lane_limits(key), f"lane_limits must give a limit or limits for lane {key!r}"
                )
                own = _balances(limits)
                if own and own + _balances(task.limits + self.root.limits) > 1:
                    raise ValueError(
                        f"lane_limits must not give lane {key!r} a second Balance, as a job has one target, "
                        f"got {limits!r}"
                    )
                twice = given_twice(limits + task.limits + self.root.limits)
                if twice is not None:
                    raise ValueError(
                        f"lane_limits must not give lane {key!r} a limit that its jobs have already, "
                        f"got {twice!r}: it would count them twice"
                    )
                limits = self.bound(limits)
            lane = Node(task, key, limits)
            if weight != 1.0:
                lane.stride = stride_of(weight)
            lane.order = order
            if isinstance(lane.order, Gathering):
                lane.limits = (lane.order.filling, *lane.limits)
            bind = getattr(lane.order, "bind", None)
            if bind is not None:
                bind(self._rng)
            task.lanes[key] = lane
        return lane

    def path(self, lane: Node, task: Node) -> tuple[Limit, ...]:
        """Return all limits that a job of a lane has to take; `lane.held` are those that hear of it later."""
        if lane.path_version != self.version:
            lane.path = lane.limits + task.limits + self.root.limits
            lane.held = tuple(limit for limit in lane.path if _holds(limit))
            lane.path_version = self.version
        return lane.path

    def set_limits(self, node: Node, limits: tuple[Limit, ...]) -> None:
        """Give a node other limits."""
        node.limits = limits
        self.version += 1

    def may_fade(self, lane: Node) -> bool:
        """Whether `fade` has anything to do for an empty lane: the unnamed one stays."""
        return lane.key is not None or len(self._fading) > 0

    def fade(self, lane: Node, task: Node, now: float) -> None:
        """See to an empty lane: forget it once its limits are as good as new, and its starts paid for.

        Each call also looks at two that were seen to before, so that the list of them cannot
        grow faster than it is swept. The unnamed lane stays.
        """
        fading = self._fading
        if lane.key is not None:
            at = self._kept_until(lane, task, now)
            if at <= now:
                self._forget(lane, task)
            elif (lane.limits or not lane.running) and not lane.is_fading:
                lane.is_fading = True
                fading.append((at, lane))
        for _ in range(min(2, len(fading))):
            at, old = fading.popleft()
            owner = old.parent
            if owner is None or owner.lanes.get(old.key) is not old or len(old.order):
                old.is_fading = False
                continue
            if not now < at < math.inf:
                at = self._kept_until(old, owner, now)
            if at <= now:
                self._forget(old, owner)
            else:
                fading.append((at, old))

    def _kept_until(self, lane: Node, task: Node, now: float) -> float:
        """Return until when an empty lane has to be known; infinity if that is not known yet."""
        if lane.running or task.turns.owes(lane):
            return math.inf
        latest = now
        try:
            for limit in lane.limits:
                at = limit.fresh_at(now)
                if not at <= latest:
                    latest = at
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            # The user's limit does not know: the driver reports it, and the lane is done with.
            self._on_fault(blamed_on_job(error), "fresh_at")
            return now
        return latest

    def _forget(self, lane: Node, task: Node) -> None:
        del task.lanes[lane.key]
        self._let_go(lane.limits)

    def _let_go(self, limits: tuple[Limit, ...]) -> None:
        self._gates.forget(limits)
        if self._keeper is not None:
            for limit in limits:
                self._keeper.forgotten(limit)
        for limit in limits if self.sensing else ():
            found, uses = self.sensing.pop(id(limit), (None, 0))
            if found is not None and uses > 1:
                self.sensing[id(limit)] = found, uses - 1


def _balances(limits: tuple[Limit, ...]) -> int:
    return sum(isinstance(limit, Balance) for limit in limits)


def _holds(limit: Limit) -> bool:
    """Whether a limit wants to hear what becomes of a job that has taken it."""
    kind = type(limit)
    return kind.give_back is not Limit.give_back or kind.adjust is not Limit.adjust
