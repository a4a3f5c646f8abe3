"""Workers: every leased job ends as its handler says, once, whatever happens around it."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import current_job
from qanat._app.durable import settling as settling_module
from qanat._core.store.values import NewJob
from qanat.errors import JobDiscardedError, StoreError, StoreFull, StoreVersionError
from tests._app.durable.faulty import put_in_place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat.testing import VirtualTime


async def same(item: Any) -> Any:
    return item


class Seen:
    """A handler that notes its calls, and naps."""

    def __init__(self, seconds: float = 0.0, fails: int = 0) -> None:
        self.calls: list[tuple[Any, int]] = []
        self.at: list[float] = []
        self.seconds = seconds
        self.fails = fails
        self.running = self.most = 0

    async def __call__(self, item: Any) -> Any:
        job = current_job()
        self.calls.append((item, job.attempt))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await anyio.sleep(self.seconds)
        finally:
            self.running -= 1
        if job.attempt <= self.fails:
            raise OSError(f"no {item}")
        return item


async def test_a_burst_does_all_there_is_and_ends(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        await queue.put_many(range(50))
        seen = Seen(1.0)
        await qanat.consume(queue, seen, burst=True, concurrency=10)
        assert sorted(seen.calls) == [(item, 1) for item in range(50)]
        assert (seen.most, virtual_time.now()) == (10, 5.0)
        counts = await queue.counts()
        assert (counts.done, counts.ready, counts.leased) == (50, 0, 0)
        page = await queue.find(state="done")
        assert sorted(job.value for job in page.jobs) == list(range(50))


async def test_an_empty_burst_ends_at_once(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put(1, delay=60.0)
        await qanat.consume(queue, same, burst=True)
        assert virtual_time.now() == 0.0
        await queue.admin.requeue((await queue.find(state="scheduled")).jobs[0].id)
        await queue.admin.pause()
        await qanat.consume(queue, same, burst=True)
        assert (await queue.counts()).ready == 1


async def test_retries_go_back_to_the_store_and_come_when_they_are_due(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        job = await queue.put("a")
        seen = Seen(fails=2)
        during: list[str] = []

        async def look() -> None:
            await anyio.sleep(5)
            during.append((await queue.find(state="scheduled")).jobs[0].reason)

        async with anyio.create_task_group() as group:
            group.start_soon(look)
            await qanat.consume(queue, seen, burst=True, retry=qanat.Retry(3, backoff=qanat.constant(10.0)))
        assert seen.calls == [("a", 1), ("a", 2), ("a", 3)]
        assert during == ["OSError: no a"]
        done = await queue.get(job.id)
        assert done is not None
        assert (done.state, done.attempt) == ("done", 3)
        assert "OSError: no a" in done.error


async def test_a_job_that_fails_for_good_is_dead_with_its_reason(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put("a")

        async def discard(item: str) -> None:
            raise qanat.Discard("not wanted" if item == "b" else "")

        await qanat.consume(queue, Seen(fails=9), burst=True)
        await queue.put("b")
        await qanat.consume(queue, discard, burst=True, retry=5)
        dead = (await queue.find(state="dead")).jobs
        assert [(job.reason, job.attempt) for job in dead] == [("OSError: no a", 1), ("not wanted", 1)]
        assert dead[0].error.startswith("Traceback")


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        pytest.param("half \ud800 of one", "half ? of one", id="half a character"),
        pytest.param("no " * 400, ("no " * 400)[:500], id="long"),
        pytest.param("\x1b[2J\0", "\x1b[2J\0", id="control characters"),
        pytest.param(404, "JobDiscardedError: 404", id="no text"),
    ],
)
async def test_whatever_reason_a_job_is_discarded_with_ends_that_job_alone(
    reason: Any, kept: str, virtual_time: VirtualTime
):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        await queue.put_many(["a", "b"])

        async def discard(item: str) -> str:
            if item == "a":
                raise JobDiscardedError(reason)
            return item

        await qanat.consume(queue, discard, burst=True)
        (dead,) = (await queue.find(state="dead")).jobs
        assert (dead.item, dead.reason, dead.attempt) == ("a", kept, 1)
        assert [job.value for job in (await queue.find(state="done")).jobs] == ["b"]


@pytest.mark.parametrize("how", ["backoff", "asked for"])
async def test_a_retry_is_put_off_as_long_as_a_store_can(how: str, virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=3600.0)
        await queue.put_many(["a", "b"])

        async def fail(item: str) -> str:
            if item == "a":
                raise OSError("no a") if how == "backoff" else qanat.RetryLater(1e300)
            return item

        retry = qanat.Retry(3, backoff=lambda _attempt: 1e300)
        with anyio.move_on_after(60.0):
            await qanat.consume(queue, fail, retry=retry)
        (later,) = (await queue.find(state="scheduled")).jobs
        assert later.due_at is not None
        assert later.put_at is not None
        assert (later.item, later.due_at - later.put_at, later.attempt) == ("a", 1e9, 1)
        assert [job.value for job in (await queue.find(state="done")).jobs] == ["b"]


@pytest.mark.parametrize("rotates", [False, True])
async def test_an_end_that_no_store_takes_harms_no_other_job(
    rotates: bool,
    virtual_time: VirtualTime,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    monkeypatch.setattr(settling_module, "ERROR_CHARACTERS", 10**6)

    async def fail(item: str) -> str:
        if item == "a":
            raise OSError("no " * 10**5)
        return item

    async with qanat.open("memory://") as store:
        if rotates:
            rotation = store.rotation("q", every=60.0, jitter=0.0)
            await rotation.add("a", "b")
            await qanat.consume(rotation, fail, burst=True)
            assert await rotation.counts() == (2, 0)
        else:
            queue = store.queue("q", keep=60.0)
            await queue.put_many(["a", "b"])
            await qanat.consume(queue, fail, burst=True)
            (dead,) = (await queue.find(state="dead")).jobs
            assert dead.reason.startswith(
                "outcome: ValueError: error must be at most 65536 characters, got 300"
            )
            assert (await queue.counts()).done == 1
    assert "cannot end as it should: error must be at most 65536 characters" in caplog.text


@dataclass
class Page:
    number: int

    def __post_init__(self) -> None:
        if self.number == 3:
            raise LookupError("there is no page 3")


async def test_an_item_that_its_type_refuses_in_its_own_way_is_dead_and_the_others_are_done(
    virtual_time: VirtualTime,
):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", type=Page, keep=60.0)
        await store.queue("q", keep=60.0).put_many([{"number": number} for number in range(6)])

        async def number(page: Page) -> int:
            return page.number

        await qanat.consume(queue, number, burst=True)
        (dead,) = (await queue.find(state="dead")).jobs
        assert dead.reason == (
            "undecodable: SerialisationError: data cannot be made a Page: LookupError('there is no page 3')"
        )
        assert (dead.body, dead.attempt) == (b'{"number":3}', 1)
        done = (await queue.find(state="done")).jobs
        assert sorted(job.value for job in done) == [0, 1, 2, 4, 5]


async def test_the_bounds_of_the_queue_hold_over_the_rules(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", max_attempts=2)
        await queue.put("a")
        seen = Seen(fails=9)
        await qanat.consume(queue, seen, burst=True, retry=qanat.Retry(5, backoff=qanat.constant(0.0)))
        assert len(seen.calls) == 2
        assert (await queue.find(state="dead")).jobs[0].reason == "attempts"


async def test_retry_later_and_deadlines_are_obeyed(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put("a")
        at: list[float] = []

        async def later(item: str) -> None:
            at.append(virtual_time.now())
            raise qanat.RetryLater(40.0)

        await qanat.consume(queue, later, burst=True, retry=qanat.Retry(9, deadline=100.0))
        assert [round(each) for each in at] == [0, 40, 80]


async def test_throttled_closes_the_lane_and_costs_no_attempt(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=600.0)
        await queue.put_many(range(20), lane=lambda item: "slow" if item < 10 else "fast")
        at: dict[Any, float] = {}
        throttled: list[Any] = []

        async def handler(item: int) -> None:
            job = current_job()
            if job.lane == "slow" and not throttled:
                throttled.append(item)
                raise qanat.Throttled(retry_after=100.0)
            at[item] = virtual_time.now()

        await qanat.consume(queue, handler, burst=True, concurrency=3)
        assert all(at[item] < 1.0 for item in range(10, 20))
        assert all(at[item] >= 100.0 for item in range(10) if item in throttled or item > 3)
        page = await queue.find(state="done")
        assert {job.attempt for job in page.jobs} == {1}


async def test_a_lane_that_waits_is_not_claimed_from(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(200), lane=lambda item: "a" if item < 100 else "b")
        leased: list[int] = []
        order: list[str] = []

        async def handler(item: int) -> None:
            order.append(str(current_job().lane))
            leased.append((await queue.counts()).leased)
            await anyio.sleep(1.0)

        await qanat.consume(
            queue, handler, burst=True, concurrency=4,
            lane_limits=lambda lane: qanat.Concurrency(1) if lane == "a" else (),
        )  # fmt: skip
        assert virtual_time.now() == pytest.approx(100.0, abs=1.0)
        assert order[:140].count("b") == 100 or order.index("b") < 4
        assert max(leased) < 30


async def test_no_more_is_leased_than_can_soon_start(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(1000))
        leased: list[int] = []

        async def handler(item: int) -> None:
            leased.append((await queue.counts()).leased)
            if item == 120:
                await queue.admin.purge("ready")

        await qanat.consume(queue, handler, burst=True, concurrency=50, rate="2/s evenly")
        assert max(leased) <= 8
        assert max(leased[40:100]) <= 3


async def test_the_first_claim_fills_all_slots_where_nothing_else_decides(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(500))
        seen = Seen(1.0)
        await qanat.consume(queue, seen, burst=True, concurrency=200)
        assert faults.wished[0] == 200
        assert seen.most == 200


async def test_a_claim_begins_small_where_a_rate_may_hold_jobs_up(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(20))
        await qanat.consume(queue, Seen(1.0), burst=True, concurrency=200, rate="10/s")
        assert faults.wished[0] == 8


async def test_what_ends_in_one_turn_is_settled_together(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(100))
        await qanat.consume(queue, Seen(1.0), burst=True, concurrency=100)
        assert faults.sizes("settle") == [100]


async def test_settles_that_wait_for_their_turn_take_along_what_ends_meanwhile(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store, anyio.create_task_group() as group:
        queue = store.queue("q")
        await queue.put_many(range(10))

        async def handler(item: int) -> None:
            if item == 0:
                faults.open.clear()
                group.start_soon(queue.counts)
            for _ in range(5 * (item + 2)):
                await anyio.lowlevel.checkpoint()
            if item == 9:
                faults.open.set()

        await qanat.consume(queue, handler, burst=True, concurrency=10)
        assert sum(faults.sizes("settle")) == 10
        # The last one ends when the line is free again.
        assert faults.sizes("settle")[0] >= 9


async def test_claims_grow_with_the_first_jobs_that_end(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    """The pace took a quarter of a second to be known, and each claim until then was for a few jobs more."""
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(2000))
        await qanat.consume(queue, Seen(0.01), burst=True, concurrency=10)
        # 250 are held ahead of a thousand a second, and no more than have ended so far.
        assert all(wished <= 10 + sum(faults.wished[:place]) for place, wished in enumerate(faults.wished))
        assert sum(faults.wished[:16]) >= 400  # 270 while the mean was of the time before, too


async def test_claims_are_for_a_third_of_what_is_held_ahead_while_jobs_wait(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    """Asked for as soon as there is some room, they would be for a few jobs each, as slots get free here."""
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(n / 1000.0 for n in range(1000))

        async def nap(seconds: float) -> None:
            await anyio.sleep(0.05 + seconds % 0.05)

        await qanat.consume(queue, nap, burst=True, concurrency=10)
        later = faults.wished[len(faults.wished) // 2 : -12]
        assert min(later) >= 8  # of some 130 jobs a second a quarter is held ahead
        assert len(faults.wished) < 160


async def test_claims_go_on_while_settles_are_under_way(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(settling_module, "FIRST_BACKOFF", 5.0)
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(1500))
        faults.refuse["settle"] = 1
        seen = Seen(1.0)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: qanat.consume(queue, seen, burst=True, concurrency=900))
            await virtual_time.advance(1.5)
            # 900 are done and not settled, and the slots are full again.
            assert seen.running == 600


async def test_long_jobs_keep_their_leases(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=10.0)
        await queue.put_many(range(3))
        seen = Seen(1000.0)
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(_burst, queue, seen)
        assert sorted(seen.calls) == [(0, 1), (1, 1), (2, 1)]


async def _burst(queue: qanat.Queue[Any], handler: Any, **rules: Any) -> None:
    await qanat.consume(queue, handler, burst=True, **rules)


async def test_what_a_handler_says_is_seen_in_the_store(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=10.0)
        job = await queue.put(1)

        async def handler(item: int) -> None:
            current_job().describe("parsing")
            await anyio.sleep(5)
            found = await queue.get(job.id)
            assert found is not None
            assert (found.note, found.state) == ("parsing", "leased")
            assert ":" in found.worker

        await qanat.consume(queue, handler, burst=True)
        assert (await queue.counts()).done == 1


async def test_a_lost_lease_cancels_its_handler_and_the_result_means_nothing(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=30.0, keep=60.0)
        job = await queue.put(1)
        faults.refuse["extend"] = 10_000
        ended: list[tuple[str, float]] = []

        async def handler(item: int) -> str:
            if current_job().attempt == 2:
                ended.append(("second", virtual_time.now()))
                faults.refuse.clear()
                return "second"
            try:
                await anyio.sleep(1000)
            except BaseException:
                ended.append(("cancelled", virtual_time.now()))
                raise
            return "first"

        await qanat.consume(queue, handler, burst=True, concurrency=1)
        assert [name for name, _ in ended] == ["cancelled"]
        async with anyio.create_task_group() as group:
            group.start_soon(qanat.consume, queue, handler)
            await anyio.sleep(100)
            group.cancel_scope.cancel()
        done = await queue.get(job.id)
        assert done is not None
        assert [name for name, _ in ended] == ["cancelled", "second"]
        assert ended[0][1] == pytest.approx(29.0, abs=0.1)
        assert (done.state, done.value) == ("done", "second")


async def test_a_cancel_request_cancels_the_handler(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=30.0, keep=600.0)
        jobs = [await queue.put(number) for number in range(2)]

        async def cancel() -> None:
            await anyio.sleep(1)
            assert await queue.cancel(jobs[0].id) == ["asked"]

        seen = Seen(100.0)
        async with anyio.create_task_group() as group:
            group.start_soon(cancel)
            group.start_soon(_burst, queue, seen)
        states = [found.state for job in jobs if (found := await queue.get(job.id)) is not None]
        assert states == ["cancelled", "done"]
        assert len(seen.calls) == 2


async def test_results_that_cannot_be_kept_are_dead_and_not_tried_again(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(["set", "large", "good"])
        calls: Counter[str] = Counter()

        async def handler(item: str) -> Any:
            calls[item] += 1
            return {"set": {1}, "large": "x" * 2**21, "good": None}[item]

        await qanat.consume(queue, handler, burst=True, retry=5)
        dead = (await queue.find(state="dead")).jobs
        assert sorted(job.reason.partition(":")[0] for job in dead) == ["result", "result"]
        assert calls == {"set": 1, "large": 1, "good": 1}
        assert (await queue.counts()).done == 1


async def test_items_that_cannot_be_read_are_dead_and_hold_up_nobody(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many([1, 2])
        bad = NewJob(id="bad", body=b"\x80pickle")
        await store.desk.ask("put q 0 -", [bad])
        await qanat.consume(queue, same, burst=True, retry=5)
        (dead,) = (await queue.find(state="dead")).jobs
        assert (dead.id, dead.body) == ("bad", b"\x80pickle")
        assert dead.reason.startswith("undecodable: ")
        assert (await queue.counts()).done == 2


async def test_only_handlers_with_a_name_here_run_and_others_wait(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        ran: list[tuple[str, Any]] = []

        async def send(item: Any) -> None:
            ran.append(("send", item))

        def clean(item: Any) -> None:
            ran.append(("clean", item))

        clean.__qualname__ = "clean"
        await queue.put(1)
        await queue.put(2, handler="clean")
        await queue.put(3, handler="os:system")
        await queue.put(4, handler="other")
        await qanat.consume(queue, send, handlers=[clean], burst=True)
        assert sorted(ran) == [("clean", 2), ("send", 1)]
        waiting = (await queue.find(state="scheduled")).jobs
        assert sorted(job.reason.partition(" at ")[0] for job in waiting) == [
            "no handler 'os:system'", "no handler 'other'"
        ]  # fmt: skip
        assert "no handler 'other' here" in caplog.text
        await anyio.sleep(5)
        await qanat.consume(queue, None, handlers={"other": send}, burst=True)
        assert ran[-1] == ("send", 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"handler": None}, TypeError, "handler must be a function of one item, got None"),
        ({"handler": 5}, TypeError, "handler must be a function"),
        ({"handlers": 5}, TypeError, "handlers must be a mapping"),
        ({"handlers": {5: same}}, TypeError, "handlers must have texts for names"),
        ({"handlers": {"same": print}}, ValueError, "handlers must have different names, got 'same'"),
        ({"burst": 1}, TypeError, "burst must be True or False"),
        ({"grace": -1}, ValueError, "grace must be at least 0"),
        ({"journal": "x.db"}, ValueError, "journal must not be set for a queue"),
        ({"id": str}, ValueError, "id must not be set for a queue"),
        ({"max_jobs": 5}, ValueError, "max_jobs must not be set for a queue, got 5: a queue has no end"),
        ({"wind": 1}, TypeError, "'wind' is not a rule"),
        ({"queue": "q"}, TypeError, "queue must be a queue of an open store, got 'q'"),
    ],
)
async def test_wrong_calls_fail_before_any_work_starts(
    virtual_time: VirtualTime, arguments: dict[str, Any], error: type[Exception], message: str
):
    async with qanat.open("memory://") as store:
        given = {"queue": store.queue("q"), "handler": same, **arguments}
        with pytest.raises(error, match=f"^{message}"):
            await qanat.consume(**given)


async def test_cancelling_drains_within_grace_and_gives_back_what_waits(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(10))
        seen = Seen(10.0)
        async with anyio.create_task_group() as group:
            group.start_soon(_consume, queue, seen, 25.0)
            await anyio.sleep(5)
            group.cancel_scope.cancel()
        assert virtual_time.now() == 10.0
        counts = await queue.counts()
        assert (counts.done, counts.ready, counts.leased) == (2, 8, 0)
        assert {job.attempt for job in (await queue.find(state="ready")).jobs} == {0}


async def _consume(queue: qanat.Queue[Any], handler: Any, grace: float) -> None:
    await qanat.consume(queue, handler, grace=grace, concurrency=2)


async def test_what_outlives_the_grace_is_cancelled_and_given_back_uncounted(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(3))
        seen = Seen(1000.0)
        async with anyio.create_task_group() as group:
            group.start_soon(_consume, queue, seen, 25.0)
            await anyio.sleep(5)
            group.cancel_scope.cancel()
        assert virtual_time.now() == 30.0
        assert (await queue.counts()).ready == 3
        assert {job.attempt for job in (await queue.find(state="ready")).jobs} == {0}


async def test_an_idle_worker_asks_nothing_of_a_private_store(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        seen = Seen()
        async with anyio.create_task_group() as group:
            group.start_soon(_consume, queue, seen, 0.0)
            await anyio.sleep(3600)
            assert len(faults.deeds) <= 3
            await queue.put("a")
            await virtual_time.advance(0)
            assert seen.calls == [("a", 1)]
            await queue.put("b", delay=50.0)
            await anyio.sleep(50)
            await virtual_time.advance(0.1)
            assert seen.calls == [("a", 1), ("b", 1)]
            group.cancel_scope.cancel()


async def test_at_most_one_suspect_is_held(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=5.0)
        await queue.put_many(range(4))
        await queue.lease(4)
        await anyio.sleep(6)
        assert len(await queue.rescue()) == 4
        await queue.put_many(range(10, 14))
        seen = Seen(1.0)
        suspects: list[int] = []

        async def handler(item: int) -> None:
            suspects.append(item)
            held = (await queue.find(state="leased")).jobs
            assert sum(job.crashes > 0 for job in held) <= 1
            await seen(item)

        await qanat.consume(queue, handler, burst=True, concurrency=8)
        assert len(suspects) == 8
        assert (await queue.counts()).done == 8


async def test_suspects_follow_one_another_at_once(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        store.poll = 1000.0
        queue = store.queue("q", lease=5000.0)
        await queue.put_many(range(5))
        await store.queue("q", lease=5.0).lease(5)
        await anyio.sleep(6)
        seen = Seen(1.0)
        async with anyio.create_task_group() as group:
            group.start_soon(_consume, queue, seen, 0.0)
            await anyio.sleep(5.5)
            assert len(seen.calls) == 5
            group.cancel_scope.cancel()


async def test_a_dead_workers_jobs_are_taken_over(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=30.0)
        await queue.put("a")
        await queue.lease()  # and its worker is heard of no more
        seen = Seen()
        async with anyio.create_task_group() as group:
            group.start_soon(_consume, queue, seen, 0.0)
            await anyio.sleep(36)
            assert seen.calls == [("a", 2)]
            group.cancel_scope.cancel()


async def test_a_dead_workers_jobs_are_taken_over_while_there_is_no_end_of_others(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=30.0)
        await queue.put("a")
        await queue.lease()  # and its worker is heard of no more
        await queue.put_many(range(1000))
        seen = Seen(1.0)
        async with anyio.create_task_group() as group:
            group.start_soon(_consume, queue, seen, 0.0)
            await anyio.sleep(36)
            assert ("a", 2) in seen.calls
            group.cancel_scope.cancel()


async def test_a_store_that_is_away_for_a_time_is_waited_for(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=600.0)
        await queue.put_many(range(20))
        faults.refuse.update(claim=5, settle=9)
        faults.error = StoreFull("the disk is full")
        seen = Seen(1.0)
        await qanat.consume(queue, seen, burst=True)
        assert sorted(seen.calls) == [(item, 1) for item in range(20)]
        assert (await queue.counts()).done == 20


async def test_a_store_that_cannot_be_used_ends_it(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put(1)
        faults.error = StoreVersionError("made by a newer version")
        faults.refuse["claim"] = 1
        with pytest.raises(StoreVersionError):
            await qanat.consume(queue, same, burst=True)
        faults.refuse["settle"] = 1
        with pytest.raises(StoreError):
            await qanat.consume(queue, same)


async def test_nothing_new_starts_while_too_much_is_not_settled(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(settling_module, "MOST", 10)
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=600.0)
        await queue.put_many(range(100))
        faults.error = StoreFull("the disk is full")
        faults.refuse["settle"] = 20
        seen = Seen()
        async with anyio.create_task_group() as group:
            group.start_soon(_burst, queue, seen)
            await anyio.sleep(10)
            assert 10 <= len(seen.calls) <= 30
        assert len(seen.calls) == 100
        assert (await queue.counts()).done == 100


async def test_batches_settle_each_of_their_jobs(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        await queue.put_many(range(25))
        sizes: list[int] = []

        async def handler(items: list[int]) -> Sequence[Any]:
            sizes.append(len(items))
            attempts = {job.id: job.attempt for job in current_job().members}
            return [
                OSError("three") if item == 3 and 1 in attempts.values() else {item} if item == 4 else item
                for item in items
            ]

        await qanat.consume(
            queue, handler, burst=True, batch=qanat.Batch(10, within=1.0), retry=2, concurrency=2
        )
        counts = await queue.counts()
        assert (counts.done, counts.dead) == (24, 1)
        assert (await queue.find(state="dead")).jobs[0].reason.startswith("result: ")
        assert max(sizes) == 10


async def test_too_many_failures_end_it(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(20))
        with pytest.raises(qanat.TooManyFailuresError):
            await qanat.consume(queue, Seen(0.5, fails=9), max_failures=3, concurrency=2)
        counts = await queue.counts()
        assert (counts.dead, counts.leased) == (4, 0)
        assert counts.ready == 16


async def test_no_job_in_time_ends_it(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        with pytest.raises(qanat.StartTimeoutError):
            await qanat.consume(store.queue("q"), same, start_within=60.0)
        assert virtual_time.now() == 60.0


async def test_timeouts_priorities_and_lanes_of_ones_own_work_as_in_memory(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(6), metadata=lambda item: {"n": item})
        seen: list[Any] = []

        async def handler(item: int) -> None:
            job = current_job()
            seen.append((job.lane, job.metadata, job.state))
            await anyio.sleep(100 if item == 5 else 0)

        await qanat.consume(
            queue, handler, burst=True, timeout=10.0, lane=lambda item: item % 2, state="mine",
            lane_limits=lambda lane: qanat.Concurrency(1), order="lifo",
        )  # fmt: skip
        assert min(seen, key=str) == (0, {"n": 0}, "mine")
        (dead,) = (await queue.find(state="dead")).jobs
        assert dead.reason.startswith("JobTimeoutError")


async def test_whatever_a_handler_raises_is_its_jobs_end(virtual_time: VirtualTime):
    class Odd(BaseException):
        def __str__(self) -> str:
            raise ValueError("no text")

    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        raised = [SystemExit(3), GeneratorExit(), StopIteration(), RecursionError(), Odd(), OSError("\ud800")]
        await queue.put_many(range(len(raised)))

        async def handler(item: int) -> None:
            raise raised[item]

        await qanat.consume(queue, handler, burst=True)
        assert (await queue.counts()).dead == len(raised)


@pytest.mark.real
async def test_a_handler_that_blocks_the_loop_keeps_its_lease():
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=2.0)
        await queue.put("a")
        calls: list[int] = []

        async def handler(item: str) -> None:
            calls.append(current_job().attempt)
            time.sleep(5.0)  # noqa: ASYNC251 - that is the point
            found = await queue.get(current_job().id)  # type: ignore[arg-type]
            assert found is not None
            assert found.state == "leased"

        await qanat.consume(queue, handler, burst=True)
        assert calls == [1]
        assert (await queue.counts()).done == 1


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf"), "1m", True])
async def test_a_stall_limit_must_be_seconds(limit: Any):
    async with qanat.open("memory://") as store:
        with pytest.raises((TypeError, ValueError), match="^stall_limit must be "):
            await qanat.consume(store.queue("q"), print, stall_limit=limit)


@pytest.mark.real
async def test_a_lease_is_renewed_no_more_once_a_handler_blocks_the_loop_for_too_long(
    caplog: pytest.LogCaptureFixture,
):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=1.0)
        await queue.put("a")

        async def handler(item: str) -> None:
            time.sleep(1.5)  # noqa: ASYNC251 - that is the point

        await qanat.consume(queue, handler, burst=True, stall_limit=0.5)
        assert (await queue.counts()).done == 1  # as nobody else was there to take it
    (stalled,) = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert stalled.startswith("queue q: a handler has blocked the event loop for ")
    assert "(stall_limit is 0.5 s; running: " in stalled
    assert "its leases (1) are renewed no more, and other workers take the jobs" in stalled


@pytest.mark.real
async def test_a_thread_that_goes_on_is_not_given_to_others():
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=60.0)
        await queue.put("a")
        begun, go_on = threading.Event(), threading.Event()

        def handler(item: str) -> None:
            begun.set()
            assert go_on.wait(20)

        async with anyio.create_task_group() as group:
            group.start_soon(_consume, queue, handler, 0.0)
            while not begun.is_set():
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.2)
                assert (await queue.counts()).leased == 1
            go_on.set()
        assert (await queue.counts()).leased == 1
