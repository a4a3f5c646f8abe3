"""async-task-manager: what its documentation shows, and what it must not do."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

from qanat import JobCancelledError
from qanat.compat.async_task_manager import Task, TaskManager
from qanat.compat.async_task_manager.strategies import (
    BaseStrategy,
    ConcurrentLimitStrategy,
    DelayedStrategy,
    FixedWindowStrategy,
)
from qanat.compat.async_task_manager.strategies.concurrent_limit import ConcurrentLimitStrategy as SamePath

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio")


class Notes:
    """Coroutines that note when they begin."""

    def __init__(self, time: VirtualTime, seconds: float = 1.0) -> None:
        self._time = time
        self._began = time.now()
        self._seconds = seconds
        self.at: list[tuple[Any, float]] = []
        self.running = 0

    async def __call__(self, name: Any) -> str:
        self.at.append((name, round(self._time.now() - self._began, 6)))
        self.running += 1
        try:
            await asyncio.sleep(self._seconds)
        finally:
            self.running -= 1
        return f"Result from {name}"

    @property
    def times(self) -> list[float]:
        return [at for _, at in self.at]


# --- the strategies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "at"),
    [
        (lambda: ConcurrentLimitStrategy(max_concurrent=3), [0, 0, 0, 1, 1, 1]),
        (lambda: DelayedStrategy(delay_seconds=30.0), [0, 31, 62, 93, 124, 155]),
        (lambda: FixedWindowStrategy(max_requests=2, window_seconds=900), [0, 0, 900, 900, 1800, 1800]),
    ],
    ids=["concurrent", "delayed", "window"],
)
async def test_the_strategies(virtual_time: VirtualTime, strategy: Any, at: list[float]):
    notes = Notes(virtual_time)
    manager = TaskManager(strategy(), poll_interval=0.2)
    for number in range(6):
        manager.add_task(notes(number))
    await manager.idle()
    await asyncio.sleep(2000)
    await manager.stop()
    assert notes.times == at
    assert [name for name, _ in notes.at] == list(range(6))
    assert SamePath is ConcurrentLimitStrategy


async def test_a_task_that_is_awaited_goes_under_the_limit_too(virtual_time: VirtualTime):
    """FAULT: an awaited `add_task` ran at once, whatever the strategy said."""
    notes = Notes(virtual_time)
    manager = TaskManager(ConcurrentLimitStrategy(1))
    await manager.idle()
    results = await asyncio.gather(*[manager.add_task(notes(number)) for number in range(3)])
    assert results == [f"Result from {number}" for number in range(3)]
    assert notes.times == [0, 1, 2]
    await manager.stop()


async def test_a_task_that_is_not_awaited_runs(virtual_time: VirtualTime):
    """FAULT: the un-awaited form ran nothing."""
    notes = Notes(virtual_time)
    manager = TaskManager(ConcurrentLimitStrategy(1))
    await manager.idle()
    manager.add_task(notes("a"))
    await asyncio.sleep(1)
    assert notes.times == [0]
    await manager.stop()


async def test_awaiting_a_task_starts_a_manager_that_does_not_run(virtual_time: VirtualTime):
    manager = TaskManager(ConcurrentLimitStrategy(1))
    assert await manager.add_task(Notes(virtual_time)("a")) == "Result from a"
    await manager.stop()


async def test_a_failing_task_gives_its_place_back(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    """FAULT: it leaked its slot."""

    async def fail(number: int) -> None:
        raise OSError(number)

    manager = TaskManager(ConcurrentLimitStrategy(1))
    await manager.idle()
    awaited = manager.add_task(fail(0))
    with pytest.raises(OSError, match="0"):
        await awaited
    manager.add_task(fail(1))
    assert await manager.add_task(Notes(virtual_time)("a")) == "Result from a"
    await manager.stop()
    assert [record.message for record in caplog.records] == ["a task failed, and nobody waits for it"]


async def test_what_was_cancelled_elsewhere_is_that_tasks_failure(virtual_time: VirtualTime):
    other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    other.cancel()
    manager = TaskManager(ConcurrentLimitStrategy(1))
    task = manager.add_task(other)
    with pytest.raises(JobCancelledError):
        await task
    assert await manager.add_task(Notes(virtual_time)("a")) == "Result from a"
    await manager.stop()


# --- metadata and tasks ----------------------------------------------------------------------------


async def test_metadata_belongs_to_a_task(virtual_time: VirtualTime):
    manager = TaskManager(ConcurrentLimitStrategy(1))
    notes = Notes(virtual_time)
    task = manager.add_task(notes("a"), {"priority": "high"}, category="data_processing")
    assert task.metadata == {"priority": "high", "category": "data_processing"}
    assert manager.add_task(notes("b")).metadata == {}
    await manager.idle()
    assert await task.wait() == await task == task.result() == "Result from a"
    await asyncio.sleep(2)
    await manager.stop()


async def test_a_task_may_be_run_without_a_manager(virtual_time: VirtualTime):
    task = Task(Notes(virtual_time)("a"), {"x": 1})
    assert not task.done()
    with pytest.raises(asyncio.InvalidStateError):
        task.result()
    assert await task.run() == "Result from a"
    assert await task.run() == await task.wait() == "Result from a"
    assert task.done()


async def test_who_is_cancelled_while_waiting_does_not_cancel_the_task(virtual_time: VirtualTime):
    manager = TaskManager(ConcurrentLimitStrategy(1))
    task = manager.add_task(Notes(virtual_time)("a"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await task
    assert await task == "Result from a"
    await manager.stop()


# --- life ------------------------------------------------------------------------------------------


async def test_run_goes_on_until_stop(virtual_time: VirtualTime):
    notes = Notes(virtual_time)
    manager = TaskManager(ConcurrentLimitStrategy(1))
    await manager.stop()
    running = asyncio.create_task(manager.run())
    for number in range(3):
        manager.add_task(notes(number))
    await asyncio.sleep(1.5)
    stopping = asyncio.create_task(manager.stop())
    await asyncio.sleep(0)
    assert notes.running == 1
    await stopping
    await running
    assert notes.running == 0
    assert notes.times == [0, 1]
    await manager.idle()
    await asyncio.sleep(1)
    assert notes.times == [0, 1, 2]
    await manager.stop()


async def test_a_cancelled_run_cancels_its_tasks(virtual_time: VirtualTime):
    notes = Notes(virtual_time, 100)
    manager = TaskManager(ConcurrentLimitStrategy(1))
    task = manager.add_task(notes("a"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await manager.run()
    assert notes.running == 0
    with pytest.raises(JobCancelledError):
        await task


async def test_a_task_may_stop_its_manager(virtual_time: VirtualTime):
    manager = TaskManager(ConcurrentLimitStrategy(1))

    async def stop() -> str:
        await manager.stop()
        return "stopped"

    assert await manager.add_task(stop()) == "stopped"
    await asyncio.sleep(1)
    assert manager._load is not None
    assert manager._load.done()


# --- strategies of one's own -----------------------------------------------------------------------


class CustomStrategy(BaseStrategy):
    """The one of the documentation: a task every tenth of a second."""

    def __init__(self, interval: float | None = 0.1) -> None:
        self.tasks: deque[Task[Any]] = deque()
        self.interval = interval
        self.done = 0
        self.asked = 0

    def add_task(self, task: Task[Any]) -> None:
        self.tasks.append(task)

    def get_next_task(self) -> Task[Any] | None:
        self.asked += 1
        return self.tasks.popleft() if self.tasks else None

    async def get_sleep_interval(self) -> float | None:
        return self.interval

    async def on_task_done(self) -> None:
        self.done += 1


async def test_an_own_strategy_says_which_begins_when(virtual_time: VirtualTime):
    notes = Notes(virtual_time)
    strategy = CustomStrategy()
    manager = TaskManager(strategy)
    for number in range(3):
        manager.add_task(notes(number))
    await manager.idle()
    await asyncio.sleep(10)
    assert strategy.asked < 20
    assert await manager.add_task(notes("late")) == "Result from late"
    assert notes.times == [0, 0.1, 0.2, 10]
    await manager.stop()
    assert strategy.done == 4


@pytest.mark.parametrize("interval", [None, 0])
async def test_an_own_strategy_is_asked_again_when_something_changes(
    virtual_time: VirtualTime, interval: float | None
):
    class OneAtATime(CustomStrategy):
        running = 0

        def get_next_task(self) -> Task[Any] | None:
            task = None if self.running else super().get_next_task()
            self.running += task is not None
            return task

        async def on_task_done(self) -> None:
            await super().on_task_done()
            self.running -= 1

    notes = Notes(virtual_time)
    strategy = OneAtATime(interval)
    manager = TaskManager(strategy, poll_interval=0.5)
    results = await asyncio.gather(*[manager.add_task(notes(number)) for number in range(3)])
    assert len(results) == 3
    assert notes.times == [0, 1, 2]
    await manager.stop()
    assert strategy.asked < 30


async def test_a_class_made_from_a_strategy_of_ours_keeps_its_limit(virtual_time: VirtualTime):
    class Newest(ConcurrentLimitStrategy):
        def get_next_task(self) -> Task[Any] | None:
            return self.tasks.pop() if self.tasks else None

    notes = Notes(virtual_time)
    manager = TaskManager(Newest(1))
    for number in range(3):
        manager.add_task(notes(number))
    await manager.idle()
    await asyncio.sleep(5)
    await manager.stop()
    assert notes.at == [(2, 0), (1, 1), (0, 2)]


async def test_a_strategy_that_raises_ends_the_run_with_its_error(virtual_time: VirtualTime):
    class Broken(CustomStrategy):
        def get_next_task(self) -> Task[Any] | None:
            raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await TaskManager(Broken()).run()


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConcurrentLimitStrategy(0), "max_concurrent must be greater than 0, got 0"),
        (lambda: DelayedStrategy(-1), "delay_seconds must be greater than 0, got -1"),
        (lambda: DelayedStrategy(float("nan")), "delay_seconds must be greater than 0, got nan"),
        (lambda: FixedWindowStrategy(0, 1), "max_requests must be greater than 0, got 0"),
        (lambda: FixedWindowStrategy(1, 0), "window_seconds must be greater than 0, got 0"),
        (lambda: TaskManager(CustomStrategy(), 0), r"poll_interval must be greater than 0.0, got 0"),
    ],
)
def test_values_that_cannot_be_are_refused_with_the_value(make: Any, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_kinds_that_cannot_be_are_refused():
    strategy: Any = object()
    with pytest.raises(TypeError, match="strategy must be a BaseStrategy"):
        TaskManager(strategy)
    wrong: Any = 1.5
    with pytest.raises(TypeError):
        ConcurrentLimitStrategy(wrong)
    with pytest.raises(TypeError, match="coro must be awaitable"):
        TaskManager(CustomStrategy()).add_task(wrong)


# --- the processor ---------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.slow
def test_an_idle_manager_uses_no_processor():
    """FAULT: it burnt a full core."""

    async def main() -> None:
        manager = TaskManager(ConcurrentLimitStrategy(1), poll_interval=1e-6)
        await manager.idle()
        own = TaskManager(CustomStrategy(0), poll_interval=1e-6)
        await own.idle()
        await asyncio.sleep(0.5)
        await manager.stop()
        await own.stop()

    began = time.process_time()
    asyncio.run(main())
    assert time.process_time() - began < 0.3
