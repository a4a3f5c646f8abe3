"""Every way in which a handler can end is an outcome, and touches no other job."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import itertools
import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import qanat
from qanat import Job, JobCancelledError, JobTimeoutError
from qanat._engine import context
from qanat._engine.carrier import Carrier

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")
on_asyncio = pytest.mark.virtual_time("asyncio")


class Own(BaseException):
    """Nobody catches this by accident."""


ENDINGS = {
    "Exception": lambda: ValueError("x"),
    "BaseException": lambda: BaseException("x"),
    "own BaseException": lambda: Own("x"),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopAsyncIteration": StopAsyncIteration,
    "RecursionError": RecursionError,
    "MemoryError": MemoryError,
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError(1), KeyError(2)]),
    "asyncio.CancelledError": asyncio.CancelledError,
}


@pytest.mark.parametrize("after", [0.0, 1.0], ids=["at once", "later"])
@pytest.mark.parametrize("ending", ENDINGS)
async def test_whatever_a_coroutine_function_raises_is_that_job_s_failure(
    virtual_time: VirtualTime, ending: str, after: float
):
    error = ENDINGS[ending]()

    async def handler(item: int) -> int:
        if after:
            await anyio.sleep(after)
        if item == 1:
            raise error
        await anyio.sleep(1.0)
        return item

    outcomes = await qanat.collect(handler, range(4), concurrency=2)
    assert [outcome.state for outcome in outcomes] == ["done", "dead", "done", "done"]
    assert outcomes[1].error is error
    assert outcomes.values() == [0, 2, 3]


@pytest.mark.parametrize("executor", ["loop", "thread"])
@pytest.mark.parametrize("ending", [*ENDINGS, "StopIteration"])
async def test_whatever_a_plain_function_raises_is_that_job_s_failure(
    virtual_time: VirtualTime, ending: str, executor: Any
):
    error = ENDINGS.get(ending, StopIteration)()

    def handler(item: int) -> int:
        if item == 1:
            raise error
        return item

    outcomes = await qanat.collect(handler, range(4), concurrency=2, executor=executor)
    assert [outcome.state for outcome in outcomes] == ["done", "dead", "done", "done"]
    assert outcomes[1].error is error


async def test_a_stop_iteration_of_a_coroutine_function_is_the_runtime_error_that_python_makes_of_it(
    virtual_time: VirtualTime,
):
    async def handler(item: int) -> None:
        next(iter(()))

    (outcome,) = await qanat.collect(handler, [1])
    assert isinstance(outcome.error, RuntimeError)
    assert isinstance(outcome.error.__cause__, StopIteration)


async def test_a_real_recursion_error_is_that_job_s_failure(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        return await handler(item + 1)

    async def other(item: int) -> int:
        return await handler(0) if item == 1 else item

    outcomes = await qanat.collect(other, range(3))
    assert [outcome.ok for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, RecursionError)


@on_asyncio
async def test_awaiting_what_was_cancelled_elsewhere_is_that_job_s_failure(virtual_time: VirtualTime):
    elsewhere = asyncio.ensure_future(asyncio.sleep(100.0))

    async def handler(item: int) -> int:
        if item == 1:
            await elsewhere
        await anyio.sleep(2.0)
        return item

    async with anyio.create_task_group() as group:

        async def cancel() -> None:
            await anyio.sleep(1.0)
            elsewhere.cancel()

        group.start_soon(cancel)
        outcomes = await qanat.collect(handler, range(3))
    assert [outcome.state for outcome in outcomes] == ["done", "dead", "done"]
    assert isinstance(outcomes[1].error, asyncio.CancelledError)
    assert virtual_time.now() == 2.0


@on_asyncio
async def test_what_was_cancelled_elsewhere_is_retried_when_asked_for(virtual_time: VirtualTime):
    calls: list[int] = []

    async def handler(item: int) -> int:
        calls.append(item)
        if len(calls) == 1:
            elsewhere = asyncio.ensure_future(asyncio.sleep(100.0))
            elsewhere.cancel()
            await elsewhere
        return item

    retry = qanat.Retry(1, on=(Exception, asyncio.CancelledError), backoff=qanat.constant(1.0))
    (outcome,) = await qanat.collect(handler, [7], retry=retry)
    assert (outcome.value, outcome.attempts) == (7, 2)


async def test_a_handler_that_is_closed_with_its_loop_is_no_failed_job(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    """The interpreter closes what an ended loop left; nobody is there to hear of an outcome."""
    async with qanat.Pool(anyio.sleep) as pool:
        engine = pool._engine
        assert engine is not None
        monkeypatch.setattr(engine.loop, "is_running", lambda: False)
        job: Job[Any] = Job(1, 1.0, 0, pool._task)  # type: ignore[arg-type]
        with pytest.raises(GeneratorExit):
            Carrier(engine)._conclude(job, None, GeneratorExit(), 0.0)
        assert pool.stats().failed == 0


# --- handlers that cancel the task they run in ---------------------------------------------------


@on_asyncio
async def test_a_handler_that_cancels_its_own_task_fails_and_is_replaced(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        if item == 1:
            this = asyncio.current_task()
            assert this is not None
            this.cancel()
        await anyio.sleep(1.0)
        return item

    outcomes = await qanat.collect(handler, range(4), concurrency=1)
    assert [outcome.state for outcome in outcomes] == ["done", "dead", "done", "done"]
    assert isinstance(outcomes[1].error, asyncio.CancelledError)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("then", ["returns", "raises"])
@on_asyncio
async def test_a_handler_that_cancels_its_own_task_and_ends_at_once_does_not_hit_the_next_job(
    virtual_time: VirtualTime, then: str, times: int
):
    async def handler(item: int) -> int:
        if item == 1:
            this = asyncio.current_task()
            assert this is not None
            for _ in range(times):
                this.cancel()
            if then == "raises":
                raise KeyError
            return item
        await anyio.sleep(1.0)
        return item

    outcomes = await qanat.collect(handler, range(4), concurrency=1)
    expected = "done" if then == "returns" else "dead"
    assert [outcome.state for outcome in outcomes] == ["done", expected, "done", "done"]


@on_asyncio
async def test_a_last_job_that_cancels_its_own_task_does_not_stop_the_run(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        this = asyncio.current_task()
        assert this is not None
        this.cancel()
        return item

    outcomes = await qanat.collect(handler, range(3), concurrency=1)
    assert outcomes.values() == [0, 1, 2]


@on_asyncio
async def test_a_task_that_was_cancelled_between_two_jobs_is_replaced(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        await anyio.sleep(1.0)
        return item

    async with qanat.Pool(handler, concurrency=3) as pool:
        await anyio.wait_all_tasks_blocked()
        first = [pool.submit(item) for item in range(3)]
        await pool.drain()
        await anyio.wait_all_tasks_blocked()
        assert pool._engine is not None
        for carrier in list(pool._engine.carriers):
            carrier.task.cancel()
        second = [pool.submit(item) for item in range(3)]
        assert [await handle for handle in first + second] == [0, 1, 2] * 2
    assert virtual_time.now() == 2.0


@on_asyncio
async def test_a_task_that_was_cancelled_from_outside_fails_the_job_in_its_hands(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        await anyio.sleep(1.0)
        return item

    async with qanat.Pool(handler, concurrency=2) as pool:
        handles = [pool.submit(item) for item in range(4)]
        await anyio.sleep(0.5)
        assert pool._engine is not None
        (victim,) = [carrier for carrier in pool._engine.carriers if carrier.job is handles[1].job]
        victim.task.cancel()
    outcomes = [await handle.outcome() for handle in handles]
    assert [outcome.state for outcome in outcomes] == ["done", "dead", "done", "done"]
    assert isinstance(outcomes[1].error, asyncio.CancelledError)


# --- timeouts ------------------------------------------------------------------------------------


async def test_an_attempt_is_stopped_when_its_timeout_has_passed(virtual_time: VirtualTime):
    stopped: list[float] = []

    async def handler(item: str) -> None:
        try:
            await anyio.sleep(100.0)
        finally:
            stopped.append(virtual_time.now())

    (outcome,) = await qanat.collect(handler, ["a"], timeout=1.5)
    assert stopped == [1.5]
    assert outcome.state == "dead"
    assert outcome.ran == 1.5


async def test_a_timeout_tells_how_long_it_was(virtual_time: VirtualTime):
    (outcome,) = await qanat.collect(anyio.sleep, [100.0], timeout=1.5)
    error = outcome.error
    assert isinstance(error, JobTimeoutError)
    assert isinstance(error, TimeoutError)
    assert (error.timeout, error.still_running) == (1.5, False)
    assert str(error) == "the attempt ran longer than its timeout of 1.5 s"


async def test_a_job_that_ends_before_its_timeout_is_left_alone(virtual_time: VirtualTime):
    outcomes = await qanat.collect(anyio.sleep, [1.0, 1.25, 1.75], timeout=1.5, concurrency=1)
    assert [outcome.ok for outcome in outcomes] == [True, True, False]


async def test_each_job_has_a_timeout_of_its_own(virtual_time: VirtualTime):
    ended: dict[float, float] = {}

    async def handler(item: float) -> None:
        await anyio.sleep(item)
        try:
            await anyio.sleep(100.0)
        finally:
            ended[item] = virtual_time.now()

    await qanat.collect(handler, [0.25, 0.5, 0.75], concurrency=2, timeout=1.0)
    assert ended == {0.25: 1.0, 0.5: 1.0, 0.75: 2.0}


async def test_an_earlier_timeout_that_comes_later_is_seen(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, concurrency=2) as pool:
        slow = pool.submit(100.0, timeout=50.0)
        await anyio.sleep(1.0)
        fast = pool.submit(100.0, timeout=2.0)
        await fast.outcome()
        assert virtual_time.now() == 3.0
        await slow.outcome()
        assert virtual_time.now() == 50.0


async def test_swallowing_a_timeout_and_returning_a_value_counts_as_done(virtual_time: VirtualTime):
    async def handler(item: int) -> str:
        value = "not reached"
        try:
            await anyio.sleep(100.0)
        except anyio.get_cancelled_exc_class():
            value = "saved"
        return value

    (outcome,) = await qanat.collect(handler, [1], timeout=1.0)
    assert (outcome.state, outcome.value) == ("done", "saved")


async def test_swallowing_a_timeout_and_going_on_is_stopped_at_the_next_await(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        try:
            await anyio.sleep(100.0)
        except anyio.get_cancelled_exc_class():
            pass
        await anyio.sleep(100.0)

    (outcome,) = await qanat.collect(handler, [1], timeout=1.0)
    assert isinstance(outcome.error, JobTimeoutError)
    assert virtual_time.now() == 1.0


async def test_raising_something_else_on_a_timeout_is_a_timeout_with_that_as_its_cause(
    virtual_time: VirtualTime,
):
    async def handler(item: int) -> None:
        try:
            await anyio.sleep(100.0)
        except anyio.get_cancelled_exc_class():
            raise KeyError(item) from None

    (outcome,) = await qanat.collect(handler, [1], timeout=1.0)
    assert isinstance(outcome.error, JobTimeoutError)
    assert isinstance(outcome.error.__cause__, KeyError)


async def test_a_handler_that_shields_itself_from_its_timeout_runs_to_its_end(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(5.0)
        return item

    outcomes = await qanat.collect(handler, range(2), timeout=1.0, concurrency=1)
    assert outcomes.values() == [0, 1]
    assert virtual_time.now() == 10.0


async def test_a_late_timeout_does_not_hit_the_next_job(virtual_time: VirtualTime):
    """The first job ends at the very instant of its timeout, whoever is first then."""

    async def handler(item: int) -> int:
        await anyio.sleep(1.0)
        return item

    outcomes = await qanat.collect(handler, range(6), timeout=1.0, concurrency=2)
    assert virtual_time.now() == 3.0
    for outcome in outcomes:
        assert outcome.ok or isinstance(outcome.error, JobTimeoutError)
        assert outcome.ran == 1.0


async def test_a_job_after_one_that_timed_out_runs_its_full_time(virtual_time: VirtualTime):
    outcomes = await qanat.collect(anyio.sleep, [9.0, 0.75, 9.0, 0.75], timeout=1.0, concurrency=1)
    assert [outcome.ok for outcome in outcomes] == [False, True, False, True]
    assert [outcome.ran for outcome in outcomes] == [1.0, 0.75, 1.0, 0.75]


async def test_a_timeout_inside_of_a_handler_is_its_own_business(virtual_time: VirtualTime):
    async def handler(item: int) -> str:
        value = "not reached"
        with anyio.move_on_after(0.5):
            await anyio.sleep(100.0)
        try:
            with anyio.fail_after(0.25):
                await anyio.sleep(100.0)
        except TimeoutError:
            value = "gave up"
        return value

    outcomes = await qanat.collect(handler, range(2), timeout=1.0, concurrency=1)
    assert outcomes.values() == ["gave up"] * 2


@on_asyncio
async def test_an_asyncio_timeout_inside_of_a_handler_is_its_own_business(virtual_time: VirtualTime):
    async def handler(item: int) -> str:
        value = "not reached"
        try:
            async with asyncio.timeout(0.5):
                await asyncio.sleep(100.0)
        except TimeoutError:
            value = "gave up"
        return value

    outcomes = await qanat.collect(handler, range(3), timeout=1.0, concurrency=1)
    assert outcomes.values() == ["gave up"] * 3


@on_asyncio
async def test_an_asyncio_timeout_that_escapes_from_a_handler_is_its_failure(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        async with asyncio.timeout(0.5):
            await asyncio.sleep(100.0)

    outcomes = await qanat.collect(handler, range(3), concurrency=1)
    assert [type(outcome.error) for outcome in outcomes] == [TimeoutError] * 3


async def test_task_groups_inside_of_handlers_end_with_their_timeout(virtual_time: VirtualTime):
    ended: list[float] = []

    async def child() -> None:
        try:
            await anyio.sleep(100.0)
        finally:
            ended.append(virtual_time.now())

    async def handler(item: int) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            group.start_soon(child)

    outcomes = await qanat.collect(handler, range(2), timeout=1.0, concurrency=1)
    assert ended == [1.0, 1.0, 2.0, 2.0]
    assert [type(outcome.error) for outcome in outcomes] == [JobTimeoutError] * 2


# --- cancelling one job ----------------------------------------------------------------------------


async def test_a_running_job_that_is_cancelled_is_stopped_and_not_retried(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, retry=5) as pool:
        handle = pool.submit(100.0)
        await anyio.sleep(1.0)
        assert handle.cancel()
        outcome = await handle.outcome()
    assert (outcome.state, outcome.attempts, outcome.ended_at) == ("cancelled", 1, 1.0)
    assert isinstance(outcome.error, JobCancelledError)


async def test_raising_something_else_when_cancelled_is_the_cause(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        try:
            await anyio.sleep(100.0)
        except anyio.get_cancelled_exc_class():
            raise KeyError(item) from None

    async with qanat.Pool(handler) as pool:
        handle = pool.submit(1)
        await anyio.sleep(1.0)
        handle.cancel()
        outcome = await handle.outcome()
    assert outcome.state == "cancelled"
    assert outcome.error is not None
    assert isinstance(outcome.error.__cause__, KeyError)


async def test_swallowing_a_cancellation_and_returning_a_value_counts_as_done(virtual_time: VirtualTime):
    async def handler(item: int) -> str:
        value = "not reached"
        try:
            await anyio.sleep(100.0)
        except anyio.get_cancelled_exc_class():
            value = "saved"
        return value

    async with qanat.Pool(handler) as pool:
        handle = pool.submit(1)
        await anyio.sleep(1.0)
        handle.cancel()
        assert await handle == "saved"


async def test_a_cancellation_of_one_job_does_not_hit_the_next(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, concurrency=1) as pool:
        first, second = pool.submit(5.0), pool.submit(5.0)
        await anyio.sleep(1.0)
        first.cancel()
        first.cancel()
        outcome = await second.outcome()
    assert outcome.ok
    assert (outcome.started_at, outcome.ended_at) == (1.0, 6.0)


async def test_a_handler_may_cancel_its_own_job(virtual_time: VirtualTime):
    async def handler(item: int) -> str:
        handles[item].cancel()
        if item == 0:
            await anyio.sleep(1.0)
        return "went on"

    async with qanat.Pool(handler, concurrency=1) as pool:
        handles = [pool.submit(item) for item in range(3)]
        outcomes = [await handle.outcome() for handle in handles]
    assert [outcome.state for outcome in outcomes] == ["cancelled", "done", "done"]


async def test_a_job_that_is_cancelled_as_it_times_out_ends_once(virtual_time: VirtualTime):
    async with qanat.Pool(
        anyio.sleep, timeout=1.0, retry=qanat.Retry(9, backoff=qanat.constant(0.0))
    ) as pool:
        handle = pool.submit(100.0)
        assert pool._engine is not None
        await anyio.sleep(0.5)
        (carrier,) = [each for each in pool._engine.carriers if each.job is handle.job]
        carrier.time_out()
        handle.cancel()
        await anyio.sleep(0.25)
        handle.cancel()
        outcome = await handle.outcome()
    assert outcome.state == "cancelled"
    assert pool._engine is None


# --- what a handler returns --------------------------------------------------------------------------


async def test_a_coroutine_that_was_returned_and_not_awaited_fails_the_job(virtual_time: VirtualTime):
    async def handler(item: int) -> Any:
        return anyio.sleep(1.0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outcomes = await qanat.collect(handler, range(2), concurrency=1)
        gc.collect()
    assert [type(outcome.error) for outcome in outcomes] == [TypeError] * 2
    assert "await" in str(outcomes[0].error)


async def test_any_other_value_is_handed_on_as_it_is(virtual_time: VirtualTime):
    thing = object()

    async def handler(item: int) -> object:
        return [None, thing, KeyError("a value"), False][item]

    outcomes = await qanat.collect(handler, range(4))
    assert outcomes.values()[0] is None
    assert outcomes.values()[1] is thing
    assert isinstance(outcomes.values()[2], KeyError)
    assert [outcome.ok for outcome in outcomes] == [True] * 4


# --- retries at once -----------------------------------------------------------------------------------


class Deaf:
    """An observer, so that no job is drawn straight from the source."""

    def event(self, event: object) -> None:
        pass

    def close(self) -> None:
        pass


class Eager(ValueError):
    retry_after = 0.25


@pytest.mark.parametrize("observers", [(), Deaf()], ids=["drawn", "offered"])
@pytest.mark.parametrize(
    ("error", "apart"),
    [
        (ValueError, 0.0),
        (Eager, 0.25),
        (lambda: qanat.RetryLater(0.5), 0.5),
        (lambda: qanat.Throttled(0.75), 0.75),
        (lambda: _with_a_wish(1.0), 1.0),
    ],
    ids=["plain", "own kind", "later", "throttled", "plain with a wish"],
)
async def test_retries_without_a_delay_are_like_all_others(
    virtual_time: VirtualTime, observers: Any, error: Callable[[], Exception], apart: float
):
    """Each of three jobs, one after the other, fails twice after 0.5 s and is done after one more."""
    starts: list[tuple[int, float]] = []
    tries = dict.fromkeys(range(3), 0)

    async def handler(item: int) -> str:
        starts.append((item, virtual_time.now()))
        tries[item] += 1
        await anyio.sleep(0.5)
        if tries[item] < 3:
            raise error()
        return "done"

    retry = qanat.Retry(2, backoff=qanat.constant(0))
    outcomes = await qanat.collect(handler, range(3), concurrency=1, retry=retry, observers=observers)
    if not apart:
        assert starts == [(item, item * 1.5 + 0.5 * number) for item in range(3) for number in range(3)]
    throttled = type(error()) is qanat.Throttled
    assert [each.attempts for each in outcomes] == [1 if throttled else 3] * 3
    assert [each.ran for each in outcomes] == [1.5] * 3
    assert [each.value for each in outcomes] == ["done"] * 3
    first = {item: min(at for each, at in starts if each == item) for item in range(3)}
    assert [each.started_at for each in outcomes] == [first[item] for item in range(3)]
    assert outcomes.summary().retried == sum(max(0, each.attempts - 1) for each in outcomes)


def _with_a_wish(seconds: float) -> Exception:
    error = ValueError("busy")
    error.retry_after = seconds  # type: ignore[attr-defined]  # as some libraries do
    return error


@pytest.mark.parametrize("observers", [(), Deaf()], ids=["drawn", "offered"])
@pytest.mark.parametrize(
    "last", ["value", "plain error", "interrupt", "timeout", "own cancellation", "cancelled run"]
)
async def test_a_job_that_was_tried_again_at_once_may_end_in_any_way(
    virtual_time: VirtualTime, last: str, observers: Any
):
    async def handler(item: int) -> str:
        job = qanat.current_job()
        await anyio.sleep(0.25)
        if job.attempt < 3:
            raise KeyError(job.attempt)
        match last:
            case "plain error":
                raise KeyError("the last")
            case "interrupt":
                raise KeyboardInterrupt
            case "timeout":
                await anyio.sleep(100.0)
            case "own cancellation":
                raise anyio.get_cancelled_exc_class()() if virtual_time.backend == "asyncio" else OSError
            case "cancelled run":
                pool.cancel()
                await anyio.sleep(1.0)
            case _:
                pass
        return "value"

    retry = qanat.Retry(2, backoff=qanat.constant(0))
    if last == "cancelled run":
        async with qanat.Pool(handler, retry=retry, observers=observers) as pool:
            outcome = await pool.submit(0).outcome()
    else:
        (outcome,) = await qanat.collect(handler, [0], retry=retry, timeout=2.0, observers=observers)
    assert outcome.attempts == 3
    assert outcome.started_at == 0.0
    assert outcome.ran == outcome.ended_at == (2.5 if last == "timeout" else 0.75)
    assert outcome.waits == {}
    assert outcome.ok == (last == "value")


async def test_a_handler_that_changes_its_context_is_tried_again_at_once_in_a_fresh_one(
    virtual_time: VirtualTime,
):
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []

    async def handler(item: int) -> int:
        seen.append(variable.get())
        variable.set(1)
        if qanat.current_job().attempt < 3:
            raise ValueError
        return item

    retry = qanat.Retry(2, backoff=qanat.constant(0))
    outcomes = await qanat.collect(handler, range(3), concurrency=1, retry=retry)
    assert [(each.value, each.attempts, each.waits) for each in outcomes] == [
        (item, 3, {}) for item in range(3)
    ]
    assert outcomes.summary().retried == 6
    assert seen == [0] * 9


@pytest.fixture
def no_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let carriers breathe as often as they can."""
    monkeypatch.setattr("qanat._engine.carrier.SLICE", 0.0)
    monkeypatch.setattr("qanat._engine.engine.SLICE", 0.0)


