"""An engine in its task group: nothing stays behind, and no exception group comes out."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat._app.hosting import add_task, hosted, make_engine, sole
from qanat._app.rules import Rules
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat._engine.engine import Engine
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


def engine_for(**rules: Any) -> Engine:
    return make_engine(Rules(**rules), name="test")


async def test_a_block_that_ends_early_cancels_what_is_left(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    engine = engine_for()
    add_task(engine, diary.taking(1.0), Rules())
    async with hosted(engine):
        await anyio.sleep(1.0)
    assert engine.over
    assert not engine.carriers


@pytest.mark.parametrize(
    "error", [KeyError(1), KeyboardInterrupt(), ExceptionGroup("mine", [KeyError(1), KeyError(2)])], ids=repr
)
async def test_what_the_block_raises_comes_out_as_it_is(virtual_time: VirtualTime, error: BaseException):
    with pytest.raises(type(error)) as caught:
        async with hosted(engine_for()):
            raise error
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None


async def test_a_cancellation_goes_through(virtual_time: VirtualTime):
    with anyio.CancelScope() as scope:
        async with hosted(engine_for()):
            scope.cancel()
            await anyio.sleep(1.0)
        raise AssertionError("went on after the block")
    assert scope.cancelled_caught


async def test_an_error_of_the_engine_s_own_cancels_the_block_and_comes_out_alone(virtual_time: VirtualTime):
    """It should not happen; if it does, it is told and not taken for a cancellation."""
    engine = engine_for()

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with hosted(engine):
            engine._start(fail)
            await anyio.sleep(10.0)
    assert virtual_time.now() == 0.0


async def test_an_error_of_the_block_comes_before_one_of_the_engine_s_own(virtual_time: VirtualTime):
    engine = engine_for()

    async def fail() -> None:
        try:
            await anyio.sleep(10.0)
        finally:
            raise ZeroDivisionError

    with pytest.raises(KeyError):
        async with hosted(engine):
            engine._start(fail)
            await anyio.sleep(1.0)
            raise KeyError


def test_of_several_errors_an_interrupt_matters_most_and_then_the_first():
    first, interrupt = KeyError(1), KeyboardInterrupt()
    group = BaseExceptionGroup(
        "", [ExceptionGroup("", [first, ValueError()]), BaseExceptionGroup("", [interrupt])]
    )
    assert sole(group) is interrupt
    assert sole(ExceptionGroup("", [ExceptionGroup("", [first]), ValueError()])) is first


async def test_the_caller_is_cancelled_while_a_thread_works_and_waits_for_it(virtual_time: VirtualTime):
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def handler(item: int) -> None:
        begun.set()
        go_on.wait(10.0)
        ended.set()

    async with anyio.create_task_group() as group:

        async def cancel() -> None:
            await anyio.to_thread.run_sync(begun.wait)
            scope.cancel()
            await virtual_time.advance(5.0, wait_outside=False)
            assert not ended.is_set()
            go_on.set()

        group.start_soon(cancel)
        with anyio.CancelScope() as scope:
            await qanat.collect(handler, range(5), concurrency=1)
        assert scope.cancelled_caught
        assert ended.is_set()


async def test_a_run_leaves_no_garbage_that_only_the_collector_could_find(virtual_time: VirtualTime):
    class Item:
        pass

    items: weakref.WeakSet[Item] = weakref.WeakSet()

    async def handler(item: Item) -> None:
        await anyio.sleep(1.0)

    def source() -> Any:
        for _ in range(10):
            item = Item()
            items.add(item)
            yield item

    gc.collect()
    gc.disable()
    try:
        outcomes = await qanat.collect(handler, source(), concurrency=3)
        assert len(items) == 10
        del outcomes
        assert len(items) == 0
    finally:
        gc.enable()


# --- Ctrl-C --------------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys, threading, time
import anyio, qanat

backend, where = sys.argv[1:]
begun, ended = [], []

async def handler(item):
    begun.append(item)
    try:
        await anyio.sleep(30)
    finally:
        ended.append(item)

async def in_run():
    await qanat.collect(handler, range(100), concurrency=3)

async def in_stream():
    async with qanat.stream(handler, range(100), concurrency=3) as outcomes:
        async for _ in outcomes:
            pass

async def in_pool():
    async with qanat.Pool(handler, concurrency=3) as pool:
        for item in range(100):
            pool.submit(item)

def interrupt():
    while len(begun) < 3:
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
main = {"collect": in_run, "stream": in_stream, "pool": in_pool}[where]
try:
    if backend == "trio":
        import trio
        trio.run(main)
    else:
        import asyncio
        asyncio.run(main())
except KeyboardInterrupt as error:
    assert error.__cause__ is None
    print("interrupted", sorted(ended))
except BaseException as error:
    print("wrong", type(error), error)
"""


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("where", ["collect", "stream", "pool"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_interrupt_from_the_keyboard_stops_everything_and_comes_out_alone(backend: str, where: str):
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, backend, where], capture_output=True, text=True, check=False
    )
    assert (result.stdout.strip(), result.stderr, result.returncode) == ("interrupted [0, 1, 2]", "", 0)


async def test_nothing_is_scheduled_on_the_loop_by_a_run_that_is_over(virtual_time: VirtualTime):
    if virtual_time.backend == "trio":
        return
    before = asyncio.all_tasks()
    await qanat.collect(anyio.sleep, [1.0] * 5, timeout=50.0, rate="2/s")
    assert asyncio.all_tasks() == before
