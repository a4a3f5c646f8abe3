"""`advance` runs all that is due, in order, and returns at exactly its time."""

from __future__ import annotations

from math import inf, nan

import anyio
import anyio.lowlevel
import pytest

from qanat.testing import VirtualTime, virtual_time

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def test_it_returns_at_exactly_its_time(virtual_time: VirtualTime):
    await virtual_time.advance(0.1)
    await virtual_time.advance(0.2)
    assert virtual_time.now() == 0.1 + 0.2


async def test_it_runs_what_is_due_on_the_way_and_at_the_end_and_nothing_later(virtual_time: VirtualTime):
    woken: list[tuple[float, float]] = []

    async def sleeper(seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, virtual_time.now()))

    async with anyio.create_task_group() as group:
        for seconds in (3.0, 1.0, 2.0, 2.5):
            group.start_soon(sleeper, seconds)
        await virtual_time.advance(2.5)
        assert woken == [(1.0, 1.0), (2.0, 2.0), (2.5, 2.5)]
        assert virtual_time.now() == 2.5
    assert virtual_time.now() == 3.0


async def test_it_returns_after_all_that_follows_at_the_same_instant(virtual_time: VirtualTime):
    log: list[str] = []

    async def chain() -> None:
        await anyio.sleep(1)
        for i in range(5):
            await anyio.lowlevel.checkpoint()
            log.append(str(i))
        await anyio.sleep(0.5)
        log.append("late")

    async with anyio.create_task_group() as group:
        group.start_soon(chain)
        await virtual_time.advance(1)
        assert log == ["0", "1", "2", "3", "4"]
        await virtual_time.advance(0.5)
        assert log[-1] == "late"


async def test_zero_lets_all_run_that_can(virtual_time: VirtualTime):
    started: list[int] = []

    async def starter(i: int) -> None:
        started.append(i)
        await anyio.sleep(1)

    async with anyio.create_task_group() as group:
        for i in range(3):
            group.start_soon(starter, i)
        assert started == []
        await virtual_time.advance(0)
        assert sorted(started) == [0, 1, 2]
        assert virtual_time.now() == 0.0


async def test_several_at_once_return_each_at_its_time(virtual_time: VirtualTime):
    reached: list[float] = []

    async def go(seconds: float) -> None:
        await virtual_time.advance(seconds)
        reached.append(virtual_time.now())

    async with anyio.create_task_group() as group:
        for seconds in (2.0, 1.0, 2.0):
            group.start_soon(go, seconds)
    assert reached == [1.0, 2.0, 2.0]


async def test_one_that_is_cancelled_leaves_no_stop(virtual_time: VirtualTime):
    with anyio.move_on_after(1):
        await virtual_time.advance(5)
    assert virtual_time.now() == 1.0
    await anyio.sleep(9)
    assert virtual_time.now() == 10.0


@pytest.mark.parametrize("seconds", [-1, inf, nan], ids=str)
async def test_a_length_that_is_no_length_is_refused(virtual_time: VirtualTime, seconds: float):
    with pytest.raises(ValueError, match=f"^seconds must be a finite number of at least 0, got {seconds}$"):
        await virtual_time.advance(seconds)


def test_outside_of_a_run_it_is_refused():
    async def on_a_real_loop(time: VirtualTime) -> None:
        await time.advance(1)

    with (
        virtual_time() as time,
        pytest.raises(RuntimeError, match=r"^advance must be awaited inside"),
    ):
        anyio.run(on_a_real_loop, time)
