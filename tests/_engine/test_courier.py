"""The courier: calls that gather go together, from loops and threads alike, and none is lost."""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._engine import courier as courier_module
from qanat._engine import line as line_module
from qanat._engine.courier import Call, Courier
from qanat.errors import StoreForked
from qanat.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat.testing import VirtualTime


class Store:
    """A store that notes its round trips, and waits in each until it is let go."""

    def __init__(self, *, held: bool = False) -> None:
        self.trips: list[tuple[str, list[Any]]] = []
        self.made = 0
        self.closed = 0
        self.threads: set[int] = set()
        self.let_go = threading.Event()
        self.entered = threading.Event()
        self.refuses_to_connect = 0
        if not held:
            self.let_go.set()

    def connect(self) -> Store:
        if self.refuses_to_connect:
            self.refuses_to_connect -= 1
            raise ConnectionError("no store")
        self.made += 1
        return self

    def do(self, deed: str, asked: list[Any]) -> list[Any]:
        self.threads.add(threading.get_ident())
        self.trips.append((deed, list(asked)))
        self.entered.set()
        assert self.let_go.wait(20)
        if deed == "fail":
            raise OSError("the disk is gone")
        if deed == "forget":
            return []
        return [OSError(f"no {each}") if deed == "half" and each % 2 else each for each in asked]

    def close(self) -> None:
        self.closed += 1
        if self.closed > 10:
            raise OSError("closed too often")


