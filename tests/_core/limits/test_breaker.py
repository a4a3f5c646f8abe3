"""`CircuitBreaker` by itself: what opens it, what it lets through, what closes it."""

from __future__ import annotations

import pickle
from functools import partial
from math import inf, nan
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.checks import Checker
from qanat._core.limit import Refused
from qanat._core.limits import CircuitBreaker
from qanat.errors import (
    CircuitOpenError,
    Discard,
    JobCancelledError,
    JobDiscardedError,
    JobTimeoutError,
    RetryLater,
    Throttled,
)
from tests._core.limits.attempts import CANCELLED, FAULT, a_job, attempt, end, outcome_of, start
from tests._core.limits.properties import Ear

if TYPE_CHECKING:
    from qanat._core.checks import Checked
    from qanat._core.job import Job


def state(breaker: CircuitBreaker) -> str:
    """Its state, as a text of which a type checker knows nothing from before."""
    return breaker.state


def opened(at: float = 0.0, **options: Any) -> CircuitBreaker:
    """A breaker that opened at a time because one of so many failed."""
    breaker = CircuitBreaker(1, **options)
    attempt(breaker, at, FAULT)
    assert state(breaker) == "open"
    return breaker


def asked(breaker: CircuitBreaker, now: float) -> float:
    return breaker.ready_at(a_job(), now)


# --- what opens it -------------------------------------------------------------------------------


def test_it_is_closed_at_first():
    breaker = CircuitBreaker()
    assert (state(breaker), asked(breaker, 3.0)) == ("closed", 3.0)


def test_so_many_failures_in_a_row_open_it():
    breaker = CircuitBreaker(3)
    attempt(breaker, 0.0, FAULT, FAULT)
    assert state(breaker) == "closed"
    attempt(breaker, 1.0, FAULT)
    assert (state(breaker), asked(breaker, 1.0)) == ("open", 31.0)


def test_a_success_in_between_begins_the_row_anew():
    breaker = CircuitBreaker(3)
    attempt(breaker, 0.0, FAULT, FAULT, None, FAULT, FAULT)
    assert state(breaker) == "closed"


@pytest.mark.parametrize(
    "error",
    [
        Throttled(),
        RetryLater(),
        Discard("no such page"),
        JobDiscardedError("gone"),
        JobCancelledError("elsewhere"),
        CANCELLED,
    ],
    ids=str,
)
def test_what_says_nothing_neither_opens_it_nor_begins_the_row_anew(error: BaseException):
    breaker = CircuitBreaker(2)
    attempt(breaker, 0.0, *[error] * 5, FAULT, error)
    assert state(breaker) == "closed"
    attempt(breaker, 0.0, FAULT)
    assert state(breaker) == "open"


def test_a_timeout_is_a_failure():
    breaker = CircuitBreaker(1)
    attempt(breaker, 0.0, JobTimeoutError(1.0))
    assert state(breaker) == "open"


def test_a_share_of_failures_opens_it_once_there_are_so_many_of_them():
    breaker = CircuitBreaker(3, rate=0.5)
    attempt(breaker, 0.0, FAULT, FAULT)
    assert state(breaker) == "closed"
    attempt(breaker, 0.0, None, None, None, FAULT)
    assert state(breaker) == "open"


def test_a_lower_share_does_not_open_it():
    breaker = CircuitBreaker(3, rate=0.5)
    attempt(breaker, 0.0, None, None, None, None, None, *[FAULT] * 4)
    assert state(breaker) == "closed"
    attempt(breaker, 0.0, FAULT)
    assert state(breaker) == "open"


def test_failures_that_left_the_window_are_forgotten():
    breaker = CircuitBreaker(2, rate=0.5, window=10)
    attempt(breaker, 0.0, FAULT)
    attempt(breaker, 10.0, FAULT)
    assert state(breaker) == "closed"
    attempt(breaker, 19.0, FAULT)
    assert state(breaker) == "open"


def test_successes_that_left_the_window_are_forgotten():
    breaker = CircuitBreaker(2, rate=0.9, window=10)
    attempt(breaker, 0.0, *[None] * 100)
    attempt(breaker, 5.0, FAULT)
    attempt(breaker, 9.0, FAULT)
    assert state(breaker) == "closed"
    attempt(breaker, 10.0, FAULT)
    assert state(breaker) == "open"


