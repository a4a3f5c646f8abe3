"""What to change: the same items simulated under other rules, and what became of it in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from qanat._app.why import duration_words
from qanat._core.arguments import plain
from qanat._core.limits import SlidingWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._app.rules import Rules
    from qanat._app.simulation import Simulation

    Try = Callable[[Rules, int], Simulation]
    """Simulate so many of the items under these rules."""

SAMPLE = 10_000
"""Items on which changes are tried, if there are more."""
WINDOWS = 5
"""Windows of a rate that a sample has to fill, or it would show the burst at the beginning only."""
SAME = 0.02
"""Shares of the makespan below which a change is none."""


class Change(msgspec.Struct, frozen=True):
    """A change of the rules, and what came of it.

    Attributes:
        rules: What was changed, in words.
        makespan: Seconds that all items would take about, estimated on a sample.
        ratio: The makespan as a share of that without the change.
        text: What to make of it.
    """

    rules: str
    makespan: float
    ratio: float
    text: str


def advise(attempt: Try, rules: Rules, seen: Simulation) -> list[Change]:
    """Try other rules and say what they change: twice the slots, twice the rate, fewer slots.

    Args:
        attempt: Simulates.
        rules: The rules.
        seen: What came of them, with all items.

    Returns:
        The changes, the one that helps most first.
    """
    if not seen.makespan > 0.0:
        return []
    size = sample_size(rules, seen.items)
    before = attempt(rules, size).makespan

    def ratio(changed: Rules) -> float:
        return attempt(changed, size).makespan / before

    found: list[Change] = []
    slots = rules.concurrency
    if isinstance(slots, int):
        share = ratio(rules.replace(concurrency=2 * slots))
        found.append(_change(f"{2 * slots} at once", share, seen, f"{slots} at once decide"))
    rate = rules.rate
    doubled = twice(rate) if isinstance(rate, str) else None
    if doubled is not None:
        share = ratio(rules.replace(rate=doubled))
        found.append(_change(f"a rate of {doubled}", share, seen, "the rate decides"))
        if isinstance(slots, int) and all(change.ratio > 1.0 - SAME for change in found):
            share = ratio(rules.replace(rate=doubled, concurrency=2 * slots))
            both = f"a rate of {doubled} with {2 * slots} at once"
            found.append(_change(both, share, seen, "only both together help"))
    found.sort(key=lambda change: change.ratio)
    if isinstance(slots, int) and not any("at once decide" in change.text for change in found):
        found += _with_fewer(slots, seen, lambda number: ratio(rules.replace(concurrency=number)))
    return found


def _change(what: str, ratio: float, seen: Simulation, decides: str) -> Change:
    takes = seen.makespan * ratio
    if ratio > 1.0 - SAME:
        text = f"{what} would change nothing"
        if ratio > 1.0 + SAME:
            text = f"{what} would make it slower: about {duration_words(takes)}"
    else:
        text = (
            f"{decides}: with {what} it would take about {duration_words(takes)} "
            f"instead of {duration_words(seen.makespan)}"
        )
    return Change(what, takes, ratio, text)


def _with_fewer(slots: int, seen: Simulation, ratio: Callable[[int], float]) -> list[Change]:
    """Return about the fewest slots that are no slower, found by halving; nothing if all are needed."""
    fewest, share = slots, 1.0
    while fewest > 1 and (halved := ratio(fewest // 2)) <= share * (1.0 + SAME):
        fewest, share = fewest // 2, min(share, halved)
    if fewest == slots:
        return []
    what = f"{fewest} at once"
    text = f"{what} would do: no slower than {slots}"
    if share < 1.0 - SAME:
        text = f"{what} would be faster: about {duration_words(seen.makespan * share)}"
    return [Change(what, seen.makespan * share, share, text)]


def sample_size(rules: Rules, items: int) -> int:
    """Return how many items show what all of them would do."""
    needed = SAMPLE
    for limit in rules.all_limits:
        if isinstance(limit, SlidingWindow):
            needed = max(needed, WINDOWS * limit.n)
    return min(items, needed)


def twice(rate: str) -> str:
    """Return a rate of twice as many in the same time."""
    number, _, rest = rate.partition("/")
    doubled = float(number) * 2.0
    return f"{plain(doubled) if math.isfinite(doubled) else number.strip()}/{rest.strip()}"
