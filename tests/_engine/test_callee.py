"""How a handler is called: on the loop, in a thread, in a process."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
import types
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import JobTimeoutError, ProcessDiedError
from qanat._engine import threads
from qanat._engine.callee import Callee, callee_of, is_coroutine_function

if TYPE_CHECKING:
    from collections.abc import Generator

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def coroutine_function(item: Any) -> Any:
    return item


def plain(item: Any) -> Any:
    return item


class Object:
    async def __call__(self, item: Any) -> Any:
        return item


class PlainObject:
    def __call__(self, item: Any) -> Any:
        return item


@types.coroutine
def old_coroutine(item: Any) -> Generator[Any, Any, Any]:
    return item
    yield


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (coroutine_function, True),
        (functools.partial(coroutine_function), True),
        (functools.partial(functools.partial(coroutine_function), item=1), True),
        (Object(), True),
        (Object().__call__, True),
        (functools.partial(Object()), True),
        (plain, False),
        (functools.partial(plain), False),
        (PlainObject(), False),
        (lambda item: coroutine_function(item), False),
        (old_coroutine, False),
        (abs, False),
    ],
    ids=[
        "coroutine function", "partial of one", "partial of a partial", "object", "its method", "partial of an object",
        "plain function", "partial of a plain one", "plain object", "lambda", "old coroutine", "built-in",
    ],
)  # fmt: skip
def test_coroutine_functions_are_known_before_they_are_called(function: Any, expected: bool):
    assert is_coroutine_function(function) is expected


def test_coroutine_functions_are_called_on_the_loop_and_plain_ones_in_threads():
    assert callee_of(coroutine_function, None).on_loop
    assert callee_of(coroutine_function, "loop").on_loop
    assert not callee_of(plain, None).on_loop
    assert not callee_of(plain, "loop").on_loop


@pytest.mark.parametrize("executor", ["thread", "process"])
def test_a_coroutine_function_runs_nowhere_else(executor: Any):
    with pytest.raises(TypeError, match=f"^executor='{executor}' is for plain functions") as caught:
        callee_of(coroutine_function, executor)
    assert "coroutine_function" in str(caught.value)


async def test_the_base_class_calls_nothing(virtual_time: VirtualTime):
    callee = Callee(plain, on_loop=False)
    with pytest.raises(NotImplementedError):
        await callee.call(None, None)  # type: ignore[arg-type]


def thread_of(_item: object) -> int:
    return threading.get_ident()


@pytest.mark.parametrize(("executor", "same"), [(None, False), ("thread", False), ("loop", True)])
async def test_a_plain_function_runs_where_it_is_told(virtual_time: VirtualTime, executor: Any, same: bool):
    (outcome,) = await qanat.collect(thread_of, [1], executor=executor)
    assert (outcome.value == threading.get_ident()) is same


async def test_a_plain_function_on_the_loop_is_run_there_one_after_the_other(virtual_time: VirtualTime):
    outcomes = await qanat.collect(plain, range(100), executor="loop")
    assert outcomes.values() == list(range(100))


@pytest.mark.parametrize("handler", [Object(), PlainObject()], ids=["async", "plain"])
async def test_an_object_that_can_be_called_is_a_handler(virtual_time: VirtualTime, handler: Any):
    assert await qanat.map(handler, range(3)) == [0, 1, 2]


# --- awaitables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [None, "loop"])
async def test_an_awaitable_of_a_plain_function_is_awaited_on_the_loop(
    virtual_time: VirtualTime, executor: Any
):
    threads: list[int] = []

    async def inner(item: int) -> int:
        threads.append(threading.get_ident())
        await anyio.sleep(1.0)
        return item * 2

    def handler(item: int) -> Any:
        return inner(item)

    outcomes = await qanat.collect(handler, range(4), concurrency=2, executor=executor)
    assert outcomes.values() == [0, 2, 4, 6]
    assert set(threads) == {threading.get_ident()}
    assert virtual_time.now() == 2.0


async def test_a_function_that_gave_an_awaitable_is_called_on_the_loop_from_then_on(
    virtual_time: VirtualTime,
):
    threads: list[int] = []

    def handler(item: int) -> Any:
        threads.append(threading.get_ident())
        return coroutine_function(item)

    await qanat.collect(handler, range(5), concurrency=1)
    assert threads[0] != threading.get_ident()
    assert set(threads[1:]) == {threading.get_ident()}


@pytest.mark.parametrize("executor", [None, "loop"])
async def test_an_awaitable_that_raises_is_that_job_s_failure(virtual_time: VirtualTime, executor: Any):
    async def inner(item: int) -> int:
        if item == 1:
            raise SystemExit(3)
        return item

    outcomes = await qanat.collect(lambda item: inner(item), range(3), concurrency=1, executor=executor)
    assert [outcome.state for outcome in outcomes] == ["done", "dead", "done"]
    assert isinstance(outcomes[1].error, SystemExit)


@pytest.mark.parametrize("executor", [None, "loop"])
async def test_an_awaitable_of_a_plain_function_can_time_out(virtual_time: VirtualTime, executor: Any):
    outcomes = await qanat.collect(
        lambda item: anyio.sleep(item), [9.0, 0.5], concurrency=1, timeout=1.0, executor=executor
    )
    assert [type(outcome.error) for outcome in outcomes] == [JobTimeoutError, type(None)]


@pytest.mark.virtual_time("asyncio")
async def test_a_future_of_a_plain_function_is_awaited(virtual_time: VirtualTime):
    def handler(item: int) -> Any:
        return asyncio.ensure_future(asyncio.sleep(1.0, item))

    outcomes = await qanat.collect(handler, range(3), executor="loop")
    assert outcomes.values() == [0, 1, 2]


@pytest.mark.parametrize("executor", [None, "loop"])
async def test_an_old_kind_of_coroutine_is_awaited(virtual_time: VirtualTime, executor: Any):
    outcomes = await qanat.collect(old_coroutine, range(3), executor=executor)
    assert outcomes.values() == [0, 1, 2]


# --- threads -------------------------------------------------------------------------------------------


async def test_as_many_threads_run_at_once_as_concurrency_says(virtual_time: VirtualTime):
    barrier = threading.Barrier(3)

    def handler(item: int) -> int:
        barrier.wait(10.0)
        return item

    outcomes = await qanat.collect(handler, range(6), concurrency=3)
    assert outcomes.values() == list(range(6))


class Hanging:
    """A function whose calls wait until they are let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.ended: list[Any] = []

    def __call__(self, item: Any) -> Any:
        self.begun.release()
        self.go_on.wait(10.0)
        self.ended.append(item)
        return item

    async def wait_begun(self, number: int = 1) -> None:
        for _ in range(number):
            assert await anyio.to_thread.run_sync(self.begun.acquire)


