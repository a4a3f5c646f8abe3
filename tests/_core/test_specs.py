"""Limits as texts from which they are made again."""

from __future__ import annotations

import pytest

from qanat._core.limit import Limit
from qanat._core.limits import Concurrency, FixedWindow, SlidingWindow, Spacing, TokenBucket
from qanat._core.specs import limit_spec, make_limit
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
    "text", ["", "3", "Concurrency", "open('x')", "os.system('x')", "Concurrency(open('x'))", "Concurrency(n=f())"]
)  # fmt: skip
def test_nothing_else_is_made(text: str):
    with pytest.raises(ValueError, match="is none of our limits with plain values"):
        make_limit(text)
