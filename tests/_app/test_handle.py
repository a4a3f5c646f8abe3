"""`Handle`: a job to be awaited, asked and cancelled."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Concurrency, JobCancelledError, Retry, SlidingWindow, Spacing, Throttled, constant
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def double(item: int) -> int:
    await anyio.sleep(1.0)
    return item * 2


# --- awaiting ------------------------------------------------------------------------------------


async def test_a_handle_knows_when_its_job_has_ended(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        handle = pool.submit(1)
        assert not handle.done
        assert repr(handle) == "<Handle of job 0, not ended>"
        await anyio.sleep(0.5)
        assert not handle.done
        await anyio.sleep(1.0)
        assert handle.done
        assert repr(handle) == "<Handle of job 0, done>"


async def test_a_handle_may_be_awaited_again_and_by_several(virtual_time: VirtualTime):
    values: list[int] = []
    async with qanat.Pool(double) as pool:
        handle = pool.submit(4)

        async def wait() -> None:
            values.append(await handle)

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(wait)
        assert await handle == 8
    assert await handle == 8
    assert values == [8, 8, 8]


async def test_the_error_of_a_job_is_raised_as_it_is(virtual_time: VirtualTime):
    error = KeyError("x")
    async with qanat.Pool(Diary(virtual_time).failing([error])) as pool:
        handle = pool.submit(1)
        for _ in range(2):
            with pytest.raises(KeyError) as caught:
                await handle
            assert caught.value is error


async def test_an_outcome_is_a_value_and_never_raised(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).failing([KeyError("x")])) as pool:
        outcome = await pool.submit(1).outcome()
    assert (outcome.state, outcome.ok, outcome.value) == ("dead", False, None)
    with pytest.raises(KeyError):
        outcome.unwrap()


async def test_awaiting_a_cancelled_job_is_an_error_of_its_own(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        handle = pool.submit(1)
        handle.cancel()
        with pytest.raises(JobCancelledError):
            await handle


async def test_cancelling_whoever_awaits_does_not_cancel_the_job(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        handle = pool.submit(4)
        with anyio.move_on_after(0.5) as scope:
            await handle
        assert scope.cancelled_caught
        assert not handle.done
        assert await handle == 8
    assert virtual_time.now() == 1.0


@pytest.mark.virtual_time("asyncio")
async def test_an_asyncio_wait_for_that_times_out_does_not_cancel_the_job(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        handle = pool.submit(4)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(handle.outcome(), 0.5)
        assert await handle == 8


@pytest.mark.virtual_time("asyncio")
async def test_handles_may_be_gathered(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        assert await asyncio.gather(*[pool.submit(item) for item in range(3)]) == [0, 2, 4]


@pytest.mark.virtual_time("asyncio")
async def test_a_cancellation_from_elsewhere_is_not_taken_for_that_of_whoever_awaits(
    virtual_time: VirtualTime,
):
    async def handler(item: int) -> None:
        elsewhere = asyncio.ensure_future(asyncio.sleep(100.0))
        elsewhere.cancel()
        await elsewhere

    async with qanat.Pool(handler) as pool:
        with pytest.raises(JobCancelledError, match="cancelled elsewhere") as caught:
            await pool.submit(1)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_a_stop_iteration_is_raised_as_a_runtime_error(virtual_time: VirtualTime):
    def handler(item: int) -> None:
        raise StopIteration

    async with qanat.Pool(handler) as pool:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await pool.submit(1)


# --- cancelling ------------------------------------------------------------------------------------


async def test_a_waiting_job_that_is_cancelled_never_starts(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(10.0), concurrency=1) as pool:
        pool.submit(1)
        handle = pool.submit(2)
        await anyio.sleep(3.0)
        assert handle.cancel()
        assert handle.done
        outcome = await handle.outcome()
    assert diary.items == [1]
    assert (outcome.state, outcome.attempts, outcome.started_at) == ("cancelled", 0, None)
    assert (outcome.ended_at, outcome.ran, outcome.waits) == (3.0, 0.0, {"concurrency": 3.0})


async def test_a_job_that_waits_at_a_limit_can_be_cancelled(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), rate="1/10s") as pool:
        handles = [pool.submit(item) for item in range(3)]
        await anyio.sleep(1.0)
        assert handles[1].cancel()
    assert diary.began == [(0, 0.0), (2, 10.0)]


async def test_a_scheduled_job_can_be_cancelled(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        handle = pool.submit(1, delay=100.0)
        await anyio.sleep(4.0)
        assert handle.cancel()
        outcome = await handle.outcome()
    assert virtual_time.now() == 4.0
    assert (outcome.state, outcome.attempts, outcome.waits) == ("cancelled", 0, {"delay": 4.0})


async def test_a_job_that_waits_for_its_retry_can_be_cancelled(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.failing([KeyError()]), retry=Retry(1, backoff=constant(100.0))) as pool:
        handle = pool.submit(1)
        await anyio.sleep(5.0)
        assert handle.cancel()
        outcome = await handle.outcome()
    assert virtual_time.now() == 5.0
    assert (outcome.state, outcome.attempts, outcome.started_at) == ("cancelled", 1, 0.0)


async def test_a_running_job_can_be_cancelled(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        handle = pool.submit(1)
        await anyio.sleep(0.25)
        assert handle.cancel()
        outcome = await handle.outcome()
    assert (outcome.state, outcome.attempts, outcome.ran) == ("cancelled", 1, 0.25)


async def test_a_job_that_has_ended_cannot_be_cancelled(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        handle = pool.submit(1)
        await handle
        assert not handle.cancel()
    assert not handle.cancel()
    assert (await handle.outcome()).state == "done"


async def test_cancelling_a_job_starts_the_next_one_at_once(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(10.0), concurrency=1) as pool:
        first = pool.submit(1)
        pool.submit(2)
        await anyio.sleep(3.0)
        first.cancel()
    assert diary.began == [(1, 0.0), (2, 3.0)]


async def test_a_thread_that_cannot_be_stopped_keeps_its_slot_when_its_job_is_cancelled(
    virtual_time: VirtualTime,
):
    begun, go_on = threading.Event(), threading.Event()

    def handler(item: int) -> int:
        if item == 0:
            begun.set()
            go_on.wait(10.0)
        return item

    async with qanat.Pool(handler, concurrency=1) as pool:
        first, second = pool.submit(0), pool.submit(1)
        await anyio.to_thread.run_sync(begun.wait)
        assert first.cancel()
        assert (await first.outcome()).state == "cancelled"
        await virtual_time.advance(5.0, wait_outside=False)
        assert not second.done
        assert pool.stats().running == 1
        go_on.set()
        assert await second == 1


# --- asking why ----------------------------------------------------------------------------------------


async def test_a_job_that_runs_or_has_ended_waits_for_nothing(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        handle = pool.submit(1)
        await anyio.sleep(0.5)
        assert handle.why() is None
        await handle
        assert handle.why() is None
    assert handle.why() is None


async def test_a_job_waits_for_a_slot(virtual_time: VirtualTime):
    async with qanat.Pool(double, concurrency=1) as pool:
        pool.submit(1)
        await anyio.sleep(0.5)
        reason = pool.submit(2).why()
    assert reason is not None
    assert (reason.cause, reason.limit, reason.since, reason.until) == ("concurrency", "1", 0.5, None)
    assert str(reason) == "concurrency 1"


async def test_a_job_waits_for_a_delay(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        await anyio.sleep(0.5)
        reason = pool.submit(2, delay=4.0).why()
    assert reason is not None
    assert (reason.cause, reason.limit, reason.since, reason.until) == ("delay", None, 0.5, 4.5)


async def test_a_job_waits_for_its_retry(virtual_time: VirtualTime):
    async with qanat.Pool(
        Diary(virtual_time).failing([KeyError()]), retry=Retry(1, backoff=constant(8.0))
    ) as pool:
        handle = pool.submit(2)
        await anyio.sleep(1.0)
        reason = handle.why()
    assert reason is not None
    assert (reason.cause, reason.since, reason.until) == ("retry", 0.0, 8.0)


async def test_a_job_waits_for_a_throttled_lane(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).failing([Throttled(8.0)])) as pool:
        handle = pool.submit(2, lane="left")
        await anyio.sleep(1.0)
        reason = handle.why()
    assert reason is not None
    assert (reason.cause, reason.lane, reason.since, reason.until) == ("throttled", "left", 0.0, 8.0)


@pytest.mark.parametrize(
    ("limit", "cause", "text", "until"),
    [
        (lambda: SlidingWindow(1, 10.0), "rate", "1/10s", 10.0),
        (lambda: Spacing(5.0), "spacing", "5s apart", 5.0),
        (lambda: Spacing(5.0, after="finish"), "spacing", "5s after a finish", None),
        (lambda: Concurrency(1), "concurrency", "1 at once", None),
    ],
    ids=["rate", "spacing", "spacing after a finish", "concurrency"],
)
async def test_a_job_waits_for_a_limit(
    virtual_time: VirtualTime, limit: Any, cause: str, text: str, until: float | None
):
    async with qanat.Pool(double, limits=limit()) as pool:
        pool.submit(1)
        await anyio.sleep(0.5)
        handle = pool.submit(2)
        await anyio.sleep(0.25)
        reason = handle.why()
    assert reason is not None
    assert (reason.cause, reason.limit, reason.since, reason.until) == (cause, text, 0.5, until)


async def test_a_reason_is_never_too_late(virtual_time: VirtualTime):
    """What is said of the end of a wait is kept, or it ends before."""
    async with qanat.Pool(double, concurrency=2, limits=[SlidingWindow(3, 7.0), Spacing(0.5)]) as pool:
        said: dict[int, float] = {}
        handles = [pool.submit(item) for item in range(12)]
        while not all(handle.done for handle in handles):
            for handle in handles:
                reason = handle.why()
                if reason is not None and reason.until is not None:
                    said[handle.job.index] = max(said.get(handle.job.index, 0.0), reason.until)
            await anyio.sleep(0.25)
        outcomes = [await handle.outcome() for handle in handles]
    assert said
    for outcome in outcomes:
        assert outcome.started_at is not None
        assert said.get(outcome.index, 0.0) <= outcome.started_at


async def test_a_lane_behind_another_waits_for_its_turn(virtual_time: VirtualTime):
    async with qanat.Pool(double, concurrency=1, lane_limits=lambda _: Concurrency(1)) as pool:
        for lane in "ab":
            handle = pool.submit(1, lane=lane)
        reason = handle.why()
    assert reason is not None
    assert reason.cause in {"turn", "concurrency"}


# --- being called ---------------------------------------------------------------------------------


async def test_when_done_calls_with_the_outcome_as_soon_as_the_job_has_ended(virtual_time: VirtualTime):
    told: list[Any] = []
    async with qanat.Pool(double) as pool:
        handle = pool.submit(4)
        handle.when_done(lambda outcome: told.append((outcome.value, virtual_time.now())))
        handle.when_done(lambda outcome: told.append(outcome.state))
        began = virtual_time.now()
        await handle
        assert told == [(8, began + 1.0), "done"]
        handle.when_done(lambda outcome: told.append("late"))
        assert told[-1] == "late"


async def test_when_done_is_told_of_jobs_that_never_ran(virtual_time: VirtualTime):
    told: list[Any] = []
    async with qanat.Pool(double, concurrency=1) as pool:
        pool.submit(1)
        handle = pool.submit(2)
        handle.when_done(lambda outcome: told.append((outcome.state, type(outcome.error))))
        handle.cancel()
        assert told == [("cancelled", JobCancelledError)]


async def test_what_when_done_calls_may_raise_and_nothing_comes_of_it(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    def broken(outcome: Any) -> None:
        raise KeyError("broken")

    async with qanat.Pool(double) as pool:
        handle = pool.submit(4)
        handle.when_done(broken)
        assert await handle == 8
    assert [record.message for record in caplog.records] == ["a function given to when_done raised"]


async def test_a_failure_that_when_done_told_of_counts_as_looked_at(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    async with qanat.Pool(Diary(virtual_time).failing([KeyError(1), KeyError(2)])) as pool:
        pool.submit(1).when_done(lambda outcome: None)
        late = pool.submit(2)
        await pool.drain()
        late.when_done(lambda outcome: None)
    assert caplog.records == []


async def test_when_done_wants_a_plain_function(virtual_time: VirtualTime):
    async def coroutine(outcome: Any) -> None: ...

    async with qanat.Pool(double) as pool:
        handle = pool.submit(4)
        for wrong in (coroutine, "no function"):
            with pytest.raises(TypeError, match="callback must be a plain function, got"):
                handle.when_done(wrong)  # type: ignore[arg-type]
