"""Limits and orders of the user's that fail where nobody waits for an answer: no run is lost or hangs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

import qanat
from qanat import Batch, Pool, PoolClosedError
from qanat._core.orders.fifo import Fifo

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat.testing import VirtualTime


async def work(item: int) -> int:
    await anyio.sleep(1.0)
    return item


def lane_of(item: int) -> int:
    return item % 2


def failing(method: str, error: type[BaseException], after: int) -> type[Any]:
    """Return a class of orders of which one method raises once it was called so often, in all lanes."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error

    class Failing:
        def __init__(self) -> None:
            self.jobs = Fifo()

        def __getattr__(self, name: str) -> Any:
            if name not in {"add", "put_back", "head", "take", "discard"}:
                raise AttributeError(name)

            def called(*given: Any) -> Any:
                if name == method:
                    count()
                return getattr(self.jobs, name)(*given)

            return called

        def __len__(self) -> int:
            if method == "__len__":
                count()
            return len(self.jobs)

    return Failing


WAYS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": dict,
    "lanes": lambda: {"lane": lane_of},
    "a limit": lambda: {"limits": qanat.Concurrency(2)},
    "batches": lambda: {"batch": Batch(2, within=0.0), "lane": lane_of, "cost": lambda item: 1.5},
}


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
@pytest.mark.parametrize("method", ["add", "put_back", "head", "take", "__len__"])
@pytest.mark.parametrize("way", WAYS)
async def test_an_order_that_fails_ends_the_run_and_every_job(
    virtual_time: VirtualTime, way: str, method: str, error: type[BaseException], after: int
):
    ended: set[int] = set()

    async def work(given: Any) -> Any:
        await anyio.sleep(1.0)
        items = given if isinstance(given, list) else [given]
        values = [OSError("once") if item < 4 and item not in ended else item for item in items]
        ended.update(items)
        if isinstance(given, list):
            return values
        if isinstance(values[0], OSError):
            raise values[0]
        return given

    rules = {"concurrency": 2, "retry": qanat.Retry(1, backoff=qanat.constant(0.0)), **WAYS[way]()}
    asked = {"plain": {"add", "put_back", "take"}, "batches": {"add", "put_back", "head", "take"}}
    is_asked = method in asked.get(way, {method})
    order = failing(method, error, after)
    if not is_asked:
        assert (await qanat.collect(work, range(8), order=order, **rules)).values() == list(range(8))
        return
    kind = LookupError if error is LookupError else RuntimeError
    with pytest.raises(kind) as caught:
        await qanat.collect(work, range(8), order=order, **rules)
    said = str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
    assert f"{method}() of the order failing.<locals>.Failing" in said
    handles: list[Any] = []
    ended.clear()
    with pytest.raises((kind, PoolClosedError)):
        async with Pool(work, order=failing(method, error, after), **rules) as pool:
            for item in range(8):
                handles.append(pool.submit(item))
                await checkpoint()
            await pool.drain()
    assert {handle.done for handle in handles} == {True}


class Interrupted(qanat.Limit):
    """As if it asked for the result of something that was cancelled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _answer(self, name: str) -> None:
        if name == self.name:
            raise asyncio.CancelledError

    def ready_at(self, job: qanat.Job[Any], now: float) -> float:
        return now

    def give_back(self, job: qanat.Job[Any], outcome: qanat.Outcome[Any, Any], now: float) -> None:
        self._answer("give_back")

    def fresh_at(self, now: float) -> float:
        self._answer("fresh_at")
        return now


def alone(limit: Callable[[], qanat.Limit]) -> dict[str, Any]:
    return {"limits": limit()}


def in_lanes(limit: Callable[[], qanat.Limit]) -> dict[str, Any]:
    def limits_of(_lane: int) -> qanat.Limit:
        return limit()

    return {"lane": lane_of, "lane_limits": limits_of}


@pytest.mark.parametrize("name", ["give_back", "fresh_at"])
@pytest.mark.parametrize("rules_with", [alone, in_lanes])
async def test_a_cancellation_that_a_limit_came_by_elsewhere_loses_no_job(
    virtual_time: VirtualTime,
    rules_with: Callable[[Callable[[], qanat.Limit]], dict[str, Any]],
    name: str,
    caplog: pytest.LogCaptureFixture,
):
    outcomes = await qanat.collect(work, range(4), concurrency=2, **rules_with(lambda: Interrupted(name)))
    assert outcomes.values() == [0, 1, 2, 3]
    said = {record.message for record in caplog.records}
    # A limit of all jobs is not asked when it is as good as new.
    expected = set[str]() if rules_with is alone and name == "fresh_at" else {f"a limit raised in {name}"}
    assert {text.partition(";")[0] for text in said} == expected
