"""aqute's engine: what its documentation shows, and what it must not do."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from qanat.compat.aqute import (
    Aqute,
    AquteCounters,
    AquteError,
    AquteTask,
    AquteTaskTimeoutError,
    AquteTooManyTasksFailedError,
)
from qanat.compat.aqute.ratelimiter import TokenBucketRateLimiter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio")


async def double(number: int) -> int:
    await asyncio.sleep((10 - number) / 10)
    return number * 2


async def picky(number: int) -> str:
    if number >= 7:
        raise KeyError(number)
    return f"success {number}"


# --- whole inputs --------------------------------------------------------------------------------


async def test_apply_to_all_gives_results_in_the_order_of_the_items(virtual_time: VirtualTime):
    tasks = await Aqute(handle_coro=double, workers_count=2).apply_to_all(range(10))
    assert [task.result for task in tasks] == [number * 2 for number in range(10)]
    assert [(task.data, task.task_id, task.success) for task in tasks] == [
        (number, str(number), True) for number in range(10)
    ]


async def test_apply_to_each_gives_results_as_they_come(virtual_time: VirtualTime):
    engine = Aqute(double, 10)
    assert [task.data async for task in engine.apply_to_each(range(10))] == list(reversed(range(10)))


async def test_errors_are_values(virtual_time: VirtualTime):
    good: list[AquteTask[int, str]] = []
    bad: list[AquteTask[int, str]] = []
    async for task in Aqute(picky, 3).apply_to_each(range(10)):
        (good if task.success else bad).append(task)
    assert [task.unwrap() for task in good] == [f"success {number}" for number in range(7)]
    assert [type(task.error) for task in bad] == [KeyError] * 3
    with pytest.raises(KeyError):
        bad[0].unwrap()


async def test_process_all_and_iter_results_are_the_same_by_later_names(virtual_time: VirtualTime):
    assert [task.unwrap() for task in await Aqute(double, 4).process_all(range(10))] == list(range(0, 20, 2))
    seen: list[int] = []
    async with Aqute(double, 1).iter_results(range(10), submission_batch_size=4) as results:
        async for task in results:
            seen.append(task.data)
            if len(seen) == 3:
                break
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("size", [0, 1.5, "2"])
async def test_submission_batch_size_is_a_positive_whole_number(virtual_time: VirtualTime, size: Any):
    with pytest.raises(ValueError, match="submission_batch_size must be a positive integer"):
        await Aqute(double, 1).process_all([1], submission_batch_size=size)


async def test_items_may_come_from_any_source_and_are_read_as_there_is_room(virtual_time: VirtualTime):
    closed: list[str] = []

    async def source() -> AsyncIterator[int]:
        try:
            for number in range(10_000):
                yield number
        finally:
            closed.append("async")

    def plain() -> Iterator[int]:
        try:
            yield from range(10_000)
        finally:
            closed.append("plain")

    async def at_once(number: int) -> int:
        await asyncio.sleep(1)
        return number

    for items in (source(), plain()):
        engine = Aqute(at_once, 3)
        async with engine.iter_results(items) as results:
            async for task in results:
                assert task.data == 0
                break
    assert closed == ["async", "plain"]


async def test_one_slow_item_does_not_hold_up_a_whole_batch(virtual_time: VirtualTime):
    async def handle(number: int) -> None:
        await asyncio.sleep(1000 if number == 0 else 1)

    began = virtual_time.now()
    await Aqute(handle, 2).apply_to_all(range(501))
    assert virtual_time.now() - began == 1000


async def test_a_generator_that_is_left_cancels_the_rest(virtual_time: VirtualTime):
    running: set[int] = set()

    async def handle(number: int) -> int:
        running.add(number)
        try:
            await asyncio.sleep(1 + number)
        finally:
            running.discard(number)
        return number

    engine = Aqute(handle, 3)
    async for task in engine.apply_to_each(range(10)):
        assert task.data == 0
        break
    gc.collect()
    await asyncio.sleep(0.5)
    assert not running
    assert [task.result for task in await engine.apply_to_all([1])] == [1]


async def test_a_source_that_raises_is_told(virtual_time: VirtualTime):
    def source() -> Iterator[int]:
        yield 1
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await Aqute(double, 1).apply_to_all(source())


async def test_a_helper_needs_an_engine_that_has_nothing_else_to_do(virtual_time: VirtualTime):
    engine = Aqute(double, 1)
    await engine.add_task(1)
    with pytest.raises(AquteError, match="tasks were added to it"):
        await engine.apply_to_all([1])
    results = engine.apply_to_each([1, 2])
    await engine.stop()
    await anext(results)
    with pytest.raises(AquteError, match="the engine was started"):
        await engine.apply_to_all([1])
    await engine.stop()
    with pytest.raises(AquteError, match="Load was cancelled"):
        await anext(results)


# --- tasks by hand -------------------------------------------------------------------------------


async def test_tasks_may_be_added_before_and_after_the_start(virtual_time: VirtualTime):
    engine = Aqute(picky, 10, retry_count=5, specific_errors_to_retry=(ValueError,))
    for number in range(5):
        assert await engine.add_task(number, task_id=f"My task id: {number}") == f"My task id: {number}"
    async with engine:
        await asyncio.sleep(0.1)
        for number in range(5, 10):
            await engine.add_task(number, task_id=f"My task id: {number}")
        await engine.wait_till_end()
    tasks = engine.extract_all_results()
    assert sorted(task.task_id for task in tasks) == [f"My task id: {number}" for number in range(10)]
    assert sum(task.success for task in tasks) == 7


async def test_ids_are_numbers_unless_given(virtual_time: VirtualTime):
    engine = Aqute(picky, 1)
    assert [await engine.add_task(1), await engine.add_task(1, ""), await engine.add_task(1, "x")] == [
        "0", "1", "x"
    ]  # fmt: skip
    assert await engine.add_task(1) == "3"


async def test_results_are_taken_while_tasks_come_in(virtual_time: VirtualTime):
    engine = Aqute(double, 5)
    taken: list[int] = []

    async def add() -> None:
        for number in range(10):
            await engine.add_task(number)
            await asyncio.sleep(0.1)

    async def collect() -> None:
        while len(taken) < 10:
            taken.append((await engine.get_task_result()).data)

    collecting = asyncio.create_task(collect())
    async with engine:
        await asyncio.gather(add(), collecting)
    assert sorted(taken) == list(range(10))


async def test_a_full_result_queue_stops_the_engine_and_nothing_is_lost(virtual_time: VirtualTime):
    started: list[int] = []

    async def handle(number: int) -> int:
        started.append(number)
        await asyncio.sleep(0.1)
        return number

    results: asyncio.Queue[AquteTask[int, int]] = asyncio.Queue(5)
    engine = Aqute(handle, 10, result_queue=results)
    adding = [asyncio.create_task(engine.add_task(number)) for number in range(100)]
    await asyncio.gather(*adding)
    engine.start()
    await asyncio.sleep(50)
    assert results.qsize() == 5
    assert len(started) <= 20
    seen: list[int] = []

    async def read() -> None:
        while True:
            seen.append((await results.get()).data)

    reading = asyncio.create_task(read())
    await engine.wait_till_end()
    await asyncio.sleep(0)
    reading.cancel()
    assert sorted(seen) == list(range(100))
    await engine.stop()


async def test_a_result_queue_that_is_emptied_step_by_step(virtual_time: VirtualTime):
    results: asyncio.Queue[AquteTask[int, int]] = asyncio.Queue(5)
    engine = Aqute(double, 10, result_queue=results)
    for number in range(10):
        await engine.add_task(number)
    engine.start()
    await asyncio.sleep(5)
    assert results.qsize() == 5
    for _ in range(5):
        await results.get()
    await engine.wait_till_end()
    assert results.qsize() == 5
    await engine.stop()


async def test_a_bounded_input_takes_all_before_the_start_and_makes_wait_after_it(virtual_time: VirtualTime):
    engine = Aqute(double, 1, input_task_queue_size=2)
    for _ in range(10):
        await engine.add_task(0)
    engine.set_all_tasks_added()
    await engine.start()
    assert engine.result_queue.qsize() == 10
    await engine.stop()

    began = virtual_time.now()
    at: list[float] = []
    async with engine:
        await asyncio.sleep(0)
        for _ in range(5):
            await engine.add_task(0)
            at.append(virtual_time.now() - began)
        await engine.wait_till_end()
    assert at == [0, 0, 0, 1, 2]


@pytest.mark.parametrize("size", [None, 2])
async def test_priorities_are_smaller_first_and_stable(virtual_time: VirtualTime, size: int | None):
    seen: list[tuple[int, int]] = []

    async def handle(item: tuple[int, int]) -> None:
        seen.append(item)

    engine = Aqute(handle, 1, use_priority_queue=True)
    for number, priority in enumerate([1_000_000, 10, 5, 10, 1]):
        await engine.add_task((priority, number), task_priority=priority)
    async with engine:
        await engine.wait_till_end()
    assert seen == [(1, 4), (5, 2), (10, 1), (10, 3), (1_000_000, 0)]


async def test_a_bounded_input_with_priorities_makes_wait_too(virtual_time: VirtualTime):
    engine = Aqute(double, 1, use_priority_queue=True, input_task_queue_size=3)
    async with engine:
        adding = asyncio.create_task(_add_many(engine, 50))
        await asyncio.sleep(0.5)
        assert engine.counters.pending <= 6
        await adding
        await engine.wait_till_end()
    assert engine.result_queue.qsize() == 50


async def _add_many(engine: Aqute[int, int], number: int) -> None:
    for _ in range(number):
        await engine.add_task(0)


# --- retries and timeouts ------------------------------------------------------------------------


class Failing:
    """A handler that raises these errors, one after the other, and then returns."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, item: int) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return item


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, 1),
        ({"retry_count": 2}, 3),
        ({"retry_count": -1}, 1),
        ({"retry_count": 2, "specific_errors_to_retry": ValueError}, 2),
        ({"retry_count": 2, "errors_to_not_retry": (KeyError,)}, 2),
        ({"retry_count": 2, "specific_errors_to_retry": ()}, 1),
        ({"retry_count": 2, "specific_errors_to_retry": LookupError, "errors_to_not_retry": KeyError}, 1),
    ],
    ids=["none", "all", "negative", "some", "never", "no kind", "both"],
)
async def test_retries(virtual_time: VirtualTime, options: dict[str, Any], calls: int):
    handler = Failing(ValueError(1), KeyError(2), ValueError(3))
    (task,) = await Aqute(handler, 1, **options).apply_to_all([7])
    assert handler.calls == calls
    assert task.error is not None
    assert not task.success


