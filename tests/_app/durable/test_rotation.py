"""Rotations: every item comes again, the longest overdue first, and none is lost or leased twice."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Between, RotationCounts
from qanat._app.durable import connecting
from qanat._core.store.values import NewJob
from qanat._engine.clock import clock_in_use
from qanat._stores.sqlite.clock import HostClock
from qanat._stores.sqlite.store import SqliteStore
from qanat.errors import LeaseLost, SerialisationError
from tests._app.durable.faulty import put_in_place

if TYPE_CHECKING:
    from pathlib import Path

    from qanat.testing import VirtualTime


@dataclass
class Feed:
    url: str
    size: int = 1


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URL of a store that goes by the clock of the test."""
    if request.param == "memory":
        return "memory://"

    def sqlite(parsed: Any) -> Any:
        clock = clock_in_use()
        host = HostClock("", clock.now, clock.wall)
        return connecting.Reach(partial(SqliteStore, parsed.path, synchronous="NORMAL", clock=host))

    monkeypatch.setitem(connecting.STORES, "sqlite", sqlite)
    return f"sqlite:///{tmp_path / 'work.db'}"


def items(jobs: list[qanat.QueueJob[Any]]) -> list[Any]:
    return [job.item for job in jobs]


async def test_an_item_is_in_it_once_until_it_is_removed(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60)
        assert await feeds.add("a", "b", "a") == 2
        assert await feeds.add("b", "c") == 1
        assert await feeds.counts() == RotationCounts(all=3, due=3)
        assert await feeds.contains("a")
        assert not await feeds.contains("x")
        assert await feeds.remove("a", "x") == 1
        assert not await feeds.contains("a")
        assert await feeds.get("a") is None
        assert await feeds.add("a") == 1
        assert (await feeds.add(), await feeds.remove(), await feeds.hasten()) == (0, 0, 0)


async def test_what_was_acknowledged_is_due_again_after_its_interval(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, lease=10, jitter=0)
        await feeds.add("a", "b")
        jobs = await feeds.lease(5)
        assert items(jobs) == ["a", "b"]
        assert await feeds.counts() == (2, 0)
        await feeds.ack(*jobs)
        await anyio.sleep(59.75)
        assert await feeds.lease(5) == []
        await anyio.sleep(0.25)
        assert await feeds.counts() == (2, 2)
        assert items(await feeds.lease(5)) == ["a", "b"]


async def test_without_an_ack_an_item_is_due_again_after_its_lease(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, lease=10)
        await feeds.add("a", "b")
        for _ in range(12):
            # However often: it is no suspect, of which one is given at a time, and it never ends.
            first, second = await feeds.lease(5)
            assert (first.item, second.item, first.crashes) == ("a", "b", 0)
            await anyio.sleep(10)
        assert await feeds.counts() == (2, 2)
        with pytest.raises(LeaseLost):
            await feeds.ack(*await feeds.lease(), first)
        assert await feeds.counts() == (2, 1)


async def test_the_longest_overdue_comes_first(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, lease=20, jitter=0)
        await feeds.add("at 30", due=30)
        await feeds.add("at 10", due=10)
        await feeds.add("lost, at 20")
        assert items(await feeds.lease(1)) == ["lost, at 20"]
        await anyio.sleep(25)
        await feeds.add("at 25")
        await anyio.sleep(10)
        await feeds.add("at 35")
        assert items(await feeds.lease(1)) == ["at 10"]
        assert items(await feeds.lease(9)) == ["lost, at 20", "at 25", "at 30", "at 35"]


async def test_items_have_intervals_of_their_own(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, jitter=0)
        await feeds.add("slow", every=100)
        await feeds.add("plain")
        await feeds.ack(*await feeds.lease(5))
        await anyio.sleep(60)
        (plain,) = await feeds.lease(5)
        assert plain.item == "plain"
        await feeds.ack(plain, every=10)
        await anyio.sleep(40)
        assert items(await feeds.lease(5)) == ["plain", "slow"]
    other = store.rotation("feeds", every=5)
    assert other.name == "feeds"


