"""Whose turn it is among the children of a node: by weight, and by what their starts cost.

Round robin in virtual time (P. Goyal, H. M. Vin and H. Cheng, "Start-time Fair Queuing", 1996).
Each child has a place on a line of virtual time. The one that is furthest behind has the turn, and
a start moves it on by cost / weight. Of children with equal weights those at one place are a
round, and they take turns as in a ring. There is no round that a child of little weight would have
to sit out turn by turn, and none in which one of much weight would start thousands in a row.

- Who comes back after it was away is moved up to the others: nothing is saved up while blocked.
  What it was ahead, because a start was dear, it still is.
- A newcomer begins as if it had just had a start, last in the round. So coming and going, one job
  at a time, gains nothing over staying.
- Nobody is put before the child that has the turn: it may be waiting for an ancestor's limit.

Places are whole numbers, so that children of one weight stay exactly together and nothing is lost
to rounding, however long a node lives. The children at the first place are in a ring; the others
are in lists, one for each later place, and those places in a heap: as many as there are different
weights and costs about, not children. Who leaves from the middle of a list stays there as a ghost,
and takes its old place if it comes back in time; ghosts are swept out once they are half.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from qanat._core.arguments import positive

if TYPE_CHECKING:
    from qanat._core.dispatcher.node import Node

ONE = 1 << 100
"""How far a start of cost 1 moves a child of weight 1: weights up to 10^24 are told apart by it."""

NOWHERE = -1
"""The place of a child that has never taken part."""

FEWEST = 32
"""How many ghosts there may be in any case."""


@lru_cache(maxsize=1024)
def stride_of(weight: float) -> int:
    """Return how far a start of cost 1 moves a child of this weight, which is greater than 0."""
    numerator, denominator = weight.as_integer_ratio()
    return max(1, ONE * denominator // numerator)


def checked_weight(lane: object, value: object) -> float:
    """Return a lane's weight as a float.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not greater than 0, or not finite.
    """
    if type(value) is float and 0.0 < value < inf:
        return value
    try:
        return positive("weights", value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} for lane {lane!r}") from None


def _scaled(stride: int, cost: object) -> int:
    """Return how far a start of this cost moves a child."""
    if isinstance(cost, (int, float)) and 0.0 < cost < inf:
        numerator, denominator = cost.as_integer_ratio()
        return max(1, stride * numerator // denominator)
    # Several currencies cannot be added up, and what costs nothing has a turn all the same.
    return stride


class Turns:
    """The active children of one node, the one that is furthest behind first."""

    __slots__ = ("_count", "_furthest", "_ghosts", "_later", "_place", "_places", "_ring", "_served")

    def __init__(self) -> None:
        self._count = 0
        # The children at the first place, its first one having the turn; never a ghost.
        self._ring: deque[Node] = deque()
        self._place = 0
        # Where the child was that last had a start, and the furthest that any start has led.
        self._served = self._furthest = 0
        # The others by place, and the places; one whose list has gone is a ghost too.
        self._later: dict[int, list[Node]] = {}
        self._places: list[int] = []
        self._ghosts = 0

    def __len__(self) -> int:
        return self._count

    def add(self, child: Node) -> None:
        """Let a child take part."""
        if child.in_turns:
            return
        child.in_turns = True
        self._count += 1
        if child.is_listed:
            self._ghosts -= 1
            return
        place = child.place
        if place == NOWHERE:
            place = self._served + child.stride
        if self._count == 1:
            self._place = max(place, self._served)
        child.place = place = max(place, self._place)
        child.is_listed = True
        self._put(child, place)

    def current(self) -> Node | None:
        """Return the child whose turn it is; None if there is none."""
        return self._ring[0] if self._ring else None

    def spend(self, child: Node, cost: object = 1.0) -> None:
        """Charge the current child for a start, and pass the turn on.

        Args:
            child: The child whose turn it is.
            cost: What the start costs. What is not a number greater than 0 counts as 1.
        """
        step = child.stride if cost == 1.0 else _scaled(child.stride, cost)
        self._served = self._place
        place = child.place = self._place + step
        if place > self._furthest:
            self._furthest = place
        if self._count == 1:
            self._place = place
            return
        ring = self._ring
        ring.popleft()
        self._put(child, place)
        if not ring or not ring[0].in_turns:
            self._move_on()

    def owes(self, child: Node) -> bool:
        """Whether a child is further ahead than it would be as a newcomer."""
        return self._count > 0 and child.place > self._served + child.stride

    def leave(self, child: Node) -> None:
        """Take a child out."""
        if not child.in_turns:
            return
        child.in_turns = False
        self._count -= 1
        ring = self._ring
        if not self._count:
            self._forget_all()
        elif ring[0] is child:
            self._drop_first()
            if not ring or not ring[0].in_turns:
                self._move_on()
        else:
            self._leave_behind(child)

    def clear(self) -> None:
        """Take all children out."""
        for child in self._listed():
            child.in_turns = False
        self._count = 0
        self._forget_all()

    def _put(self, child: Node, place: int) -> None:
        """List a child, last at its place."""
        if place == self._place:
            self._ring.append(child)
        elif (found := self._later.get(place)) is not None:
            found.append(child)
        else:
            self._later[place] = [child]
            heappush(self._places, place)

    def _move_on(self) -> None:
        """Find the first place at which a child takes part."""
        ring = self._ring
        while not ring or not ring[0].in_turns:
            if ring:
                self._drop_first()
                self._ghosts -= 1
                continue
            place = heappop(self._places)
            found = self._later.pop(place, None)
            if found is None:
                self._ghosts -= 1
                continue
            # A lone child may have gone on before it.
            self._place = max(place, self._place)
            ring.extend(found)

    def _drop_first(self) -> None:
        self._ring.popleft().is_listed = False

    def _leave_behind(self, child: Node) -> None:
        """Take out a child that does not have the turn: at once if it is last, as after its start."""
        found = self._later.get(child.place)
        if found is not None and found[-1] is child:
            found.pop()
            child.is_listed = False
            if found:
                return
            del self._later[child.place]
        elif self._ring[-1] is child:
            self._ring.pop()
            child.is_listed = False
            return
        self._ghosts += 1
        if self._ghosts > FEWEST and self._ghosts > self._count:
            self._sweep()

    def _sweep(self) -> None:
        """Drop all ghosts."""
        for child in self._listed():
            if not child.in_turns:
                child.is_listed = False
        self._ring = deque(child for child in self._ring if child.in_turns)
        self._later = {
            place: kept
            for place, found in self._later.items()
            if (kept := [child for child in found if child.in_turns])
        }
        self._places = list(self._later)
        heapify(self._places)
        self._ghosts = 0

    def _forget_all(self) -> None:
        """Begin anew: who is alone owes nobody anything."""
        for child in self._listed():
            child.is_listed = False
        self._ring.clear()
        self._later.clear()
        self._places.clear()
        self._ghosts = 0
        self._served = self._furthest

    def _listed(self) -> list[Node]:
        return [*self._ring, *(child for found in self._later.values() for child in found)]
