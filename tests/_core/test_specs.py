"""Limits as texts from which they are made again."""

from __future__ import annotations

from random import Random

import pytest

from qanat._core.limit import Limit
from qanat._core.limits import (
    Balance,
    Budget,
    CircuitBreaker,
    Concurrency,
    FixedWindow,
    SlidingWindow,
    Spacing,
    TokenBucket,
)
from qanat._core.specs import limit_spec, make_limit, noted_limit
from tests._core.dispatcher.world import add, job, make


@pytest.mark.parametrize(
    "limit",
    [
        Concurrency(3), SlidingWindow(300, "15m"), FixedWindow(2, 0.25), Spacing(2, after="finish", jitter=0.5),
        TokenBucket(2.5, burst=10),
    ],
    ids=repr,
)  # fmt: skip
def test_a_limit_of_ours_is_made_again(limit: Limit):
    spec = limit_spec(limit, 0.0)
    assert spec == repr(limit)
    assert repr(make_limit(spec)) == spec


def windows(_target: str) -> list[Limit]:
    return [SlidingWindow(2, 1.0), Budget("model", tokens="5/s")]


def test_a_balance_is_made_again_with_the_limits_of_its_targets():
    balance = Balance({"eu": 3, ("us", 1): 1}, limits={"eu": windows("eu")}, breaker=CircuitBreaker(2))
    spec = limit_spec(balance, 0.0)
    assert spec is not None
    again = make_limit(spec)
    assert isinstance(again, Balance)
    assert [repr(limit) for limit in again._inside] == [repr(limit) for limit in balance._inside]
    assert limit_spec(again, 0.0) == spec


def test_a_balance_whose_targets_share_a_limit_is_not():
    shared = Concurrency(1)
    assert limit_spec(Balance({"eu": 3, "us": 1}, limits={"eu": shared, "us": shared}), 0.0) is None


def test_a_balance_with_a_limit_that_is_in_use_is_not_noted():
    used = Concurrency(1)
    used.bind(0, Random())
    assert noted_limit(Balance({"eu": 3}, limits={"eu": Concurrency(1)}), 0.0) is not None
    assert noted_limit(Balance({"eu": 3}, limits={"eu": used}), 0.0) is None


def test_one_that_remembers_something_is_not():
    limit = Spacing(10.0)
    limit.take(job(add(make()), 0), 5.0)
    assert limit_spec(limit, 10.0) is None
    assert limit_spec(limit, 15.0) is not None


def test_one_of_the_users_own_is_not():
    class Concurrency(Limit):
        pass

    class Odd(SlidingWindow):
        pass

    assert limit_spec(Concurrency(), 0.0) is None
    assert limit_spec(Odd(1, 1.0), 0.0) is None


def test_one_whose_text_says_something_else_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(SlidingWindow, "__repr__", lambda _limit: "a window")
    assert limit_spec(SlidingWindow(1, 1.0), 0.0) is None


@pytest.mark.parametrize(
    "text", ["", "3", "Concurrency", "open('x')", "os.system('x')", "Concurrency(open('x'))", "Concurrency(n=f())", "Balance({'a': 1}, limits={'a': (f(),)})",
     "Balance({'a': 1}, limits={**x})"]
)  # fmt: skip
def test_nothing_else_is_made(text: str):
    with pytest.raises(ValueError, match="is none of our limits with plain values"):
        make_limit(text)