async def test_an_interval_of_its_own_stays_with_an_item(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, jitter=0)
        await feeds.add("a", every=100)
        for seconds in (100, 100):
            await feeds.ack(*await feeds.lease(5))
            job = await feeds.get("a")
            assert job is not None
            assert job.state == "scheduled"
            await anyio.sleep(seconds)
            assert await feeds.counts() == (1, 1)
        await feeds.ack(*await feeds.lease(), every=10)
        await anyio.sleep(10)
        await feeds.ack(*await feeds.lease())
        await anyio.sleep(9)
        assert await feeds.counts() == (1, 0)
        await anyio.sleep(1)
        assert await feeds.counts() == (1, 1)


async def test_intervals_between_bounds_follow_the_changes(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=Between(10, 60, factor=2), jitter=0)
        await feeds.add("a")
        slept = []
        for changed in (None, False, False, False, True, None):
            (job,) = await feeds.lease(wait=1000)
            slept.append(virtual_time.now())
            await feeds.ack(job, changed=changed)
        assert slept == [0, 10, 30, 70, 130, 160]
        await feeds.add("b", every=40)
        (job,) = await feeds.lease()
        await feeds.ack(job, changed=True)
        assert (await feeds.get("b")).value == 20.0  # type: ignore[union-attr]


async def test_what_was_found_out_means_nothing_where_intervals_stay(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=Between(10, 90, factor=3), jitter=0)
        await feeds.add("a")
        await feeds.ack(*await feeds.lease(), changed=False)
        await feeds.add("b")
        await feeds.ack(*await feeds.lease(), every=80)
        await anyio.sleep(80)
        feeds = store.rotation("feeds", every=60, jitter=0)
        await feeds.ack(*await feeds.lease(5))
        await anyio.sleep(60)
        a, b = await feeds.lease(5)
        await feeds.ack(a, b, every=20)
        feeds = store.rotation("feeds", every=Between(10, 90, factor=3), jitter=0)
        await anyio.sleep(20)
        await feeds.ack(*await feeds.lease(5), changed=False)
        assert (await feeds.get("a")).value == 60.0  # type: ignore[union-attr]


async def test_an_item_is_acknowledged_by_what_get_tells_of_it(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, jitter=0)
        await feeds.add("a")
        job = await feeds.get("a")
        assert job is not None
        with pytest.raises(ValueError, match="^jobs must be leased, and job"):
            await feeds.ack(job)
        await feeds.lease()
        job = await feeds.get("a")
        assert job is not None
        await feeds.ack(job)
        assert await feeds.counts() == (1, 0)


async def test_jitter_lets_items_come_later_and_never_earlier(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=100, jitter=0.5)
        await feeds.add(*range(20))
        now = (await feeds.get(0)).due_at or store.clock.wall()  # type: ignore[union-attr]
        await feeds.ack(*await feeds.lease(20))
        rng = random.Random(0)
        expected = [100 * (1 + 0.5 * rng.random()) for _ in range(20)]
        found = [(await feeds.get(number)).due_at - now for number in range(20)]  # type: ignore[union-attr,operator]
        assert found == pytest.approx(expected, abs=1e-6)
        assert all(100 <= each < 150 for each in found)


async def test_hastened_items_are_due_at_once(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60)
        await feeds.add("a", "b", "c", due=50)
        await feeds.add("d")
        (leased,) = await feeds.lease()
        assert leased.item == "d"
        assert await feeds.hasten("b", "d", "x") == 1
        assert items(await feeds.lease(5)) == ["b"]


async def test_waiting_for_what_is_due_takes_as_long_as_that(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, lease=20)
        assert await feeds.lease(wait=5) == []
        assert virtual_time.now() == 5
        await feeds.add("a", due=7)
        assert items(await feeds.lease(wait=100)) == ["a"]
        assert virtual_time.now() == 12
        assert items(await feeds.lease(wait=100)) == ["a"]
        assert virtual_time.now() == 32


async def test_a_removed_item_is_lost_to_who_has_it(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60)
        await feeds.add("a", "b")
        a, b = await feeds.lease(2)
        assert await feeds.remove("a") == 1
        assert await feeds.add("a") == 1
        with pytest.raises(LeaseLost) as lost:
            await feeds.ack(a, b)
        assert lost.value.ids == (a.id,)
        assert await feeds.counts() == (2, 1)
        assert items(await feeds.lease(5)) == ["a"]


