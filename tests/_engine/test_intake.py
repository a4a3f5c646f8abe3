"""Sources of items: read no faster than they can be used."""

from __future__ import annotations

import functools
import itertools
from collections import deque
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import qanat
from qanat import errors
from qanat._engine import intake as module
from tests._app.diary import Diary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


class Reading:
    """A source that knows how many items were asked for."""

    def __init__(self, count: int | None = None) -> None:
        self.read = 0
        self._count = count

    def plain(self) -> Iterator[int]:
        for item in itertools.count() if self._count is None else range(self._count):
            self.read += 1
            yield item

    async def awaited(self) -> AsyncIterator[int]:
        for item in self.plain():
            yield item


KINDS: dict[str, Any] = {
    "list": lambda: [0, 1, 2],
    "tuple": lambda: (0, 1, 2),
    "range": lambda: range(3),
    "set": lambda: {0, 1, 2},
    "dict": lambda: {0: "a", 1: "b", 2: "c"},
    "keys": lambda: {0: "a", 1: "b", 2: "c"}.keys(),
    "deque": lambda: deque([0, 1, 2]),
    "iterator": lambda: iter([0, 1, 2]),
    "generator": lambda: (item for item in range(3)),
    "map": lambda: map(int, "012"),
    "bytearray": lambda: bytearray([0, 1, 2]),
}


@pytest.mark.parametrize("order", ["fifo", "priority"])
@pytest.mark.parametrize("kind", KINDS)
async def test_any_iterable_is_a_source(virtual_time: VirtualTime, kind: str, order: Any):
    outcomes = await qanat.collect(Diary(virtual_time).taking(1.0), KINDS[kind](), order=order)
    assert outcomes.values() == [0, 1, 2]


@pytest.mark.parametrize("order", ["fifo", "priority"])
async def test_any_async_iterable_is_a_source(virtual_time: VirtualTime, order: Any):
    class Items:
        def __init__(self) -> None:
            self._left = iter(range(3))

        def __aiter__(self) -> Items:
            return self

        async def __anext__(self) -> int:
            await anyio.sleep(1.0)
            for item in self._left:
                return item
            raise StopAsyncIteration

    outcomes = await qanat.collect(Diary(virtual_time).taking(1.0), Items(), order=order)
    assert outcomes.values() == [0, 1, 2]


async def test_what_can_be_read_both_ways_is_read_plainly(virtual_time: VirtualTime):
    class Both(list[str]):
        __aiter__ = list.__iter__

    assert await qanat.map(Diary(virtual_time).taking(1.0), Both(["plain"])) == ["plain"]


async def test_an_iter_that_raises_is_raised(virtual_time: VirtualTime):
    class Items:
        def __iter__(self) -> Iterator[int]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await qanat.collect(Diary(virtual_time).taking(1.0), Items())


# --- how far ahead -------------------------------------------------------------------------------


async def test_a_generator_is_read_as_slots_become_free(virtual_time: VirtualTime):
    reading = Reading()
    async with qanat.stream(Diary(virtual_time).taking(1.0), reading.plain(), concurrency=3) as outcomes:
        await anyio.sleep(0.5)
        assert reading.read == 3
        async for outcome in outcomes:
            if outcome.index == 5:
                break
    assert reading.read <= 9


@pytest.mark.parametrize("buffer", [1, 3, 40])
async def test_an_awaited_source_is_read_ahead_as_far_as_the_buffer(virtual_time: VirtualTime, buffer: int):
    reading = Reading()
    async with qanat.stream(
        Diary(virtual_time).taking(1.0), reading.awaited(), concurrency=2, buffer=buffer
    ) as outcomes:
        await anyio.sleep(0.5)
        # Those that run, those that wait; and one more may be on its way.
        assert 2 + buffer - 1 <= reading.read <= 2 + buffer
        await anext(outcomes)


@pytest.mark.parametrize("buffer", [1, 3, 40, 500])
async def test_what_an_order_chooses_among_is_never_more_than_the_buffer(
    virtual_time: VirtualTime, buffer: int
):
    reading = Reading(1000)
    most = 0

    async def handler(item: int) -> None:
        nonlocal most
        most = max(most, reading.read - done)
        await anyio.sleep(1.0)

    done = 0
    async with qanat.stream(handler, reading.plain(), concurrency=2, order="lifo", buffer=buffer) as outcomes:
        async for _ in outcomes:
            done += 1
            if done == 50:
                break
    assert most <= buffer + 2


async def test_the_buffer_is_kept_full_for_an_order_to_choose_among(virtual_time: VirtualTime):
    reading = Reading(1000)
    waiting: list[int] = []

    async def handler(item: int) -> None:
        waiting.append(reading.read - len(waiting) - 1)
        await anyio.sleep(1.0)

    await qanat.collect(handler, reading.plain(), concurrency=1, order="lifo", buffer=160)
    assert min(waiting[:800]) >= 150


