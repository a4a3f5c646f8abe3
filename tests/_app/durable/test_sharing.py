"""`collect`, `map` and `stream` over a queue: the same calls, whose jobs many may do, and none twice."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import current_job
from qanat._core.store.values import Settle
from qanat.errors import (
    JobCancelledError,
    JobFailedError,
    SerialisationError,
    TooManyFailuresError,
    outcomes_of,
)
from tests._app.durable.faulty import put_in_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from qanat.testing import VirtualTime

calls: Counter[Any] = Counter()
failing: set[Any] = set()


@pytest.fixture(autouse=True)
def anew() -> None:
    calls.clear()
    failing.clear()


async def double(item: int) -> int:
    """A handler that naps for a second."""
    calls[item] += 1
    await anyio.sleep(1)
    if item in failing:
        raise OSError(f"no {item}")
    return 2 * item


def again(seconds: float = 1.0) -> qanat.Retry:
    return qanat.Retry(1, backoff=qanat.constant(seconds))


async def test_outcomes_are_those_of_the_call_without_a_queue(virtual_time: VirtualTime):
    failing.add(3)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        outcomes = await qanat.collect(double, range(20), queue=queue, concurrency=10, retry=again())
        assert [outcome.index for outcome in outcomes] == list(range(20))
        assert [outcome.item for outcome in outcomes] == list(range(20))
        assert outcomes.values() == [2 * item for item in range(20) if item != 3]
        (failed,) = outcomes.failed
        assert (failed.state, str(failed.error), failed.attempts) == ("dead", "no 3", 2)
        first = outcomes[0]
        assert (first.attempts, first.ran, first.offered_at, first.ended_at) == (1, 1.0, 0.0, 1.0)
        assert not first.recalled
        assert calls == Counter(range(20)) + Counter([3])
        counts = await queue.counts()
        assert (counts.done, counts.dead, counts.put) == (19, 1, 20)
        kept = await queue.get(str(first.id))
        assert kept is not None
        assert (kept.value, kept.handler) == (0, "double")
        summary = outcomes.summary()
        assert (summary.total, summary.done, summary.failed, summary.recalled) == (20, 19, 1, 0)


async def test_the_same_call_again_runs_nothing_again(virtual_time: VirtualTime):
    failing.add(3)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        before = await qanat.collect(double, range(5), queue=queue)
        outcomes = await qanat.collect(double, range(6), queue=queue)
        assert calls == Counter(range(6))
        assert virtual_time.now() == 2.0
        assert [outcome.value for outcome in outcomes] == [0, 2, 4, None, 8, 10]
        assert [outcome.recalled for outcome in outcomes] == [True, True, True, False, True, False]
        error = outcomes[3].error
        assert isinstance(error, JobFailedError)
        assert (str(error), error.reason) == ("OSError: no 3", "OSError: no 3")
        assert error.traceback.startswith("Traceback")
        assert [outcome.id for outcome in before] == [outcome.id for outcome in outcomes[:5]]
        assert "4 taken from the queue" in str(outcomes.summary())


async def test_what_failed_runs_again_if_that_is_asked_for(virtual_time: VirtualTime):
    failing.add(3)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        await qanat.collect(double, range(5), queue=queue)
        failing.clear()
        outcomes = await qanat.collect(double, range(5), queue=queue, retry_failed=True)
        assert outcomes.values() == [0, 2, 4, 6, 8]
        assert calls == Counter(range(5)) + Counter([3])


async def test_jobs_are_forgotten_when_they_were_kept_long_enough(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        await qanat.collect(double, range(2), queue=queue)
        await anyio.sleep(61)
        assert (await qanat.collect(double, range(2), queue=queue)).values() == [0, 2]
        await queue.rescue()
        assert (await qanat.collect(double, range(3), queue=queue)).values() == [0, 2, 4]
        assert calls[2] == 1


async def test_equal_items_and_keys_are_one_job(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        outcomes = await qanat.collect(double, [1, 2, 1, 1], queue=queue)
        assert outcomes.values() == [2, 4, 2, 2]
        assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
        assert [outcome.ran for outcome in outcomes] == [1.0, 1.0, 0.0, 0.0]
        by_tens = await qanat.collect(
            double, [11, 12, 25], queue=queue, key=lambda item: ("tens", item // 10)
        )
        assert by_tens.values() == [22, 22, 50]
        assert [outcome.item for outcome in by_tens] == [11, 12, 25]
        assert calls == {1: 1, 2: 1, 11: 1, 25: 1}


async def test_other_handlers_and_versions_have_jobs_of_their_own(virtual_time: VirtualTime):
    async def triple(item: int) -> int:
        return 3 * item

    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        assert await qanat.map(double, [1], queue=queue) == [2]
        assert await qanat.map(triple, [1], queue=queue) == [3]
        assert await qanat.map(double, [1], queue=queue, version=2) == [2]
        assert await qanat.map(lambda item: item, [1], queue=queue, version="itself") == [1]
        assert calls == {1: 2}


async def test_two_calls_share_their_jobs(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        results: list[list[int]] = []

        async def call() -> None:
            results.append(await qanat.map(double, range(20), queue=queue, concurrency=5))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            group.start_soon(call)
        assert results == [[2 * item for item in range(20)]] * 2
        assert calls == Counter(range(20))
        assert virtual_time.now() < 4.0


async def test_workers_share_the_jobs_of_a_call(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        async with anyio.create_task_group() as group:

            async def work() -> None:
                await qanat.consume(queue, double, concurrency=15)

            group.start_soon(work)
            outcomes = await qanat.collect(double, range(20), queue=queue, concurrency=5)
            group.cancel_scope.cancel()
        assert outcomes.values() == [2 * item for item in range(20)]
        assert calls == Counter(range(20))
        assert 0 < sum(outcome.recalled for outcome in outcomes) < 20


async def test_jobs_done_by_hand_are_found(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        await queue.admin.pause()
        outcomes: list[Any] = []

        async def call() -> None:
            outcomes.extend(await qanat.collect(double, [1, 2, 3, 4], queue=queue))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.sleep(5)
            ready = (await queue.find(state="ready")).jobs
            ids = {job.item: job.id for job in ready}
            await queue.cancel(ids[1])
            await queue.admin.delete(ids[2])
            await queue.admin.resume()
        assert [outcome.state for outcome in outcomes] == ["cancelled", "cancelled", "done", "done"]
        assert str(outcomes[0].error) == "the job was cancelled in the queue"
        assert str(outcomes[1].error).startswith("the job is in the queue no more")


async def test_a_bound_of_the_queue_ends_a_job(virtual_time: VirtualTime):
    failing.add(1)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0, max_attempts=2)
        (outcome,) = await qanat.collect(
            double, [1], queue=queue, retry=qanat.Retry(9, backoff=qanat.constant(1.0))
        )
        error = outcome.error
        assert isinstance(error, JobFailedError)
        assert (error.reason, outcome.attempts, calls[1]) == ("attempts", 2, 2)
        assert "OSError: no 1" in error.traceback


async def test_map_raises_the_first_failure_and_leaves_the_rest_in_the_queue(virtual_time: VirtualTime):
    failing.add(3)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        with pytest.raises(OSError, match="no 3") as raised:
            await qanat.map(double, range(30), queue=queue, concurrency=5)
        assert "with item 3, after 1 attempt" in raised.value.__notes__[0]
        states = Counter(outcome.state for outcome in outcomes_of(raised.value))
        assert states == {"done": 4, "dead": 1, "cancelled": 25}
        counts = await queue.counts()
        assert (counts.done, counts.dead, counts.ready, counts.leased) == (4, 1, 25, 0)
        # And raises it again, until it is told to try.
        with pytest.raises(JobFailedError, match="OSError: no 3"):
            await qanat.map(double, range(30), queue=queue, concurrency=5)
        failing.clear()
        values = await qanat.map(double, range(30), queue=queue, concurrency=5, retry_failed=True)
        assert values == [2 * item for item in range(30)]


async def test_too_many_failures_stop_a_call(virtual_time: VirtualTime):
    failing.update(range(4))
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        with pytest.raises(TooManyFailuresError) as raised:
            await qanat.collect(double, range(30), queue=queue, concurrency=2, max_failures=3)
        assert (raised.value.failed, len(outcomes_of(raised.value))) == (4, 30)
        assert sum(calls.values()) == 4


async def test_a_call_that_is_cancelled_gives_its_jobs_back_at_once(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        with anyio.move_on_after(1.5) as scope:
            await qanat.collect(double, range(10), queue=queue, concurrency=4)
        assert scope.cancelled_caught
        assert virtual_time.now() == 1.5
        counts = await queue.counts()
        assert (counts.done, counts.ready, counts.leased) == (4, 6, 0)
        assert {job.attempt for job in (await queue.find(state="ready")).jobs} == {0}
        assert await qanat.map(double, range(10), queue=queue) == [2 * item for item in range(10)]
        assert sum(calls.values()) == 14


async def test_a_source_that_raises_ends_what_was_read(virtual_time: VirtualTime):
    def items() -> Iterator[int]:
        yield from range(3)
        raise LookupError("no more")

    async def awaited() -> AsyncIterator[int]:
        for item in range(3):
            yield item
        raise LookupError("no more")

    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        for source in (items(), awaited()):
            with pytest.raises(LookupError) as raised:
                await qanat.collect(double, source, queue=queue)
            assert raised.value.__notes__ == ["raised by the source of items after 3 of them"]
            assert [outcome.value for outcome in outcomes_of(raised.value)] == [0, 2, 4]
        assert calls == Counter(range(3))


async def test_an_endless_source_is_read_as_far_as_outcomes_are(virtual_time: VirtualTime):
    read: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        for item in range(10**9):
            read.append(item)
            yield item

    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        values: list[int] = []
        async with qanat.stream(
            double, numbers(), queue=queue, buffer=20, concurrency=5, ordered=True
        ) as outcomes:
            await anyio.sleep(100)
            assert len(read) == 21  # one is read, and waits for room
            async for outcome in outcomes:
                values.append(outcome.unwrap())
                if len(values) == 50:
                    break
        assert values == [2 * item for item in range(50)]
        assert len(read) <= 71
        counts = await queue.counts()
        assert (counts.leased, counts.scheduled) == (0, 0)
        assert counts.done + counts.ready == counts.put


async def test_a_stream_gives_outcomes_as_they_come(virtual_time: VirtualTime):
    async def nap(item: int) -> int:
        await anyio.sleep(item)
        return item

    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        async with qanat.stream(nap, [3, 1, 2], queue=queue) as outcomes:
            assert [outcome.value async for outcome in outcomes] == [1, 2, 3]
            with pytest.raises(StopAsyncIteration):
                await anext(outcomes)
            with pytest.raises(RuntimeError, match="once"):
                await outcomes.__aenter__()

        def fails() -> Iterator[int]:
            yield 5
            raise LookupError

        seen: list[int] = []
        with pytest.raises(LookupError):
            async with qanat.stream(nap, fails(), queue=queue) as outcomes:
                async for outcome in outcomes:
                    seen.append(outcome.item)
        assert seen == [5]

        def interrupts() -> Iterator[int]:
            yield 6
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            async with qanat.stream(nap, interrupts(), queue=queue) as outcomes:
                assert [outcome.state async for outcome in outcomes] == []
        with pytest.raises(KeyboardInterrupt):
            await qanat.collect(nap, interrupts(), queue=queue)
        with pytest.raises(RuntimeError, match="enter the stream first"):
            await anext(qanat.stream(nap, [1], queue=queue))
        with pytest.raises(ZeroDivisionError):
            async with qanat.stream(nap, [100], queue=queue):
                await anyio.sleep(1)
                raise ZeroDivisionError
        assert (await queue.counts()).leased == 0


async def test_a_job_of_a_call_is_cancelled_while_it_runs(virtual_time: VirtualTime):
    async def long(item: int) -> int:
        await anyio.sleep(1000 * item)
        return item

    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0, lease=30.0)
        outcomes: list[Any] = []

        async def call() -> None:
            outcomes.extend(await qanat.collect(long, [0, 1], queue=queue))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            await anyio.sleep(1)
            (job,) = (await queue.find(state="leased")).jobs
            assert await queue.cancel(job.id) == ["asked"]
        assert [outcome.state for outcome in outcomes] == ["done", "cancelled"]
        assert virtual_time.now() < 20.0


async def test_a_lease_that_is_lost_tells_what_the_other_worker_did(virtual_time: VirtualTime):
    """The value of whoever holds the lease counts, and not that of who lost it."""
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0, lease=30.0)

        async def late(item: int) -> str:
            job = current_job()
            if job.attempt == 1:
                # As if this process had stood still until its lease had expired.
                (stored,) = (await queue.find(state="leased")).jobs
                await store.desk.ask("settle q", [Settle(id=stored.id, token=stored.token, kind="retry")])
                (other,) = await queue.lease()
                await store.desk.ask(
                    "settle q", [Settle(id=other.id, token=other.token, kind="done", value=b'"theirs"')]
                )
            return "ours"

        # One at a time, or this run itself may be first to lease what it has lost.
        assert await qanat.map(late, [1], queue=queue, concurrency=1) == ["theirs"]


@dataclass
class Point:
    x: int
    y: int


async def total(point: Point) -> int:
    assert isinstance(point, Point)
    return point.x + point.y


async def test_items_that_would_come_back_otherwise_fail_alone(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        items: list[Any] = [Point(1, 2), (1, 2), object()]
        outcomes = await qanat.collect(total, items, queue=queue)
        assert [type(outcome.error) for outcome in outcomes] == [SerialisationError] * 3
        assert "open the queue with type=Point" in str(outcomes[0].error)
        assert (await queue.counts()).put == 0
        points = store.queue("points", type=Point, keep=60.0)
        assert await qanat.map(total, [Point(1, 2), Point(3, 4)], queue=points) == [3, 7]

        def key(item: int) -> str:
            return str(1 // item)

        by_key = await qanat.collect(double, [0, 1], queue=queue, key=key)
        assert [outcome.state for outcome in by_key] == ["dead", "done"]
        assert isinstance(by_key[0].error, ZeroDivisionError)


async def test_values_come_back_as_the_handler_returned_them(virtual_time: VirtualTime):
    async def pair(item: int) -> tuple[int, str]:
        return item, "x"

    async def loose(item: int):
        return (item,) if item else None

    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        for _ in range(2):
            assert await qanat.map(pair, [1], queue=queue) == [(1, "x")]
        outcomes = await qanat.collect(loose, [0, 1], queue=queue, retry=3)
        assert outcomes[0].unwrap() is None
        assert "cannot be kept in the queue, as it would come back as [1]" in str(outcomes[1].error)
        assert outcomes[1].attempts == 1


async def test_batches_that_wait_for_nothing_more_start(virtual_time: VirtualTime):
    sizes: list[int] = []

    async def all_of(items: list[int]) -> list[int]:
        sizes.append(len(items))
        await anyio.sleep(1)
        return [2 * item for item in items]

    async def slowly() -> AsyncIterator[int]:
        for item in range(100, 123):
            await anyio.sleep(1)
            yield item

    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        values = await qanat.map(all_of, range(23), queue=queue, batch=qanat.Batch(10))
        assert values == [2 * item for item in range(23)]
        assert sizes == [10, 10, 3]
        sizes.clear()
        assert len(await qanat.map(all_of, slowly(), queue=queue, batch=qanat.Batch(10))) == 23
        assert sizes == [10, 10, 3]


async def test_jobs_with_children_have_their_outcomes_when_those_have_ended(virtual_time: VirtualTime):
    async def parent(item: int) -> int:
        calls[item] += 1
        if item < 10:
            current_job().spawn(item + 10)
        await anyio.sleep(5)
        return item

    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        outcomes = await qanat.collect(parent, range(3), queue=queue)
        assert [(outcome.index, outcome.value) for outcome in outcomes] == [(0, 0), (1, 1), (2, 2)]
        assert {outcome.ended_at for outcome in outcomes} == {10.0}
        assert sum(calls.values()) == 6


async def test_a_store_that_is_away_is_waited_for(virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        await queue.counts()
        faults.refuse.update(put=5, settle=3)
        faults.lose.update(put=1, settle=1)
        assert await qanat.map(double, range(20), queue=queue) == [2 * item for item in range(20)]
        assert calls == Counter(range(20))


async def test_no_items_are_no_outcomes(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        assert await qanat.collect(double, [], queue=queue) == []
        assert virtual_time.now() == 0.0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"queue": "q"}, TypeError, "queue must be a queue of an open store, got 'q'"),
        ({"id": str}, ValueError, "id must be None with a queue"),
        ({"journal": "x.db"}, ValueError, "journal must be None with a queue"),
        ({"record": "x"}, ValueError, "record must be None with a queue"),
        ({"max_jobs": 5}, ValueError, "max_jobs must be None with a queue"),
        ({"start_within": 5}, ValueError, "start_within must be None with a queue"),
        ({"handler": lambda item: item}, ValueError, "version must say which handler this is, got None: .*a queue"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)  # fmt: skip
async def test_wrong_calls_fail_at_the_call(
    virtual_time: VirtualTime, options: dict[str, Any], error: type[Exception], message: str
):
    async with qanat.open("memory://") as store:
        given: dict[str, Any] = {
            "handler": double,
            "items": [1],
            "queue": store.queue("q", keep=60.0),
            **options,
        }
        with pytest.raises(error, match=message):
            await qanat.collect(**given)
        with pytest.raises(error, match=message):
            qanat.stream(**given)


async def test_a_queue_goes_with_calls_over_items_alone(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        rules = qanat.Rules(queue=queue, concurrency=3)
        assert str(rules) == "3 at once, over the queue q"
        assert await qanat.map(double, [1], rules=rules) == [2]
        with pytest.raises(ValueError, match="queue must be None for a Pool, got 'q'"):
            qanat.Pool(double, rules=rules)
        with pytest.raises(ValueError, match="queue must not be set for a queue"):
            await qanat.consume(queue, double, rules=rules)
        with pytest.raises(TypeError, match="queue must be one of a store opened by `with"):
            qanat.run(double, [1], queue=queue)
        with pytest.raises(ValueError, match="queue must keep results for whoever asks for them"):
            await qanat.collect(double, [1], queue=store.queue("other"))
        stream = qanat.stream(double, [1], queue=store.queue("other"))
        with pytest.raises(ValueError, match="queue must keep results"):
            async with stream as outcomes:
                await anext(outcomes)


def test_run_takes_a_queue_of_plain_code():
    async def same(item: int) -> int:
        calls[item] += 1
        return item

    with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        for _ in range(2):
            assert qanat.run(same, range(5), queue=queue).values() == [0, 1, 2, 3, 4]
        assert queue.counts().done == 5
    assert calls == Counter(range(5))


def test_errors_of_jobs_elsewhere_cross_processes():
    error = pickle.loads(pickle.dumps(JobFailedError("why", "Traceback ...")))  # noqa: S301 - our own
    assert (str(error), error.reason, error.traceback) == ("why", "why", "Traceback ...")
    assert str(JobFailedError()) == "the job was given up"
    assert not isinstance(error, JobCancelledError)


async def test_jobs_that_are_not_put_yet_are_not_missed(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    """The store is looked through while a put is under way."""
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        await queue.counts()
        faults.refuse["put"] = 40
        outcomes: list[Any] = []

        async def call() -> None:
            outcomes.extend(await qanat.collect(double, range(3), queue=queue))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            for _ in range(9):
                await anyio.sleep(2)
                store.hints.ring("q")
        assert [outcome.value for outcome in outcomes] == [0, 2, 4]


async def test_a_stream_may_be_left_in_another_task(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        stream = qanat.stream(double, range(100), queue=queue, concurrency=2)
        async with anyio.create_task_group() as group:
            group.start_soon(stream.__aenter__)
            await anyio.sleep(1.5)
            assert (await anext(stream)).value in {0, 2}

            async def leave() -> None:
                await stream.__aexit__(None, None, None)

            group.start_soon(leave)
        assert virtual_time.now() == 1.5
        counts = await queue.counts()
        assert (counts.done, counts.leased) == (2, 0)
        with anyio.move_on_after(1) as scope:
            async with qanat.stream(double, range(100), queue=queue, concurrency=2):
                await anyio.sleep_forever()
        assert (scope.cancelled_caught, virtual_time.now()) == (True, 2.5)
        assert (await queue.counts()).leased == 0


async def test_a_stream_may_give_failures_alone(virtual_time: VirtualTime):
    failing.update((3, 7))
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        async with qanat.stream(double, range(20), queue=queue, buffer=2, only_failed=True) as outcomes:
            assert [outcome.item async for outcome in outcomes] == [3, 7]
