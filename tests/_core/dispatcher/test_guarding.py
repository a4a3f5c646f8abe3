"""Orders of the user's own that say what is not so."""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.dispatcher.guarding import Guard, guarded
from qanat._core.orders import ORDERS, Fifo
from tests._core.dispatcher.world import add, job, make

if TYPE_CHECKING:
    from qanat._core.job import Job


class Own(Fifo):
    """A fifo of the user's own, which may be told what to answer."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers = answers
        self.rng: Random | None = None

    def bind(self, rng: Random) -> None:
        self.rng = rng

    def head(self) -> Any:
        return self.answers.get("head", super().head())

    def take(self) -> Any:
        taken = super().take()
        return self.answers.get("take", taken)

    def __len__(self) -> int:
        return int(self.answers.get("len", super().__len__()))


def jobs(count: int) -> list[Job[Any]]:
    task = add(make())
    return [job(task, number) for number in range(count)]


def guard(**answers: Any) -> tuple[Any, list[BaseException]]:
    broken: list[BaseException] = []
    return guarded(Own(**answers), broken.append), broken


def test_our_own_orders_need_no_guard():
    for name, make_order in ORDERS.items():
        order = make_order()
        assert guarded(order, print) is order, name
    own = Own()
    assert guarded(own, None) is own
    with pytest.raises(TypeError, match="order must make orders"):
        guarded(3, print)


def test_an_order_that_is_right_is_asked_for_everything():
    order, broken = guard()
    first, second, third = jobs(3)
    for each in (first, second, third):
        order.add(each)
    assert (order.head(), order.take(), len(order)) == (first, first, 2)
    order.discard(second)
    order.put_back(first)
    assert [order.take(), order.take()] == [first, third]
    assert (len(order), broken) == (0, [])
    assert not order.by_priority
    rng = Random(1)
    order.bind(rng)
    assert order._order.rng is rng
    Guard(Fifo(), broken.append).bind(rng)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"head": None}, "head must return a job that waits, got None"),
        ({"head": []}, r"head must return a job that waits, got \[\]"),
        ({"take": None}, "take must return a job that waits, got None"),
        ({"len": 0}, "__len__ must return how many jobs wait, 3, got 0"),
    ],
    ids=["head", "unhashable", "take", "len"],
)
def test_what_is_not_so_is_told_once_and_nothing_is_lost(answers: dict[str, Any], said: str):
    order, broken = guard(**answers)
    given = jobs(4)
    for each in given[:3]:
        order.add(each)
    assert len(order) == 3
    order.head()
    taken = [order.take()]
    order.add(given[3])
    order.discard(given[3])
    order.put_back(taken.pop())
    while len(order):
        assert order.head() is order.head()
        taken.append(order.take())
    assert set(taken) == set(given[:3])
    (error,) = broken
    assert re.match(said, str(error))
    assert error.__notes__ == [f"said of {said.partition(' ')[0]}() of the order Own"]


def test_a_job_that_was_named_is_the_one_that_is_taken():
    order, broken = guard()
    first, second = jobs(2)
    order.add(first)
    order.add(second)
    assert order.head() is first
    order._order.discard(first)
    assert order.take() is first
    assert str(broken[0]).startswith("take must return the job that head named, got ")
    assert [order.take() for _ in range(len(order))] == [second]
    with pytest.raises(IndexError, match="no job waits"):
        order.head()


def test_interrupts_are_raised_on():
    class Interrupted(Own):
        def add(self, job: Job[Any]) -> None:
            raise KeyboardInterrupt

    broken: list[BaseException] = []
    with pytest.raises(KeyboardInterrupt):
        Guard(Interrupted(), broken.append).add(jobs(1)[0])
    assert broken == []