@pytest.mark.slow
async def test_a_sized_source_is_read_whole_when_an_order_or_lanes_choose(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.taking(1.0), list(range(3000)), concurrency=1000, order="lifo", buffer=1)
    assert diary.items[:3] == [2999, 2998, 2997]


async def test_a_sized_source_that_takes_long_to_read_lets_others_run(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "LONG", -1.0)
    turns: list[int] = []
    source = list(range(1000))

    async def other() -> None:
        while True:
            turns.append(1)
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await qanat.collect(Diary(virtual_time).taking(0.0), source, order="lifo", concurrency=1000)
        group.cancel_scope.cancel()
    assert len(turns) > 10


@pytest.mark.parametrize("rules", [{"lane": str}, {"order": "lifo"}])
async def test_a_run_that_is_cancelled_while_a_source_is_read_whole_starts_nothing(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch, rules: Any
):
    monkeypatch.setattr(module, "LONG", -1.0)
    read: list[int] = []

    class Items:
        def __len__(self) -> int:
            return 1000

        def __iter__(self) -> Iterator[int]:
            while True:
                read.append(1)
                if len(read) == 500:
                    pool.cancel()
                    scope.cancel()
                yield len(read)

    diary = Diary(virtual_time)
    async with qanat.Pool(anyio.sleep) as pool:
        with anyio.CancelScope() as scope:
            await qanat.collect(diary.taking(1.0), Items(), **rules)
    assert diary.began == []
    assert len(read) < 1000


async def test_a_source_that_blocks_is_read_one_by_one(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "LONG", -1.0)
    reading = Reading(500)
    ahead: list[int] = []

    async def handler(item: int) -> None:
        ahead.append(reading.read - item - 1)

    # With an id function items go by way of the dispatcher, in chunks.
    await qanat.collect(handler, reading.plain(), concurrency=1, id=str)
    assert max(ahead) == 0


async def test_a_source_that_is_quick_is_read_in_chunks(virtual_time: VirtualTime):
    reading = Reading(500)
    ahead: list[int] = []

    async def handler(item: int) -> None:
        ahead.append(reading.read - item - 1)

    await qanat.collect(handler, reading.plain(), concurrency=1, id=str)
    assert 1 < max(ahead) < module.CHUNK


@pytest.mark.parametrize("rules", [{}, {"id": str}, {"order": "lifo"}, {"rate": "10/s"}], ids=str)
@pytest.mark.parametrize("retries", [0, 2])
async def test_scheduled_retries_count_as_not_started(virtual_time: VirtualTime, rules: Any, retries: int):
    reading = Reading(60)
    retry = qanat.Retry(retries, backoff=qanat.constant(100.0))
    failing = Diary(virtual_time).failing([KeyError()] * 60)
    async with qanat.stream(
        failing, reading.plain(), buffer=10, concurrency=2, retry=retry, **rules
    ) as outcomes:
        await anyio.sleep(50.0)
        assert reading.read <= 12
        assert len([outcome async for outcome in outcomes]) == 60


async def test_reading_an_awaited_source_and_running_go_on_side_by_side(virtual_time: VirtualTime):
    async def source() -> AsyncIterator[int]:
        for item in range(5):
            await anyio.sleep(1.0)
            yield item

    await qanat.collect(Diary(virtual_time).taking(1.0), source(), concurrency=1, buffer=1)
    assert virtual_time.now() == 6.0


async def test_an_awaited_source_is_told_of_room_that_a_failure_leaves(virtual_time: VirtualTime):
    """Each job fails before it starts, as its lane cannot be told."""
    outcomes = await qanat.collect(
        Diary(virtual_time).taking(1.0), Reading(50).awaited(), buffer=1, lane=lambda item: 1 // (item % 2)
    )
    assert [outcome.ok for outcome in outcomes] == [False, True] * 25


# --- callbacks -------------------------------------------------------------------------------------


async def test_callbacks_are_called_once_for_each_item_before_it_is_offered(virtual_time: VirtualTime):
    asked: list[tuple[str, int]] = []

    def asking(name: str, answer: Any) -> Any:
        def callback(item: int) -> Any:
            asked.append((name, item))
            return answer(item)

        return callback

    await qanat.collect(
        Diary(virtual_time).failing([KeyError()] * 3), range(3), retry=qanat.Retry(3, backoff=qanat.constant(0.0)),
        order="priority", lane=asking("lane", str), priority=asking("priority", float), id=asking("id", str),
    )  # fmt: skip
    assert sorted(asked) == sorted((name, item) for name in ("lane", "priority", "id") for item in range(3))


