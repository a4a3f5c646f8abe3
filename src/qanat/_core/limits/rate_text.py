"""The text of a rate, taken apart: `"<n>/<k?><s|m|h|d>[ evenly]"`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from qanat._core.arguments import NUMBER, UNITS, matched

_RATE: Final = re.compile(rf"({NUMBER})\s*/\s*({NUMBER})?\s*([smhd])(\s+evenly)?")


def read_rate(text: str, name: str) -> tuple[Fraction, Fraction, bool]:
    """Return how much in how many seconds, exactly, and whether evenly.

    Raises:
        TypeError: If it is not a text.
        ValueError: If the text is not a rate, or its amount is 0.
    """
    found = matched(name, text, _RATE, 'a text such as "100/s", "300/15m", "0.05/s" or "100/s evenly"')
    amount, every, unit, evenly = found.groups()
    n = Fraction(amount)
    if n == 0:
        raise ValueError(f"{name} must be greater than 0, got {text!r}")
    return n, Fraction(every or 1) * UNITS[unit], evenly is not None