async def test_retry_delay_is_asked_with_the_attempt_and_its_error(virtual_time: VirtualTime):
    asked: list[tuple[int, str]] = []

    def delay(attempt: int, error: Exception) -> float:
        asked.append((attempt, repr(error)))
        return 2.0 * attempt

    began = virtual_time.now()
    handler = Failing(ValueError(1), ValueError(2))
    (task,) = await Aqute(handler, 1, retry_count=2, retry_delay=delay).apply_to_all([7])
    assert (task.result, virtual_time.now() - began) == (7, 6.0)
    assert asked == [(1, "ValueError(1)"), (2, "ValueError(2)")]


async def test_a_task_that_waits_for_its_retry_holds_no_worker(virtual_time: VirtualTime):
    handler = Failing(ValueError(1))
    engine = Aqute(handler, 1, retry_count=1, retry_delay=lambda attempt, error: 10.0)
    assert [task.data async for task in engine.apply_to_each([1, 2, 3])] == [2, 3, 1]


@pytest.mark.parametrize(("excluded", "calls"), [(None, 3), (AquteTaskTimeoutError, 1)])
async def test_a_timeout_is_of_one_attempt_and_is_tried_again(
    virtual_time: VirtualTime, excluded: type[Exception] | None, calls: int
):
    called = 0

    async def handle(item: int) -> None:
        nonlocal called
        called += 1
        await asyncio.sleep(60)

    began = virtual_time.now()
    engine = Aqute(handle, 1, task_timeout_seconds=5, retry_count=2, errors_to_not_retry=excluded)
    (task,) = await engine.apply_to_all([1])
    assert type(task.error) is AquteTaskTimeoutError
    assert str(task.error) == "Task 0 timed out"
    assert (called, virtual_time.now() - began) == (calls, 5.0 * calls)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_a_timeout_of_nothing_gives_the_handler_no_chance(virtual_time: VirtualTime, timeout: float):
    handler = Failing()
    (task,) = await Aqute(handler, 1, task_timeout_seconds=timeout).apply_to_all([1])
    assert type(task.error) is AquteTaskTimeoutError
    assert handler.calls == 0