@pytest.mark.virtual_time("asyncio")
@pytest.mark.usefixtures("no_slices")
async def test_nothing_is_tried_again_at_once_after_the_run_was_stopped(virtual_time: VirtualTime):
    attempts, stopped_after = 0, 0

    async def handler(item: int) -> None:
        nonlocal attempts, stopped_after
        if item == 0:
            attempts += 1
            if stopped_after:
                await anyio.sleep(1000)
            raise ValueError
        await anyio.lowlevel.checkpoint()
        stopped_after = attempts
        raise qanat.Discard

    retry = qanat.Retry(10_000, backoff=qanat.constant(0))
    with pytest.raises(qanat.JobDiscardedError) as caught:
        await qanat.map(handler, range(2), concurrency=2, retry=retry)
    assert (attempts, virtual_time.now()) == (stopped_after, 0.0)
    (outcome,) = [each for each in qanat.errors.outcomes_of(caught.value) if each.index == 0]
    assert (outcome.state, outcome.attempts) == ("cancelled", attempts)


class Custom(Exception):
    """An error of the user's own, whose retries go the long way."""


@pytest.mark.parametrize("others", [0, 300])
async def test_an_attempt_does_not_see_what_the_one_before_set(virtual_time: VirtualTime, others: int):
    """However many variables there are: with many of them references cannot be counted."""
    variables = [contextvars.ContextVar[int](f"other {number}") for number in range(others)]
    for each in variables:
        each.set(1)
    variable = contextvars.ContextVar("variable", default="nothing")
    seen: list[str] = []

    async def handler(item: int) -> None:
        seen.append(variable.get())
        variable.set(f"attempt {len(seen)}")
        if len(seen) < 3:
            raise ValueError

    await qanat.collect(handler, [0], concurrency=1, retry=qanat.Retry(5, backoff=qanat.constant(0)))
    assert seen == ["nothing"] * 3