async def test_leases_are_extended_and_given_back(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, lease=10)
        await feeds.add("a", "b")
        a, b = await feeds.lease(2)
        await anyio.sleep(8)
        await feeds.extend(a)
        await feeds.release(b, delay=1)
        await anyio.sleep(8)
        assert items(await feeds.lease(5)) == ["b"]
        await feeds.release(a)
        (again,) = await feeds.lease(5)
        assert (again.item, again.attempt) == ("a", 1)


async def test_clearing_takes_leased_items_too(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60)
        await feeds.add(*range(150))
        await feeds.add(*range(150, 160), due=9)
        await feeds.lease(100)
        assert await feeds.clear() == 160
        assert await feeds.counts() == (0, 0)
        assert await feeds.lease() == []


async def test_items_are_the_same_however_they_are_written(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, type=Feed)
        assert await feeds.add(Feed("a"), Feed("b", 2)) == 2
        assert await feeds.contains(Feed("a", 1))
        (job, _) = await feeds.lease(2)
        assert job.item == Feed("a")
        plain = store.rotation("feeds", every=60)
        assert await plain.contains({"size": 2, "url": "b"})
        assert not await plain.contains({"url": "b"})
        # What JSON tells apart is apart.
        assert await plain.add(1, "1", True, None, [1]) == 5


async def test_an_item_that_cannot_be_read_stays(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        plain = store.rotation("feeds", every=60, jitter=0)
        await plain.add("a feed of another kind")
        feeds = store.rotation("feeds", every=30, type=Feed, jitter=0)
        assert await feeds.lease(5) == []
        job = await plain.get("a feed of another kind")
        assert job is not None
        assert job.reason.startswith("undecodable: ")
        assert await plain.counts() == (1, 0)
        await anyio.sleep(30)
        assert items(await plain.lease(5)) == ["a feed of another kind"]


async def test_a_batch_that_cannot_be_kept_adds_nothing(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60)
        with pytest.raises(SerialisationError):
            await feeds.add(*range(2000), object())
        assert await feeds.counts() == (0, 0)


async def test_a_queue_and_a_rotation_of_one_name_do_not_mix(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        await store.rotation("feeds", every=60).add("a")
        queue = store.queue("feeds")
        refusal = "^name must be that of a queue, and 'feeds' is a rotation: use it by store.rotation"
        for use in (partial(queue.put, "b"), partial(queue.put_many, ["b"]), queue.lease):
            with pytest.raises(ValueError, match=refusal):
                await use()
        with pytest.raises(ValueError, match=refusal):
            await qanat.consume(queue, print, burst=True)
        # Operators may look at it, and pause it.
        assert items((await queue.find(state="ready")).jobs) == ["a"]
        await queue.admin.pause()
        assert await store.rotation("feeds", every=60).lease() == []
        await store.queue("mails").put("b")
        with pytest.raises(ValueError, match="^name must be that of a rotation, and 'mails' is a queue"):
            await store.rotation("mails", every=60).add("b")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every must be more than 0"),
        ({"every": "1h"}, TypeError, "every must be seconds, or Between"),
        ({"every": float("nan")}, ValueError, "every must be"),
        ({"every": 2e9}, ValueError, "every must be more than 0 and at most 1e"),
        ({"every": 1, "jitter": 2}, ValueError, "jitter must be at most 1, got 2"),
        ({"every": 1, "jitter": -1}, ValueError, "jitter must be at least 0"),
        ({"every": 1, "lease": 0}, ValueError, "lease must be"),
        ({"every": 1, "keep": 5.0}, TypeError, "'keep' is not an option of a rotation"),
        ({"every": 1, "colour": 5.0}, TypeError, "'colour' is not an option of a rotation"),
    ],
)
async def test_bad_options_are_refused_at_the_call(
    virtual_time: VirtualTime, options: dict[str, Any], error: type[Exception], message: str
):
    async with qanat.open("memory://") as store:
        with pytest.raises(error, match=f"^{message}"):
            store.rotation("feeds", **options)
        with pytest.raises(ValueError, match="^name must be 1 to 128"):
            store.rotation("a feed", every=1)