def until(condition: Callable[[], object]) -> None:
    """Wait for another thread."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


async def test_answers_come_back_to_who_asked(virtual_time: VirtualTime):
    store = Store()
    courier = Courier(store.connect)
    desk = courier.desk()
    assert await desk.ask("echo", [1, 2]) == [1, 2]
    assert await desk.ask("echo", []) == []
    await courier.aclose()
    assert (store.made, store.closed) == (1, 1)
    assert store.threads != {threading.get_ident()}
    assert len(store.threads) == 1


async def test_calls_that_gather_go_together(virtual_time: VirtualTime):
    store = Store(held=True)
    courier = Courier(store.connect)
    desk = courier.desk()
    answers: dict[int, list[Any]] = {}

    async def ask(number: int) -> None:
        answers[number] = await desk.ask("echo", [number, -number])

    async with anyio.create_task_group() as group:
        group.start_soon(ask, 1)
        await virtual_time.advance(0, wait_outside=False)
        until(lambda: len(store.trips) == 1)
        for number in (2, 3, 4):
            group.start_soon(ask, number)
        await virtual_time.advance(0, wait_outside=False)
        store.let_go.set()
    # trio wakes tasks in any order.
    assert [(deed, sorted(asked)) for deed, asked in store.trips] == [
        ("echo", [-1, 1]), ("echo", [-4, -3, -2, 2, 3, 4])
    ]  # fmt: skip
    assert answers == {number: [number, -number] for number in (1, 2, 3, 4)}
    await courier.aclose()


async def test_one_hop_tells_all_calls_of_a_batch(virtual_time: VirtualTime, monkeypatch):
    store = Store(held=True)
    courier = Courier(store.connect)
    desk = courier.desk()
    hops = 0
    call_soon = desk._loop.call_soon_threadsafe

    def counted(function: Callable[[], object]) -> None:
        nonlocal hops
        hops += 1
        call_soon(function)

    monkeypatch.setattr(desk._loop, "call_soon_threadsafe", counted)
    told: list[int] = []
    desk.send("echo", [0], lambda call: told.append(call.answers[0]))
    assert store.entered.wait(20)
    for number in range(1, 50):
        desk.send("echo", [number], lambda call: told.append(call.answers[0]))
    store.let_go.set()
    await desk.ask("other", [0])
    assert told == list(range(50))
    assert hops <= 3
    await courier.aclose()


async def test_deeds_go_apart_and_take_turns(virtual_time: VirtualTime):
    store = Store(held=True)
    courier = Courier(store.connect, most=2)
    desk = courier.desk()
    for deed, asked in (("a", [0]), ("a", [1]), ("b", [2]), ("a", [3]), ("a", [4, 5, 6]), ("b", [7])):
        desk.send(deed, asked, lambda call: None)
    store.let_go.set()
    await courier.aclose()
    everything = [each for _, asked in store.trips for each in asked]
    assert sorted(everything) == list(range(8))
    assert max(len(asked) for _, asked in store.trips) == 3  # a single call is never cut
    by_deed = [[each for deed, asked in store.trips if deed == name for each in asked] for name in "ab"]
    assert by_deed == [[0, 1, 3, 4, 5, 6], [2, 7]]


async def test_error_of_a_batch_is_told_to_each(virtual_time: VirtualTime):
    store = Store(held=True)
    courier = Courier(store.connect)
    desk = courier.desk()
    errors: list[str] = []

    async def ask(number: int) -> None:
        with pytest.raises(OSError, match="the disk is gone"):
            await desk.ask("fail", [number])
        errors.append("told")

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(ask, number)
        await virtual_time.advance(0, wait_outside=False)
        store.let_go.set()
    assert errors == ["told"] * 3
    assert await desk.ask("echo", [1]) == [1]
    with pytest.raises(RuntimeError, match="the store gave 0 answers to 2 questions of 'forget'"):
        await desk.ask("forget", [1, 2])
    await courier.aclose()


async def test_answer_that_is_an_error_is_raised_to_its_caller_alone(virtual_time: VirtualTime):
    store = Store(held=True)
    courier = Courier(store.connect)
    desk = courier.desk()
    heard: dict[int, Any] = {}

    async def ask(number: int) -> None:
        try:
            heard[number] = await desk.ask("half", [number])
        except OSError as error:
            heard[number] = str(error)

    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(ask, number)
        await virtual_time.advance(0, wait_outside=False)
        store.let_go.set()
    assert heard == {0: [0], 1: "no 1", 2: [2], 3: "no 3"}
    await courier.aclose()


async def test_store_that_cannot_be_reached_is_tried_again_by_the_next_call(virtual_time: VirtualTime):
    store = Store()
    store.refuses_to_connect = 1
    courier = Courier(store.connect)
    desk = courier.desk()
    with pytest.raises(ConnectionError, match="no store"):
        await desk.ask("echo", [1])
    assert await desk.ask("echo", [1]) == [1]
    await courier.aclose()


# --- cancellation ----------------------------------------------------------------------------


async def test_caller_cancelled_before_its_batch_left_is_taken_out(virtual_time: VirtualTime):
    store = Store(held=True)
    courier = Courier(store.connect)
    desk = courier.desk()
    desk.send("echo", [0], lambda call: None)
    assert store.entered.wait(20)
    late: list[list[Any]] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await desk.ask("echo", [1], late.append)
    store.let_go.set()
    await courier.aclose()
    assert store.trips == [("echo", [0])]
    assert late == []


@pytest.mark.parametrize("deed", ["echo", "fail", "nobody"])
async def test_caller_cancelled_after_its_batch_left_is_finished_for(virtual_time: VirtualTime, deed):
    store = Store(held=True)
    courier = Courier(store.connect)
    desk = courier.desk()
    late: list[list[Any]] = []
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(desk.ask, deed, [1], None if deed == "nobody" else late.append)
            await virtual_time.advance(0, wait_outside=False)
            assert store.entered.wait(20)
            scope.cancel()
    store.let_go.set()
    await courier.aclose()
    assert late == ([[1]] if deed == "echo" else [])
    assert store.trips == [(deed, [1])]
    assert desk._clock.outside == 0  # type: ignore[attr-defined]


# --- threads ---------------------------------------------------------------------------------


def test_plain_threads_share_a_store():
    store = Store()
    courier = Courier(store.connect)
    found: list[Any] = []

    def work(number: int) -> None:
        for each in range(50):
            found.extend(courier.ask("echo", [(number, each)]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(OSError, match="the disk is gone"):
        courier.ask("fail", [1])
    courier.close()
    courier.close()
    assert sorted(found) == [(number, each) for number in range(4) for each in range(50)]
    assert store.closed == 1


def test_loops_and_threads_share_a_store():
    store = Store()
    courier = Courier(store.connect)
    found: list[Any] = []

    async def main(number: int) -> None:
        desk = courier.desk()
        for each in range(50):
            found.extend(await desk.ask("echo", [(number, each)]))

    backends = ["asyncio", "trio", "asyncio"]
    threads = [
        threading.Thread(target=lambda n=n, b=b: anyio.run(main, n, backend=b))
        for n, b in enumerate(backends)
    ]
    for thread in threads:
        thread.start()
    for each in range(50):
        found.extend(courier.ask("echo", [(3, each)]))
    for thread in threads:
        thread.join()
    courier.close()
    assert sorted(found) == [(number, each) for number in range(4) for each in range(50)]


def test_interrupted_thread_takes_its_call_back(monkeypatch):
    store = Store(held=True)
    courier = Courier(store.connect)
    asking = threading.Thread(target=courier.ask, args=("echo", [0]))
    asking.start()
    assert store.entered.wait(20)

    class Interrupted:
        acquired = 0

        def release(self) -> None: ...

        def acquire(self) -> None:
            self.acquired += 1
            if self.acquired == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(courier_module, "Lock", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        courier.ask("echo", [1])
    store.let_go.set()
    courier.close()
    asking.join()
    assert store.trips == [("echo", [0])]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_is_refused():
    store = Store()
    courier = Courier(store.connect)
    courier.ask("echo", [1])
    child = os.fork()
    if child == 0:
        try:
            courier.ask("echo", [2])
        except StoreForked:
            courier.close()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert courier.ask("echo", [3]) == [3]
    courier.close()


# --- closing ---------------------------------------------------------------------------------


async def test_close_flushes_and_joins(virtual_time: VirtualTime):
    store = Store()
    courier = Courier(store.connect)
    desk = courier.desk()
    told: list[int] = []
    for number in range(2500):
        desk.send("echo", [number], lambda call: told.extend(call.answers))
    await courier.aclose()
    assert told == list(range(2500))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("qanat-store")]
    with pytest.raises(RuntimeError, match="the store is closed"):
        await desk.ask("echo", [1])
    assert desk._clock.outside == 0  # type: ignore[attr-defined]
    await courier.aclose()


async def test_courier_that_carried_nothing_closes(virtual_time: VirtualTime):
    store = Store()
    await Courier(store.connect).aclose()
    Courier(store.connect).close()
    assert store.made == 0


async def test_close_that_is_cancelled_goes_on(virtual_time: VirtualTime):
    store = Store(held=True)
    courier = Courier(store.connect)
    told: list[Any] = []
    courier.desk().send("echo", [1], lambda call: told.extend(call.answers))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await courier.aclose()
    store.let_go.set()
    await courier.aclose()
    assert told == [1]
    assert store.closed == 1


def test_who_closes_while_the_thread_ends_is_told_too():
    courier = Courier(Store().connect, name="test")
    assert courier.ask("put", [1]) == [1]
    line, told = courier._deeds, []

    def last() -> None:
        told.append("first")
        line.end(lambda: told.append("second"))  # the thread that ends is alive, and has told who waited

    line.end(last)
    line.join()
    assert told == ["first", "second"]


def test_error_of_closing_is_logged(caplog):
    store = Store()
    store.closed = 10
    courier = Courier(store.connect)
    courier.ask("echo", [1])
    courier.close()
    assert "a store raised when it was closed" in caplog.text


def test_call_whose_loop_has_ended_is_carried_out_and_forgotten():
    store = Store(held=True)
    courier = Courier(store.connect)

    async def main() -> None:
        desk = courier.desk()
        desk.send("echo", [1], lambda call: None)
        desk._loop.call_soon_threadsafe(lambda: None)

    anyio.run(main)
    store.let_go.set()
    courier.close()
    assert store.trips == [("echo", [1])]


async def test_close_in_a_loop_that_ends_meanwhile_harms_nobody(virtual_time: VirtualTime, monkeypatch):
    store = Store(held=True)
    courier = Courier(store.connect)
    told: list[Any] = []
    desk = courier.desk()
    desk.send("echo", [1], told.append)

    def ended(_function: object) -> None:
        raise RuntimeError("the event loop has ended")

    monkeypatch.setattr(desk._loop, "call_soon_threadsafe", ended)
    monkeypatch.setattr(type(desk._loop), "call_soon_threadsafe", lambda _self, function: ended(function))
    with anyio.CancelScope() as scope:
        scope.cancel()
        await courier.aclose()
    store.let_go.set()
    courier.close()
    assert told == []
    assert desk._clock.outside == 0  # type: ignore[attr-defined]


async def test_listener_that_raises_costs_the_others_nothing(monkeypatch):
    """The error is the loop's; here the hand-over is called by hand to see it."""
    store = Store(held=True)
    courier = Courier(store.connect)
    told: list[Any] = []

    async def main() -> None:
        desk = courier.desk()

        def raises(_call: object) -> None:
            raise ZeroDivisionError

        taken: list[Any] = []
        monkeypatch.setattr(desk._loop, "call_soon_threadsafe", taken.append)
        first = desk.send("echo", [1], raises)
        assert store.entered.wait(20)
        desk.send("echo", [2], lambda call: told.extend(call.answers))
        store.let_go.set()
        until(lambda: len(desk._ended) == 2)
        with pytest.raises(ZeroDivisionError):
            desk._hand_over()
        assert first.answers == [1]
        desk._hand_over()

    await main()
    await anyio.to_thread.run_sync(courier.close)
    assert told == [2]