@pytest.mark.parametrize("error", [ValueError, Custom])
async def test_a_job_that_has_fallen_due_comes_before_a_retry_at_once(virtual_time: VirtualTime, error: Any):
    started: list[tuple[str, float]] = []

    async def handler(item: str) -> None:
        started.append((item, virtual_time.now()))
        job = qanat.current_job()
        if item == "a" and len(started) == 1:
            raise qanat.RetryLater(1.0)
        if item == "b" and job.attempt == 1:
            await anyio.sleep(1.0)
            raise error

    await qanat.collect(handler, ["a", "b"], concurrency=1, retry=qanat.Retry(5, backoff=qanat.constant(0)))
    assert started == [("a", 0.0), ("b", 0.0), ("a", 1.0), ("b", 1.0)]


@pytest.mark.virtual_time("asyncio")
@pytest.mark.usefixtures("no_slices")
async def test_a_job_in_hand_is_not_lost_with_a_carrier_that_is_cancelled_before_the_retry(
    virtual_time: VirtualTime,
):
    tasks: set[Any] = set()

    async def handler(item: int) -> int:
        if item == 1:
            await anyio.lowlevel.checkpoint()
            tasks.pop().cancel()
            return item
        tasks.add(asyncio.current_task())
        if qanat.current_job().attempt < 50:
            raise ValueError
        return item

    retry = qanat.Retry(50, backoff=qanat.constant(0))
    outcomes = await qanat.collect(handler, range(2), concurrency=2, retry=retry)
    assert [(each.value, each.attempts) for each in outcomes] == [(0, 50), (1, 1)]
    assert outcomes.summary().retried == 49


