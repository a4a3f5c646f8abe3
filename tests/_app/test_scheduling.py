"""`Pool.schedule`: items that come back by themselves."""

from __future__ import annotations

import logging
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import At, Cron, Every
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")

WALL = 1_767_225_600.0  # where the wall clock of virtual time begins: a whole minute, hour and day


def step(time: VirtualTime, seconds: float) -> None:
    """Set the wall clock forward, or back."""
    time._clock._wall_at_start += seconds


def look_now_and_then(time: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the wall clock looked at as it is in real time, where it may be set."""
    monkeypatch.setattr(time._clock, "precision", 0.001)


# --- times ---------------------------------------------------------------------------------------


async def test_an_item_comes_every_so_often(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0)) as pool:
        handle = pool.schedule(Every(10), "a")
        await anyio.sleep(35)
        assert (handle.runs, handle.skipped, handle.running, handle.done) == (3, 0, 0, False)
        assert handle.next_at == WALL + 40
    assert diary.began == [("a", 10.0), ("a", 20.0), ("a", 30.0)]


async def test_an_item_comes_by_the_calendar(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0)) as pool:
        pool.schedule(Cron("30 2 * * *", tz="Europe/Prague"), "a")
        await anyio.sleep(2 * 86_400)
    assert diary.began == [("a", 5400.0), ("a", 91_800.0)]


async def test_an_item_comes_once(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0)) as pool:
        handle = pool.schedule(At(WALL + 7.5), "a")
        await handle.wait_done()
        assert virtual_time.now() == 8.5
        assert handle.done
        assert handle.next_at == inf
    assert diary.began == [("a", 7.5)]


async def test_a_time_in_the_past_is_made_up_at_once(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).taking(1.0)) as pool:
        await pool.schedule(At(WALL - 1000), "a").wait_done()
        skipping = pool.schedule(At(WALL - 1000, missed="skip"), "b")
        await skipping.wait_done()
        assert (skipping.runs, skipping.skipped) == (0, 1)
    assert virtual_time.now() == 1.0


async def test_a_fixed_delay_counts_from_the_end(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(3.0)) as pool:
        handle = pool.schedule(Every(10, fixed="delay"), "a")
        await anyio.sleep(11)
        assert handle.next_at == inf
        await anyio.sleep(29)
    assert diary.began == [("a", 10.0), ("a", 23.0), ("a", 36.0)]


async def test_a_run_goes_on_through_its_retries(virtual_time: VirtualTime):
    starts: list[float] = []

    async def failing(item: str) -> None:
        starts.append(virtual_time.now())
        raise ConnectionError

    async with qanat.Pool(failing) as pool:
        handle = pool.schedule(Every(10, fixed="delay"), "a", retry=qanat.Retry(1, backoff=qanat.constant(4)))
        await anyio.sleep(25)
        assert handle.runs == 2
    assert starts == [10.0, 14.0, 24.0, 28.0]


async def test_many_schedules_keep_their_times(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(0.5), concurrency=50) as pool:
        for seconds in range(1, 21):
            pool.schedule(Every(seconds), seconds)
        await anyio.sleep(60.5)
    expected = [(each, float(at)) for at in range(1, 61) for each in range(1, 21) if at % each == 0]
    assert sorted(diary.began, key=lambda entry: (entry[1], entry[0])) == expected


async def test_jitter_is_the_same_on_each_run_on_virtual_time(virtual_time: VirtualTime):
    starts: list[list[float]] = []
    for _ in range(2):
        begin = virtual_time.now()
        starts.append([])

        async def handler(item: str, begin: float = begin) -> None:
            starts[-1].append(round(virtual_time.now() - begin, 3))

        async with qanat.Pool(handler) as pool:
            pool.schedule(Every(10, jitter=5), "a")
            await anyio.sleep(100)
    assert starts[0] == starts[1]
    assert all(0 <= at - 10 * number <= 5 for number, at in enumerate(starts[0], 1))
    assert len({at % 10 for at in starts[0]}) > 5


async def test_a_job_knows_its_time_and_what_it_was_given(virtual_time: VirtualTime):
    jobs: list[Any] = []

    async def handler(item: str) -> None:
        job = qanat.current_job()
        jobs.append((item, job.metadata, job.lane, job.priority))

    async with qanat.Pool(handler, order="priority", lane=lambda item: "rule") as pool:
        pool.schedule(Every(10, end=WALL + 15), "a", metadata={"why": "x"}, lane="own", priority=-1)
        await pool.schedule(At(WALL + 20), "b").wait_done()
    assert jobs == [
        ("a", {"why": "x", "scheduled_for": WALL + 10}, "own", -1.0),
        ("b", {"scheduled_for": WALL + 20}, "rule", 0.0),
    ]


async def test_a_timeout_of_its_own_holds_for_each_job(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(5.0)) as pool:
        outcomes = pool.outcomes()
        pool.schedule(Every(10), "a", timeout=2)
        outcome = await anext(outcomes)
        assert isinstance(outcome.error, qanat.JobTimeoutError)
        assert virtual_time.now() == 12.0


# --- overlapping ---------------------------------------------------------------------------------


async def test_a_time_is_left_out_while_a_run_goes_on(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(15.0)) as pool:
        handle = pool.schedule(Every(10), "a")
        await anyio.sleep(55)
        assert (handle.runs, handle.skipped) == (3, 2)
    assert diary.began == [("a", 10.0), ("a", 30.0), ("a", 50.0)]


async def test_a_time_is_queued_while_a_run_goes_on(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(15.0)) as pool:
        handle = pool.schedule(Every(10, end=WALL + 31, overlap="queue"), "a")
        await handle.wait_done()
        assert (handle.runs, handle.skipped) == (3, 0)
    assert diary.began == [("a", 10.0), ("a", 25.0), ("a", 40.0)]


async def test_runs_overlap_if_they_may(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(15.0)) as pool:
        pool.schedule(Every(10, overlap="allow"), "a")
        await anyio.sleep(35)
    assert diary.began == [("a", 10.0), ("a", 20.0), ("a", 30.0)]


async def test_runs_that_end_at_once_are_queued_however_many(virtual_time: VirtualTime):
    """None is started from the end of another: that would be as many calls deep."""
    count = 0

    async def handler(item: str) -> None:
        nonlocal count
        count += 1

    async with qanat.Pool(handler) as pool:
        pool.pause()
        handle = pool.schedule(Every(1, overlap="queue", most=600, end=WALL + 501), "a")
        await anyio.sleep(600)
        pool.resume()
        await handle.wait_done()
    assert count == 500
    assert virtual_time.now() == 600.0


# --- the end -------------------------------------------------------------------------------------


async def test_leaving_the_pool_ends_its_schedules_and_waits_for_their_jobs(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(5.0)) as pool:
        handle = pool.schedule(Every(10), "a")
        await anyio.sleep(12)
    assert virtual_time.now() == 15.0
    assert handle.done
    await handle.wait_done()
    assert diary.began == [("a", 10.0)]


async def test_an_exception_in_the_block_ends_its_schedules(virtual_time: VirtualTime):
    handles: list[qanat.ScheduleHandle] = []
    with pytest.raises(LookupError):
        async with qanat.Pool(Diary(virtual_time).taking(5.0)) as pool:
            handles.append(pool.schedule(Every(10), "a"))
            await anyio.sleep(12)
            raise LookupError
    assert virtual_time.now() == 12.0
    assert handles[0].done


async def test_cancelling_the_pool_ends_its_schedules(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).taking(5.0)) as pool:
        handle = pool.schedule(Every(10), "a")
        await anyio.sleep(12)
        pool.cancel()
        await anyio.sleep(100)
        assert (handle.runs, handle.done) == (1, True)


async def test_drain_waits_for_jobs_and_not_for_times(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).taking(5.0)) as pool:
        handle = pool.schedule(Every(10), "a")
        await pool.drain()
        assert virtual_time.now() == 0.0
        await anyio.sleep(12)
        await pool.drain()
        assert virtual_time.now() == 15.0
        await anyio.sleep(10)
        assert handle.runs == 2


async def test_a_cancelled_schedule_hands_in_nothing_more(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(5.0)) as pool:
        handle = pool.schedule(Every(10), "a")
        await anyio.sleep(12)
        assert handle.cancel()
        assert not handle.done  # its job goes on
        await handle.wait_done()
        assert virtual_time.now() == 15.0
        assert not handle.cancel()
        await anyio.sleep(100)
    assert diary.began == [("a", 10.0)]


async def test_what_was_cancelled_long_before_its_time_is_not_kept(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0)) as pool:
        early = pool.schedule(Every(10), "early")
        late = [pool.schedule(At(WALL + 25.0 + place), f"late {place}") for place in (0, 1)]
        for place in range(1000):
            pool.schedule(At(WALL + 1e6), place).cancel()
        assert pool._schedules is not None
        assert len(pool._schedules._heap) < 30
        late[0].cancel()
        await anyio.sleep(30.5)
        early.cancel()
    assert diary.began == [("early", 10.0), ("early", 20.0), ("late 1", 26.0), ("early", 30.0)]


async def test_cancelled_before_its_first_time_it_is_done(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).taking(5.0)) as pool:
        first, second = pool.schedule(Every(10), "a"), pool.schedule(Every(10), "b")
        first.cancel()
        await first.wait_done()
        await anyio.sleep(11)
        assert (first.runs, second.runs) == (0, 1)


async def test_a_handler_may_cancel_its_own_schedule(virtual_time: VirtualTime):
    handles: list[qanat.ScheduleHandle] = []

    async def handler(item: str) -> None:
        handles[0].cancel()

    async with qanat.Pool(handler) as pool:
        handles.append(pool.schedule(Every(10), "a"))
        await handles[0].wait_done()
    assert virtual_time.now() == 10.0
    assert handles[0].runs == 1


async def test_a_handler_may_schedule(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    inner = diary.taking(1.0)

    async def handler(item: str) -> None:
        if item == "first":
            pool.schedule(At(WALL + 9), "second")
        await inner(item)

    async with qanat.Pool(handler) as pool:
        pool.submit("first")
        await anyio.sleep(20)
    assert diary.began == [("first", 0.0), ("second", 9.0)]


async def test_a_schedule_that_is_over_already_is_done(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).taking(1.0)) as pool:
        handle = pool.schedule(Every(10, end=WALL - 1), "a")
        assert handle.done
        await handle.wait_done()


async def test_a_pool_that_is_opened_again_has_no_schedules(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    pool = qanat.Pool(diary.taking(1.0))
    async with pool:
        pool.schedule(Every(10), "a")
        await anyio.sleep(11)
    async with pool:
        await anyio.sleep(20)
        pool.schedule(Every(10), "b")
        await anyio.sleep(11)
    assert diary.began == [("a", 10.0), ("b", 41.0)]


async def test_a_pool_that_failed_hands_in_nothing_more(virtual_time: VirtualTime):
    async def failing(item: str) -> None:
        raise LookupError

    with pytest.raises(qanat.TooManyFailuresError):
        async with qanat.Pool(failing, max_failures=1) as pool:
            handle = pool.schedule(Every(10), "a")
            await anyio.sleep(100)
            assert (handle.runs, handle.done) == (2, True)


async def test_a_pool_that_nobody_gave_work_in_time_ends_its_schedules(virtual_time: VirtualTime):
    with pytest.raises(qanat.StartTimeoutError):
        async with qanat.Pool(Diary(virtual_time).taking(1.0), start_within=5) as pool:
            handle = pool.schedule(Every(10), "a")
            await handle.wait_done()
            assert virtual_time.now() == 5.0
            await pool.drain()


# --- what gets in the way ------------------------------------------------------------------------


async def test_a_time_without_room_in_the_pool_is_left_out(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    async with qanat.Pool(Diary(virtual_time).taking(100.0), concurrency=1, max_waiting=1) as pool:
        pool.submit("long")
        await anyio.sleep(1)
        pool.submit("waits")
        handle = pool.schedule(Every(10), "a")
        with caplog.at_level(logging.WARNING, "qanat"):
            await anyio.sleep(35)
        assert (handle.runs, handle.skipped) == (0, 3)
        pool.cancel()
    (record,) = caplog.records
    assert record.getMessage().startswith("'a' of every 10s is left out: 1 jobs wait, as many as max_waiting")


async def test_a_rule_that_raises_fails_the_job_and_not_the_schedule(virtual_time: VirtualTime):
    def lane(item: str) -> str:
        raise LookupError

    async with qanat.Pool(Diary(virtual_time).taking(1.0), lane=lane) as pool:
        handle = pool.schedule(Every(10), "a")
        await anyio.sleep(25)
        assert (handle.runs, handle.running) == (2, 0)
        assert pool.stats().failed == 2


async def test_a_failure_while_runs_are_made_up_stops_the_rest(virtual_time: VirtualTime):
    def lane(item: str) -> str:
        raise LookupError

    with pytest.raises(qanat.TooManyFailuresError):
        async with qanat.Pool(Diary(virtual_time).taking(1.0), lane=lane, max_failures=2) as pool:
            handle = pool.schedule(Every(10, missed="all", overlap="allow"), "a")
            step(virtual_time, 1000)
            await anyio.sleep(20)
            assert (handle.runs, handle.done) == (3, True)
            assert handle.skipped == 98


@pytest.mark.parametrize(
    ("arguments", "problem", "message"),
    [
        ({"schedule": "* * * * *"}, TypeError, r"schedule must be an At, Every or Cron, got .* write Cron\("),
        ({"priority": "high"}, TypeError, "priority must be a number"),
        ({"timeout": 0}, ValueError, "timeout must be greater than 0"),
        ({"retry": -1}, ValueError, "retry must be at least 0"),
        ({"metadata": 5}, TypeError, "metadata must be a mapping"),
        ({"lane": []}, TypeError, "lane"),
    ],
)  # fmt: skip
async def test_a_wrong_argument_is_refused_at_the_call(
    virtual_time: VirtualTime, arguments: dict[str, Any], problem: type[Exception], message: str
):
    async with qanat.Pool(Diary(virtual_time).taking(1.0)) as pool:
        given: dict[str, Any] = {"schedule": Every(10), "item": "a", **arguments}
        with pytest.raises(problem, match=message):
            pool.schedule(**given)


async def test_a_closed_pool_and_one_without_a_handler_take_no_schedule(virtual_time: VirtualTime):
    with pytest.raises(qanat.PoolClosedError):
        qanat.Pool(Diary(virtual_time).taking(1.0)).schedule(Every(10), "a")
    async with qanat.Pool() as pool:
        with pytest.raises(TypeError, match="the Pool has no handler to schedule"):
            pool.schedule(Every(10), "a")


async def test_it_shows_how_it_is_doing(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).taking(1.0)) as pool:
        assert repr(pool.schedule(Every(10), "a")) == "<ScheduleHandle every 10s: 0 runs, 0 skipped>"


# --- clocks that are set -------------------------------------------------------------------------


async def test_a_clock_set_forward_is_noticed_soon(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    look_now_and_then(virtual_time, monkeypatch)
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0)) as pool:
        skipping = pool.schedule(Cron("0 2 * * *"), "skip")
        pool.schedule(Cron("0 2 * * *", missed="once"), "once")
        await anyio.sleep(100)
        step(virtual_time, 3 * 3600)
        await anyio.sleep(100)
        assert (skipping.runs, skipping.skipped) == (0, 1)
        assert skipping.next_at == WALL + 86_400 + 7200
    assert diary.began == [("once", 120.0)]


async def test_a_step_forward_just_over_a_time_runs_it(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    look_now_and_then(virtual_time, monkeypatch)
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0)) as pool:
        pool.schedule(At(WALL + 600, missed="skip"), "a")
        await anyio.sleep(100)
        step(virtual_time, 510)
        await anyio.sleep(100)
    assert diary.began == [("a", 120.0)]


async def test_a_clock_set_back_does_not_bring_a_fixed_time_again(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0)) as pool:
        pool.schedule(Cron("0 2 * * *"), "daily")
        await anyio.sleep(7300)
        step(virtual_time, -3600)
        await anyio.sleep(7300)
        assert diary.began == [("daily", 7200.0)]


async def test_a_clock_set_back_silences_nothing(virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch):
    look_now_and_then(virtual_time, monkeypatch)
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0)) as pool:
        pool.schedule(Cron("* * * * *"), "minutely")
        pool.schedule(Every(50), "every")
        await anyio.sleep(130)
        step(virtual_time, -3600)
        await anyio.sleep(100)
    assert [at for item, at in diary.began if item == "minutely"] == [60.0, 120.0, 180.0]
    assert [round(at, 3) for item, at in diary.began if item == "every"] == [50.0, 100.0, 150.0, 200.0]


async def test_nothing_comes_before_its_time_on_the_wall(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0)) as pool:
        pool.schedule(At(WALL + 100), "a")
        await anyio.sleep(50)
        step(virtual_time, -30)
        await anyio.sleep(100)
    assert diary.began == [("a", 130.0)]


async def test_times_that_rounding_puts_early_come_all_the_same(virtual_time: VirtualTime):
    """UTC seconds as floats have steps of a quarter of a microsecond; that neither spins nor stalls."""
    diary = Diary(virtual_time)
    step(virtual_time, -3e-7)
    await anyio.sleep(0.1)
    async with qanat.Pool(diary.taking(0.0)) as pool:
        pool.schedule(Every(0.7), "a")
        pool.schedule(At(WALL + 3.3000001), "b")
        await anyio.sleep(7.5)
    assert [item for item, _ in diary.began].count("a") == 10
    assert dict(diary.began)["b"] == pytest.approx(3.3, abs=1e-5)
