"""What is called once a job and all below it are done: `job.after_children`, and `failure=`."""

from __future__ import annotations

import gc
import pickle
import time
import weakref
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import (
    Children,
    ChildrenFailedError,
    JobCancelledError,
    JobTimeoutError,
    Quorum,
    Retry,
    Throttled,
    TooManyFailuresError,
)

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


def counts(children: Children[Any]) -> tuple[int, int, int]:
    return children.done, children.failed, children.cancelled


async def leaf(seconds: float) -> float:
    """Take so long; a negative one fails."""
    await anyio.sleep(abs(seconds))
    if seconds < 0:
        raise OSError(f"{seconds}")
    return seconds


def spawning(*items: Any, callback: Any = counts, gather: bool = False, **options: Any) -> Any:
    async def root(_item: Any) -> str:
        job = qanat.current_job()
        for item in items:
            job.spawn(item, handler=leaf, **options)
        if callback is not None:
            job.after_children(callback, gather=gather)
        return "own"

    return root


async def test_a_callback_is_told_what_became_of_the_children(virtual_time: VirtualTime):
    outcomes = await qanat.collect(spawning(1.0, 3.0, -2.0), [0])
    assert outcomes[0].value == (2, 1, 0)
    assert virtual_time.now() == 3.0


async def test_the_outcome_tells_of_the_waiting(virtual_time: VirtualTime):
    async def callback(children: Children[Any]) -> None:
        await anyio.sleep(2.0)

    outcome, *_ = await qanat.collect(spawning(3.0, callback=callback), [0])
    assert (outcome.value, outcome.ended_at, outcome.ran) == ("own", 5.0, 2.0)
    assert outcome.waits == {"children": 3.0}


async def test_values_are_gathered_in_the_order_of_spawning(virtual_time: VirtualTime):
    def values(children: Children[float]) -> list[float]:
        return children.values()

    outcome, *_ = await qanat.collect(spawning(3.0, 1.0, -1.0, 2.0, callback=values, gather=True), [0])
    assert outcome.value == [3.0, 1.0, 2.0]


async def test_values_that_were_not_gathered_are_an_error(virtual_time: VirtualTime):
    def values(children: Children[float]) -> list[float]:
        return children.values()

    outcome, *_ = await qanat.collect(spawning(1.0, callback=values), [0])
    assert outcome.state == "dead"
    assert "gather=True" in str(outcome.error)


async def test_a_callback_waits_for_all_below_and_their_callbacks(virtual_time: VirtualTime):
    order: list[str] = []

    async def node(path: str) -> None:
        job = qanat.current_job()
        if len(path) < 3:
            for step in "ab":
                job.spawn(path + step)

        async def callback(children: Children[Any]) -> None:
            await anyio.sleep(1.0)
            order.append(path)

        job.after_children(callback)

    await qanat.collect(node, ["r"], concurrency=2)
    assert sorted(order) == sorted(["r", "ra", "rb", "raa", "rab", "rba", "rbb"])
    assert order[-1] == "r"
    assert order.index("ra") > max(order.index("raa"), order.index("rab"))
    assert order.index("rb") > max(order.index("rba"), order.index("rbb"))


async def test_a_job_without_a_callback_is_not_held_up_but_those_above_wait_for_all(
    virtual_time: VirtualTime,
):
    async def middle(seconds: float) -> None:
        qanat.current_job().spawn(seconds, handler=leaf)

    async def root(_item: Any) -> None:
        job = qanat.current_job()
        job.spawn(5.0, handler=middle)
        job.after_children(counts)

    outcomes = await qanat.collect(root, [0])
    assert [(outcome.id, outcome.ended_at) for outcome in outcomes] == [
        (0, 5.0),
        ("0/0", 0.0),
        ("0/0/0", 5.0),
    ]
    assert outcomes[0].value == (1, 0, 0)


async def test_a_callback_without_children_is_called_at_once(virtual_time: VirtualTime):
    (outcome,) = await qanat.collect(spawning(), [0])
    assert outcome.value == (0, 0, 0)


