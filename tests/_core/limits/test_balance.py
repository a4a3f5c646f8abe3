"""`Balance` by itself: whose turn it is among the targets, and what it asks of their limits."""

from __future__ import annotations

from collections import Counter
from math import ceil, inf, nan
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._core.limit import Limit, Refused
from qanat._core.limits import Balance, CircuitBreaker, Concurrency, SlidingWindow, Spacing
from qanat.errors import CircuitOpenError, Discard
from tests._core.dispatcher.world import Until
from tests._core.limits.attempts import CANCELLED, FAULT, a_job, end, start
from tests._core.limits.properties import Ear

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.limit import Signal
    from qanat._core.outcome import Outcome


def choices(balance: Balance, count: int, failing: str = "", error: BaseException = FAULT) -> list[Any]:
    """Run so many attempts one after the other, those at some targets failing; return where they went."""
    chosen: list[Any] = []
    for _ in range(count):
        job = start(balance, 0.0)
        chosen.append(job.target)
        end(balance, job, 0.0, error if job.target in failing.split() else None)
    return chosen


# --- shares --------------------------------------------------------------------------------------


def test_the_shares_are_evenly_mixed():
    assert "".join(choices(Balance({"a": 5, "b": 1, "c": 1}), 14)) == "aabacaa" * 2


def test_equal_weights_take_turns():
    assert choices(Balance({"a": 0.1, "b": 0.1, "c": 0.1}), 7) == list("abcabca")


def test_shares_are_as_the_weights_say():
    weights = {"eu": 3, "us": 1, "asia": 0.7}
    counts = Counter(choices(Balance(weights), 10_000))
    for target, weight in weights.items():
        share = weight / sum(weights.values())
        assert abs(counts[target] / 10_000 - share) <= 0.02 * share


WEIGHTS = st.dictionaries(
    st.integers(0, 9), st.integers(1, 20) | st.floats(0.5, 20.0), min_size=1, max_size=5
)


@settings(max_examples=50, deadline=None)
@given(WEIGHTS)
def test_no_stretch_is_crowded_by_one_target(weights: dict[int, float]):
    chosen = choices(Balance(weights), 120)
    total = sum(weights.values())
    for length in (1, 2, 3, 5, 10, 40, 120):
        for first in range(len(chosen) - length + 1):
            counts = Counter(chosen[first : first + length])
            for target, weight in weights.items():
                assert counts[target] <= 2 * ceil(length * weight / total)


# --- targets that are not ready ------------------------------------------------------------------


def test_a_target_whose_limit_says_no_is_passed_over():
    balance = Balance({"a": 3, "b": 1}, limits={"a": Until(10.0)})
    assert [start(balance, 0.0).target for _ in range(3)] == ["b"] * 3
    assert start(balance, 10.0).target == "a"


def test_if_none_is_ready_the_first_that_will_be_counts():
    balance = Balance(
        {"a": 1, "b": 1, "c": 1}, limits=lambda target: Until({"a": 9.0, "b": 4.0, "c": inf}[target])
    )
    assert balance.ready_at(a_job(), 1.0) == 4.0
    assert start(balance, 4.0).target == "b"


def test_of_several_limits_of_a_target_the_latest_counts():
    balance = Balance({"a": 1}, limits=lambda _: [Until(3.0), Until(7.0), Until(5.0)])
    assert balance.ready_at(a_job(), 1.0) == 7.0


@pytest.mark.parametrize(
    ("limit", "cause"),
    [(Concurrency(1), "concurrency"), (Spacing(5), "spacing"), (SlidingWindow(1, 5), "rate")],
    ids=["concurrency", "spacing", "rate"],
)
def test_what_it_waits_for_is_what_its_target_waits_for(limit: Limit, cause: str):
    balance = Balance({"a": 1}, limits={"a": limit})
    start(balance, 0.0)
    assert balance.ready_at(a_job(), 0.0) > 0.0
    assert balance.cause == cause


def test_it_waits_for_the_cause_of_the_first_target_to_be_ready():
    balance = Balance({"a": 1, "b": 1}, limits={"a": Spacing(9), "b": SlidingWindow(1, 5)})
    start(balance, 0.0)
    start(balance, 0.0)
    assert (balance.ready_at(a_job(), 0.0), balance.cause) == (5.0, "rate")


