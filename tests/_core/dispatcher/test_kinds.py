"""How jobs ended by task."""

from __future__ import annotations

import random
from typing import Any

import pytest

from qanat._core.dispatcher import Dispatcher
from qanat._core.dispatcher.kinds import MOST_KINDS, OTHERS, kinds_of
from qanat._core.job import Job, Task
from qanat._core.orders import ORDERS
from qanat._core.retry import Retry


class World:
    """A dispatcher that ends jobs of tasks as told."""

    def __init__(self) -> None:
        self.dispatcher = Dispatcher(rng=random.Random(0), capacity=10)
        self.number = 0

    def add(self, name: str) -> Task:
        return self.dispatcher.add_task(name, None, make_order=ORDERS["fifo"], retry=Retry(0))

    def end(self, task: Task, how: str = "done") -> None:
        self.number += 1
        job: Job[Any] = Job(self.number, None, self.number, task)
        self.dispatcher.offer(job, 0.0)
        if how == "cancelled":
            self.dispatcher.cancel(job, 0.0)
            return
        assert self.dispatcher.next(0.0) is job
        self.dispatcher.finish(job, None, None if how == "done" else ValueError(), 0.0)

    def kinds(self) -> dict[str, tuple[int, int, int]]:
        return {
            name: (each.done, each.dead, each.cancelled) for name, each in kinds_of(self.dispatcher).items()
        }


def test_one_task_counts_nothing() -> None:
    world = World()
    world.end(world.add("a"))
    assert world.kinds() == {}
    assert world.dispatcher.kinds is None


def test_what_ended_before_the_second_task_is_the_first_ones() -> None:
    world = World()
    first = world.add("a")
    world.end(first)
    world.end(first, "dead")
    second = world.add("b")
    world.end(second)
    world.end(second, "cancelled")
    world.end(first)
    assert world.kinds() == {"a": (2, 1, 0), "b": (1, 0, 1)}


def test_what_ends_after_the_second_task_has_gone_is_the_first_ones() -> None:
    world = World()
    first, second = world.add("a"), world.add("b")
    world.end(second)
    world.dispatcher.drop_task(second)
    world.end(first)
    assert world.kinds() == {"a": (1, 0, 0), "b": (1, 0, 0)}
    world.end(world.add("b"))
    world.end(first)
    assert world.kinds() == {"a": (2, 0, 0), "b": (2, 0, 0)}


def test_the_only_task_may_go_and_another_come() -> None:
    world = World()
    first = world.add("a")
    world.end(first)
    world.dispatcher.drop_task(first)
    world.end(world.add("b"))
    assert world.kinds() == {"a": (1, 0, 0), "b": (1, 0, 0)}


def test_names_have_a_bound() -> None:
    world = World()
    for number in range(MOST_KINDS + 3):
        world.end(world.add(f"task {number}"))
    found = world.kinds()
    assert len(found) == MOST_KINDS + 1
    assert found[OTHERS] == (3, 0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_kinds_add_up_to_the_totals(seed: int) -> None:
    rng = random.Random(seed)
    world = World()
    tasks = [world.add("0")]
    for _ in range(60):
        choice = rng.random()
        if choice < 0.15:
            tasks.append(world.add(str(rng.randrange(4))))
        elif choice < 0.3 and len(tasks) > 1:
            world.dispatcher.drop_task(tasks.pop(rng.randrange(len(tasks))))
        else:
            world.end(rng.choice(tasks), rng.choice(["done", "dead", "cancelled"]))
    totals = world.dispatcher
    found = world.kinds() or {"0": (totals.done, totals.failed, totals.cancelled)}
    sums = tuple(sum(each[place] for each in found.values()) for place in range(3))
    assert sums == (totals.done, totals.failed, totals.cancelled)
