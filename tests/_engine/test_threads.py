from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
import weakref
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from qanat._engine import threads as module
from qanat._engine.loop import AsyncioLoop, running_loop
from qanat._engine.threads import Call, Threads, described

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

whose = contextvars.ContextVar("whose", default="nobody's")


class Counting:
    """A clock that counts the work outside."""

    def __init__(self) -> None:
        self.outside = 0

    def work_outside_began(self) -> None:
        self.outside += 1

    def work_outside_ended(self) -> None:
        self.outside -= 1


class StepLoop(AsyncioLoop):
    """An event loop that turns when it is told to, and counts the hops to it."""

    def __init__(self) -> None:
        self.hops: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def call_soon_threadsafe(self, function: Callable[[], object]) -> None:
        self.hops.put(function)

    def turn(self) -> None:
        """Wait for the next hop and make it."""
        self.hops.get()()


class Refusing(threading.Thread):
    """A thread that the system does not start, while `left` is 0."""

    left = 0

    def start(self) -> None:
        if not Refusing.left:
            raise RuntimeError("can't start new thread")
        Refusing.left -= 1
        super().start()


class Pretending(threading.Thread):
    """A thread that counts as started and takes nothing up; the last one is refused."""

    def start(self) -> None:
        if self.name.endswith("-last"):
            raise RuntimeError("can't start new thread")

    def join(self, timeout: float | None = None) -> None:
        pass


class Thing:
    """Something that can be watched being forgotten."""


def same(item: Any) -> Any:
    return item


def thread_of(item: object) -> int:
    return threading.get_ident()


def raised(error: BaseException) -> None:
    raise error


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ours-")]


@pytest.fixture
def clock() -> Counting:
    return Counting()


@pytest.fixture
async def threads(clock: Counting, anyio_backend: Any) -> AsyncIterator[Threads]:
    threads = Threads(running_loop(), clock, "ours")
    yield threads
    await threads.close()
    assert not ours()
    assert clock.outside == 0


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> type[Refusing]:
    monkeypatch.setattr(module, "Thread", Refusing)
    monkeypatch.setattr(Refusing, "left", 0)
    return Refusing


async def called(threads: Threads, function: Callable[[Any], Any], item: Any = None) -> Call:
    spot = running_loop().spot()
    call = threads.submit(function, item, lambda _call: spot.wake())
    await spot.wait()
    return call


async def test_a_call_returns_its_value_to_the_thread_of_the_loop(threads: Threads):
    told: list[tuple[Call, int]] = []
    spot = running_loop().spot()

    def on_end(call: Call) -> None:
        told.append((call, threading.get_ident()))
        spot.wake()

    call = threads.submit(thread_of, None, on_end)
    await spot.wait()
    assert told == [(call, threading.get_ident())]
    assert call.value != threading.get_ident()
    assert (call.began, call.ended, call.error) == (True, True, None)


@pytest.mark.parametrize(
    "kind",
    [
        ValueError,
        SystemExit,
        KeyboardInterrupt,
        GeneratorExit,
        StopIteration,
        StopAsyncIteration,
        MemoryError,
        asyncio.CancelledError,
        BaseException,
    ],
)
async def test_whatever_is_raised_is_the_error_of_the_call_and_the_thread_lives_on(
    threads: Threads, kind: type[BaseException]
):
    before = await called(threads, thread_of)
    error = kind("no")
    call = await called(threads, raised, error)
    assert call.error is error
    assert call.value is None
    assert (await called(threads, thread_of)).value == before.value


async def test_the_traceback_begins_at_the_function(threads: Threads):
    call = await called(threads, raised, ValueError("no"))
    assert call.error is not None
    assert call.error.__traceback__ is not None
    assert call.error.__traceback__.tb_frame.f_code is raised.__code__


async def test_a_call_that_does_not_reach_the_function_has_its_error_too(threads: Threads):
    call = await called(threads, lambda: None)  # type: ignore[misc, arg-type]  # takes no item
    assert isinstance(call.error, TypeError)
    assert call.error.__traceback__ is None


async def test_the_function_runs_in_a_copy_of_the_context_of_its_submitter(threads: Threads):
    def seen_and_set(_item: object) -> str:
        seen = whose.get()
        whose.set("the thread's")
        return seen

    whose.set("mine")
    assert (await called(threads, seen_and_set)).value == "mine"
    assert whose.get() == "mine"
    whose.set("mine again")
    assert (await called(threads, seen_and_set)).value == "mine again"


async def test_one_call_after_the_other_needs_one_thread(threads: Threads):
    assert len({(await called(threads, thread_of)).value for _ in range(20)}) == 1


async def test_there_are_as_many_threads_as_calls_at_once_and_they_are_used_again(threads: Threads):
    meeting = threading.Barrier(3)  # nobody passes before three are there
    for _ in range(2):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(called, threads, lambda _item: meeting.wait(20))
        assert sorted(ours()) == ["ours-1", "ours-2", "ours-3"]


