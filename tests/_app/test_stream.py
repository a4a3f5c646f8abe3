"""`stream`: outcomes as they complete, or in input order; and leaving early."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Retry, StartTimeoutError, TooManyFailuresError, constant
from tests._app.diary import Diary

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from pathlib import Path

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def backwards(item: int) -> int:
    await anyio.sleep(10.0 - item)
    return item


async def test_outcomes_come_as_they_complete(virtual_time: VirtualTime):
    seen: list[tuple[Any, float]] = []
    async with qanat.stream(backwards, range(4)) as outcomes:
        async for outcome in outcomes:
            seen.append((outcome.value, virtual_time.now()))
    assert seen == [(3, 7.0), (2, 8.0), (1, 9.0), (0, 10.0)]


async def test_outcomes_come_in_the_order_of_the_input_if_asked_for(virtual_time: VirtualTime):
    seen: list[tuple[Any, float]] = []
    async with qanat.stream(backwards, range(4), ordered=True) as outcomes:
        async for outcome in outcomes:
            seen.append((outcome.value, virtual_time.now()))
    assert seen == [(0, 10.0), (1, 10.0), (2, 10.0), (3, 10.0)]


async def test_failures_are_outcomes_like_any_other(virtual_time: VirtualTime):
    handler = Diary(virtual_time).failing([None, KeyError()])
    async with qanat.stream(handler, range(3), concurrency=1) as outcomes:
        states = [outcome.state async for outcome in outcomes]
    assert states == ["done", "dead", "done"]


async def test_no_items_are_no_outcomes(virtual_time: VirtualTime):
    none: list[int] = []
    async with qanat.stream(backwards, none) as outcomes:
        assert [outcome async for outcome in outcomes] == []


async def test_an_ended_stream_stays_ended(virtual_time: VirtualTime):
    async with qanat.stream(backwards, range(2)) as outcomes:
        assert len([outcome async for outcome in outcomes]) == 2
        assert [outcome async for outcome in outcomes] == []
    assert [outcome async for outcome in outcomes] == []


async def test_nothing_runs_before_the_block_is_entered(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    qanat.stream(diary.taking(1.0), range(3))
    await anyio.sleep(5.0)
    assert diary.began == []


async def test_a_stream_that_was_not_entered_cannot_be_read(virtual_time: VirtualTime):
    with pytest.raises(RuntimeError, match="async with"):
        await anext(qanat.stream(backwards, range(3)))


async def test_a_stream_can_be_entered_once(virtual_time: VirtualTime):
    stream = qanat.stream(backwards, range(3))
    async with stream:
        pass
    with pytest.raises(RuntimeError, match="again"):
        await stream.__aenter__()


# --- leaving early -------------------------------------------------------------------------------


async def test_leaving_early_cancels_the_rest_and_nothing_runs_afterwards(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.stream(diary.taking(1.0), range(100), concurrency=3) as outcomes:
        async for _ in outcomes:
            break
    assert diary.running == 0
    began = len(diary.began)
    await anyio.sleep(50.0)
    assert (virtual_time.now(), len(diary.began)) == (51.0, began)


async def test_an_endless_source_may_be_left(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    seen: list[int] = []
    async with qanat.stream(diary.taking(1.0), itertools.count(), concurrency=2) as outcomes:
        async for outcome in outcomes:
            seen.append(outcome.index)
            if len(seen) == 5:
                break
    assert set(seen[:4]) == {0, 1, 2, 3}
    assert diary.running == 0


async def test_an_endless_awaited_source_may_be_left(virtual_time: VirtualTime):
    closed: list[float] = []

    async def endless() -> AsyncIterator[int]:
        try:
            for item in itertools.count():
                yield item
                await anyio.sleep(1.0)
        finally:
            closed.append(virtual_time.now())

    async with qanat.stream(Diary(virtual_time).taking(0.5), endless()) as outcomes:
        async for outcome in outcomes:
            if outcome.index == 2:
                break
    assert closed == [2.5]


async def test_the_source_is_closed_when_a_stream_is_left(virtual_time: VirtualTime):
    closed: list[bool] = []

    def source() -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    async with qanat.stream(Diary(virtual_time).taking(1.0), source()) as outcomes:
        await anext(outcomes)
        assert closed == []
    assert closed == [True]


async def test_leaving_without_reading_cancels_everything(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.stream(diary.taking(1.0), range(3)):
        await anyio.sleep(0.5)
    assert (len(diary.began), diary.ended, virtual_time.now()) == (3, [], 0.5)


async def test_an_exception_in_the_block_comes_out_as_it_is(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with qanat.stream(diary.taking(10.0), range(3)) as outcomes:
            with anyio.move_on_after(1.0):
                await anext(outcomes)
            raise error from ValueError("cause")
    assert caught.value is error
    assert isinstance(error.__cause__, ValueError)
    assert (diary.running, diary.ended, virtual_time.now()) == (0, [], 1.0)


async def test_an_exception_group_in_the_block_comes_out_as_it_is(virtual_time: VirtualTime):
    error = ExceptionGroup("mine", [KeyError(1), ExceptionGroup("inner", [ValueError(2)])])
    with pytest.raises(ExceptionGroup) as caught:
        async with qanat.stream(backwards, range(3)):
            raise error
    assert caught.value is error
    assert len(error.exceptions) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()], ids=repr)
async def test_an_interrupt_in_the_block_comes_out_as_it_is(virtual_time: VirtualTime, error: BaseException):
    with pytest.raises(type(error)) as caught:
        async with qanat.stream(backwards, range(3)):
            raise error
    assert caught.value is error


async def test_a_cancellation_in_the_block_goes_on_to_the_caller(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    with anyio.move_on_after(1.0) as scope:
        async with qanat.stream(diary.taking(10.0), range(3)) as outcomes:
            async for _ in outcomes:
                raise AssertionError("nothing has ended")
        raise AssertionError("went on after the block")
    assert scope.cancelled_caught
    assert (diary.running, virtual_time.now()) == (0, 1.0)


@pytest.mark.virtual_time("asyncio")
async def test_cancelling_the_reading_task_ends_the_stream(virtual_time: VirtualTime):
    diary = Diary(virtual_time)

    async def read() -> None:
        async with qanat.stream(diary.taking(10.0), range(3)) as outcomes:
            async for _ in outcomes:
                pass

    task = asyncio.ensure_future(read())
    await asyncio.sleep(1.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (diary.running, virtual_time.now()) == (0, 1.0)


async def test_a_timeout_around_one_read_loses_no_outcome(virtual_time: VirtualTime):
    seen: list[int] = []
    async with qanat.stream(Diary(virtual_time).taking(1.0), range(4), concurrency=1) as outcomes:
        while len(seen) < 4:
            with anyio.move_on_after(0.25):
                seen.append((await anext(outcomes)).index)
    assert seen == [0, 1, 2, 3]


async def test_several_tasks_may_read_one_stream(virtual_time: VirtualTime):
    seen: list[tuple[str, int]] = []

    async def read(name: str) -> None:
        async for outcome in outcomes:
            seen.append((name, outcome.index))
            await anyio.sleep(1.0)

    async with qanat.stream(Diary(virtual_time).taking(1.0), range(9), concurrency=3) as outcomes:
        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(read, name)
    assert sorted(index for _, index in seen) == list(range(9))
    assert {name for name, _ in seen} == {"a", "b", "c"}
    assert virtual_time.now() == 4.0


# --- the reader's pace --------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [1, 2, 5])
async def test_a_slow_reader_slows_the_run_down(virtual_time: VirtualTime, buffer: int):
    """What was started and not read is never more than the buffer and the slots together."""
    diary = Diary(virtual_time)
    read = 0
    most = 0
    async with qanat.stream(diary.taking(0.0), range(50), concurrency=2, buffer=buffer) as outcomes:
        async for _ in outcomes:
            read += 1
            await anyio.sleep(1.0)
            most = max(most, len(diary.began) - read)
    assert read == 50
    assert buffer <= most <= buffer + 2


async def test_a_source_is_not_read_while_nobody_reads_the_outcomes(virtual_time: VirtualTime):
    given = itertools.count()

    def source() -> Iterator[int]:
        for item in range(100):
            next(given)
            yield item

    async with qanat.stream(Diary(virtual_time).taking(0.0), source(), concurrency=2, buffer=3):
        await anyio.sleep(100.0)
        assert next(given) <= 3 + 2


@pytest.mark.parametrize("buffer", [1, 2, 3])
@pytest.mark.parametrize("concurrency", [1, 2, 3])
async def test_an_ordered_stream_with_a_small_buffer_and_retries_never_stops(
    virtual_time: VirtualTime, buffer: int, concurrency: int
):
    async def handler(item: int) -> int:
        await anyio.sleep((item * 7) % 4)
        if item % 3 == 0 and qanat.current_job().attempt < 3:
            raise KeyError
        return item

    async with qanat.stream(
        handler, range(40), ordered=True, buffer=buffer, concurrency=concurrency,
        retry=Retry(2, backoff=constant(5.0)),
    ) as outcomes:  # fmt: skip
        assert [outcome.value async for outcome in outcomes] == list(range(40))


@pytest.mark.parametrize("order", ["lifo", "priority"])
@pytest.mark.parametrize("buffer", [1, 2, 5])
async def test_an_ordered_stream_with_another_order_of_starting_never_stops(
    virtual_time: VirtualTime, order: Any, buffer: int
):
    async with qanat.stream(
        Diary(virtual_time).taking(1.0), iter(range(30)), ordered=True, order=order, buffer=buffer,
        priority=(lambda item: -item) if order == "priority" else None, concurrency=2,
    ) as outcomes:  # fmt: skip
        assert [outcome.value async for outcome in outcomes] == list(range(30))


@pytest.mark.parametrize("buffer", [1, 2, 5])
@pytest.mark.parametrize("ordered", [False, True])
async def test_an_awaited_source_with_a_small_buffer_never_stops(
    virtual_time: VirtualTime, ordered: bool, buffer: int
):
    async def source() -> AsyncIterator[int]:
        for item in range(20):
            await anyio.sleep(0.5)
            yield item

    seen: list[int] = []
    async with qanat.stream(
        Diary(virtual_time).taking(1.0), source(), ordered=ordered, buffer=buffer, concurrency=2
    ) as outcomes:
        async for outcome in outcomes:
            seen.append(outcome.index)
            await anyio.sleep(0.75)
    assert sorted(seen) == list(range(20))


async def test_early_outcomes_of_an_ordered_stream_count_as_not_read(virtual_time: VirtualTime):
    began: list[int] = []

    async def handler(item: int) -> None:
        began.append(item)
        await anyio.sleep(100.0 if item == 0 else 0.0)

    async with qanat.stream(handler, range(1000), ordered=True, buffer=10, concurrency=2) as outcomes:
        await anyio.sleep(50.0)
        assert len(began) <= 1 + 10 + 2
        assert [outcome.index async for outcome in outcomes] == list(range(1000))


async def test_reading_again_after_a_pause_goes_on_where_it_stopped(virtual_time: VirtualTime):
    seen: list[int] = []
    async with qanat.stream(Diary(virtual_time).taking(1.0), range(10), concurrency=2, buffer=2) as outcomes:
        async for outcome in outcomes:
            seen.append(outcome.index)
            if len(seen) == 3:
                await anyio.sleep(1000.0)
    assert sorted(seen) == list(range(10))


# --- what stops it ---------------------------------------------------------------------------------------


class Broken(Exception):
    """What the sources of these tests raise."""


@pytest.mark.parametrize("ordered", [False, True])
async def test_the_outcomes_of_a_source_that_raises_come_first_and_then_its_error(
    virtual_time: VirtualTime, ordered: bool
):
    def source() -> Iterator[int]:
        yield from range(3)
        raise Broken

    seen: list[int] = []
    with pytest.raises(Broken) as caught:
        async with qanat.stream(backwards, source(), ordered=ordered) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome.index)
    assert seen == ([0, 1, 2] if ordered else [2, 1, 0])
    assert caught.value.__notes__ == ["raised by the source of items after 3 of them"]


async def test_the_error_of_a_source_is_raised_once(virtual_time: VirtualTime):
    def source() -> Iterator[int]:
        yield 0
        raise Broken

    async with qanat.stream(backwards, source()) as outcomes:
        with pytest.raises(Broken):
            _ = [outcome async for outcome in outcomes]
        assert [outcome async for outcome in outcomes] == []


async def test_the_error_of_a_source_is_not_raised_when_the_stream_is_left_before(virtual_time: VirtualTime):
    def source() -> Iterator[int]:
        yield 0
        raise Broken

    async with qanat.stream(backwards, source()) as outcomes:
        async for _ in outcomes:
            break


async def test_too_many_failures_are_raised_to_the_reader(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        raise KeyError(item)

    seen: list[str] = []
    with pytest.raises(TooManyFailuresError) as caught:
        async with qanat.stream(handler, range(100), concurrency=1, max_failures=2) as outcomes:
            async for outcome in outcomes:
                seen.append(outcome.state)
    assert seen == ["dead"] * 3
    assert (caught.value.failed, virtual_time.now()) == (3, 3.0)


async def test_too_many_failures_do_not_interrupt_what_the_reader_is_doing(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        raise KeyError(item)

    done: list[float] = []
    with pytest.raises(TooManyFailuresError):
        async with qanat.stream(handler, range(100), concurrency=1, max_failures=1) as outcomes:
            async for _ in outcomes:
                await anyio.sleep(10.0)
                done.append(virtual_time.now())
    assert done == [11.0, 21.0]


async def test_a_late_first_item_is_raised_to_the_reader(virtual_time: VirtualTime):
    async def source() -> AsyncIterator[int]:
        await anyio.sleep(100.0)
        yield 0

    with pytest.raises(StartTimeoutError):
        async with qanat.stream(backwards, source(), start_within=2.0) as outcomes:
            async for _ in outcomes:
                pass
    assert virtual_time.now() == 2.0


async def test_a_generator_around_a_stream_may_be_closed_by_another_task(virtual_time: VirtualTime):
    """As the event loop does with one that was left by `break` and forgotten."""
    diary = Diary(virtual_time)

    async def doubled() -> AsyncGenerator[int]:
        async with qanat.stream(diary.taking(1.0), range(10), concurrency=1) as outcomes:
            async for outcome in outcomes:
                yield outcome.item

    found = doubled()
    assert await anext(found) == 0
    async with anyio.create_task_group() as group:
        group.start_soon(found.aclose)
    assert diary.running == 0
    await anyio.sleep(5.0)
    assert [item for item, _ in diary.ended] == [0]


async def test_an_async_source_that_was_just_woken_does_not_go_on(virtual_time: VirtualTime):
    """It offered an item to the engine that was being left, which then waited for that for ever."""
    read: list[int] = []

    async def source() -> AsyncIterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    async with qanat.stream(Diary(virtual_time).taking(1.0), source(), concurrency=3, buffer=6) as outcomes:
        async for _ in outcomes:
            break
    before = len(read)
    await anyio.sleep(5.0)
    assert len(read) == before


async def test_only_failed_gives_what_is_not_done_and_lets_the_rest_take_no_room(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    handler = diary.failing([None, KeyError(1), None, KeyError(3), None, None])
    async with qanat.stream(handler, range(6), only_failed=True, buffer=1, concurrency=1) as outcomes:
        await anyio.sleep(10.0)
        assert [outcome.item async for outcome in outcomes] == [1, 3]


async def test_only_failed_goes_with_a_journal(virtual_time: VirtualTime, tmp_path: Path):
    diary = Diary(virtual_time)
    handler = diary.failing([None, KeyError(1), None])
    async with qanat.stream(handler, range(3), only_failed=True, journal=tmp_path / "run.db") as outcomes:
        assert [outcome.item async for outcome in outcomes] == [1]


async def test_jobs_that_wait_for_a_retry_take_up_room(virtual_time: VirtualTime):
    read: list[int] = []

    def source():
        for number in range(100):
            read.append(number)
            yield number

    async def fail(_: int) -> None:
        raise ConnectionError

    retry = Retry(1, backoff=constant(60.0))
    async with qanat.stream(fail, source(), retry=retry, buffer=5, concurrency=2) as outcomes:
        await anyio.sleep(1.0)
        assert len(read) == 5
        assert sorted([(await anext(outcomes)).item for _ in range(5)]) == list(range(5))
        await anyio.sleep(1.0)
        assert len(read) == 10


@pytest.mark.parametrize(
    ("error", "options"), [(TypeError, {"only_failed": 1}), (ValueError, {"ordered": True})]
)
async def test_only_failed_must_make_sense(
    virtual_time: VirtualTime, error: type[Exception], options: dict[str, Any]
):
    with pytest.raises(error, match="only_failed"):
        qanat.stream(backwards, [1], **{"only_failed": True, **options})


async def test_an_item_that_comes_just_as_the_run_fails_is_dropped(virtual_time: VirtualTime):
    come = anyio.Event()
    began: list[int] = []

    async def source() -> AsyncIterator[int]:
        yield 0
        await come.wait()
        yield 1

    async def fail(item: int) -> None:
        began.append(item)
        await anyio.sleep(1.0)
        come.set()
        raise KeyError(item)

    with pytest.raises(KeyError):
        await qanat.map(fail, source())
    assert began == [0]
