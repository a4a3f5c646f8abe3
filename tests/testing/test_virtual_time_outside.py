"""Time stands still while threads work, and for what is declared to work outside."""

from __future__ import annotations

import asyncio
import threading
import time as real
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

import qanat
from qanat._engine.clock import clock_in_use
from qanat._engine.loop import running_loop

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = [pytest.mark.virtual_time("asyncio", "trio"), pytest.mark.real]

on_asyncio = pytest.mark.virtual_time("asyncio")
on_trio = pytest.mark.virtual_time("trio")

SHORT = 0.02  # real seconds: long enough for a loop that does not stand still to jump


async def test_time_stands_while_anyio_works_in_a_thread(virtual_time: VirtualTime):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 10)
        await anyio.to_thread.run_sync(real.sleep, SHORT)
        assert virtual_time.now() == 0.0
        await anyio.to_thread.run_sync(real.sleep, SHORT)  # this time in a thread that was idle
        assert virtual_time.now() == 0.0
    assert virtual_time.now() == 10.0


async def test_time_stands_until_the_last_of_many_threads_is_done(virtual_time: VirtualTime):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 10)
        async with anyio.create_task_group() as threads:
            for i in range(20):
                threads.start_soon(anyio.to_thread.run_sync, real.sleep, i / 1000)
        assert virtual_time.now() == 0.0


async def test_time_stands_while_the_threads_of_a_run_end(virtual_time: VirtualTime):
    """What a thread-local holds is finalised as its thread ends, and may take its time."""
    local = threading.local()

    class Slow:
        def __del__(self) -> None:
            real.sleep(SHORT)

    def handler(_: int) -> None:
        local.kept = Slow()

    with anyio.fail_after(10):
        await qanat.map(handler, range(2))
    assert virtual_time.now() == 0.0


async def test_time_goes_on_when_the_threads_are_idle(virtual_time: VirtualTime):
    await anyio.to_thread.run_sync(real.sleep, 0)
    await anyio.sleep(5)
    assert virtual_time.now() == 5.0


async def test_work_that_alternates_with_sleeps_is_exact(virtual_time: VirtualTime):
    async def worker() -> None:
        for _ in range(10):
            await anyio.to_thread.run_sync(real.sleep, 0.001)
            await anyio.sleep(0.5)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(worker)
    assert virtual_time.now() == 5.0


async def test_a_thread_sees_the_virtual_clock(virtual_time: VirtualTime):
    await anyio.sleep(2)
    assert await anyio.to_thread.run_sync(lambda: clock_in_use().now()) == 2.0


async def test_a_thread_can_call_the_loop(virtual_time: VirtualTime):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 10)
        assert await anyio.to_thread.run_sync(anyio.from_thread.run_sync, virtual_time.now) == 0.0


@on_asyncio
async def test_time_stands_while_asyncio_works_in_a_thread(virtual_time: VirtualTime):
    sleeper = asyncio.create_task(asyncio.sleep(10))
    await asyncio.to_thread(real.sleep, SHORT)
    with ThreadPoolExecutor() as threads:
        await asyncio.get_running_loop().run_in_executor(threads, real.sleep, SHORT)
    assert virtual_time.now() == 0.0
    await sleeper
    assert virtual_time.now() == 10.0


@on_asyncio
async def test_time_stands_while_a_name_is_looked_up(virtual_time: VirtualTime):
    async with asyncio.timeout(1):
        await asyncio.get_running_loop().getaddrinfo("localhost", 80)
    assert virtual_time.now() == 0.0


@on_asyncio
async def test_a_call_whose_awaiter_was_cancelled_holds_the_time_no_more(virtual_time: VirtualTime):
    free = threading.Event()
    call = asyncio.create_task(asyncio.to_thread(free.wait))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.sleep(3)
    assert virtual_time.now() == 3.0
    free.set()


