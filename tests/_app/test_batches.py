"""Handlers of lists: by every way of calling, on asyncio and trio, at exact times."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Batch, Throttled
from tests._app.diary import Diary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def doubled(items: list[int]) -> list[int]:
    await anyio.sleep(1.0)
    return [item * 2 for item in items]


def doubled_plainly(items: list[int]) -> list[int]:
    return [item * 2 for item in items]


async def test_a_handler_is_called_with_lists_and_each_item_has_its_value(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    values = await qanat.map(diary.taking(1.0), range(7), batch=Batch(3), concurrency=2)
    assert values == list(range(7))
    assert diary.began == [([0, 1, 2], 0.0), ([3, 4, 5], 0.0), ([6], 1.0)]


async def test_each_item_keeps_an_outcome_of_its_own(virtual_time: VirtualTime):
    async def handler(items: list[int]) -> list[int | Exception]:
        await anyio.sleep(0.5)
        return [ValueError(item) if item == 1 else item for item in items]

    outcomes = await qanat.collect(handler, range(3), batch=Batch(3), id=lambda item: f"job {item}")
    assert [(outcome.id, outcome.index, outcome.item, outcome.ok) for outcome in outcomes] == [
        ("job 0", 0, 0, True), ("job 1", 1, 1, False), ("job 2", 2, 2, True),
    ]  # fmt: skip
    assert {(outcome.attempts, outcome.ran) for outcome in outcomes} == {(1, 0.5)}


async def slowly(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number
        await anyio.sleep(1.0)


async def test_a_slow_source_is_waited_for_no_longer_than_within(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(0.25), slowly(5), batch=Batch(4, within=1.5))
    assert diary.began == [([0, 1], 1.5), ([2, 3], 3.5), ([4], 5.0)]


async def test_without_within_a_batch_waits_until_it_is_full_or_the_source_has_ended(
    virtual_time: VirtualTime,
):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(0.25), slowly(5), batch=Batch(4))
    assert diary.began == [([0, 1, 2, 3], 3.0), ([4], 5.0)]


def generated(count: int) -> Iterator[int]:
    yield from range(count)


@pytest.mark.parametrize("items", [range(8), generated], ids=["sized", "generated"])
async def test_a_small_buffer_makes_small_batches(virtual_time: VirtualTime, items: Any):
    diary = Diary(virtual_time)
    source = items(8) if callable(items) else items
    await qanat.collect(diary.taking(1.0), source, batch=Batch(5), buffer=3, concurrency=2)
    assert [items for items, _ in diary.began] == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_an_awaited_source_with_a_small_buffer_goes_on(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(diary.taking(1.0), slowly(5), batch=Batch(4), buffer=2)
    assert outcomes.values() == list(range(5))
    assert diary.began == [([0, 1], 1.0), ([2, 3], 3.0), ([4], 5.0)]


async def test_lanes_in_a_full_buffer_start_the_one_that_has_waited_longest(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(
        diary.taking(1.0), generated(6), batch=Batch(3), lane=lambda item: item % 3, buffer=3, concurrency=1
    )
    assert outcomes.values() == list(range(6))
    assert all(len({item % 3 for item in items}) == 1 for items in diary.items)


async def test_ordered_outcomes_come_though_the_buffer_is_full_of_later_ones(virtual_time: VirtualTime):
    async with qanat.stream(
        doubled, generated(12), batch=Batch(4), lane=lambda item: item % 3, buffer=5, ordered=True
    ) as outcomes:
        assert [outcome.value async for outcome in outcomes] == [item * 2 for item in range(12)]


async def test_a_slow_reader_does_not_make_batches_small(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.stream(
        diary.taking(0.0), generated(40), batch=Batch(4), buffer=10, concurrency=1
    ) as outcomes:
        read = []
        async for outcome in outcomes:
            read.append(outcome.value)
            await anyio.sleep(1.0)
    assert read == list(range(40))
    assert [len(items) for items in diary.items] == [4] * 10


async def test_a_source_that_blocks_lets_handlers_run_in_between(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    pause = threading.Event()

    def blocking() -> Iterator[int]:
        for number in range(6):
            pause.wait(0.002)
            yield number

    outcomes = await qanat.collect(diary.taking(0.0), blocking(), batch=Batch(4), id=str)
    assert outcomes.values() == list(range(6))
    assert [len(items) for items in diary.items] == [4, 2]


async def test_a_pool_gathers_what_is_submitted(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), batch=Batch(3, within=0.5)) as pool:
        handles = [pool.submit(item) for item in range(4)]
        assert [await handle for handle in handles] == [0, 1, 2, 3]
        assert diary.began == [([0, 1, 2], 0.0), ([3], 0.5)]
        assert pool.stats().done == 4


async def test_draining_and_leaving_wait_for_no_full_batch(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), batch=Batch(3)) as pool:
        pool.submit(0)
        await anyio.sleep(5.0)
        assert diary.began == []
        assert str(pool.why()) == "batch of 3"
        await pool.drain()
        pool.submit(1)
        await anyio.sleep(5.0)
        assert diary.began == [([0], 5.0)]
    assert diary.began == [([0], 5.0), ([1], 11.0)]


async def test_a_pool_with_less_room_than_a_batch_goes_on(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), batch=Batch(9), max_waiting=2) as pool:
        handles = [await pool.put(item) for item in range(4)]
        assert [await handle for handle in handles] == [0, 1, 2, 3]
    assert diary.items == [[0, 1], [2, 3]]


async def test_calls_of_other_functions_are_no_batches(virtual_time: VirtualTime):
    async with qanat.Pool(doubled, batch=Batch(9)) as pool:
        handle = pool.submit(1)
        assert await pool.call(doubled, [5]) == [10]
        assert not handle.done
    assert await handle == 2


async def test_the_batch_is_the_current_job(virtual_time: VirtualTime):
    seen: list[Any] = []

    async def handler(items: list[str]) -> list[str]:
        job = qanat.current_job()
        seen.append((job.id, job.item, [each.id for each in job.members], job.state))
        return items

    await qanat.collect(handler, list("abc"), batch=Batch(2), state="kept")
    assert seen == [("batch-0", ["a", "b"], [0, 1], "kept"), ("batch-1", ["c"], [2], "kept")]


async def test_a_timeout_is_for_the_call_and_the_most_impatient_member_sets_it(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(5.0), batch=Batch(2)) as pool:
        handles = [pool.submit(0), pool.submit(1, timeout=2.0)]
        outcomes = [await handle.outcome() for handle in handles]
    assert [(type(outcome.error), outcome.ended_at) for outcome in outcomes] == [
        (qanat.JobTimeoutError, 2.0)
    ] * 2


async def test_a_call_that_returns_in_spite_of_its_timeout_is_done(virtual_time: VirtualTime):
    async def handler(items: list[int]) -> list[int]:
        try:
            await anyio.sleep(5.0)
        except BaseException:
            return items
        raise AssertionError

    assert await qanat.map(handler, [1, 2], batch=Batch(2), timeout=1.0) == [1, 2]


async def test_splitting_leaves_only_the_bad_one_failed(virtual_time: VirtualTime):
    calls: list[list[int]] = []

    async def handler(items: list[int]) -> list[int]:
        calls.append(items)
        if 6 in items:
            raise ValueError("six")
        return items

    outcomes = await qanat.collect(
        handler, range(8), batch=Batch(8, on_error="split"), retry=qanat.Retry(1, backoff=qanat.constant(1))
    )
    assert [outcome.item for outcome in outcomes.failed] == [6]
    assert calls.count([6]) == 2
    assert len(calls) == 8
    assert {outcome.item: outcome.attempts for outcome in outcomes} == {n: 1 + (n == 6) for n in range(8)}


async def test_a_throttled_call_is_made_again_when_its_lane_is_open(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(diary.failing([Throttled(3.0)]), range(4), batch=Batch(2), concurrency=1)
    assert outcomes.values() == [0, 1, 2, 3]
    assert diary.began == [([0, 1], 0.0), ([0, 1], 3.0), ([2, 3], 3.0)]
    assert {outcome.attempts for outcome in outcomes} == {1}


async def test_a_rate_counts_calls(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(0.0), range(9), batch=Batch(3), rate="1/s")
    assert diary.times == [0.0, 1.0, 2.0]


async def test_the_first_failure_in_a_map_stops_it(virtual_time: VirtualTime):
    async def handler(items: list[int]) -> list[int | Exception]:
        return [KeyError(item) if item == 1 else item for item in items]

    with pytest.raises(KeyError) as caught:
        await qanat.map(handler, range(100), batch=Batch(2), concurrency=1)
    assert caught.value.__notes__ == ["job 1 with item 1, after 1 attempt"]


async def test_max_failures_counts_items(virtual_time: VirtualTime):
    async def handler(items: list[int]) -> list[Exception]:
        return [KeyError(item) for item in items]

    with pytest.raises(qanat.TooManyFailuresError):
        await qanat.collect(handler, range(100), batch=Batch(3), max_failures=2, concurrency=1)


async def test_a_cancelled_item_ends_at_once_and_the_rest_of_its_batch_goes_on(virtual_time: VirtualTime):
    async with qanat.Pool(doubled, batch=Batch(2)) as pool:
        first, second = pool.submit(1), pool.submit(2)
        await anyio.sleep(0.5)
        assert first.cancel()
        outcome = await first.outcome()
        assert (outcome.state, outcome.ended_at, first.cancel()) == ("cancelled", 0.5, False)
        assert await second == 4
        assert virtual_time.now() == 1.0


async def test_a_call_that_nobody_wants_any_more_is_cancelled(virtual_time: VirtualTime):
    async with qanat.Pool(doubled, batch=Batch(2), concurrency=1) as pool:
        handles = [pool.submit(1), pool.submit(2)]
        await anyio.sleep(0.5)
        assert all(handle.cancel() for handle in handles)
        await pool.drain()
        assert virtual_time.now() == 0.5
        assert pool.stats().cancelled == 2


async def test_a_waiting_item_is_taken_out_of_its_batch(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), batch=Batch(3)) as pool:
        handles = [pool.submit(item) for item in range(2)]
        await anyio.sleep(1.0)
        assert handles[0].cancel()
    assert diary.items == [[1]]


async def test_leaving_early_cancels_what_runs_and_what_came_back(virtual_time: VirtualTime):
    async def handler(items: list[int]) -> list[int | Exception]:
        return [OSError() if item == 1 else item for item in items]

    diary = Diary(virtual_time)
    async with qanat.stream(diary.taking(9.0), range(100), batch=Batch(3), concurrency=2):
        await anyio.sleep(1.0)
    assert (virtual_time.now(), diary.running) == (1.0, 0)
    with pytest.raises(qanat.TooManyFailuresError):
        await qanat.collect(
            lambda items: [ValueError(), OSError()], range(10), executor="loop", batch=Batch(2),
            max_failures=1, retry=qanat.Retry(9, on=OSError), concurrency=1,
        )  # fmt: skip


@pytest.mark.parametrize("executor", [None, "loop"], ids=["thread", "loop"])
async def test_plain_functions_take_lists_too(virtual_time: VirtualTime, executor: Any):
    assert await qanat.map(doubled_plainly, range(5), batch=Batch(2), executor=executor) == [0, 2, 4, 6, 8]


async def test_a_context_that_a_handler_changes_is_its_own(virtual_time: VirtualTime):
    from contextvars import ContextVar

    seen: list[str] = []
    name: ContextVar[str] = ContextVar("name", default="none")

    async def handler(items: list[int]) -> list[int]:
        seen.append(name.get())
        name.set("mine")
        return items

    await qanat.collect(handler, range(4), batch=Batch(1), concurrency=1)
    assert seen == ["none"] * 4


async def test_failed_batches_are_freed(virtual_time: VirtualTime):
    class Item:
        pass

    async def handler(items: list[Item]) -> list[None]:
        job = qanat.current_job()
        raise ValueError(job.id)

    items = [Item() for _ in range(100)]
    left = [weakref.ref(item) for item in items]
    outcomes = await qanat.collect(
        handler, items, batch=Batch(7), retry=qanat.Retry(1, backoff=qanat.constant(0))
    )
    assert len(outcomes.failed) == 100
    del outcomes, items
    gc.collect()
    assert [ref for ref in left if ref() is not None] == []


async def test_a_handler_that_takes_no_list_is_refused_at_the_call(virtual_time: VirtualTime):
    def nothing() -> list[int]:
        return []

    with pytest.raises(TypeError, match="^handler must take exactly one argument, the list of items, but"):
        await qanat.collect(nothing, [1], batch=Batch(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="^handler must take exactly one argument, the list of items, but"):
        qanat.Pool(nothing, batch=Batch(2))  # type: ignore[arg-type]


async def test_a_handler_that_returns_one_value_fails_with_what_was_expected(virtual_time: VirtualTime):
    async def handler(items: list[int]) -> Any:
        return sum(items)

    (outcome, _) = await qanat.collect(handler, [1, 2], batch=Batch(2))
    assert isinstance(outcome.error, TypeError)
    assert str(outcome.error) == (
        "handler must return a sequence of 2, a value or an exception for each item of the batch, got 3"
    )


def test_a_batch_is_a_batch():
    with pytest.raises(TypeError, match=r"^batch must be a Batch, such as Batch\(100\), got 100$"):
        qanat.Rules(batch=100)  # type: ignore[arg-type]
    assert str(qanat.Rules(batch=Batch(9))) == "10 at once, in batches of 9"


@pytest.mark.real
def test_batches_run_in_processes():
    outcomes = qanat.run(doubled_plainly, range(5), batch=Batch(2), executor="process", concurrency=2)
    assert outcomes.values() == [0, 2, 4, 6, 8]


async def test_what_a_batch_cost_is_charged_to_the_batch_and_not_to_one_of_it(virtual_time: VirtualTime):
    budget = qanat.Budget("llm", tokens="100/m")
    refused: list[str] = []

    async def handler(items: list[int]) -> list[int]:
        batch = qanat.current_job()
        with pytest.raises(RuntimeError) as caught:
            batch.members[0].charge("tokens", 5)
        refused.append(str(caught.value))
        batch.charge("tokens", 8)
        return items

    await qanat.map(handler, range(4), batch=Batch(2), cost=lambda _: {"tokens": 20}, limits=budget)
    assert budget._windows["tokens"].load == 16
    assert [text.partition(":")[0] for text in refused] == [
        "charge() works for a batch as a whole, and this job is one of a batch"
    ] * 2