@pytest.mark.usefixtures("no_slices")
@pytest.mark.parametrize("error", [ValueError, Custom])
async def test_retries_at_once_do_not_keep_others_from_starting(virtual_time: VirtualTime, error: Any):
    attempts, started_at = 0, list[int]()

    async def handler(item: int) -> int:
        nonlocal attempts
        if item:
            started_at.append(attempts)
        elif (attempts := attempts + 1) < 500:
            raise error
        return item

    retry = qanat.Retry(500, backoff=qanat.constant(0))
    outcomes = await qanat.collect(handler, range(4), concurrency=2, retry=retry)
    assert [each.attempts for each in outcomes] == [500, 1, 1, 1]
    assert max(started_at) < 20


@pytest.mark.usefixtures("no_slices")
@pytest.mark.parametrize("executor", ["loop", "spawning"])
async def test_a_job_that_failed_is_cancelled_before_it_is_settled(virtual_time: VirtualTime, executor: str):
    handles: list[Any] = []
    attempts = 0

    async def handler(item: int) -> bool:
        nonlocal attempts
        if item:
            return bool(handles[0].cancel())
        attempts += 1
        if executor == "spawning" and attempts == 1:
            qanat.current_job().spawn(2)
        raise Custom

    retry = qanat.Retry(500, backoff=qanat.constant(0))
    async with qanat.Pool(handler, concurrency=2, retry=retry) as pool:
        handles += [pool.submit(0), pool.submit(1)]
        assert await handles[1]
        outcome = await handles[0].outcome()
        assert (outcome.state, outcome.attempts) == ("cancelled", attempts)
        assert await pool.submit(2) is False
    assert attempts < 20


