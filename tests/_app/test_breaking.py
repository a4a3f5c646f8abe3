"""`CircuitBreaker` in whole runs: lanes of dead servers, checks, and what a run leaves behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import qanat
from qanat import CircuitBreaker, CircuitOpenError, Retry, constant
from qanat.errors import JobTimeoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


class Server:
    """Is down until a time, and notes when it was called and checked."""

    def __init__(self, time: VirtualTime, up_at: float, seconds: float = 1.0) -> None:
        self._time = time
        self.up_at = up_at
        self._seconds = seconds
        self.calls: list[float] = []
        self.checks: list[float] = []

    @property
    def is_up(self) -> bool:
        return self._time.now() >= self.up_at

    async def call(self, item: Any) -> Any:
        self.calls.append(self._time.now())
        await anyio.sleep(self._seconds)
        if not self.is_up:
            raise ConnectionError("down")
        return item

    async def check(self) -> bool:
        self.checks.append(self._time.now())
        await anyio.sleep(0.5)
        return self.is_up


FOR_EVER = Retry(1_000, backoff=constant(0.25))


# --- waiting -------------------------------------------------------------------------------------


async def test_jobs_wait_and_all_are_done_when_the_server_is_up_again(virtual_time: VirtualTime):
    server = Server(virtual_time, up_at=25.0)
    breaker = CircuitBreaker(3, cooldown=10)
    outcomes = await qanat.collect(server.call, range(20), concurrency=4, limits=breaker, retry=FOR_EVER)
    assert [outcome.value for outcome in outcomes] == list(range(20))
    # Two more had started when the third failed. Then two probes that fail, one that does well, two, four.
    assert server.calls[:6] == [0.0] * 4 + [1.0] * 2
    assert server.calls[6:11] == [11.0, 22.0, 33.0, 34.0, 34.0]
    assert server.calls[11:] == [35.0] * 4 + [36.0] * 4 + [37.0] * 4 + [38.0] * 4 + [39.0]
    assert breaker.state == "closed"


async def test_a_dead_servers_lane_does_not_hold_the_others(virtual_time: VirtualTime):
    dead, well = Server(virtual_time, up_at=100.0, seconds=0.5), Server(virtual_time, up_at=0.0)
    servers = {"dead": dead, "well": well}

    async def handler(item: tuple[str, int]) -> int:
        await servers[item[0]].call(item)
        return item[1]

    items = [(name, number) for number in range(20) for name in servers]
    outcomes = await qanat.collect(
        handler, items, concurrency=4, lane=lambda item: item[0],
        lane_limits=lambda _: CircuitBreaker(1, cooldown=30), retry=FOR_EVER,
    )  # fmt: skip
    assert all(outcome.ok for outcome in outcomes)
    # They share the four slots until the first failure; then the other one has all of them.
    assert len(dead.calls) == 2 + 3 + 20
    assert well.calls == [step / 2 for step in range(10) for _ in range(2)]
    assert [at for at in dead.calls if at < 122.5] == [0.0, 0.0, 30.5, 61.0, 91.5, 122.0]


async def test_an_outcome_and_a_reason_name_the_breaker(virtual_time: VirtualTime):
    async with qanat.Pool(
        Server(virtual_time, up_at=5.0).call, concurrency=1, limits=CircuitBreaker(1, cooldown=10)
    ) as pool:
        pool.submit(0)
        second = pool.submit(1)
        await anyio.sleep(2.0)
        reason = second.why()
        await second
    assert reason is not None
    assert (reason.cause, reason.limit, reason.until) == ("breaker", "1 failure, open", 11.0)
    assert (await second.outcome()).waits == {"concurrency": 1.0, "breaker": 10.0}


async def test_a_cancelled_probe_makes_the_next_job_the_probe(virtual_time: VirtualTime):
    server = Server(virtual_time, up_at=5.0, seconds=2.0)
    async with qanat.Pool(server.call, concurrency=4, limits=CircuitBreaker(1, cooldown=10)) as pool:
        await pool.submit(0).outcome()
        probe, other = pool.submit(1), pool.submit(2)
        await anyio.sleep(11.0)
        assert server.calls == [0.0, 12.0]
        assert probe.cancel()
        await other
    assert server.calls == [0.0, 12.0, 13.0]


async def test_runs_that_share_a_breaker_learn_from_each_other(virtual_time: VirtualTime):
    server, breaker = Server(virtual_time, up_at=5.0), CircuitBreaker(1, cooldown=10)
    async with (
        qanat.Pool(server.call, limits=breaker) as first,
        qanat.Pool(server.call, limits=breaker) as second,
    ):
        await first.submit(0).outcome()
        handles = [first.submit(1), second.submit(2)]
        for handle in handles:
            await handle
    assert server.calls == [0.0, 11.0, 12.0]
    assert breaker._listeners == []


async def test_lanes_of_which_nobody_knows_any_more_have_new_breakers(virtual_time: VirtualTime):
    made: list[str] = []

    def limits(lane: str) -> CircuitBreaker:
        made.append(lane)
        return CircuitBreaker(1, cooldown=10, window=5)

    async def handler(item: tuple[str, bool]) -> None:
        if not item[1]:
            raise ConnectionError

    async with qanat.Pool(handler, lane=lambda item: item[0], lane_limits=limits) as pool:
        pool.submit(("a", False))
        await anyio.sleep(16.0)
        for _ in range(2):
            await pool.submit(("b", True))
        await pool.submit(("a", True))
    assert made == ["a", "b", "b", "a"]


# --- failing fast --------------------------------------------------------------------------------


async def test_whoever_fails_fast_ends_at_once(virtual_time: VirtualTime):
    server = Server(virtual_time, up_at=5.0)
    breaker = CircuitBreaker(1, cooldown=10, fail_fast=True)
    outcomes = await qanat.collect(server.call, range(6), concurrency=2, limits=breaker)
    assert [type(outcome.error) for outcome in outcomes] == [ConnectionError] * 2 + [CircuitOpenError] * 4
    assert [(outcome.state, outcome.attempts) for outcome in outcomes[2:]] == [("dead", 0)] * 4
    error = outcomes[2].error
    assert isinstance(error, CircuitOpenError)
    assert error.until == 11.0
    assert virtual_time.now() == 1.0


async def test_those_who_wait_for_a_step_are_refused_when_it_opens(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        if item < 4 or item in {5, 6}:
            raise ConnectionError

    breaker = CircuitBreaker(1, cooldown=10, fail_fast=True)
    async with qanat.Pool(handler, limits=breaker) as pool:
        for item in range(4):
            pool.submit(item)
        await anyio.sleep(11.0)
        handles = [pool.submit(4)]
        await handles[0]
        handles += [pool.submit(item) for item in range(5, 10)]
        outcomes = [await handle.outcome() for handle in handles]
    refused = [type(outcome.error) for outcome in outcomes]
    assert refused == [type(None)] + [ConnectionError] * 2 + [CircuitOpenError] * 3


# --- checks --------------------------------------------------------------------------------------


async def test_the_check_is_called_in_place_of_a_job(virtual_time: VirtualTime):
    server = Server(virtual_time, up_at=25.0)
    breaker = CircuitBreaker(1, cooldown=10, check=server.check)
    outcomes = await qanat.collect(server.call, range(3), concurrency=1, limits=breaker)
    assert [outcome.ok for outcome in outcomes] == [False, True, True]
    assert server.checks == [11.0, 21.5, 32.0]
    assert server.calls == [0.0, 32.5, 33.5]


async def test_the_check_is_called_while_no_job_waits(virtual_time: VirtualTime):
    server = Server(virtual_time, up_at=15.0)
    breaker = CircuitBreaker(1, cooldown=10, check=server.check, fail_fast=True)
    async with qanat.Pool(server.call, limits=breaker) as pool:
        await pool.submit(0).outcome()
        await anyio.sleep(20.0)
        assert breaker.state == "open"
        await anyio.sleep(2.0)
        assert (breaker.state, server.checks) == ("half-open", [11.0, 21.5])
        await pool.submit(1)


@pytest.mark.parametrize("end", ["leave", "cancel"])
async def test_a_check_keeps_no_run_alive(virtual_time: VirtualTime, end: str):
    async def never() -> None:
        await anyio.sleep_forever()

    breaker = CircuitBreaker(1, cooldown=1, check=never)
    async with qanat.Pool(Server(virtual_time, up_at=900.0).call, limits=breaker) as pool:
        await pool.submit(0).outcome()
        await anyio.sleep(3.0)
        if end == "cancel":
            pool.submit(1)
            pool.cancel()
    assert virtual_time.now() == 4.0
    assert breaker._checkers == []
    # Another run with nobody to be asked for does not wait either.
    outcome = (await qanat.collect(Server(virtual_time, up_at=0.0).call, range(0), limits=breaker))[:]
    assert outcome == []


def raises(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        raise error

    return check


@pytest.mark.parametrize("kind", ["raises", "cancelled", "slow", "false"])
async def test_a_bad_check_keeps_it_open(
    virtual_time: VirtualTime, kind: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, "qanat")
    bad: dict[str, Callable[[], Awaitable[Any]]] = {
        "raises": raises(LookupError("no answer")),
        "cancelled": raises(asyncio.CancelledError()),
        "slow": partial(anyio.sleep, 60.0),
        "false": _false,
    }
    checks: list[float] = []

    async def check() -> Any:
        checks.append(virtual_time.now())
        if len(checks) == 1:
            return await bad[kind]()
        return None

    breaker = CircuitBreaker(1, cooldown=5, check=check)
    outcomes = await qanat.collect(
        Server(virtual_time, up_at=2.0).call, range(2), concurrency=1, limits=breaker
    )
    assert [outcome.ok for outcome in outcomes] == [False, True]
    assert checks == [6.0, 21.0 if kind == "slow" else 11.0]
    assert len(caplog.records) == (0 if kind == "false" else 1)


def _is_trio() -> bool:
    return "trio" in anyio.get_cancelled_exc_class().__module__


async def _false() -> bool:
    return False


async def test_a_plain_check_is_called_in_a_thread(virtual_time: VirtualTime):
    threads: list[str] = []

    def check() -> bool:
        threads.append(threading.current_thread().name)
        if len(threads) == 1:
            raise OSError("no answer")
        return len(threads) > 2

    server = Server(virtual_time, up_at=2.0)
    await qanat.collect(
        server.call, range(2), concurrency=1, limits=CircuitBreaker(1, cooldown=5, check=check)
    )
    assert server.calls == [0.0, 16.0]
    assert threading.current_thread().name not in threads


async def test_a_plain_check_may_give_an_awaitable(virtual_time: VirtualTime):
    server = Server(virtual_time, up_at=5.0)
    breaker = CircuitBreaker(1, cooldown=5, check=lambda: server.check())
    await qanat.collect(server.call, range(2), concurrency=1, limits=breaker)
    assert (server.checks, server.calls) == ([6.0], [0.0, 6.5])


async def test_each_lane_has_its_own_check_and_a_forgotten_lane_none(virtual_time: VirtualTime):
    server = Server(virtual_time, up_at=900.0)

    async def handler(item: str) -> None:
        if item == "dead":
            await server.call(item)

    made: list[CircuitBreaker] = []

    def limits(_: str) -> CircuitBreaker:
        made.append(CircuitBreaker(1, cooldown=10, window=25, check=server.check))
        return made[-1]

    async with qanat.Pool(handler, lane=lambda item: item, lane_limits=limits) as pool:
        await pool.submit("dead").outcome()
        await anyio.sleep(15.0)
        assert (server.checks, len(made[0]._checkers)) == ([11.0], 1)
        await anyio.sleep(21.0)
        assert (server.checks, virtual_time.now()) == ([11.0, 21.5, 32.0], 37.0)
        # The first job that ends after the time for which it is remembered sees to it.
        await pool.submit("well")
        await anyio.sleep(50.0)
    assert (server.checks, made[0]._checkers) == ([11.0, 21.5, 32.0], [])


async def test_when_a_run_ends_another_one_takes_the_check_over(virtual_time: VirtualTime):
    server = Server(virtual_time, up_at=15.0)
    breaker = CircuitBreaker(1, cooldown=10, check=server.check)
    async with qanat.Pool(server.call, limits=breaker) as second:
        async with qanat.Pool(server.call, limits=breaker) as first:
            await first.submit(0).outcome()
            waiting = second.submit(1)
            await anyio.sleep(5.0)
        assert server.checks == []
        await waiting
    assert (server.checks, server.calls) == ([11.0, 21.5], [0.0, 22.0])


async def test_a_run_that_comes_to_an_open_one_calls_the_check(virtual_time: VirtualTime):
    server = Server(virtual_time, up_at=15.0)
    breaker = CircuitBreaker(1, cooldown=10, check=server.check)
    await qanat.collect(server.call, [0], limits=breaker)
    await anyio.sleep(20.0)
    await qanat.collect(server.call, [1], limits=breaker)
    assert (server.checks, server.calls) == ([21.0], [0.0, 21.5])


async def test_a_check_that_ends_its_own_task_leaves_it_to_the_cooldown(virtual_time: VirtualTime):
    if _is_trio():
        pytest.skip("tasks cannot be cancelled by themselves on trio")

    async def check() -> bool:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return False

    server = Server(virtual_time, up_at=2.0)
    breaker = CircuitBreaker(1, cooldown=10, check=check)
    await qanat.collect(server.call, range(2), concurrency=1, limits=breaker)
    assert server.calls[1] >= 11.0


async def test_a_check_that_hangs_in_its_thread_is_not_called_again_meanwhile(virtual_time: VirtualTime):
    begun, go_on = threading.Semaphore(0), threading.Event()
    called: list[float] = []

    def check() -> None:
        called.append(virtual_time.now())
        begun.release()
        go_on.wait(10.0)

    breaker = CircuitBreaker(1, cooldown=5, check=check)
    async with qanat.Pool(Server(virtual_time, up_at=1.5).call, limits=breaker) as pool:
        await pool.submit(0).outcome()
        await virtual_time.advance(5.0, wait_outside=False)
        await anyio.to_thread.run_sync(begun.acquire)
        # It is given up at 16, would be called again at 21, and then at 26.
        await virtual_time.advance(15.5, wait_outside=False)
        assert (called, breaker.check_due_at) == ([6.0], 26.0)
        go_on.set()
        await pool.submit(1)
    assert called == [6.0, 26.0]


async def test_a_check_that_hangs_in_its_thread_does_not_hold_up_another_run(virtual_time: VirtualTime):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def check() -> None:
        begun.release()
        go_on.wait(10.0)

    breaker = CircuitBreaker(1, cooldown=5, check=check)
    async with qanat.Pool(Server(virtual_time, up_at=2.0).call, limits=breaker) as pool:
        await pool.submit(0).outcome()
        await virtual_time.advance(5.0, wait_outside=False)
        await anyio.to_thread.run_sync(begun.acquire)
        pool.cancel()
        go_on.set()
    assert breaker._checkers == []


async def test_a_breaker_that_several_lanes_share_is_checked_until_the_last_is_forgotten(
    virtual_time: VirtualTime,
):
    server = Server(virtual_time, up_at=15.0)
    breaker = CircuitBreaker(1, cooldown=10, check=server.check)
    async with qanat.Pool(
        server.call, lane=lambda item: item, lane_limits=lambda _: breaker, retry=FOR_EVER
    ) as pool:
        handles = [pool.submit(item) for item in "abc"]
        handles[0].cancel()
        for handle in handles[1:]:
            await handle
    assert server.checks == [11.0, 21.5]


# --- threads -------------------------------------------------------------------------------------


async def test_a_timeout_in_a_thread_is_a_failure_although_the_thread_ends_well(virtual_time: VirtualTime):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def handler(_: int) -> str:
        begun.release()
        go_on.wait(10.0)
        return "late"

    breaker = CircuitBreaker(1, cooldown=10)
    async with qanat.Pool(handler, limits=breaker, timeout=2.0) as pool:
        handle = pool.submit(0)
        await anyio.to_thread.run_sync(begun.acquire)
        await virtual_time.advance(2.0, wait_outside=False)
        assert isinstance((await handle.outcome()).error, JobTimeoutError)
        go_on.set()
    assert breaker.state == "open"


# --- nothing is left behind ----------------------------------------------------------------------


async def test_a_breaker_that_outlives_its_runs_keeps_none_of_them(virtual_time: VirtualTime):
    class Item:
        pass

    server = Server(virtual_time, up_at=900.0)
    breaker = CircuitBreaker(1, check=server.check, fail_fast=True)
    items = [Item() for _ in range(3)]
    gone = [weakref.ref(item) for item in items]
    await qanat.collect(server.call, items, concurrency=1, limits=breaker)
    items.clear()
    await anyio.lowlevel.checkpoint()  # cancelling the check leaves a callback in the loop for one turn
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3
    assert (breaker._listeners, breaker._checkers) == ([], [])
