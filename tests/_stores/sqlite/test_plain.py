"""The short way of plain jobs comes to the same as the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qanat._core.store.values import Conf, Counts, NewJob, Settle
from qanat._stores.sqlite import plain
from qanat._stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["this SQLite", "one before 3.33"])
def store(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SqliteStore]:
    if request.param != "this SQLite":
        monkeypatch.setattr(plain, "CAN_UPDATE_FROM", False)
    store = SqliteStore(tmp_path / "work.db")
    yield store
    store.close()


def ids(store: SqliteStore, n: int) -> list[str]:
    return [job.id for job in store.claim("q", n, worker="w", lease=60.0).jobs]


def test_plain_jobs_keep_their_order_beside_others(store: SqliteStore):
    put = [f"a{number:03d}" for number in range(250)]
    store.put("q", [NewJob(id=id, body=b"1", handler="h", metadata=b"{}") for id in put])
    store.put("q", [NewJob(id="first", priority=-1.0), NewJob(id="b0"), NewJob(id="later", delay=600.0)])
    store.put("q", [NewJob(id="b1")])
    jobs = store.claim("q", 3, worker="w", lease=60.0).jobs
    assert [(job.id, job.attempt, job.token) for job in jobs] == [
        ("first", 1, 1),
        ("a000", 1, 2),
        ("a001", 1, 3),
    ]
    assert (jobs[1].handler, jobs[1].metadata, jobs[1].body) == ("h", b"{}", b"1")
    store.settle("q", [Settle(id=job.id, token=job.token, kind="release") for job in jobs])
    assert ids(store, 1000) == ["first", *put, "b0", "b1"]
    assert store.check("q") == []


@pytest.mark.parametrize("order", ["fifo", "lifo"])
def test_plain_jobs_lie_in_the_order_of_the_queue(store: SqliteStore, order):
    store.conf("q", Conf(order=order))
    put = [f"a{number:03d}" for number in range(120)]
    store.put("q", [NewJob(id=id) for id in put[:110]])
    store.put("q", [NewJob(id=id, dedupe_for=9.0) for id in put[110:]])
    assert ids(store, 1000) == (put if order == "fifo" else put[::-1])


def test_settles_of_all_kinds_go_together(store: SqliteStore):
    store.put("q", [NewJob(id=str(number)) for number in range(6)])
    store.put("q", [NewJob(id="known", dedupe_for=600.0)])
    jobs = {job.id: job for job in store.claim("q", 7, worker="w", lease=60.0).jobs}
    settles = [
        Settle(id="0", token=jobs["0"].token, kind="done"),
        Settle(id="1", token=jobs["1"].token, kind="retry"),
        Settle(id="2", token=99, kind="done"),
        Settle(id="3", token=jobs["3"].token, kind="done", value=b"3"),
        Settle(id="0", token=jobs["0"].token, kind="done"),
        Settle(id="4", token=jobs["4"].token, kind="retry"),
        Settle(id="4", token=jobs["4"].token, kind="done"),
        Settle(id="known", token=jobs["known"].token, kind="done"),
        Settle(id="none", token=1, kind="done"),
    ]
    told = [(each.id, each.status, each.state) for each in store.settle("q", settles)]
    assert told == [
        ("0", "ok", "done"), ("1", "ok", "ready"), ("2", "stale", None), ("3", "ok", "done"),
        ("0", "stale", None), ("4", "ok", "ready"), ("4", "repeated", "ready"), ("known", "ok", "done"),
        ("none", "stale", None),
    ]  # fmt: skip
    assert [placed.why for placed in store.put("q", [NewJob(id="known"), NewJob(id="0")])] == ["id", ""]
    assert store.count("q") == Counts(ready=3, leased=2, done=3, put=8)
    assert store.check("q") == []


def test_an_id_that_is_there_is_refused_among_plain_ones(store: SqliteStore):
    store.put("q", [NewJob(id="a")])
    assert [placed.why for placed in store.put("q", [NewJob(id="b"), NewJob(id="a")])] == ["", "id"]
    assert ids(store, 9) == ["a", "b"]
    assert store.check("q") == []


@pytest.mark.parametrize("gone", [None, 0, 3, 6])
@pytest.mark.parametrize("order", ["fifo", "lifo"])
def test_only_what_was_asked_for_is_leased_and_ends(store: SqliteStore, order, gone):
    """Rows that follow one another go by their first and last; those between that are others' stay."""
    odd = ["a", 'b"', "c\\", "d\n", "\u00e9", "\u6c34", "g\u2028"]
    store.conf("q", Conf(order=order))
    store.put("other", [NewJob(id="x")])
    store.put("q", [NewJob(id=id) for id in odd])
    store.put("other", [NewJob(id="y")])
    store.put("q", [NewJob(id="last")])
    if gone is not None:
        assert store.delete("q", [odd[gone]]) == ["deleted"]
        del odd[gone]
    expected = [*odd, "last"] if order == "fifo" else ["last", *odd[::-1]]
    jobs = store.claim("q", 1000, worker="w", lease=60.0).jobs
    assert [job.id for job in jobs] == expected
    assert [job.token for job in jobs] == list(range(1, len(jobs) + 1))
    told = store.get("q", expected)
    assert [(job.id, job.token, job.worker) for job in told if job is not None] == [
        (job.id, job.token, "w") for job in jobs
    ]
    kept = jobs.pop(2)
    settles = [Settle(id=job.id, token=job.token, kind="done") for job in jobs]
    assert {each.status for each in store.settle("q", settles)} == {"ok"}
    counts = store.count("q")
    assert (counts.leased, counts.done) == (1, len(jobs))
    assert {each.status for each in store.settle("q", settles)} == {"stale"}
    assert [
        each.status for each in store.settle("q", [Settle(id=kept.id, token=kept.token, kind="done")])
    ] == ["ok"]
    assert store.count("other") == Counts(ready=2, put=2)
    assert store.check("q") == store.check("other") == []