def test_a_target_that_fails_fast_is_passed_over():
    balance = Balance({"a": 1, "b": 1}, breaker=CircuitBreaker(1, fail_fast=True))
    assert choices(balance, 8, failing="a") == list("abbbbbbb")


def test_if_all_fail_fast_the_job_is_refused():
    balance = Balance({"a": 1, "b": 1}, breaker=CircuitBreaker(1, fail_fast=True))
    choices(balance, 2, failing="a b")
    with pytest.raises(Refused) as caught:
        balance.ready_at(a_job(), 1.0)
    assert isinstance(caught.value.error, CircuitOpenError)


def test_it_waits_for_a_target_that_does_not_refuse():
    balance = Balance({"a": 1, "b": 1}, breaker=CircuitBreaker(1, fail_fast=True), limits={"b": Spacing(5)})
    assert choices(balance, 2, failing="a") == ["a", "b"]
    assert balance.ready_at(a_job(), 1.0) == 5.0


def test_a_limit_that_gives_no_time_is_told_so():
    with pytest.raises(ValueError, match="until.ready_at must return a time, got nan"):
        Balance({"a": 1}, limits={"a": Until(nan)}).ready_at(a_job(), 1.0)


# --- targets that fail ---------------------------------------------------------------------------


def test_a_target_that_fails_gets_less_and_less():
    balance = Balance({"a": 1, "b": 1})
    counts = Counter(choices(balance, 1_000, failing="a"))
    assert 10 <= counts["a"] <= 20


def test_it_gets_its_share_again_when_it_does_well():
    balance = Balance({"a": 1, "b": 1})
    choices(balance, 1_000, failing="a")
    choices(balance, 1_000)
    counts = Counter(choices(balance, 1_000))
    assert abs(counts["a"] - 500) <= 1


def test_if_all_fail_alike_the_shares_are_as_before():
    balance = Balance({"a": 3, "b": 1})
    choices(balance, 200, failing="a b")
    assert Counter(choices(balance, 400, failing="a b")) == {"a": 300, "b": 100}


@pytest.mark.parametrize("error", [Discard(), CANCELLED], ids=["discarded", "cancelled"])
def test_what_says_nothing_about_the_target_changes_no_share(error: BaseException):
    balance = Balance({"a": 1, "b": 1})
    assert choices(balance, 6, failing="a", error=error) == list("ababab")


# --- coming again --------------------------------------------------------------------------------


def test_a_job_that_comes_again_goes_elsewhere():
    balance = Balance({"a": 100, "b": 1})
    job = start(balance, 0.0)
    assert job.target == "a"
    end(balance, job, 0.0, FAULT)
    assert start(balance, 0.0, job).target == "b"


def test_it_goes_there_again_if_no_other_is_ready():
    balance = Balance({"a": 100, "b": 1}, limits={"b": Until(10.0)})
    job = start(balance, 0.0)
    end(balance, job, 0.0, FAULT)
    assert start(balance, 0.0, job).target == "a"


# --- the limits inside ---------------------------------------------------------------------------


