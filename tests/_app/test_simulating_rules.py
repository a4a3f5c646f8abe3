"""`simulate` under each kind of rule: the figures that follow from it by hand."""

from __future__ import annotations

from typing import Any

import pytest

import qanat
from qanat import (
    Adaptive,
    Balance,
    Batch,
    Budget,
    CircuitBreaker,
    Concurrency,
    Priority,
    Simulation,
    Throttled,
    constant,
)
from qanat.testing import SimulatedServer


def started(simulation: Simulation) -> list[int]:
    return [step.index for step in simulation.trace if step.kind == "start"]


def test_lanes_share_by_their_weights():
    found = qanat.simulate(
        list("aaaaaabb"), latency=1.0, concurrency=1, lane=str, weights={"a": 3}, buffer=8
    )  # fmt: skip
    lanes = ["aaaaaabb"[index] for index in started(found)]
    assert lanes[:4].count("a") == lanes[4:].count("a") == 3


@pytest.mark.parametrize(
    ("rules", "order"),
    [
        ({"order": "deadline", "deadline": lambda item: 10.0 - item}, [3, 2, 1, 0]),
        ({"order": "priority", "priority": lambda item: item % 2}, [0, 2, 1, 3]),
        ({"order": Priority(ageing=0.5), "priority": lambda item: -item}, [3, 2, 1, 0]),
    ],
)
def test_an_order_says_who_is_next(rules: Any, order: list[int]):
    assert started(qanat.simulate(4, latency=1.0, concurrency=1, **rules)) == order


def test_a_shuffle_is_the_same_for_the_same_seed():
    first, again, other = (
        started(qanat.simulate(50, latency=1.0, concurrency=1, order="shuffle", seed=seed))
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert sorted(first) == list(range(50))


def test_a_budget_holds_back_what_costs_too_much():
    found = qanat.simulate(
        40, latency=0.25, concurrency=50, limits=Budget("api", tokens="100/s"), cost=lambda _item: {"tokens": 10}
    )  # fmt: skip
    # Ten start at once, and ten more each second.
    assert found.makespan == 3.25
    assert found.most_running == 10
    assert found.waits.keys() == {"budget"}


def test_an_adaptive_limit_finds_the_knee_of_a_simulated_server():
    server = SimulatedServer(20, latency=0.25, noise=0.1)
    found = qanat.simulate(5000, latency=server.seconds, concurrency=Adaptive(1, 200))
    assert 15.0 < found.busy / found.makespan < 32.0
    assert found.outcomes["done"] == 5000


def test_a_circuit_breaker_opens_and_lets_one_try():
    found = qanat.simulate(
        10, latency=0.5, concurrency=1, limits=CircuitBreaker(3, cooldown=10.0),
        failures=lambda item, _rng, _attempt: OSError() if item < 4 else None,
    )  # fmt: skip
    # The third failure opens it at 1.5, the probe at 11.5 fails, too.
    starts = [step.at for step in found.trace if step.kind == "start"]
    assert starts[:5] == [0.0, 0.5, 1.0, 11.5, 22.0]
    assert found.errors == {"OSError": 4}


def test_a_circuit_breaker_does_without_its_check():
    def check() -> None:
        raise AssertionError("nothing is called in a simulation")

    found = qanat.simulate(
        3, latency=0.5, concurrency=1, limits=CircuitBreaker(1, cooldown=10.0, check=check),
        failures=lambda item, _rng, _attempt: None if item else OSError(),
    )  # fmt: skip
    assert found.makespan == 0.5 + 10.0 + 1.0


def test_a_balance_sends_jobs_to_whom_is_free():
    found = qanat.simulate(
        8, latency=1.0, concurrency=8, limits=Balance({"a": 3, "b": 1}, limits=lambda _target: Concurrency(2))
    )  # fmt: skip
    assert found.most_running == 4
    assert found.makespan == 2.0


def test_a_batch_is_one_call_with_an_end_for_each_job():
    found = qanat.simulate(
        10, latency=lambda items, _rng, _running: 0.5 * len(items), batch=Batch(4), concurrency=1
    )
    assert (found.makespan, found.busy, found.most_running) == (5.0, 5.0, 1)
    assert found.outcomes["done"] == 10
    assert started(found) == [0, 4, 8]
    assert [part.ended for part in found.over_time(2)] == [4, 6]
    assert [part.running for part in found.over_time(2)] == [1.0, 1.0]


def test_each_item_of_a_batch_fails_for_itself():
    found = qanat.simulate(
        8, latency=0.5, batch=Batch(4), concurrency=1, retry=qanat.Retry(1, backoff=constant(0.25)),
        failures=lambda item, _rng, attempt: OSError() if item == 3 and attempt == 1 else None,
    )  # fmt: skip
    assert found.outcomes["done"] == 8
    assert found.retried == 1
    assert started(found) == [0, 4, 3]


def test_a_batch_that_takes_too_long_is_called_in_halves():
    found = qanat.simulate(
        4, latency=lambda items, _rng, _running: 3.0 if 2 in items else 1.0, batch=Batch(4, on_error="split"),
        concurrency=1, timeout=2.0,
    )  # fmt: skip
    assert found.errors == {"JobTimeoutError": 1}
    assert found.outcomes["done"] == 3
    # All four, then two and two, then one and one: only three calls end within the time.
    assert found.makespan == 2.0 + 1.0 + 2.0 + 2.0 + 1.0


def test_a_batch_larger_than_the_buffer_starts_as_it_is():
    found = qanat.simulate(6, latency=1.0, batch=Batch(8), concurrency=1, buffer=3)
    assert started(found) == [0, 3]


def test_throttled_attempts_come_again_when_they_were_told():
    seen: list[int] = []

    def failures(item: int, _rng: Any, _attempt: int) -> Throttled | None:
        seen.append(item)
        return Throttled(4.0) if seen == [0] else None

    found = qanat.simulate(2, latency=0.5, concurrency=1, failures=failures)
    assert found.makespan == 0.5 + 4.0 + 0.5 + 0.5
    assert found.waits == {"throttled": 4.0}
    assert seen == [0, 0, 1]


def test_retries_at_once_are_told_like_others():
    found = qanat.simulate(
        3, latency=0.5, concurrency=1, retry=qanat.Retry(2, backoff=constant(0)),
        failures=lambda item, _rng, attempt: OSError() if item == 1 and attempt < 3 else None,
    )  # fmt: skip
    assert [(step.index, step.attempt) for step in found.trace if step.kind == "start"] == [
        (0, 1), (1, 1), (1, 2), (1, 3), (2, 1),
    ]  # fmt: skip
