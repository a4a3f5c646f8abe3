"""What every order is: a small container that decides *which* waiting job of a lane is next."""

from __future__ import annotations

from inspect import iscoroutine
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    from qanat._core.job import Job


class Order(Protocol):
    """Hold the waiting jobs of one lane and say which is next.

    One order object serves one lane; a class (or any function without arguments that makes one)
    is what `order=` takes.

    Two more names are looked for, and may be left out. `bind(rng)`, called once before anything
    else, hands over the run's seeded source of randomness. A true `by_priority` says that the order
    sorts by `job.priority`: when that changes for a waiting job, the job is discarded and added again.
    """

    def add(self, job: Job[Any]) -> None:
        """Take a job in."""
        ...

    def put_back(self, job: Job[Any]) -> None:
        """Take a job in again, at the head of its class: it had its turn before."""
        ...

    def head(self) -> Job[Any]:
        """Return the next job; the same until it is taken, discarded or overtaken by an `add`.

        Raises:
            IndexError: If no job waits.
        """
        ...

    def take(self) -> Job[Any]:
        """Remove and return the job that `head` names.

        Raises:
            IndexError: If no job waits.
        """
        ...

    def discard(self, job: Job[Any]) -> None:
        """Remove a job that is in; called once for it, unless it is added again."""
        ...

    def __len__(self) -> int:
        """Return how many jobs wait."""
        ...


METHODS: Final = ("add", "put_back", "head", "take", "discard", "__len__")
"""What every order has."""


def checked_order(order: Any) -> Order:
    """Return an order that was made.

    Raises:
        TypeError: If it lacks a method.
    """
    if isinstance(order, type) or not all(callable(getattr(order, name, None)) for name in METHODS):
        if iscoroutine(order):
            order.close()
        raise TypeError(
            f"order must make orders, with the methods {', '.join(METHODS)}, got {order!r}: "
            "pass a class, or a plain function that returns an instance"
        )
    return cast("Order", order)
