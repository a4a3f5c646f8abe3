"""Recordings of batches, and of limits whose checks answer from outside."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qanat
from qanat import Balance, Batch, Budget, CircuitBreaker, Retry, Spacing
from qanat._app.past import Past, simulate_past
from qanat._app.replaying import read_flight
from qanat._core.dispatcher.gathering import Gathering
from qanat._core.flight import CALL
from qanat.testing import replay, virtual_time

if TYPE_CHECKING:
    from pathlib import Path


def calls_in(path: Path) -> set[str]:
    return {entry.note[0] for entry in read_flight(path) if entry.kind == CALL}


def fails(item: int, rng: Any, attempt: int) -> Exception | None:
    found = rng.random()
    if found > 0.4:
        return None
    return [OSError(), qanat.Throttled(1.0), qanat.RetryLater(0.25), qanat.Discard(), ValueError()][item % 5]


@given(
    seed=st.integers(0, 99), size=st.integers(1, 9), within=st.sampled_from([None, 0.0, 0.5]),
    max_cost=st.sampled_from([None, 4.0]), lanes=st.integers(0, 3), retry=st.integers(0, 2),
    timeout=st.sampled_from([None, 0.5]), buffer=st.sampled_from([3, 1000]),
    order=st.sampled_from(["fifo", "lifo", "priority", "shuffle"]), rate=st.sampled_from([None, "3/s"]),
    own=st.booleans(),
)  # fmt: skip
@settings(max_examples=80)
def test_whatever_the_batches_a_simulation_is_replayed(
    tmp_path_factory, seed, size, within, max_cost, lanes, retry, timeout, buffer, order, rate, own
):
    path = tmp_path_factory.mktemp("flight") / "run.trace"
    seen = qanat.simulate(
        40, latency=lambda _items, rng, _running: rng.random(), failures=fails, seed=seed, record=path,
        batch=Batch(size, within=within, max_cost=max_cost), concurrency=2, rate=rate, timeout=timeout,
        retry=Retry(retry, when=lambda error, _attempt: isinstance(error, OSError), backoff=lambda n: n / 4),
        order=order, lane=(lambda item: item % lanes) if lanes else None, limits=Spacing(0.01, jitter=0.1),
        cost=(lambda item: 1.0 + item % 3) if own else None, buffer=buffer,
    )  # fmt: skip
    found = replay(path)
    assert found.difference is None
    assert seen.items == 40


async def run_pool(path: Path, on_error: Any) -> None:
    calls = 0

    async def handler(items: list[int]) -> Any:
        nonlocal calls
        calls += 1
        await anyio.sleep(0.25)
        qanat.current_job().charge("tokens", 7 * len(items))
        if calls % 4 == 0:
            return "no answer"
        if calls % 3 == 0:
            raise OSError
        return [ValueError() if item % 7 == 3 else item for item in items]

    async with qanat.Pool(
        handler, concurrency=2, limits=Budget("b", tokens="500/s"), retry=Retry(2, backoff=lambda n: n / 8),
        record=path, batch=Batch(4, within=2.0, on_error=on_error), cost=lambda item: {"tokens": 1 + item % 4},
        order="priority",
    ) as pool:  # fmt: skip
        jobs = [
            pool.submit(item, priority=item % 5, timeout=0.2 if item == 30 else None) for item in range(33)
        ]
        await anyio.sleep(0.1)
        assert jobs[0].cancel()
        assert jobs[32].prioritise(-1.0)
        assert jobs[29].cancel()
        await pool.drain()
        for item in range(3):
            pool.submit(item)


@pytest.mark.parametrize("on_error", ["fail", "split"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_batches_of_a_pool_are_made_once_more(tmp_path: Path, backend: Any, on_error: str):
    path = tmp_path / "run.trace"
    with virtual_time(backend) as virtual:
        virtual.run(run_pool, path, on_error)
    found = replay(path)
    assert found.difference is None
    assert {"batch", "finish_batch", "hurry", "cancel", "charge", "prioritise"} <= calls_in(path)


def test_a_source_that_cannot_fill_a_batch_is_recorded(tmp_path: Path):
    path = tmp_path / "run.trace"
    qanat.simulate(9, latency=1.0, batch=Batch(8), concurrency=1, buffer=3, record=path)
    assert "squeeze" in calls_in(path)
    assert replay(path).difference is None


def test_another_batch_is_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "run.trace"
    qanat.simulate(9, latency=1.0, batch=Batch(3), record=path)
    assert replay(path).difference is None
    monkeypatch.setattr(Gathering, "is_full", property(lambda _: False))
    found = replay(path)
    assert found.difference is not None
    assert "start job 0: recorded 0, now nothing" in found.difference


def test_nothing_is_planned_from_how_long_batches_took(tmp_path: Path):
    path = tmp_path / "run.trace"
    qanat.simulate(9, latency=1.0, batch=Batch(3), record=path)
    with pytest.raises(ValueError, match="the run was in batches"):
        Past(read_flight(path))


@pytest.mark.real
async def test_a_batch_that_goes_on_in_a_thread_is_replayed(tmp_path: Path):
    path = tmp_path / "run.trace"

    def handler(items: list[int]) -> list[int]:
        qanat.current_job().charge("tokens", 5)
        time.sleep(1.0 if 0 in items else 0.0)
        return items

    # Long enough for a thread to begin on a busy machine.
    await qanat.collect(
        handler, range(6), concurrency=2, timeout=0.4, record=path, batch=Batch(2), retry=1,
        limits=[Budget("b", tokens="1000/s"), CircuitBreaker(3, cooldown=0.05)],
    )  # fmt: skip
    assert {"hold", "release"} <= calls_in(path)
    assert replay(path).difference is None


# --- checks --------------------------------------------------------------------------------------


def checked(answers: list[bool]) -> CircuitBreaker:
    async def check() -> bool:
        await anyio.sleep(0.125)
        return answers.pop(0) if answers else True

    return CircuitBreaker(2, cooldown=1.0, check=check)


async def run_checked(path: Path, rules: dict[str, Any]) -> list[str]:
    begun = anyio.current_time()

    async def handler(_item: int) -> None:
        await anyio.sleep(0.5)
        if anyio.current_time() - begun < 4.0:
            raise OSError

    outcomes = await qanat.collect(
        handler, range(24), concurrency=4, retry=Retry(8, backoff=qanat.constant(0.25)), record=path, **rules
    )
    return [outcome.state for outcome in outcomes]


CHECKED: dict[str, Any] = {
    "beside": lambda: {"limits": checked([False, False, True, False])},
    "lanes": lambda: {"lane": lambda item: item % 3, "lane_limits": lambda lane: checked([False] * lane)},
    "batches": lambda: {"limits": checked([False]), "batch": Batch(3)},
}


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_checks_say_is_replayed_from_the_file(tmp_path: Path, backend: Any, name: str):
    path = tmp_path / "run.trace"

    rules = CHECKED[name]()
    if "batch" in rules:

        async def main() -> list[str]:
            return await run_in_batches(path, rules)
    else:

        async def main() -> list[str]:
            return await run_checked(path, rules)

    with virtual_time(backend) as virtual:
        states = virtual.run(main)
    assert set(states) == {"done"}
    assert {"checks", "checked"} <= calls_in(path)
    found = replay(path)
    assert found.difference is None
    assert found.decisions > 20


async def run_in_batches(path: Path, rules: dict[str, Any]) -> list[str]:
    begun = anyio.current_time()

    async def handler(items: list[int]) -> list[Any]:
        await anyio.sleep(0.5)
        return [OSError() if anyio.current_time() - begun < 4.0 else item for item in items]

    outcomes = await qanat.collect(
        handler, range(24), record=path, retry=Retry(8, backoff=lambda _: 0.25), **rules
    )
    return [outcome.state for outcome in outcomes]


async def test_a_check_in_a_balance_is_replayed(virtual_time, tmp_path: Path):
    def rules() -> dict[str, Any]:
        return {"limits": Balance({"a": 1, "b": 2}, breaker=checked([False]))}

    path = tmp_path / "run.trace"
    await run_checked(path, rules())
    assert replay(path).difference is None
    assert replay(path, **rules()).difference is None


async def test_a_check_of_a_lane_that_is_forgotten_is_replayed(virtual_time, tmp_path: Path):
    path = tmp_path / "run.trace"
    calls = 0

    async def handler(item: int) -> None:
        await anyio.sleep(0.25)
        if item % 2:
            raise OSError

    def check() -> bool:
        nonlocal calls
        calls += 1
        return calls % 3 == 0

    async with qanat.Pool(
        handler, record=path, lane=lambda item: item,
        lane_limits=lambda _lane: CircuitBreaker(1, cooldown=1.0, window=1.0, check=check),
    ) as pool:  # fmt: skip
        for _ in range(3):
            for item in range(6):
                pool.submit(item)
            await pool.drain()
            await anyio.sleep(30.0)
    assert replay(path).difference is None


def test_a_plan_goes_without_the_checks(tmp_path: Path):
    path = tmp_path / "run.trace"
    seen = qanat.simulate(
        30, latency=1.0, limits=CircuitBreaker(3, cooldown=5, check=bool), record=path, failures=0.5
    )
    assert replay(path).difference is None
    past = Past(read_flight(path))
    assert simulate_past(past, past.rules, past.items, 0).trace == seen.trace
