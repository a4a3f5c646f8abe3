"""What belongs to asyncio alone."""

from __future__ import annotations

import asyncio
import contextvars
from math import inf
from typing import TYPE_CHECKING

import pytest

from qanat.testing._timers import Timers

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio")


async def test_callbacks_of_one_instant_run_in_the_order_of_the_calls(virtual_time: VirtualTime):
    loop, ran = asyncio.get_running_loop(), list[int]()
    for i in range(100):
        loop.call_at(1.0, ran.append, i)
    await asyncio.sleep(1)
    assert ran == list(range(100))


async def test_no_callback_runs_early(virtual_time: VirtualTime):
    loop, at = asyncio.get_running_loop(), list[float]()
    for when in (1.0 + 5e-10, 1.0, 1.0 - 1e-12):
        loop.call_at(when, lambda: at.append(loop.time()))
    await asyncio.sleep(2)
    assert at == [1.0 - 1e-12, 1.0, 1.0 + 5e-10]


async def test_a_callback_for_the_past_runs_now(virtual_time: VirtualTime):
    await asyncio.sleep(1)
    loop, at = asyncio.get_running_loop(), list[float]()
    loop.call_at(0.5, lambda: at.append(loop.time()))
    loop.call_later(-1, lambda: at.append(loop.time()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert at == [1.0, 1.0]


async def test_a_callback_runs_in_the_context_it_was_set_in(virtual_time: VirtualTime):
    who, seen = contextvars.ContextVar("who", default="nobody"), list[str]()
    loop, given = asyncio.get_running_loop(), contextvars.Context()
    given.run(who.set, "given")
    who.set("set")
    loop.call_later(1, lambda: seen.append(who.get()))
    loop.call_later(2, lambda: seen.append(who.get()), context=given)
    who.set("later")
    await asyncio.sleep(2)
    assert seen == ["set", "given"]


async def test_a_callback_that_was_cancelled_does_not_run(virtual_time: VirtualTime):
    loop, ran = asyncio.get_running_loop(), list[str]()
    handles: list[asyncio.TimerHandle] = []

    def cancel_the_next() -> None:
        handles[0].cancel()

    loop.call_at(1.0, cancel_the_next)
    handles.append(loop.call_at(1.0, ran.append, "cancelled when it was due already"))
    loop.call_at(1.0, ran.append, "cancelled before").cancel()
    await asyncio.sleep(1)
    assert (ran, handles[0].when()) == ([], 1.0)


async def test_a_callback_that_fails_does_not_stop_the_others(virtual_time: VirtualTime):
    loop, ran, failed = asyncio.get_running_loop(), list[str](), list[BaseException]()
    loop.set_exception_handler(lambda _loop, context: failed.append(context["exception"]))
    loop.call_at(1.0, int, "x")
    loop.call_at(1.0, ran.append, "other")
    await asyncio.sleep(1)
    assert ran == ["other"]
    assert [type(error) for error in failed] == [ValueError]


async def test_asyncio_timeouts_fire_at_their_time(virtual_time: VirtualTime):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await asyncio.sleep(2)
    assert virtual_time.now() == 1.5
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(2), 0.25)
    assert virtual_time.now() == 1.75
    done, pending = await asyncio.wait([asyncio.create_task(asyncio.sleep(9))], timeout=1)
    assert (len(done), len(pending), virtual_time.now()) == (0, 1, 2.75)


def test_tasks_that_are_left_are_cancelled_at_the_end_of_a_run(virtual_time: VirtualTime):
    left: list[asyncio.Task[None]] = []

    async def main() -> None:
        left.append(asyncio.create_task(asyncio.sleep(9)))
        await asyncio.sleep(1)

    virtual_time.run(main)
    assert left[0].cancelled()
    assert virtual_time.now() == 1.0


def test_a_loop_that_was_closed_takes_no_timers(virtual_time: VirtualTime):
    async def running() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    loop = virtual_time.run(running)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.call_later(1, print)


async def test_cancelled_timers_do_not_pile_up(virtual_time: VirtualTime):
    loop, timers = asyncio.get_running_loop(), Timers()
    kept = [timers.add(loop, 9.0 - i, print, (), None) for i in range(3)]
    for i in range(10_000):
        timers.add(loop, 10.0 + i, print, (), None).cancel()
    assert len(timers) <= 200
    assert timers.next_at() == 7.0
    for timer in kept:
        timer.cancel()
    assert timers.next_at() == inf
