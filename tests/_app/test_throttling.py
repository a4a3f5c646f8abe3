"""`Throttled`: what it closes, for how long, and how that opens again."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Retry, Throttled
from qanat._core.limit import Limit
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def test_without_lanes_the_whole_run_waits(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.failing([Throttled(30.0)]), range(3), concurrency=1)
    assert diary.began == [(0, 0.0), (0, 30.0), (1, 30.0), (2, 30.0)]


async def test_what_runs_when_it_closes_goes_on(virtual_time: VirtualTime):
    ended: list[tuple[int, float]] = []

    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        if item == 0 and virtual_time.now() < 10.0:
            raise Throttled(9.0)
        await anyio.sleep(1.0)
        ended.append((item, virtual_time.now()))

    await qanat.collect(handler, range(3), concurrency=3)
    assert sorted(ended) == [(0, 12.0), (1, 2.0), (2, 2.0)]


async def test_with_lanes_only_the_lane_waits(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.failing([Throttled(30.0)]), ["a1", "b1", "a2", "b2"], concurrency=1, lane=lambda item: item[0]
    )
    assert diary.began == [("a1", 0.0), ("b1", 0.0), ("b2", 0.0), ("a1", 30.0), ("a2", 30.0)]


async def test_it_opens_with_one_job_then_two_then_four(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    taking = diary.taking(1.0)

    async def handler(item: int) -> None:
        await taking(item)
        if virtual_time.now() == 1.0:
            raise Throttled(9.0)

    await qanat.collect(handler, range(20), concurrency=8)
    assert diary.times == [0.0] * 8 + [10.0] + [11.0] * 2 + [12.0] * 4 + [13.0] * 8 + [14.0] * 5


async def test_it_opens_to_as_many_as_ran_when_it_closed(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    taking = diary.taking(1.0)

    async def handler(item: int) -> None:
        if item == 0 and virtual_time.now() == 0.0:
            await anyio.sleep(0.5)
            raise Throttled(9.5)
        await taking(item)

    await qanat.collect(handler, range(12), concurrency=3)
    assert diary.times == [0.0] * 2 + [10.0] + [11.0] * 2 + [12.0] * 3 + [13.0] * 3 + [14.0]


async def test_one_more_throttle_closes_it_again_for_one_job(virtual_time: VirtualTime):
    told = [0.0, 10.0, 21.0]
    began: list[float] = []

    async def handler(item: int) -> None:
        began.append(virtual_time.now())
        await anyio.sleep(1.0)
        if virtual_time.now() - 1.0 in told:
            raise Throttled(9.0)

    await qanat.collect(handler, range(3), concurrency=1)
    assert began == [0.0, 10.0, 20.0, 21.0, 31.0, 32.0]


async def test_the_attempt_keeps_its_number(virtual_time: VirtualTime):
    attempts: list[int] = []

    async def handler(item: str) -> None:
        attempts.append(qanat.current_job().attempt)
        if len(attempts) < 4:
            raise Throttled(1.0)
        raise KeyError

    (outcome,) = await qanat.collect(handler, ["a"], retry=Retry(1, backoff=qanat.constant(1.0)))
    assert attempts == [1, 1, 1, 1, 2]
    assert outcome.attempts == 2


async def test_it_holds_without_retries_too(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(diary.failing([Throttled(5.0)]), ["a"])
    assert diary.times == [0.0, 5.0]
    assert (outcome.ok, outcome.attempts) == (True, 1)


async def test_a_job_that_is_throttled_too_often_fails(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(
        diary.failing([Throttled(5.0)] * 9), ["a"], retry=Retry(0, max_throttles=2)
    )
    assert diary.times == [0.0, 5.0, 10.0]
    assert (outcome.state, outcome.attempts) == ("dead", 1)
    assert isinstance(outcome.error, Throttled)


async def test_a_hundred_throttles_are_borne_by_default(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(diary.failing([Throttled(1.0)] * 101), ["a"])
    assert len(diary.began) == 101
    assert isinstance(outcome.error, Throttled)


async def test_an_unknown_time_is_a_second_doubled_up_to_a_minute(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.failing([Throttled()] * 8), ["a"])
    gaps = [later - earlier for earlier, later in zip(diary.times, diary.times[1:], strict=False)]
    assert gaps == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


async def test_an_unknown_time_is_a_second_again_after_a_success(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.failing([Throttled(), Throttled(), None, Throttled()]), range(2), concurrency=1)
    assert diary.times == [0.0, 1.0, 3.0, 3.0, 4.0]


async def test_answers_to_jobs_from_before_it_closed_do_not_double_the_time(virtual_time: VirtualTime):
    began: list[float] = []

    async def handler(item: int) -> None:
        began.append(virtual_time.now())
        await anyio.sleep(1.0 + item * 0.25)
        if len(began) == 3:
            raise Throttled

    await qanat.collect(handler, range(3), concurrency=3)
    assert began == [0.0, 0.0, 0.0, 2.0, 3.0, 3.0]


async def test_the_longest_time_asked_for_counts(virtual_time: VirtualTime):
    began: list[float] = []

    async def handler(item: int) -> None:
        began.append(virtual_time.now())
        await anyio.sleep(1.0)
        if len(began) == 3:
            raise Throttled([5.0, 20.0, 10.0][item])

    await qanat.collect(handler, range(3), concurrency=3)
    assert began == [0.0, 0.0, 0.0, 21.0, 22.0, 22.0]


@pytest.mark.parametrize("retry_after", ["30", b"30", 30], ids=repr)
async def test_the_text_of_a_header_will_do(virtual_time: VirtualTime, retry_after: Any):
    diary = Diary(virtual_time)
    await qanat.collect(diary.failing([Throttled(retry_after)]), ["a"])
    assert diary.times == [0.0, 30.0]


async def test_a_date_will_do(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    date = formatdate(virtual_time.wall() + 45.0, usegmt=True)
    await qanat.collect(diary.failing([Throttled(date)]), ["a"])
    assert diary.times == [0.0, 45.0]


@pytest.mark.parametrize("retry_after", [-1.0, float("nan"), "soon", ()], ids=repr)
async def test_a_time_that_makes_no_sense_fails_the_job(virtual_time: VirtualTime, retry_after: Any):
    async def handler(item: str) -> None:
        raise Throttled(retry_after)

    (outcome,) = await qanat.collect(handler, ["a"])
    assert isinstance(outcome.error, ValueError | TypeError)
    assert str(outcome.error).startswith("retry_after must")


class Named(Limit):
    """A limit that says yes and has a name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ready_at(self, job: Job[Any], now: float) -> float:
        return now