@pytest.mark.virtual_time("asyncio")
@pytest.mark.usefixtures("no_slices")
async def test_a_job_that_failed_is_not_lost_with_a_carrier_that_is_cancelled_before_it_is_settled(
    virtual_time: VirtualTime,
):
    tasks: list[Any] = []

    async def handler(item: int) -> int:
        if item == 1:
            tasks[-1].cancel()
            return item
        tasks.append(asyncio.current_task())
        if qanat.current_job().attempt < 50:
            raise Custom
        return item

    retry = qanat.Retry(50, backoff=qanat.constant(0))
    outcomes = await qanat.collect(handler, range(2), concurrency=2, retry=retry)
    assert [(each.value, each.attempts) for each in outcomes] == [(0, 50), (1, 1)]


async def test_while_nobody_reads_no_job_is_tried_again_at_once(virtual_time: VirtualTime):
    starts: list[tuple[int, float]] = []

    async def handler(item: int) -> None:
        starts.append((item, virtual_time.now()))
        await anyio.sleep(0.5 + item)
        if item and qanat.current_job().attempt == 1:
            raise ValueError

    retry = qanat.Retry(1, backoff=qanat.constant(0))
    async with qanat.stream(handler, range(2), concurrency=2, buffer=1, retry=retry) as outcomes:
        await anyio.sleep(10.0)
        assert starts == [(0, 0.0), (1, 0.0)]
        assert [outcome.attempts async for outcome in outcomes] == [1, 2]
    assert starts == [(0, 0.0), (1, 0.0), (1, 10.0)]


