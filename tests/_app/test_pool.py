"""`Pool`: work that arrives as you go."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import (
    Concurrency,
    JobTimeoutError,
    PoolClosedError,
    PoolFull,
    Retry,
    StartTimeoutError,
    TooManyFailuresError,
    constant,
)
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")
on_asyncio = pytest.mark.virtual_time("asyncio")


async def double(item: int) -> int:
    await anyio.sleep(1.0)
    return item * 2


# --- submitting ----------------------------------------------------------------------------------


async def test_a_handle_can_be_awaited_for_the_value(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        assert await pool.submit(21) == 42
    assert virtual_time.now() == 1.0


@on_asyncio
async def test_jobs_awaited_one_after_the_other_cost_a_turn_of_the_loop_each(virtual_time: VirtualTime):
    async def at_once(item: int) -> int:
        return item

    loop, turns = asyncio.get_running_loop(), 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    async with qanat.Pool(at_once, concurrency=10) as pool:
        await pool.submit(0)
        turn()
        for item in range(100):
            await pool.submit(item)
    assert turns < 110


async def test_a_job_starts_while_the_body_goes_on(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=2) as pool:
        for item in range(3):
            pool.submit(item)
        await anyio.sleep(0.5)
        pool.submit(3)
    assert diary.began == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0)]


async def test_leaving_waits_for_all_jobs(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=2) as pool:
        for item in range(5):
            pool.submit(item)
    assert virtual_time.now() == 3.0
    assert len(diary.ended) == 5


async def test_leaving_waits_for_retries_too(virtual_time: VirtualTime):
    async with qanat.Pool(
        Diary(virtual_time).failing([KeyError()]), retry=Retry(1, backoff=constant(30.0))
    ) as pool:
        handle = pool.submit(1)
    assert virtual_time.now() == 30.0
    assert await handle == 1


async def test_leaving_never_raises_for_a_job(virtual_time: VirtualTime):
    async with qanat.Pool(Diary(virtual_time).failing([KeyError()])) as pool:
        handle = pool.submit(1)
    with pytest.raises(KeyError):
        await handle


async def test_leaving_without_a_job_is_immediate(virtual_time: VirtualTime):
    async with qanat.Pool(double):
        pass
    assert virtual_time.now() == 0.0


async def test_an_exception_in_the_body_cancels_and_comes_out_as_it_is(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught:
        async with qanat.Pool(diary.taking(10.0), concurrency=1) as pool:
            handles = [pool.submit(item) for item in range(2)]
            await anyio.sleep(1.0)
            raise error from ValueError("cause")
    assert caught.value is error
    assert isinstance(error.__cause__, ValueError)
    assert [(await handle.outcome()).state for handle in handles] == ["cancelled"] * 2
    assert (diary.running, diary.items, virtual_time.now()) == (0, [0], 1.0)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(2), ExceptionGroup("mine", [KeyError(1)])], ids=repr
)
async def test_any_exception_in_the_body_comes_out_as_it_is(virtual_time: VirtualTime, error: BaseException):
    with pytest.raises(type(error)) as caught:
        async with qanat.Pool(double) as pool:
            pool.submit(1)
            raise error
    assert caught.value is error


async def test_cancelling_the_body_cancels_the_jobs_and_goes_on_to_the_caller(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    with anyio.move_on_after(1.0) as scope:
        async with qanat.Pool(diary.taking(10.0)) as pool:
            handle = pool.submit(1)
            await anyio.sleep(5.0)
        raise AssertionError("went on after the block")
    assert scope.cancelled_caught
    assert (diary.running, virtual_time.now()) == (0, 1.0)
    assert (await handle.outcome()).state == "cancelled"


async def test_cancelling_the_wait_at_the_end_cancels_the_jobs(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    with anyio.move_on_after(1.0) as scope:
        async with qanat.Pool(diary.taking(10.0)) as pool:
            handle = pool.submit(1)
        raise AssertionError("went on after the block")
    assert scope.cancelled_caught
    assert (diary.running, virtual_time.now()) == (0, 1.0)
    assert (await handle.outcome()).state == "cancelled"


@pytest.mark.parametrize("times", [1, 3])
@on_asyncio
async def test_cancelling_the_task_of_the_body_cancels_the_jobs(virtual_time: VirtualTime, times: int):
    cleaned: list[float] = []

    async def handler(item: int) -> None:
        try:
            await asyncio.sleep(10.0)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(4.0)
            cleaned.append(virtual_time.now())

    async def work() -> None:
        async with qanat.Pool(handler) as pool:
            pool.submit(1)

    task = asyncio.ensure_future(work())
    for _ in range(times):
        await asyncio.sleep(1.0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [5.0]
    assert virtual_time.now() == 5.0


async def test_jobs_are_numbered_unless_they_are_given_an_id(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        handles = [pool.submit(1), pool.submit(1, id="mine"), pool.submit(1)]
        assert [handle.id for handle in handles] == [0, "mine", 2]
        assert [handle.job.index for handle in handles] == [0, 1, 2]


async def test_what_is_handed_in_with_an_item_is_found_in_the_job_and_in_the_outcome(
    virtual_time: VirtualTime,
):
    async def handler(item: int) -> tuple[Any, ...]:
        job = qanat.current_job()
        return job.id, job.item, job.lane, job.priority, job.metadata, job.state

    state = object()
    async with qanat.Pool(handler, state=state) as pool:
        handle = pool.submit(7, id="x", lane="left", priority=2, metadata={"trace": 1})
        assert await handle == ("x", 7, "left", 2.0, {"trace": 1}, state)
        outcome = await handle.outcome()
    assert (outcome.id, outcome.item, outcome.lane, outcome.metadata) == ("x", 7, "left", {"trace": 1})


async def test_the_rules_are_asked_for_what_is_not_handed_in(virtual_time: VirtualTime):
    async with qanat.Pool(
        double, order="priority", lane=lambda item: "odd" if item % 2 else "even",
        priority=lambda item: -item, id=str,
    ) as pool:  # fmt: skip
        first, second = pool.submit(3), pool.submit(4, lane="mine", priority=9, id=5)
    assert (first.job.lane, first.job.priority, first.job.id) == ("odd", -3, "3")
    assert (second.job.lane, second.job.priority, second.job.id) == ("mine", 9.0, 5)


async def test_a_rule_that_raises_fails_that_job_only(virtual_time: VirtualTime):
    async with qanat.Pool(double, lane=lambda item: 1 // item) as pool:
        bad, good = pool.submit(0), pool.submit(1)
        assert bad.done
        with pytest.raises(ZeroDivisionError):
            await bad
        assert await good == 2
    assert (await bad.outcome()).attempts == 0


async def test_a_smaller_priority_starts_first(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1, order="priority") as pool:
        for item in (5, 3, 4):
            pool.submit(item, priority=item)
    assert diary.items == [3, 4, 5]


async def test_lanes_take_turns(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1) as pool:
        for item in ("a1", "a2", "a3", "b1"):
            pool.submit(item, lane=item[0])
    assert diary.items == ["a1", "b1", "a2", "a3"]


async def test_a_delay_is_a_time_before_which_a_job_does_not_start(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1) as pool:
        pool.submit("late", delay=5.0)
        pool.submit("soon", delay=0.5)
        pool.submit("now")
        assert pool.stats().scheduled == 2
    assert diary.began == [("now", 0.0), ("soon", 1.0), ("late", 5.0)]


async def test_a_job_may_have_a_timeout_of_its_own(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, timeout=2.0) as pool:
        short, usual, longer = pool.submit(9.0, timeout=1.0), pool.submit(9.0), pool.submit(9.0, timeout=3.0)
    errors = [(await handle.outcome()).error for handle in (short, usual, longer)]
    assert [error.timeout for error in errors if isinstance(error, JobTimeoutError)] == [1.0, 2.0, 3.0]


async def test_a_job_may_have_retries_of_its_own(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        raise KeyError

    never, often = Retry(0), Retry(3, backoff=constant(0.0))
    async with qanat.Pool(handler, retry=Retry(1, backoff=constant(0.0))) as pool:
        handles = [
            pool.submit(1),
            pool.submit(1, retry=often),
            pool.submit(1, retry=never),
            pool.submit(1, retry=0),
        ]
    assert [(await handle.outcome()).attempts for handle in handles] == [2, 4, 1, 1]


WRONG_ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "delay text": ({"delay": "soon"}, TypeError),
    "delay bool": ({"delay": True}, TypeError),
    "delay negative": ({"delay": -1.0}, ValueError),
    "delay NaN": ({"delay": math.nan}, ValueError),
    "delay inf": ({"delay": math.inf}, ValueError),
    "timeout zero": ({"timeout": 0}, ValueError),
    "timeout negative": ({"timeout": -1}, ValueError),
    "timeout NaN": ({"timeout": math.nan}, ValueError),
    "timeout bool": ({"timeout": True}, TypeError),
    "timeout text": ({"timeout": "1s"}, TypeError),
    "retry negative": ({"retry": -1}, ValueError),
    "retry bool": ({"retry": True}, TypeError),
    "retry float": ({"retry": 1.5}, TypeError),
    "priority text": ({"priority": "high"}, TypeError),
    "priority NaN": ({"priority": math.nan}, ValueError),
    "priority bool": ({"priority": True}, TypeError),
    "lane list": ({"lane": []}, TypeError),
    "id float": ({"id": 1.5}, TypeError),
    "id bool": ({"id": True}, TypeError),
    "id bytes": ({"id": b"x"}, TypeError),
    "metadata text": ({"metadata": "x"}, TypeError),
}


@pytest.mark.parametrize("case", WRONG_ARGUMENTS)
async def test_a_wrong_argument_fails_where_the_job_is_handed_in(virtual_time: VirtualTime, case: str):
    arguments, kind = WRONG_ARGUMENTS[case]
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(0.0)) as pool:
        with pytest.raises(kind) as caught:
            pool.submit(1, **arguments)
        with pytest.raises(kind):
            await pool.put(1, **arguments)
        assert pool.stats().done == pool.stats().failed == pool.stats().waiting == 0
    assert str(caught.value).startswith(next(iter(arguments)))
    assert diary.began == []


async def test_an_unknown_argument_is_a_type_error(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        with pytest.raises(TypeError):
            pool.submit(1, prio=3)  # type: ignore[call-arg]


async def test_what_a_call_says_is_not_asked_of_the_rules(virtual_time: VirtualTime):
    asked: list[str] = []

    def rule(name: str) -> Any:
        def ask(item: int) -> Any:
            asked.append(name)
            return item

        return ask

    async with qanat.Pool(
        anyio.sleep, order="priority", lane=rule("lane"), priority=rule("priority"), id=rule("id")
    ) as pool:
        given = pool.submit(0, id="mine", lane="x", priority=5)
        assert asked == []
        found = pool.submit(0)
    assert asked == ["lane", "priority", "id"]
    assert (given.job.id, given.job.lane, given.job.priority) == ("mine", "x", 5)
    assert (found.job.id, found.job.lane, found.job.priority) == (0, 0, 0)


async def test_a_budget_of_retries_is_not_for_one_job(virtual_time: VirtualTime):
    retry = qanat.Retry(2, budget=0.1)
    async with qanat.Pool(anyio.sleep) as pool:
        for hand_in in (
            lambda: pool.submit(0.0, retry=retry),
            lambda: pool.call(anyio.sleep, 0, retry=retry),
        ):
            with pytest.raises(ValueError, match=r"^retry.budget is a share of .* 0\.1 for one job: give it"):
                hand_in()
        assert pool.stats().waiting == 0


async def test_submitting_without_a_handler_is_a_type_error(virtual_time: VirtualTime):
    async with qanat.Pool() as pool:
        with pytest.raises(TypeError, match="no handler"):
            pool.submit(1)
        with pytest.raises(TypeError, match="no handler"):
            await pool.put(1)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "3"])
def test_max_waiting_is_a_whole_number_of_at_least_one(wrong: Any):
    with pytest.raises((TypeError, ValueError), match="^max_waiting must"):
        qanat.Pool(double, max_waiting=wrong)


@pytest.mark.real
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.slow
def test_submitting_from_another_thread_is_refused(backend: str):
    caught: list[BaseException] = []

    async def main() -> None:
        async with qanat.Pool(double) as pool:

            def submit() -> None:
                for act in (lambda: pool.submit(1), lambda: pool.call(double, 1)):
                    try:
                        act()
                    except RuntimeError as error:
                        caught.append(error)

            thread = threading.Thread(target=submit)
            thread.start()
            await anyio.to_thread.run_sync(thread.join)
            # and this is how it is done:
            handle = await anyio.to_thread.run_sync(lambda: anyio.from_thread.run_sync(pool.submit, 4))
            assert await handle == 8

    anyio.run(main, backend=backend)
    assert len(caught) == 2
    assert "call_soon_threadsafe" in str(caught[0])


# --- room --------------------------------------------------------------------------------------------


async def test_a_full_pool_refuses_to_take_more(virtual_time: VirtualTime):
    async with qanat.Pool(double, concurrency=1, max_waiting=2) as pool:
        for item in range(2):
            pool.submit(item)
        with pytest.raises(PoolFull, match="max_waiting"):
            pool.submit(2)
        with pytest.raises(PoolFull, match="max_waiting"):
            pool.call(double, 2)
        await anyio.sleep(0.5)
        pool.submit(3)
        with pytest.raises(PoolFull):
            pool.submit(4)


async def test_scheduled_jobs_count_as_waiting(virtual_time: VirtualTime):
    async with qanat.Pool(double, max_waiting=1) as pool:
        pool.submit(1, delay=10.0)
        with pytest.raises(PoolFull):
            pool.submit(2)


async def test_putting_waits_for_room(virtual_time: VirtualTime):
    put: list[float] = []
    async with qanat.Pool(double, concurrency=1, max_waiting=1) as pool:
        for item in range(5):
            await pool.put(item)
            put.append(virtual_time.now())
    assert put == [0.0, 0.0, 1.0, 2.0, 3.0]
    assert virtual_time.now() == 5.0


async def test_putting_returns_a_handle(virtual_time: VirtualTime):
    async with qanat.Pool(double, max_waiting=1) as pool:
        handles = [await pool.put(item, id=f"job {item}") for item in range(3)]
        assert [await handle for handle in handles] == [0, 2, 4]
        assert handles[2].id == "job 2"


async def test_putting_without_a_bound_does_not_wait(virtual_time: VirtualTime):
    async with qanat.Pool(double, concurrency=1) as pool:
        for item in range(50):
            await pool.put(item)
        assert virtual_time.now() == 0.0


async def test_those_who_put_are_served_in_their_order(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1, max_waiting=1) as pool:
        pool.submit("running")
        await anyio.sleep(0.5)
        pool.submit("waiting")
        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(pool.put, name)
                await anyio.wait_all_tasks_blocked()
            with pytest.raises(PoolFull):
                pool.submit("pushes in")
    assert diary.items == ["running", "waiting", "a", "b", "c"]


async def test_nobody_pushes_in_between_a_wake_and_the_put(virtual_time: VirtualTime):
    """Whoever was told that there is room finds it."""
    async with qanat.Pool(double, concurrency=1, max_waiting=1) as pool:
        pool.submit(0)
        await anyio.sleep(0.5)
        pool.submit(1)
        full: list[bool] = []

        async def push_in() -> None:
            for _ in range(300):
                await anyio.sleep(0.01)
                try:
                    pool.submit(99)
                except PoolFull:
                    full.append(True)

        async with anyio.create_task_group() as group:
            group.start_soon(push_in)
            await pool.put(2)
            await pool.put(3)
        assert len(full) > 250


async def test_giving_up_the_wait_for_room_leaves_the_room_to_others(virtual_time: VirtualTime):
    async with qanat.Pool(double, concurrency=1, max_waiting=1) as pool:
        pool.submit(0)
        await anyio.sleep(0.5)
        pool.submit(1)
        with anyio.move_on_after(0.25) as scope:
            await pool.put(2)
        assert scope.cancelled_caught
        await pool.put(3)
        assert virtual_time.now() == 1.0


async def test_giving_up_the_wait_in_the_moment_of_the_wake_leaves_the_room_to_others(
    virtual_time: VirtualTime,
):
    async with qanat.Pool(double, concurrency=1, max_waiting=1) as pool:
        pool.submit(0)
        await anyio.sleep(0.5)
        pool.submit(1)
        scopes: list[anyio.CancelScope] = []

        async def give_up() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await pool.put(2)

        room = pool._room
        assert room is not None
        async with anyio.create_task_group() as group:
            group.start_soon(give_up)
            await anyio.wait_all_tasks_blocked()
            group.start_soon(pool.put, 3)
            await anyio.wait_all_tasks_blocked()
            room.let_put()
            assert room._reserved == 0
            # Room for one comes, and the first to be told of it is cancelled before it can use it.
            room.putters[0].wake()
            scopes[0].cancel()
        assert room._reserved == 0
        assert not room.putters


@on_asyncio
async def test_room_is_passed_on_by_a_task_that_was_cancelled_as_it_was_told_of_it(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, concurrency=1, max_waiting=1) as pool:
        pool.submit(100.0)
        await asyncio.sleep(1.0)
        waiting = pool.submit(100.0)
        first = asyncio.ensure_future(pool.put(1.0))
        second = asyncio.ensure_future(pool.put(1.0))
        await asyncio.sleep(1.0)
        waiting.cancel()
        first.cancel()
        handle = await second
        assert first.cancelled()
        assert virtual_time.now() == 2.0
        assert pool.stats().waiting == 1
        handle.cancel()
        assert pool._room is not None
        assert pool._room._reserved == 0


async def test_room_that_a_cancelled_job_leaves_is_used(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, concurrency=1, max_waiting=1) as pool:
        pool.submit(100.0)
        await anyio.sleep(1.0)
        waiting = pool.submit(100.0)

        async def cancel() -> None:
            await anyio.sleep(1.0)
            waiting.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancel)
            await pool.put(1.0)
        assert virtual_time.now() == 2.0


async def test_those_who_wait_for_room_are_told_that_the_pool_closes(virtual_time: VirtualTime):
    told: list[float] = []
    pool = qanat.Pool(double, concurrency=1, max_waiting=1)

    async def put() -> None:
        with pytest.raises(PoolClosedError):
            await pool.put(3)
        told.append(virtual_time.now())

    async with anyio.create_task_group() as group, pool:
        pool.submit(1)
        await anyio.sleep(0.5)
        pool.submit(2)
        group.start_soon(put)
        await anyio.wait_all_tasks_blocked()
    assert told == [0.5]
    assert virtual_time.now() == 2.0


async def test_those_who_wait_for_room_are_told_that_too_many_have_failed(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        raise KeyError

    with pytest.raises(PoolClosedError) as caught:
        async with qanat.Pool(handler, concurrency=1, max_waiting=1, max_failures=1) as pool:
            for item in range(10):
                await pool.put(item)
    assert isinstance(caught.value.__cause__, TooManyFailuresError)
    assert virtual_time.now() == 2.0


# --- waiting for the end ---------------------------------------------------------------------------------


async def test_draining_waits_until_nothing_is_left_and_the_pool_goes_on(virtual_time: VirtualTime):
    async with qanat.Pool(double, concurrency=1) as pool:
        for item in range(3):
            pool.submit(item)
        await pool.drain()
        assert virtual_time.now() == 3.0
        assert await pool.submit(9) == 18


async def test_draining_waits_for_what_is_scheduled(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        pool.submit(1, delay=5.0)
        await pool.drain()
        assert virtual_time.now() == 6.0


async def test_draining_an_empty_pool_returns_at_once(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        await pool.drain()
    assert virtual_time.now() == 0.0


async def test_draining_waits_for_jobs_that_arrive_meanwhile(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:

        async def handler(item: int) -> None:
            if item:
                await anyio.sleep(1.0)
                pool.call(handler, item - 1)

        pool.call(handler, 3)
        await pool.drain()
        assert virtual_time.now() == 3.0


async def test_draining_ends_when_the_last_job_is_cancelled(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        handle = pool.submit(1, delay=100.0)

        async def cancel() -> None:
            await anyio.sleep(1.0)
            handle.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(cancel)
            await pool.drain()
        assert virtual_time.now() == 1.0


@pytest.mark.parametrize("by", ["cancel", "leaving"])
async def test_draining_ends_when_the_pool_does(virtual_time: VirtualTime, by: str):
    drained: list[float] = []
    pool = qanat.Pool(double)

    async def drain() -> None:
        await pool.drain()
        drained.append(virtual_time.now())

    async with anyio.create_task_group() as group, pool:
        pool.submit(1, delay=3.0)
        group.start_soon(drain)
        await anyio.wait_all_tasks_blocked()
        if by == "cancel":
            pool.cancel()
    assert drained == [0.0 if by == "cancel" else 4.0]


async def test_draining_waits_for_a_thread_that_outlives_its_timeout(virtual_time: VirtualTime):
    begun, go_on = threading.Event(), threading.Event()

    def handler(item: int) -> bool:
        begun.set()
        return go_on.wait(10.0)

    async with qanat.Pool(handler, timeout=1.0) as pool:
        handle = pool.submit(1)
        await anyio.to_thread.run_sync(begun.wait)
        await virtual_time.advance(2.0, wait_outside=False)
        assert isinstance((await handle.outcome()).error, JobTimeoutError)
        assert pool.stats().running == 1
        go_on.set()
        await pool.drain()
        assert pool.stats().running == 0


async def test_a_job_that_closes_its_own_pool_is_told_that_this_can_never_end(virtual_time: VirtualTime):
    async with qanat.Pool() as pool:
        for wait in (pool.drain, pool.aclose):
            with pytest.raises(qanat.PoolDeadlockError, match="itself"):
                await pool.call(wait)


# --- opening and closing -----------------------------------------------------------------------------------


async def test_a_pool_that_is_not_open_takes_nothing(virtual_time: VirtualTime):
    pool = qanat.Pool(double)
    for act in (
        lambda: pool.submit(1), lambda: pool.call(double, 1), pool.outcomes, pool.stats, pool.why, pool.pause,
        pool.resume, pool.cancel,
    ):  # fmt: skip
        with pytest.raises(PoolClosedError, match="async with"):
            act()
    for wait in (pool.drain, lambda: pool.put(1)):
        with pytest.raises(PoolClosedError):
            await wait()


async def test_a_pool_that_closes_takes_no_more(virtual_time: VirtualTime):
    refused: list[float] = []

    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        with pytest.raises(PoolClosedError, match="closing"):
            pool.submit(2)
        refused.append(virtual_time.now())

    async with qanat.Pool(handler) as pool:
        pool.submit(1)
    assert refused == [1.0]


async def test_a_closed_pool_takes_nothing(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        pass
    with pytest.raises(PoolClosedError):
        pool.submit(1)
    with pytest.raises(RuntimeError):
        pool.submit(1)


async def test_open_and_aclose_do_the_same_as_the_block(virtual_time: VirtualTime):
    pool = qanat.Pool(double)
    await pool.open()
    handle = pool.submit(4)
    await pool.aclose()
    assert await handle == 8
    await pool.aclose()


async def test_an_open_pool_cannot_be_opened(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        with pytest.raises(RuntimeError, match="is open"):
            await pool.open()


@pytest.mark.parametrize("error", [None, KeyError("mine")], ids=repr)
async def test_a_pool_may_be_closed_inside_of_its_block(virtual_time: VirtualTime, error: Exception | None):
    handles: list[Any] = []
    with pytest.raises(KeyError) if error else contextlib.nullcontext():
        async with qanat.Pool(double) as pool:
            handles.append(pool.submit(1))
            await pool.aclose()
            if error:
                raise error
    assert await handles[0] == 2


async def test_an_error_of_the_engine_s_own_is_raised_when_the_pool_is_closed(virtual_time: VirtualTime):
    """It should not happen; if it does, it is told."""

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with qanat.Pool(double) as pool:
            assert pool._engine is not None
            pool._engine._start(fail)
            await anyio.sleep(1.0)
    assert pool._engine is None


async def test_a_pool_that_cannot_be_opened_may_be_tried_again(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    pool = qanat.Pool(double)
    with monkeypatch.context() as patch:
        patch.setattr("qanat._engine.engine.Engine.open", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await pool.open()
    async with pool:
        assert await pool.submit(1) == 2


@on_asyncio
async def test_cancelling_a_body_that_failed_cancels(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        try:
            await asyncio.sleep(100.0)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(5.0)

    async def work() -> None:
        async with qanat.Pool(handler) as pool:
            pool.submit(1)
            await asyncio.sleep(1.0)
            raise KeyError

    task = asyncio.ensure_future(work())
    await asyncio.sleep(2.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert virtual_time.now() == 6.0


@on_asyncio
async def test_a_pool_that_is_being_opened_cannot_be_opened(virtual_time: VirtualTime):
    pool = qanat.Pool(double)
    results = await asyncio.gather(pool.open(), pool.open(), return_exceptions=True)
    assert sorted(map(str, results)) == sorted(
        ["None", "the Pool is open: close it before it is opened again"]
    )
    await pool.aclose()


@on_asyncio
async def test_opening_and_closing_may_happen_in_different_tasks(virtual_time: VirtualTime):
    pool = qanat.Pool(double)
    await asyncio.create_task(pool.open())
    handle = await asyncio.create_task(_submit(pool, 3))
    await asyncio.create_task(pool.aclose())
    assert await handle == 6


async def _submit(pool: qanat.Pool[int, int], item: int) -> qanat.Handle[int, int]:
    return pool.submit(item)


@on_asyncio
async def test_several_tasks_may_close_a_pool(virtual_time: VirtualTime):
    pool = qanat.Pool(double)
    await pool.open()
    handle = pool.submit(3)
    await asyncio.gather(pool.aclose(), pool.aclose(), pool.aclose())
    assert await handle == 6
    assert virtual_time.now() == 1.0


@on_asyncio
async def test_cancelling_the_task_that_opens_a_pool_leaves_nothing_behind(virtual_time: VirtualTime):
    pool = qanat.Pool(double)
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(pool.open())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    async with pool:
        assert await pool.submit(2) == 4


@on_asyncio
async def test_a_pool_lives_on_when_the_task_that_opened_it_has_ended(virtual_time: VirtualTime):
    pool = qanat.Pool(double)
    await asyncio.create_task(pool.open())
    await asyncio.sleep(10.0)
    assert await pool.submit(3) == 6
    await pool.aclose()


async def test_a_pool_may_be_opened_again(virtual_time: VirtualTime):
    pool = qanat.Pool(double)
    values: list[int] = []
    for item in range(3):
        async with pool:
            values.append(await pool.submit(item))
    assert values == [0, 2, 4]
    async with pool:
        assert pool.stats().done == 0


async def test_limits_remember_over_openings(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    pool = qanat.Pool(diary.taking(0.0), rate="2/10s")
    for _ in range(3):
        async with pool:
            pool.submit(1)
    assert diary.times == [0.0, 0.0, 10.0]


async def test_a_pool_may_be_opened_again_after_too_many_failures(virtual_time: VirtualTime):
    pool = qanat.Pool(Diary(virtual_time).failing([KeyError(), KeyError()]), max_failures=1, concurrency=1)
    with pytest.raises(TooManyFailuresError):
        async with pool:
            for item in range(3):
                pool.submit(item)
    async with pool:
        assert await pool.submit(7) == 7


async def test_ids_go_on_over_openings(virtual_time: VirtualTime):
    pool = qanat.Pool(double)
    ids: list[Any] = []
    for _ in range(2):
        async with pool:
            ids.append(pool.submit(1).id)
    assert ids == [0, 1]


# --- what stops it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", ["leaving", "drain", "handle"])
async def test_too_many_failures_stop_a_pool(virtual_time: VirtualTime, wait: str):
    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        raise KeyError

    with pytest.raises(TooManyFailuresError) as caught:
        async with qanat.Pool(handler, concurrency=1, max_failures=2) as pool:
            handles = [pool.submit(item) for item in range(9)]
            if wait == "drain":
                await pool.drain()
            elif wait == "handle":
                await handles[-1].outcome()
    assert caught.value.failed == 3
    assert virtual_time.now() == 3.0
    states = [(await handle.outcome()).state for handle in handles]
    assert states == ["dead"] * 3 + ["cancelled"] * 6


async def test_too_many_failures_do_not_interrupt_the_body(virtual_time: VirtualTime):
    slept = False
    with pytest.raises(TooManyFailuresError):
        async with qanat.Pool(
            Diary(virtual_time).failing([KeyError()] * 9), concurrency=1, max_failures=2
        ) as pool:
            for item in range(9):
                pool.submit(item)
            await anyio.sleep(10.0)
            slept = True
            with pytest.raises(PoolClosedError) as caught:
                pool.submit(1)
            assert isinstance(caught.value.__cause__, TooManyFailuresError)
    assert slept


async def test_a_pool_without_a_job_in_time_fails(virtual_time: VirtualTime):
    with pytest.raises(StartTimeoutError):
        async with qanat.Pool(double, start_within=2.0) as pool:
            await anyio.sleep(5.0)
            with pytest.raises(PoolClosedError):
                pool.submit(1)


@pytest.mark.parametrize("how", ["submit", "delay", "call", "failed callback"])
async def test_a_pool_with_a_job_in_time_goes_on(virtual_time: VirtualTime, how: str):
    async with qanat.Pool(double, start_within=2.0, lane=lambda item: 1 // item) as pool:
        await anyio.sleep(1.0)
        if how == "submit":
            pool.submit(1)
        elif how == "delay":
            pool.submit(1, delay=50.0)
        elif how == "call":
            pool.call(double, 1)
        else:
            pool.submit(0)
        await anyio.sleep(5.0)


async def test_cancelling_a_pool_cancels_what_waits_and_what_runs_and_takes_no_more(
    virtual_time: VirtualTime,
):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(10.0), concurrency=2) as pool:
        handles = [pool.submit(item) for item in range(3)] + [pool.submit(3, delay=5.0)]
        await anyio.sleep(1.0)
        pool.cancel()
        with pytest.raises(PoolClosedError):
            pool.submit(9)
        outcomes = [await handle.outcome() for handle in handles]
        assert (diary.running, virtual_time.now()) == (0, 1.0)
        await anyio.sleep(1.0)
    assert [outcome.state for outcome in outcomes] == ["cancelled"] * 4
    assert [outcome.attempts for outcome in outcomes] == [1, 1, 0, 0]
    assert virtual_time.now() == 2.0


async def test_cancelling_a_pool_that_is_closing_ends_the_wait(virtual_time: VirtualTime):
    pool = qanat.Pool(anyio.sleep)

    async def cancel() -> None:
        await anyio.sleep(1.0)
        pool.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(cancel)
        async with pool:
            handle = pool.submit(100.0)
    assert virtual_time.now() == 1.0
    assert (await handle.outcome()).state == "cancelled"


# --- pausing and resizing ------------------------------------------------------------------------------------


async def test_a_paused_pool_starts_nothing_and_what_runs_goes_on(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(2.0), concurrency=1) as pool:
        pool.submit(1)
        pool.submit(2)
        await anyio.sleep(1.0)
        pool.pause()
        pool.pause()
        await anyio.sleep(9.0)
        assert diary.ended == [(1, 2.0)]
        pool.resume()
        pool.resume()
    assert diary.began == [(1, 0.0), (2, 10.0)]


async def test_a_job_says_that_its_pool_is_paused(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        await anyio.sleep(1.0)
        pool.pause()
        handle = pool.submit(1)
        await anyio.sleep(4.0)
        for reason in (handle.why(), pool.why()):
            assert reason is not None
            assert (reason.cause, reason.since, reason.until) == ("paused", 1.0, None)
        pool.resume()
    assert (await handle.outcome()).waits == {"paused": 4.0}


async def test_delays_go_on_while_a_pool_is_paused(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0)) as pool:
        pool.pause()
        pool.submit(1, delay=2.0)
        pool.submit(2, delay=20.0)
        await anyio.sleep(10.0)
        pool.resume()
    assert sorted(diary.began) == [(1, 10.0), (2, 20.0)]


async def test_a_bigger_pool_starts_more_at_once(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(10.0), concurrency=1) as pool:
        for item in range(4):
            pool.submit(item)
        await anyio.sleep(1.0)
        pool.resize(3)
    assert diary.times == [0.0, 1.0, 1.0, 10.0]


async def test_a_smaller_pool_lets_what_runs_go_on(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(10.0), concurrency=3) as pool:
        for item in range(5):
            pool.submit(item)
        await anyio.sleep(1.0)
        pool.resize(1)
        assert pool.stats().running == 3
    assert diary.times == [0.0, 0.0, 0.0, 10.0, 20.0]


async def test_an_idle_pool_may_be_made_smaller_and_bigger_again(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=5) as pool:
        for size in (5, 2, 1, 4):
            pool.resize(size)
            diary.most = 0
            for item in range(8):
                pool.submit(item)
            await pool.drain()
            assert diary.most == size


async def test_a_size_is_kept_over_openings(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    pool = qanat.Pool(diary.taking(1.0), concurrency=5)
    pool.resize(2)
    async with pool:
        for item in range(8):
            pool.submit(item)
    assert diary.most == 2


async def test_resizing_a_pool_with_a_concurrency_object_resizes_that(virtual_time: VirtualTime):
    shared = Concurrency(1)
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(10.0), concurrency=shared) as pool:
        for item in range(3):
            pool.submit(item)
        await anyio.sleep(1.0)
        pool.resize(2)
    assert shared.at_once == 2
    assert diary.times == [0.0, 1.0, 10.0]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "3", None])
async def test_a_size_is_a_whole_number_of_at_least_one(virtual_time: VirtualTime, wrong: Any):
    async with qanat.Pool(double) as pool:
        with pytest.raises((TypeError, ValueError), match="^n must"):
            pool.resize(wrong)


# --- figures -----------------------------------------------------------------------------------------------------


async def test_stats_count_what_a_pool_does(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        if item == 1:
            raise KeyError

    async with qanat.Pool(handler, concurrency=2, retry=Retry(1, backoff=constant(5.0))) as pool:
        handles = [pool.submit(item) for item in range(5)]
        pool.submit(9, delay=100.0).cancel()
        await anyio.sleep(0.5)
        stats = pool.stats()
        assert (stats.waiting, stats.running, stats.scheduled) == (3, 2, 0)
        await anyio.sleep(1.0)
        stats = pool.stats()
        assert (stats.waiting, stats.running, stats.scheduled, stats.done) == (1, 2, 1, 1)
        await pool.drain()
        stats = pool.stats()
        assert (stats.waiting, stats.running, stats.scheduled) == (0, 0, 0)
        assert (stats.done, stats.failed, stats.cancelled, stats.retried) == (4, 1, 1, 1)
        assert stats.waits == {"concurrency": 4.0, "retry": 5.0}
        _ = [await handle.outcome() for handle in handles]


async def test_an_idle_pool_waits_for_nothing(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        assert pool.why() is None


async def test_a_pool_says_what_its_jobs_wait_for(virtual_time: VirtualTime):
    async with qanat.Pool(double, rate="1/10s") as pool:
        pool.submit(1)
        await anyio.sleep(2.0)
        pool.submit(2)
        await anyio.sleep(1.0)
        reason = pool.why()
        assert reason is not None
        assert (reason.cause, reason.limit, reason.lane, reason.since, reason.until) == (
            "rate", "1/10s", None, 2.0, 10.0
        )  # fmt: skip


async def test_a_pool_says_that_its_jobs_wait_for_a_time_of_their_own(virtual_time: VirtualTime):
    async with qanat.Pool(double) as pool:
        pool.submit(1, delay=10.0)
        pool.submit(2, delay=5.0)
        reason = pool.why()
        assert reason is not None
        assert (reason.cause, reason.since, reason.until) == ("delay", 0.0, 5.0)


async def test_a_pool_says_that_its_jobs_wait_for_a_slot(virtual_time: VirtualTime):
    async with qanat.Pool(double, concurrency=1) as pool:
        pool.submit(1)
        pool.submit(2)
        await anyio.sleep(0.5)
        reason = pool.why()
        assert reason is not None
        assert (reason.cause, reason.limit, reason.until) == ("concurrency", "1", None)


# --- failures that nobody looked at --------------------------------------------------------------------------------


async def test_failures_that_nobody_looked_at_are_logged_once_and_grouped(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    failing = Diary(virtual_time).failing([KeyError(), ValueError(), None, KeyError()])
    async with qanat.Pool(failing, concurrency=1) as pool:
        for item in range(4):
            pool.submit(item)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.name == "qanat"
    assert "3 failed jobs" in record.message
    assert "2 x KeyError, 1 x ValueError" in record.message


@pytest.mark.parametrize(
    "how", ["await", "outcome", "await later", "outcome later", "after closing", "reader"]
)
async def test_failures_that_somebody_looked_at_are_not_logged(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture, how: str
):
    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        raise KeyError

    async with qanat.Pool(handler) as pool:
        reader = pool.outcomes() if how == "reader" else None
        handle = pool.submit(1)
        if "later" in how:
            await pool.drain()
        if "await" in how:
            with pytest.raises(KeyError):
                await handle
            with pytest.raises(KeyError):
                await handle
        elif "outcome" in how:
            await handle.outcome()
        elif reader is not None:
            await anext(reader)
    assert len(caplog.records) == (how == "after closing")


async def test_cancelled_jobs_are_no_failures_to_be_logged(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    async with qanat.Pool(double) as pool:
        pool.submit(1)
        pool.cancel()
    assert caplog.records == []


async def test_failures_of_calls_are_logged_too(virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture):
    async with qanat.Pool() as pool:
        pool.call(Diary(virtual_time).failing([KeyError()]), 1)
    assert "1 failed jobs" in caplog.text


async def test_what_was_logged_is_not_logged_again_after_the_next_opening(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    pool = qanat.Pool(Diary(virtual_time).failing([KeyError()]))
    for _ in range(2):
        async with pool:
            pool.submit(1)
    assert len(caplog.records) == 1


# --- many ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_ten_thousand_jobs_are_each_handled_once(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(0.0), concurrency=50) as pool:
        handles = [pool.submit(item) for item in range(10_000)]
    assert sorted(diary.items) == list(range(10_000))
    assert all(handle.done for handle in handles)


async def test_pools_inside_of_handlers_of_pools_do_their_work(virtual_time: VirtualTime):
    async def outer(item: int) -> int:
        async with qanat.Pool(double, concurrency=2) as inner:
            handles = [inner.submit(each) for each in range(item)]
        return sum([await handle for handle in handles])

    async with qanat.Pool(outer, concurrency=2) as pool:
        handles = [pool.submit(item) for item in range(5)]
        assert [await handle for handle in handles] == [0, 0, 2, 6, 12]


async def test_a_job_may_submit_to_its_own_pool(virtual_time: VirtualTime):
    seen: list[int] = []

    async def handler(item: int) -> None:
        seen.append(item)
        for child in (2 * item, 2 * item + 1):
            if child < 32:
                pool.submit(child)

    async with qanat.Pool(handler, concurrency=3) as pool:
        pool.submit(1)
        await pool.drain()
    assert sorted(seen) == list(range(1, 32))
    assert next(itertools.count()) == 0


async def test_a_job_that_falls_due_as_another_is_cancelled_starts_on_time(virtual_time: VirtualTime):
    async def handle(item: str) -> None:
        if item == "deaf":
            with anyio.CancelScope(shield=True):
                await anyio.sleep(10.0)

    async with qanat.Pool(handle, concurrency=2) as pool, anyio.create_task_group() as group:
        deaf = pool.submit("deaf")

        async def cancel() -> None:
            await anyio.sleep(1.0)
            assert deaf.cancel()

        group.start_soon(cancel)
        await anyio.wait_all_tasks_blocked()
        late = pool.submit("late", delay=1.0)
        await late
        assert virtual_time.now() == 1.0
