"""Rates as people write them: `"100/s"`, `"300/15m"`, `"0.05/s"`, `"100/s evenly"`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanat._core.arguments import positive_seconds
from qanat._core.limits import SlidingWindow, Spacing
from qanat._core.limits.rate_text import read_rate

if TYPE_CHECKING:
    from qanat._core.limit import Limit


def parse_rate(text: str, name: str = "rate") -> Limit:
    """Return the limit that a rate names: `"<n>/<k?><s|m|h|d>[ evenly]"`.

    At most `n` jobs start in any stretch of `k` seconds, minutes, hours or days, as a
    `SlidingWindow`; or, evenly, one job each `k / n` of it, as a `Spacing`. A fraction is
    brought to the lowest whole numbers, exactly: 0.05/s is 1 per 20 s, 2.5/s is 5 per 2 s.

    Args:
        text: The rate.
        name: What the message calls it.

    Raises:
        TypeError: If it is not a text.
        ValueError: If the text is not a rate, or a number in it is not greater than 0.

    Examples:
        >>> from qanat._core.rates import parse_rate
        >>> parse_rate("300/15m")
        SlidingWindow(300, 900.0)
        >>> parse_rate("2.5/s")
        SlidingWindow(5, 2.0)
        >>> parse_rate("100/s evenly")
        Spacing(0.01, after='start', jitter=0)
    """
    n, per, evenly = read_rate(text, name)
    if evenly:
        return Spacing(positive_seconds(name, text, per / n))
    return SlidingWindow(n.numerator, positive_seconds(name, text, per * n.denominator))