async def test_the_callback_runs_as_the_job_and_cannot_spawn(virtual_time: VirtualTime):
    jobs: list[Any] = []

    async def root(_item: Any) -> None:
        jobs.append(qanat.current_job())

        async def callback(children: Children[Any]) -> None:
            jobs.append(qanat.current_job())
            with pytest.raises(RuntimeError, match="not in the job's after_children callback"):
                jobs[0].spawn(1)
            with pytest.raises(RuntimeError, match="not in the job's after_children callback"):
                jobs[0].after_children(callback)

        jobs[0].after_children(callback)

    await qanat.map(root, [0])
    assert jobs[0] is jobs[1]


async def test_why_tells_of_the_children(virtual_time: VirtualTime):
    async with qanat.Pool(spawning(5.0)) as pool:
        handle = pool.submit(0)
        await anyio.sleep(1.0)
        reason = handle.why()
        assert reason is not None
        assert (reason.cause, reason.since) == ("children", 0.0)
        assert not handle.done
        assert await handle == (1, 0, 0)


async def test_why_tells_what_a_callback_waits_for(virtual_time: VirtualTime):
    found: list[Any] = []

    async def root(name: str) -> None:
        await anyio.sleep(2.0 if name == "other" else 1.0)
        if name == "root":
            qanat.current_job().spawn("child")
            qanat.current_job().after_children(callback)

    async def callback(children: Children[Any]) -> None:
        await anyio.sleep(1.0)
        if qanat.current_job().attempt == 1:
            raise OSError("once")

    def look() -> None:
        reason = handle.why()
        found.append(None if reason is None else (reason.cause, reason.since))

    retry = Retry(1, backoff=qanat.constant(1.0, jitter="none"))
    async with qanat.Pool(root, concurrency=qanat.Concurrency(1), retry=retry) as pool:
        handle = pool.submit("root")
        await anyio.sleep(1.5)  # the child runs
        look()
        pool.pause()
        await anyio.sleep(1.0)  # the callback is held up by the pause
        look()
        pool.submit("other")
        pool.resume()
        await anyio.sleep(0.5)  # it runs
        look()
        await anyio.sleep(0.75)  # it waits to be tried again, and the other one runs
        look()
        await anyio.sleep(1.25)  # it waits for the other one
        look()
        await handle.outcome()
        assert handle.why() is None
    assert found == [("children", 1.0), ("paused", 2.0), None, ("retry", 3.5), ("concurrency", 4.5)]


async def test_why_tells_that_a_callback_waits_for_a_slot(virtual_time: VirtualTime):
    async def root(name: str) -> None:
        await anyio.sleep({"other": 9.0}.get(name, 1.0))
        if name == "root":
            qanat.current_job().spawn("child")
            qanat.current_job().after_children(print)

    async with qanat.Pool(root, concurrency=2) as pool:
        handle, _ = pool.submit("root"), pool.submit("other")
        await anyio.sleep(1.5)
        pool.resize(1)
        await anyio.sleep(1.0)
        reason = handle.why()
        assert reason is not None
        assert (reason.cause, reason.limit, reason.since) == ("concurrency", "1", 2.0)


async def test_a_callback_holds_a_slot_and_goes_first(virtual_time: VirtualTime):
    ran: list[tuple[str, float]] = []

    async def root(name: str) -> None:
        if name == "root":

            async def callback(children: Children[Any]) -> None:
                ran.append(("callback", virtual_time.now()))
                await anyio.sleep(2.0)

            qanat.current_job().after_children(callback)
        else:
            ran.append((name, virtual_time.now()))
            await anyio.sleep(1.0)

    await qanat.collect(root, ["root", "a", "b"], concurrency=1)
    assert ran == [("callback", 0.0), ("a", 2.0), ("b", 3.0)]


async def test_a_callback_takes_no_rate(virtual_time: VirtualTime):
    outcome, *_ = await qanat.collect(spawning(1.0), [0], rate="1/100s")
    assert outcome.ended_at == 101.0


async def test_a_callback_takes_a_slot_of_a_concurrency_that_counts_them(virtual_time: VirtualTime):
    slots = qanat.Concurrency(1)

    async def callback(children: Children[Any]) -> float:
        await anyio.sleep(1.0)
        return virtual_time.now()

    outcomes = await qanat.collect(spawning(callback=callback), [0, 1], concurrency=slots)
    assert outcomes.values() == [1.0, 2.0]
    assert slots._running == 0