@on_trio
async def test_a_call_that_was_abandoned_holds_the_time_no_more(virtual_time: VirtualTime):
    free = threading.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: anyio.to_thread.run_sync(free.wait, abandon_on_cancel=True))
        await virtual_time.advance(0, wait_outside=False)
        group.cancel_scope.cancel()
    await anyio.sleep(3)
    assert virtual_time.now() == 3.0
    free.set()


async def test_time_stands_while_declared_work_goes_on(virtual_time: VirtualTime):
    """As the engine does it for its own threads: the result is posted first, then the end is told."""
    clock, loop, done = clock_in_use(), running_loop(), anyio.Event()

    def work() -> None:
        real.sleep(SHORT)
        loop.call_soon_threadsafe(done.set)
        clock.work_outside_ended()

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 10)
        clock.work_outside_began()
        thread = threading.Thread(target=work)
        thread.start()
        await done.wait()
        assert virtual_time.now() == 0.0
    thread.join()
    assert virtual_time.now() == 10.0


async def test_results_of_many_short_calls_arrive_before_time_moves(virtual_time: VirtualTime):
    """The end is told right after the result was posted, whatever the loop is doing just then."""
    clock, loop = clock_in_use(), running_loop()

    def post(done: anyio.Event) -> None:
        loop.call_soon_threadsafe(done.set)
        clock.work_outside_ended()

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 10)
        with ThreadPoolExecutor(1) as thread:
            for _ in range(300):
                done = anyio.Event()
                clock.work_outside_began()
                thread.submit(post, done)
                await done.wait()
                assert virtual_time.now() == 0.0


async def test_the_end_of_work_wakes_a_loop_that_waits(virtual_time: VirtualTime):
    """Nobody posts a result: the end alone lets time go on."""
    clock = clock_in_use()
    clock.work_outside_began()
    timer = threading.Timer(SHORT, clock.work_outside_ended)
    timer.start()
    await anyio.sleep(1)
    assert virtual_time.now() == 1.0
    timer.join()


async def test_time_stands_while_it_is_held(virtual_time: VirtualTime):
    """A thread of which nobody knows posts its result; the timeout around it does not fire."""
    loop, done = running_loop(), anyio.Event()
    timer = threading.Timer(SHORT, loop.call_soon_threadsafe, [done.set])
    with anyio.fail_after(1), virtual_time.still():
        timer.start()
        await done.wait()
    timer.join()
    assert virtual_time.now() == 0.0


async def test_an_advance_waits_for_threads(virtual_time: VirtualTime):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, real.sleep, SHORT)
        began = real.monotonic()
        await virtual_time.advance(5)
        assert real.monotonic() - began >= SHORT * 0.9
    assert virtual_time.now() == 5.0


async def test_an_advance_can_pass_over_a_thread_that_is_blocked(virtual_time: VirtualTime):
    free, log = threading.Event(), []

    async def sleeper(seconds: float) -> None:
        await anyio.sleep(seconds)
        log.append(virtual_time.now())

    async with anyio.create_task_group() as group:
        group.start_soon(partial(anyio.to_thread.run_sync, free.wait))
        for seconds in (1, 2, 3):
            group.start_soon(sleeper, seconds)
        await virtual_time.advance(2, wait_outside=False)
        assert (log, virtual_time.now()) == ([1.0, 2.0], 2.0)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        assert virtual_time.now() == 2.0  # and now it stands still again
        free.set()
    assert log == [1.0, 2.0, 3.0]


def test_more_ends_than_beginnings_are_refused(virtual_time: VirtualTime):
    with pytest.raises(RuntimeError, match="more often than work_outside_began"):
        clock_in_use().work_outside_ended()


def test_work_may_end_after_the_run(virtual_time: VirtualTime):
    async def begin() -> None:
        clock_in_use().work_outside_began()

    virtual_time.run(begin)
    clock_in_use().work_outside_ended()
    virtual_time.run(anyio.sleep, 1)
    assert virtual_time.now() == 1.0
