"""Rotations over a real server: shared by many, and without a loss when workers are."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

import qanat
from qanat.errors import LeaseLost
from tests._stores.redis.servers import poll

pytestmark = pytest.mark.real


def test_a_rotation_is_shared_by_all_who_open_it(server):
    with qanat.open(server.url) as one, qanat.open(server.url) as other:
        feeds = one.rotation("feeds", every=3600, jitter=0)
        same = other.rotation("feeds", every=3600, jitter=0)
        assert feeds.add(*range(2500)) == 2500
        assert same.add(*range(2400, 2600)) == 100
        assert same.counts() == (2600, 2600)
        jobs = feeds.lease(1000) + same.lease(1000)
        assert sorted(job.item for job in jobs) == list(range(2000))
        same.ack(*jobs)
        assert feeds.counts() == (2600, 600)
        job = feeds.get(7)
        assert job is not None
        assert job.due_at is not None
        assert job.started_at is not None
        assert 3600 <= job.due_at - job.started_at < 3620
        assert (feeds.hasten(7), same.remove(8, 9), feeds.contains(8)) == (1, 2, False)
        assert [job.item for job in feeds.lease(2)] == [2000, 2001]
        assert (same.clear(), feeds.counts()) == (2598, (0, 0))


def test_what_is_not_acknowledged_is_due_again(server):
    with qanat.open(server.url) as store:
        feeds = store.rotation("feeds", every=qanat.Between(60, 600, factor=2), lease=0.2)
        feeds.add("a", "b")
        late = feeds.lease(5)
        again: list[qanat.QueueJob[str]] = []

        def lease_more() -> bool:
            again.extend(feeds.lease(5))
            return len(again) == 2

        poll(lease_more, "both to be due again")
        assert [job.crashes for job in again] == [0, 0]
        with pytest.raises(LeaseLost):
            feeds.ack(*late)
        keeper = store.rotation("feeds", every=qanat.Between(60, 600, factor=2), lease=60)
        keeper.remove("b")
        poll(lambda: keeper.counts().due == 1, "the lease of the other to expire")
        (job,) = keeper.lease(5)
        keeper.ack(job, changed=False)
        kept = keeper.get("a")
        assert kept is not None
        assert kept.value == 120.0


def test_workers_in_threads_visit_each_item_once_in_a_round(server):
    visits: Counter[int] = Counter()
    lock = threading.Lock()

    def visit_all() -> None:
        with qanat.open(server.url) as store:
            feeds = store.rotation("feeds", every=3600)
            while jobs := feeds.lease(20):
                with lock:
                    visits.update(job.item for job in jobs)
                feeds.ack(*jobs)

    with qanat.open(server.url) as store:
        store.rotation("feeds", every=3600).add(*range(400))
        threads = [threading.Thread(target=visit_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert store.rotation("feeds", every=1).counts() == (400, 0)
    assert visits == Counter(range(400))