# --- context -----------------------------------------------------------------------------------------

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


def _handlers(note: Callable[[str], None]) -> dict[str, Any]:
    async def at_once(item: int) -> None:
        note(who.get())
        who.set(f"job {item}")

    async def later(item: int) -> None:
        note(who.get())
        await anyio.sleep(1.0)
        who.set(f"job {item}")
        await anyio.sleep(1.0)

    def plain(item: int) -> None:
        note(who.get())
        who.set(f"job {item}")

    async def failing(item: int) -> None:
        note(who.get())
        who.set(f"job {item}")
        raise KeyError

    return {"at once": at_once, "later": later, "plain": plain, "failing": failing}


@pytest.mark.parametrize("executor", [None, "loop"], ids=["by kind", "loop"])
@pytest.mark.parametrize("kind", ["at once", "later", "plain", "failing"])
async def test_what_a_handler_sets_in_its_context_is_not_seen_by_the_next_job(
    virtual_time: VirtualTime, kind: str, executor: Any
):
    seen: list[str] = []
    handler = _handlers(seen.append)[kind]
    await qanat.collect(handler, range(6), concurrency=2, executor=executor)
    assert seen == ["nobody"] * 6


async def test_what_was_set_around_a_run_is_seen_in_its_handlers(virtual_time: VirtualTime):
    seen: list[str] = []
    token = who.set("the caller")
    try:
        for kind in ("at once", "later", "plain"):
            await qanat.collect(_handlers(seen.append)[kind], range(3), concurrency=2)
    finally:
        who.reset(token)
    assert seen == ["the caller"] * 9


