"""When jobs start: concurrency, rates, limits, lanes and orders, at exact times."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest

import qanat
from qanat import Concurrency, FixedWindow, SlidingWindow, Spacing, TokenBucket
from qanat._core.limit import Limit, Refused
from qanat._core.orders import Fifo
from tests._app.diary import Diary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def test_as_many_jobs_run_at_once_as_concurrency_says(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(1.0), range(5), concurrency=2)
    assert diary.began == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0), (4, 2.0)]


async def test_ten_jobs_run_at_once_by_default(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(1.0), range(25))
    assert diary.times == [0.0] * 10 + [1.0] * 10 + [2.0] * 5


async def test_a_slot_is_used_again_the_moment_it_is_free(virtual_time: VirtualTime):
    starts: dict[int, float] = {}

    async def handler(item: int) -> None:
        starts[item] = virtual_time.now()
        await anyio.sleep([3.0, 1.0, 1.0, 1.0][item])

    await qanat.collect(handler, range(4), concurrency=2)
    assert starts == {0: 0.0, 1: 0.0, 2: 1.0, 3: 2.0}


async def test_a_concurrency_object_counts_over_all_runs_that_share_it(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    shared = Concurrency(3)
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(lambda: qanat.collect(diary.taking(1.0), range(3), concurrency=shared))
    assert diary.times == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert diary.most == 3


async def test_a_concurrency_object_that_grows_lets_more_jobs_start_at_once(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    shared = Concurrency(1)

    async def grow() -> None:
        await anyio.sleep(0.5)
        shared.resize(3)

    async with anyio.create_task_group() as group:
        group.start_soon(grow)
        await qanat.collect(diary.taking(1.0), range(5), concurrency=shared)
    assert diary.times == [0.0, 0.5, 0.5, 1.0, 1.5]


@pytest.mark.parametrize(
    ("rate", "times"),
    [
        ("2/s", [0.0, 0.0, 1.0, 1.0, 2.0]),
        ("2/s evenly", [0.0, 0.5, 1.0, 1.5, 2.0]),
        ("0.5/s", [0.0, 2.0, 4.0, 6.0, 8.0]),
        ("1/m", [0.0, 60.0, 120.0, 180.0, 240.0]),
    ],
)
async def test_jobs_start_at_the_rate_and_not_a_moment_later(
    virtual_time: VirtualTime, rate: str, times: list[float]
):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(0.0), range(5), rate=rate)
    assert diary.times == times


@pytest.mark.parametrize(
    ("make", "times"),
    [
        (lambda: SlidingWindow(3, 4.0), [0.0, 0.0, 0.0, 4.0, 4.0]),
        (lambda: Spacing(0.25), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (lambda: FixedWindow(4, 8.0), [0.0, 0.0, 0.0, 0.0, 8.0]),
        (lambda: TokenBucket(0.5, burst=2), [0.0, 0.0, 2.0, 4.0, 6.0]),
    ],
    ids=["sliding window", "spacing", "fixed window", "token bucket"],
)
async def test_a_limit_may_stand_in_the_place_of_a_rate(
    virtual_time: VirtualTime, make: Callable[[], Limit], times: list[float]
):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(0.0), range(5), rate=make())
    assert diary.times == times


async def test_a_rate_is_kept_when_jobs_take_longer_than_its_gaps(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(1.0), range(4), rate="2/s evenly")
    assert diary.began == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 1.5)]


async def test_spacing_after_a_finish_counts_from_the_end(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(1.0), range(3), limits=Spacing(0.5, after="finish"))
    assert diary.times == [0.0, 1.5, 3.0]


async def test_a_job_starts_when_every_limit_says_yes(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.taking(3.0), range(4), rate="1/s evenly", limits=[Concurrency(2), SlidingWindow(3, 10.0)]
    )
    assert diary.times == [0.0, 1.0, 3.0, 10.0]


async def test_no_job_waits_in_a_rate_for_the_sake_of_one_that_never_starts(virtual_time: VirtualTime):
    """A job that is refused takes nothing from the limits that said yes."""

    class Refusing(Limit):
        def ready_at(self, job: Job[Any], now: float) -> float:
            if job.item == 0:
                raise Refused(ValueError("never"))
            return now

    diary = Diary(virtual_time)
    outcomes = await qanat.collect(diary.taking(0.0), range(3), rate="2/s", limits=Refusing())
    assert diary.began == [(1, 0.0), (2, 0.0)]
    assert [type(outcome.error) for outcome in outcomes] == [ValueError, type(None), type(None)]


@pytest.mark.parametrize("method", ["ready_at", "take"])
async def test_a_limit_that_raises_fails_the_job_that_it_was_asked_for(
    virtual_time: VirtualTime, method: str
):
    class Broken(Limit):
        def ready_at(self, job: Job[Any], now: float) -> float:
            self._look(job, "ready_at")
            return now

        def take(self, job: Job[Any], now: float) -> None:
            self._look(job, "take")

        def _look(self, job: Job[Any], here: str) -> None:
            if here == method and job.item == 1:
                raise ZeroDivisionError

    counted = Concurrency(1)
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(diary.taking(1.0), range(3), limits=[counted, Broken()])
    assert diary.began == [(0, 0.0), (2, 1.0)]
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, ZeroDivisionError)
    assert outcomes[1].attempts == 0


async def test_a_limit_that_raises_when_it_is_given_back_harms_no_job(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    class Broken(Limit):
        def ready_at(self, job: Job[Any], now: float) -> float:
            return now

        def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
            raise ZeroDivisionError

    counted = Concurrency(1)
    outcomes = await qanat.collect(Diary(virtual_time).taking(1.0), range(20), limits=[Broken(), counted])
    assert outcomes.values() == list(range(20))
    assert virtual_time.now() == 20.0
    assert [record.exc_info is not None for record in caplog.records] == [True] * 10
    assert "give_back" in caplog.records[0].message


async def test_a_limit_that_raises_when_it_is_given_back_after_a_failure_is_told_too(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    class Broken(Limit):
        def ready_at(self, job: Job[Any], now: float) -> float:
            return now

        def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
            raise ZeroDivisionError

    handler = Diary(virtual_time).failing([KeyError("a")])
    (outcome,) = await qanat.collect(handler, [1], limits=Broken())
    assert isinstance(outcome.error, KeyError)
    assert len(caplog.records) == 1


class Door(Limit):
    """Open or closed, as somebody outside of the run says."""

    cause: ClassVar[Any] = "breaker"

    def __init__(self) -> None:
        self.is_open = False

    def ready_at(self, job: Job[Any], now: float) -> float:
        return now if self.is_open else math.inf

    def open(self) -> None:
        self.is_open = True
        self.changed()


async def test_a_limit_that_changes_by_itself_lets_jobs_start_at_once(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    door = Door()

    async def open_it() -> None:
        await anyio.sleep(7.0)
        door.open()

    async with anyio.create_task_group() as group:
        group.start_soon(open_it)
        outcomes = await qanat.collect(diary.taking(1.0), range(3), limits=door)
    assert diary.times == [7.0, 7.0, 7.0]
    assert outcomes[0].waits == {"breaker": 7.0}


async def test_a_limit_is_given_back_once_for_each_take(virtual_time: VirtualTime):
    class Counting(Limit):
        def __init__(self) -> None:
            self.log: list[tuple[str, Any]] = []

        def ready_at(self, job: Job[Any], now: float) -> float:
            return now

        def take(self, job: Job[Any], now: float) -> None:
            self.log.append(("take", job.item))

        def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
            self.log.append((outcome.state, job.item))

    counting = Counting()
    handler = Diary(virtual_time).failing([None, KeyError("a"), None, KeyError("b"), None])
    retry = qanat.Retry(1, backoff=qanat.constant(1.0))
    await qanat.collect(handler, range(3), concurrency=1, limits=counting, retry=retry)
    assert counting.log == [
        ("take", 0), ("done", 0), ("take", 1), ("dead", 1), ("take", 2), ("done", 2), ("take", 1), ("dead", 1)
    ]  # fmt: skip


async def test_a_limit_forgets_its_runs_when_they_are_over(virtual_time: VirtualTime):
    limit = SlidingWindow(1, 1.0)
    for _ in range(3):
        await qanat.collect(Diary(virtual_time).taking(0.0), range(2), limits=limit)
    assert limit._listeners == []


@pytest.mark.real
def test_a_limit_that_is_used_in_another_thread_is_refused():
    async def handler(item: int) -> int:
        return item

    limit = SlidingWindow(10, 1.0)
    thread = threading.Thread(target=anyio.run, args=(lambda: qanat.collect(handler, [1], limits=limit),))
    thread.start()
    thread.join()
    with pytest.raises(RuntimeError, match="one limit object for each thread"):
        anyio.run(lambda: qanat.collect(handler, [1], limits=limit))


# --- lanes -------------------------------------------------------------------------------------


async def test_lanes_take_turns(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.taking(1.0), ["a1", "a2", "a3", "b1", "b2", "c1"], concurrency=1, lane=first_letter
    )
    assert diary.items == ["a1", "b1", "c1", "a2", "b2", "a3"]


def first_letter(item: str) -> str:
    return item[0]


async def test_a_lane_that_has_to_wait_never_blocks_another(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.taking(0.0), ["a1", "a2", "a3", "b1", "b2"],
        lane=first_letter, lane_limits=lambda lane: Spacing(10.0 if lane == "a" else 1.0),
    )  # fmt: skip
    assert sorted(diary.began) == [("a1", 0.0), ("a2", 10.0), ("a3", 20.0), ("b1", 0.0), ("b2", 1.0)]


async def test_each_lane_has_limits_of_its_own(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    items = [f"{lane}{number}" for number in range(2) for lane in "abc"]
    await qanat.collect(diary.taking(1.0), items, lane=first_letter, lane_limits=lambda _: Concurrency(1))
    assert diary.times == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


async def test_a_lane_may_have_several_limits(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.taking(0.0), ["a"] * 4, lane=first_letter,
        lane_limits=lambda _: [Spacing(1.0), SlidingWindow(2, 10.0)],
    )  # fmt: skip
    assert diary.times == [0.0, 1.0, 10.0, 11.0]


async def test_the_limits_of_a_lane_are_made_once_in_its_life(virtual_time: VirtualTime):
    asked: list[str] = []

    def limits(lane: str) -> Limit:
        asked.append(lane)
        return Spacing(5.0)

    await qanat.collect(
        Diary(virtual_time).taking(0.0), ["a", "b", "a", "b", "a"], lane=first_letter, lane_limits=limits
    )
    assert sorted(asked) == ["a", "b"]


async def test_lane_limits_that_raise_fail_the_jobs_of_that_lane_only(virtual_time: VirtualTime):
    def limits(lane: str) -> Limit:
        if lane == "a":
            raise ZeroDivisionError
        return Spacing(1.0)

    outcomes = await qanat.collect(
        Diary(virtual_time).taking(0.0), ["a", "b", "a", "b"], lane=first_letter, lane_limits=limits
    )
    assert [outcome.ok for outcome in outcomes] == [False, True, False, True]
    assert isinstance(outcomes[0].error, ZeroDivisionError)


async def test_lane_limits_that_give_no_limits_fail_the_jobs_of_that_lane(virtual_time: VirtualTime):
    (outcome,) = await qanat.collect(
        Diary(virtual_time).taking(0.0), ["a"], lane=first_letter,
        lane_limits=lambda _: None,  # type: ignore[arg-type,return-value]
    )  # fmt: skip
    assert repr(outcome.error) == repr(
        TypeError("lane_limits must give a limit or limits for lane 'a', got None")
    )


@pytest.mark.parametrize("given", [1, 2])
async def test_a_second_balance_of_a_lane_fails_its_jobs(virtual_time: VirtualTime, given: int):
    (outcome,) = await qanat.collect(
        Diary(virtual_time).taking(0.0), ["a"], lane=first_letter,
        limits=[qanat.Balance({"all": 1})] if given == 1 else [],
        lane_limits=lambda _: [qanat.Balance({"own": 1}) for _ in range(given)],
    )  # fmt: skip
    assert isinstance(outcome.error, ValueError)
    assert str(outcome.error).startswith("lane_limits must not give lane 'a' a second Balance")


async def test_a_text_is_no_limit_of_a_lane(virtual_time: VirtualTime):
    (outcome,) = await qanat.collect(
        Diary(virtual_time).taking(0.0), ["a"], lane=first_letter,
        lane_limits=lambda _: "1/s",  # type: ignore[arg-type,return-value]
    )  # fmt: skip
    assert isinstance(outcome.error, TypeError)
    assert str(outcome.error).startswith("lane_limits must give a limit or limits for lane 'a', got '1/s'")


async def test_a_lane_that_is_none_is_the_unnamed_lane(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(
        diary.taking(1.0), ["a1", "a2", "-1", "-2"], concurrency=1,
        lane=lambda item: None if item[0] == "-" else item[0],
    )  # fmt: skip
    assert [outcome.lane for outcome in outcomes] == ["a", "a", None, None]
    assert diary.items == ["a1", "-1", "a2", "-2"]


async def test_a_lane_that_raises_fails_that_job_only(virtual_time: VirtualTime):
    outcomes = await qanat.collect(Diary(virtual_time).taking(0.0), ["a", "", "b"], lane=first_letter)
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, IndexError)
    assert outcomes[1].attempts == 0


async def test_a_lane_that_cannot_be_a_key_fails_that_job_only(virtual_time: VirtualTime):
    outcomes = await qanat.collect(
        Diary(virtual_time).taking(0.0), [1, 2], lane=lambda item: [] if item == 1 else item
    )
    assert [type(outcome.error) for outcome in outcomes] == [TypeError, type(None)]


async def test_ten_thousand_lanes_are_forgotten_as_they_empty(virtual_time: VirtualTime):
    seen: list[int] = []

    async def handler(item: int) -> None:
        seen.append(len(pool._task.node.lanes) if pool._task is not None else 0)

    async with qanat.Pool(handler, concurrency=1, lane=lambda item: item) as pool:
        for item in range(100):
            pool.submit(item)
            await pool.drain()
    assert max(seen) < 5


# --- orders ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "items"), [("fifo", [3, 1, 2, 0]), ("lifo", [0, 2, 1, 3]), ("priority", [0, 1, 2, 3])]
)
async def test_a_list_is_read_whole_and_begun_in_its_order(
    virtual_time: VirtualTime, order: Any, items: list[int]
):
    diary = Diary(virtual_time)
    priority = float if order == "priority" else None
    await qanat.collect(
        diary.taking(1.0), [3, 1, 2, 0], concurrency=1, order=order, priority=priority, buffer=1
    )
    assert diary.items == items


async def test_equal_priorities_start_in_the_order_of_the_input(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.taking(1.0), ["b1", "a1", "b2", "a2"], concurrency=1, order="priority",
        priority=lambda item: ord(item[0]),
    )  # fmt: skip
    assert diary.items == ["a1", "a2", "b1", "b2"]


async def test_an_order_chooses_among_what_fits_into_the_buffer_of_an_unsized_source(
    virtual_time: VirtualTime,
):
    diary = Diary(virtual_time)
    items: Iterator[int] = iter([5, 4, 3, 2, 1, 0])
    await qanat.collect(diary.taking(1.0), items, concurrency=1, order="priority", priority=float, buffer=3)
    assert diary.items == [3, 2, 1, 0, 4, 5]


async def test_an_order_of_ones_own_is_made_for_each_lane(virtual_time: VirtualTime):
    made: list[Fifo] = []

    def make() -> Fifo:
        made.append(Fifo())
        return made[-1]

    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(1.0), ["a1", "a2", "b1"], concurrency=1, order=make, lane=first_letter)
    assert diary.items == ["a1", "b1", "a2"]
    assert len(made) == 2


@pytest.mark.parametrize("wrong", ["high", None, True, math.nan])
async def test_a_priority_that_is_no_number_fails_that_job_only(virtual_time: VirtualTime, wrong: Any):
    outcomes = await qanat.collect(
        Diary(virtual_time).taking(0.0), [1, 2], order="priority",
        priority=lambda item: wrong if item == 1 else 0.0,
    )  # fmt: skip
    assert [outcome.ok for outcome in outcomes] == [False, True]
    assert isinstance(outcomes[0].error, TypeError)
    assert str(outcomes[0].error).startswith("priority must")


async def test_ids_are_positions_unless_a_function_gives_them(virtual_time: VirtualTime):
    handler = Diary(virtual_time).taking(0.0)
    assert [outcome.id for outcome in await qanat.collect(handler, list("ab"))] == [0, 1]
    named = await qanat.collect(handler, list("ab"), id=lambda item: f"letter {item}")
    assert [outcome.id for outcome in named] == ["letter a", "letter b"]


@pytest.mark.parametrize("wrong", [None, True, 1.5, b"x"])
async def test_an_id_that_is_neither_a_number_nor_a_text_fails_that_job_only(
    virtual_time: VirtualTime, wrong: Any
):
    outcomes = await qanat.collect(
        Diary(virtual_time).taking(0.0), [1, 2], id=lambda item: wrong if item == 1 else item
    )
    assert [outcome.ok for outcome in outcomes] == [False, True]
    assert isinstance(outcomes[0].error, TypeError)
    assert str(outcomes[0].error).startswith("id must")


async def test_a_job_that_is_read_and_comes_first_in_its_lane_starts_when_it_may(virtual_time: VirtualTime):
    """Reading it took the alarm away that was set for the job that had been first."""
    begun: dict[int, float] = {}

    async def handler(item: int) -> None:
        begun[item] = virtual_time.now() - start
        await anyio.sleep(10.0)

    start = virtual_time.now()
    await qanat.collect(
        handler, iter(range(5)), concurrency=5, buffer=2, order="lifo", lane=lambda item: item % 2,
        lane_limits=lambda lane: qanat.Spacing(1.0 if lane else 1.25),
    )  # fmt: skip
    assert begun == {0: 0.0, 1: 0.0, 3: 1.0, 4: 1.25, 2: 2.5}