def test_with_a_share_a_row_does_not_open_it():
    breaker = CircuitBreaker(3, rate=0.9)
    attempt(breaker, 0.0, None, *[FAULT] * 8)
    assert state(breaker) == "closed"
    attempt(breaker, 0.0, FAULT)
    assert state(breaker) == "open"


def test_after_it_was_open_it_counts_anew():
    breaker = CircuitBreaker(3, rate=0.5)
    attempt(breaker, 0.0, *[FAULT] * 3)
    attempt(breaker, 30.0, None)
    attempt(breaker, 30.0, FAULT, FAULT)
    assert state(breaker) == "closed"


# --- open ----------------------------------------------------------------------------------------


def test_nothing_starts_before_the_cooldown_is_over():
    breaker = opened(1.0, cooldown=10)
    assert [asked(breaker, now) for now in (1.0, 10.999, 11.0)] == [11.0, 11.0, 11.0]
    assert state(breaker) == "open"


def test_whoever_fails_fast_is_refused_with_the_time():
    breaker = opened(1.0, cooldown=10, fail_fast=True)
    with pytest.raises(Refused) as caught:
        asked(breaker, 5.0)
    error = caught.value.error
    assert isinstance(error, CircuitOpenError)
    assert (error.limit, error.until) == ("1 failure, open", 11.0)
    assert str(error) == "the circuit breaker lets nothing start (1 failure, open)"
    assert asked(breaker, 11.0) == 11.0


def test_the_error_crosses_processes():
    error = pickle.loads(pickle.dumps(CircuitOpenError("limit", 3.0)))  # noqa: S301 - our own
    assert (error.limit, error.until) == ("limit", 3.0)


def test_answers_to_what_began_before_it_opened_count_for_nothing():
    breaker = CircuitBreaker(1, cooldown=10)
    early = [start(breaker, 0.0) for _ in range(5)]
    end(breaker, early[0], 1.0, FAULT)
    end(breaker, early[1], 5.0, FAULT)
    end(breaker, early[2], 6.0)
    assert (state(breaker), asked(breaker, 6.0)) == ("open", 11.0)
    probe = start(breaker, 11.0)
    end(breaker, early[3], 12.0, FAULT)
    assert (state(breaker), asked(breaker, 12.0)) == ("half-open", inf)
    end(breaker, probe, 13.0)
    end(breaker, early[4], 14.0, FAULT)
    assert state(breaker) == "closed"


def test_what_began_at_the_very_instant_of_opening_counts_for_nothing():
    breaker = CircuitBreaker(1)
    first, second = start(breaker, 0.0), start(breaker, 0.0)
    end(breaker, first, 0.0, FAULT)
    end(breaker, second, 0.0)
    assert (state(breaker), breaker.fresh_at(0.0)) == ("open", 90.0)


# --- half-open -----------------------------------------------------------------------------------


def test_one_probe_is_let_through():
    breaker = opened(cooldown=10)
    start(breaker, 10.0)
    assert (state(breaker), asked(breaker, 10.0)) == ("half-open", inf)


def test_so_many_probes_are_let_through_and_all_must_do_well():
    breaker = opened(cooldown=10, probes=2)
    first, second = start(breaker, 10.0), start(breaker, 10.0)
    assert asked(breaker, 10.0) == inf
    end(breaker, first, 11.0)
    # One was good, one runs: that is two.
    assert (state(breaker), asked(breaker, 11.0)) == ("half-open", inf)
    end(breaker, second, 12.0)
    assert state(breaker) == "closed"


def test_a_failing_probe_opens_it_for_another_cooldown():
    breaker = opened(cooldown=10)
    attempt(breaker, 12.0, FAULT)
    assert (state(breaker), asked(breaker, 12.0)) == ("open", 22.0)


def test_the_second_of_two_failing_probes_does_not_lengthen_it():
    breaker = opened(cooldown=10, probes=2)
    first, second = start(breaker, 10.0), start(breaker, 10.0)
    end(breaker, first, 11.0, FAULT)
    end(breaker, second, 15.0, FAULT)
    assert asked(breaker, 15.0) == 21.0


def test_a_probe_that_hangs_holds_no_place_after_the_next_opening():
    breaker = opened(cooldown=10, probes=2)
    start(breaker, 10.0)
    end(breaker, start(breaker, 10.0), 10.0, FAULT)
    attempt(breaker, 20.0, None, None)
    assert state(breaker) == "closed"


