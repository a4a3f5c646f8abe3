"""`check_limit`: our own limits keep the promises, and each broken one is found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import pytest

import qanat
from qanat import (
    Adaptive,
    Balance,
    Budget,
    CircuitBreaker,
    Concurrency,
    FixedWindow,
    Limit,
    SlidingWindow,
    Spacing,
    TokenBucket,
)
from qanat.testing import Attempt, check_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@pytest.mark.parametrize(
    "make",
    [
        lambda: Concurrency(1),
        lambda: Concurrency(3),
        lambda: SlidingWindow(2, 1.0),
        lambda: FixedWindow(3, 0.25),
        lambda: TokenBucket(2.0, burst=3),
        lambda: Spacing(0.5),
        lambda: Spacing(0.5, after="finish"),
        lambda: Spacing(0.1, jitter=0.1),
        lambda: CircuitBreaker(2, cooldown=3),
        lambda: CircuitBreaker(1, cooldown=3, window=1, probes=2),
        lambda: CircuitBreaker(2, rate=0.4, window=4, cooldown=1),
        lambda: CircuitBreaker(1, cooldown=3, fail_fast=True),
        lambda: Balance({"a": 1, "b": 2}, breaker=CircuitBreaker(2, cooldown=3)),
        lambda: Budget("service", concurrency=2, requests="3/s"),
        lambda: Adaptive(1, 5),
    ],
    ids=[
        "one",
        "three",
        "sliding",
        "fixed",
        "bucket",
        "spacing",
        "after finish",
        "jitter",
        "breaker",
        "probes",
        "by share",
        "fail fast",
        "balance",
        "budget",
        "adaptive",
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_our_own_limits_keep_the_promises(make: Callable[[], Limit], seed: int):
    check_limit(make, seed=seed)


def test_a_limit_can_be_held_to_exact_times():
    def at_most_two_in_a_second(started: Sequence[Attempt], now: float) -> bool:
        return sum(each.started_at + 1.0 > now for each in started) < 2

    check_limit(lambda: SlidingWindow(2, 1.0), may_start=at_most_two_in_a_second)
    with pytest.raises(AssertionError, match="which may_start forbids"):
        check_limit(lambda: SlidingWindow(3, 1.0), may_start=at_most_two_in_a_second)
    with pytest.raises(AssertionError, match="at which may_start allows a job"):
        check_limit(lambda: SlidingWindow(2, 1.5), may_start=at_most_two_in_a_second)
    with pytest.raises(AssertionError, match="at which may_start allows a job"):
        check_limit(lambda: Concurrency(1), may_start=at_most_two_in_a_second)


class Counting(Limit):
    """Two at once; the broken ones below differ in one thing each."""

    def __init__(self) -> None:
        self.running = 0

    def ready_at(self, job: Any, now: float) -> float:
        return now if self.running < 2 else math.inf

    def take(self, job: Any, now: float) -> None:
        self.running += 1

    def give_back(self, job: Any, outcome: Any, now: float) -> None:
        self.running -= 1
        self.changed()

    def fresh_at(self, now: float) -> float:
        return math.inf if self.running else now


class Silent(Counting):
    def give_back(self, job: Any, outcome: Any, now: float) -> None:
        self.running -= 1


class Leaking(Counting):
    def give_back(self, job: Any, outcome: Any, now: float) -> None:
        if outcome.state != "cancelled":
            super().give_back(job, outcome, now)


class Asked(Counting):
    times = 0

    def ready_at(self, job: Any, now: float) -> float:
        self.times += 1
        return now + self.times


class Spinning(Counting):
    def ready_at(self, job: Any, now: float) -> float:
        return now + 0.001


class Nameless(Counting):
    def ready_at(self, job: Any, now: float) -> float:
        return cast("float", None)


class NotANumber(Counting):
    def ready_at(self, job: Any, now: float) -> float:
        return math.nan


class Raising(Counting):
    def take(self, job: Any, now: float) -> None:
        raise KeyError(job.item)


class NeverNew(Counting):
    most = 2

    def ready_at(self, job: Any, now: float) -> float:
        return now if self.running < self.most else math.inf

    def give_back(self, job: Any, outcome: Any, now: float) -> None:
        super().give_back(job, outcome, now)
        self.most = 1


class NoTime(Counting):
    def fresh_at(self, now: float) -> float:
        return math.nan


class SlowToSayYes(Counting):
    """Names ever later times once it is asked for how it starts anew."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = 0

    def ready_at(self, job: Any, now: float) -> float:
        return now + 1e-3 if self.ended and not self.running else super().ready_at(job, now)

    def give_back(self, job: Any, outcome: Any, now: float) -> None:
        super().give_back(job, outcome, now)
        self.ended += 1


class NoError(Counting):
    def ready_at(self, job: Any, now: float) -> float:
        raise qanat.Refused(cast("Any", "no"))


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (Silent, "without changed()"),
        (Leaking, "jobs wait for ever"),
        (Asked, "asking changed something"),
        (Spinning, "spins"),
        (Nameless, "ready_at must give a time, got None"),
        (NotANumber, "ready_at must give a time, got nan"),
        (Raising, "it raised KeyError: 0"),
        (NeverNew, "fresh_at said"),
        (NoTime, "fresh_at must give a time, got nan"),
        (SlowToSayYes, "spins"),
        (NoError, "Refused must carry an error, got 'no'"),
        (lambda: cast("Any", 7), "must give a qanat.Limit, got 7"),
    ],
)
def test_a_broken_promise_is_named(broken: Callable[[], Limit], problem: str):
    with pytest.raises(AssertionError) as caught:
        check_limit(broken)
    assert problem in str(caught.value)


def test_the_base_of_the_broken_ones_is_whole():
    check_limit(Counting)


def test_the_plan_is_made_short():
    """Three jobs are enough to find that who waits is not told."""
    with pytest.raises(AssertionError) as caught:
        check_limit(Silent)
    assert str(caught.value).count("arrives") == 3
    assert "of seed 0, made short:\n  " in str(caught.value)


def test_refused_jobs_wait_no_more():
    class Even(Counting):
        def ready_at(self, job: Any, now: float) -> float:
            if job.item % 2:
                raise qanat.Refused(ValueError("odd"))
            return super().ready_at(job, now)

    check_limit(Even, items=range(5))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"items": ()}, "^items must have at least one"), ({"plans": 0}, "^plans must be at least 1")],
)
def test_wrong_arguments_are_told(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        check_limit(Counting, **options)


def test_what_makes_nothing_is_told():
    with pytest.raises(TypeError, match="^make must be a function without arguments"):
        check_limit(Concurrency(1))  # type: ignore[arg-type]
