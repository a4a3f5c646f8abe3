"""Lanes as users give them: weights, and tenants that do not get into each other's way."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import qanat
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

on_both = pytest.mark.virtual_time("asyncio", "trio")


def by_tenant(item: tuple[str, int]) -> str:
    return item[0]


ITEMS = [(tenant, number) for tenant in ("a", "b", "c") for number in range(60)]


@pytest.mark.parametrize(
    "weights",
    [{"a": 3, "b": 2}, lambda tenant: {"a": 3.0, "b": 2.0, "c": 1.0}[tenant]],
    ids=["mapping", "function"],
)
@on_both
async def test_lanes_share_the_starts_by_weight(virtual_time: VirtualTime, weights: Any):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(1.0), ITEMS, concurrency=1, lane=by_tenant, weights=weights)
    assert Counter(map(by_tenant, diary.items[:60])) == {"a": 30, "b": 20, "c": 10}


@pytest.mark.parametrize("weight", [0, -1.0, float("nan"), float("inf"), None, "2", True])
@on_both
async def test_lane_whose_weight_is_none_fails_its_jobs_and_no_others(virtual_time: VirtualTime, weight: Any):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(
        diary.taking(1.0), ITEMS[55:65], lane=by_tenant, weights=lambda tenant: weight if tenant == "a" else 2
    )
    assert [outcome.item for outcome in outcomes.failed] == ITEMS[55:60]
    assert all(str(outcome.error).startswith("weights must be") for outcome in outcomes.failed)
    assert diary.items == ITEMS[60:65]


@on_both
async def test_weights_hold_for_lanes_that_are_given_to_submit(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1, weights={"b": 2}) as pool:
        for _ in range(9):
            for lane in ("a", "b"):
                pool.submit(lane, lane=lane)
    assert Counter(diary.items[:12]) == {"a": 4, "b": 8}


@on_both
async def test_ten_thousand_jobs_of_one_tenant_do_not_hold_back_the_only_one_of_another(
    virtual_time: VirtualTime,
):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=2) as pool:
        for number in range(10_000):
            pool.submit(number, lane="big")
        await virtual_time.advance(3.5)
        begun = len(diary.items)
        await pool.submit("small", lane="small")
        assert diary.items.index("small") <= begun + 1
        pool.cancel()


@on_both
async def test_lane_that_is_told_to_wait_holds_up_no_other(virtual_time: VirtualTime):
    told = False

    async def handler(item: tuple[str, int]) -> None:
        nonlocal told
        if item[0] == "a" and not told:
            told = True
            raise qanat.Throttled(retry_after=100.0)
        ended[item] = virtual_time.now()

    ended: dict[tuple[str, int], float] = {}
    await qanat.collect(
        handler, ITEMS, concurrency=1, lane=by_tenant, lane_limits=lambda _lane: qanat.Spacing(0.5)
    )
    assert [ended[tenant, 59] for tenant in ("b", "c")] == [29.5, 29.5]
    assert min(at for (tenant, _), at in ended.items() if tenant == "a") == 100.0