async def test_a_thread_past_its_timeout_is_reported_as_still_running(virtual_time: VirtualTime):
    handler = Hanging()
    async with qanat.Pool(handler, timeout=2.0) as pool:
        handle = pool.submit(1)
        await handler.wait_begun()
        await virtual_time.advance(2.0, wait_outside=False)
        outcome = await handle.outcome()
        assert (outcome.state, outcome.ended_at) == ("dead", 2.0)
        error = outcome.error
        assert isinstance(error, JobTimeoutError)
        assert error.still_running
        assert "its thread still runs" in str(error)
        assert handler.ended == []
        handler.go_on.set()


async def test_a_thread_past_its_timeout_keeps_its_slot_until_it_ends(virtual_time: VirtualTime):
    handler = Hanging()
    async with qanat.Pool(handler, concurrency=1, timeout=2.0) as pool:
        first, second = pool.submit(1), pool.submit(2)
        await handler.wait_begun()
        await virtual_time.advance(5.0, wait_outside=False)
        assert first.done
        assert (pool.stats().running, pool.stats().waiting) == (1, 1)
        assert second.why() is not None
        handler.go_on.set()
        assert await second == 2
        assert handler.ended == [1, 2]


async def test_a_run_waits_for_a_thread_past_its_timeout(virtual_time: VirtualTime):
    handler = Hanging()
    async with anyio.create_task_group() as group:

        async def let_go() -> None:
            await handler.wait_begun()
            await virtual_time.advance(7.0, wait_outside=False)
            assert handler.ended == []
            handler.go_on.set()

        group.start_soon(let_go)
        (outcome,) = await qanat.collect(handler, [1], timeout=2.0)
        assert handler.ended == [1]
    assert isinstance(outcome.error, JobTimeoutError)
    assert outcome.ended_at == 2.0


async def test_a_retry_of_a_thread_past_its_timeout_takes_another_slot(virtual_time: VirtualTime):
    handler = Hanging()
    retry = qanat.Retry(1, backoff=qanat.constant(1.0))
    async with qanat.Pool(handler, concurrency=2, timeout=2.0, retry=retry) as pool:
        handle = pool.submit(1)
        await handler.wait_begun()
        await virtual_time.advance(2.5, wait_outside=False)
        assert (pool.stats().running, pool.stats().scheduled) == (1, 1)
        await virtual_time.advance(1.0, wait_outside=False)
        await handler.wait_begun()
        assert pool.stats().running == 2
        handler.go_on.set()
        assert await handle == 1
        await pool.drain()
        assert pool.stats().running == 0
    assert handler.ended == [1, 1]


async def test_limits_are_given_back_when_the_thread_ends(virtual_time: VirtualTime):
    handler = Hanging()
    limit = qanat.Concurrency(1)
    async with qanat.Pool(handler, limits=limit, timeout=2.0) as pool:
        pool.submit(1)
        await handler.wait_begun()
        await virtual_time.advance(3.0, wait_outside=False)
        assert limit._running == 1
        handler.go_on.set()
        await pool.drain()
        assert limit._running == 0