async def test_every_end_is_told_of_exactly_once(threads: Threads):
    told: list[int] = []

    async def carrier(items: range) -> None:
        for item in items:
            call = await called(threads, same, item)
            told.append(call.value)

    async with anyio.create_task_group() as group:
        for carried in range(8):
            group.start_soon(carrier, range(carried, 1600, 8))
    assert sorted(told) == list(range(1600))


def test_ends_that_gather_are_told_of_in_one_hop(clock: Counting):
    loop, told = StepLoop(), list[Any]()
    threads = Threads(loop, clock, "ours")
    for item in range(3):
        threads.submit(same, item, lambda call: told.append(call.value))
        end_threads(threads, item + 1)  # the call is in by now, and so is its hop
    assert loop.hops.qsize() == 1
    loop.turn()
    assert sorted(told) == [0, 1, 2]


def end_threads(threads: Threads, started: int) -> None:
    """End the threads without the loop."""
    assert len(threads._threads) == started
    for _ in threads._threads:
        threads._calls.put(None)
    for thread in threads._threads:
        if thread.is_alive():
            thread.join(20)
    assert not ours()
    while not threads._calls.empty():
        threads._calls.get()


def test_an_end_that_comes_after_a_hop_was_made_makes_a_hop_of_its_own(clock: Counting):
    loop, told = StepLoop(), list[Any]()
    threads = Threads(loop, clock, "ours")
    for item in range(3):
        threads.submit(same, item, lambda call: told.append(call.value))
        loop.turn()
        assert told == list(range(item + 1))
    end_threads(threads, 1)


def test_one_that_raises_as_it_is_told_does_not_hide_the_others(clock: Counting):
    loop, told = StepLoop(), list[Any]()
    threads = Threads(loop, clock, "ours")

    def on_end(call: Call) -> None:
        told.append(call.value)
        if len(told) == 1:
            raise ZeroDivisionError

    for item in range(2):
        threads.submit(same, item, on_end)
    end_threads(threads, 2)
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    loop.turn()
    assert sorted(told) == [0, 1]
    assert clock.outside == 0
    assert loop.hops.empty()


async def test_the_clock_knows_of_a_call_until_its_end_was_told(threads: Threads, clock: Counting):
    outside: list[int] = []
    spot = running_loop().spot()

    def on_end(_call: Call) -> None:
        outside.append(clock.outside)
        spot.wake()

    threads.submit(same, None, on_end)
    assert clock.outside == 1
    await spot.wait()
    await threads.wait_idle()
    assert outside == [1]
    assert clock.outside == 0


async def test_a_call_that_no_thread_has_taken_can_be_withdrawn(
    threads: Threads, clock: Counting, no_more_threads: type[Refusing], caplog: pytest.LogCaptureFixture
):
    """One thread is all that the system gives, so the others wait behind the first call."""
    no_more_threads.left = 1
    gate, ran, told = threading.Event(), list[str](), list[Call]()
    first = threads.submit(lambda _item: gate.wait(20), None, told.append)
    second = threads.submit(ran.append, "second", told.append)
    third = threads.submit(ran.append, "third", told.append)
    assert threads.withdraw(second)
    assert not threads.withdraw(second)
    assert (second.began, second.ended, second.item) == (False, False, None)
    assert clock.outside == 2
    gate.set()
    await threads.wait_idle()
    assert ran == ["third"]
    assert told == [first, third]
    assert [record.message for record in caplog.records] == [
        "only 1 threads can be started; calls wait for one"
    ]


async def test_a_call_that_runs_cannot_be_withdrawn(threads: Threads):
    began, gate, told = threading.Event(), threading.Event(), list[Call]()

    def wait(_item: object) -> bool:
        began.set()
        return gate.wait(20)

    call = threads.submit(wait, None, told.append)
    assert began.wait(20)
    assert not threads.withdraw(call)
    gate.set()
    await threads.wait_idle()
    assert told == [call]
    assert not threads.withdraw(call)


async def test_running_calls_can_be_told_by_name(threads: Threads):
    began, gate = threading.Event(), threading.Event()

    def wait(item: object) -> bool:
        began.set()
        return gate.wait(20)

    call = threads.submit(wait, "x" * 1000, lambda _call: None)
    assert began.wait(20)
    assert threads.running == [call]
    told = described(call.function, call.item)
    gate.set()
    await threads.wait_idle()
    assert told.endswith("wait('xxxxxxxxxxxx...xxxxxxxxxxxxx')")
    assert threads.running == []


class Unspeakable:
    def __len__(self) -> int:
        raise RuntimeError("changed during iteration")


Unspeakable.__name__ = "list"  # so that reprlib counts it


@pytest.mark.parametrize(
    ("function", "item", "expected"),
    [(same, 1, "same(1)"), (partial(same), 1, "partial(1)"), (same, Unspeakable(), "same(<list>)")],
    ids=["function", "without a name", "without a repr"],
)
def test_a_description_is_short_and_never_fails(function: Any, item: Any, expected: str):
    assert described(function, item) == expected