async def test_bad_calls_are_refused_at_the_call(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        feeds = store.rotation("feeds", every=60)
        adaptive = store.rotation("adaptive", every=Between(10, 20))
        await feeds.add("a")
        await adaptive.add("a")
        (job,) = await feeds.lease()
        (other,) = await adaptive.lease()
        with pytest.raises(ValueError, match="^due must be at least 0"):
            await feeds.add("b", due=-1)
        with pytest.raises(ValueError, match="^every must be more than 0"):
            await feeds.add("b", every=0)
        with pytest.raises(ValueError, match=r"^every must be within 10.0 and 20.0, got 30"):
            await adaptive.add("b", every=30)
        with pytest.raises(ValueError, match="^changed must be None, as every is the same each time"):
            await feeds.ack(job, changed=True)
        with pytest.raises(TypeError, match="^changed must be True, False or None, got 'yes'"):
            await adaptive.ack(other, changed="yes")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="^every must be None where changed is given"):
            await adaptive.ack(other, changed=True, every=15)
        with pytest.raises(TypeError, match=r"^jobs must be those that lease\(\) gave, got 'a'"):
            await feeds.ack("a")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="^n must be 1 to 1000"):
            await feeds.lease(0)
        with pytest.raises(ValueError, match="^wait must be at least 0"):
            await feeds.lease(wait=-1)
        with pytest.raises(ValueError, match="^handlers must be None for a rotation"):
            await qanat.consume(feeds, None, handlers=[print])
        await feeds.ack(job)
        await adaptive.ack(other, changed=False)


async def test_an_add_whose_answer_was_lost_is_sent_again(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        feeds = store.rotation("feeds", every=60)
        faults.lose["put"] = 1
        assert await feeds.add("a", "b") == 2
        assert await feeds.counts() == (2, 2)
        # Many go in few steps.
        faults.deeds.clear()
        assert await feeds.add(*range(2500)) == 2500
        assert faults.sizes("put") == [1000, 1000, 500]
        jobs = await feeds.lease(1000)
        faults.deeds.clear()
        await feeds.ack(*jobs)
        assert faults.deeds == [("settle", 1000)]


async def test_intervals_that_others_left_unreadable_are_the_rotations(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, jitter=0)
        await feeds.add("a")
        for number, metadata in enumerate((b"[]", b"no json", b'{"every": -1}', b'{"every": "1h"}')):
            new = NewJob(id=str(number), body=b"%d" % number, metadata=metadata)
            await feeds._queue._put([new])
        await feeds.ack(*await feeds.lease(9))
        await anyio.sleep(60)
        assert await feeds.counts() == (5, 5)


# Workers.


async def test_a_worker_comes_back_to_every_item(virtual_time: VirtualTime, url: str):
    visits: list[tuple[Any, float]] = []

    async def visit(item: Any) -> object:
        visits.append((item, virtual_time.now()))
        await anyio.sleep(1)
        return object()  # which means nothing here

    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, jitter=0, lease=30)
        await feeds.add("a", "b")
        await feeds.add("c", due=20, every=25)
        with anyio.move_on_after(100):
            await qanat.consume(feeds, visit)
        assert sorted(visits, key=lambda visit: (visit[1], visit[0])) == [
            ("a", 0), ("b", 0), ("c", 20), ("c", 46), ("a", 61), ("b", 61), ("c", 72), ("c", 98),
        ]  # fmt: skip
        counts = await store.queue("feeds").counts()
        assert (counts.scheduled, counts.leased, counts.done, counts.dead) == (3, 0, 0, 0)


async def test_a_burst_visits_what_is_due_and_ends(virtual_time: VirtualTime, url: str):
    visits: list[int] = []
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60)
        await feeds.add(*range(50))
        await feeds.add("later", due=5)
        await qanat.consume(feeds, visits.append, burst=True)
        assert sorted(visits) == list(range(50))
        assert await feeds.counts() == (51, 0)


async def test_a_failed_item_is_tried_again_and_then_comes_in_its_turn(virtual_time: VirtualTime, url: str):
    visits: list[float] = []

    async def visit(item: str) -> None:
        visits.append(virtual_time.now())
        raise OSError("no answer")

    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60, jitter=0)
        await feeds.add("a")
        with anyio.move_on_after(148):
            await qanat.consume(feeds, visit, retry=qanat.Retry(2, backoff=qanat.constant(5)))
        assert visits == [0, 5, 10, 70, 75, 80, 140, 145]
        job = await feeds.get("a")
        assert job is not None
        assert job.reason == "OSError: no answer"
        assert "OSError: no answer" in job.error


