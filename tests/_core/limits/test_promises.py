"""Every limit keeps what limits promise, whatever arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._core.limits import Concurrency, FixedWindow, SlidingWindow, Spacing, TokenBucket
from tests._core.limits.promises import (
    ANY_TIMES,
    EXACT_TIMES,
    at_once,
    bucket,
    fixed,
    fixed_plans,
    plans,
    sliding,
    spaced,
    spaced_after_finish,
)
from tests._core.limits.properties import MayStart, Plan, check_limit_holds

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.limit import Limit

COUNTS = st.integers(1, 4)
LENGTHS = st.sampled_from([0.1, 1 / 3, 0.7, 1.0, 49.0]) | st.floats(1e-3, 10)
QUICK = settings(max_examples=25, deadline=None)


@QUICK
@given(COUNTS, plans(ANY_TIMES))
def test_concurrency_holds(n: int, plan: Plan):
    check_limit_holds(lambda: Concurrency(n), at_once(n), plan)


@QUICK
@given(COUNTS, LENGTHS, plans(ANY_TIMES))
def test_sliding_window_holds(n: int, per: float, plan: Plan):
    check_limit_holds(lambda: SlidingWindow(n, per), sliding(n, per), plan)


@QUICK
@given(COUNTS, LENGTHS, plans(ANY_TIMES))
def test_fixed_window_holds(n: int, per: float, plan: Plan):
    check_limit_holds(lambda: FixedWindow(n, per), fixed(n, per), plan)


@QUICK
@given(st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0]), COUNTS, plans(EXACT_TIMES))
def test_token_bucket_holds(per_second: float, burst: int, plan: Plan):
    check_limit_holds(lambda: TokenBucket(per_second, burst=burst), bucket(per_second, burst), plan)


@QUICK
@given(LENGTHS, st.just(0.0) | LENGTHS, plans(ANY_TIMES))
def test_spacing_from_starts_holds(gap: float, jitter: float, plan: Plan):
    check_limit_holds(lambda: Spacing(gap, jitter=jitter), spaced(gap, jitter), plan)


@QUICK
@given(LENGTHS, st.just(0.0) | LENGTHS, plans(ANY_TIMES))
def test_spacing_from_finishes_holds(gap: float, jitter: float, plan: Plan):
    check_limit_holds(
        lambda: Spacing(gap, after="finish", jitter=jitter), spaced_after_finish(gap, jitter), plan
    )


@pytest.mark.parametrize(
    ("make", "may_start"),
    [
        pytest.param(lambda: Concurrency(2), at_once(2), id="concurrency"),
        pytest.param(lambda: SlidingWindow(2, 0.1), sliding(2, 0.1), id="sliding"),
        pytest.param(lambda: FixedWindow(2, 0.1), fixed(2, 0.1), id="fixed"),
        pytest.param(lambda: Spacing(0.1), spaced(0.1), id="spacing"),
        pytest.param(lambda: Spacing(0.1, after="finish"), spaced_after_finish(0.1), id="after finish"),
    ],
)
def test_limit_holds_for_awkward_times(make: Callable[[], Limit], may_start: MayStart):
    for plan in fixed_plans():
        check_limit_holds(make, may_start, plan)