def test_nothing_is_kept_of_calls_that_ended():
    class Item:
        pass

    store = Store()
    store.do = lambda deed, asked: list(asked)  # type: ignore[method-assign]
    courier = Courier(store.connect)
    item = Item()
    gone = weakref.ref(item)
    courier.ask("echo", [item])
    courier.ask("echo", [])
    del item
    until(lambda: gc.collect() is not None and gone() is None)
    courier.close()


# --- the pulse -------------------------------------------------------------------------------


def test_pulse_beats_while_a_deed_is_under_way():
    store = Store(held=True)
    courier = Courier(store.connect)
    asking = threading.Thread(target=courier.ask, args=("echo", [0]))
    asking.start()
    assert store.entered.wait(20)
    beats: list[Any] = []

    def beat(connection: Any) -> float:
        beats.append(connection)
        if len(beats) == 2:
            raise OSError("not now")
        return 0.001

    again = line_module.AGAIN
    line_module.AGAIN = 0.001  # type: ignore[misc]
    try:
        courier.begin_pulse(beat)
        until(lambda: len(beats) > 4)
    finally:
        line_module.AGAIN = again  # type: ignore[misc]
    assert len(store.trips) == 1
    store.let_go.set()
    courier.close()
    asking.join()
    assert store.made == store.closed == 2