@pytest.mark.parametrize("error", [CANCELLED, Throttled(), Discard()], ids=["cancelled", "throttled", "none"])
def test_a_probe_that_says_nothing_gives_its_place_back(error: BaseException):
    breaker, ear = opened(cooldown=10), Ear()
    breaker.listen(ear)
    probe = start(breaker, 10.0)
    end(breaker, probe, 11.0, error)
    assert (state(breaker), asked(breaker, 11.0), ear.heard) == ("half-open", 11.0, 1)


def test_a_probe_whose_start_failed_at_another_limit_gives_its_place_back():
    breaker = opened(cooldown=10)
    job = a_job()
    breaker.take(job, 10.0)
    breaker.give_back(job, outcome_of(job, 10.0, FAULT, "dead", None), 10.0)
    assert (state(breaker), asked(breaker, 10.0)) == ("half-open", 10.0)


def test_whoever_fails_fast_is_refused_while_no_probe_was_good():
    breaker = opened(cooldown=10, fail_fast=True, probes=2)
    first = start(breaker, 10.0)
    start(breaker, 10.0)
    with pytest.raises(Refused) as caught:
        asked(breaker, 10.0)
    error = caught.value.error
    assert isinstance(error, CircuitOpenError)
    assert error.until is None
    end(breaker, first, 11.0)
    assert asked(breaker, 11.0) == inf


# --- closing -------------------------------------------------------------------------------------


def steps(breaker: CircuitBreaker, now: float) -> list[int]:
    """How many start at once, second by second, if all do well: eight steps at most, twenty at once."""
    counts: list[int] = []
    for step in range(8):
        jobs: list[Job[Any]] = []
        while len(jobs) < 20 and asked(breaker, now + step) <= now + step:
            jobs.append(start(breaker, now + step))
        counts.append(len(jobs))
        for job in jobs:
            end(breaker, job, now + step + 1.0)
    return counts


@pytest.mark.parametrize(
    ("running", "probes", "expected"),
    [
        (1, 1, [1, 20, 20, 20, 20, 20, 20, 20]),
        (4, 1, [1, 2, 4, 20, 20, 20, 20, 20]),
        (10, 1, [1, 2, 4, 8, 20, 20, 20, 20]),
        (10, 3, [3, 6, 20, 20, 20, 20, 20, 20]),
    ],
    ids=["one", "four", "ten", "ten with three probes"],
)
def test_it_closes_in_steps_until_as_many_run_as_before(running: int, probes: int, expected: list[int]):
    breaker = CircuitBreaker(1, cooldown=10, probes=probes)
    jobs = [start(breaker, 0.0) for _ in range(running)]
    for job in jobs:
        end(breaker, job, 1.0, FAULT)
    assert steps(breaker, 11.0) == expected


def test_failures_between_the_steps_open_it_by_the_usual_count():
    breaker = CircuitBreaker(2, cooldown=10)
    for job in [start(breaker, 0.0) for _ in range(10)]:
        end(breaker, job, 1.0, FAULT)
    attempt(breaker, 11.0, None, FAULT)
    assert state(breaker) == "closed"
    attempt(breaker, 12.0, FAULT)
    assert (state(breaker), asked(breaker, 12.0)) == ("open", 22.0)
    # It still knows how many ran when it first opened.
    assert steps(breaker, 22.0)[:4] == [1, 2, 4, 8]


def test_those_who_wait_hear_of_each_change():
    breaker, ear = CircuitBreaker(1, cooldown=10), Ear()
    breaker.listen(ear)
    first, second = start(breaker, 0.0), start(breaker, 0.0)
    end(breaker, first, 1.0, FAULT)
    end(breaker, second, 1.0, FAULT)
    assert ear.heard == 0  # nobody was ever refused
    probe = start(breaker, 11.0)
    end(breaker, probe, 12.0, FAULT)
    assert ear.heard == 1  # from infinity to a time
    attempt(breaker, 22.0, None)
    assert ear.heard == 2


# --- as good as new ------------------------------------------------------------------------------


def test_it_is_fresh_while_nothing_happened():
    breaker = CircuitBreaker()
    assert breaker.fresh_at(5.0) == 5.0
    job = start(breaker, 5.0)
    assert breaker.fresh_at(5.0) == inf
    end(breaker, job, 6.0)
    assert breaker.fresh_at(6.0) == 6.0


def test_failures_are_remembered_for_a_window():
    breaker = CircuitBreaker(window=60)
    attempt(breaker, 5.0, FAULT)
    assert breaker.fresh_at(6.0) == 65.0


