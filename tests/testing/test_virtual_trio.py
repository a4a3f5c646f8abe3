"""What belongs to trio alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("trio")


async def test_trio_sleeps_and_deadlines_are_exact(virtual_time: VirtualTime):
    await trio.sleep(0.1)
    await trio.sleep_until(0.3)
    with trio.move_on_at(0.7) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert trio.current_time() == virtual_time.now() == 0.7


async def test_whoever_waits_for_all_to_be_blocked_goes_before_the_time(virtual_time: VirtualTime):
    seen: list[tuple[str, float]] = []

    async def watch(name: str) -> None:
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked()
            seen.append((name, virtual_time.now()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 1)
        nursery.start_soon(watch, "a")
        nursery.start_soon(watch, "b")
    assert sorted(seen) == [("a", 0.0)] * 3 + [("b", 0.0)] * 3


async def test_a_cushion_is_waited_for_when_there_is_no_deadline(virtual_time: VirtualTime):
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert virtual_time.now() == 0.0


async def test_memory_channels_with_timeouts_are_exact(virtual_time: VirtualTime):
    send, receive = trio.open_memory_channel[int](0)

    async def produce() -> None:
        async with send:
            for i in range(3):
                await trio.sleep(0.5)
                await send.send(i)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        got = [(i, virtual_time.now()) async for i in receive]
    assert got == [(0, 0.5), (1, 1.0), (2, 1.5)]


def test_an_internal_error_of_trio_is_not_hidden(virtual_time: VirtualTime):
    async def crash() -> None:
        raise LookupError("crashed")

    async def main() -> None:
        trio.lowlevel.spawn_system_task(crash)
        await trio.sleep_forever()

    with pytest.raises(trio.TrioInternalError):
        virtual_time.run(main)