def test_pulse_carries_calls_past_the_deeds():
    store = Store()
    courier = Courier(store.connect)
    assert courier.ask("echo", [1], pulse=True) == [1]
    assert courier.ask("echo", [2]) == [2]
    courier.begin_pulse(lambda connection: 3600.0)
    assert courier.ask("echo", [3], pulse=True) == [3]
    assert len(store.threads) == 2
    courier.close()


@pytest.mark.virtual_time("asyncio", "trio")
async def test_claims_wait_for_no_other_deed(virtual_time: VirtualTime):
    store, claims = Store(held=True), Store()
    free = iter([store, claims])
    courier = Courier(lambda: next(free).connect())
    held_up = courier.desk().begin("settle", [1])
    until(store.entered.is_set)
    try:
        for _ in range(2):
            assert await courier.claim_desk().ask("claim", [2]) == [2]
    finally:
        store.let_go.set()
    assert await held_up.wait() == [1]
    await courier.aclose()
    assert store.closed == claims.closed == 1
    assert store.threads != claims.threads


def test_pulse_that_cannot_connect_is_tried_again(monkeypatch, caplog):
    monkeypatch.setattr(line_module, "AGAIN", 0.001)
    store = Store()
    store.refuses_to_connect = 2
    beaten = threading.Event()

    def beat(connection: Any) -> float:
        beaten.set()
        return 3600.0

    courier = Courier(store.connect)
    courier.begin_pulse(beat)
    assert beaten.wait(20)
    courier.close()
    assert "the pulse of a store raised, and is tried again" in caplog.text


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.booleans()), max_size=30),
    st.integers(1, 8),
    st.sampled_from(["asyncio", "trio"]),
)
def test_every_call_is_answered_or_was_taken_back(plan, most, backend):
    store = Store()
    courier = Courier(store.connect, most=most)
    answered: dict[int, list[Any]] = {}
    taken_back: set[int] = set()

    def note(number: int, call: Call) -> None:
        answered[number] = call.answers

    async def main() -> None:
        desk = courier.desk()
        for number, (deed, size, withdrawn) in enumerate(plan):
            call = desk.send(deed, [number] * size, partial(note, number))
            if withdrawn and desk.withdraw(call):
                taken_back.add(number)
        await courier.aclose()
        assert desk._clock.outside == 0  # type: ignore[attr-defined]

    with virtual_time(backend) as clock:
        clock.run(main)
    assert answered == {
        number: [number] * size for number, (_, size, _) in enumerate(plan) if number not in taken_back
    }
    carried = [each for _, asked in store.trips for each in asked]
    assert sorted(carried) == [
        number for number, size in enumerate(plan) for _ in range(size[1]) if number not in taken_back
    ]


async def test_a_caller_cancelled_in_the_turn_in_which_it_is_answered_hears_late(virtual_time: VirtualTime):
    store = Store()
    courier = Courier(store.connect)
    desk = courier.desk()
    late: list[list[Any]] = []
    got: list[list[Any]] = []
    with anyio.CancelScope() as scope:
        hand_over = desk._hand_over

        def hand_over_and_cancel() -> None:
            hand_over()
            scope.cancel()

        desk._hand_over = hand_over_and_cancel  # type: ignore[method-assign]
        got.append(await desk.ask("echo", [1, 2], late.append))
    # asyncio cancels who is being woken, trio lets them be.
    assert late + got == [[1, 2]]
    await courier.aclose()
