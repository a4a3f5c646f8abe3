"""`Adaptive` in runs and pools: carriers as they are needed, and what a job is told to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import qanat
from qanat import Adaptive, Rules
from qanat._app.hosting import add_task, hosted, make_engine, make_intake
from qanat._app.progress.figures import ErrorTally, figures_of
from qanat._engine.intake import nothing_unread
from qanat.testing import SimulatedServer

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def test_a_run_finds_the_knee_of_its_server(virtual_time: VirtualTime):
    server, limit = SimulatedServer(40), Adaptive(1, 500)
    assert await qanat.map(server.handle, range(2000), concurrency=limit) == list(range(2000))
    assert 32 <= limit.current <= 48
    # Fixed at the knee it would take 50; what is found out costs the rest.
    assert virtual_time.now() < 65.0


async def test_carriers_are_as_many_as_are_needed_and_reach_the_highest(virtual_time: VirtualTime):
    limit = Adaptive(1, 100)
    rules = Rules(concurrency=limit)
    engine = make_engine(rules, append=lambda _: None, name="test")
    seen, allowed = set[int](), set[int]()

    async def handler(_item: int) -> None:
        seen.add(len(engine.carriers))
        allowed.add(limit.current)
        assert engine.dispatcher.running <= limit.current
        # Who begins may call one up before it is known whether there is a job for it; trio lets those that
        # are due begin in any order, so more than one can be on the way.
        assert len(engine.carriers) <= 2 * limit.current
        await anyio.sleep(1.0)

    intake = make_intake(engine, handler, range(1000), rules, unread=nothing_unread)
    async with hosted(engine):
        engine.read(intake)
        await engine.wait_over()
    assert max(allowed) == 100
    assert min(seen) <= 2
    assert max(seen) >= 100


async def test_a_job_waits_for_concurrency_and_says_so(virtual_time: VirtualTime):
    async with qanat.Pool(lambda_free_sleep, concurrency=Adaptive(1, 5)) as pool:
        handles = [pool.submit(number) for number in range(3)]
        await anyio.sleep(0.5)
        reason = handles[1].why()
        assert reason is not None
        assert (reason.cause, reason.limit, reason.until) == ("concurrency", "1 to 5 at once", None)
        assert pool.why() == reason
    assert set((await handles[2].outcome()).waits) == {"concurrency"}


async def lambda_free_sleep(_item: int) -> None:
    await anyio.sleep(1.0)


async def test_a_pool_that_adapts_is_not_resized(virtual_time: VirtualTime):
    async with qanat.Pool(lambda_free_sleep, concurrency=Adaptive(1, 5)) as pool:
        with pytest.raises(
            TypeError, match=r"^n cannot be set, got 3: the Pool's concurrency is Adaptive\(1, 5\)"
        ):
            pool.resize(3)


async def test_is_a_limit_among_others_and_of_lanes(virtual_time: VirtualTime):
    limits: dict[str, Adaptive] = {}

    def of_lane(lane: str) -> Adaptive:
        return limits.setdefault(lane, Adaptive(1, 50))

    servers = {"a": SimulatedServer(4), "b": SimulatedServer(20)}

    async def handler(item: tuple[str, int]) -> None:
        await servers[item[0]].handle(item)

    items = [("a", number) for number in range(240)] + [("b", number) for number in range(900)]
    await qanat.collect(
        handler,
        items,
        concurrency=100,
        lane=lambda item: item[0],
        lane_limits=of_lane,
        limits=Adaptive(20, 90),
    )
    assert 3 <= limits["a"].current <= 6
    assert 15 <= limits["b"].current <= 25


async def test_what_throttles_is_left_alone(virtual_time: VirtualTime):
    server, limit = SimulatedServer(100, limit=10), Adaptive(1, 100)
    outcomes = await qanat.collect(server.handle, range(300), concurrency=limit)
    assert len(outcomes.values()) == 300
    assert limit.current <= 11


async def test_the_figures_say_how_many_may_run_now(virtual_time: VirtualTime):
    async def told(rules: Rules) -> int | None:
        engine = make_engine(rules, name="test")
        add_task(engine, lambda_free_sleep, rules)
        async with hosted(engine):
            return figures_of(engine, 0.0, None, ErrorTally()).at_once

    assert await told(Rules(concurrency=Adaptive(3, 9))) == 3
    assert await told(Rules(concurrency=Adaptive(3, 9), limits=Adaptive(2, 9))) == 2
    assert await told(Rules(concurrency=3)) is None