async def test_a_lane_that_has_no_hash_fails_its_job_with_a_message(virtual_time: VirtualTime):
    (outcome,) = await qanat.collect(Diary(virtual_time).taking(1.0), [1], lane=lambda item: [item])  # type: ignore[arg-type, return-value]
    assert str(outcome.error) == "lane must be hashable, got [1]"


# --- the end -------------------------------------------------------------------------------------------


async def test_a_generator_that_ends_is_not_closed_twice(virtual_time: VirtualTime):
    class Items:
        def __init__(self) -> None:
            self._left = iter(range(3))
            self.closed: list[bool] = []
            self.close = functools.partial(self.closed.append, True)

        def __iter__(self) -> Items:
            return self

        def __next__(self) -> int:
            return next(self._left)

    items = Items()
    await qanat.collect(Diary(virtual_time).taking(1.0), items)
    assert items.closed == []


async def test_a_generator_that_stops_its_own_run_is_left_alone(virtual_time: VirtualTime):
    """It runs just then, and cannot be closed."""
    scope = anyio.CancelScope()

    def source() -> Iterator[int]:
        yield 1
        engine = pool._engine
        assert engine is not None
        engine.cancel()
        pools[0].cancel()
        yield 2

    pools: list[qanat.Pool[Any, Any]] = []
    async with qanat.Pool(anyio.sleep) as pool:
        pools.append(pool)
        with scope:
            outcomes = await qanat.collect(Diary(virtual_time).taking(1.0), source(), concurrency=1)
    assert outcomes.values() == [1, 2]


def failing_at_the_end() -> Iterator[int]:
    try:
        yield from itertools.count()
    finally:
        raise ZeroDivisionError


async def awaited_failing_at_the_end() -> AsyncIterator[int]:
    try:
        yield 1
        await anyio.sleep(9.0)
    finally:
        raise ZeroDivisionError


@pytest.mark.parametrize("source", [failing_at_the_end, awaited_failing_at_the_end])
async def test_a_source_that_fails_as_it_is_closed_is_logged_and_hides_nothing(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture, source: Any
):
    with pytest.raises(KeyError):
        await qanat.map(Diary(virtual_time).failing([KeyError()]), source())
    assert len(caplog.records) == (source is failing_at_the_end)


async def test_an_awaited_source_that_fails_as_it_is_closed_after_an_error_is_logged(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    class Items:
        def __aiter__(self) -> Items:
            return self

        async def __anext__(self) -> int:
            raise KeyError

        async def aclose(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(KeyError):
        await qanat.collect(Diary(virtual_time).taking(1.0), Items())
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("rules", [{}, {"id": str}, {"order": "lifo"}], ids=str)
async def test_a_source_that_raises_in_a_chunk_loses_no_item_before(virtual_time: VirtualTime, rules: Any):
    def source() -> Iterator[int]:
        yield from range(100)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await qanat.collect(Diary(virtual_time).taking(0.0), source(), concurrency=1, **rules)
    assert [outcome.value for outcome in errors.outcomes_of(caught.value)] == list(range(100))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
async def test_an_interrupt_of_an_awaited_source_stops_the_run_at_once(
    virtual_time: VirtualTime, error: BaseException
):
    async def source() -> AsyncIterator[int]:
        yield 1
        raise error

    diary = Diary(virtual_time)
    with pytest.raises(type(error)) as caught:
        await qanat.collect(diary.taking(1.0), source())
    assert caught.value is error
    assert (diary.ended, virtual_time.now()) == ([], 0.0)


@pytest.mark.parametrize("rules", [{}, {"id": str}, {"order": "lifo"}], ids=str)
async def test_an_interrupt_of_a_plain_source_stops_the_run_at_once(virtual_time: VirtualTime, rules: Any):
    def source() -> Iterator[int]:
        yield from range(3)
        raise KeyboardInterrupt

    diary = Diary(virtual_time)
    with pytest.raises(KeyboardInterrupt) as caught:
        await qanat.collect(diary.taking(1.0), source(), **rules)
    assert (diary.ended, virtual_time.now()) == ([], 0.0)
    assert {outcome.state for outcome in errors.outcomes_of(caught.value)} <= {"cancelled"}


async def test_an_async_iterator_without_aclose_may_be_left(virtual_time: VirtualTime):
    class Items:
        def __aiter__(self) -> Items:
            return self

        async def __anext__(self) -> int:
            await anyio.sleep(1.0)
            return 1

    async with qanat.stream(Diary(virtual_time).taking(1.0), Items()) as outcomes:
        async for _ in outcomes:
            break
    assert virtual_time.now() == 2.0
