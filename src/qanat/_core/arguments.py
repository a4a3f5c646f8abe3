"""Check what users hand in, and say in one sentence what is wrong with it.

Wrong calls fail where they are made. A value of the wrong kind is a `TypeError`, and `True` is of
the wrong kind where a number is wanted; a number out of range, NaN and infinity are a `ValueError`.
Every function takes the argument's name first, for the message, and returns the checked value.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from operator import index
from typing import TYPE_CHECKING, Final, SupportsIndex, TypeVar, cast

from qanat._core.shown import shown

if TYPE_CHECKING:
    from collections.abc import Collection

Text = TypeVar("Text", bound=str)

NUMBER: Final = r"[0-9]{1,1000}(?:\.[0-9]{0,1000})?|\.[0-9]{1,1000}"
"""How a number is written in rates and durations: digits with or without a point, and not without end."""

UNITS: Final = {
    "ms": Fraction(1, 1000),
    "s": Fraction(1),
    "m": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
"""Seconds in each unit of time that a text may name."""

_DURATION: Final = re.compile(rf"({NUMBER})\s*({'|'.join(UNITS)})?")


def number(name: str, value: object) -> float:
    """Return a finite number as a float.

    Raises:
        TypeError: If it is not a real number, or is a bool.
        ValueError: If it is NaN, infinite or too large for a float.
    """
    if type(value) is float and math.isfinite(value):
        return value  # without asking an abstract class, which takes a microsecond
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    try:
        result = float(value)
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise ValueError(f"{name} must be a finite number, got {shown(value)}")
    return result


def positive(name: str, value: object) -> float:
    """Return a finite number greater than 0 as a float.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is out of range.
    """
    result = number(name, value)
    if result <= 0.0:
        raise ValueError(f"{name} must be greater than 0, got {shown(value)}")
    return result


def at_least(name: str, value: object, least: float) -> float:
    """Return a finite number that is not below `least` as a float.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is out of range.
    """
    # A call of its own would take as long as all the rest.
    result = value if type(value) is float and math.isfinite(value) else number(name, value)
    if result < least:
        raise ValueError(f"{name} must be at least {least:g}, got {shown(value)}")
    return result


def whole(name: str, value: object, least: int) -> int:
    """Return a whole number that is not below `least` as an int.

    Raises:
        TypeError: If it is not a whole number; 2.0 is not one.
        ValueError: If it is out of range.
    """
    if type(value) is int:
        # A limit may be made for each of a hundred thousand lanes, and asking a protocol is slow.
        result = value
    elif isinstance(value, (bool, type)) or not isinstance(value, SupportsIndex):
        # A class has the method, too, but for its instances.
        raise TypeError(f"{name} must be a whole number, got {shown(value)}")
    else:
        result = index(value)
    if result < least:
        raise ValueError(f"{name} must be at least {least}, got {shown(value)}")
    return result


def one_of(name: str, value: Text, choices: Collection[Text]) -> Text:
    """Return a text that is one of the choices.

    Raises:
        TypeError: If it is not a text.
        ValueError: If it is another text.
    """
    given: object = cast("object", value)
    if isinstance(given, str) and value in choices:
        return value
    expected = " or ".join(f'"{choice}"' for choice in choices)
    problem = ValueError if isinstance(given, str) else TypeError
    raise problem(f"{name} must be {expected}, got {shown(value)}")


def matched(name: str, value: object, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
    """Return the match of a whole text, but for the space around it.

    Raises:
        TypeError: If it is not a text.
        ValueError: If it does not match.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be {expected}, got {shown(value)}")
    found = pattern.fullmatch(value.strip())
    if found is None:
        raise ValueError(f"{name} must be {expected}, got {shown(value)}")
    return found


def duration(text: str, name: str = "duration") -> float:
    """Return the seconds that a text names: `"15m"`, `"1.5h"`, `"250ms"`, `"2d"`, `"30"`.

    The units are ms, s, m, h and d; without one it is seconds.

    Args:
        text: A number greater than 0 and a unit.
        name: What the message calls it.

    Raises:
        TypeError: If it is not a text.
        ValueError: If the text is not a duration, or is not greater than 0.
    """
    amount, unit = matched(name, text, _DURATION, 'a time such as "30s", "15m" or "1.5h"').groups()
    return positive_seconds(name, text, Fraction(amount) * UNITS[unit or "s"])


def seconds(name: str, value: object) -> float:
    """Return seconds greater than 0 from a number of them or from a text such as `"15m"`.

    Raises:
        TypeError: If it is neither a number nor a text.
        ValueError: If it is out of range or the text is not a duration.
    """
    return duration(value, name) if isinstance(value, str) else positive(name, value)


def positive_seconds(name: str, given: str, exact: Fraction) -> float:
    """Return the float nearest to an exact length of time that a text named.

    Raises:
        ValueError: If it is not greater than 0, or beyond what a float can hold.
    """
    try:
        result = float(exact)
    except OverflowError:
        result = math.inf
    if not 0.0 < result < math.inf:
        raise ValueError(f"{name} must be greater than 0 and finite, got {shown(given)}")
    return result


def plain(value: float) -> str:
    """Say a number with all its digits, and without an exponent or a useless `.0`."""
    text = f"{Decimal(repr(value)):f}"
    return text.removesuffix(".0")


def duration_in_words(value: float) -> str:
    """Say a length of time in the largest unit that divides it: `15m`, `90s`, `0.25s`.

    `duration` reads it back to the same float.
    """
    for unit in ("d", "h", "m"):
        size = float(UNITS[unit])
        # Beyond that a float is no longer exact, and neither is the quotient.
        if 0.0 < value < 2.0**53 and value % size == 0.0:
            return f"{plain(value / size)}{unit}"
    return f"{plain(value)}s"


def rate_in_words(n: float, per: float) -> str:
    """Say a rate as `rate=` takes it: `100/s`, `300/15m`."""
    words = duration_in_words(per)
    return f"{plain(n)}/{words[1:] if words in {'1s', '1m', '1h', '1d'} else words}"
