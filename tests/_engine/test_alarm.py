"""One alarm for an engine: it rings once, at the time last set."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from qanat._engine.alarm import AsyncioAlarm, TrioAlarm
from qanat._engine.clock import REAL, clock_in_use

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


def alarm_in(group: Any, backend: str, ring: Callable[[], None]) -> Any:
    clock = clock_in_use()
    return AsyncioAlarm(clock, ring) if backend == "asyncio" else TrioAlarm(clock, ring, group)


class Rung:
    """When an alarm rang."""

    def __init__(self, virtual_time: VirtualTime) -> None:
        self._time = virtual_time
        self.times: list[float] = []

    def __call__(self) -> None:
        self.times.append(self._time.now())


async def test_it_rings_at_exactly_the_time_set(virtual_time: VirtualTime):
    rung = Rung(virtual_time)
    async with anyio.create_task_group() as group:
        alarm = alarm_in(group, virtual_time.backend, rung)
        alarm.set(0.1)
        await anyio.sleep(0.3)
        alarm.set(0.7)
        await anyio.sleep(1.0)
        group.cancel_scope.cancel()
    assert rung.times == [0.1, 0.7]


async def test_the_time_set_last_is_the_one_that_counts(virtual_time: VirtualTime):
    rung = Rung(virtual_time)
    async with anyio.create_task_group() as group:
        alarm = alarm_in(group, virtual_time.backend, rung)
        alarm.set(5.0)
        await anyio.sleep(1.0)
        alarm.set(3.0)
        await anyio.sleep(1.0)
        alarm.set(4.0)
        await anyio.sleep(10.0)
        group.cancel_scope.cancel()
    assert rung.times == [4.0]


async def test_a_time_that_has_passed_rings_at_once(virtual_time: VirtualTime):
    rung = Rung(virtual_time)
    async with anyio.create_task_group() as group:
        alarm = alarm_in(group, virtual_time.backend, rung)
        await anyio.sleep(2.0)
        alarm.set(1.0)
        await anyio.sleep(1.0)
        group.cancel_scope.cancel()
    assert rung.times == [2.0]


async def test_a_cleared_alarm_does_not_ring(virtual_time: VirtualTime):
    rung = Rung(virtual_time)
    async with anyio.create_task_group() as group:
        alarm = alarm_in(group, virtual_time.backend, rung)
        alarm.clear()
        alarm.set(1.0)
        alarm.clear()
        await anyio.sleep(5.0)
        alarm.set(7.0)
        await anyio.sleep(5.0)
        group.cancel_scope.cancel()
    assert rung.times == [7.0]


async def test_it_may_be_set_again_as_it_rings(virtual_time: VirtualTime):
    times: list[float] = []

    def ring() -> None:
        times.append(virtual_time.now())
        if len(times) < 4:
            alarm.set(virtual_time.now() + 1.0)

    async with anyio.create_task_group() as group:
        alarm = alarm_in(group, virtual_time.backend, ring)
        alarm.set(1.0)
        await anyio.sleep(10.0)
        group.cancel_scope.cancel()
    assert times == [1.0, 2.0, 3.0, 4.0]


async def test_it_may_be_set_before_its_task_has_begun(virtual_time: VirtualTime):
    rung = Rung(virtual_time)
    async with anyio.create_task_group() as group:
        alarm_in(group, virtual_time.backend, rung).set(1.0)
        await anyio.sleep(2.0)
        group.cancel_scope.cancel()
    assert rung.times == [1.0]


@pytest.mark.real
@pytest.mark.parametrize("loop", ["asyncio", "trio", "uvloop"])
def test_on_a_loop_whose_clock_has_another_origin_it_rings_in_time(loop: str):
    rung: list[float] = []

    async def main() -> float:
        async with anyio.create_task_group() as group:
            clock = REAL
            ring = lambda: rung.append(time.monotonic())  # noqa: E731
            alarm: Any = TrioAlarm(clock, ring, group) if loop == "trio" else AsyncioAlarm(clock, ring)
            at = clock.now() + 0.05
            alarm.set(clock.now() + 9.0)
            alarm.set(at)
            await anyio.sleep(0.15)
            group.cancel_scope.cancel()
        return at

    if loop == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        at = uvloop.run(main())
    else:
        at = anyio.run(main, backend=loop)
    (when,) = rung
    assert -0.005 < when - at < 0.09


@pytest.mark.real
def test_on_asyncio_with_a_clock_of_its_own_it_rings_in_time():
    class Shifted(asyncio.SelectorEventLoop):
        def time(self) -> float:
            return super().time() + 5_000.0

    rung: list[float] = []

    async def main() -> None:
        AsyncioAlarm(REAL, lambda: rung.append(REAL.now() - at)).set(at := REAL.now() + 0.03)
        await asyncio.sleep(0.1)

    with asyncio.Runner(loop_factory=Shifted) as runner:
        runner.run(main())
    assert len(rung) == 1
    assert -0.005 < rung[0] < 0.07
