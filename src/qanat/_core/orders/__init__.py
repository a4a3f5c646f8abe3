"""The orders: small containers that decide which waiting job of a lane is next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qanat._core.arguments import one_of
from qanat._core.orders.by_key import KeyOrder
from qanat._core.orders.deadline import by_deadline
from qanat._core.orders.fifo import Fifo
from qanat._core.orders.lifo import Lifo
from qanat._core.orders.priority import Priority
from qanat._core.orders.shuffle import Shuffle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qanat._core.order import Order

__all__ = ["ORDERS", "Fifo", "KeyOrder", "Lifo", "Priority", "Shuffle", "by_deadline", "make_order"]

ORDERS: Final[Mapping[str, Callable[[], Order]]] = {
    "fifo": Fifo,
    "lifo": Lifo,
    "priority": Priority(),
    "deadline": by_deadline,
    "shuffle": Shuffle,
}
"""What each name makes when it is given as `order=`."""


def make_order(name: str) -> Order:
    """Return a new, empty order of that name.

    Raises:
        TypeError: If it is not a text.
        ValueError: If no order has that name; the message says which there are.
    """
    return ORDERS[one_of("order", name, ORDERS)]()