async def test_a_thread_that_fails_after_its_timeout_changes_nothing(virtual_time: VirtualTime):
    begun, go_on = threading.Event(), threading.Event()

    def handler(item: int) -> None:
        begun.set()
        go_on.wait(10.0)
        raise SystemExit(3)

    async with qanat.Pool(handler, timeout=2.0) as pool:
        handle = pool.submit(1)
        await anyio.to_thread.run_sync(begun.wait)
        await virtual_time.advance(3.0, wait_outside=False)
        go_on.set()
        await pool.drain()
        assert isinstance((await handle.outcome()).error, JobTimeoutError)
        assert pool.stats().failed == 1


async def test_several_threads_past_their_timeouts_are_all_waited_for(virtual_time: VirtualTime):
    handler = Hanging()
    async with qanat.Pool(handler, concurrency=3, timeout=2.0) as pool:
        handles = [pool.submit(item) for item in range(3)]
        await handler.wait_begun(3)
        await virtual_time.advance(3.0, wait_outside=False)
        assert [handle.done for handle in handles] == [True] * 3
        handler.go_on.set()
    assert sorted(handler.ended) == [0, 1, 2]


class Pretending(threading.Thread):
    """A thread that counts as started and takes nothing up; the last one is refused."""

    def start(self) -> None:
        if self.name.endswith("-last"):
            raise RuntimeError("can't start new thread")

    def join(self, timeout: float | None = None) -> None:
        pass


async def test_a_call_that_no_thread_has_taken_frees_its_slot_when_its_job_is_cancelled(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(threads, "Thread", Pretending)
    async with qanat.Pool(plain, timeout=5.0) as pool:
        first, second = pool.submit(1), pool.submit(2)
        await virtual_time.advance(1.0, wait_outside=False)
        first.cancel()
        await virtual_time.advance(4.0, wait_outside=False)
        assert [(await handle.outcome()).state for handle in (first, second)] == ["cancelled", "dead"]
        assert pool.stats().running == 0
        error = (await second.outcome()).error
        assert isinstance(error, JobTimeoutError)
        assert not error.still_running


# --- processes --------------------------------------------------------------------------------------------

real = pytest.mark.real


# What the children are to do, for `eval`: a function of these tests would run where nobody counts it.
PID = "__import__('os').getpid()"
SLEEP = "__import__('time').sleep(30)"
DIE = "__import__('os')._exit(3)"
RAISE = "(_ for _ in ()).throw(SystemExit(3))"


@real
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_plain_function_runs_in_a_child_process_if_it_is_told_to(backend: str):
    outcomes = anyio.run(
        lambda: qanat.collect(eval, [PID, PID], executor="process", concurrency=1), backend=backend
    )
    assert os.getpid() not in outcomes.values()
    assert len(set(outcomes.values())) == 1


@real
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_process_past_its_timeout_is_killed(backend: str):
    outcomes = anyio.run(
        lambda: qanat.collect(eval, [SLEEP, PID], executor="process", concurrency=1, timeout=2.0),
        backend=backend,
    )
    error = outcomes[0].error
    assert isinstance(error, JobTimeoutError)
    assert not error.still_running
    assert outcomes[0].ran < 20.0


@real
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_process_is_killed_when_its_job_is_cancelled(backend: str):
    async def main() -> Any:
        async with qanat.Pool(eval, executor="process", concurrency=1) as pool:
            running, waiting = pool.submit(SLEEP), pool.submit(SLEEP)
            await anyio.sleep(0.5)
            running.cancel()
            waiting.cancel()
            return [(await handle.outcome()).state for handle in (running, waiting)]

    began = time.monotonic()
    assert anyio.run(main, backend=backend) == ["cancelled"] * 2
    assert time.monotonic() - began < 20.0


class Unhashable(functools.partial[Any]):
    __hash__ = None  # type: ignore[assignment]


@real
@pytest.mark.slow
def test_an_object_without_a_hash_runs_in_a_child_process():
    outcomes = anyio.run(lambda: qanat.collect(Unhashable(eval), ["1 + 1", "2 + 2"], executor="process"))
    assert outcomes.values() == [2, 4]


@real
@pytest.mark.slow
def test_a_process_that_dies_takes_one_job_with_it():
    outcomes = anyio.run(lambda: qanat.collect(eval, ["0", DIE, "2"], executor="process", concurrency=1))
    assert [outcome.state for outcome in outcomes] == ["done", "dead", "done"]
    assert isinstance(outcomes[1].error, ProcessDiedError)


@real
@pytest.mark.slow
def test_what_a_function_in_a_process_raises_is_that_job_s_failure():
    (outcome,) = anyio.run(lambda: qanat.collect(eval, [RAISE], executor="process"))
    assert isinstance(outcome.error, SystemExit)
    assert outcome.error.code == 3


@real
@pytest.mark.slow
def test_a_run_in_processes_that_is_cancelled_leaves_none_behind():
    async def main() -> float:
        began = time.monotonic()
        with anyio.move_on_after(1.0):
            await qanat.collect(eval, [SLEEP] * 4, executor="process", concurrency=2)
        return time.monotonic() - began

    assert anyio.run(main) < 20.0
    import multiprocessing

    assert multiprocessing.active_children() == []
