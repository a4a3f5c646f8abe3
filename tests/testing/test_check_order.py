"""`check_order`: our own orders keep the promises, and each broken one is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from qanat._core.orders import ORDERS
from qanat.testing import check_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat import Job


@pytest.mark.parametrize("name", ORDERS)
def test_our_own_orders_keep_the_promises(name: Any):
    check_order(ORDERS[name])


class Stack:
    """The last one first; the broken ones below differ in one thing each."""

    def __init__(self) -> None:
        self.jobs: list[Job[Any]] = []

    def add(self, job: Job[Any]) -> None:
        self.jobs.append(job)

    def put_back(self, job: Job[Any]) -> None:
        self.add(job)

    def head(self) -> Job[Any]:
        return self.jobs[-1]

    def take(self) -> Job[Any]:
        return self.jobs.pop()

    def discard(self, job: Job[Any]) -> None:
        self.jobs.remove(job)

    def __len__(self) -> int:
        return len(self.jobs)


class Losing(Stack):
    def put_back(self, job: Job[Any]) -> None:
        pass


class Twice(Stack):
    def put_back(self, job: Job[Any]) -> None:
        self.jobs += [job, job]


class Wavering(Stack):
    def head(self) -> Job[Any]:
        self.jobs.reverse()
        return self.jobs[-1]


class Otherwise(Stack):
    def take(self) -> Job[Any]:
        return self.jobs.pop(0)


class Equal(Stack):
    """Tells jobs apart by their items."""

    def discard(self, job: Job[Any]) -> None:
        self.jobs.remove(next(each for each in self.jobs if each.item == job.item))


class Keeping(Stack):
    def discard(self, job: Job[Any]) -> None:
        pass


class Patient(Stack):
    def head(self) -> Job[Any]:
        return self.jobs[-1] if self.jobs else cast("Any", None)


class Eating(Stack):
    def head(self) -> Job[Any]:
        return self.jobs.pop() if len(self.jobs) > 3 else self.jobs[-1]


class Counting(Stack):
    """Forgets one when it is asked for the head, and names the same."""

    named = None

    def head(self) -> Job[Any]:
        if len(self.jobs) > 1 and self.named is None:
            self.named = self.jobs[-1]
            self.jobs.pop(0)
        return self.jobs[-1]


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (Losing, "len() is 0 where 1 jobs wait"),
        (Twice, "len() is 2 where 1 jobs wait"),
        (Wavering, "head() named another job when asked again"),
        (Otherwise, "where head() had named"),
        (Equal, "which does not wait"),
        (Keeping, "len() is 1 where 0 jobs wait"),
        (Patient, "head() gave None where no job waits"),
        (Eating, "head() named another job"),
        (Counting, "head() changed how many jobs wait"),
    ],
)
def test_a_broken_promise_is_named(broken: Callable[[], Any], problem: str):
    with pytest.raises(AssertionError) as caught:
        check_order(broken, items=(0,))
    assert problem in str(caught.value)


def test_the_base_of_the_broken_ones_is_whole():
    check_order(Stack)


def test_the_steps_are_said():
    with pytest.raises(AssertionError) as caught:
        check_order(Losing, seed=3)
    assert [line.split()[0] for line in str(caught.value).splitlines()[1:]] == ["add", "take", "put_back"]
    with pytest.raises(AssertionError, match=r"\n  discard the job that came in as number \d+"):
        check_order(Keeping)


def test_without_items_there_is_nothing_to_try():
    with pytest.raises(ValueError, match="^items must have at least one"):
        check_order(Stack, items=())


def test_what_makes_nothing_is_told():
    with pytest.raises(TypeError, match="^make must be a function without arguments"):
        check_order("fifo")  # type: ignore[arg-type]
