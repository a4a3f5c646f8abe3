"""Handlers that wait for jobs of Pools: a wait that can never end is told, and no other."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import PoolDeadlockError
from qanat._app import waiting

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")
on_asyncio = pytest.mark.virtual_time("asyncio")


class Pools:
    """Pools whose items are coroutine functions."""

    def __init__(self, *sizes: int, **rules: Any) -> None:
        self.pools = [qanat.Pool[Any, Any](self._run, concurrency=size, **rules) for size in sizes]

    async def _run(self, item: Any) -> Any:
        return await item()

    async def __aenter__(self) -> list[qanat.Pool[Any, Any]]:
        for pool in self.pools:
            await pool.open()
        return self.pools

    async def __aexit__(self, *_: object) -> None:
        for pool in reversed(self.pools):
            await pool.aclose()


async def leaf() -> str:
    return "leaf"


async def test_a_handler_that_waits_for_its_own_pool_without_a_slot_is_told(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> str:
            with pytest.raises(PoolDeadlockError, match="raise concurrency"):
                await pool.submit(leaf)
            return "told"

        assert await pool.submit(outer) == "told"
        assert pool.stats().done == 2


async def test_the_error_fails_the_handler_that_does_not_catch_it(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):
        inner: list[Any] = []

        async def outer() -> Any:
            inner.append(pool.submit(leaf))
            return await inner[0]

        with pytest.raises(PoolDeadlockError):
            await pool.submit(outer)
        assert await inner[0] == "leaf"


async def test_the_error_is_a_runtime_error_and_names_the_job(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> Any:
            return await pool.submit(leaf, id="inner")

        with pytest.raises(RuntimeError, match="'inner'"):
            await pool.submit(outer)


async def test_outcomes_are_waits_like_any_other(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> Any:
            return await pool.submit(leaf).outcome()

        with pytest.raises(PoolDeadlockError):
            await pool.submit(outer)


async def test_all_handlers_of_a_knot_are_told(virtual_time: VirtualTime):
    async with Pools(3) as (pool,):

        async def outer() -> Any:
            await anyio.sleep(1.0)
            return await pool.submit(leaf)

        outcomes = [await handle.outcome() for handle in [pool.submit(outer) for _ in range(3)]]
    assert [type(outcome.error) for outcome in outcomes] == [PoolDeadlockError] * 3
    assert virtual_time.now() == 1.0


async def test_a_job_that_waits_for_itself_is_told(virtual_time: VirtualTime):
    handles: list[Any] = []
    async with Pools(5) as (pool,):

        async def outer() -> Any:
            return await handles[0]

        handles.append(pool.submit(outer))
        with pytest.raises(PoolDeadlockError):
            await handles[0]


async def test_two_jobs_that_wait_for_each_other_are_told(virtual_time: VirtualTime):
    handles: list[Any] = []
    async with Pools(5) as (pool,):

        async def outer(other: int) -> Any:
            await anyio.sleep(1.0)
            return await handles[other]

        handles += [pool.submit(lambda: outer(1)), pool.submit(lambda: outer(0))]
        outcomes = [await handle.outcome() for handle in handles]
    assert PoolDeadlockError in {type(outcome.error) for outcome in outcomes}


async def test_two_pools_that_wait_for_each_other_are_told(virtual_time: VirtualTime):
    async with Pools(1, 1) as (left, right):

        async def in_left() -> Any:
            await anyio.sleep(1.0)
            return await right.submit(leaf)

        async def in_right() -> Any:
            await anyio.sleep(1.0)
            return await left.submit(leaf)

        outcomes = [await handle.outcome() for handle in (left.submit(in_left), right.submit(in_right))]
    assert PoolDeadlockError in {type(outcome.error) for outcome in outcomes}
    assert virtual_time.now() == 1.0


async def test_a_knot_three_pools_deep_is_told(virtual_time: VirtualTime):
    async with Pools(1, 1, 1) as pools:

        async def down(depth: int) -> Any:
            if depth == len(pools):
                return await pools[0].submit(leaf)
            return await pools[depth].submit(lambda: down(depth + 1))

        with pytest.raises(PoolDeadlockError):
            await pools[0].submit(lambda: down(1))


async def test_a_knot_deep_inside_of_one_pool_is_told(virtual_time: VirtualTime):
    async with Pools(4) as (pool,):

        async def down(depth: int) -> Any:
            return await pool.submit(lambda: down(depth + 1))

        with pytest.raises(PoolDeadlockError):
            await pool.submit(lambda: down(1))


@on_asyncio
async def test_a_handler_that_gathers_handles_of_its_own_pool_is_told(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> Any:
            return await asyncio.gather(pool.submit(leaf), pool.submit(leaf))

        with pytest.raises(PoolDeadlockError):
            await pool.submit(outer)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin eagerly from Python 3.12 on")
@on_asyncio
async def test_a_handler_that_gathers_eager_tasks_is_told(virtual_time: VirtualTime):
    """They wait before the handler itself does."""
    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
    async with Pools(1) as (pool,):

        async def outer() -> Any:
            return await asyncio.gather(pool.submit(leaf), pool.submit(leaf))

        with pytest.raises(PoolDeadlockError):
            await pool.submit(outer)


@on_asyncio
@pytest.mark.slow
async def test_a_handler_may_gather_thousands(virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch):
    """It is found out once for all of them whether the wait can end: each time costs a look at all."""
    looked: list[object] = []
    monkeypatch.setattr(waiting, "_find_deadlock", looked.append)
    async with Pools(1, 3000) as (own, other):

        async def slow() -> None:
            await asyncio.sleep(1.0)

        async def outer() -> int:
            return len(await asyncio.gather(*[other.submit(slow) for _ in range(3000)]))

        assert await own.submit(outer) == 3000
    assert len(looked) == 1


@on_asyncio
async def test_a_gather_with_something_else_in_it_can_move(virtual_time: VirtualTime):
    async with Pools(2) as (pool,):

        async def slow() -> str:
            await asyncio.sleep(5.0)
            return "slow"

        async def outer() -> Any:
            return await asyncio.gather(
                pool.submit(leaf), asyncio.sleep(1.0, "slept"), return_exceptions=True
            )

        first = pool.submit(slow)
        assert await pool.submit(outer) == ["leaf", "slept"]
        assert await first == "slow"


@on_asyncio
async def test_a_gather_of_which_one_has_ended_is_told_of_the_rest(virtual_time: VirtualTime):
    async with Pools(1, 1) as (own, other):

        async def outer() -> Any:
            return await asyncio.gather(other.submit(leaf), own.submit(leaf), return_exceptions=True)

        first, second = await own.submit(outer)
    assert first == "leaf" or isinstance(first, PoolDeadlockError)
    assert isinstance(second, PoolDeadlockError)


# --- waits that can end ------------------------------------------------------------------------------


async def test_a_free_slot_is_enough(virtual_time: VirtualTime):
    async with Pools(2) as (pool,):

        async def outer() -> Any:
            return await pool.submit(leaf)

        assert await pool.submit(outer) == "leaf"


async def test_a_tree_as_deep_as_there_are_slots_is_fine(virtual_time: VirtualTime):
    async with Pools(5) as (pool,):

        async def down(depth: int) -> int:
            return depth if depth == 5 else await pool.submit(lambda: down(depth + 1))

        assert await pool.submit(lambda: down(1)) == 5


async def test_a_job_that_has_ended_is_enough(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):
        ended = pool.submit(leaf)
        await ended

        async def outer() -> Any:
            return await ended

        assert await pool.submit(outer) == "leaf"


async def test_another_pool_with_a_slot_is_enough(virtual_time: VirtualTime):
    async with Pools(1, 1) as (own, other):

        async def outer() -> Any:
            return await other.submit(leaf)

        handles = [own.submit(outer) for _ in range(3)]
        assert [await handle for handle in handles] == ["leaf"] * 3


async def test_a_running_job_that_does_something_else_may_free_its_slot(virtual_time: VirtualTime):
    async with Pools(2) as (pool,):

        async def busy() -> None:
            await anyio.sleep(5.0)

        async def outer() -> Any:
            return await pool.submit(leaf)

        pool.submit(busy)
        assert await pool.submit(outer) == "leaf"
        assert virtual_time.now() == 5.0


async def test_a_job_of_another_pool_that_is_running_may_end(virtual_time: VirtualTime):
    async with Pools(1, 1) as (own, other):

        async def busy() -> str:
            await anyio.sleep(5.0)
            return "busy"

        running = other.submit(busy)
        await anyio.sleep(1.0)

        async def outer() -> Any:
            return await running, await other.submit(leaf)

        assert await own.submit(outer) == ("busy", "leaf")


async def test_a_timeout_of_the_job_can_end_the_wait(virtual_time: VirtualTime):
    async with Pools(1, timeout=2.0) as (pool,):

        async def outer() -> Any:
            return await pool.submit(leaf)

        outcome = await pool.submit(outer).outcome()
    assert isinstance(outcome.error, qanat.JobTimeoutError)
    assert virtual_time.now() == 2.0


async def test_a_timeout_of_another_job_in_the_knot_can_end_the_wait(virtual_time: VirtualTime):
    async with Pools(2) as (pool,):

        async def outer() -> Any:
            return await pool.submit(leaf)

        first = pool.submit(outer, timeout=3.0)
        second = pool.submit(outer)
        assert isinstance((await first.outcome()).error, qanat.JobTimeoutError)
        assert await second == "leaf"
    assert virtual_time.now() == 3.0


async def test_a_scope_with_a_deadline_can_end_the_wait(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> Any:
            with anyio.move_on_after(2.0) as scope:
                await pool.submit(leaf)
            return scope.cancelled_caught

        async def failing() -> Any:
            with anyio.fail_after(2.0):
                await pool.submit(leaf)

        assert await pool.submit(outer) is True
        with pytest.raises(TimeoutError):
            await pool.submit(failing)


@on_asyncio
async def test_an_asyncio_timeout_can_end_the_wait(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> Any:
            async with asyncio.timeout(2.0):
                await pool.submit(leaf)

        with pytest.raises(TimeoutError) as caught:
            await pool.submit(outer)
        assert not isinstance(caught.value, qanat.QanatError)
    assert virtual_time.now() == 2.0


@on_asyncio
async def test_an_asyncio_timeout_of_another_job_in_the_knot_can_end_the_wait(virtual_time: VirtualTime):
    async with Pools(2) as (pool,):

        async def first() -> Any:
            async with asyncio.timeout(2.0):
                await pool.submit(leaf)

        async def second() -> Any:
            return await pool.submit(leaf)

        failing, waiting = pool.submit(first), pool.submit(second)
        assert isinstance((await failing.outcome()).error, TimeoutError)
        assert await waiting == "leaf"


@on_asyncio
async def test_an_asyncio_timeout_that_was_switched_off_cannot_end_the_wait(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> Any:
            async with asyncio.timeout(None):
                return await pool.submit(leaf)

        with pytest.raises(PoolDeadlockError):
            await pool.submit(outer)


@on_asyncio
async def test_an_asyncio_wait_for_can_end_the_wait(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> Any:
            return await asyncio.wait_for(pool.submit(leaf).outcome(), 2.0)

        with pytest.raises(TimeoutError):
            await pool.submit(outer)
    assert virtual_time.now() == 2.0


@on_asyncio
async def test_a_timeout_around_a_gather_can_end_the_wait(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> Any:
            async with asyncio.timeout(2.0):
                await asyncio.gather(pool.submit(leaf), pool.submit(leaf))

        with pytest.raises(TimeoutError):
            await pool.submit(outer)


async def test_a_paused_pool_may_be_resumed(virtual_time: VirtualTime):
    async with Pools(2) as (pool,):

        async def outer() -> Any:
            return await pool.submit(leaf)

        handle = pool.submit(outer)
        await anyio.wait_all_tasks_blocked()
        pool.pause()
        second = pool.submit(leaf)
        await anyio.sleep(1.0)
        pool.resume()
        assert await handle == "leaf"
        assert await second == "leaf"


async def test_a_wait_of_a_task_of_the_handler_s_own_is_no_deadlock(virtual_time: VirtualTime):
    """The handler itself goes on and may do what frees a slot."""
    async with Pools(1) as (pool,):
        found: list[Any] = []

        async def wait() -> None:
            found.append(await pool.submit(leaf).outcome())

        async def outer() -> str:
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.sleep(1.0)
                group.cancel_scope.cancel()
            return "went on"

        assert await pool.submit(outer) == "went on"
    assert found == []


async def test_who_waits_outside_of_handlers_is_never_told(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def slow() -> str:
            await anyio.sleep(5.0)
            return "slow"

        handles = [pool.submit(slow) for _ in range(3)]
        async with anyio.create_task_group() as group:
            for handle in handles:
                group.start_soon(handle.outcome)
        assert virtual_time.now() == 15.0


async def test_a_handler_whose_wait_was_cancelled_waits_no_more(virtual_time: VirtualTime):
    async with Pools(2) as (pool,):

        async def outer() -> Any:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await pool.submit(leaf)
            await anyio.sleep(5.0)
            return "went on"

        async def second() -> Any:
            return await pool.submit(leaf)

        scopes: list[anyio.CancelScope] = []
        pool.resize(1)
        first = pool.submit(outer)
        outcome = await first.outcome()
        assert isinstance(outcome.error, PoolDeadlockError)
        pool.resize(2)
        assert await pool.submit(second) == "leaf"


async def test_told_handlers_may_try_again_and_are_told_again(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> int:
            for _ in range(3):
                with pytest.raises(PoolDeadlockError):
                    await pool.submit(leaf)
            return 3

        assert await pool.submit(outer) == 3


async def test_a_concurrency_object_that_is_full_of_waiting_handlers_is_a_knot(virtual_time: VirtualTime):
    async with qanat.Pool[Any, Any](concurrency=qanat.Concurrency(2)) as pool:

        async def outer() -> Any:
            await anyio.sleep(1.0)
            return await pool.call(leaf)

        outcomes = [await handle.outcome() for handle in [pool.call(outer) for _ in range(2)]]
    assert [type(outcome.error) for outcome in outcomes] == [PoolDeadlockError] * 2


async def test_a_concurrency_object_that_others_hold_too_may_come_free(virtual_time: VirtualTime):
    shared = qanat.Concurrency(2)
    async with qanat.Pool(concurrency=shared) as pool, qanat.Pool(concurrency=shared) as other:

        async def outer() -> Any:
            return await pool.call(leaf)

        other.call(anyio.sleep, 5.0)
        await anyio.sleep(1.0)
        assert await pool.call(outer) == "leaf"
    assert virtual_time.now() == 5.0


@on_asyncio
async def test_a_timeout_around_one_of_those_gathered_can_end_the_wait(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def patient() -> Any:
            async with asyncio.timeout(2.0):
                return await pool.submit(leaf)

        async def outer() -> Any:
            return await asyncio.gather(patient(), patient(), return_exceptions=True)

        errors = await pool.submit(outer)
    assert [type(error) for error in errors] == [TimeoutError] * 2


async def test_a_job_in_a_thread_may_always_end(virtual_time: VirtualTime):
    def plain(item: int) -> int:
        return item

    async with (
        qanat.Pool[Any, Any](concurrency=1) as pool,
        qanat.Pool[Any, Any](plain, concurrency=1) as threads,
    ):

        async def outer() -> Any:
            return [await threads.submit(item) for item in range(3)]

        assert await pool.call(outer) == [0, 1, 2]


async def test_a_handler_inside_of_a_run_inside_of_a_handler_may_wait(virtual_time: VirtualTime):
    async with Pools(2) as (pool,):

        async def inner(item: int) -> Any:
            return await pool.submit(leaf)

        async def outer() -> Any:
            return await qanat.map(inner, range(3))

        assert await pool.submit(outer) == ["leaf"] * 3


async def test_a_wait_that_can_never_end_since_there_are_fewer_slots_is_told(virtual_time: VirtualTime):
    async with Pools(2) as (pool,):

        async def outer() -> float:
            with pytest.raises(PoolDeadlockError, match="raise concurrency"):
                await pool.submit(leaf, delay=9.0)
            return virtual_time.now()

        handle = pool.submit(outer)
        await anyio.sleep(0.5)
        began = virtual_time.now()
        pool.resize(1)
        assert await handle == began


async def test_a_wait_that_began_in_a_pause_is_told_as_it_ends(virtual_time: VirtualTime):
    async with Pools(1) as (pool,):

        async def outer() -> float:
            pool.pause()
            with pytest.raises(PoolDeadlockError, match="raise concurrency"):
                await pool.submit(leaf)
            return virtual_time.now()

        handle = pool.submit(outer)
        await anyio.sleep(0.5)
        began = virtual_time.now()
        pool.resume()
        assert await handle == began
