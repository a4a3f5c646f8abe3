"""A desk: small calls begin in the loop, and all that is not as usual ends in the thread."""

from __future__ import annotations

import gc
import os
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from qanat._engine import desk as desk_module
from qanat._engine.courier import Courier
from qanat._engine.line import FEW
from qanat._engine.loop import AsyncioLoop, running_loop
from qanat.errors import StoreUnavailable
from tests._engine.test_courier import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = [pytest.mark.real, pytest.mark.parametrize("backend", ["asyncio", "trio"])]


class Trip:
    """A deed on its way: a byte for each answer comes over a pair of sockets."""

    def __init__(self, server: Server, deed: str, asked: list[Any]) -> None:
        self.server = server
        self.deed = deed
        self.asked = asked
        self.got = 0

    def fileno(self) -> int:
        return self.server.near.fileno()

    def is_over(self) -> bool:
        self.got += len(self.server.near.recv(len(self.asked) - self.got))
        return self.got == len(self.asked)

    def answers(self) -> list[Any] | None:
        if self.deed == "odd":
            return None
        if self.deed == "short":
            return []
        return self.asked

    def finish(self) -> list[Any]:
        self.server.finished.append((self.deed, threading.get_ident()))
        while self.got < len(self.asked):
            self.got += len(self.server.near.recv(len(self.asked) - self.got))
        if self.deed in ("odd", "short"):
            raise OSError("as the thread tells it")
        return self.asked


class Server:
    """A store at the other end of a socket, which answers at once unless it is mute."""

    begins = True
    roams = True

    def __init__(self) -> None:
        self.mute = False
        self.made = 0
        self.closed = 0
        self.begun: list[tuple[str, list[Any]]] = []
        self.done: list[tuple[str, list[Any]]] = []
        self.finished: list[tuple[str, int]] = []
        self.threads: list[int] = []
        self.near, self.far = socket.socketpair()

    def connect(self) -> Server:
        self.made += 1
        return self

    def begin(self, deed: str, asked: list[Any]) -> Trip | None:
        if deed == "never":
            return None
        if deed == "wrong":
            raise OSError("it cannot be begun")
        if deed == "interrupted":
            raise KeyboardInterrupt
        self.begun.append((deed, asked))
        if not self.mute:
            self.answer(len(asked))
        return Trip(self, deed, asked)

    def answer(self, n: int = 1) -> None:
        self.far.sendall(b"x" * n)

    def do(self, deed: str, asked: list[Any]) -> list[Any]:
        self.threads.append(threading.get_ident())
        if deed == "fail":
            raise OSError("the disk is gone")
        if deed == "interrupted" and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        self.done.append((deed, asked))
        return asked

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def server():
    server = Server()
    yield server
    server.near.close()
    server.far.close()


def run(backend: str, server: Server, body: Callable[[Courier, Any], Awaitable[None]]) -> None:
    """Run a body with a courier whose connection is made."""

    async def main() -> None:
        courier = Courier(server.connect)
        desk = courier.desk()
        assert await desk.ask("put", [0]) == [0]
        try:
            await body(courier, desk)
        finally:
            await courier.aclose()

    anyio.run(main, backend=backend)


def test_the_loop_stays_awake_while_an_answer_is_on_its_way(server: Server, backend: str):
    seen: list[str] = []

    class Seen:
        def begin(self) -> None:
            seen.append(f"awake {len(server.begun)}")

        def end(self) -> None:
            seen.append(f"news {len(server.begun)}")

    async def body(_courier: Courier, desk: Any) -> None:
        desk._vigil = Seen()
        begun = desk.begin("put", [1, 2])
        assert seen == ["awake 1"]
        assert await begun.wait() == [1, 2]
        assert await desk.ask("never", [3]) == [3]
        assert seen == ["awake 1", "news 1"]

    run(backend, server, body)


def test_a_call_leaves_nothing_that_only_the_collector_finds(server: Server, backend: str):
    async def body(_courier: Courier, desk: Any) -> None:
        await desk.begin("put", [1], str).wait()
        gc.collect()
        await desk.begin("put", [1], str).wait()
        assert gc.collect() == 0

    run(backend, server, body)


def test_small_calls_begin_in_the_loop(server: Server, backend: str):
    async def body(_courier: Courier, desk: Any) -> None:
        for each in range(3):
            assert await desk.ask("put", [each, each]) == [each, each]

    run(backend, server, body)
    assert server.begun == [("put", [0, 0]), ("put", [1, 1]), ("put", [2, 2])]
    assert server.done == [("put", [0])]
    assert server.finished == []
    assert server.closed == 1