async def test_a_handlers_own_timeout_error_is_its_own(virtual_time: VirtualTime):
    """FAULT: it was taken for the timeout of the task."""
    error = TimeoutError("mine")
    (task,) = await Aqute(Failing(error), 1, task_timeout_seconds=5).apply_to_all([1])
    assert task.error is error


async def test_a_limiters_wait_is_not_the_handlers_time(virtual_time: VirtualTime):
    class Slow:
        async def acquire(self, name: str = "", task: AquteTask[Any, Any] | None = None) -> None:
            await asyncio.sleep(60)

    async def handle(item: int) -> int:
        await asyncio.sleep(4 if item < 2 else 6)
        if item == 1:
            raise TimeoutError("mine")
        return item

    engine = Aqute(handle, 3, rate_limiter=Slow(), task_timeout_seconds=5)
    good, own, late = await engine.apply_to_all([0, 1, 2])
    assert good.success
    assert str(own.error) == "mine"
    assert type(late.error) is AquteTaskTimeoutError


# --- the end -------------------------------------------------------------------------------------


async def test_too_many_failed_tasks_end_the_run(virtual_time: VirtualTime):
    async def handle(number: int) -> int:
        await asyncio.sleep(0.01)
        if number % 2 == 0:
            raise ValueError("Even task number")
        return number

    engine = Aqute(handle, 2, total_failed_tasks_limit=5)
    for number in range(100):
        await engine.add_task(number)
    with pytest.raises(AquteTooManyTasksFailedError, match="limit reached: 5"):
        async with engine:
            await engine.wait_till_end()
    assert sum(not task.success for task in engine.extract_all_results()) == 5