def test_an_open_one_is_remembered_for_a_window_after_its_cooldown():
    breaker = opened(5.0, cooldown=100, window=60)
    assert breaker.fresh_at(6.0) == 165.0
    job = start(breaker, 105.0)
    assert breaker.fresh_at(105.0) == inf
    end(breaker, job, 110.0, FAULT)
    assert breaker.fresh_at(110.0) == 270.0


def test_left_alone_until_it_is_fresh_it_starts_as_many_as_a_new_one():
    breaker = opened(cooldown=10, window=60)
    for _ in range(3):
        start(breaker, 70.0)
    assert (state(breaker), asked(breaker, 70.0)) == ("closed", 70.0)


def test_left_alone_it_counts_its_failures_anew():
    breaker = CircuitBreaker(2, window=60)
    attempt(breaker, 0.0, FAULT)
    attempt(breaker, 60.0, FAULT)
    assert state(breaker) == "closed"
    attempt(breaker, 119.0, FAULT)
    assert state(breaker) == "open"


def test_it_remembers_while_a_job_runs():
    breaker = CircuitBreaker(1, cooldown=10, window=60)
    hung, failing = start(breaker, 0.0), start(breaker, 0.0)
    end(breaker, failing, 1.0, FAULT)
    start(breaker, 500.0)
    assert (state(breaker), asked(breaker, 500.0)) == ("half-open", inf)
    end(breaker, hung, 500.0)


def test_after_bad_checks_it_remembers_from_the_last_one_on():
    breaker = opened(cooldown=10, window=60, check=well)
    breaker.add_checker(Asked())
    for at in range(10, 200, 10):
        breaker.check_ended(False, float(at))
    breaker.check_ended(True, 200.0)
    start(breaker, 200.0)
    assert (state(breaker), asked(breaker, 200.0)) == ("half-open", inf)


# --- the check -----------------------------------------------------------------------------------


class Asked(Checker):
    """Whoever would call the check."""

    def __init__(self) -> None:
        self.heard = 0

    def check_wanted(self, limit: Checked) -> None:
        self.heard += 1


def well() -> bool:
    return True


def test_without_anybody_to_call_it_the_cooldown_counts():
    breaker = opened(cooldown=10, check=well)
    assert asked(breaker, 10.0) == 10.0
    start(breaker, 10.0)
    assert state(breaker) == "half-open"


def test_whoever_can_call_it_is_asked_when_it_opens():
    breaker, checker = CircuitBreaker(1, cooldown=10, check=well), Asked()
    breaker.add_checker(checker)
    assert (checker.heard, breaker.check_due_at) == (0, inf)
    attempt(breaker, 0.0, FAULT)
    assert (checker.heard, breaker.check_due_at) == (1, 10.0)
    # Until the end of the cooldown the time is known, from then on only the check helps.
    assert [asked(breaker, 0.0), asked(breaker, 10.0)] == [10.0, inf]


def test_a_good_check_makes_it_half_open():
    breaker, ear = opened(cooldown=10, check=well), Ear()
    breaker.add_checker(Asked())
    breaker.listen(ear)
    breaker.check_ended(True, 10.5)
    assert (state(breaker), breaker.check_due_at, ear.heard) == ("half-open", inf, 1)
    attempt(breaker, 11.0, None)
    assert state(breaker) == "closed"


def test_a_bad_check_keeps_it_open_for_another_cooldown():
    breaker, ear = opened(cooldown=10, check=well), Ear()
    breaker.add_checker(Asked())
    breaker.listen(ear)
    breaker.check_ended(False, 10.5)
    assert (state(breaker), breaker.check_due_at, asked(breaker, 11.0), ear.heard) == ("open", 20.5, 20.5, 1)


def test_a_check_that_comes_too_late_changes_nothing():
    breaker = opened(cooldown=10, check=well)
    probe = start(breaker, 10.0)
    breaker.check_ended(False, 11.0)
    end(breaker, probe, 12.0)
    breaker.check_ended(True, 13.0)
    assert state(breaker) == "closed"


def test_whoever_comes_to_an_open_one_is_asked_at_once():
    breaker, first, second = opened(cooldown=10, check=well), Asked(), Asked()
    breaker.add_checker(first)
    breaker.add_checker(second)
    assert (first.heard, second.heard) == (1, 0)


