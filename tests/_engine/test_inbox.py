"""`Inbox`: an input that is added to while a run reads it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Inbox
from qanat._engine.intake import Intake
from tests._app.diary import Diary

if TYPE_CHECKING:
    from pathlib import Path

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def double(item: int) -> int:
    return item * 2


async def test_items_that_come_later_run_as_they_come(virtual_time: VirtualTime):
    inbox: Inbox[str] = Inbox()
    diary = Diary(virtual_time)
    began = virtual_time.now()
    async with (
        anyio.create_task_group() as group,
        qanat.stream(diary.taking(1.0), inbox, concurrency=2) as outcomes,
    ):

        async def add() -> None:
            for item in ("a", "b", "c"):
                inbox.add(item)
                await anyio.sleep(3.0)
            inbox.add_all("def")
            inbox.close()

        group.start_soon(add)
        values = [outcome.unwrap() async for outcome in outcomes]
    # Those that run together may begin and end in any order.
    assert sorted(map(str, values)) == ["a", "b", "c", "d", "e", "f"]
    assert sorted((item, at - began) for item, at in diary.began) == [
        ("a", 0.0), ("b", 3.0), ("c", 6.0), ("d", 9.0), ("e", 9.0), ("f", 10.0)
    ]  # fmt: skip


async def test_a_handler_may_add_to_the_input_that_it_comes_from(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox()

    async def countdown(number: int) -> int:
        if number:
            inbox.add(number - 1)
        else:
            inbox.close()
        return number

    inbox.add(3)
    assert await qanat.map(countdown, inbox) == [3, 2, 1, 0]


@pytest.mark.parametrize(
    "rules",
    [{"rate": "2/s"}, {"order": "lifo"}, {"order": "priority", "priority": float}, {"lane": str},
     {"batch": qanat.Batch(2, within=1.0)}, {"limits": qanat.Concurrency(1)}],
    ids=["rate", "lifo", "priority", "lanes", "batches", "a limit"],
)  # fmt: skip
async def test_an_inbox_goes_under_every_rule(virtual_time: VirtualTime, rules: dict[str, Any]):
    inbox: Inbox[int] = Inbox()

    async def handler(item: Any) -> Any:
        return [each * 2 for each in item] if isinstance(item, list) else item * 2

    async with anyio.create_task_group() as group:

        async def add() -> None:
            for item in range(6):
                inbox.add(item)
                if item % 2:
                    await anyio.sleep(5.0)
            inbox.close()

        group.start_soon(add)
        outcomes = await qanat.collect(handler, inbox, **rules)
    assert sorted(outcomes.values()) == [0, 2, 4, 6, 8, 10]


async def test_an_inbox_goes_with_a_journal(virtual_time: VirtualTime, tmp_path: Path):
    for _ in range(2):
        inbox: Inbox[int] = Inbox()
        async with anyio.create_task_group() as group:

            async def add(inbox: Inbox[int] = inbox) -> None:
                for item in range(4):
                    inbox.add(item)
                    await anyio.sleep(1.0)
                inbox.close()

            group.start_soon(add)
            assert await qanat.map(double, inbox, journal=tmp_path / "run.db") == [0, 2, 4, 6]


async def test_put_waits_until_fewer_than_most_are_in_it(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox(most=2)
    at: list[float] = []
    began = virtual_time.now()

    async def add() -> None:
        for item in range(5):
            await inbox.put(item)
            at.append(virtual_time.now() - began)
        inbox.close()

    async with anyio.create_task_group() as group:
        group.start_soon(add)
        await anyio.sleep(1.0)
        assert inbox.waiting == 2
        await qanat.collect(Diary(virtual_time).taking(1.0), inbox, concurrency=1)
    assert at == [0.0, 0.0, 1.0, 2.0, 3.0]


async def test_who_waits_to_put_hears_that_the_inbox_is_closed(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox(most=1)
    inbox.add(1)
    problems: list[str] = []

    async def put() -> None:
        try:
            await inbox.put(2)
        except RuntimeError as error:
            problems.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(put)
        group.start_soon(put)
        await anyio.sleep(1.0)
        inbox.close()
        inbox.close()
    assert problems == ["the inbox is closed and takes no more items"] * 2
    for add in (lambda: inbox.add(3), lambda: inbox.add_all([3])):
        with pytest.raises(RuntimeError, match="closed"):
            add()


async def test_a_cancelled_put_leaves_its_turn_to_the_next(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox(most=1)
    inbox.add(0)
    async with anyio.create_task_group() as group:
        first = anyio.CancelScope()

        async def put(item: int, scope: anyio.CancelScope) -> None:
            with scope:
                await inbox.put(item)

        group.start_soon(put, 1, first)
        await anyio.sleep(1.0)
        group.start_soon(put, 2, anyio.CancelScope())
        await anyio.sleep(1.0)
        assert next(iter(inbox)) == 0
        first.cancel()
        await anyio.sleep(1.0)
        # Whether a cancellation still reaches who was just woken is the loop's to say.
        found = inbox.clear()
        await anyio.sleep(1.0)
        assert found + inbox.clear() in ([2], [1, 2])


async def test_an_inbox_that_is_closed_is_read_to_its_end(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox()
    inbox.add_all([1, 2])
    inbox.close()
    assert repr(inbox) == "<Inbox with 2 items, closed>"
    assert await qanat.map(double, inbox) == [2, 4]
    assert await qanat.map(double, inbox) == []


async def test_what_a_run_leaves_is_there_for_the_next(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox()
    inbox.add_all(range(5))
    async with qanat.stream(Diary(virtual_time).taking(1.0), inbox, concurrency=1) as outcomes:
        async for outcome in outcomes:
            assert outcome.value == 0
            break
    inbox.close()
    assert await qanat.map(double, inbox) == [4, 6, 8]


async def test_one_run_reads_an_inbox_at_a_time(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox()
    async with qanat.stream(double, inbox):
        with pytest.raises(RuntimeError, match="the inbox is read by another run"):
            await qanat.collect(double, inbox)
    inbox.close()
    assert await qanat.collect(double, inbox) == []


async def test_nothing_that_comes_in_time_is_told(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox()
    with pytest.raises(qanat.StartTimeoutError):
        await qanat.collect(double, inbox, start_within=2.0)


@pytest.mark.parametrize("most", [0, 1.5, "2"])
def test_most_is_a_whole_number(most: Any):
    with pytest.raises((TypeError, ValueError), match="most must be"):
        Inbox(most=most)


@pytest.mark.virtual_time("asyncio")
async def test_other_threads_add_and_close(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox()

    def produce() -> None:
        for item in range(100):
            inbox.add(item)
        inbox.close()

    values, _ = await asyncio.gather(qanat.map(double, inbox), asyncio.to_thread(produce))
    assert values == [2 * item for item in range(100)]


def test_a_loop_that_has_ended_hears_nothing():
    inbox: Inbox[int] = Inbox()

    async def leave() -> None:
        runner = qanat.stream(double, inbox)
        await runner.__aenter__()
        await runner.__aexit__(None, None, None)

    asyncio.run(leave())
    inbox.add(1)
    assert inbox.waiting == 1


@pytest.mark.virtual_time("asyncio")
async def test_who_is_cancelled_when_just_woken_leaves_its_turn_to_the_next(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox(most=1)
    inbox.add(0)
    first, second = (asyncio.create_task(inbox.put(item)) for item in (1, 2))
    await asyncio.sleep(1.0)
    assert next(iter(inbox)) == 0
    first.cancel()
    await second
    assert first.cancelled()
    assert inbox.clear() == [2]


@pytest.mark.virtual_time("asyncio")
async def test_items_that_come_one_after_the_other_cost_a_turn_of_the_loop_each(virtual_time: VirtualTime):
    loop, turns = asyncio.get_running_loop(), 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    async def answer(future: asyncio.Future[None]) -> None:
        future.set_result(None)

    inbox: Inbox[asyncio.Future[None]] = Inbox()
    async with qanat.stream(answer, inbox, only_failed=True) as outcomes:
        turn()
        for _ in range(100):
            future = loop.create_future()
            inbox.add(future)
            await future
        inbox.close()
        assert [outcome async for outcome in outcomes] == []
    assert turns < 110


async def test_only_who_reads_an_inbox_can_leave_it(virtual_time: VirtualTime):
    inbox: Inbox[int] = Inbox()
    async with qanat.stream(double, inbox) as outcomes:
        other: Any = object()
        inbox._end(other)
        inbox.add(4)
        inbox.close()
        assert [outcome.value async for outcome in outcomes] == [8]


def test_what_is_added_in_a_thread_when_the_loop_has_ended_is_kept():
    def ended(function: Any) -> None:
        raise RuntimeError("the loop is closed")

    # As if its run had been left in the lurch by a loop that was stopped.
    intake: Any = SimpleNamespace(
        _engine=SimpleNamespace(loop=SimpleNamespace(call_soon_threadsafe=ended)), wetted=None
    )
    Intake.wetted_elsewhere(intake)
