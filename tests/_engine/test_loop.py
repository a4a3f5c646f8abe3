"""The few things that the engine needs from an event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from qanat._engine.loop import AsyncioLoop, TrioLoop, running_loop

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")
on_asyncio = pytest.mark.virtual_time("asyncio")
on_trio = pytest.mark.virtual_time("trio")


async def test_the_running_loop_is_found(virtual_time: VirtualTime):
    loop = running_loop()
    assert loop.name == virtual_time.backend
    assert isinstance(loop, AsyncioLoop if loop.name == "asyncio" else TrioLoop)


def test_without_a_loop_there_is_none():
    with pytest.raises(RuntimeError):
        running_loop()


# --- spots -----------------------------------------------------------------------------------------


async def test_a_spot_waits_until_it_is_woken(virtual_time: VirtualTime):
    spot = running_loop().spot()

    async def wake() -> None:
        await anyio.sleep(3.0)
        spot.wake()

    async with anyio.create_task_group() as group:
        group.start_soon(wake)
        await spot.wait()
        assert virtual_time.now() == 3.0


async def test_a_spot_that_was_woken_before_does_not_wait(virtual_time: VirtualTime):
    spot = running_loop().spot()
    spot.wake()
    spot.wake()
    await spot.wait()
    assert virtual_time.now() == 0.0


async def test_waking_twice_is_waking(virtual_time: VirtualTime):
    spot = running_loop().spot()
    woken: list[float] = []

    async def wait() -> None:
        await spot.wait()
        woken.append(virtual_time.now())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        spot.wake()
        spot.wake()
    assert woken == [0.0]


async def test_waiting_at_a_spot_can_be_cancelled_and_woken_later(virtual_time: VirtualTime):
    spot = running_loop().spot()
    with anyio.move_on_after(1.0) as scope:
        await spot.wait()
    assert scope.cancelled_caught
    spot.wake()


# --- checkpoints -----------------------------------------------------------------------------------


async def test_a_checkpoint_lets_others_run(virtual_time: VirtualTime):
    ran: list[str] = []

    async def other() -> None:
        ran.append("other")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        for _ in range(3):
            await running_loop().checkpoint()
        ran.append("this")
    assert ran == ["other", "this"]


# --- from elsewhere --------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_function_is_called_in_the_loop_s_thread(backend: str):
    threads: list[int] = []

    async def main() -> None:
        loop, spot = running_loop(), running_loop().spot()

        def call() -> None:
            threads.append(threading.get_ident())
            spot.wake()

        thread = threading.Thread(target=loop.call_soon_threadsafe, args=(call,))
        thread.start()
        await spot.wait()
        thread.join()

    anyio.run(main, backend=backend)
    assert threads == [threading.get_ident()]


@pytest.mark.real
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_has_ended_calls_nothing_and_says_so(backend: str):
    async def main() -> Any:
        return running_loop()

    loop = anyio.run(main, backend=backend)
    with pytest.raises(RuntimeError):
        loop.call_soon_threadsafe(print)
    assert not loop.is_running()


# --- tasks -----------------------------------------------------------------------------------------


async def test_the_running_task_is_known(virtual_time: VirtualTime):
    tasks: set[Any] = set()

    async def note() -> None:
        tasks.add(running_loop().current_task())

    await note()
    await note()
    async with anyio.create_task_group() as group:
        group.start_soon(note)
    assert len(tasks) == 2


async def test_a_loop_that_runs_says_so(virtual_time: VirtualTime):
    assert running_loop().is_running()


async def test_a_task_that_nobody_cancelled_is_not_being_cancelled(virtual_time: VirtualTime):
    loop = running_loop()
    assert not loop.is_being_cancelled()
    assert not loop.cancel_mark()._must_cancel
    with anyio.CancelScope() as scope:  # noqa: ASYNC100 - nothing is to be awaited here
        scope.cancel()
        assert not loop.cancel_mark()._must_cancel


@on_asyncio
async def test_a_task_that_was_cancelled_is_being_cancelled_until_it_shakes_that_off(
    virtual_time: VirtualTime,
):
    loop = running_loop()
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    task.cancel()
    assert loop.is_being_cancelled()
    assert loop.cancel_mark()._must_cancel
    await loop.shake_off_cancel()
    await asyncio.sleep(1.0)
    assert not loop.is_being_cancelled()
    assert not loop.cancel_mark()._must_cancel


@on_asyncio
async def test_a_cancellation_of_a_scope_is_not_shaken_off(virtual_time: VirtualTime):
    with anyio.CancelScope() as scope:
        scope.cancel()
        await running_loop().shake_off_cancel()
    assert scope.cancelled_caught


async def test_shaking_off_nothing_does_nothing(virtual_time: VirtualTime):
    await running_loop().shake_off_cancel()
    assert virtual_time.now() == 0.0


async def test_a_task_is_started_in_a_group(virtual_time: VirtualTime):
    ran: list[bool] = []

    async def note() -> None:
        ran.append(True)

    async with anyio.create_task_group() as group:
        running_loop().start(group, note)
    assert ran == [True]


@on_asyncio
async def test_a_task_is_started_in_a_group_from_a_callback(virtual_time: VirtualTime):
    ran: list[bool] = []

    async def note() -> None:
        ran.append(True)

    async with anyio.create_task_group() as group:
        asyncio.get_running_loop().call_soon(running_loop().start, group, note)
        await asyncio.sleep(1.0)
    assert ran == [True]


async def test_a_protected_function_is_called_all_the_same(virtual_time: VirtualTime):
    ran: list[bool] = []

    async def note() -> None:
        ran.append(True)

    await running_loop().protected(note)()
    assert ran == [True]


@on_trio
async def test_on_trio_interrupts_are_kept_from_a_protected_function(virtual_time: VirtualTime):
    import trio

    protected: list[bool] = []

    async def note() -> None:
        protected.append(trio.lowlevel.currently_ki_protected())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(note)
        nursery.start_soon(running_loop().protected(note))
    assert sorted(protected) == [False, True]
