"""`check_store`: our own store in memory keeps the promises, and each broken one is found."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from qanat.testing import STORE_PROMISES, check_store, memory_store
from qanat.testing.store_machine import store_machine
from tests.testing.store_mutants import MUTANTS, planted

BRIEF = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=True,
    report_multiple_bugs=False,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
FOUND = (
    "tokens are not looked at",
    "tokens count for each job alone",
    "a release counts",
    "rescue takes live leases",
    "rescue raises attempts",
    "keys are never let go",
    "keys are let go too early",
    "the last put is first",
    "batches sent twice act twice",
    "cancelling a leased job ends it",
    "counts forget what is gone",
)
"""Faults that a few random histories meet; the others need many."""
OUT_OF_REACH = {
    "bad jobs are found late",
    "what is fixed may change",
    "a tree ends by recursion",
    "age is counted without the delay",
}
"""Faults that no random history meets: it puts no bad jobs, changes no settings, builds no deep trees,
and seldom retries a job at the very edge of its age."""


@pytest.mark.parametrize("promise", STORE_PROMISES)
def test_the_store_in_memory_keeps_its_promises(promise):
    check_store(memory_store, only=[promise])


@pytest.mark.parametrize("name", MUTANTS)
def test_a_store_with_a_fault_breaks_a_promise(name):
    with planted(name), pytest.raises(AssertionError):
        check_store(memory_store)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_a_random_history_finds_the_fault(name):
    with planted(name), pytest.raises(Exception):  # noqa: B017, PT011 - a fault may show as any error
        run_state_machine_as_test(store_machine(memory_store), settings=BRIEF)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [name for name in MUTANTS if name not in {*FOUND, *OUT_OF_REACH}])
def test_one_of_many_random_histories_finds_the_fault(name):
    with planted(name), pytest.raises(Exception):  # noqa: B017, PT011 - a fault may show as any error
        run_state_machine_as_test(store_machine(memory_store), settings=settings(BRIEF, max_examples=1500))


@pytest.mark.slow
def test_random_histories_of_the_store_in_memory():
    run_state_machine_as_test(
        store_machine(memory_store), settings=settings(BRIEF, max_examples=25, stateful_step_count=40)
    )


@pytest.mark.long
@pytest.mark.timeout(300)
def test_many_random_histories_of_the_store_in_memory():
    run_state_machine_as_test(
        store_machine(memory_store),
        settings=settings(BRIEF, derandomize=False, max_examples=400, stateful_step_count=60),
    )


def test_what_is_no_promise_is_refused():
    with pytest.raises(ValueError, match="^only must name promises of STORE_PROMISES, got 'x'$"):
        check_store(memory_store, only=["x"])


def test_what_is_no_bench_is_refused():
    with pytest.raises(TypeError, match=r"^make\(\) must give a StoreBench, got 7$"):
        check_store(cast("Any", lambda: 7))
