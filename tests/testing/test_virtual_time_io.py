"""Real I/O between tasks of one loop is seen before time moves; processes are waited for."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from qanat.testing import _asyncio_time, _trio_time

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = [pytest.mark.virtual_time("asyncio", "trio"), pytest.mark.real]


async def test_bytes_between_two_tasks_take_no_time(virtual_time: VirtualTime):
    async def echo(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data.upper())

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610, no Django here
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            group.start_soon(anyio.sleep, 1)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                for i in range(50):
                    await stream.send(b"water %d" % i)
                    assert await stream.receive() == b"WATER %d" % i
                assert virtual_time.now() == 0.0
                await anyio.sleep(5)
            assert virtual_time.now() == 5.0
            group.cancel_scope.cancel()


async def test_bytes_that_are_there_are_seen_before_time_moves(virtual_time: VirtualTime):
    left, right = socket.socketpair()
    with left, right:
        right.setblocking(False)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 1)
            await virtual_time.advance(0)
            left.send(b"x")
            await anyio.wait_readable(right)
            assert virtual_time.now() == 0.0


async def test_a_listening_socket_does_not_hold_the_time(virtual_time: VirtualTime):
    async with await anyio.create_tcp_listener(local_host="127.0.0.1"):
        await anyio.sleep(60)
    assert virtual_time.now() == 60.0


async def test_a_waiting_reader_wakes_when_a_later_timer_writes(virtual_time: VirtualTime):
    left, right = socket.socketpair()

    async def write_later() -> None:
        await anyio.sleep(2)
        left.send(b"x")

    with left, right:
        right.setblocking(False)
        async with anyio.create_task_group() as group:
            group.start_soon(write_later)
            group.start_soon(anyio.sleep, 7)
            await anyio.wait_readable(right)
            assert virtual_time.now() == 2.0


async def test_a_process_is_waited_for_when_nothing_else_is_to_come(virtual_time: VirtualTime):
    done = await anyio.run_process([sys.executable, "-c", "print(6 * 7)"])
    assert (done.stdout.split(), virtual_time.now()) == ([b"42"], 0.0)


async def test_a_process_without_pipes_is_waited_for(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    for half in (_asyncio_time, _trio_time):
        monkeypatch.setattr(half, "GRACE", 0.001)
    nothing = subprocess.DEVNULL
    process = await anyio.open_process("sleep 0.05", stdin=nothing, stdout=nothing, stderr=nothing)
    assert await process.wait() == 0


async def test_a_process_within_a_timeout_works_while_time_is_held(virtual_time: VirtualTime):
    with anyio.fail_after(1), virtual_time.still():
        done = await anyio.run_process([sys.executable, "-c", "print(6 * 7)"])
    assert (done.stdout.split(), virtual_time.now()) == ([b"42"], 0.0)
