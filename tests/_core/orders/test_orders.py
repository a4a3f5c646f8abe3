"""Every order against a model: a list that is sorted each time somebody looks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from qanat._core.job import Job
from qanat._core.orders import ORDERS, Fifo, Lifo, PriorityOrder, make_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.order import Order

ALL = pytest.mark.parametrize("make", ORDERS.values(), ids=ORDERS)

# A job's place: its key among those that wait, the smallest being next. From the job, whether it
# was put back, and how many were added or put back before.
KEYS: dict[str, Callable[[Job[Any], bool, int], tuple[float, ...]]] = {
    "fifo": lambda job, back, turn: (0, job.index, turn) if back else (1, turn),
    "lifo": lambda _job, _back, turn: (-turn,),
    "priority": lambda job, back, turn: (
        (job.priority, 0, job.index, turn) if back else (job.priority, 1, turn)
    ),
}


def job_of(index: int, priority: float = 0.0) -> Job[None]:
    return Job(index, None, index, cast("Any", None), priority=priority)


def drain(order: Order) -> list[int]:
    taken = list[int]()
    while len(order):
        head = order.head()
        assert order.take() is head
        taken.append(head.index)
    return taken


class AgainstModel(RuleBasedStateMachine):
    name = "fifo"

    def __init__(self) -> None:
        super().__init__()
        self.order = make_order(self.name)
        self.key = KEYS[self.name]
        self.waiting: list[tuple[tuple[float, ...], Job[Any]]] = []
        self.gone: list[Job[Any]] = []
        self.turn = 0

    def _entered(self, job: Job[Any], *, back: bool) -> None:
        self.turn += 1
        self.waiting.append((self.key(job, back, self.turn), job))
        self.waiting.sort(key=lambda entry: entry[0])

    @rule(priority=st.integers(0, 2))
    def add(self, priority: int) -> None:
        job = job_of(self.turn, priority)
        self.order.add(job)
        self._entered(job, back=False)

    @precondition(lambda self: self.gone)
    @rule(data=st.data(), priority=st.integers(0, 2))
    def add_again(self, data: st.DataObject, priority: int) -> None:
        job = self._one_that_is_gone(data)
        job.priority = priority
        self.order.add(job)
        self._entered(job, back=False)

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def put_back(self, data: st.DataObject) -> None:
        job = self._one_that_is_gone(data)
        self.order.put_back(job)
        self._entered(job, back=True)

    @precondition(lambda self: self.waiting)
    @rule()
    def take(self) -> None:
        job = self.waiting.pop(0)[1]
        assert self.order.take() is job
        self.gone.append(job)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        job = self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1)))[1]
        self.order.discard(job)
        self.gone.append(job)

    @invariant()
    def same_length(self) -> None:
        assert len(self.order) == len(self.waiting)

    @precondition(lambda self: self.waiting)
    @rule()
    def head(self) -> None:
        assert self.order.head() is self.waiting[0][1]

    @precondition(lambda self: not self.waiting)
    @rule()
    def empty(self) -> None:
        for look in (self.order.head, self.order.take):
            with pytest.raises(IndexError):
                look()

    def teardown(self) -> None:
        assert drain(self.order) == [job.index for _, job in self.waiting]

    def _one_that_is_gone(self, data: st.DataObject) -> Job[Any]:
        return self.gone.pop(data.draw(st.integers(0, len(self.gone) - 1)))


@pytest.mark.parametrize("name", ORDERS)
def test_order_agrees_with_a_sorted_list(name: str):
    machine = type("Machine", (AgainstModel,), {"name": name})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=12, stateful_step_count=30, deadline=None)
    )


@ALL
def test_discarded_jobs_are_let_go_of_when_they_are_half(make: Callable[[], Order]):
    order, jobs = make(), [job_of(index) for index in range(10)]
    for job in jobs:
        order.add(job)
    while_in = sys.getrefcount(jobs[0])
    for job in jobs[:5]:
        order.discard(job)
    once_out = sys.getrefcount(jobs[0])
    assert once_out < while_in
    assert len(order) == 5


@ALL
def test_discarding_costs_one_step_each(make: Callable[[], Order]):
    """Seen in how often all are looked through: a few times, not once for each."""
    order, jobs = make(), [job_of(index) for index in range(2_000)]
    for job in jobs:
        order.add(job)
    compactions = 0
    kind: Any = type(order)

    def compact(self: Any) -> None:
        nonlocal compactions
        compactions += 1
        kind._compact(self)

    order.__class__ = type("Counted", (kind,), {"__slots__": (), "_compact": compact})
    for job in jobs[1:]:
        order.discard(job)
    assert drain(order) == [0]
    assert compactions <= 11


@ALL
@pytest.mark.parametrize("again", ["add", "put_back"])
def test_discarded_job_may_come_again_while_others_wait(make: Callable[[], Order], again: str):
    order, jobs = make(), [job_of(index) for index in range(5)]
    for job in jobs:
        order.add(job)
    order.discard(jobs[2])
    getattr(order, again)(jobs[2])
    assert sorted(drain(order)) == [0, 1, 2, 3, 4]


@ALL
def test_discarded_job_is_never_next(make: Callable[[], Order]):
    order, jobs = make(), [job_of(index) for index in range(6)]
    for job in jobs:
        order.add(job)
    for job in (jobs[0], jobs[5]):
        order.discard(job)
    assert sorted(drain(order)) == [1, 2, 3, 4]


def test_discarded_job_that_was_put_back_is_never_next():
    order, jobs = Fifo(), [job_of(index) for index in range(6)]
    for job in jobs:
        order.put_back(job)
    order.discard(jobs[0])
    assert drain(order) == [1, 2, 3, 4, 5]


def test_fifo_takes_many_new_jobs_at_once():
    order = Fifo()
    order.add(job_of(0))
    order.extend([job_of(1), job_of(2)])
    assert drain(order) == [0, 1, 2]


def test_fifo_serves_those_put_back_first_and_the_oldest_of_them_before_the_others():
    order = Fifo()
    for index in (4, 5):
        order.add(job_of(index))
    for index in (3, 1, 2):
        order.put_back(job_of(index))
    assert drain(order) == [1, 2, 3, 4, 5]


def test_lifo_serves_the_newest_first():
    order = Lifo()
    for index in (1, 2):
        order.add(job_of(index))
    order.put_back(job_of(0))
    assert drain(order) == [0, 2, 1]


def test_priority_serves_the_smallest_first_and_equals_as_they_came():
    order = PriorityOrder()
    for index, priority in enumerate([2, 1, 2, 1, -0.5]):
        order.add(job_of(index, priority))
    assert drain(order) == [4, 1, 3, 0, 2]


def test_priority_puts_a_job_back_before_its_equals_only():
    order = PriorityOrder()
    for index, priority in enumerate([1, 2, 2]):
        order.add(job_of(index, priority))
    order.put_back(job_of(9, 2))
    order.put_back(job_of(8, 2))
    assert drain(order) == [0, 8, 9, 1, 2]


def test_job_may_change_its_priority_as_often_as_it_likes():
    order, changing = PriorityOrder(), job_of(0, 5)
    order.add(changing)
    for index in range(1, 9):
        order.add(job_of(index, 4))
    for priority in (3, 5, 3):
        order.discard(changing)
        changing.priority = priority
        order.add(changing)
    assert drain(order) == [0, 1, 2, 3, 4, 5, 6, 7, 8]


@ALL
def test_jobs_of_one_index_never_compare_themselves(make: Callable[[], Order]):
    order = make()
    for _ in range(3):
        order.add(job_of(0))
        order.put_back(job_of(0))
    assert drain(order) == [0] * 6


def test_order_is_made_by_its_name():
    assert [type(make_order(name)) for name in ("fifo", "lifo", "priority")] == [Fifo, Lifo, PriorityOrder]


@pytest.mark.parametrize(("name", "error"), [("random", ValueError), (None, TypeError)])
def test_unknown_order_is_told_which_there_are(name: Any, error: type[Exception]):
    with pytest.raises(error) as caught:
        make_order(name)
    assert str(caught.value) == f'order must be "fifo" or "lifo" or "priority", got {name!r}'
