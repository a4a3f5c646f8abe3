"""The promise of each limit as an oracle, and plans of work to hold it to.

The oracles are slow and plain: they look through all starts each time.
"""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests._core.limits.properties import SEED, History, MayStart, Plan

if TYPE_CHECKING:
    from collections.abc import Callable


def at_once(n: int) -> MayStart:
    return lambda history, _now: history.running < n


def _is_past(start: float, length: float, now: float) -> bool:
    """Whether so long has passed, whichever way one computes it with floats."""
    return now >= start + length and now - start >= length


def sliding(n: int, per: float) -> MayStart:
    return lambda history, now: sum(not _is_past(start, per, now) for start in history.starts) < n


def fixed(n: int, per: float) -> MayStart:
    def may_start(history: History, now: float) -> bool:
        opened_at, count = -1e300, n
        for start in [*history.starts, now]:
            if _is_past(opened_at, per, start):
                opened_at, count = start, 0
            count += 1
        return count <= n

    return may_start


def bucket(per_second: float, burst: int) -> MayStart:
    """Hold every stretch that ends now to `burst + per_second * t`, in exact arithmetic."""

    def may_start(history: History, now: float) -> bool:
        starts = [*history.starts, now]
        return all(
            len(starts) - first <= burst + Fraction(per_second) * (Fraction(now) - Fraction(start))
            for first, start in enumerate(starts)
        )

    return may_start


def spaced(seconds: float, jitter: float = 0.0) -> MayStart:
    gaps = _gaps(seconds, jitter)
    return lambda history, now: (
        not history.starts or _is_past(history.starts[-1], gaps(len(history.starts) - 1), now)
    )


def spaced_after_finish(seconds: float, jitter: float = 0.0) -> MayStart:
    gaps = _gaps(seconds, jitter)
    return lambda history, now: (
        not history.ends
        or (history.running == 0 and _is_past(history.ends[-1], gaps(len(history.ends) - 1), now))
    )


def _gaps(seconds: float, jitter: float) -> Callable[[int], float]:
    rng, drawn = Random(SEED), list[float]()

    def gap(number: int) -> float:
        while len(drawn) <= number:
            drawn.append(seconds + jitter * rng.random())
        return drawn[number]

    return gap


def plans(times: st.SearchStrategy[float], most: int = 12) -> st.SearchStrategy[Plan]:
    """Up to so many jobs, whose gaps and lengths are drawn from these times."""
    return st.lists(st.tuples(times, times), min_size=1, max_size=most)


# Times that any float arithmetic here leaves exact, and times that it does not.
EXACT_TIMES = st.integers(0, 256).map(lambda n: n / 64)
ANY_TIMES = st.sampled_from([0.0, 0.1, 0.7, 1 / 3, 1e-9, 1e6]) | st.floats(0, 10)


def fixed_plans(*, exact: bool = False) -> list[Plan]:
    """Return plans that are always the same: crowds, and trickles of awkward or of exact times."""
    rng = Random(1)
    times = [0.0, 0.25, 0.5, 0.75, 2.5] if exact else [0.0, 0.1, 0.2, 0.25, 0.3, 0.7, 2.3]
    return [
        [(0.0, 0.25)] * 6,
        [(0.0, 0.0)] * 6,
        [(0.25, 0.0) if exact else (0.03, 0.01)] * 6,
        *([(rng.choice(times), rng.choice(times)) for _ in range(8)] for _ in range(20)),
    ]