async def test_what_was_set_where_a_job_was_submitted_is_not_seen_in_its_handler(virtual_time: VirtualTime):
    seen: list[str] = []
    async with qanat.Pool(_handlers(seen.append)["later"], concurrency=2) as pool:
        token = who.set("the submitter")
        for item in range(4):
            pool.submit(item)
        who.reset(token)
    assert seen == ["nobody"] * 4


many = [contextvars.ContextVar(f"v{number}", default=0) for number in range(40)]


def _keepers() -> dict[str, Callable[[], None]]:
    def nothing() -> None:
        pass

    def a_change() -> None:
        who.set("changed")

    def there_and_back() -> None:
        who.reset(who.set("for a moment"))

    return {"": nothing, "a change": a_change, "a change taken back": there_and_back}


@pytest.mark.parametrize("counting", ["counted", "too many variables", "not counted"])
@pytest.mark.parametrize("after", _keepers())
@pytest.mark.parametrize("before", _keepers())
async def test_a_context_that_is_kept_keeps_the_job_of_its_attempt(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch, before: str, after: str, counting: str
):
    """Whoever outlives the attempt, and whatever else the handler did to its context."""
    if counting == "not counted":
        monkeypatch.setattr("qanat._engine.carrier.count_references", context._cannot_count)
    kept: dict[int, contextvars.Context] = {}
    seen: list[tuple[int, str]] = []

    async def handler(item: int) -> None:
        seen.append((qanat.current_job().item, who.get()))
        _keepers()[before]()
        if item % 3:
            kept[item] = contextvars.copy_context()
        _keepers()[after]()

    tokens = [(each, each.set(1)) for each in many] if counting == "too many variables" else []
    await qanat.collect(handler, range(9), concurrency=2)
    for variable, token in tokens:
        variable.reset(token)
    assert sorted(seen) == [(item, "nobody") for item in range(9)]
    assert {item: each.run(qanat.current_job).item for item, each in kept.items()} == {
        item: item for item in range(9) if item % 3
    }