async def test_a_slot_that_comes_free_elsewhere_lets_a_callback_start(virtual_time: VirtualTime):
    slots = qanat.Concurrency(2)

    async with (
        qanat.Pool(leaf, concurrency=slots) as other,
        qanat.Pool(spawning(0.5), concurrency=slots) as pool,
    ):
        handle = pool.submit(0)
        await anyio.sleep(0.25)
        other.submit(4.0)
        await anyio.sleep(0.125)
        slots.resize(1)
        assert (await handle.outcome()).ended_at == 4.25


async def test_a_callback_waits_while_a_pool_is_paused(virtual_time: VirtualTime):
    async with qanat.Pool(spawning(1.0)) as pool:
        handle = pool.submit(0)
        await anyio.sleep(0.5)
        pool.pause()
        await anyio.sleep(5.0)
        assert not handle.done
        pool.resume()
        assert (await handle.outcome()).ended_at == 5.5


async def test_a_callback_is_tried_again_and_timed_out(virtual_time: VirtualTime):
    calls: list[float] = []

    async def callback(children: Children[Any]) -> str:
        calls.append(virtual_time.now())
        if len(calls) == 1:
            await anyio.sleep(60.0)
        if len(calls) == 2:
            raise OSError("again")
        if len(calls) == 3:
            raise Throttled(retry_after=7.0)
        return "at last"

    outcome, *_ = await qanat.collect(
        spawning(1.0, callback=callback),
        [0],
        timeout=3.0,
        retry=Retry(2, backoff=qanat.constant(1.0, jitter="none")),
    )
    assert calls == [1.0, 5.0, 6.0, 13.0]
    assert (outcome.value, outcome.attempts) == ("at last", 1)


async def test_a_callback_that_fails_for_good_fails_its_job(virtual_time: VirtualTime):
    async def callback(children: Children[Any]) -> None:
        await anyio.sleep(60.0)

    outcome, child = await qanat.collect(spawning(1.0, callback=callback), [0], timeout=3.0)
    assert isinstance(outcome.error, JobTimeoutError)
    assert child.ok


async def test_a_job_that_failed_has_its_callback_called_and_stays_failed(virtual_time: VirtualTime):
    seen: list[tuple[int, int, int]] = []

    async def root(_item: Any) -> None:
        job = qanat.current_job()
        job.spawn(2.0, handler=leaf)
        job.after_children(lambda children: seen.append(counts(children)))
        raise OSError("root")

    outcome, _ = await qanat.collect(root, [0])
    assert seen == [(1, 0, 0)]
    assert (str(outcome.error), outcome.ended_at) == ("root", 2.0)


async def test_what_the_last_attempt_registered_is_called(virtual_time: VirtualTime):
    called: list[str] = []

    async def root(name: str) -> None:
        job = qanat.current_job()
        attempt = job.attempt
        if attempt == 1 or name == "both":
            job.after_children(lambda children: called.append(f"{name} {attempt}"))
        if attempt == 1:
            raise OSError("once")

    outcomes = await qanat.collect(root, ["first", "both"], retry=1)
    assert called == ["both 2"]
    assert [outcome.attempts for outcome in outcomes] == [2, 2]


async def test_two_callbacks_in_one_attempt_are_an_error(virtual_time: VirtualTime):
    async def root(_item: Any) -> None:
        qanat.current_job().after_children(counts)
        qanat.current_job().after_children(counts)

    (outcome,) = await qanat.collect(root, [0])
    assert isinstance(outcome.error, RuntimeError)
    assert "called before in this attempt" in str(outcome.error)


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (3, "callback must be a function of the Children, got 3"),
        (lambda: None, "callback must take exactly one argument"),
        (lambda a, b: None, "callback must take exactly one argument"),
    ],
    ids=["no function", "no argument", "two arguments"],
)
async def test_what_is_no_callback_is_refused_at_the_call(
    virtual_time: VirtualTime, callback: Any, message: str
):
    (outcome,) = await qanat.collect(spawning(callback=callback), [0])
    assert isinstance(outcome.error, TypeError)
    assert str(outcome.error).startswith(message)