def test_calls_that_gather_begin_together_if_they_are_few(server: Server, backend: str):
    async def body(_courier: Courier, desk: Any) -> None:
        async with anyio.create_task_group() as group:
            for each in range(10):
                group.start_soon(desk.ask, "put", [each])
        async with anyio.create_task_group() as group:
            for each in range(FEW + 2):
                group.start_soon(desk.ask, "put", [each])

    run(backend, server, body)
    assert sorted(len(asked) for _, asked in server.begun) == [1, 1, 9]
    assert [len(asked) for _, asked in server.done] == [1, FEW + 1]


def test_what_cannot_be_begun_is_the_thread_s(server: Server, backend: str):
    async def body(_courier: Courier, desk: Any) -> None:
        assert await desk.ask("never", [1]) == [1]
        assert await desk.ask("wrong", [2]) == [2]

    run(backend, server, body)
    assert server.done == [("put", [0]), ("never", [1]), ("wrong", [2])]


@pytest.mark.parametrize("deed", ["odd", "short"])
def test_answers_that_are_not_as_usual_are_the_thread_s(server: Server, backend: str, deed: str):
    async def body(_courier: Courier, desk: Any) -> None:
        with pytest.raises(OSError, match="as the thread tells it"):
            await desk.ask(deed, [1])
        assert await desk.ask("put", [2]) == [2]

    run(backend, server, body)
    assert [deed for deed, _ in server.finished] == [deed]
    assert server.finished[0][1] != threading.get_ident()
    assert server.begun[-1] == ("put", [2])


def test_an_answer_that_comes_in_parts_is_waited_for(server: Server, backend: str):
    server.mute = True

    async def body(_courier: Courier, desk: Any) -> None:
        begun = desk.begin("put", [1, 2])
        server.answer()
        for _ in range(5):
            await checkpoint()
        server.answer()
        assert await begun.wait() == [1, 2]

    run(backend, server, body)
    assert server.finished == []


def test_an_answer_that_is_late_is_waited_for_by_the_thread(server: Server, backend: str, monkeypatch):
    monkeypatch.setattr(desk_module, "TICK", 0.005)
    server.mute = True

    async def body(_courier: Courier, desk: Any) -> None:
        begun = desk.begin("put", [1])
        while not server.finished:
            await anyio.sleep(0.001)
        server.answer()
        assert await begun.wait() == [1]

    run(backend, server, body)


def test_a_quiet_desk_watches_nothing(server: Server, backend: str, monkeypatch):
    monkeypatch.setattr(desk_module, "TICK", 0.005)

    async def body(_courier: Courier, desk: Any) -> None:
        await desk.ask("put", [1])
        assert desk._watch is not None
        while desk._watch is not None:
            await anyio.sleep(0.001)
        assert await desk.ask("put", [2]) == [2]

    run(backend, server, body)
    assert len(server.begun) == 2


def test_a_server_that_goes_is_not_watched(server: Server, backend: str):
    async def body(_courier: Courier, desk: Any) -> None:
        await desk.ask("put", [1])
        server.far.shutdown(socket.SHUT_RDWR)
        while desk._watch is not None:
            await anyio.sleep(0.001)

    run(backend, server, body)


def test_a_close_has_the_thread_wait_for_what_was_begun(server: Server, backend: str):
    server.mute = True
    found: list[Any] = []

    async def main() -> None:
        courier = Courier(server.connect)
        desk = courier.desk()
        await desk.ask("put", [0])
        call = desk.send("put", [1], found.append)
        closing = threading.Timer(0.01, server.answer)
        closing.start()
        await courier.aclose()
        await anyio.sleep(0.01)
        assert found == [call]
        closing.join()

    anyio.run(main, backend=backend)
    assert [deed for deed, _ in server.finished] == ["put"]
    assert server.closed == 1


def test_what_a_loop_that_ended_has_begun_is_finished(server: Server, backend: str):
    server.mute = True
    courier = Courier(server.connect)

    async def main() -> None:
        desk = courier.desk()
        await desk.ask("put", [0])
        desk.send("put", [1], lambda _: None)

    anyio.run(main, backend=backend)
    server.answer()
    courier.close()
    assert [deed for deed, _ in server.finished] == ["put"]


