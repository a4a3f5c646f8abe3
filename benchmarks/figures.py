"""Arithmetic on what was measured: medians, ratios of runs that lay side by side, windows of starts.

Pure: nothing here reads a clock. Contenders take turns (A B C A B C ...), so the runs of one round
met the same machine; a ratio is therefore taken within each round, and the median of those is
what counts. On a busy machine it stays put where the times themselves do not.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Sample(NamedTuple):
    """One run of one contender.

    Attributes:
        wall: Seconds that passed, for each item.
        cpu: Seconds of processor time that the process used for each item, all threads together.
    """

    wall: float
    cpu: float


def median(values: Iterable[float]) -> float:
    """Return the median.

    Raises:
        ValueError: If there is nothing to take it of.
    """
    found = list(values)
    if not found:
        raise ValueError("values must not be empty: the median of nothing is not known")
    return statistics.median(found)


def ratio(samples: Sequence[Sample], base: Sequence[Sample]) -> float:
    """Return how many times the processor time of the base was used: the median over the rounds.

    Args:
        samples: The runs of a contender, in the order of the rounds.
        base: The runs of what it is compared with, of the same rounds.
    """
    return median(each.cpu / other.cpu for each, other in zip(samples, base, strict=True))


def most_in_window(times: Iterable[float], width: float) -> int:
    """Return how many of the times lie at most in any half-open window `[t, t + width)`."""
    ordered = sorted(times)
    most = first = 0
    for number, at in enumerate(ordered):
        while at - ordered[first] >= width:
            first += 1
        most = max(most, number - first + 1)
    return most


def share_of_ideal(times: Sequence[float], ideal: float) -> float:
    """Return which part of the ideal pace was reached.

    Args:
        times: When each job started, in seconds.
        ideal: Seconds between the first and the last start at the pace that was asked for.
    """
    return ideal / (max(times) - min(times))
