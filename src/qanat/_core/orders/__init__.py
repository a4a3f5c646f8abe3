"""The orders: small containers that decide which waiting job of a lane is next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qanat._core.arguments import one_of
from qanat._core.orders.fifo import Fifo
from qanat._core.orders.lifo import Lifo
from qanat._core.orders.priority import PriorityOrder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qanat._core.order import Order

__all__ = ["ORDERS", "Fifo", "Lifo", "PriorityOrder", "make_order"]

ORDERS: Final[Mapping[str, Callable[[], Order]]] = {
    "fifo": Fifo,
    "lifo": Lifo,
    "priority": PriorityOrder,
}
"""What each name makes when it is given as `order=`."""


def make_order(name: str) -> Order:
    """Return a new, empty order of that name.

    Raises:
        TypeError: If it is not a text.
        ValueError: If no order has that name; the message says which there are.
    """
    return ORDERS[one_of("order", name, ORDERS)]()