def test_a_caller_elsewhere_does_not_wait_for_a_loop_that_is_held_up(server: Server, backend: str):
    server.mute = True
    found: list[Any] = []

    async def body(courier: Courier, desk: Any) -> None:
        begun = desk.begin("put", [1])
        thread = threading.Thread(target=lambda: found.append(courier.ask("put", [2])))
        thread.start()
        until(lambda: server.finished)
        server.answer()
        thread.join(20)  # the loop stands still
        assert found == [[2]]
        assert await begun.wait() == [1]

    run(backend, server, body)


def test_a_caller_who_is_cancelled_hears_late(server: Server, backend: str):
    server.mute = True
    late: list[Any] = []

    async def body(_courier: Courier, desk: Any) -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await desk.ask("claim", [1], late.append)
        server.answer()
        while not late:
            await anyio.sleep(0.001)

    run(backend, server, body)
    assert late == [[1]]


def test_who_leaves_once_the_answer_is_told_hears_late(server: Server, backend: str):
    late: list[Any] = []

    async def body(_courier: Courier, desk: Any) -> None:
        begun = desk.begin("claim", [1], late.append)
        while not begun._told:
            await anyio.sleep(0.001)
        begun.leave()

    run(backend, server, body)
    assert late == [[1]]


def test_an_interruption_costs_the_connection_alone(server: Server, backend: str):
    async def body(_courier: Courier, desk: Any) -> None:
        with pytest.raises(KeyboardInterrupt):
            await desk.ask("interrupted", [1])
        assert server.closed == 1
        assert await desk.ask("put", [2]) == [2]

    run(backend, server, body)
    assert server.made == 2


def test_an_interruption_of_the_taking_in_is_told(server: Server, backend: str, monkeypatch):
    def interrupted(_: Trip) -> bool:
        raise KeyboardInterrupt

    async def body(_courier: Courier, desk: Any) -> None:
        server.mute = True
        begun = desk.begin("put", [1])
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Trip, "is_over", interrupted)
            desk._look()
        with pytest.raises(StoreUnavailable):
            await begun.wait()
        server.mute = False
        assert await desk.ask("put", [2]) == [2]

    run(backend, server, body)
    assert server.made == 2


def test_a_loop_that_can_watch_nothing_leaves_it_to_the_thread(server: Server, backend: str, monkeypatch):
    def refuse(*_: object) -> None:
        raise NotImplementedError

    async def body(_courier: Courier, desk: Any) -> None:
        monkeypatch.setattr(type(desk._loop), "watch", refuse)
        assert await desk.ask("put", [1]) == [1]
        assert await desk.ask("put", [2]) == [2]

    run(backend, server, body)
    assert server.begun == [("put", [1])]
    assert server.done == [("put", [0]), ("put", [2])]


def test_a_call_takes_along_those_that_the_thread_has_not_come_to(server: Server, backend: str):
    async def body(courier: Courier, desk: Any) -> None:
        with desk._line._lock:
            first = courier.begin("put", [1])
            second = desk.begin("put", [2])
        assert await second.wait() == [2]
        assert first.wait() == [1]

    run(backend, server, body)
    assert server.begun == [("put", [1, 2])]


def test_what_is_begun_while_the_store_closes_is_the_thread_s(server: Server, backend: str):
    begin = server.begin

    async def body(courier: Courier, desk: Any) -> None:
        def closing(deed: str, asked: list[Any]) -> Trip | None:
            courier._deeds.end()
            return begin(deed, asked)

        server.begin = closing  # type: ignore[method-assign]
        assert await desk.ask("put", [1]) == [1]

    run(backend, server, body)
    assert [deed for deed, _ in server.finished] == ["put"]


def test_a_late_answer_that_somebody_else_took_is_left_to_them(server: Server, backend: str, monkeypatch):
    server.mute = True

    async def body(_courier: Courier, desk: Any) -> None:
        begun = desk.begin("put", [1])
        desk._last = desk._line.flying()
        with monkeypatch.context() as patched:
            patched.setattr(desk._line, "take_flying", lambda _: None)
            desk._tick()
        server.answer()
        assert await begun.wait() == [1]

    run(backend, server, body)