async def test_nothing_of_a_call_is_kept_once_it_has_ended(threads: Threads):
    item, result, holder = Thing(), Thing(), Thing()
    refs = [weakref.ref(thing) for thing in (item, result, holder)]

    def fails(item: Any) -> None:
        raise ValueError(item)

    def on_end(_call: Call, held: Any, spot: Any) -> None:
        spot.wake()

    for function, given in ((lambda _item, result=result: result, None), (fails, item)):
        spot = running_loop().spot()
        token = whose.set(holder)  # type: ignore[arg-type]  # the context is to be forgotten as well
        call = threads.submit(function, given, partial(on_end, held=holder, spot=spot))
        whose.reset(token)
        await spot.wait()
        assert call.value is result or call.error is not None
    del call, function, given, item, result, holder, token, spot
    await called(threads, same)  # the thread has done with what it had before
    assert [ref() for ref in refs] == [None, None, None]


async def test_a_withdrawn_call_forgets_its_item_at_once(threads: Threads, no_more_threads: type[Refusing]):
    no_more_threads.left = 1
    gate, item = threading.Event(), Thing()
    ref = weakref.ref(item)
    threads.submit(lambda _item: gate.wait(20), None, lambda _call: None)
    call = threads.submit(same, item, lambda _call: None)
    del item
    assert threads.withdraw(call)
    assert ref() is None
    gate.set()


async def test_without_a_single_thread_a_call_is_refused(
    threads: Threads, clock: Counting, no_more_threads: type[Refusing]
):
    with pytest.raises(RuntimeError, match="can't start new thread"):
        threads.submit(same, None, lambda _call: None)
    assert clock.outside == 0


async def test_close_waits_for_the_calls_that_run_and_ends_the_threads(threads: Threads):
    gate, told, closed = threading.Event(), list[Any](), anyio.Event()
    threads.submit(lambda _item: gate.wait(20), None, lambda call: told.append(call.value))

    async def close() -> None:
        await threads.close()
        assert told == [True]
        assert not ours()
        closed.set()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        group.start_soon(close)
        await anyio.wait_all_tasks_blocked()
        assert not closed.is_set()
        with pytest.raises(RuntimeError, match="closed"):
            threads.submit(same, None, lambda _call: None)
        gate.set()


async def test_close_that_was_cancelled_can_be_taken_up_again(threads: Threads):
    gate = threading.Event()
    threads.submit(lambda _item: gate.wait(20), None, lambda _call: None)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await threads.close()
    assert scope.cancelled_caught
    assert ours() == ["ours-1"]
    gate.set()
    await threads.close()
    assert not ours()


async def test_close_that_is_cancelled_at_the_very_end_can_be_taken_up_again(
    threads: Threads, clock: Counting
):
    """What a thread-local holds is finalised as its thread ends, and may take its time."""
    gate, local = threading.Event(), threading.local()

    class Slow:
        def __del__(self) -> None:
            gate.wait(20)

    def keep(_item: object) -> None:
        local.kept = Slow()

    await called(threads, keep)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await threads.close()
    assert scope.cancelled_caught
    assert clock.outside == 1, "a virtual clock would go on before the threads are gone"
    gate.set()
    await threads.close()
    assert not ours()


async def test_close_does_without_a_thread_of_its_own_if_there_is_none(
    threads: Threads, no_more_threads: type[Refusing]
):
    no_more_threads.left = 1
    await called(threads, same)
    await threads.close()
    assert not ours()


async def test_withdrawing_the_last_call_lets_close_go_on(threads: Threads, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "Thread", Pretending)
    call = threads.submit(same, None, lambda _call: None)
    async with anyio.create_task_group() as group:
        group.start_soon(threads.close)
        await anyio.wait_all_tasks_blocked()
        assert threads.withdraw(call)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_thread_outlives_its_loop_in_peace(backend: str, clock: Counting):
    gate = threading.Event()

    async def leave() -> tuple[Threads, list[Call]]:
        threads = Threads(running_loop(), clock, "ours")
        return threads, [threads.submit(lambda _item: gate.wait(20), None, lambda _call: None) for _ in "ab"]

    threads, calls = anyio.run(leave, backend=backend)
    gate.set()
    end_threads(threads, 2)
    assert [call.value for call in calls] == [True, True]


@pytest.mark.real
def test_neither_an_idle_thread_nor_one_that_hangs_holds_up_the_end_of_the_interpreter():
    script = """
import anyio, threading
from qanat._engine.clock import clock_in_use
from qanat._engine.loop import running_loop
from qanat._engine.threads import Threads

async def main():
    threads, spot = Threads(running_loop(), clock_in_use()), running_loop().spot()
    threads.submit(lambda item: threading.Event().wait(), None, print)
    threads.submit(print, "printed", lambda call: spot.wake())
    await spot.wait()

anyio.run(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=True
    )
    assert (done.stdout, done.stderr) == ("printed\n", "")
