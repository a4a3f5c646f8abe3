"""What a driver hears of the limits that are in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanat._core.limits import Concurrency
from tests._core.dispatcher.world import add, at_zero, job, make, run

if TYPE_CHECKING:
    from qanat._core.limit import Limit


class Notes:
    """A driver that notes which limits come and go."""

    def __init__(self) -> None:
        self.known: list[Limit] = []

    def bound(self, limit: Limit) -> None:
        self.known.append(limit)

    def forgotten(self, limit: Limit) -> None:
        self.known.remove(limit)


def test_a_driver_hears_of_the_limits_of_every_node():
    notes, limits = Notes(), [Concurrency(number) for number in (1, 2, 3, 4)]
    dispatcher = make(limits=limits[:1], keeper=notes)
    task = add(dispatcher, limits=limits[1:2], lane_limits={"a": limits[2], "b": limits[3]}.__getitem__)
    assert notes.known == limits[:2]
    dispatcher.offer(job(task, 0, "a"), 0.0)
    dispatcher.offer(job(task, 1, "b"), 0.0)
    assert notes.known == limits
    dispatcher.drop_all(0.0)
    dispatcher.drop_task(task)
    assert notes.known == limits[:1]


def test_a_driver_hears_that_a_lane_is_forgotten():
    notes = Notes()
    dispatcher = make(keeper=notes)
    task = add(dispatcher, lane_limits=lambda _lane: Concurrency(1))
    run(dispatcher, at_zero(job(task, 0, "a"), job(task, 1, "b")))
    assert notes.known == []