# --- failure ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "failure", "expected"),
    [
        ((1.0, -1.0), "continue", None),
        ((1.0, 2.0), "fail", None),
        ((3.0, -1.0), "fail", (1, 2)),
        ((1.0, 2.0, 3.0, -1.0), Quorum(0.75), None),
        ((1.0, 2.0, -3.0, -1.0), Quorum(0.75), (2, 4)),
        ((-1.0,), Quorum(1.0), (1, 1)),
        ((1.0,) * 9 + (-1.0,), Quorum(0.9), None),
    ],
    ids=str,
)
@pytest.mark.parametrize("callback", [None, counts], ids=["alone", "with a callback"])
async def test_children_may_fail_their_parent(
    virtual_time: VirtualTime, items: Any, failure: Any, expected: Any, callback: Any
):
    outcome, *_ = await qanat.collect(
        spawning(*items, failure=failure, callback=callback), [0], concurrency=100
    )
    if expected is None:
        assert outcome.ok
    else:
        assert isinstance(outcome.error, ChildrenFailedError)
        assert (outcome.error.failed, outcome.error.finished) == expected
        assert outcome.ended_at == max(abs(item) for item in items)


async def test_a_parent_is_told_even_of_children_that_an_earlier_attempt_spawned(virtual_time: VirtualTime):
    async def root(_item: Any) -> None:
        job = qanat.current_job()
        job.spawn(-1.0, handler=leaf, failure="fail")
        await anyio.sleep(2.0)
        if job.attempt == 1:
            raise OSError("once")

    outcome, child = await qanat.collect(
        root, [0], retry=Retry(1, on=OSError, when=lambda error, _: str(error) == "once")
    )
    assert isinstance(outcome.error, ChildrenFailedError)
    assert child.attempts == 1


@pytest.mark.parametrize(
    ("failed", "cancelled", "said"),
    [(1, 0, "failed"), (1, 1, "failed, and 1 was cancelled"), (0, 1, "was cancelled"),
     (2, 2, "failed, and 2 were cancelled"), (0, 2, "were cancelled")],
)  # fmt: skip
async def test_error_tells_children_that_failed_from_those_that_were_cancelled(
    virtual_time: VirtualTime, failed: int, cancelled: int, said: str
):
    async def root(_item: Any) -> None:
        for number in range(5):
            sign = -1 if number < failed else 1
            handle = qanat.current_job().spawn(sign * (1.0 + number), handler=leaf, failure=Quorum(1.0))
            if number >= 5 - cancelled:
                handle.cancel()

    outcome = (await qanat.collect(root, [0]))[0]
    error = outcome.error
    assert isinstance(error, ChildrenFailedError)
    assert (error.failed, error.cancelled, error.finished) == (failed + cancelled, cancelled, 5)
    number = failed or cancelled
    assert str(error) == f"{number} of 5 jobs that this one spawned, and depends on, {said}"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 - our own


async def test_chains_of_policies_are_judged_without_recursion(virtual_time: VirtualTime):
    async def deeper(depth: int) -> None:
        if not depth:
            raise OSError("the last")
        qanat.current_job().spawn(depth - 1, failure="fail")

    outcomes = await qanat.collect(deeper, [3_000])
    assert len(outcomes.failed) == 3_001
    assert sum(isinstance(outcome.error, ChildrenFailedError) for outcome in outcomes) == 3_000


@pytest.mark.real
@pytest.mark.parametrize("concurrency", [1, qanat.Concurrency(1)], ids=["slots", "a limit"])
def test_a_callback_that_outlives_its_timeout_keeps_its_slot(concurrency: Any):
    def slow(children: Children[Any]) -> None:
        time.sleep(0.3)

    def root(item: int) -> float:
        if not item:
            qanat.current_job().after_children(slow)
        return time.monotonic()

    first, second = qanat.run(root, [0, 1], timeout=0.1, concurrency=concurrency)
    assert isinstance(first.error, JobTimeoutError)
    assert first.error.still_running
    assert second.value is not None
    assert second.value - first.ended_at >= 0.1


