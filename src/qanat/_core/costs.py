"""What a job costs: a number, or a number for each currency."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Final, cast

from qanat._core.arguments import at_least

REQUESTS: Final = "requests"
"""The currency that counts calls: each is one, unless the cost names another number of them."""


def checked_cost(cost: object) -> float | dict[str, float]:
    """Return a job's cost: a number, or a copy of a mapping with a number for each currency.

    Raises:
        TypeError: If it is neither.
        ValueError: If a number is less than 0, NaN or infinite.
    """
    if isinstance(cost, Mapping):
        return {
            checked_currency("cost", name): at_least(f"cost[{name!r}]", amount, 0)
            for name, amount in cast("Mapping[object, object]", cost).items()
        }
    if isinstance(cost, bool) or not isinstance(cost, Real):
        raise TypeError(f"cost must be a number or a mapping of currencies to numbers, got {cost!r}")
    return at_least("cost", cost, 0)


def checked_currency(name: str, currency: object) -> str:
    """Return the name of a currency.

    Raises:
        TypeError: If it is not a text.
        ValueError: If it is empty.
    """
    if not isinstance(currency, str):
        raise TypeError(f"{name} must name currencies by texts, got {currency!r}")
    if not currency:
        raise ValueError(f"{name} must name currencies, got the empty text")
    return currency


def amount_in(cost: float | Mapping[str, float], currency: str) -> float:
    """Return what a cost is in one currency.

    A plain number is the amount in every currency but `requests`, in which each call is 1. A mapping
    says it for the currencies that it names; in others it is 0, and 1 in `requests`.
    """
    if isinstance(cost, (float, int)):
        return 1.0 if currency == REQUESTS else cost
    return cost.get(currency, 1.0 if currency == REQUESTS else 0.0)
