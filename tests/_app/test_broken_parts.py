"""Limits and orders of the user's that fail where nobody waits for an answer: no run is lost or hangs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat._core.orders.fifo import Fifo

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat.testing import VirtualTime


async def work(item: int) -> int:
    await anyio.sleep(1.0)
    return item


class FailsToTake(Fifo):
    def take(self) -> Any:
        raise LookupError


def lane_of(item: int) -> int:
    return item % 2


async def test_an_order_that_fails_to_give_out_its_job_ends_the_run(virtual_time: VirtualTime):
    with pytest.raises(LookupError):
        await qanat.collect(work, range(4), concurrency=2, lane=lane_of, order=FailsToTake)


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
):
    outcomes = await qanat.collect(work, range(4), concurrency=2, **rules_with(lambda: Interrupted(name)))
    assert outcomes.values() == [0, 1, 2, 3]