@pytest.mark.parametrize("share", [0, 1.1, -0.5, float("nan")])
def test_a_quorum_is_a_share(share: float):
    with pytest.raises(ValueError, match="share must be"):
        Quorum(share)


# --- cancelling and stopping -----------------------------------------------------------------


async def test_cancelling_a_job_cancels_it_alone(virtual_time: VirtualTime):
    seen: list[tuple[int, int, int]] = []

    async def root(_item: Any) -> None:
        job = qanat.current_job()
        job.spawn(5.0, handler=leaf)
        job.after_children(lambda children: seen.append(counts(children)))
        await anyio.sleep(10.0)

    async with qanat.Pool(root) as pool:
        handle = pool.submit(0)
        await anyio.sleep(1.0)
        assert handle.cancel()
        with pytest.raises(JobCancelledError):
            await handle
        assert virtual_time.now() == 5.0
    assert seen == [(1, 0, 0)]


async def test_a_job_that_waits_for_its_children_can_be_cancelled(virtual_time: VirtualTime):
    seen: list[tuple[int, int, int]] = []
    async with qanat.Pool(spawning(5.0, callback=lambda children: seen.append(counts(children)))) as pool:
        handle = pool.submit(0)
        await anyio.sleep(1.0)
        assert handle.cancel()
        assert not handle.cancel()
        outcome = await handle.outcome()
        assert (outcome.state, outcome.ended_at) == ("cancelled", 5.0)
    assert seen == [(1, 0, 0)]


async def test_a_job_held_by_a_policy_is_cancelled_at_once(virtual_time: VirtualTime):
    async with qanat.Pool(spawning(5.0, failure="fail", callback=None)) as pool:
        handle = pool.submit(0)
        await anyio.sleep(1.0)
        assert handle.cancel()
        assert (await handle.outcome()).ended_at == 1.0


@pytest.mark.parametrize("waits", [False, True])
async def test_a_callback_is_cancelled_the_second_time(virtual_time: VirtualTime, waits: bool):
    async def callback(children: Children[Any]) -> None:
        await anyio.sleep(60.0)

    async with qanat.Pool(spawning(0.5, callback=callback)) as pool:
        handle = pool.submit(0)
        await anyio.sleep(0.25)
        if waits:
            pool.pause()
        await anyio.sleep(0.75)
        assert handle.cancel()
        assert not handle.done
        assert handle.cancel()
        outcome = await handle.outcome()
        assert (outcome.state, outcome.ended_at) == ("cancelled", 1.0)
        assert not handle.cancel()


async def test_a_callback_that_waits_to_be_tried_again_is_cancelled_the_second_time(
    virtual_time: VirtualTime,
):
    def callback(children: Children[Any]) -> None:
        raise OSError("again")

    backoff = qanat.constant(60.0, jitter="none")
    async with qanat.Pool(spawning(callback=callback), retry=Retry(1, backoff=backoff)) as pool:
        handle = pool.submit(0)
        await anyio.sleep(1.0)
        assert handle.cancel()
        assert handle.cancel()
        outcome = await handle.outcome()
        assert (outcome.state, outcome.ended_at) == ("cancelled", 1.0)


async def test_cancelling_the_run_calls_no_callback(virtual_time: VirtualTime):
    seen: list[Any] = []
    async with qanat.Pool(spawning(5.0, callback=seen.append)) as pool:
        handle = pool.submit(0)
        await anyio.sleep(1.0)
        pool.cancel()
        outcome = await handle.outcome()
    assert (outcome.state, outcome.ended_at) == ("cancelled", 1.0)
    assert seen == []


async def test_a_gentle_stop_calls_the_callbacks_of_whole_trees_only(virtual_time: VirtualTime):
    called: list[str] = []

    async def root(name: str) -> None:
        job = qanat.current_job()
        for _ in range(1 if name == "whole" else 5):
            job.spawn(5.0, handler=leaf)
        job.after_children(lambda children: called.append(name))

    async with qanat.Pool(root, concurrency=2) as pool:
        whole = pool.submit("whole")
        cut = pool.submit("cut")
        await anyio.sleep(1.0)
        assert pool._engine is not None
        pool._engine.stop()
        assert (await whole.outcome()).state == "done"
        assert (await cut.outcome()).state == "cancelled"
    assert called == ["whole"]