def test_the_next_one_is_asked_when_the_first_leaves():
    breaker, ear, first, second = opened(cooldown=10, check=well), Ear(), Asked(), Asked()
    breaker.add_checker(first)
    breaker.add_checker(second)
    breaker.listen(ear)
    breaker.remove_checker(first)
    breaker.remove_checker(first)
    assert (second.heard, asked(breaker, 10.0)) == (1, inf)
    breaker.remove_checker(second)
    assert (asked(breaker, 10.0), ear.heard) == (10.0, 2)


def test_one_who_leaves_unasked_changes_nothing():
    breaker, ear, first, second = opened(cooldown=10, check=well), Ear(), Asked(), Asked()
    breaker.listen(ear)
    breaker.add_checker(first)
    breaker.add_checker(second)
    breaker.remove_checker(second)
    assert (first.heard, ear.heard) == (1, 0)


def test_whoever_fails_fast_is_refused_until_the_check_was_good():
    breaker = opened(cooldown=10, check=well, fail_fast=True)
    breaker.add_checker(Asked())
    with pytest.raises(Refused) as caught:
        asked(breaker, 12.0)
    assert isinstance(caught.value.error, CircuitOpenError)
    assert caught.value.error.until is None
    breaker.check_ended(True, 13.0)
    assert asked(breaker, 13.0) == 13.0


def test_only_one_with_a_check_is_to_be_checked():
    breaker = CircuitBreaker(check=well)
    assert list(breaker.checked_parts()) == [breaker]
    assert breaker.check is well
    assert list(CircuitBreaker().checked_parts()) == []


# --- arguments and words -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "begins"),
    [
        ({"failures": 0}, ValueError, "failures must be at least 1, got 0"),
        ({"failures": 2.0}, TypeError, "failures must be a whole number"),
        ({"failures": True}, TypeError, "failures must be"),
        ({"rate": 0}, ValueError, "rate must be a share"),
        ({"rate": 1.5}, ValueError, "rate must be a share"),
        ({"rate": nan}, ValueError, "rate must be a finite number"),
        ({"rate": "50%"}, TypeError, "rate must be a number"),
        ({"window": 0}, ValueError, "window must be greater than 0"),
        ({"cooldown": -1}, ValueError, "cooldown must be greater than 0"),
        ({"cooldown": inf}, ValueError, "cooldown must be a finite number"),
        ({"probes": 0}, ValueError, "probes must be at least 1"),
        ({"fail_fast": 1}, TypeError, "fail_fast must be True or False, got 1"),
        ({"check": "ping"}, TypeError, "check must be a function without arguments"),
        ({"check": str.join}, TypeError, "check must be a function without arguments"),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused(options: dict[str, Any], kind: type[Exception], begins: str):
    with pytest.raises(kind) as caught:
        CircuitBreaker(**options)
    assert str(caught.value).startswith(begins)


def test_a_coroutine_in_place_of_a_function_is_refused_and_closed():
    async def ping() -> bool:
        return True

    made: Any = ping()
    with pytest.raises(TypeError, match="pass the function, not what it returns"):
        CircuitBreaker(check=made)
    assert made.cr_frame is None


def test_a_function_that_does_not_say_what_it_takes_will_do():
    assert CircuitBreaker(check=partial(max, 1, 2)).check is not None
    assert CircuitBreaker(check=dict).check is dict


@pytest.mark.parametrize(
    ("breaker", "text", "representation"),
    [
        (
            CircuitBreaker(),
            "5 failures in a row, closed",
            "<CircuitBreaker(5, cooldown=30): closed>",
        ),
        (
            CircuitBreaker(7, rate=0.25, window=120, cooldown=0.5),
            "0.25 of 2m failing, closed",
            "<CircuitBreaker(7, rate=0.25, window=120, cooldown=0.5): closed>",
        ),
    ],
    ids=["row", "share"],
)
def test_it_says_what_it_is_and_how_it_stands(breaker: CircuitBreaker, text: str, representation: str):
    assert (str(breaker), repr(breaker)) == (text, representation)


def test_another_one_with_the_same_settings_is_as_good_as_new():
    breaker = opened(rate=0.5, window=5, cooldown=7, probes=2, fail_fast=True, check=well)
    other = breaker.anew()
    assert (state(other), other.check) == ("closed", well)
    attempt(other, 0.0, FAULT)
    with pytest.raises(Refused):
        asked(other, 6.9)
    start(other, 7.0)
    start(other, 7.0)
    with pytest.raises(Refused):
        asked(other, 7.0)