@pytest.mark.parametrize(("limit", "failed"), [(5, 5), (1, 1), (0, 1)])
async def test_too_many_failed_tasks_end_the_helpers_too(virtual_time: VirtualTime, limit: int, failed: int):
    """FAULT: the helpers hung."""

    async def handle(number: int) -> None:
        await asyncio.sleep(1)
        raise ValueError(number)

    engine = Aqute(handle, 2, total_failed_tasks_limit=limit)
    with pytest.raises(AquteTooManyTasksFailedError):
        await engine.apply_to_all(range(50))
    seen = 0
    with pytest.raises(AquteTooManyTasksFailedError):
        async for _ in engine.apply_to_each(range(50)):
            seen += 1
    assert seen == failed


async def test_failures_are_counted_anew_after_stop(virtual_time: VirtualTime):
    """FAULT: the count survived `stop()`."""
    engine = Aqute(Failing(*[ValueError(number) for number in range(4)]), 1, total_failed_tasks_limit=3)
    for _ in range(2):
        for number in range(2):
            await engine.add_task(number)
        await engine.start_and_wait()
        await engine.stop()
    assert engine.result_queue.qsize() == 4


async def test_a_first_task_that_does_not_come_in_time_is_an_error(virtual_time: VirtualTime):
    began = virtual_time.now()
    engine = Aqute(double, 10, start_timeout_seconds=1)
    with pytest.raises(AquteError, match=r"Waited too long \(1s\) for available load"):
        async with engine:
            await asyncio.sleep(1.2)
    assert virtual_time.now() - began == 1.2
    with pytest.raises(AquteError, match="Waited too long"):
        await engine.apply_to_all(_never())


