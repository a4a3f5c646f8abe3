"""`collect`: every outcome in input order; and what stops a run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import qanat
from qanat import StartTimeoutError, TooManyFailuresError, errors
from tests._app.diary import Diary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def test_outcomes_are_in_the_order_of_the_input(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        await anyio.sleep(10.0 - item)
        return item * 10

    outcomes = await qanat.collect(handler, range(5))
    assert outcomes.values() == [0, 10, 20, 30, 40]
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3, 4]


async def test_a_job_that_fails_is_an_outcome_like_any_other(virtual_time: VirtualTime):
    outcomes = await qanat.collect(
        Diary(virtual_time).failing([None, KeyError("x")]), list("abc"), concurrency=1
    )
    assert [outcome.state for outcome in outcomes] == ["done", "dead", "done"]
    assert [outcome.item for outcome in outcomes.failed] == ["b"]


async def test_an_outcome_tells_the_story_of_its_job(virtual_time: VirtualTime):
    await anyio.sleep(5.0)
    (first, second) = await qanat.collect(Diary(virtual_time).taking(2.0), list("ab"), concurrency=1)
    assert (first.id, first.index, first.item, first.value, first.error) == (0, 0, "a", "a", None)
    assert (first.state, first.attempts, first.lane, first.metadata, first.parent) == (
        "done",
        1,
        None,
        None,
        None,
    )
    assert (first.offered_at, first.started_at, first.ended_at) == (5.0, 5.0, 7.0)
    assert (first.ran, first.waited, first.waits) == (2.0, 0.0, {})
    assert (second.started_at, second.ended_at) == (7.0, 9.0)


async def test_no_items_are_no_outcomes(virtual_time: VirtualTime):
    outcomes = await qanat.collect(Diary(virtual_time).taking(1.0), [])
    assert list(outcomes) == []
    assert virtual_time.now() == 0.0


@pytest.mark.parametrize("number", [1, 2, 10, 11, 500])
async def test_every_item_is_handled_once(virtual_time: VirtualTime, number: int):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(diary.taking(0.0), range(number))
    assert outcomes.values() == list(range(number))
    assert diary.items == list(range(number))


async def test_runs_inside_of_runs_do_not_disturb_each_other(virtual_time: VirtualTime):
    async def inner(item: int) -> int:
        await anyio.sleep(1.0)
        return item

    async def outer(item: int) -> int:
        job = qanat.current_job()
        outcomes = await qanat.collect(inner, range(item), concurrency=2)
        assert qanat.current_job() is job
        return sum(outcomes.values())

    outcomes = await qanat.collect(outer, range(5), concurrency=2)
    assert outcomes.values() == [0, 0, 1, 3, 6]


# --- how many may fail -------------------------------------------------------------------------


async def test_n_failures_are_allowed_and_one_more_stops_the_run(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        raise KeyError(item)

    outcomes = await qanat.collect(handler, range(2), max_failures=2, concurrency=1)
    assert len(outcomes.failed) == 2
    with pytest.raises(TooManyFailuresError) as caught:
        await qanat.collect(handler, range(9), max_failures=2, concurrency=1)
    assert (caught.value.failed, caught.value.finished) == (3, 3)
    assert virtual_time.now() == 5.0


async def test_a_stopped_run_cancels_what_runs_and_starts_nothing_more(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    taking = diary.taking(10.0)

    async def handler(item: int) -> None:
        if item < 2:
            await anyio.sleep(1.0 + item)
            raise KeyError
        await taking(item)

    with pytest.raises(TooManyFailuresError):
        await qanat.collect(handler, range(9), max_failures=1, concurrency=3)
    assert (diary.items, diary.ended, diary.running, virtual_time.now()) == ([2, 3], [], 0, 2.0)


async def test_the_error_of_a_stopped_run_carries_what_was_done(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        await anyio.sleep(item)
        if item in {1, 2}:
            raise KeyError(item)
        return item

    with pytest.raises(TooManyFailuresError) as caught:
        await qanat.collect(handler, range(6), max_failures=1, concurrency=4)
    outcomes = errors.outcomes_of(caught.value)
    assert [(outcome.index, outcome.state) for outcome in outcomes] == [
        (0, "done"), (1, "dead"), (2, "dead"), (3, "cancelled"), (4, "cancelled"), (5, "cancelled")
    ]  # fmt: skip
    assert virtual_time.now() == 2.0


@pytest.mark.parametrize(("failing", "stops"), [(10, False), (11, True)])
async def test_a_share_of_failures_stops_a_run_when_it_is_exceeded(
    virtual_time: VirtualTime, failing: int, stops: bool
):
    async def handler(item: int) -> None:
        if item >= 20 - failing:
            raise KeyError

    if not stops:
        assert (
            len((await qanat.collect(handler, range(20), max_failures=0.5, concurrency=1)).failed) == failing
        )
        return
    with pytest.raises(TooManyFailuresError) as caught:
        await qanat.collect(handler, range(20), max_failures=0.5, concurrency=1)
    assert (caught.value.failed, caught.value.finished) == (failing, 20)


async def test_a_share_is_not_judged_before_twenty_have_finished(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        if item < 19:
            raise KeyError

    diary = Diary(virtual_time)
    outcomes = await qanat.collect(handler, range(19), max_failures=0.01)
    assert len(outcomes.failed) == 19
    with pytest.raises(TooManyFailuresError) as caught:
        await qanat.collect(diary.failing([KeyError()] * 99), range(99), max_failures=0.5, concurrency=1)
    assert (caught.value.failed, caught.value.finished) == (20, 20)


async def test_discarded_and_timed_out_jobs_count_as_failures_and_cancelled_ones_do_not(
    virtual_time: VirtualTime,
):
    async def handler(item: int) -> None:
        if item == 0:
            raise qanat.Discard
        await anyio.sleep(9.0)

    with pytest.raises(TooManyFailuresError) as caught:
        await qanat.collect(handler, range(9), max_failures=1, timeout=1.0, concurrency=1)
    assert (caught.value.failed, caught.value.finished) == (2, 2)


async def test_a_job_whose_callback_failed_counts_as_a_failure(virtual_time: VirtualTime):
    with pytest.raises(TooManyFailuresError):
        await qanat.collect(
            Diary(virtual_time).taking(1.0), list("ab"), max_failures=1, lane=lambda item: {}[item]
        )


# --- the first job ------------------------------------------------------------------------------


async def never() -> AsyncIterator[int]:
    await anyio.sleep_forever()
    yield 0


async def test_a_run_whose_first_item_does_not_come_in_time_fails(virtual_time: VirtualTime):
    with pytest.raises(StartTimeoutError, match="start_within=2.5 s"):
        await qanat.collect(Diary(virtual_time).taking(1.0), never(), start_within=2.5)
    assert virtual_time.now() == 2.5


async def test_a_late_first_job_is_a_timeout_error(virtual_time: VirtualTime):
    with pytest.raises(TimeoutError):
        await qanat.map(Diary(virtual_time).taking(1.0), never(), start_within=2.5)


async def test_a_first_item_in_time_is_all_that_is_asked_for(virtual_time: VirtualTime):
    async def late() -> AsyncIterator[int]:
        await anyio.sleep(2.0)
        yield 0
        await anyio.sleep(50.0)
        yield 1

    outcomes = await qanat.collect(Diary(virtual_time).taking(20.0), late(), start_within=2.5)
    assert outcomes.values() == [0, 1]


async def test_items_that_are_there_are_in_time(virtual_time: VirtualTime):
    outcomes = await qanat.collect(
        Diary(virtual_time).taking(20.0), range(3), start_within=1.0, concurrency=1
    )
    assert outcomes.values() == [0, 1, 2]


async def test_a_source_that_ends_without_an_item_is_in_time(virtual_time: VirtualTime):
    async def empty() -> AsyncIterator[int]:
        nothing: list[int] = []
        for item in nothing:
            yield item

    assert await qanat.collect(Diary(virtual_time).taking(1.0), empty(), start_within=1.0) == []


async def test_a_first_item_whose_callback_fails_is_in_time(virtual_time: VirtualTime):
    async def late() -> AsyncIterator[int]:
        yield 0
        await anyio.sleep(50.0)

    (outcome,) = await qanat.collect(
        Diary(virtual_time).taking(1.0), late(), start_within=1.0, lane=lambda item: item / 0
    )
    assert isinstance(outcome.error, ZeroDivisionError)


# --- a source that raises -----------------------------------------------------------------------


class Broken(Exception):
    """What the sources of these tests raise."""


def broken(number: int) -> Iterator[int]:
    yield from range(number)
    raise Broken


async def broken_async(number: int) -> AsyncIterator[int]:
    for item in range(number):
        yield item
    raise Broken


@pytest.mark.parametrize("source", [broken, broken_async])
async def test_what_was_read_before_a_source_raised_runs_to_its_end(virtual_time: VirtualTime, source: Any):
    diary = Diary(virtual_time)
    with pytest.raises(Broken):
        await qanat.collect(diary.taking(1.0), source(5), concurrency=2)
    assert sorted(item for item, _ in diary.ended) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("function", [qanat.map, qanat.collect])
@pytest.mark.parametrize("source", [broken, broken_async])
async def test_the_error_of_a_source_says_after_how_many_items_and_carries_the_outcomes(
    virtual_time: VirtualTime, source: Any, function: Any
):
    with pytest.raises(Broken) as caught:
        await function(Diary(virtual_time).taking(1.0), source(5), concurrency=2)
    assert caught.value.__notes__ == ["raised by the source of items after 5 of them"]
    assert [outcome.value for outcome in errors.outcomes_of(caught.value)] == [0, 1, 2, 3, 4]


async def test_a_dict_that_is_added_to_while_its_items_run_is_a_source_that_raises(virtual_time: VirtualTime):
    items = dict.fromkeys(range(3))

    async def handler(item: int) -> int:
        if item == 1:
            items[9] = None
        return item

    with pytest.raises(RuntimeError, match="changed size") as caught:
        await qanat.collect(handler, items, concurrency=1)
    outcomes = qanat.errors.outcomes_of(caught.value)
    assert [(each.value, each.attempts) for each in outcomes] == [(0, 1), (1, 1)]


async def test_a_source_that_raises_at_once_is_an_error_without_outcomes(virtual_time: VirtualTime):
    with pytest.raises(Broken) as caught:
        await qanat.collect(Diary(virtual_time).taking(1.0), broken(0))
    assert list(errors.outcomes_of(caught.value)) == []


async def test_a_source_that_raises_after_the_first_failure_of_a_map_does_not_hide_it(
    virtual_time: VirtualTime,
):
    with pytest.raises(KeyError):
        await qanat.map(Diary(virtual_time).failing([KeyError()]), broken(1))


@pytest.mark.parametrize("order", ["fifo", "priority"])
async def test_an_interrupt_from_a_source_stops_the_run_at_once(virtual_time: VirtualTime, order: Any):
    def source() -> Iterator[int]:
        yield 0
        yield 1
        raise KeyboardInterrupt

    diary = Diary(virtual_time)
    with pytest.raises(KeyboardInterrupt):
        await qanat.collect(diary.taking(1.0), source(), order=order)
    assert diary.ended == []
    assert virtual_time.now() == 0.0


@pytest.mark.virtual_time("asyncio")
async def test_a_source_that_awaits_what_was_cancelled_elsewhere_is_a_source_that_raises(
    virtual_time: VirtualTime,
):
    async def source() -> AsyncIterator[int]:
        yield 0
        elsewhere = asyncio.ensure_future(asyncio.sleep(100.0))
        elsewhere.cancel()
        await elsewhere

    diary = Diary(virtual_time)
    with pytest.raises(RuntimeError, match="cancelled elsewhere") as caught:
        await qanat.collect(diary.taking(1.0), source())
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert diary.ended == [(0, 1.0)]


@pytest.mark.parametrize("order", ["fifo", "priority"])
@pytest.mark.virtual_time("asyncio")
async def test_a_plain_source_that_raises_a_cancellation_is_a_source_that_raises(
    virtual_time: VirtualTime, order: Any
):
    def source() -> Iterator[int]:
        yield 0
        raise asyncio.CancelledError

    diary = Diary(virtual_time)
    with pytest.raises(RuntimeError, match="cancelled elsewhere"):
        await qanat.collect(diary.taking(1.0), source(), order=order)
    assert diary.ended == [(0, 1.0)]


# --- structure --------------------------------------------------------------------------------------


async def cancel_collect_after(
    seconds: float, diary: Diary, virtual_time: VirtualTime, **rules: Any
) -> tuple[bool, list[Any]]:
    """Cancel a run from a scope around it; return whether it went on after the call, and the outcomes."""
    went_on = False
    carried: list[Any] = []
    with anyio.move_on_after(seconds) as scope:
        try:
            await qanat.collect(diary.taking(10.0), range(30), **rules)
        except BaseException as error:
            carried.extend(errors.outcomes_of(error))
            raise
        went_on = True
    assert scope.cancelled_caught
    return went_on, carried


async def test_cancelling_the_caller_cancels_all_handlers(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    went_on, _ = await cancel_collect_after(1.0, diary, virtual_time, concurrency=3)
    assert not went_on
    assert diary.running == 0
    assert virtual_time.now() == 1.0
    await anyio.sleep(100.0)
    assert (len(diary.began), diary.ended) == (3, [])


async def test_cancelling_the_caller_leaves_what_was_done_with_the_cancellation(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    _, outcomes = await cancel_collect_after(15.0, diary, virtual_time, concurrency=2)
    assert [outcome.state for outcome in outcomes] == ["done"] * 2 + ["cancelled"] * 2


@pytest.mark.virtual_time("asyncio")
async def test_cancelling_the_task_of_the_caller_cancels_all_handlers(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    task = asyncio.ensure_future(qanat.collect(diary.taking(10.0), range(30), concurrency=3))
    await asyncio.sleep(1.0)
    task.cancel("enough")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert (diary.running, diary.ended, virtual_time.now()) == (0, [], 1.0)


@pytest.mark.virtual_time("asyncio")
async def test_an_asyncio_timeout_around_a_run_is_a_timeout_error(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await qanat.collect(diary.taking(10.0), range(30), concurrency=3)
    assert (diary.running, virtual_time.now()) == (0, 1.0)


@pytest.mark.virtual_time("trio")
async def test_a_trio_scope_around_a_run_cancels_all_handlers(virtual_time: VirtualTime):
    import trio

    diary = Diary(virtual_time)
    with trio.move_on_after(1.0) as scope:
        await qanat.collect(diary.taking(10.0), range(30), concurrency=3)
        raise AssertionError("went on after the call")
    assert scope.cancelled_caught
    assert (diary.running, virtual_time.now()) == (0, 1.0)


async def test_a_run_that_is_cancelled_waits_for_handlers_that_clean_up(virtual_time: VirtualTime):
    cleaned: list[float] = []

    async def handler(item: int) -> None:
        try:
            await anyio.sleep(100.0)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(2.0)
            cleaned.append(virtual_time.now())

    with anyio.move_on_after(1.0):
        await qanat.collect(handler, range(3))
    assert cleaned == [3.0] * 3
    assert virtual_time.now() == 3.0


async def test_a_run_in_a_scope_that_is_cancelled_already_starts_nothing(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await qanat.collect(diary.taking(1.0), range(3))
        raise AssertionError("went on after the call")
    assert diary.ended == []


async def test_retries_of_a_cancelled_run_do_not_come(virtual_time: VirtualTime):
    calls: list[float] = []

    async def handler(item: int) -> None:
        calls.append(virtual_time.now())
        try:
            await anyio.sleep(10.0)
        except BaseException:
            raise KeyError from None

    with anyio.move_on_after(1.0):
        await qanat.collect(handler, range(2), retry=qanat.Retry(3, backoff=qanat.constant(0.0)))
    assert calls == [0.0, 0.0]


async def test_the_source_is_closed_when_a_run_is_cancelled(virtual_time: VirtualTime):
    closed: list[str] = []

    def plain() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.append("plain")

    async def awaited() -> AsyncIterator[int]:
        try:
            yield 1
            await anyio.sleep_forever()
        finally:
            closed.append("awaited")

    for source in (plain(), awaited()):
        with anyio.move_on_after(1.0):
            await qanat.collect(Diary(virtual_time).taking(10.0), source)
    assert closed == ["plain", "awaited"]


async def test_nothing_is_left_of_a_run_that_is_over(virtual_time: VirtualTime):
    """No task of it stays behind in the group of the caller."""
    async with anyio.create_task_group() as group:
        await qanat.collect(Diary(virtual_time).taking(1.0), range(30), timeout=5.0, rate="10/s")
        group.cancel_scope.cancel()
        await anyio.lowlevel.checkpoint()
    assert virtual_time.now() == 3.0
