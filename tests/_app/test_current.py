"""`current_job`: which job this code runs for."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def test_each_handler_finds_its_own_job(virtual_time: VirtualTime):
    async def handler(item: int) -> bool:
        before = qanat.current_job()
        await anyio.sleep(item % 3)
        return before is qanat.current_job() and before.item == item

    outcomes = await qanat.collect(handler, range(30), concurrency=4)
    assert outcomes.values() == [True] * 30


async def test_a_handler_in_a_thread_finds_its_job(virtual_time: VirtualTime):
    def handler(item: int) -> tuple[Any, bool]:
        return qanat.current_job().item, threading.current_thread() is threading.main_thread()

    outcomes = await qanat.collect(handler, range(5), concurrency=2)
    assert outcomes.values() == [(item, False) for item in range(5)]


async def test_what_a_handler_starts_finds_its_job(virtual_time: VirtualTime):
    async def handler(item: int) -> list[Any]:
        found: list[Any] = []

        async def child() -> None:
            found.append(qanat.current_job().item)

        async with anyio.create_task_group() as group:
            group.start_soon(child)
        found.append(await anyio.to_thread.run_sync(lambda: qanat.current_job().item))
        return found

    outcomes = await qanat.collect(handler, range(3))
    assert outcomes.values() == [[item, item] for item in range(3)]


async def test_a_task_that_outlives_its_attempt_finds_the_job_that_started_it(virtual_time: VirtualTime):
    found: list[tuple[int, Any, int]] = []

    async def look(item: int) -> None:
        await anyio.sleep(10.0)
        job = qanat.current_job()  # nobody has asked for it before
        found.append((item, job.item, job.attempt))

    async with anyio.create_task_group() as group:

        async def handler(item: int) -> None:
            group.start_soon(look, item)

        await qanat.collect(handler, range(5), concurrency=2)
    assert sorted(found) == [(item, item, 1) for item in range(5)]


async def test_a_job_that_is_asked_for_in_its_second_attempt_knows_of_the_first(virtual_time: VirtualTime):
    begun: set[int] = set()

    async def handler(item: int) -> tuple[Any, int, float, float]:
        await anyio.sleep(1.0)
        if item not in begun:
            begun.add(item)
            raise ValueError
        job = qanat.current_job()
        return job.item, job.attempt, job.offered_at, job.started_at

    begin = virtual_time.now()
    retry = qanat.Retry(1, backoff=qanat.constant(0))
    outcomes = await qanat.collect(handler, range(3), concurrency=3, retry=retry)
    assert outcomes.values() == [(item, 2, begin, begin + 1.0) for item in range(3)]


async def test_a_retry_finds_the_job_of_the_attempt_before_though_that_kept_its_context(
    virtual_time: VirtualTime,
):
    jobs: dict[int, list[Any]] = {}
    contexts: list[Any] = []

    async def handler(item: int) -> None:
        contexts.append(copy_context())
        jobs.setdefault(item, []).append(qanat.current_job())
        if len(jobs[item]) == 1:
            raise ValueError

    await qanat.collect(handler, range(3), concurrency=1, retry=qanat.Retry(1, backoff=qanat.constant(0)))
    assert all(first is second and first.attempt == 2 for first, second in jobs.values())


async def test_two_threads_that_ask_at_once_find_one_job(virtual_time: VirtualTime):
    async def handler(item: int) -> bool:
        barrier = threading.Barrier(2)
        jobs: list[Any] = []

        def look() -> None:
            barrier.wait()
            jobs.append(qanat.current_job())

        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(anyio.to_thread.run_sync, look)
        return jobs[0] is jobs[1] is qanat.current_job() and jobs[0].item == item

    outcomes = await qanat.collect(handler, range(20), concurrency=1)
    assert outcomes.values() == [True] * 20


async def test_only_some_of_the_handlers_ask_for_their_job(virtual_time: VirtualTime):
    async def handler(item: int) -> Any:
        await anyio.sleep(item % 2)
        return qanat.current_job().item if item % 3 else None

    outcomes = await qanat.collect(handler, range(30), concurrency=4)
    assert outcomes.values() == [item if item % 3 else None for item in range(30)]


def no_job() -> None:
    with pytest.raises(LookupError) as caught:
        qanat.current_job()
    assert str(caught.value).startswith("current_job() works inside a handler")
    assert "pass on" in str(caught.value)


def test_outside_of_everything_there_is_no_job():
    no_job()


async def test_around_a_run_there_is_no_job(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep) as pool:
        no_job()
        await pool.submit(1.0)
        no_job()
    no_job()


async def test_in_an_awaited_source_there_is_no_job(virtual_time: VirtualTime):
    async def source() -> AsyncIterator[int]:
        for item in range(3):
            no_job()
            yield item
            await anyio.sleep(1.0)

    assert len(await qanat.collect(anyio.sleep, source(), concurrency=1)) == 3


async def test_the_job_of_an_outer_run_is_found_again_after_an_inner_one(virtual_time: VirtualTime):
    async def handler(item: int) -> Any:
        await qanat.collect(anyio.sleep, [1.0] * 3)
        return qanat.current_job().item

    assert (await qanat.collect(handler, range(3))).values() == [0, 1, 2]


async def test_the_state_of_a_run_is_found_in_its_jobs(virtual_time: VirtualTime):
    state = {"client": object()}

    async def handler(item: int) -> Any:
        return qanat.current_job().state

    assert (await qanat.collect(handler, [1], state=state)).values()[0] is state
    assert (await qanat.collect(handler, [1])).values() == [None]


@pytest.mark.real
@pytest.mark.slow
def test_a_job_in_a_child_process_has_what_is_known_there():
    (outcome,) = anyio.run(lambda: qanat.collect(current_item, [7], executor="process"))
    assert outcome.value == [7, 0, 1, None, None]


def current_item(item: int) -> Any:
    job = qanat.current_job()
    return [job.item, job.id, job.attempt, job.parent, job.state]
