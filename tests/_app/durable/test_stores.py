"""The same queue and worker over every store that a URL opens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import current_job
from qanat.errors import LeaseLost
from tests._stores.redis.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Server(tmp_path_factory.mktemp("redis"))
    try:
        yield f"unix://{server.socket}"
    finally:
        server.kill()


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        found: str = request.getfixturevalue("redis")
        return f"{found}?prefix=t{abs(hash(tmp_path)) % 10**9}"
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/work.db"


async def test_the_face_of_a_queue_is_the_same(url: str):
    async with qanat.open(url) as store:
        queue = store.queue("q", unique="active", keep=600.0, lease=60.0)
        first = await queue.put({"to": "ada"}, key="ada", metadata={"n": 1})
        assert (await queue.put(1, key="ada")).id == first.id
        await queue.put("b", priority=-1.0, lane="fast", id="given")
        assert not (await queue.put("c", id="given")).is_new
        later = await queue.put("later", delay=600.0)
        jobs = sorted(await queue.lease(5), key=lambda job: job.put_at or 0)
        assert [job.item for job in jobs] == [{"to": "ada"}, "b"]
        assert await queue.extend(*jobs) == []
        await queue.release(jobs[0])
        await queue.reject(jobs[1], delay=600.0)
        (again,) = await queue.lease(wait=20.0)
        with pytest.raises(LeaseLost):
            await queue.reject(jobs[0])
        assert (again.id, again.attempt, again.metadata) == (first.id, 1, {"n": 1})
        await queue.ack(again)
        assert await queue.cancel(later.id, "none") == ["cancelled", "unknown"]
        assert await queue.admin.requeue("given") == ["ready"]
        assert await queue.admin.purge("ready") == 1
        assert len(await queue.put_many(range(1500), delay=1.0)) == 1500
        counts = await queue.counts()
        assert (counts.done, counts.cancelled, counts.scheduled) == (1, 1, 1500)
        page = await queue.find(state="scheduled", limit=1000)
        rest = await queue.find(state="scheduled", limit=1000, after=page.next)
        assert len({job.id for job in [*page.jobs, *rest.jobs]}) == 1500
    with pytest.raises(ValueError, match="^keep must be 600"):
        await _mismatch(url)


async def _mismatch(url: str) -> None:
    async with qanat.open(url) as store:
        if url == "memory://":
            await store.queue("q", keep=600.0).counts()
        await store.queue("q", keep=1.0).counts()


async def test_a_store_tells_its_time(url: str):
    async with qanat.open(url) as store:
        before = await store.now()
        job = await store.queue("q").get((await store.queue("q").put(1)).id)
        assert job is not None
        assert before <= (job.put_at or 0.0) <= await store.now()


def test_a_store_tells_its_time_without_an_event_loop(url: str):
    with qanat.open(url) as store:
        before = store.now()
        job = store.queue("q").get(store.queue("q").put(1).id)
        assert job is not None
        assert before <= (job.put_at or 0.0) <= store.now()


async def test_a_worker_works_all_off_with_its_retries(url: str):
    async with qanat.open(url) as store:
        queue = store.queue("q", keep=600.0)
        jobs = await queue.put_many(range(300), lane=lambda item: f"lane {item % 3}")
        seen: list[int] = []

        async def handler(item: int) -> int:
            seen.append(item)
            await anyio.sleep(0.001)
            if item % 50 == 0 and current_job().attempt == 1:
                raise OSError("again")
            if item == 7:
                raise qanat.Discard("no seven")
            return item * 2

        rules: dict[str, Any] = {"concurrency": 20, "retry": qanat.Retry(2, backoff=qanat.constant(0.05))}
        await qanat.consume(queue, handler, burst=True, **rules)
        counts = await queue.counts()
        assert (counts.done, counts.dead, counts.ready, counts.leased) == (299, 1, 0, 0)
        assert len(seen) == 306
        found = await queue.get(jobs[11].id)
        assert found is not None
        assert found.value == 22


async def test_a_producer_elsewhere_is_found_by_looking(url: str):
    if url == "memory://":
        pytest.skip("nobody else reaches a store in memory")
    done: list[int] = []

    async def handler(item: int) -> None:
        done.append(item)

    async with qanat.open(url) as store, qanat.open(url) as elsewhere, anyio.create_task_group() as group:
        group.start_soon(qanat.consume, store.queue("q"), handler)
        await anyio.sleep(0.2)
        await elsewhere.queue("q").put(5)
        with anyio.fail_after(20):
            while not done:
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert done == [5]


@pytest.mark.parametrize("keep", [0.0, 600.0])
async def test_a_tree_is_added_up(url: str, keep: float):
    async with qanat.open(url) as store:
        queue = store.queue("q", keep=keep)
        totals: list[list[int]] = []

        async def handler(item: int) -> int:
            job = current_job()
            for number in range(3 if item > 1 else 0):
                job.spawn(item // 4, metadata={"n": number}, failure="fail")
            if item > 1:
                job.spawn("shared", key="shared", handler=shared)
                job.after_children(add_up, gather=True)
            return item

        async def shared(item: str) -> int:
            return 0

        async def add_up(children: qanat.Children[int]) -> int:
            totals.append(children.values())
            return sum(children.values())

        await queue.put(16)
        await qanat.consume(queue, handler, handlers=[add_up, shared], burst=True)
        # Of four that are to have the one with the key, one has it.
        assert sorted(totals[:3]) == [[1, 1, 1], [1, 1, 1], [1, 1, 1]]
        assert totals[3] == [3, 3, 3, 0]
        counts = await queue.counts()
        assert (counts.put, counts.done, counts.waiting) == (14, 14, 0)
        (problems,) = await store.desk.ask("call", [lambda deeds: deeds.store.check("q")])
        assert problems == []


async def square(item: int) -> int:
    if item == 7:
        raise OSError("no 7")
    return item * item


async def test_a_call_over_items_is_made_twice(url: str):
    async with qanat.open(url) as store:
        queue = store.queue("q", keep=600.0)
        for recalled in (0, 1199):
            outcomes = await qanat.collect(square, range(1200), queue=queue, concurrency=100)
            assert [outcome.item for outcome in outcomes.failed] == [7]
            assert outcomes.values() == [item * item for item in range(1200) if item != 7]
            assert sum(outcome.recalled for outcome in outcomes) == recalled
        assert (await queue.counts()).put == 1200
