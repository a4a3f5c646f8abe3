"""What a handler raises to say what is to be done is checked where it is raised."""

from __future__ import annotations

import pickle
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest

from qanat.errors import Discard, RetryLater, Throttled


@pytest.mark.parametrize(
    "retry_after",
    [None, 0, 1.5, Fraction(1, 2), "30", " 1.5 ", b"30", "Sun, 06 Nov 1994 08:49:37 GMT"],
    ids=repr,
)
def test_throttled_takes_seconds_and_dates(retry_after: Any):
    signal = Throttled(retry_after, limit="api")
    assert (signal.retry_after, signal.limit) == (retry_after, "api")
    again = pickle.loads(pickle.dumps(signal))  # noqa: S301 - our own
    assert (again.retry_after, again.limit) == (retry_after, "api")


@pytest.mark.parametrize(
    "retry_after",
    [-1, -0.5, nan, inf, 10**400, "soon", "", "-5", "1e3", "9" * 400, "Sun, 99 Nov 1994", b"soon"],
    ids=repr,
)
def test_throttled_refuses_times_that_make_no_sense(retry_after: Any):
    with pytest.raises(ValueError, match=r"^retry_after must be seconds or an HTTP date"):
        Throttled(retry_after)


@pytest.mark.parametrize("retry_after", [True, [], (), {}, Decimal(1)], ids=repr)
def test_throttled_refuses_times_of_another_kind(retry_after: Any):
    with pytest.raises(TypeError, match=r"^retry_after must be seconds or an HTTP date, got "):
        Throttled(retry_after)


def test_throttled_takes_the_name_of_a_limit_and_not_the_limit():
    with pytest.raises(TypeError, match=r"^limit must be the name of a limit, got 3$"):
        Throttled(limit=3)  # type: ignore[arg-type]


def test_a_header_that_may_hold_anything_has_a_way_of_its_own():
    with pytest.raises(ValueError, match=r"use throttle_from\(response\)$"):
        Throttled("soon")


@pytest.mark.parametrize(
    "delay",
    [
        -1,
        -0.5,
        nan,
        inf,
    ],
    ids=repr,
)
def test_retry_later_refuses_delays_that_make_no_sense(delay: float):
    with pytest.raises(ValueError, match=r"^delay must be seconds, at least 0 and finite, got "):
        RetryLater(delay)


@pytest.mark.parametrize("delay", [None, True, "5", []], ids=repr)
def test_retry_later_refuses_delays_of_another_kind(delay: Any):
    with pytest.raises(TypeError, match=r"^delay must be seconds, got "):
        RetryLater(delay)


def test_retry_later_takes_any_real_number():
    delay: Any = Fraction(5, 2)
    assert RetryLater(delay).delay == 2.5


def test_retry_later_crosses_processes():
    assert pickle.loads(pickle.dumps(RetryLater(2.5))).delay == 2.5  # noqa: S301 - our own


@pytest.mark.parametrize("reason", [404, None, b"gone", ["gone"], OSError("gone")], ids=repr)
def test_discard_refuses_a_reason_that_is_no_text(reason: Any):
    with pytest.raises(TypeError, match=r"^reason must be a text, got a \w+: use str\(...\)$"):
        Discard(reason)
