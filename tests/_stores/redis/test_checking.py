"""What `check` finds in a queue that somebody meddled with, and what `repair` makes of it."""

from __future__ import annotations

import pytest

from qanat._core.store.values import Conf, NewJob, Settle
from qanat._stores.redis import RedisStore

pytestmark = pytest.mark.real

QUEUE = "q"
KEY = "qanat:{q}:"


@pytest.fixture
def store(server):
    store = RedisStore.open(server.url)
    store.conf(QUEUE, Conf(unique="active", keep=1000.0))
    store.put(QUEUE, [NewJob(id=f"plain{i}") for i in range(3)])
    store.put(QUEUE, [NewJob(id="keyed", key="k", lane="x"), NewJob(id="first", priority=-1.0)])
    store.put(QUEUE, [NewJob(id="later", delay=100.0), NewJob(id="old"), NewJob(id="parent", priority=-2.0)])
    [parent] = store.claim(QUEUE, 1, worker="w", lease=30.0).jobs
    store.settle(
        QUEUE, [Settle(id="parent", token=parent.token, kind="done", children=(NewJob(id="child"),))]
    )
    store.cancel(QUEUE, ["old"])
    store.claim(QUEUE, 1, worker="w", lease=30.0, skip=["x"])
    assert store.check(QUEUE) == []
    yield store
    store.close()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (["DEL", "list:"], "lane '' lists 0 jobs, expected"),
        (["LPOP", "list:"], "lists"),
        (["ZREM", "ring", "x"], "not in the ring"),
        (["HSET", "lanes", "x", "7"], "lane 'x' counts 7 jobs, expected 1"),
        (["DEL", "scheduled"], "job 'later' is scheduled, but the index does not say so"),
        (["DEL", "leased"], "job 'first' is leased"),
        (["DEL", "waiting"], "job 'parent' is waiting"),
        (["DEL", "cancelled"], "job 'old' is cancelled"),
        (["ZADD", "done", "1", "1234567ghost"], "done holds job 'ghost', which is not there"),
        (["HDEL", "keys", "k"], "key 'k' of job 'keyed' is held by nobody"),
        (["HSET", "keys", "z", "keyed"], "key 'z' is held by job 'keyed', which has no claim to it"),
        (["DEL", "kids:parent"], "job 'child' is not among the children of 'parent'"),
        (["HSET", "meta", "ready", "99"], "99 jobs are counted as ready"),
        (["HSET", "meta", "put", "99"], "99 jobs were put"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_was_meddled_with_is_found_and_mended(server, store, harm, words):
    command, name, *rest = harm
    server.command(command, KEY + name, *rest)
    before = {job.id for job in store.get(QUEUE, [*IDS]) if job is not None}
    found = store.check(QUEUE)
    assert any(words in each for each in found), found
    store.check(QUEUE, repair=True)
    assert store.check(QUEUE) == []
    assert {job.id for job in store.get(QUEUE, [*IDS]) if job is not None} == before


IDS = ("plain0", "plain1", "plain2", "keyed", "first", "later", "old", "parent", "child")


def test_a_parent_that_lost_count_goes_on_after_repair(server, store):
    server.command("HDEL", KEY + "jobs", "child")
    server.command("HDEL", KEY + "links", "child")
    assert "job 'parent' counts 1 open children, and has 0" in store.check(QUEUE)
    store.check(QUEUE, repair=True)
    assert store.check(QUEUE) == []
    [parent] = store.get(QUEUE, ["parent"])
    assert parent is not None
    assert parent.state == "done"


def test_jobs_come_in_their_order_after_repair(server, store):
    server.command("DEL", KEY + "list:")
    store.check(QUEUE, repair=True)
    claim = store.claim(QUEUE, 10, worker="w", lease=30.0)
    assert [job.id for job in claim.jobs if job.lane == ""] == ["plain0", "plain1", "plain2", "child"]


def test_a_lost_body_is_told(server, store):
    server.command("HDEL", KEY + "jobs", "later")
    assert store.check(QUEUE) == ["job 'later' has lost its body"]