async def test_a_named_limit_of_the_run_is_closed_for_all_lanes(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.failing([Throttled(30.0, limit="api")]), ["a1", "b1"], concurrency=1,
        lane=lambda item: item[0], limits=Named("api"),
    )  # fmt: skip
    assert diary.times == [0.0, 30.0, 30.0]


async def test_a_named_limit_of_a_lane_is_closed_for_that_lane(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.failing([Throttled(30.0, limit="host")]), ["a1", "b1"], concurrency=1,
        lane=lambda item: item[0], lane_limits=lambda _: Named("host"), limits=Named("api"),
    )  # fmt: skip
    assert diary.began == [("a1", 0.0), ("b1", 0.0), ("a1", 30.0)]


async def test_a_name_that_no_limit_has_fails_the_job_and_says_which_there_are(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(
        diary.failing([Throttled(30.0, limit="apo")]), ["a"], limits=[Named("api"), Named("other")]
    )
    assert isinstance(outcome.error, ValueError)
    assert "'apo'" in str(outcome.error)
    assert "'api', 'other'" in str(outcome.error)


async def test_each_call_counts_for_a_rate(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.failing([Throttled(0.0)]), range(2), concurrency=1, rate="1/s evenly")
    assert diary.times == [0.0, 1.0, 2.0]


async def test_it_is_no_retry(virtual_time: VirtualTime):
    outcomes = await qanat.collect(Diary(virtual_time).failing([Throttled(5.0)]), ["a"], retry=3)
    assert outcomes.summary().retried == 0


async def test_an_outcome_says_how_long_a_job_waited_for_it(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).failing([Throttled(5.0)]), concurrency=1) as pool:
        jobs = [pool.submit(item) for item in range(2)]
    assert [(await job.outcome()).waits for job in jobs] == [{"throttled": 5.0}, {"throttled": 5.0}]


async def test_a_job_that_waits_for_it_can_be_cancelled(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.failing([Throttled(30.0)]), concurrency=1) as pool:
        first, second = pool.submit(1), pool.submit(2)
        await anyio.sleep(1.0)
        assert first.cancel()
        await second
    assert diary.began == [(1, 0.0), (2, 30.0)]


async def test_a_task_that_is_throttled_by_its_last_job_does_not_hold_up_the_end(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.failing([Throttled(30.0)]), concurrency=1) as pool:
        job = pool.submit(1)
        await anyio.sleep(1.0)
        job.cancel()
    assert virtual_time.now() == 1.0
