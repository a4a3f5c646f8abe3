"""Every order against a model: a list that is sorted each time somebody looks."""

from __future__ import annotations

import sys
from collections import Counter
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from qanat._core.job import Job
from qanat._core.orders import ORDERS, Fifo, KeyOrder, Lifo, Priority, Shuffle, make_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.order import Order


def bound(make: Callable[[], Order], seed: int = 7) -> Callable[[], Order]:
    """Return a maker of orders that have their randomness, if they want some."""

    def make_bound() -> Order:
        order = make()
        if isinstance(order, Shuffle):
            order.bind(Random(seed))
        return order

    return make_bound


ALL = pytest.mark.parametrize("make", [bound(make) for make in ORDERS.values()], ids=ORDERS)

# A job's place: its key among those that wait, the smallest being next. From the job, whether it
# was put back, and how many were added or put back before.
KEYS: dict[str, Callable[[Job[Any], bool, int], tuple[float, ...]]] = {
    "fifo": lambda job, back, turn: (0, job.index, turn) if back else (1, turn),
    "lifo": lambda _job, _back, turn: (-turn,),
    "priority": lambda job, back, turn: (
        (job.priority, 0, job.index, turn) if back else (job.priority, 1, turn)
    ),
    "deadline": lambda job, back, turn: (due_of(job), 0, job.index, turn) if back else (due_of(job), 1, turn),
    "ageing": lambda job, back, turn: (
        (job.priority + job.offered_at / 2, 0, job.index, turn)
        if back
        else (job.priority + job.offered_at / 2, 1, turn)
    ),
}
MAKERS: dict[str, Callable[[], Order]] = {**ORDERS, "ageing": Priority(ageing=0.5)}


def due_of(job: Job[Any]) -> float:
    return inf if job.deadline is None else job.deadline


def job_of(
    index: int, priority: float = 0.0, offered_at: float = 0.0, deadline: float | None = None
) -> Job[None]:
    return Job(index, None, index, cast("Any", None), offered_at, priority=priority, deadline=deadline)


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
        self.order = MAKERS[self.name]()
        self.key = KEYS[self.name]
        self.waiting: list[tuple[tuple[float, ...], Job[Any]]] = []
        self.gone: list[Job[Any]] = []
        self.turn = 0

    def _entered(self, job: Job[Any], *, back: bool) -> None:
        self.turn += 1
        self.waiting.append((self.key(job, back, self.turn), job))
        self.waiting.sort(key=lambda entry: entry[0])

    @rule(priority=st.integers(0, 2), offered_at=st.integers(0, 4), deadline=st.none() | st.integers(0, 2))
    def add(self, priority: int, offered_at: int, deadline: int | None) -> None:
        job = job_of(self.turn, priority, offered_at, deadline)
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


@pytest.mark.parametrize("name", KEYS)
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
    order = Priority()()
    for index, priority in enumerate([2, 1, 2, 1, -0.5]):
        order.add(job_of(index, priority))
    assert drain(order) == [4, 1, 3, 0, 2]


def test_priority_puts_a_job_back_before_its_equals_only():
    order = Priority()()
    for index, priority in enumerate([1, 2, 2]):
        order.add(job_of(index, priority))
    order.put_back(job_of(9, 2))
    order.put_back(job_of(8, 2))
    assert drain(order) == [0, 8, 9, 1, 2]


def test_job_may_change_its_priority_as_often_as_it_likes():
    order, changing = Priority()(), job_of(0, 5)
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
    assert [type(make_order(name)) for name in ORDERS] == [Fifo, Lifo, KeyOrder, KeyOrder, Shuffle]


@pytest.mark.parametrize(("name", "error"), [("random", ValueError), (None, TypeError)])
def test_unknown_order_is_told_which_there_are(name: Any, error: type[Exception]):
    with pytest.raises(error) as caught:
        make_order(name)
    assert str(caught.value) == (
        f'order must be "fifo" or "lifo" or "priority" or "deadline" or "shuffle", got {name!r}'
    )


# --- ageing --------------------------------------------------------------------------------


def test_ageing_job_is_overtaken_only_by_those_offered_soon_enough_after_it():
    """Priority 10 against 0, ageing by 2 a second: for 5 seconds, and no longer."""
    order = Priority(ageing=2)()
    order.add(job_of(0, 10.0, 100.0))
    for index, at in enumerate([100.0, 104.0, 104.875, 105.0, 105.125, 200.0], start=1):
        order.add(job_of(index, 0.0, at))
    assert drain(order) == [1, 2, 3, 0, 4, 5, 6]


