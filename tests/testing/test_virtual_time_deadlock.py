"""A run that nothing can wake ends with an error that says where its tasks wait."""

from __future__ import annotations

import gc
import socket
from typing import TYPE_CHECKING

import anyio
import pytest

from qanat.errors import QanatError
from qanat.testing import DeadlockError, VirtualTime, _asyncio_time, _trio_time
from qanat.testing._deadlock import await_frames, place

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for half in (_asyncio_time, _trio_time):
        monkeypatch.setattr(half, "GRACE", 0.002)
        monkeypatch.setattr(half, "PATIENCE", 0.02)


async def waits_for_ever() -> None:
    await anyio.Event().wait()


def stuck(time: VirtualTime, function: Callable[[], Awaitable[object]]) -> DeadlockError:
    with pytest.raises(DeadlockError) as caught:
        time.run(function)
    return caught.value


def test_a_wait_without_end_is_an_error(virtual_time: VirtualTime):
    async def main() -> None:
        await anyio.sleep(3)
        await waits_for_ever()

    error = stuck(virtual_time, main)
    assert error.now == virtual_time.now() == 3.0
    assert isinstance(error, QanatError)
    assert isinstance(error, RuntimeError)


def test_a_sleep_for_ever_is_an_error(virtual_time: VirtualTime):
    stuck(virtual_time, anyio.sleep_forever)


def test_the_error_says_where_each_task_waits(virtual_time: VirtualTime):
    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(waits_for_ever, name="second")

    error = stuck(virtual_time, main)
    first, second = error.waiting
    assert f"{main.__qualname__} > " in first
    assert second.startswith("task 'second': test_virtual_time_deadlock.py:")
    assert "in waits_for_ever > " in second
    assert str(error).startswith("virtual time stands at 0.0 and nothing can wake these tasks")
    assert str(error).endswith(f"\n  {first}\n  {second}")


def test_a_task_that_has_not_started_waits_at_its_first_line():
    waiting = waits_for_ever()
    first_line = waits_for_ever.__code__.co_firstlineno
    where = f"a: test_virtual_time_deadlock.py:{first_line} in waits_for_ever"
    assert place("a", await_frames(waiting)) == where
    waiting.close()


def test_a_task_without_code_of_the_user_says_so():
    assert place("a", ()) == "a: in no code of yours"


def test_tasks_are_cancelled_and_cleaned_up_before_the_error(virtual_time: VirtualTime):
    log: list[str] = []

    async def main() -> None:
        try:
            await waits_for_ever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            log.append("cleaned up")

    stuck(virtual_time, main)
    assert log == ["cleaned up"]
    assert virtual_time.now() == 1.0


def test_an_error_while_cleaning_up_does_not_hide_the_deadlock(virtual_time: VirtualTime):
    async def main() -> None:
        try:
            await waits_for_ever()
        finally:
            raise LookupError("hides")

    if virtual_time.backend == "trio":
        assert isinstance(stuck(virtual_time, main).__cause__, LookupError)
    else:
        stuck(virtual_time, main)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tasks_that_refuse_to_be_cancelled_cannot_keep_the_run(virtual_time: VirtualTime):
    async def main() -> None:
        while True:
            try:
                with anyio.CancelScope(shield=True):
                    await waits_for_ever()
            except anyio.get_cancelled_exc_class():
                continue

    stuck(virtual_time, main)
    gc.collect()


def test_a_timeline_can_be_used_after_a_deadlock(virtual_time: VirtualTime):
    stuck(virtual_time, anyio.sleep_forever)
    virtual_time.run(anyio.sleep, 1)
    assert virtual_time.now() == 1.0


def test_a_server_that_nobody_calls_is_a_deadlock_after_a_while(virtual_time: VirtualTime):
    async def main() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            listener.setblocking(False)
            await anyio.wait_readable(listener)

    stuck(virtual_time, main)


async def test_a_task_that_waits_for_ever_beside_others_is_no_deadlock(virtual_time: VirtualTime):
    async with anyio.create_task_group() as group:
        group.start_soon(waits_for_ever)
        await anyio.sleep(100)
        group.cancel_scope.cancel()
    assert virtual_time.now() == 100.0