async def test_a_discarded_item_leaves_and_may_come_in_again(virtual_time: VirtualTime, url: str):
    async def visit(item: str) -> None:
        if item == "gone":
            raise qanat.Discard("410")

    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60)
        await feeds.add("gone", "there")
        await qanat.consume(feeds, visit, burst=True)
        assert await feeds.counts() == (1, 0)
        assert await feeds.add("gone") == 1


async def test_a_handler_says_whether_its_item_has_changed(virtual_time: VirtualTime, url: str):
    answers = {"often": True, "never": False, "unknown": None, "wrong": "text"}

    async def visit(item: str) -> Any:
        return answers[item]

    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=Between(10, 80, factor=2), jitter=0)
        await feeds.add(*answers, every=20)
        await qanat.consume(feeds, visit, burst=True)
        kept = {item: (await feeds.get(item)).value for item in answers}  # type: ignore[union-attr]
        assert kept == {"often": 10.0, "never": 40.0, "unknown": 20.0, "wrong": 20.0}
        wrong = await feeds.get("wrong")
        assert wrong is not None
        assert wrong.reason.startswith(
            "TypeError: the handler of a rotation with every=Between(...) must return True if the item has"
        )


async def test_batches_say_it_for_each_item(virtual_time: VirtualTime):
    async def visit(batch: list[int]) -> list[Any]:
        return [item > 1 if item < 3 else "text" for item in batch]

    async with qanat.open("memory://") as store:
        feeds = store.rotation("feeds", every=Between(10, 80, factor=2), jitter=0)
        await feeds.add(1, 2, 3, every=20)
        await qanat.consume(feeds, visit, burst=True, batch=qanat.Batch(3))
        assert [(await feeds.get(item)).value for item in (1, 2, 3)] == [40.0, 10.0, 20.0]  # type: ignore[union-attr]


async def sleep(item: Any) -> None:
    await anyio.sleep(1000)


async def test_what_runs_when_a_worker_stops_is_due_at_once(virtual_time: VirtualTime, url: str):
    async with qanat.open(url) as store:
        feeds = store.rotation("feeds", every=60)
        await feeds.add("a", "b")
        with anyio.move_on_after(5):
            await qanat.consume(feeds, sleep, grace=1)
        assert await feeds.counts() == (2, 2)


async def test_a_visit_of_an_item_that_is_removed_is_stopped(virtual_time: VirtualTime, url: str):
    visits: list[tuple[str, float]] = []

    async def visit(item: str) -> None:
        visits.append((item, virtual_time.now()))
        await anyio.sleep(1000 if len(visits) == 1 else 1)

    async with qanat.open(url) as store, anyio.create_task_group() as group:
        feeds = store.rotation("feeds", every=60, lease=30, jitter=0)
        await feeds.add("a")

        async def change() -> None:
            await anyio.sleep(15)
            assert await feeds.remove("a") == 1
            assert await feeds.add("a", due=20) == 1
            await anyio.sleep(60)
            group.cancel_scope.cancel()

        group.start_soon(change)
        await qanat.consume(feeds, visit)
    assert visits == [("a", 0), ("a", 35)]


# Plain code.


def test_plain_code_has_the_same_rotation_with_plain_methods():
    with qanat.open("memory://") as store:
        feeds = store.rotation("feeds", every=Between(60, 600), lease=600.0, type=Feed)
        assert feeds.name == "feeds"
        a, b = Feed("a"), Feed("b")
        assert feeds.add(a, b) == 2
        assert feeds.contains(a)
        assert feeds.counts() == RotationCounts(2, 2)
        first, second = feeds.lease(5)
        feeds.extend(first)
        feeds.ack(first, changed=False)
        assert feeds.get(a).value == 90.0  # type: ignore[union-attr]
        feeds.release(second)
        assert items(feeds.lease(wait=5)) == [b]
        assert feeds.hasten(a) == 1
        assert items(feeds.lease()) == [a]
        assert feeds.lease(wait=0.01) == []
        assert feeds.remove(a) == 1
        assert feeds.clear() == 1
        assert feeds.counts() == (0, 0)
        with pytest.raises(ValueError, match="^name must be that of a queue"):
            store.queue("feeds").put(a)
        with pytest.raises(ValueError, match="^name must be that of a queue"):
            store.queue("feeds").lease()