def test_a_caller_interrupted_with_the_connection_in_hand_lets_go_of_it(
    server: Server, backend: str, monkeypatch
):
    async def body(courier: Courier, desk: Any) -> None:
        line = courier._deeds
        put = line.put

        def interrupted(*args: Any, **options: Any) -> None:
            put(*args, **options)
            raise KeyboardInterrupt

        for ask in (desk.begin, courier.ask):
            with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
                patched.setattr(line, "put", interrupted)
                ask("put", [1])
            assert await desk.ask("put", [2]) == [2]

    run(backend, server, body)
    assert server.made == 3


def test_a_number_that_cannot_be_watched_is_not_kept(server: Server, backend: str, monkeypatch):
    if backend == "trio":
        pytest.skip("trio watches by a task")

    async def main() -> None:
        def refuse(number: int, _: object) -> None:
            taken.append(number)
            raise NotImplementedError

        taken: list[int] = []
        loop: Any = running_loop()
        monkeypatch.setattr(loop._loop, "add_reader", refuse)
        with pytest.raises(NotImplementedError):
            loop.watch(server.near.fileno(), int, int, 1.0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(taken[0])

    anyio.run(main, backend=backend)


# --- plain threads -----------------------------------------------------------------------------------


def test_a_plain_thread_that_waits_carries_its_call_out(server: Server, backend: str):
    courier = Courier(server.connect)
    for each in range(3):
        assert courier.ask("put", [each]) == [each]
    assert courier.begin("put", [3]).wait() == [3]
    courier.close()
    here = threading.get_ident()
    assert [thread == here for thread in server.threads] == [False, True, True, False]


def test_a_plain_thread_that_is_interrupted_costs_the_connection_alone(server: Server, backend: str):
    courier = Courier(server.connect)
    courier.ask("put", [0])
    with pytest.raises(KeyboardInterrupt):
        courier.ask("interrupted", [1])
    assert server.closed == 1
    assert courier.ask("put", [2]) == [2]
    courier.close()
    assert server.made == 2


def test_an_error_is_raised_to_the_plain_thread_that_carried_it_out(server: Server, backend: str):
    courier = Courier(server.connect)
    courier.ask("put", [0])
    with pytest.raises(OSError, match="the disk is gone"):
        courier.ask("fail", [1])
    assert courier.ask("put", [2]) == [2]
    courier.close()
    with pytest.raises(RuntimeError, match="the store is closed"):
        courier.ask("put", [3])
    assert server.made == 1


def test_plain_threads_that_gather_go_together(server: Server, backend: str):
    courier = Courier(server.connect)
    courier.ask("put", [0])
    found: list[Any] = []
    entered, let_go = threading.Event(), threading.Event()
    do = server.do

    def slow(deed: str, asked: list[Any]) -> list[Any]:
        entered.set()
        assert let_go.wait(20)
        return do(deed, asked)

    server.do = slow  # type: ignore[method-assign]
    threads = [
        threading.Thread(target=lambda n=n: found.extend(courier.ask("put", [n]))) for n in range(1, 5)
    ]
    threads[0].start()
    assert entered.wait(20)
    for thread in threads[1:]:
        thread.start()
    until(lambda: sum(map(len, courier._deeds._waiting.values())) == 3)
    let_go.set()
    for thread in threads:
        thread.join()
    courier.close()
    assert sorted(found) == [1, 2, 3, 4]
    assert [len(asked) for _, asked in server.done] == [1, 1, 3]


def test_others_of_an_interrupted_batch_are_told(server: Server, backend: str):
    async def body(_courier: Courier, desk: Any) -> None:
        server.mute = True
        first = desk.begin("put", [1])
        second = desk.begin("interrupted", [2])
        with pytest.raises(KeyboardInterrupt):
            server.answer()
            flight = desk._line.flying()
            assert flight is not None
            assert flight.begun.fileno() >= 0
            desk._look()
        with pytest.raises(StoreUnavailable):
            await second.wait()
        assert await first.wait() == [1]

    run(backend, server, body)


def test_a_watch_may_be_stopped_twice_and_late(server: Server, backend: str):
    watches: list[Any] = []

    async def main() -> None:
        loop = running_loop()
        watches.append(loop.watch(server.near.fileno(), partial(server.near.recv, 1), int, 10.0))
        watches[0].stop()
        watches[0].stop()
        watches.append(loop.watch(server.near.fileno(), partial(server.near.recv, 1), int, 10.0))
        if not isinstance(loop, AsyncioLoop):
            await checkpoint()

    anyio.run(main, backend=backend)
    for watch in watches:
        watch.stop()
