"""Orders as users give them: by name, with their rules, in functions and in a Pool."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

import qanat
from qanat._core.orders import Lifo
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

on_both = pytest.mark.virtual_time("asyncio", "trio")


@on_both
async def test_jobs_start_by_their_deadlines(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    due = {"a": 30.0, "b": None, "c": 10, "d": 20.0}
    await qanat.collect(diary.taking(1.0), due, concurrency=1, order="deadline", deadline=due.get)
    assert diary.items == ["c", "d", "a", "b"]


@on_both
async def test_a_job_whose_deadline_has_passed_starts_all_the_same(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(
        diary.taking(5.0), [1, 2, -3], concurrency=1, order="deadline", deadline=float
    )
    assert outcomes.failed == []
    assert diary.began == [(-3, 0.0), (1, 5.0), (2, 10.0)]


@on_both
async def test_deadline_counts_from_the_offering_and_can_be_read(virtual_time: VirtualTime):
    async def handler(_item: float) -> float | None:
        return qanat.current_job().deadline

    await virtual_time.advance(3.0)
    rules = qanat.Rules(order="deadline", deadline=lambda item: item or None)
    async with qanat.Pool(handler, rules=rules) as pool:
        first = pool.submit(4.0, delay=2.0)
        await virtual_time.advance(1.0)
        second, third = pool.submit(0.5), pool.submit(0.0)
        assert (await first, await second, await third) == (7.0, 4.5, None)


@pytest.mark.parametrize("given", ["soon", True, float("nan")])
@on_both
async def test_deadline_that_is_no_number_fails_the_job_and_not_the_run(
    virtual_time: VirtualTime, given: Any
):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(
        diary.taking(0.0), [1, 2], order="deadline", deadline=lambda item: given if item == 1 else 1.0
    )
    assert [str(outcome.error) for outcome in outcomes.failed] == [
        f"deadline must give seconds or None, got {given!r}"
    ]
    assert diary.items == [2]


@on_both
async def test_shuffle_starts_each_once_in_an_order_that_comes_from_the_seed(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    for _ in range(2):
        await qanat.collect(diary.taking(1.0), range(30), concurrency=1, order="shuffle")
    first, second = diary.items[:30], diary.items[30:]
    assert first == second != list(range(30))
    assert sorted(first) == list(range(30))


@on_both
async def test_an_order_of_ones_own_is_given_the_seeded_randomness(virtual_time: VirtualTime):
    bound: list[Any] = []

    class Mine(Lifo):
        def bind(self, rng: Any) -> None:
            bound.append(rng)

    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(1.0), [1, 2], concurrency=1, order=Mine, lane=str)
    assert diary.items == [1, 2]
    assert all(isinstance(rng, random.Random) for rng in bound)
    assert len(bound) == 2


@on_both
async def test_ageing_lets_a_job_wait_for_a_bounded_time_only(virtual_time: VirtualTime):
    """Urgent jobs arrive each second; without ageing the other waits for all of them."""
    places: list[int] = []
    for order in (qanat.Priority(), qanat.Priority(ageing=2)):
        diary = Diary(virtual_time)
        async with qanat.Pool(diary.taking(1.0), concurrency=1, order=order) as pool:
            pool.submit("urgent", priority=0)
            pool.submit("patient", priority=10)
            for _ in range(20):
                pool.submit("urgent", priority=0)
                await virtual_time.advance(1.0)
        places.append(diary.items.index("patient"))
    # Of those offered after it only the first five, within (10 - 0) / 2 seconds, overtake it.
    assert places == [21, 6]


@on_both
async def test_handle_gives_a_waiting_job_another_priority(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1, order="priority") as pool:
        handles = [pool.submit(item, priority=item) for item in range(4)]
        await virtual_time.advance(0.5)
        assert [handle.prioritise(-1) for handle in (handles[0], handles[3])] == [False, True]
        assert await handles[3] == 3
        assert not handles[3].prioritise(5)
        with pytest.raises(ValueError, match="priority must be a finite number"):
            handles[2].prioritise(float("nan"))
    assert diary.items == [0, 3, 1, 2]


@on_both
async def test_another_priority_starts_a_job_that_its_limit_lets_through(virtual_time: VirtualTime):
    class Even(qanat.Limit):
        def ready_at(self, job: qanat.Job[int], now: float) -> float:
            return now if job.item % 2 == 0 else float("inf")

    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), order="priority", limits=Even()) as pool:
        odd, even = pool.submit(1, priority=1), pool.submit(2, priority=2)
        await virtual_time.advance(3.0)
        assert diary.items == []
        assert even.prioritise(0)
        assert await even == 2
        odd.cancel()
    assert diary.began == [(2, 3.0)]
