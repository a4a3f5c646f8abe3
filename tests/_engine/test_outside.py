"""Work outside of the loop: waiting for calls, leaving them behind, ending them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from qanat._core.job import Job, Task
from qanat._core.retry import Retry
from qanat._engine import threads
from qanat._engine.clock import clock_in_use
from qanat._engine.loop import running_loop
from qanat._engine.outside import Outside
from qanat.errors import ProcessDiedError

if TYPE_CHECKING:
    from qanat._engine.threads import Call
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


class Released:
    """Which calls were told of as having ended after all."""

    def __init__(self) -> None:
        self.calls: list[tuple[Job[Any], Any]] = []

    def __call__(self, held: Job[Any], call: Call) -> None:
        self.calls.append((held, call.value))


def outside_for(released: Released) -> Outside:
    return Outside(running_loop(), clock_in_use(), released)


def job() -> Job[Any]:
    return Job(1, "item", 0, Task("handler", None, None, Retry(0)))


def double(item: int) -> int:
    return item * 2


async def test_a_call_in_a_thread_is_waited_for(virtual_time: VirtualTime):
    outside = outside_for(Released())
    call = outside.submit_to_thread(double, 21)
    await outside.wait(call)
    assert (call.value, call.error) == (42, None)
    await outside.wait(call)
    await outside.close()


async def test_waiting_for_a_call_can_be_cancelled_and_taken_up_again(virtual_time: VirtualTime):
    go_on = threading.Event()
    outside = outside_for(Released())
    call = outside.submit_to_thread(lambda _: go_on.wait(10.0), None)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await outside.wait(call)
    assert not call.ended
    go_on.set()
    await outside.wait(call)
    assert call.value is True
    await outside.close()


async def test_a_call_that_was_left_behind_is_told_of_when_it_ends(virtual_time: VirtualTime):
    go_on = threading.Event()
    released = Released()
    outside = outside_for(released)
    held = job()
    call = outside.submit_to_thread(lambda _: go_on.wait(10.0), None)
    outside.leave_behind(call, held)
    assert outside.left_behind == [held]
    go_on.set()
    await outside.close()
    assert released.calls == [(held, True)]
    assert outside.left_behind == []


async def test_a_call_that_nobody_left_behind_is_not_told_of(virtual_time: VirtualTime):
    released = Released()
    outside = outside_for(released)
    await outside.wait(outside.submit_to_thread(double, 1))
    await outside.close()
    assert released.calls == []


class Pretending(threading.Thread):
    """A thread that counts as started and takes nothing up; the last one is refused."""

    def start(self) -> None:
        if self.name.endswith("-last"):
            raise RuntimeError("can't start new thread")

    def join(self, timeout: float | None = None) -> None:
        pass


async def test_a_call_that_no_thread_has_taken_can_be_taken_back(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(threads, "Thread", Pretending)
    outside = outside_for(Released())
    call = outside.submit_to_thread(double, 1)
    assert outside.withdraw_from_thread(call)
    assert not outside.withdraw_from_thread(call)
    await outside.close()


async def test_without_threads_nothing_can_be_taken_back(virtual_time: VirtualTime):
    used, unused = outside_for(Released()), outside_for(Released())
    call = used.submit_to_thread(double, 1)
    assert not unused.withdraw_from_thread(call)
    await used.wait(call)
    await used.close()


async def test_closing_what_was_never_used_is_immediate(virtual_time: VirtualTime):
    await outside_for(Released()).close()
    assert virtual_time.now() == 0.0


# --- processes ---------------------------------------------------------------------------------------

SLEEP = "__import__('time').sleep(60)"


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_call_in_a_process_is_waited_for_and_can_be_ended(backend: str):
    async def main() -> None:
        released = Released()
        outside = outside_for(released)
        outside.prepare_processes(eval)
        outside.prepare_processes(eval)
        quick = outside.submit_to_process(eval, "__import__('os').getpid()")
        await outside.wait(quick)
        assert quick.value != os.getpid()
        await outside.kill_process(eval, quick)
        slow = outside.submit_to_process(eval, SLEEP)
        await anyio.sleep(0.2)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await outside.kill_process(eval, slow)
        assert slow.ended
        assert isinstance(slow.error, ProcessDiedError)
        await outside.close()
        assert released.calls == []

    began = time.monotonic()
    anyio.run(main, backend=backend)
    assert time.monotonic() - began < 30.0


@pytest.mark.real
@pytest.mark.slow
def test_a_call_that_no_process_has_taken_is_taken_back():
    async def main() -> None:
        outside = outside_for(Released())
        outside.prepare_processes(eval)
        call = outside.submit_to_process(eval, SLEEP)
        # At once: its thread has hardly begun to start a child.
        await outside.kill_process(eval, call)
        await outside.close()

    began = time.monotonic()
    anyio.run(main)
    assert time.monotonic() - began < 30.0


@pytest.mark.real
def test_a_function_that_a_child_cannot_find_is_refused_at_once():
    async def main() -> None:
        outside = outside_for(Released())
        with pytest.raises(TypeError):
            outside.prepare_processes(lambda item: item)
        await outside.close()

    anyio.run(main)


async def test_what_a_thread_tells_is_done_before_its_call_has_ended(virtual_time: VirtualTime):
    outside = outside_for(Released())
    told: list[Any] = []

    def tell(item: int) -> None:
        outside.tell(lambda: told.append((item, threading.current_thread() is threading.main_thread())))

    calls = [outside.submit_to_thread(tell, item) for item in range(20)]
    for call in calls:
        await outside.wait(call)
        assert (calls.index(call), True) in told
    await outside.close()
    assert len(told) == 20


def test_what_is_told_after_the_loop_has_ended_is_for_nobody():
    async def make() -> Outside:
        return outside_for(Released())

    told: list[int] = []
    asyncio.run(make()).tell(lambda: told.append(1))
    assert told == []
