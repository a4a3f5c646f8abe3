"""Places of workers, time in which a run stands still, and figures of real runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat._app.hosting import hosted, make_engine, make_intake
from qanat._app.progress.figures import Figures, figures_of
from qanat._app.progress.rates import Stood
from qanat._app.progress.shapes import ErrorTally
from qanat._app.progress.workers import Places
from qanat._app.rules import Rules

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat.testing import VirtualTime


async def looks(
    handler: Callable[[Any], Any], items: Any, times: list[float], *, total: int | None = None, room: int = 10,
    **rules: Any,
) -> list[Figures]:  # fmt: skip
    """Return the figures of a run at these times."""
    given = Rules(**rules)
    tally, places, seen = ErrorTally(), Places(), list[Figures]()
    engine = make_engine(given, append=list[Any]().append, on_failure=tally.add, handler=handler, name="test")
    engine.when_retried(lambda job, error: tally.add_retry(job, error, engine.now()))
    begun = engine.now()
    intake = make_intake(engine, handler, items, given, unread=lambda: 0)
    async with hosted(engine):
        engine.read(intake)
        for at in times:
            await anyio.sleep(begun + at - engine.now())
            seen.append(figures_of(engine, begun, total, tally, places, room, whole=False))
        engine.cancel()
        await engine.wait_over()
    return seen


def items_of(figures: Figures) -> list[Any]:
    return [None if row is None else row.item for row in figures.crowd.rows]


async def test_a_worker_keeps_its_place(virtual_time: VirtualTime):
    first, second = await looks(anyio.sleep, [2.0, 5.0, 2.0, 7.0, 9.0], [1.0, 3.0], concurrency=3)
    assert items_of(first) == [2.0, 5.0, 2.0]
    assert items_of(second)[1] == 5.0
    assert sorted(items_of(second)) == [5.0, 7.0, 9.0]


async def test_those_without_a_place_are_counted(virtual_time: VirtualTime):
    (seen,) = await looks(anyio.sleep, [9.0] * 30, [1.5], concurrency=20, room=4)
    assert (len(seen.crowd.rows), seen.crowd.others, seen.crowd.jobs) == (4, 16, 20)
    assert seen.crowd.oldest_at is not None
    assert seen.at - seen.crowd.oldest_at == 1.5


async def test_a_place_is_given_to_the_next(virtual_time: VirtualTime):
    first, second, third = await looks(anyio.sleep, [1.0, 3.0], [0.5, 1.5, 2.0], concurrency=2)
    assert items_of(first) == [1.0, 3.0]
    assert items_of(second) == items_of(third) == [None, 3.0]


async def test_attempts_and_what_they_say(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        job = qanat.current_job()
        job.describe(f"attempt {job.attempt}")
        await anyio.sleep(1.0)
        raise OSError(f"no {item}")

    retry = qanat.Retry(2, backoff=qanat.constant(1.0))
    (seen,) = await looks(handler, [1, 2], [2.5], retry=retry, concurrency=2)
    assert [(row.attempt, row.doing) for row in seen.crowd.rows if row] == [(2, "attempt 2")] * 2
    assert [(group.count, group.again) for group in seen.errors] == [(0, 2)]


async def test_retries_at_once_are_told_too(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        if qanat.current_job().attempt < 3:
            raise OSError("again")
        await anyio.sleep(5.0)

    (seen,) = await looks(handler, [1], [1.0], retry=qanat.Retry(3, backoff=qanat.constant(0)))
    assert [(group.count, group.again) for group in seen.errors] == [(0, 2)]


async def test_the_members_of_batches_count(virtual_time: VirtualTime):
    async def handler(items: list[int]) -> list[int]:
        await anyio.sleep(2.0)
        return items

    (seen,) = await looks(handler, range(10), [1.0], batch=qanat.Batch(4), concurrency=2, total=10)
    assert [row.members for row in seen.crowd.rows if row] == [4, 4]
    assert (seen.crowd.jobs, seen.running, seen.total) == (8, 2, 10)


async def test_lanes_and_targets(virtual_time: VirtualTime):
    balance = qanat.Balance({"eu": 1, "us": 1}, breaker=qanat.CircuitBreaker())
    (seen,) = await looks(
        anyio.sleep, [5.0] * 6, [1.0], concurrency=4, lane=lambda _: "a",
        lane_limits=lambda _: qanat.Concurrency(2), limits=balance,
    )  # fmt: skip
    assert [(lane.name, lane.running, lane.waiting, lane.cause) for lane in seen.lanes] == [
        ("a", 2, 4, "concurrency")
    ]
    assert {(target.name, target.running, target.state) for target in seen.targets} == {
        ("eu", 1, "closed"), ("us", 1, "closed"),
    }  # fmt: skip


async def test_many_lanes_are_not_told(virtual_time: VirtualTime):
    (seen,) = await looks(anyio.sleep, [float(5 + n) for n in range(20)], [1.0], lane=lambda item: item)
    assert seen.lanes == ()


async def test_what_is_known_of_a_source_without_a_size(virtual_time: VirtualTime):
    first, second = await looks(anyio.sleep, iter([1.0] * 10), [0.5, 4.5], concurrency=2)
    assert first.total is None
    assert first.found is not None
    assert second.found in {None, 10}


async def test_why_items_wait_that_nobody_has_read(virtual_time: VirtualTime):
    (seen,) = await looks(anyio.sleep, [5.0] * 10, [1.0], concurrency=2, total=10)
    assert (seen.waiting, str(seen.reason)) == (8, "concurrency 2")


async def test_kinds_of_a_pool(virtual_time: VirtualTime):
    async def parse(page: int) -> None:
        await anyio.sleep(5.0)

    async with qanat.Pool(anyio.sleep, concurrency=3) as pool:
        for seconds in (0.5, 9.0):
            pool.submit(seconds)
        await anyio.sleep(1.0)
        for page in range(4):
            pool.call(parse, page)
        await anyio.sleep(1.0)
        engine = pool._engine
        assert engine is not None
        seen = figures_of(engine, 0.0, None, ErrorTally())
        kinds = [(kind.name, kind.done, kind.running, kind.waiting, kind.known) for kind in seen.kinds]
        assert kinds == [("sleep", 1, 1, 0, 2), (seen.kinds[1].name, 0, 2, 2, 4)]
        pool.cancel()


@pytest.mark.real
async def test_a_call_past_its_time_is_shown_and_not_counted_twice():
    over = threading.Event()

    def hang(item: int) -> None:
        qanat.current_job().describe("hanging")
        over.wait(10)

    tally, places = ErrorTally(), Places()
    given = Rules(timeout=0.05, concurrency=1)
    engine = make_engine(given, append=list[Any]().append, on_failure=tally.add, handler=hang, name="test")
    intake = make_intake(engine, hang, [1, 2], given, unread=lambda: 0)
    async with hosted(engine):
        engine.read(intake)
        with anyio.fail_after(10):
            while not engine.dispatcher.failed:
                await anyio.sleep(0.01)
        seen = figures_of(engine, 0.0, 2, tally, places, 5)
        over.set()
        await engine.wait_over()
    assert seen.total == 2
    assert [(row.is_late, row.doing) for row in seen.crowd.rows if row] == [(True, "hanging")]


def test_time_in_which_it_stands_is_told_apart() -> None:
    stood = Stood()
    for at, cause, running in (
        (0.0, None, 3), (1.0, "paused", 1), (2.0, "paused", 0), (3.0, "paused", 0), (4.0, "throttled", 0),
        (5.0, "throttled", 1), (6.0, "rate", 0), (7.0, "paused", 0),
    ):  # fmt: skip
        stood.look(cause, running, at)
    assert stood.seconds == {"paused": 1.0, "throttled": 1.0}
    assert stood.is_standing
    assert stood.total == 2.0