@given(
    st.lists(st.tuples(st.integers(-8, 8), st.integers(0, 32).map(lambda n: n / 4)), max_size=20),
    st.sampled_from([0.125, 0.5, 1.0, 4.0]),
)
def test_nobody_overtakes_beyond_the_bound(jobs: list[tuple[int, float]], ageing: float):
    order = Priority(ageing=ageing)()
    jobs.sort(key=lambda each: each[1])
    for index, (priority, at) in enumerate(jobs):
        order.add(job_of(index, priority, at))
    taken = drain(order)
    for place, later in enumerate(taken):
        for earlier in taken[place + 1 :]:
            if later > earlier:  # it was offered later, and taken before
                (p, offered), (q, at) = jobs[earlier], jobs[later]
                assert at - offered < (p - q) / ageing


def test_equals_start_in_the_order_of_their_arrival_while_they_age():
    order = Priority(ageing=0.1)()
    for index in range(5):
        order.add(job_of(index, 3.0, 7.5))
    assert drain(order) == [0, 1, 2, 3, 4]


def test_an_aged_job_that_comes_again_has_kept_its_age():
    order = Priority(ageing=1)()
    for index, at in ((1, 1.0), (2, 2.0)):
        order.add(job_of(index, 0.0, at))
    order.put_back(job_of(9, 0.0, 1.0))
    assert drain(order) == [9, 1, 2]


@pytest.mark.parametrize(
    ("ageing", "error"), [(-1, ValueError), (float("nan"), ValueError), (inf, ValueError), ("1", TypeError)]
)
def test_ageing_has_to_be_a_number_of_at_least_0(ageing: Any, error: type[Exception]):
    with pytest.raises(error, match="ageing must be"):
        Priority(ageing=ageing)


def test_priority_says_in_words_what_it_does():
    assert [str(Priority(ageing=ageing)) for ageing in (0, 0.25)] == [
        "priority",
        "priority (0.25 smaller each second)",
    ]


# --- deadline ------------------------------------------------------------------------------


def test_deadline_serves_the_earliest_first_and_those_without_one_last():
    order = make_order("deadline")
    for index, deadline in enumerate([None, 9.0, 3.0, None, 3.0]):
        order.add(job_of(index, deadline=deadline))
    assert drain(order) == [2, 4, 1, 0, 3]


# --- shuffle -------------------------------------------------------------------------------


def shuffled(n: int, seed: int) -> list[int]:
    order = bound(Shuffle, seed)()
    for index in range(n):
        order.add(job_of(index))
    return drain(order)


def test_shuffle_is_the_same_for_the_same_seed_and_another_for_another():
    assert shuffled(50, 1) == shuffled(50, 1)
    assert shuffled(50, 1) != shuffled(50, 2)
    assert sorted(shuffled(50, 1)) == list(range(50))


def test_shuffle_is_as_likely_to_give_any_order():
    counts = Counter(tuple(shuffled(3, seed)) for seed in range(6_000))
    assert len(counts) == 6
    assert all(850 <= count <= 1_150 for count in counts.values())


def test_nobody_waits_for_ever_in_a_shuffle_that_is_never_empty():
    """Of ten that wait each is the next one in ten, so one in e^30 waits for 300 others."""
    order = bound(Shuffle)()
    waits = Counter[int]()
    for index in range(10):
        order.add(job_of(index))
    for index in range(10, 3_000):
        taken = order.take().index
        waits[taken] = index - 10 - taken
        order.add(job_of(index))
    assert max(waits.values()) < 300


def test_shuffle_puts_jobs_back_before_all_others():
    order = bound(Shuffle)()
    for index in range(5):
        order.add(job_of(index))
    for index in (8, 7):
        order.put_back(job_of(index))
    order.add(job_of(9))
    assert drain(order)[:2] == [7, 8]


def test_discarded_job_that_was_put_back_into_a_shuffle_is_never_next():
    order, jobs = bound(Shuffle)(), [job_of(index) for index in range(6)]
    for job in jobs:
        order.put_back(job)
    order.discard(jobs[0])
    assert drain(order) == [1, 2, 3, 4, 5]


def test_shuffle_without_randomness_says_what_it_needs():
    with pytest.raises(RuntimeError, match="bind"):
        Shuffle().add(job_of(0))
