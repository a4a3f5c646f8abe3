"""The property finds the mistakes that limits are prone to: each mutant here is caught."""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.limits import Concurrency, FixedWindow, SlidingWindow, Spacing, TokenBucket
from tests._core.limits.promises import (
    at_once,
    bucket,
    fixed,
    fixed_plans,
    sliding,
    spaced,
    spaced_after_finish,
)
from tests._core.limits.properties import MayStart, Plan, check_limit_holds

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.limit import Limit


def mutant_of(limit: type[Limit], old: str, new: str) -> Any:
    """Return the class made again from its source with one change in it."""
    source = inspect.getsource(limit)
    assert source.count(old) == 1, f"{old!r} is not in {limit.__name__} just once"
    names = dict(vars(sys.modules[limit.__module__]))
    exec("from __future__ import annotations\n" + source.replace(old, new), names)  # noqa: S102 - our own
    return names[limit.__name__]


def is_caught(make: Callable[[], Limit], may_start: MayStart, plans: list[Plan]) -> bool:
    for plan in plans:
        try:
            check_limit_holds(make, may_start, plan)
        except AssertionError:
            return True
    return False


def plans_for(case: str) -> list[Plan]:
    # The bucket's oracle counts in exact arithmetic: with rounded times it would catch the limit itself.
    return fixed_plans(exact=case == "token bucket")


GIVES_BACK_A_START = """
    def give_back(self, job, outcome, now):
        {}

    def fresh_at("""

# For each limit: how it is made from its class, its promise, and what is done to its source.
CASES: dict[str, tuple[type[Limit], Callable[[Any], Limit], MayStart, dict[str, tuple[str, str]]]] = {
    "concurrency": (
        Concurrency,
        lambda cls: cls(2),
        at_once(2),
        {
            "one too many": ("self._running < self._at_once", "self._running <= self._at_once"),
            "one too few": ("self._running < self._at_once", "self._running < self._at_once - 1"),
            "given back twice": ("self._running -= 1", "self._running -= 2"),
            "tells nobody": ("self._running == self._at_once - 1", "False"),
            "always fresh": ("self._running == 0 and", ""),
        },
    ),
    "sliding window": (
        SlidingWindow,
        lambda cls: cls(2, 0.1),
        sliding(2, 0.1),
        {
            "one too many": ('whole("n", n, 1)', "n + 1"),
            "newest for oldest": ("first = log[oldest]", "first = log[oldest - 1]"),
            "> for >=": ("return self._free_at", "return border(self._free_at, 1e-9)"),
            "rounded down": (
                "nextafter(end, inf) if end - first < self._per else end",
                "end",
            ),
            "given back": ("\n    def fresh_at(", GIVES_BACK_A_START.format("self._free_at = -inf")),
            "fresh too early": ("self._log[self._oldest - 1]", "self._log[self._oldest]"),
        },
    ),
    "fixed window": (
        FixedWindow,
        lambda cls: cls(2, 0.1),
        fixed(2, 0.1),
        {
            "one too many": ("self._left = self._n", "self._left = self._n + 1"),
            "> for >=": ("now >= self._ends_at", "now > self._ends_at"),
            "rounded down": ("border(now + self._precision, self._per)", "now + self._per"),
            "given back": ("\n    def fresh_at(", GIVES_BACK_A_START.format("self._left += 1")),
            "fresh too early": ("return self._ends_at", "return now"),
        },
    ),
    "token bucket": (
        TokenBucket,
        lambda cls: cls(2.0, burst=3),
        bucket(2.0, 3),
        {
            "one too many": (
                'whole("burst", burst, 1)\n        self._since',
                "burst + 1\n        self._since",
            ),
            "one too few": (
                "count + 1 > self._burst:\n            length = (count + 1",
                "count + 2 > self._burst:\n            length = (count + 2",
            ),
            "> for >=": ("return self._free_at", "return border(self._free_at, 1e-9)"),
            "given back": ("\n    def fresh_at(", GIVES_BACK_A_START.format("self._count -= 1")),
            "never full": ("now > self._full_at", "self._count == 0"),
            "fresh too early": ("return self._full_at", "return self._free_at"),
        },
    ),
    "spacing": (
        Spacing,
        lambda cls: cls(0.1),
        spaced(0.1),
        {
            "two gaps": ("else border(now, self._gap)", "else border(now, 2 * self._gap)"),
            "> for >=": (
                "return self._free_at\n\n    def take",
                "return border(self._free_at, 1e-9)\n\n    def take",
            ),
            "rounded down": ("inf if self._after_finish else border(now, self._gap)", "now + self._gap"),
            "given back": ("        if self._after_finish:", "        if True:"),
        },
    ),
    "spacing after a finish": (
        Spacing,
        lambda cls: cls(0.25, after="finish", jitter=0.5),
        spaced_after_finish(0.25, 0.5),
        {
            "from the start": ("inf if self._after_finish else border", "border"),
            "given back twice": (
                "        if self._after_finish:",
                "        if self._after_finish:\n            self._gap += self._gap",
            ),
            "tells nobody": ("self._gap)\n            self.changed()", "self._gap)"),
            "no jitter": ("if self._jitter:\n            self._gap", "if False:\n            self._gap"),
        },
    ),
}


@pytest.mark.parametrize(
    ("case", "mutation"), [(case, mutation) for case in CASES for mutation in CASES[case][3]]
)
def test_property_catches(case: str, mutation: str):
    limit, make, may_start, mutations = CASES[case]
    mutant = mutant_of(limit, *mutations[mutation])
    assert is_caught(lambda: make(mutant), may_start, plans_for(case))


@pytest.mark.parametrize("case", CASES)
def test_property_passes_what_is_not_changed(case: str):
    limit, make, may_start, _ = CASES[case]
    same = f"class {limit.__name__}(Limit)"
    unchanged = mutant_of(limit, same, same)
    assert not is_caught(lambda: make(unchanged), may_start, plans_for(case))
