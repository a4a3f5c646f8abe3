"""`Pool.outcomes()`: readers, each with a bounded queue of its own."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import qanat
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def test_outcomes_are_read_as_jobs_end_until_the_pool_closes(virtual_time: VirtualTime):
    seen: list[tuple[int, float]] = []

    async def read(reader: Any) -> None:
        async for outcome in reader:
            seen.append((outcome.index, virtual_time.now()))

    async with anyio.create_task_group() as group, qanat.Pool(anyio.sleep) as pool:
        group.start_soon(read, pool.outcomes())
        for seconds in (3.0, 1.0, 2.0):
            pool.submit(seconds)
    assert seen == [(1, 1.0), (2, 2.0), (0, 3.0)]


async def test_a_reader_sees_what_ends_after_it_was_opened(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep) as pool:
        await pool.submit(1.0)
        reader = pool.outcomes()
        pool.submit(2.0, id="seen")
        await pool.drain()
    assert [outcome.id async for outcome in reader] == ["seen"]


async def test_what_was_not_read_when_the_pool_closed_can_still_be_read(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep) as pool:
        reader = pool.outcomes()
        for _ in range(3):
            pool.submit(1.0)
    assert len(reader) == 3
    assert len([outcome async for outcome in reader]) == 3
    assert [outcome async for outcome in reader] == []


async def test_each_reader_sees_everything(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep) as pool:
        readers = [pool.outcomes() for _ in range(3)]
        pool.submit(1.0)
        pool.submit(2.0)
    assert [[outcome.index async for outcome in reader] for reader in readers] == [[0, 1]] * 3


async def test_failures_cancellations_and_calls_are_outcomes_too(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).failing([KeyError()]), concurrency=1) as pool:
        reader = pool.outcomes()
        pool.submit(1)
        pool.call(anyio.sleep, 1.0)
        pool.submit(3, delay=5.0).cancel()
    assert sorted([outcome.state async for outcome in reader]) == ["cancelled", "dead", "done"]


async def test_a_full_reader_stops_new_starts(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1, buffer=2) as pool:
        reader = pool.outcomes()
        for item in range(5):
            pool.submit(item)
        await anyio.sleep(10.0)
        assert (len(reader), diary.times) == (2, [0.0, 1.0])
        assert (await anext(reader)).index == 0
        await anyio.sleep(10.0)
        assert (len(reader), diary.times) == (2, [0.0, 1.0, 10.0])
        assert (await anext(reader)).index == 1


async def test_the_slowest_reader_counts(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1, buffer=2) as pool:
        fast, slow = pool.outcomes(), pool.outcomes()
        for item in range(5):
            pool.submit(item)
        for _ in range(2):
            await anext(fast)
        await anyio.sleep(10.0)
        assert len(diary.began) == 2
        await anext(slow)
        await anyio.sleep(10.0)
        assert len(diary.began) == 3


async def test_a_full_reader_holds_nothing_up_when_the_pool_closes(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, concurrency=1, buffer=1) as pool:
        reader = pool.outcomes()
        for _ in range(4):
            pool.submit(1.0)
    assert virtual_time.now() == 4.0
    assert len(reader) == 4


async def test_a_dropped_reader_holds_nothing_up(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1, buffer=1) as pool:
        reader: Any = pool.outcomes()
        for item in range(4):
            pool.submit(item)
        await anyio.sleep(5.0)
        assert diary.times == [0.0]
        del reader
        gc.collect()
        await pool.drain()
        assert diary.times == [0.0, 5.0, 6.0, 7.0]


async def test_a_closed_reader_holds_nothing_up(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1, buffer=1) as pool:
        reader = pool.outcomes()
        for item in range(4):
            pool.submit(item)
        await anyio.sleep(5.0)
        await reader.aclose()
        await pool.drain()
        assert diary.times == [0.0, 5.0, 6.0, 7.0]


async def test_closing_a_reader_ends_the_wait_of_whoever_reads(virtual_time: VirtualTime):
    ended: list[float] = []
    async with qanat.Pool(anyio.sleep) as pool:
        reader = pool.outcomes()

        async def read() -> None:
            _ = [outcome async for outcome in reader]
            ended.append(virtual_time.now())

        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.sleep(1.0)
            await reader.aclose()
    assert ended == [1.0]


async def test_a_timeout_around_one_read_loses_no_outcome(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, concurrency=1) as pool:
        reader = pool.outcomes()
        for _ in range(3):
            pool.submit(1.0)
        seen: list[int] = []
        while len(seen) < 3:
            with anyio.move_on_after(0.25):
                seen.append((await anext(reader)).index)
    assert seen == [0, 1, 2]


async def test_waits_that_were_given_up_leave_nothing_behind(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep) as pool, qanat.stream(anyio.sleep, [100.0]) as outcomes:
        pool.submit(100.0)
        reader = pool.outcomes()
        for _ in range(10):
            for wait in (reader.__anext__, outcomes.__anext__, pool.drain):
                with anyio.move_on_after(0.25):
                    await wait()
        assert not any([reader._bell, outcomes._bell, pool._drained])
        pool.cancel()


async def test_several_tasks_may_share_a_reader(virtual_time: VirtualTime):
    seen: list[int] = []

    async def read(reader: Any) -> None:
        async for outcome in reader:
            seen.append(outcome.index)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group, qanat.Pool(anyio.sleep, concurrency=3) as pool:
        reader = pool.outcomes()
        for _ in range(3):
            group.start_soon(read, reader)
        for _ in range(9):
            pool.submit(1.0)
    assert sorted(seen) == list(range(9))


@pytest.mark.virtual_time("asyncio")
async def test_a_reader_that_was_cancelled_as_it_was_woken_leaves_the_outcome_to_the_next(
    virtual_time: VirtualTime,
):
    async with qanat.Pool(anyio.sleep) as pool:
        reader = pool.outcomes()
        first = asyncio.ensure_future(anext(reader))
        second = asyncio.ensure_future(anext(reader))
        pool.submit(1.0)
        await asyncio.sleep(0.5)
        asyncio.get_running_loop().call_at(1.0, first.cancel)
        assert (await second).index == 0
        first.cancel()


async def test_the_readers_of_one_opening_end_with_it(virtual_time: VirtualTime):
    pool = qanat.Pool(anyio.sleep, buffer=1, concurrency=1)
    async with pool:
        reader = pool.outcomes()
        pool.submit(1.0)
    async with pool:
        for _ in range(3):
            pool.submit(1.0)
        await pool.drain()
    assert [outcome.index async for outcome in reader] == [0]


@pytest.mark.real
def test_a_reader_may_outlive_its_loop():
    async def main() -> Any:
        pool = qanat.Pool(asyncio.sleep, buffer=1, concurrency=1)
        await pool.open()
        reader = pool.outcomes()
        pool.submit(0.0)
        await pool.drain()
        assert len(reader) == 1
        return reader

    reader = asyncio.run(main())
    reader._readers._held = True
    del reader
    gc.collect()


async def test_a_reader_that_is_empty_is_there_all_the_same(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep) as pool:
        assert pool.outcomes()
