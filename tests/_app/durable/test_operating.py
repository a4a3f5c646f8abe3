"""What operators ask of stores from programs, in async code and in plain code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import qanat
from qanat._app.durable.operating import examined, ids_until, limit_after, reasons
from qanat._core.store.values import Conf, NewJob, Settle, StoredJob
from qanat._stores.memory import MemoryStore

if TYPE_CHECKING:
    from qanat.testing import VirtualTime


def dead(store: MemoryStore, *ids: str) -> None:
    store.put("q", [NewJob(id=id, lane="x") for id in ids])
    for job in store.claim("q", len(ids), worker="w", lease=30.0).jobs:
        store.settle("q", [Settle(id=job.id, token=job.token, kind="dead", reason="bad")])


async def test_a_store_is_examined_in_async_code(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put(1)
        assert await store.queues() == ["q"]
        found = await store.doctor(check=True)
        assert [(each.name, each.verdict) for each in found] == [
            ("durability", "advice"), ("queue q", "advice"), ("check q", "ok"),
        ]  # fmt: skip
        (required, *_) = await store.doctor(require="fsync", queue="q")
        assert (required.name, required.ok) == ("required", False)
        assert await queue.admin.check() == []


def test_a_store_is_examined_in_plain_code():
    with qanat.open("memory://") as store:
        store.queue("q").admin.pause()
        assert store.queues() == ["q"]
        assert "paused" in store.doctor(require="none")[-1].read
        assert store.queue("q").admin.check(repair=True) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repair": True}, "repair must come with check=True"),
        ({"require": "much"}, "require must be one of"),
        ({"queue": "a b"}, "queue must be 1 to 128"),
    ],
)
def test_wrong_examinations_are_refused_at_the_call(arguments: dict[str, Any], message: str):
    with qanat.open("memory://") as store, pytest.raises(ValueError, match=message):
        store.doctor(**arguments)


async def test_all_that_were_given_up_run_again(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", unique="active", keep=60.0, max_attempts=1)
        jobs = await queue.put_many(["a", "b", "c"], key=str)
        for job in await queue.lease(3):
            await queue.reject(job)
        await queue.put("b", key="b")
        assert await queue.admin.requeue_all() == {"ready": 2, "key": 1}
        assert await queue.admin.requeue_all("done") == {}
        later = await queue.put("d", delay=600.0)
        assert await queue.admin.requeue_all("scheduled") == {"ready": 1}
        assert (await queue.admin.why(later.id))[0] == "3 ready jobs of its lane '' come before it"
        assert (await queue.admin.why(jobs[1].id))[0].startswith("it was given up")
        assert await queue.admin.why("nobody") == []
        with pytest.raises(ValueError, match="state must be"):
            await queue.admin.requeue_all("ready")  # type: ignore[arg-type]


def test_plain_code_does_the_same():
    with qanat.open("memory://") as store:
        queue = store.queue("q")
        job = queue.put("a", delay=600.0)
        assert queue.admin.why(job.id) == ["it was put with a delay and falls due later, in 10 min"]
        assert queue.admin.requeue_all("scheduled") == {"ready": 1}
        with pytest.raises(ValueError, match="id must have 1 to 512 bytes"):
            queue.admin.why("")


def test_what_comes_later_is_left_alone():
    """Or requeuing all would go round with jobs that fail as soon as they are requeued."""
    now = [100.0]
    store = MemoryStore(lambda: now[0])
    dead(store, "a")
    now[0] = 101.0
    dead(store, "b")
    jobs: Any = store.find("q", "dead").jobs
    assert ids_until(jobs, 100.0) == ["a"]


def test_pages_are_as_long_as_their_items_allow():
    """Or a thousand items of one MiB would be fetched at once."""

    def job(size: int) -> Any:
        return StoredJob(id="a", state="ready", body=b"x" * size)

    assert [limit_after([job(size)]) for size in (0, 100, 2**20, 2**24)] == [1000, 1000, 8, 1]
    assert limit_after([]) == 1000
    store = MemoryStore()
    store.put("q", [NewJob(id=f"{n}", body=b"x" * 500_000) for n in range(300)])
    assert (reasons("q", "250", store=store) or [])[
        0
    ] == "at least 100 ready jobs of its lane '' come before it"


def test_only_the_first_of_a_long_lane_are_counted():
    store = MemoryStore()
    for begin in range(0, 2500, 500):
        store.put("q", [NewJob(id=f"{n:04}", lane="x") for n in range(begin, begin + 500)])
    assert (reasons("q", "2000", store=store) or [])[
        0
    ] == "at least 1000 ready jobs of its lane 'x' come before it"
    assert (reasons("q", "0007", store=store) or [])[0].startswith("at least 7 ready jobs")


def test_children_that_a_job_waits_for_are_named():
    store = MemoryStore()
    store.conf("q", Conf())
    store.put("q", [NewJob(id="a")])
    (job,) = store.claim("q", 1, worker="w", lease=30.0).jobs
    children = tuple(NewJob(id=f"c{n}") for n in range(7))
    store.settle("q", [Settle(id="a", token=job.token, kind="done", children=children)])
    store.cancel("q", ["c0"])
    (why,) = reasons("q", "a", store=store) or []
    assert why == (
        "it has succeeded and waits for 6 children not yet ended: 'c1', 'c2', 'c3', 'c4', 'c5', ..."
    )


def test_a_store_of_somebody_else_need_not_be_examined():
    class Other:
        def __getattr__(self, name: str) -> Any:
            if name == "examine":
                raise AttributeError(name)
            return getattr(store, name)

    store = MemoryStore()
    other: Any = Other()
    found = examined(store=other, queues=None, required=None, check=False, repair=False)
    assert [(each.name, each.verdict, each.read) for each in found.findings] == [
        ("store", "unverified", "Other")
    ]
    assert found.ok
