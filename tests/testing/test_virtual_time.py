"""Time jumps, exactly, on both loops alike."""

from __future__ import annotations

import contextlib
from time import monotonic

import anyio
import anyio.lowlevel
import pytest

from qanat._engine.clock import clock_in_use
from qanat.testing import Backend, VirtualTime, virtual_time

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


class Log(list[tuple[str, float]]):
    """What happened, and at what virtual time."""

    def __init__(self, time: VirtualTime) -> None:
        super().__init__()
        self._time = time

    def note(self, what: str) -> None:
        self.append((what, self._time.now()))

    async def after(self, seconds: float, what: str) -> None:
        await anyio.sleep(seconds)
        self.note(what)


def test_time_begins_at_zero(virtual_time: VirtualTime):
    assert virtual_time.now() == 0.0


async def test_a_sleep_takes_its_virtual_time_and_no_real_time(virtual_time: VirtualTime):
    began = monotonic()
    await anyio.sleep(80_000)
    assert virtual_time.now() == 80_000.0
    assert monotonic() - began < 5


async def test_time_jumps_to_each_deadline_exactly(virtual_time: VirtualTime):
    seen: list[float] = []
    expected = 0.0
    for step in (0.1, 0.2, 1 / 3, 1e-9, 86_400.0, 0.1):
        await anyio.sleep(step)
        expected += step
        seen.append(virtual_time.now() - expected)
    assert seen == [0.0] * 6


async def test_sleepers_wake_in_the_order_of_their_deadlines(virtual_time: VirtualTime):
    log = Log(virtual_time)
    async with anyio.create_task_group() as group:
        for seconds in (0.3, 0.1, 0.2):
            group.start_soon(log.after, seconds, str(seconds))
    assert log == [("0.1", 0.1), ("0.2", 0.2), ("0.3", 0.3)]


async def test_sleepers_of_one_instant_wake_at_that_instant(virtual_time: VirtualTime):
    log = Log(virtual_time)

    async def twice() -> None:
        await log.after(0.5, "first")
        await log.after(0.5, "second")

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(twice)
        group.start_soon(log.after, 1.0, "second")
    assert log == [("first", 0.5)] * 3 + [("second", 1.0)] * 4


async def test_time_stands_while_anything_can_run(virtual_time: VirtualTime):
    log = Log(virtual_time)
    async with anyio.create_task_group() as group:
        group.start_soon(log.after, 0.001, "slept")
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
        log.note("spun")
    assert log == [("spun", 0.0), ("slept", 0.001)]


async def test_a_chain_of_wakings_takes_no_time(virtual_time: VirtualTime):
    events = [anyio.Event() for _ in range(50)]

    async def relay(i: int) -> None:
        await events[i].wait()
        events[i + 1].set()

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 1)
        for i in range(49):
            group.start_soon(relay, i)
        await anyio.sleep(0.5)
        events[0].set()
        await events[-1].wait()
        assert virtual_time.now() == 0.5


async def test_timers_that_set_timers_for_the_same_instant_all_run(virtual_time: VirtualTime):
    rounds = 0
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 5)
        await anyio.sleep(1)
        for _ in range(100):
            with anyio.move_on_at(anyio.current_time()):
                await anyio.sleep(10)
            rounds += 1
        assert (rounds, virtual_time.now()) == (100, 1.0)


async def test_fail_after_fails_at_its_deadline(virtual_time: VirtualTime):
    with pytest.raises(TimeoutError), anyio.fail_after(2.5):
        await anyio.sleep(3)
    assert virtual_time.now() == 2.5


async def test_a_timeout_that_is_not_needed_costs_no_time(virtual_time: VirtualTime):
    with anyio.fail_after(60):
        await anyio.sleep(1.5)
    assert virtual_time.now() == 1.5


async def test_a_cancelled_sleep_leaves_no_deadline(virtual_time: VirtualTime):
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 100)
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    await anyio.sleep(1)
    assert virtual_time.now() == 2.0


async def test_the_clock_in_use_is_the_virtual_one(virtual_time: VirtualTime):
    clock = clock_in_use()
    await clock.sleep(0.25)
    assert (clock.now(), clock.precision) == (0.25, 0.0)
    assert anyio.current_time() == virtual_time.now() == 0.25


async def test_the_loop_and_the_clock_tell_one_time(virtual_time: VirtualTime):
    deadlines: list[float] = []
    with anyio.move_on_after(4) as scope:
        deadlines = [scope.deadline, anyio.current_effective_deadline()]
        await anyio.sleep_forever()
    assert deadlines == [4.0, 4.0]


def test_the_clock_in_use_is_virtual_around_a_run_too():
    before = clock_in_use()
    with virtual_time() as time:
        assert clock_in_use() is not before
        time.run(anyio.sleep, 3)
        assert clock_in_use().now() == 3.0
    assert clock_in_use() is before


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_wall_time_goes_along(backend: Backend):
    with virtual_time(backend, wall=1000.0) as time:
        time.run(anyio.sleep, 2.5)
        assert (time.wall(), clock_in_use().wall()) == (1002.5, 1002.5)


def test_a_run_returns_what_the_function_returns(virtual_time: VirtualTime):
    async def add(a: int, b: int) -> int:
        await anyio.sleep(1)
        return a + b

    assert virtual_time.run(add, 2, 3) == 5


def test_a_run_raises_what_the_function_raises(virtual_time: VirtualTime):
    async def fail() -> None:
        await anyio.sleep(1)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        virtual_time.run(fail)
    assert virtual_time.now() == 1.0


def test_time_goes_on_from_run_to_run(virtual_time: VirtualTime):
    virtual_time.run(anyio.sleep, 1.5)
    virtual_time.run(anyio.sleep, 1.5)
    assert virtual_time.now() == 3.0


def test_two_timelines_do_not_meet():
    with virtual_time() as first, virtual_time() as second:
        first.run(anyio.sleep, 1)
        second.run(anyio.sleep, 2)
    assert (first.now(), second.now()) == (1.0, 2.0)


async def test_a_run_inside_of_a_run_is_refused(virtual_time: VirtualTime):
    with pytest.raises(RuntimeError, match=r"^time\.run cannot be called inside of itself"):
        virtual_time.run(anyio.sleep, 1)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_run_inside_of_another_event_loop_is_refused(backend: Backend):
    async def main() -> None:
        with virtual_time() as time, pytest.raises(RuntimeError, match=r"^time\.run starts an event loop"):
            time.run(anyio.sleep, 1)

    anyio.run(main, backend=backend)


def test_a_timeline_shows_its_loop_and_its_time():
    with virtual_time("trio") as time:
        time.run(anyio.sleep, 0.5)
        assert repr(time) == "<VirtualTime trio 0.5>"


async def test_cleaning_up_may_take_virtual_time(virtual_time: VirtualTime):
    with anyio.move_on_after(1):
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2)
    assert virtual_time.now() == 3.0


async def test_a_task_group_with_a_failure_ends_at_its_time(virtual_time: VirtualTime):
    async def fail() -> None:
        await anyio.sleep(1)
        raise LookupError

    with contextlib.suppress(ExceptionGroup):
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            group.start_soon(anyio.sleep, 10)
    assert virtual_time.now() == 1.0


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match=r"^backend must be 'asyncio' or 'trio', got 'uvloop'$"):
        virtual_time("uvloop")  # type: ignore[arg-type]
