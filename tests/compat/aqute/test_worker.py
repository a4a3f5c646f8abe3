"""aqute's bare flow: Foreman and Worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from qanat.compat.aqute import AquteError, AquteTask, AquteTaskTimeoutError
from qanat.compat.aqute.ratelimiter import TokenBucketRateLimiter
from qanat.compat.aqute.task import END_MARKER
from qanat.compat.aqute.worker import Foreman, Worker

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio")


async def handle(number: int) -> str:
    await asyncio.sleep(0.1)
    if number == 13:
        raise ValueError(number)
    return f"Success {number}"


async def test_the_tasks_that_come_out_are_those_that_went_in(virtual_time: VirtualTime):
    foreman = Foreman(
        handle, workers_count=10, rate_limiter=TokenBucketRateLimiter(5, 1), input_task_queue_size=100
    )
    tasks = [AquteTask[int, str](number, f"{number}") for number in range(20)]
    for task in tasks:
        await foreman.add_task(task)
    foreman.start()
    foreman.start()
    got = [await foreman.get_handled_task() for _ in range(10)]
    got += [await foreman.get_handeled_task() for _ in range(10)]
    assert {id(task) for task in got} == {id(task) for task in tasks}
    assert [task.result for task in tasks if task.error is None] == [
        f"Success {number}" for number in range(20) if number != 13
    ]
    assert not any(task.success for task in tasks)
    await foreman.finalize()


async def test_reset_forgets_what_was_added_and_what_came_out(virtual_time: VirtualTime):
    foreman = Foreman(handle, 1)
    await foreman.add_task(AquteTask[int, str](1, "1"))
    foreman.reset()
    foreman.start()
    await foreman.add_task(AquteTask[int, str](2, "2"))
    assert (await foreman.get_handled_task()).result == "Success 2"
    await foreman.add_task(AquteTask[int, str](3, "3"))
    await asyncio.sleep(1.0)
    out = foreman.out_queue
    assert out.qsize() == 1
    await foreman.stop()
    foreman.reset()
    assert foreman.out_queue is not out
    assert foreman.out_queue.empty()


async def test_finalize_waits_for_all_and_stop_for_nothing(virtual_time: VirtualTime):
    foreman = Foreman(handle, 1)
    await foreman.finalize()
    await foreman.stop()
    for end, results in ((foreman.finalize, 3), (foreman.stop, 0)):
        tasks = [AquteTask[int, str](number, f"{number}") for number in range(3)]
        for task in tasks:
            await foreman.add_task(task)
        foreman.start()
        await end()
        assert sum(task.result is not None for task in tasks) == results
        assert foreman.out_queue.empty()


async def test_a_full_output_queue_stops_the_workers(virtual_time: VirtualTime):
    foreman = Foreman(handle, 2, output_task_queue_size=3)
    tasks = [AquteTask[int, str](number, f"{number}") for number in range(10)]
    for task in tasks:
        await foreman.add_task(task)
    foreman.start()
    await asyncio.sleep(10)
    assert sum(task.result is not None for task in tasks) <= 6
    assert {(await foreman.get_handled_task()).task_id for _ in range(10)} == {str(n) for n in range(10)}
    await foreman.finalize()


async def test_a_filter_decides_on_retries(virtual_time: VirtualTime):
    seen: list[tuple[int, str]] = []

    def again(task: AquteTask[int, str]) -> bool:
        seen.append((task._remaining_tries, repr(task.error)))
        return task._remaining_tries > 0

    foreman = Foreman(handle, 1, retry_filter=again, retry_delay=lambda attempt, error: 1.0 * attempt)
    await foreman.add_task(AquteTask(13, "a", _remaining_tries=3))
    foreman.start()
    began = virtual_time.now()
    task = await foreman.get_handled_task()
    assert virtual_time.now() - began == pytest.approx(3.3)
    assert repr(task.error) == "ValueError(13)"
    assert seen == [(2, "ValueError(13)"), (1, "ValueError(13)"), (0, "ValueError(13)")]
    await foreman.stop()


async def test_priorities_and_timeouts(virtual_time: VirtualTime):
    foreman = Foreman(handle, 1, use_priority_queue=True, task_timeout_seconds=0.05)
    for number in (3, 1, 2):
        await foreman.add_task(AquteTask(number, str(number), _priority=number))
    foreman.start()
    tasks = [await foreman.get_handled_task() for _ in range(3)]
    assert [(task.data, type(task.error)) for task in tasks] == [
        (number, AquteTaskTimeoutError) for number in (1, 2, 3)
    ]
    await foreman.stop()


async def test_who_waits_for_a_task_that_never_comes_is_told(virtual_time: VirtualTime):
    foreman = Foreman(handle, 1)
    foreman.start()
    waiting = asyncio.create_task(foreman.get_handled_task())
    await asyncio.sleep(1)
    foreman._line.close()
    with pytest.raises(AquteError, match="without another task result"):
        await waiting
    await foreman.stop()


async def test_a_worker_works_between_queues_of_your_own(virtual_time: VirtualTime):
    tasks: asyncio.Queue[AquteTask[int, str]] = asyncio.Queue()
    done: asyncio.Queue[AquteTask[int, str]] = asyncio.Queue()
    worker = Worker("w", handle, tasks, done, rate_limiter=TokenBucketRateLimiter(1))
    for number in (1, 13):
        tasks.put_nowait(AquteTask(number, str(number)))
    end: Any = END_MARKER
    tasks.put_nowait(AquteTask(end, "end"))
    began = virtual_time.now()
    await worker.run()
    assert virtual_time.now() - began == pytest.approx(1.1)
    first, second = done.get_nowait(), done.get_nowait()
    assert (first.result, repr(second.error)) == ("Success 1", "ValueError(13)")
    await worker.handle_task(first)
    assert done.get_nowait() is first


def test_a_foreman_has_a_worker():
    with pytest.raises(ValueError, match="workers_count must be at least 1"):
        Foreman(handle, 0)
