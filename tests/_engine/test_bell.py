"""A bell wakes all who wait, and keeps none who have gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from qanat._engine.bell import Bell
from qanat._engine.loop import running_loop

if TYPE_CHECKING:
    from qanat.testing import VirtualTime


async def test_a_ring_wakes_all_who_wait_and_not_who_comes_later(virtual_time: VirtualTime):
    bell = Bell(running_loop())
    woken: list[tuple[str, float]] = []

    async def wait(name: str) -> None:
        await bell.wait()
        woken.append((name, virtual_time.now()))

    async with anyio.create_task_group() as group:
        group.start_soon(wait, "a")
        group.start_soon(wait, "b")
        await anyio.sleep(1)
        bell.ring()
        group.start_soon(wait, "late")
        await anyio.sleep(1)
        assert sorted(woken) == [("a", 1.0), ("b", 1.0)]
        bell.ring()
    assert woken[2:] == [("late", 2.0)]


async def test_who_is_cancelled_waits_no_more(virtual_time: VirtualTime):
    bell = Bell(running_loop())
    with anyio.move_on_after(1):
        await bell.wait()
    assert not bell
