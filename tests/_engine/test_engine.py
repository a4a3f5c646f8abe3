"""The engine's own life: reading, stopping, cancelling, its carriers and its alarm."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Retry, constant
from qanat._app.hosting import add_task, hosted, make_engine
from qanat._app.rules import Rules
from qanat._core.job import Job
from qanat._engine.carrier import Carrier
from qanat._engine.engine import Engine
from qanat._engine.intake import Callbacks, Intake, nothing_unread
from tests._app.diary import Diary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from qanat._core.outcome import Outcome
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


class Run:
    """An engine, its outcomes and a source, as `collect` puts them together."""

    def __init__(self, handler: Callable[..., Any], items: Any, **options: Any) -> None:
        rules = Rules(**options)
        self.outcomes: list[Outcome[Any, Any]] = []
        self.engine: Engine = make_engine(rules, append=self.outcomes.append, name="test")
        task = add_task(self.engine, handler, rules)
        self.intake = Intake(
            items, self.engine, task, callbacks=Callbacks(rules.lane, rules.priority, rules.id),
            buffer=rules.buffer, chooses=rules.chooses, unread=nothing_unread,
        )  # fmt: skip

    async def until_over(self, act: Callable[[Engine], object], after: float) -> list[tuple[int, str]]:
        """Run, do something in the midst of it, and return how the jobs ended, by position."""
        async with hosted(self.engine):
            self.engine.read(self.intake)
            await anyio.sleep(after)
            act(self.engine)
            await self.engine.wait_over()
        return sorted((outcome.index, outcome.state) for outcome in self.outcomes)


def numbers(count: int) -> Iterator[int]:
    yield from range(count)


async def awaited(_count: int, pause: float = 0.0) -> AsyncIterator[int]:
    item = 0
    while True:
        yield item
        item += 1
        await anyio.sleep(pause)


# --- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [range, numbers, awaited])
async def test_stopping_lets_what_runs_go_on_and_starts_nothing_more(virtual_time: VirtualTime, source: Any):
    diary = Diary(virtual_time)
    ended = await Run(diary.taking(2.0), source(20), concurrency=2, buffer=5).until_over(Engine.stop, 1.0)
    assert [pair for pair in ended if pair[1] == "done"] == [(0, "done"), (1, "done")]
    assert {state for _, state in ended[2:]} <= {"cancelled"}
    assert (diary.items, virtual_time.now()) == ([0, 1], 2.0)


async def test_stopping_cancels_what_was_read_and_waits(virtual_time: VirtualTime):
    run = Run(Diary(virtual_time).taking(2.0), [3, 1, 2], concurrency=1, order="lifo")
    assert await run.until_over(Engine.stop, 1.0) == [(0, "cancelled"), (1, "cancelled"), (2, "done")]


async def test_stopping_an_awaited_source_that_waits_ends_the_run(virtual_time: VirtualTime):
    run = Run(Diary(virtual_time).taking(2.0), awaited(20, pause=100.0))
    assert await run.until_over(Engine.stop, 1.0) == [(0, "done")]
    assert virtual_time.now() == 2.0


async def test_stopping_before_an_awaited_source_was_begun_reads_nothing(virtual_time: VirtualTime):
    run = Run(Diary(virtual_time).taking(2.0), awaited(1))
    async with hosted(run.engine):
        run.engine.read(run.intake)
        run.engine.stop()
        await run.engine.wait_over()
    assert (run.intake.count, run.outcomes) == (0, [])


async def test_an_attempt_that_fails_after_the_stop_is_not_tried_again(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        await anyio.sleep(2.0)
        raise KeyError

    run = Run(handler, [1], retry=Retry(5, backoff=constant(50.0)))
    assert await run.until_over(Engine.stop, 1.0) == [(0, "cancelled")]
    assert virtual_time.now() == 2.0
    assert run.outcomes[0].attempts == 1


async def test_stopping_closes_a_generator(virtual_time: VirtualTime):
    closed: list[bool] = []

    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    await Run(Diary(virtual_time).taking(2.0), source(), concurrency=1).until_over(Engine.stop, 1.0)
    assert closed == [True]


async def test_stopping_an_engine_that_is_over_does_nothing(virtual_time: VirtualTime):
    run = Run(Diary(virtual_time).taking(1.0), [1])
    assert await run.until_over(Engine.stop, 5.0) == [(0, "done")]


async def test_stopping_twice_is_stopping(virtual_time: VirtualTime):
    def twice(engine: Engine) -> None:
        engine.stop()
        engine.stop()

    assert await Run(Diary(virtual_time).taking(2.0), [1]).until_over(twice, 1.0) == [(0, "done")]


# --- cancelling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [range, numbers, awaited])
async def test_cancelling_ends_what_runs(virtual_time: VirtualTime, source: Any):
    diary = Diary(virtual_time)
    ended = await Run(diary.taking(2.0), source(20), concurrency=2, buffer=5).until_over(Engine.cancel, 1.0)
    assert {state for _, state in ended} == {"cancelled"}
    assert (diary.ended, virtual_time.now()) == ([], 1.0)


async def test_the_first_reason_for_cancelling_stands(virtual_time: VirtualTime):
    first, second = KeyError(1), KeyError(2)

    def twice(engine: Engine) -> None:
        engine.cancel(first)
        engine.cancel(second)

    run = Run(Diary(virtual_time).taking(2.0), range(3))
    await run.until_over(twice, 1.0)
    assert run.engine.failure is first


async def test_cancelling_waits_for_threads(virtual_time: VirtualTime):
    begun, go_on = threading.Event(), threading.Event()

    def handler(item: int) -> int:
        begun.set()
        go_on.wait(10.0)
        return item

    run = Run(handler, range(3), concurrency=1)
    async with hosted(run.engine):
        run.engine.read(run.intake)
        await anyio.to_thread.run_sync(begun.wait)
        run.engine.cancel()
        await virtual_time.advance(3.0, wait_outside=False)
        assert not run.engine.over
        assert [outcome.state for outcome in run.outcomes] == ["cancelled"]
        assert len(run.engine.outside.left_behind) == 1
        go_on.set()
        await run.engine.wait_over()
    assert run.engine.outside.left_behind == []


async def test_a_job_that_is_unknown_cannot_be_cancelled(virtual_time: VirtualTime):
    run = Run(Diary(virtual_time).taking(2.0), [1])

    def cancel_another(engine: Engine) -> None:
        stranger: Job[Any] = Job(9, 9, 9, run.intake.task)
        assert not engine.cancel_job(stranger)

    assert await run.until_over(cancel_another, 1.0) == [(0, "done")]


# --- callbacks -------------------------------------------------------------------------------------


async def test_who_asks_is_told_of_failures_and_of_the_end(virtual_time: VirtualTime):
    told: list[Any] = []
    run = Run(Diary(virtual_time).failing([None, KeyError()]), range(3), concurrency=1)
    run.engine.when_failed(lambda outcome: told.append(("first", outcome.index)))
    run.engine.when_failed(lambda outcome: told.append(("second", outcome.index)))
    run.engine.when_over(lambda: told.append("over"))
    await run.until_over(lambda engine: None, 0.0)
    assert sorted(told[:2]) == [("first", 1), ("second", 1)]
    assert told[2:] == ["over"]


async def test_waiting_for_the_end_of_what_is_over_returns_at_once(virtual_time: VirtualTime):
    run = Run(Diary(virtual_time).taking(1.0), [1])
    await run.until_over(lambda engine: None, 0.0)
    await run.engine.wait_over()


async def test_nothing_is_started_before_an_engine_is_open(virtual_time: VirtualTime):
    engine = make_engine(Rules(), name="test")
    engine.poke()
    engine.set_alarm(1.0)
    engine.cancel()
    engine.end()
    engine.end()
    assert engine.over
    assert not engine.carriers
    await engine.close()


async def test_an_engine_may_be_held(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    run = Run(diary.taking(1.0), range(3), concurrency=1)
    async with hosted(run.engine):
        run.engine.hold(True)
        run.engine.read(run.intake)
        await anyio.sleep(5.0)
        assert diary.began == []
        run.engine.hold(False)
        run.engine.hold(False)
        await run.engine.wait_over()
    assert diary.times == [5.0, 6.0, 7.0]


# --- carriers ----------------------------------------------------------------------------------------


async def test_handlers_that_do_not_wait_are_carried_by_few(virtual_time: VirtualTime):
    most: list[int] = []

    async def handler(item: int) -> None:
        assert pool._engine is not None
        most.append(len(pool._engine.carriers))

    async with qanat.Pool(handler, concurrency=50) as pool:
        for item in range(500):
            pool.submit(item)
    assert max(most) <= 5


async def test_there_are_no_more_carriers_than_slots(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, concurrency=3) as pool:
        for _ in range(20):
            pool.submit(1.0)
        await anyio.sleep(0.5)
        assert pool._engine is not None
        assert len(pool._engine.carriers) == 3


@pytest.mark.virtual_time("asyncio")
async def test_jobs_that_wait_take_all_slots_within_few_turns_of_the_loop(virtual_time: VirtualTime):
    """Called up one in each turn, 200 handlers of 10 ms took half a second until all were at work."""
    running = 0

    async def handler(_item: int) -> None:
        nonlocal running
        running += 1
        await anyio.sleep(60.0)

    async with qanat.Pool(handler, concurrency=64) as pool:
        for item in range(100):
            pool.submit(item)
        turns = 0
        while running < 64:
            await anyio.lowlevel.checkpoint()
            turns += 1
        assert turns < 24
        pool.cancel()
    assert running == 64


@pytest.mark.virtual_time("asyncio")
async def test_no_more_are_called_up_than_jobs_wait(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    idle = 0
    wait = Carrier._idle

    async def counted(carrier: Carrier) -> bool:
        nonlocal idle
        idle += 1
        return await wait(carrier)

    monkeypatch.setattr(Carrier, "_idle", counted)
    async with qanat.Pool(anyio.sleep, concurrency=64) as pool:
        for _ in range(32):
            pool.submit(60.0)
        await anyio.sleep(1.0)
        assert idle <= 2
        pool.cancel()


async def test_idle_carriers_above_a_smaller_size_go_home(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, concurrency=10) as pool:
        for _ in range(10):
            pool.submit(1.0)
        await pool.drain()
        pool.resize(2)
        await anyio.wait_all_tasks_blocked()
        assert pool._engine is not None
        assert len(pool._engine.carriers) <= 2


async def test_jobs_start_from_the_alarm_when_no_carrier_is_idle(virtual_time: VirtualTime):
    """All carriers are gone or busy when the next job falls due, so a task is started by a timer."""
    async with qanat.Pool(anyio.sleep, concurrency=2) as pool:
        pool.submit(10.0)
        late = pool.submit(1.0, delay=3.0)
        await anyio.sleep(1.0)
        engine = pool._engine
        assert engine is not None
        pool.resize(1)
        await anyio.wait_all_tasks_blocked()
        assert not engine.idle
        assert len(engine.carriers) == 1
        engine.dispatcher.resize(2, virtual_time.now())
        engine.called = False
        engine.set_alarm(3.0)
        outcome = await late.outcome()
        assert (outcome.started_at, outcome.ended_at) == (3.0, 4.0)


@pytest.mark.virtual_time("asyncio")
async def test_a_task_may_be_started_from_a_callback_of_the_loop(virtual_time: VirtualTime):
    """There is no current task then, by which AnyIO tells the loops apart."""
    async with qanat.Pool(anyio.sleep, concurrency=2) as pool:
        asyncio.get_running_loop().call_later(1.0, lambda: pool.submit(2.0))
        await anyio.sleep(1.5)
        await pool.drain()
        assert virtual_time.now() == 3.0


@pytest.mark.virtual_time("asyncio")
async def test_without_sniffio_tasks_are_started_just_so(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    import sys

    monkeypatch.delitem(sys.modules, "sniffio", raising=False)
    assert (await qanat.collect(anyio.sleep, [1.0] * 3)).values() == [None] * 3
    assert (await qanat.collect(str, range(3))).values() == ["0", "1", "2"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.real
def test_real_time_does_the_same(backend: str):
    async def main() -> list[Any]:
        outcomes = await qanat.collect(
            anyio.sleep, [0.01, 5.0, 0.01], timeout=0.05, rate="50/s evenly", concurrency=2,
            retry=Retry(1, backoff=constant(0.01)),
        )  # fmt: skip
        return [(outcome.state, outcome.attempts) for outcome in outcomes]

    assert anyio.run(main, backend=backend) == [("done", 1), ("dead", 2), ("done", 1)]


@pytest.mark.real
def test_uvloop_does_the_same():
    uvloop = pytest.importorskip("uvloop")

    async def main() -> list[Any]:
        outcomes = await qanat.collect(
            asyncio.sleep, [0.01, 5.0, 0.01], timeout=0.05, rate="50/s evenly", concurrency=2,
            retry=Retry(1, backoff=constant(0.01)),
        )  # fmt: skip
        async with qanat.Pool(asyncio.sleep) as pool:
            pool.submit(0.01, delay=0.02)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                await qanat.collect(asyncio.sleep, [9.0])
        return [(outcome.state, outcome.attempts) for outcome in outcomes]

    assert uvloop.run(main()) == [("done", 1), ("dead", 2), ("done", 1)]
