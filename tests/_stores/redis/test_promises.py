"""The Redis store keeps what every store promises, on a real server whose time the tests move."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from qanat.testing import STORE_PROMISES, check_store
from qanat.testing.store_machine import store_machine

pytestmark = pytest.mark.real


@pytest.mark.parametrize("promise", STORE_PROMISES)
def test_a_promise_of_every_store_is_kept(promise, make_bench):
    check_store(make_bench, only=[promise])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("examples", "steps"), [(25, 50), pytest.param(400, 60, marks=pytest.mark.long, id="many")]
)
def test_random_histories_are_as_in_the_model(make_bench, examples, steps):
    brief = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=examples < 100,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(store_machine(make_bench), settings=brief)