async def _never() -> AsyncIterator[int]:
    await asyncio.sleep(100)
    yield 1


@pytest.mark.parametrize("seconds", [1, 0, -1])
async def test_a_task_that_was_there_before_the_start_came_in_time(virtual_time: VirtualTime, seconds: float):
    engine = Aqute(double, 1, start_timeout_seconds=seconds)
    await engine.add_task(0)
    async with engine:
        await asyncio.sleep(2)
        await engine.wait_till_end()
    assert engine.result_queue.qsize() == 1


async def test_waiting_before_the_start_is_an_error(virtual_time: VirtualTime):
    engine = Aqute(double, 1)
    for wait in (engine.wait_till_end, engine.finish):
        with pytest.raises(AquteError, match="Cannot wait for not started load"):
            await wait()
    with pytest.raises(AquteError, match="Cannot get task result without started load"):
        await engine.get_result()


async def test_who_waits_for_a_result_that_never_comes_is_told(virtual_time: VirtualTime):
    """FAULT: it hung."""
    engine = Aqute(double, 1)
    await engine.add_task(0)
    await engine.run()
    assert (await engine.get_result()).data == 0
    with pytest.raises(AquteError, match="without another task result"):
        await engine.get_task_result()


async def test_a_task_that_comes_after_the_end_is_refused(virtual_time: VirtualTime):
    engine = Aqute(double, 1)
    await engine.start_and_wait()
    with pytest.raises(AquteError, match="Cannot add a task after load completion; call stop first"):
        await engine.add_task(1)
    await engine.stop()
    load = engine.start()
    load.cancel()
    await asyncio.sleep(0)
    for call in (engine.add_task(1), engine.wait_till_end(), engine.get_result()):
        with pytest.raises(AquteError, match="Load was cancelled; call stop first"):
            await call
    await engine.stop()


async def test_who_waits_for_room_when_the_run_fails_is_told_why(virtual_time: VirtualTime):
    async def handle(number: int) -> None:
        await asyncio.sleep(1)
        raise ValueError(number)

    engine = Aqute(handle, 1, input_task_queue_size=1, total_failed_tasks_limit=1)
    engine.start()
    with pytest.raises(AquteTooManyTasksFailedError):
        for number in range(10):
            await engine.add_task(number)
    with pytest.raises(AquteTooManyTasksFailedError):
        await engine.stop()


async def test_a_cancelled_add_task_counts_for_nothing(virtual_time: VirtualTime):
    engine = Aqute(double, 1, input_task_queue_size=1)
    async with engine:
        for _ in range(2):
            await engine.add_task(0)
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await engine.add_task(0)
        await engine.wait_till_end()
    assert engine.result_queue.qsize() == 2


async def test_an_engine_may_be_used_again_after_stop(virtual_time: VirtualTime):
    engine = Aqute(picky, 5)
    for first in (0, 10):
        async with engine:
            for number in range(first, first + 10):
                await engine.add_task(number)
            await engine.wait_till_end()
    assert engine.result_queue.qsize() == 20


async def test_stop_cancels_what_runs_and_forgets_what_waits(virtual_time: VirtualTime):
    running = 0

    async def handle(number: int) -> None:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(100)
        finally:
            running -= 1

    engine = Aqute(handle, 2)
    for number in range(5):
        await engine.add_task(number)
    engine.start()
    await asyncio.sleep(1)
    assert running == 2
    assert engine.counters == AquteCounters(3, 2, 0, 0, 0)
    await engine.stop()
    assert running == 0
    assert engine.aiotask_of_run_load is None
    assert engine.extract_all_results() == []