class Counting(Limit):
    """Counts what is taken and given back, and fails where it is told to."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.calls: list[str] = []

    def ready_at(self, job: Job[Any], now: float) -> float:
        return now

    def take(self, job: Job[Any], now: float) -> None:
        if self.fails == "take":
            raise LookupError("take")
        self.calls.append("take")

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        self.calls.append("give_back")
        if self.fails == "give_back":
            raise LookupError("give_back")


def test_only_the_chosen_targets_limits_are_taken_and_given_back():
    inside = {"a": [Counting(), Counting()], "b": [Counting()]}
    balance = Balance({"a": 1, "b": 1}, limits=inside)
    job = start(balance, 0.0)
    assert [limit.calls for limit in (*inside["a"], *inside["b"])] == [["take"], ["take"], []]
    end(balance, job, 1.0)
    assert [limit.calls for limit in (*inside["a"], *inside["b"])] == [["take", "give_back"]] * 2 + [[]]


def test_a_take_that_fails_gives_back_what_was_taken_and_chooses_nothing():
    first, second, third = Counting(), Counting("take"), Counting()
    balance = Balance({"a": 1}, limits={"a": [first, second, third]})
    job = a_job()
    with pytest.raises(LookupError):
        balance.take(job, 0.0)
    assert (first.calls, second.calls, third.calls) == (["take", "give_back"], [], [])
    assert (job.target, balance.fresh_at(0.0)) == (None, inf)  # as its limits never say they are fresh
    assert balance._running == 0


def test_a_give_back_that_fails_does_not_keep_the_places_of_the_others():
    first, second = Counting("give_back"), Counting()
    balance = Balance({"a": 1}, limits={"a": [first, second]})
    job = start(balance, 0.0)
    with pytest.raises(LookupError):
        end(balance, job, 0.0)
    assert second.calls == ["take", "give_back"]


def test_a_breaker_is_a_template_for_each_target():
    template = CircuitBreaker(2, cooldown=7)
    balance = Balance({"a": 1, "b": 1}, breaker=template)
    choices(balance, 8, failing="a")
    assert repr(balance) == "<Balance({'a': 1, 'b': 1}): a open, b closed>"
    assert template.state == "closed"


def test_breakers_may_be_made_for_each_target():
    made = {"a": CircuitBreaker(1), "b": CircuitBreaker(100)}
    choices(Balance(made.fromkeys(made, 1), breaker=made.__getitem__), 8, failing="a b")
    assert (made["a"].state, made["b"].state) == ("open", "closed")


def test_all_inside_is_tied_to_the_thread():
    inside, rng = Spacing(1, jitter=1), Random(1)
    balance = Balance({"a": 1}, limits={"a": inside})
    balance.bind(1, rng, 0.25)
    assert (inside.rng, inside.precision, balance.rng) == (rng, 0.25, rng)
    with pytest.raises(RuntimeError, match="Spacing is used by another thread"):
        Balance({"a": 1}, limits={"a": inside}).bind(2, rng)


def test_a_change_inside_is_a_change_for_as_long_as_somebody_listens():
    inside, ear, other = Concurrency(1), Ear(), Ear()
    balance = Balance({"a": 1, "b": 1}, limits={"a": inside})
    balance.listen(ear)
    balance.listen(other)
    inside.resize(2)
    balance.unlisten(other)
    balance.unlisten(other)
    inside.resize(3)
    assert (ear.heard, other.heard) == (2, 1)
    balance.unlisten(ear)
    assert inside._listeners == []


class Hearing(Limit):
    """Writes down what it is told of costs, stand-ins and the machine."""

    def __init__(self, *signals: Signal, currency: str = "tokens", fails: bool = False) -> None:
        self.signals = signals
        self.currency = currency
        self.fails = fails
        self.heard: list[Any] = []

    @property
    def currencies(self) -> list[str]:
        return [self.currency]

    def ready_at(self, job: Job[Any], now: float) -> float:
        return now

    def adjust(self, job: Job[Any], currency: str, delta: float, now: float) -> None:
        self.heard.append((currency, delta))

    def replaced(self, job: Job[Any], held: Job[Any]) -> None:
        self.heard.append((job.id, held.id))
        self._may_fail()

    def wants(self) -> tuple[Signal, ...]:
        return self.signals

    def sense(self, signal: Signal, value: float, now: float) -> None:
        self.heard.append((signal, value))
        self._may_fail()

    def _may_fail(self) -> None:
        if self.fails:
            raise LookupError("told")


def test_costs_and_stand_ins_are_told_to_the_chosen_targets_limits():
    inside = {"a": [Hearing(), Hearing(currency="pages")], "b": [Hearing()]}
    balance = Balance({"a": 1, "b": 1}, limits=inside)
    assert list(balance.currencies) == ["tokens", "pages"]
    job = start(balance, 0.0)
    balance.adjust(job, "tokens", 7.0, 1.0)
    held = a_job(9)
    held.target = job.target
    balance.replaced(job, held)
    balance.adjust(held, "pages", -1.0, 1.0)
    told = [("tokens", 7.0), (0, 9), ("pages", -1.0)]
    assert [limit.heard for limit in (*inside["a"], *inside["b"])] == [told, told, []]


def test_a_stand_in_is_told_to_all_though_one_fails():
    inside = [Hearing(fails=True), Hearing()]
    balance = Balance({"a": 1}, limits={"a": inside})
    job = start(balance, 0.0)
    with pytest.raises(LookupError):
        balance.replaced(job, job)
    assert inside[1].heard == [(0, 0)]


def test_those_that_want_a_signal_hear_it_once_whichever_is_chosen():
    shared, other, none = Hearing("lag", "cpu", fails=True), Hearing("lag"), Hearing()
    balance = Balance({"a": 1, "b": 1}, limits={"a": [shared, none], "b": [shared, other]})
    assert set(balance.wants()) == {"lag", "cpu"}
    with pytest.raises(LookupError):
        balance.sense("lag", 0.5, 1.0)
    with pytest.raises(LookupError):
        balance.sense("cpu", 0.9, 1.0)
    assert (shared.heard, other.heard, none.heard) == ([("lag", 0.5), ("cpu", 0.9)], [("lag", 0.5)], [])


def test_without_limits_inside_it_counts_and_wants_nothing():
    balance = Balance({"a": 1})
    assert (list(balance.currencies), set(balance.wants())) == ([], set())


def test_it_has_the_checks_of_its_breakers():
    balance = Balance({"a": 1, "b": 1}, breaker=CircuitBreaker(check=dict))
    assert len(balance.checked_parts()) == 2
    assert Balance({"a": 1}).checked_parts() == []


def test_it_is_fresh_when_all_inside_is():
    balance = Balance({"a": 1, "b": 1}, limits={"a": Spacing(9), "b": Spacing(5)})
    assert balance.fresh_at(0.0) <= 0.0
    job = start(balance, 0.0)
    assert balance.fresh_at(0.0) == inf
    end(balance, job, 1.0)
    assert balance.fresh_at(1.0) == 9.0


def test_failures_are_remembered_for_a_minute():
    balance = Balance({"a": 1})
    job = start(balance, 3.0)
    end(balance, job, 4.0, FAULT)
    assert balance.fresh_at(5.0) == 64.0


# --- arguments and words -------------------------------------------------------------------------


def five(_: object) -> str:
    return "5/s"


@pytest.mark.parametrize(
    ("weights", "options", "kind", "begins"),
    [
        ({}, {}, ValueError, "weights must name at least one target"),
        (["a"], {}, TypeError, "weights must be a mapping"),
        ({"a": 0}, {}, ValueError, "weights['a'] must be greater than 0, got 0"),
        ({"a": -1}, {}, ValueError, "weights['a'] must be greater than 0"),
        ({"a": nan}, {}, ValueError, "weights['a'] must be a finite number"),
        ({"a": inf}, {}, ValueError, "weights['a'] must be a finite number"),
        ({"a": True}, {}, TypeError, "weights['a'] must be a number"),
        ({"a": "1"}, {}, TypeError, "weights['a'] must be a number"),
        ({None: 1}, {}, ValueError, "weights must not have None as a target"),
        (
            {"a": 1},
            {"limits": {"b": Spacing(1)}},
            ValueError,
            "limits must be for targets that have a weight",
        ),
        ({"a": 1}, {"limits": Spacing(1)}, TypeError, "limits must be a function"),
        ({"a": 1}, {"limits": 5}, TypeError, "limits must be a function"),
        ({"a": 1}, {"limits": {"a": 5}}, TypeError, "limits must give a limit or limits for 'a', got 5"),
        ({"a": 1}, {"limits": five}, TypeError, "limits must give a limit or limits for 'a'"),
        ({"a": 1}, {"breaker": 5}, TypeError, "breaker must be a CircuitBreaker"),
        ({"a": 1}, {"breaker": CircuitBreaker}, TypeError, "breaker must be a CircuitBreaker"),
        (
            {1: 1},
            {"breaker": Spacing},
            TypeError,
            "breaker must give a CircuitBreaker for 1",
        ),
    ],
    ids=range(17),
)
def test_wrong_arguments_are_refused(weights: Any, options: Any, kind: type[Exception], begins: str):
    with pytest.raises(kind) as caught:
        Balance(weights, **options)
    assert str(caught.value).startswith(begins)


def test_it_says_what_it_is():
    balance = Balance({"eu": 3, "us": 0.5}, limits={"eu": Spacing(1)})
    assert (str(balance), repr(balance)) == ("eu 3, us 0.5", "Balance({'eu': 3, 'us': 0.5})")