async def test_what_is_spawned_while_the_run_stops_is_cancelled(virtual_time: VirtualTime):
    async def root(_item: Any) -> bool:
        await anyio.sleep(2.0)
        return qanat.current_job().spawn(1.0, handler=leaf).done

    async with qanat.Pool(root) as pool:
        handle = pool.submit(0)
        await anyio.sleep(1.0)
        assert pool._engine is not None
        pool._engine.stop()
        assert await handle is True
        assert pool.stats().cancelled == 1


async def test_a_gentle_stop_cancels_a_job_whose_children_were_to_judge_it(virtual_time: VirtualTime):
    async with qanat.Pool(spawning(*[5.0] * 5, callback=None, failure="fail"), concurrency=2) as pool:
        handle = pool.submit(0)
        await anyio.sleep(1.0)
        assert pool._engine is not None
        pool._engine.stop()
        outcome = await handle.outcome()
        assert (outcome.state, outcome.ended_at) == ("cancelled", 5.0)
        assert "stopped before the job's children" in str(outcome.error)


async def test_a_callback_that_fails_while_the_run_stops_is_not_tried_again(virtual_time: VirtualTime):
    calls: list[float] = []

    async def callback(children: Children[Any]) -> None:
        calls.append(virtual_time.now())
        await anyio.sleep(5.0)
        raise OSError("again")

    async with qanat.Pool(spawning(callback=callback), retry=3) as pool:
        handle = pool.submit(0)
        await anyio.sleep(1.0)
        assert pool._engine is not None
        pool._engine.stop()
        outcome = await handle.outcome()
        assert (outcome.state, calls) == ("cancelled", [0.0])


async def test_a_callback_that_gives_a_coroutine_fails(virtual_time: VirtualTime):
    async def callback(children: Children[Any]) -> Any:
        return leaf(1.0)

    (outcome,) = await qanat.collect(spawning(callback=callback), [0])
    assert isinstance(outcome.error, TypeError)
    assert str(outcome.error).startswith(
        "the after_children callback returned a coroutine that nobody awaited"
    )


async def test_a_callback_waits_for_a_slot_that_others_hold(virtual_time: VirtualTime):
    """With a limit beside it, so that jobs take turns."""
    async with qanat.Pool(spawning(1.0), concurrency=1, rate="100/s") as pool:
        handle = pool.submit(0)
        other = pool.call(leaf, 3.0)
        assert await handle == (1, 0, 0)
        assert (await other.outcome()).ended_at <= 5.0


async def test_nothing_of_a_finished_tree_is_left(virtual_time: VirtualTime):
    class Item:
        pass

    refs: list[Any] = []

    async def node(item: Item) -> None:
        job = qanat.current_job()
        if len(refs) < 40:
            for _ in range(3):
                child = Item()
                refs.append(weakref.ref(child))
                job.spawn(child)
                del child
        job.after_children(counts, gather=True)

    async with qanat.Pool(node) as pool:
        pool.submit(Item())
        await pool.drain()
        assert pool._engine is not None
        family = pool._engine.dispatcher.family
        assert family is not None
        assert not any((family.book.roots, family.book.ready, family.book.due, family.book.twins))
        await anyio.sleep(1.0)
        gc.collect()
        assert not [ref for ref in refs if ref() is not None]


@pytest.mark.virtual_time("asyncio", "trio")
async def test_a_parent_that_fails_as_it_returns_counts_towards_max_failures(virtual_time: VirtualTime):
    ran: list[int] = []

    async def handler(item: int) -> int:
        if item < 0:
            raise ValueError(item)
        if item == 0:
            child = qanat.current_job().spawn(-1, failure="fail")
            await child.outcome()
            return item
        await anyio.sleep(1.0)
        ran.append(item)
        return item

    with pytest.raises(TooManyFailuresError):
        await qanat.collect(handler, range(50), concurrency=2, max_failures=1)
    assert len(ran) <= 1
