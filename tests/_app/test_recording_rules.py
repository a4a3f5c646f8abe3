"""Recordings of runs under each kind of rule: replayed exactly, or refused."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import (
    Adaptive,
    Balance,
    Budget,
    CircuitBreaker,
    Concurrency,
    Priority,
    SlidingWindow,
    Spacing,
)
from qanat._app.past import Past, simulate_past
from qanat._app.replaying import read_flight
from qanat.testing import replay, virtual_time

if TYPE_CHECKING:
    from pathlib import Path


def fail_some(_item: int, rng: Any, _attempt: int) -> OSError | None:
    return ConnectionError() if rng.random() < 0.25 else None


def record(path: Path, rules: dict[str, Any]) -> qanat.Simulation:
    return qanat.simulate(
        200, latency=lambda _item, rng, _running: 0.1 + rng.random(), failures=fail_some, seed=3, record=path,
        **rules,
    )  # fmt: skip


FROM_FILE: dict[str, Any] = {
    "budget": lambda: {
        "limits": Budget("b", tokens="100/s", requests="20/s", concurrency=7),
        "cost": lambda item: {"tokens": item % 50}, "retry": 2,
    },
    "too dear": lambda: {"limits": Budget("b", tokens="100/s"), "cost": lambda item: item % 120},
    "breaker": lambda: {"limits": CircuitBreaker(2, rate=0.3, window=5, cooldown=3, probes=2), "retry": 1},
    "failing fast": lambda: {"limits": CircuitBreaker(2, cooldown=3, fail_fast=True)},
    "adaptive": lambda: {"concurrency": Adaptive(2, 50, start=5, tolerance=0.25)},
    "balance": lambda: {
        "limits": Balance({"a": 3, "b": 1}, breaker=CircuitBreaker(2, cooldown=2)), "retry": 2,
    },
    "balance with limits": lambda: {
        "limits": Balance({"a": 3, "b": 1}, limits=lambda _: [Concurrency(2), Spacing(0.1, jitter=0.1)]),
    },
    "weights": lambda: {"lane": lambda item: "abc"[item % 3], "weights": {"a": 3, "b": 0.5}, "rate": "10/s"},
    "lanes": lambda: {"lane": lambda item: item % 3, "lane_limits": lambda _lane: CircuitBreaker(3, cooldown=1)},
    "shuffle": lambda: {"order": "shuffle", "lane": lambda item: item % 2, "retry": 1},
    "deadline": lambda: {"order": "deadline", "deadline": lambda item: 100.0 - item},
}  # fmt: skip

WITH_RULES: dict[str, Any] = {
    "adaptive on": lambda: {"concurrency": Adaptive(2, 50, on=OSError)},
    "ageing": lambda: {"order": Priority(ageing=0.25), "priority": lambda item: -item},
}


@pytest.mark.parametrize("name", FROM_FILE)
def test_the_file_is_enough(tmp_path: Path, name: str):
    path = tmp_path / "run.trace"
    record(path, FROM_FILE[name]())
    found = replay(path)
    assert found.difference is None
    assert found.decisions > 100


@pytest.mark.parametrize("name", WITH_RULES)
def test_the_rules_have_to_be_given(tmp_path: Path, name: str):
    path = tmp_path / "run.trace"
    record(path, WITH_RULES[name]())
    with pytest.raises(ValueError, match="with the same rules"):
        replay(path)
    assert replay(path, **WITH_RULES[name]()).difference is None


def test_a_limit_that_lanes_share_is_not_in_the_file(tmp_path: Path):
    def rules() -> dict[str, Any]:
        shared = Concurrency(2)
        return {"lane": lambda item: item % 3, "lane_limits": lambda _lane: shared}

    path = tmp_path / "run.trace"
    record(path, rules())
    with pytest.raises(ValueError, match="lane_limits of the run"):
        replay(path)
    assert replay(path, **rules()).difference is None


class OwnError(Exception):
    """An error of the user's own."""


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"concurrency": Adaptive(1, 5, on=OwnError)}, r"record must be None with Adaptive\(on=OwnError\)"),
        (
            {"limits": Balance({"a": 1}, limits={"a": Adaptive(1, 5, on=UnicodeDecodeError)})},
            r"record must be None with Adaptive\(on=UnicodeDecodeError\)",
        ),
    ],
)
def test_what_could_not_be_replayed_is_refused_at_the_call(rules: Any, message: str):
    with pytest.raises(ValueError, match=message):
        qanat.Rules(record="run.trace", **rules)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_charges_and_priorities_are_replayed(tmp_path: Path, backend: Any):
    path = tmp_path / "run.trace"
    with virtual_time(backend) as virtual:
        virtual.run(run_pool, path)
    found = replay(path)
    assert found.difference is None
    assert found.decisions > 50
    calls = [entry.note[0] for entry in read_flight(path) if entry.kind == 7]
    assert {"charge", "prioritise"} <= set(calls)


async def run_pool(path: Path) -> None:
    async def handler(item: int) -> None:
        await anyio.sleep(0.25)
        qanat.current_job().charge("tokens", item * 3)
        if item % 5 == 0:
            raise OSError

    async with qanat.Pool(
        handler, concurrency=4, order="priority", limits=Budget("b", tokens="100/s"), retry=1, record=path,
        cost=lambda item: {"tokens": item},
    ) as pool:  # fmt: skip
        jobs = [pool.submit(item, priority=item) for item in range(30)]
        await anyio.sleep(0.1)
        assert jobs[29].prioritise(-1.0)
        assert not jobs[0].prioritise(5.0)


@pytest.mark.real
async def test_what_goes_on_in_a_thread_is_replayed_with_its_error(tmp_path: Path):
    path = tmp_path / "run.trace"

    def handler(item: int) -> None:
        qanat.current_job().charge("tokens", 5)
        time.sleep(0.1 if item < 2 else 0.0)

    await qanat.collect(
        handler, range(6), concurrency=2, timeout=0.02, record=path,
        limits=[Budget("b", tokens="1000/s"), CircuitBreaker(1, cooldown=0.05)],
    )  # fmt: skip
    assert replay(path).difference is None


def test_a_plan_goes_by_weights_costs_and_deadlines(tmp_path: Path):
    path = tmp_path / "run.trace"
    seen = qanat.simulate(
        60, latency=0.5, concurrency=2, lane=lambda item: "ab"[item % 2], weights={"a": 3.0},
        order="deadline", deadline=lambda item: 60.0 - item, cost=lambda item: {"tokens": item},
        limits=Budget("b", tokens="200/s"), record=path,
    )  # fmt: skip
    past = Past(read_flight(path))
    assert past.rules.weights == {"a": 3.0, "b": 1.0}
    for _ in range(2):
        # Each time with limits that know nothing of the time before.
        found = simulate_past(past, past.rules, past.items, 0)
        assert found.trace == seen.trace


@pytest.mark.parametrize("limit", [Adaptive(2, 9, start=3), Concurrency(3)], ids=str)
def test_a_plan_goes_by_what_counts_the_slots(tmp_path: Path, limit: Any):
    path = tmp_path / "run.trace"
    seen = qanat.simulate(60, latency=0.5, concurrency=limit, rate=SlidingWindow(5, 1.0), record=path)
    past = Past(read_flight(path))
    found = [simulate_past(past, past.rules, past.items, 0) for _ in range(2)]
    assert found[0].trace == found[1].trace == seen.trace