async def test_start_gives_the_task_of_the_run_once(virtual_time: VirtualTime):
    engine = Aqute(double, 1)
    load = engine.start()
    assert engine.start() is load is engine.aiotask_of_run_load
    engine.finish_submitting()
    await load
    assert load.done()
    await engine.stop()


async def test_counters_tell_what_came_of_tasks(virtual_time: VirtualTime):
    engine = Aqute(Failing(ValueError(1), ValueError(2), ValueError(3)), 1, retry_count=1)
    for number in range(3):
        await engine.add_task(number)
    await engine.start_and_wait()
    assert engine.counters == AquteCounters(0, 0, 2, 1, 2)
    assert len(engine.drain_results()) == 3
    await engine.stop()
    assert engine.counters == AquteCounters(0, 0, 0, 0, 0)


async def test_what_was_cancelled_elsewhere_is_that_tasks_failure(virtual_time: VirtualTime):
    """FAULT: the run hung."""
    other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    other.cancel()

    async def handle(number: int) -> int:
        if number == 1:
            await other
        return number

    tasks = await Aqute(handle, 1).apply_to_all(range(3))
    assert [task.success for task in tasks] == [True, False, True]
    with pytest.raises(AquteError, match="Task 1 awaited something that was cancelled elsewhere"):
        tasks[1].unwrap()


async def test_a_limiter_that_raises_fails_the_task(virtual_time: VirtualTime):
    """FAULT: the run hung."""

    class Broken:
        async def acquire(self, name: str = "", task: AquteTask[Any, Any] | None = None) -> None:
            assert task is not None
            if task.data == 1:
                raise OSError("no tokens")

    tasks = await Aqute(picky, 2, rate_limiter=Broken()).apply_to_all(range(3))
    assert [str(task.error) for task in tasks] == ["None", "no tokens", "None"]


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ValueError, {"workers_count": 0}),
        (ValueError, {"workers_count": 1.5}),
        (ValueError, {"workers_count": True}),
        (TypeError, {"handle_coro": None}),
        (TypeError, {"rate_limiter": object()}),
        (ValueError, {"task_timeout_seconds": float("nan")}),
        (ValueError, {"start_timeout_seconds": float("nan")}),
        (TypeError, {"errors_to_not_retry": "ValueError"}),
        (TypeError, {"specific_errors_to_retry": (ValueError, 3)}),
    ],
)
def test_what_cannot_work_is_refused_at_once(error: type[Exception], options: dict[str, Any]):
    name = next(iter(options))
    with pytest.raises(error, match=name):
        Aqute(**{"handle_coro": double, "workers_count": 1, **options})


async def test_a_task_that_has_not_ended_has_no_result():
    with pytest.raises(AquteError, match="task a has not ended"):
        AquteTask(1, "a").unwrap()
    assert AquteTask(1, "a", _priority=1) < AquteTask(1, "b")


async def test_a_rate_holds_calls_back(virtual_time: VirtualTime):
    began = virtual_time.now()
    limiter = TokenBucketRateLimiter(5, 1)
    tasks = [task async for task in Aqute(picky, 10, rate_limiter=limiter).apply_to_each(range(20))]
    assert len(tasks) == 20
    assert virtual_time.now() - began == pytest.approx(3.8)


@pytest.mark.parametrize("stops", [True, False])
async def test_a_batch_may_be_stopped_or_cancelled(virtual_time: VirtualTime, stops: bool):
    engine = Aqute(double, 1)
    batch = asyncio.create_task(engine.apply_to_all([1, 2]))
    await asyncio.sleep(0.1)
    if stops:
        await engine.stop()
    else:
        batch.cancel()
    with pytest.raises(AquteError if stops else asyncio.CancelledError):
        await batch
    assert [task.result for task in await engine.apply_to_all([3])] == [6]