async def test_a_task_that_outlives_its_attempt_goes_on_with_its_job(virtual_time: VirtualTime):
    seen: list[tuple[int, int]] = []

    async def background(item: int, delay: float) -> None:
        await anyio.sleep(delay)
        seen.append((item, qanat.current_job().item))

    async with anyio.create_task_group() as group:

        async def handler(item: int) -> None:
            if item % 2:
                group.start_soon(background, item, 10.0 + item)

        await qanat.collect(handler, range(6), concurrency=2)
    assert seen == [(1, 1), (3, 3), (5, 5)]


async def test_between_its_jobs_a_carrier_holds_none(virtual_time: VirtualTime):
    async def handler(item: object) -> None:
        pass

    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    async with qanat.Pool(handler) as pool:
        pool.submit(thing)
        await pool.drain()
        del thing
        assert gone() is None


async def test_an_isolated_handler_can_still_be_cancelled(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        who.set(f"job {item}")
        try:
            await anyio.sleep(100.0)
        finally:
            assert who.get() == f"job {item}"

    outcomes = await qanat.collect(handler, range(3), concurrency=1, timeout=1.0)
    assert [type(outcome.error) for outcome in outcomes] == [JobTimeoutError] * 3
    assert virtual_time.now() == 3.0


# --- fairness ------------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.slow
def test_the_loop_stays_responsive_beside_handlers_that_never_wait(backend: str):
    gaps: list[float] = []

    async def tick() -> None:
        last = time.monotonic()
        while True:
            await anyio.sleep(0.01)
            gaps.append(time.monotonic() - last)
            last = time.monotonic()

    async def handler(item: int) -> None:
        pass

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            await qanat.collect(handler, range(150_000))
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert len(gaps) >= 5
    assert sorted(gaps)[len(gaps) // 2] < 0.05


@pytest.mark.real
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.slow
def test_handlers_that_never_wait_do_not_keep_others_from_their_turn(backend: str):
    ended: list[int] = []

    async def handler(item: int) -> None:
        if item == 0:
            await anyio.sleep(0.001)
            ended.append(len(ended))
        else:
            ended.append(item)

    anyio.run(lambda: qanat.collect(handler, range(100_000), concurrency=4), backend=backend)
    assert ended.index(next(each for each in ended if ended[each] == each and each > 0)) < 99_000


# --- garbage ---------------------------------------------------------------------------------------------


class Item:
    """Something that can be watched being forgotten."""


@pytest.mark.parametrize("handler_kind", ["coroutine function", "plain function"])
@pytest.mark.slow
async def test_failed_jobs_that_hold_themselves_leave_no_garbage(
    virtual_time: VirtualTime, handler_kind: str
):
    number = 10_000 if handler_kind == "coroutine function" else 500
    items: weakref.WeakSet[Item] = weakref.WeakSet()

    def source() -> Any:
        for _ in range(number):
            item = Item()
            items.add(item)
            yield item

    def plain(item: Item) -> None:
        job = qanat.current_job()
        raise KeyError(job.id)

    async def coroutine(item: Item) -> None:
        plain(item)

    handler: Any = plain if handler_kind == "plain function" else coroutine
    async with qanat.stream(handler, source(), concurrency=10, buffer=100) as outcomes:
        failed = 0
        async for outcome in outcomes:
            failed += outcome.state == "dead"
    del outcome, outcomes
    assert failed == number
    gc.collect()
    assert len(items) == 0


@pytest.mark.parametrize("executor", ["loop", "thread"])
async def test_an_idle_pool_keeps_no_item_and_no_value(virtual_time: VirtualTime, executor: Any):
    things: weakref.WeakSet[Item] = weakref.WeakSet()
    calls = itertools.count()

    def plain(item: Item) -> Item:
        value = Item()
        things.add(value)
        if next(calls) % 3 == 0:
            raise KeyError(value)
        return value

    async def coroutine(item: Item) -> Item:
        return plain(item)

    handler: Any = coroutine if executor == "loop" else plain
    async with qanat.Pool(handler, concurrency=3) as pool:
        for _ in range(20):
            item = Item()
            things.add(item)
            await pool.submit(item).outcome()
        del item
        await pool.drain()
        await anyio.sleep(1.0)
        gc.collect()
        assert len(things) == 0


async def test_a_partial_of_a_coroutine_function_is_one_too(virtual_time: VirtualTime):
    async def handler(first: int, item: int) -> int:
        await anyio.sleep(1.0)
        return first + item

    outcomes = await qanat.collect(functools.partial(functools.partial(handler), 10), range(3))
    assert outcomes.values() == [10, 11, 12]
    assert threading.active_count() >= 1
