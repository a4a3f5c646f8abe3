"""What callers, callbacks and observers do to a run that they should not, and what is kept then."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest

import qanat
from qanat.testing import virtual_time as make_virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qanat.testing import VirtualTime


async def same(item: Any) -> Any:
    return item


class OddError(Exception):
    pass


def cancelled(*_args: Any) -> Any:
    raise asyncio.CancelledError


@pytest.mark.real
def test_a_second_cancellation_does_not_leave_threads_running():
    async def main() -> int:
        gate = threading.Event()
        began = threading.Semaphore(0)

        def wait(_item: int) -> None:
            began.release()
            gate.wait(10)

        async def run() -> None:
            await qanat.collect(wait, range(2), concurrency=2)

        task = asyncio.create_task(run())
        while not began.acquire(blocking=False):
            await asyncio.sleep(0.001)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0.01)
        assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return sum(thread.name.startswith("qanat-") for thread in threading.enumerate())

    assert asyncio.run(main()) == 0


async def test_a_pool_may_be_closed_inside_of_a_timeout(virtual_time: VirtualTime):
    async with qanat.Pool(same) as pool:
        handle = pool.submit(1)
        with anyio.fail_after(5):
            await pool.aclose()
    assert await handle == 1


async def test_a_pool_may_be_opened_inside_of_a_timeout_and_closed_outside(virtual_time: VirtualTime):
    pool = qanat.Pool(same)
    with anyio.fail_after(5):
        await pool.open()
    handle = pool.submit(1)
    await pool.aclose()
    assert await handle == 1


async def test_closing_a_paused_pool_lets_its_jobs_end(virtual_time: VirtualTime):
    async with qanat.Pool(same) as pool:
        pool.pause()
        handle = pool.submit(1)
    assert await handle == 1


@pytest.mark.real
def test_a_pool_whose_event_loop_has_ended_may_be_opened_anew():
    pool = qanat.Pool(same)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(pool.open())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()

    async def again() -> Any:
        async with pool:
            return await pool.submit(1)

    assert asyncio.run(again()) == 1


async def test_an_observer_that_raises_a_cancellation_loses_no_outcome(virtual_time: VirtualTime):
    class Rude:
        def event(self, event: qanat.Event) -> None:
            cancelled()

        def close(self) -> None:
            pass

    outcomes = await qanat.collect(same, range(3), observers=Rude())
    assert outcomes.values() == [0, 1, 2]


@pytest.mark.parametrize(
    "rules",
    [
        {"retry": qanat.Retry(1, when=cancelled)},
        {"retry": qanat.Retry(1, backoff=cancelled)},
        {"lane": cancelled},
        {"id": cancelled},
        {"lane": lambda _item: 1, "lane_limits": cancelled},
    ],
    ids=["when", "backoff", "lane", "id", "lane_limits"],
)
async def test_a_callback_that_raises_a_cancellation_fails_its_job(virtual_time: VirtualTime, rules: Any):
    async def fail(_item: int) -> None:
        raise ValueError

    outcomes = await qanat.collect(fail, range(3), **rules)
    assert [type(outcome.error) for outcome in outcomes] == [asyncio.CancelledError] * 3


async def test_a_source_that_raises_when_it_is_closed_does_not_hide_the_failed_job(virtual_time: VirtualTime):
    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            raise OSError

    async def fail(_item: int) -> None:
        raise OddError

    with pytest.raises(OddError):
        await qanat.map(fail, source())


async def test_an_error_with_odd_notes_is_raised_as_it_is(virtual_time: VirtualTime):
    async def fail(_item: int) -> None:
        error = OddError()
        error.__notes__ = 5  # type: ignore[assignment]
        raise error

    with pytest.raises(OddError):
        await qanat.map(fail, [1])


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_jitter_on_virtual_time_is_the_same_each_time(backend: Literal["asyncio", "trio"]):
    async def flaky(item: int) -> None:
        if item % 4 == 0 and qanat.current_job().attempt < 3:
            raise ValueError

    def ends() -> list[float]:
        with make_virtual_time(backend) as clock:
            outcomes = clock.run(lambda: qanat.collect(flaky, range(12), retry=3, concurrency=1))
        return [outcome.ended_at for outcome in outcomes]

    assert ends() == ends()


@pytest.mark.real
@pytest.mark.parametrize(("executor", "precision"), [("thread", 0.01), ("loop", 0.005)])
def test_windows_reckon_with_handlers_that_begin_later_off_the_loop(
    executor: Literal["thread", "loop"], precision: float
):
    window = qanat.SlidingWindow(20, 0.1)
    qanat.run(str, range(3), rate=window, executor=executor)
    assert window.precision == precision


class FalsyError(Exception):
    def __bool__(self) -> bool:
        return False


async def test_an_error_that_is_falsy_is_raised_like_any_other(virtual_time: VirtualTime):
    async def fail(_item: int) -> None:
        raise FalsyError

    with pytest.raises(FalsyError):
        await qanat.map(fail, range(3))


async def test_a_job_that_is_cancelled_while_it_cleans_up_after_its_timeout_is_not_tried_again(
    virtual_time: VirtualTime,
):
    async def slow_to_leave(_item: int) -> None:
        try:
            await anyio.sleep(100)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)

    async with qanat.Pool(slow_to_leave, timeout=1, retry=2) as pool:
        handle = pool.submit(1)
        await anyio.sleep(3)
        assert handle.cancel()
        outcome = await handle.outcome()
    assert (outcome.state, outcome.attempts) == ("cancelled", 1)


class HalfAnOrder:
    def add(self, job: Any) -> None: ...


@pytest.mark.parametrize("batch", [None, qanat.Batch(2)], ids=["one", "batch"])
@pytest.mark.parametrize("lane", [None, str], ids=["no lanes", "lanes"])
@pytest.mark.parametrize(
    "made", [None, 3, [], HalfAnOrder(), qanat.Rules], ids=["None", "3", "list", "half", "other"]
)
async def test_what_is_no_order_is_told_so(virtual_time: VirtualTime, made: Any, lane: Any, batch: Any):
    rules: dict[str, Any] = {"lane": lane, "batch": batch, "order": lambda: made}
    try:
        (error,) = [outcome.error for outcome in await qanat.collect(same, [0], **rules)]
    except TypeError as raised:
        error = raised
    assert type(error) is TypeError
    assert str(error).startswith("order must make orders, with the methods add, put_back, head, take")


async def test_a_coroutine_function_makes_no_order(virtual_time: VirtualTime):
    async def order() -> None: ...

    made: Any = order
    with pytest.raises(
        TypeError, match="^order must make orders, with the methods .*, got <coroutine object"
    ):
        await qanat.collect(same, [0], order=made)


TWICE = qanat.SlidingWindow(2, 1.0)


@pytest.mark.parametrize(
    "rules", [{"limits": [TWICE, TWICE]}, {"limits": TWICE, "rate": TWICE}], ids=["limits", "rate"]
)
def test_a_limit_that_is_given_twice_is_refused(rules: Any):
    expected = r"^limits must be different ones, got SlidingWindow\(2, 1\.0\) twice: it would count"
    with pytest.raises(ValueError, match=expected):
        qanat.Rules(**rules)


@pytest.mark.parametrize(
    ("above", "of_lane"), [([TWICE], TWICE), ([], [TWICE, TWICE])], ids=["above", "lane"]
)
async def test_a_lane_that_has_a_limit_twice_fails_its_jobs(
    virtual_time: VirtualTime, above: Any, of_lane: Any
):
    outcomes = await qanat.collect(
        same, range(4), limits=above, lane=lambda _: "x", lane_limits=lambda _: of_lane
    )
    says = "lane_limits must not give lane 'x' a limit that its jobs have already, got SlidingWindow(2, 1.0)"
    assert all(str(outcome.error).startswith(says) for outcome in outcomes)


@pytest.mark.parametrize("rule", ["lane", "lane_limits", "priority", "id"])
def test_a_coroutine_function_is_no_rule_of_an_item(rule: str):
    with pytest.raises(TypeError, match=f"^{rule} must be a plain function"):
        qanat.Rules(**{rule: same})  # type: ignore[arg-type]


async def test_an_observer_whose_last_event_raises_is_closed(virtual_time: VirtualTime):
    closed: list[bool] = []

    class Rude:
        def event(self, event: qanat.Event) -> None:
            if isinstance(event, qanat.RunEnded):
                raise OddError

        def close(self) -> None:
            closed.append(True)

    await qanat.collect(same, range(3), observers=Rude())
    assert closed == [True]
