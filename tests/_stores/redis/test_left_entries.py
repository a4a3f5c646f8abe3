"""A job that leaves its list from the middle leaves its entry there, and nobody is misled by it."""

from __future__ import annotations

import pytest

from qanat._core.store.values import Conf, NewJob, Settle

pytestmark = pytest.mark.real

Q = "q"


def put(store, *ids, **given):
    store.put(Q, [NewJob(id=id, **given) for id in ids])


def ids(store, n=10):
    return [job.id for job in store.claim(Q, n, worker="w", lease=30.0).jobs]


@pytest.fixture(params=["one lane", "two lanes"])
def two(request, bench):
    """Give a store; with a second lane claims go another way through the script."""
    bench.store.conf(Q, Conf(keep=100.0, weights={"": 100}))
    if request.param == "two lanes":
        put(bench.store, "other", lane="x")
    return bench.store


def plain(found):
    return [id for id in found if id != "other"]


def test_a_job_put_again_after_it_was_deleted_is_last(two):
    put(two, "a", "b")
    assert two.delete(Q, ["a"]) == ["deleted"]
    put(two, "a")
    assert plain(ids(two)) == ["b", "a"]
    assert two.check(Q) == []


def test_a_cancelled_job_is_passed_over(two):
    put(two, "a", "b")
    assert two.cancel(Q, ["a"]) == ["cancelled"]
    assert plain(ids(two)) == ["b"]
    assert two.check(Q) == []


def test_a_requeued_job_comes_in_its_new_place(two):
    put(two, "a", "b", "c")
    two.cancel(Q, ["a"])
    assert two.requeue(Q, ["a"]) == ["ready"]
    put(two, "d")
    assert plain(ids(two)) == ["b", "c", "a", "d"]
    assert two.check(Q) == []


def test_a_released_job_takes_its_old_place_before_the_list(two):
    put(two, "a", "b", "c")
    jobs = [job for job in two.claim(Q, 3, worker="w", lease=30.0).jobs if job.lane == ""]
    two.settle(Q, [Settle(id=job.id, token=job.token, kind="release") for job in jobs])
    put(two, "d")
    assert plain(ids(two)) == ["a", "b", "c", "d"]


def test_a_purge_passes_entries_that_were_left(two):
    put(two, *(f"j{i}" for i in range(20)))
    two.cancel(Q, [f"j{i}" for i in range(10)])
    assert two.purge(Q, "ready", 5) == 5
    left = two.count(Q).ready
    assert two.purge(Q, "ready") == left
    assert two.count(Q).ready == 0
    assert two.check(Q) == []


def test_a_claim_stops_after_a_thousand_left_entries_and_asks_to_come_again(bench):
    store = bench.store
    store.conf(Q, Conf(keep=100.0))
    for start in (0, 1000):
        put(store, *(f"j{i}" for i in range(start, start + 1000)))
    store.cancel(Q, [f"j{i}" for i in range(1000)])
    store.cancel(Q, [f"j{i}" for i in range(1000, 1999)])
    found: list[str] = []
    rounds = 0
    while not found:
        claim = store.claim(Q, 1, worker="w", lease=30.0)
        found, rounds = [job.id for job in claim.jobs], rounds + 1
        assert found or claim.next_due == 0.0
    assert (found, rounds > 1) == (["j1999"], True)
    assert store.check(Q) == []
