"""What is the SQLite store's own: its clock, its file, its guarantees, and what it does in distress."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from qanat._core.store.values import Conf, Lease, NewJob, Settle, Stamp
from qanat._stores.sqlite import clock as clocks
from qanat._stores.sqlite import opener, schema
from qanat._stores.sqlite.paths import VOLATILE
from qanat._stores.sqlite.store import SqliteStore
from qanat.errors import StoreError, StoreForked, StoreFull, StoreUnavailable, StoreVersionError
from tests._stores.sqlite.bench import START, HandClock, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work.db"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def store(path, clock):
    store = open_store(path, clock)
    yield store
    store.close()


def put(store: SqliteStore, *ids: str, **given) -> None:
    placed = store.put("q", [NewJob(id=id, **given) for id in ids])
    assert [each.why for each in placed] == [""] * len(ids)


def claim(store: SqliteStore, n: int = 1, lease: float = 30.0):
    return store.claim("q", n, worker="w", lease=lease).jobs


def done(store: SqliteStore, *jobs, **given) -> list[str]:
    settles = [Settle(id=job.id, token=job.token, kind="done", **given) for job in jobs]
    return [each.status for each in store.settle("q", settles)]


# --- the clock -------------------------------------------------------------------------------


def test_times_are_utc_and_the_same_for_all_connections(path, clock, store):
    clock.advance(50.0)
    clock.wall = 0.0
    other = open_store(path, clock)
    assert store.now() == other.now() == START + 50.0
    other.close()


def test_wall_clock_that_is_set_moves_nothing(path, clock, store):
    put(store, "a")
    put(store, "b", delay=60.0)
    [job] = claim(store)
    for step in (3600.0, -3600.0, 4e9, -START):
        clock.wall = START + step
        again = open_store(path, clock)
        assert again.rescue("q").ids == []
        assert claim(again) == []
        again.close()
    clock.advance(30.0)
    assert store.rescue("q").ids == [job.id]
    clock.advance(30.0)
    assert [each.id for each in claim(store, 2)] == ["a", "b"]


def test_leases_have_expired_after_a_new_start_of_the_machine(path, clock, store):
    put(store, "a")
    put(store, "b", delay=60.0)
    claim(store, lease=1e6)
    store.close()
    clock.boot, clock.seconds, clock.wall = "next start", 10.0, START + 20.0
    again = open_store(path, clock)
    assert again.now() == START + 20.0
    assert again.rescue("q").ids == ["a"]
    assert [job.id for job in claim(again, 2)] == ["a"]
    clock.advance(40.0)
    assert [job.id for job in claim(again, 2)] == ["b"]
    again.close()


def test_machine_that_starts_in_1970_does_not_go_back(path, clock, store):
    clock.advance(100.0)
    put(store, "a")
    store.close()
    clock.boot, clock.seconds, clock.wall = "next start", 5.0, 5.0
    again = open_store(path, clock)
    assert again.now() == START + 100.0
    again.close()


def test_new_start_without_a_name_is_told_by_a_clock_that_ran_backwards(path):
    clock = HandClock()
    clock.boot = ""
    store = open_store(path, clock)
    put(store, "a")
    claim(store, lease=1e6)
    same = open_store(path, clock)
    assert same.rescue("q").ids == []
    same.close()
    store.close()
    clock.seconds, clock.wall = 3.0, START + 60.0
    again = open_store(path, clock)
    assert again.rescue("q").ids == ["a"]
    again.close()


@pytest.mark.skipif(not Path("/proc/self/timens_offsets").exists(), reason="needs Linux with time namespaces")
def test_clock_of_the_host_is_that_of_its_boot(monkeypatch):
    host = clocks.host_clock()
    assert len(host.boot) == 36
    before = host.since_boot()
    monkeypatch.setattr(Path, "read_text", lambda self, **_: "monotonic 0 0\nboottime 100 500000000\n")
    assert before - 100.5 <= clocks.host_clock().since_boot() < before + 5.0 - 100.5


def test_no_time_namespaces_means_no_offset(monkeypatch):
    def missing(self: Path, **_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert clocks._offset_of_namespace() == 0.0


# --- large bytes -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [schema.LARGE - 1, schema.LARGE, 5_000, 1_048_576])
def test_bytes_of_any_size_come_back(store, size):
    body, metadata, value = b"b" * size, b"m" * min(size, 65_536), b"v" * size
    error = "é" * min(size // 2, 60_000)
    store.conf("q", Conf(keep=100.0))
    put(store, "a", body=body, metadata=metadata)
    [job] = claim(store)
    assert (job.body, job.metadata) == (body, metadata)
    store.settle("q", [Settle(id="a", token=job.token, kind="retry", error=error)])
    [job] = claim(store)
    assert (job.body, job.error) == (body, error)
    assert done(store, job, value=value) == ["ok"]
    [kept] = store.get("q", ["a"])
    assert kept is not None
    assert (kept.body, kept.metadata, kept.value, kept.error) == (body, metadata, value, error)
    assert store.requeue("q", ["a"]) == ["ready"]
    [again] = store.get("q", ["a"])
    assert again is not None
    assert (again.body, again.value, again.error) == (body, None, "")
    assert store.check("q") == []
    assert store.delete("q", ["a"]) == ["deleted"]
    assert store._database.execute("SELECT count(*) FROM large").fetchone() == (0,)


def test_small_value_takes_the_place_of_a_large_one(store):
    put(store, "a")
    for value in (b"v" * 5_000, b"small", b"", b"v" * 3_000):
        [job] = claim(store)
        store.settle("q", [Settle(id="a", token=job.token, kind="again", value=value)])
        [found] = store.get("q", ["a"])
        assert found is not None
        assert found.value == value
        assert store.check("q") == []


def test_extending_a_large_job_writes_little(store, path):
    put(store, "a", body=b"x" * 1_000_000)
    [job] = claim(store)
    store._database.checkpoint()
    log = path.with_name("work.db-wal")
    store.extend("q", [Lease("a", job.token)], 30.0)
    before = log.stat().st_size
    for _ in range(20):
        store.extend("q", [Lease("a", job.token, "still at it")], 30.0)
    assert log.stat().st_size - before < 1_000_000


# --- batches that are sent twice -------------------------------------------------------------


def test_answers_of_all_kinds_are_given_again(store):
    first = store.put("q", [NewJob(id="a"), NewJob(id="b")], stamp=Stamp("c", 1))
    assert store.put("q", [NewJob(id="z")], stamp=Stamp("c", 1)) == first
    second = store.put("q", [NewJob(id="a"), NewJob(id="c")], stamp=Stamp("c", 2))
    assert [each.why for each in second] == ["id", ""]
    assert store.put("q", [], stamp=Stamp("c", 2)) == second
    assert store.put("q", [], stamp=Stamp("c", 3)) == []
    assert store.put("q", [NewJob(id="y")], stamp=Stamp("c", 3)) == []
    jobs = claim(store, 3)
    plain = [Settle(id=job.id, token=job.token, kind="done") for job in jobs[:2]]
    ended = store.settle("q", plain, stamp=Stamp("c", 4))
    assert [each.status for each in ended] == ["ok", "ok"]
    assert store.settle("q", [], stamp=Stamp("c", 4)) == ended
    odd = [Settle(id="c", token=jobs[2].token, kind="dead", also=(NewJob(id="d"),)), *plain]
    told = store.settle("q", odd, stamp=Stamp("c", 5))
    assert [each.status for each in told] == ["ok", "stale", "stale"]
    assert store.settle("q", [], stamp=Stamp("c", 5)) == told


def test_put_of_known_ids_stores_the_others(store):
    """The batch is written in the hope that all are new; when one is not, all is done again by looking."""
    put(store, *"abc")
    placed = store.put("q", [NewJob(id=id) for id in "xaybz"])
    assert [each.why for each in placed] == ["", "id", "", "id", ""]
    assert store.count("q").put == 6
    assert [job.id for job in claim(store, 10)] == [*"abcxyz"]
    assert store.check("q") == []


# --- the file --------------------------------------------------------------------------------


def test_file_belongs_to_its_owner_alone(store, path):
    put(store, "a")
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


@pytest.fixture
def on_a_disk(monkeypatch):
    """Take a file system in memory for a disk, as tests may lie anywhere."""
    monkeypatch.delitem(VOLATILE, 0x01021994)


def test_guarantees_are_what_the_connection_does(path, clock, store, on_a_disk):
    assert store.guarantees() == "fsync"
    store._database.execute("PRAGMA synchronous=NORMAL")
    assert store.guarantees() == "process"
    normal = open_store(path, clock, synchronous="NORMAL")
    assert normal.guarantees() == "process"
    normal.close()


def test_guarantees_without_a_journal_are_none(store):
    store._database.execute("PRAGMA locking_mode=EXCLUSIVE")
    for mode in ("DELETE", "MEMORY"):
        store._database.execute(f"PRAGMA journal_mode={mode}")
    assert store.guarantees() == "none"


def test_put_that_is_to_be_durable_is_so_at_every_level(path, clock, store, on_a_disk):
    normal = open_store(path, clock, synchronous="NORMAL")
    levels = []
    normal._put = lambda *_: levels.append(normal.guarantees())  # type: ignore[method-assign, assignment]
    normal.put("q", [NewJob(id="a")], durable=True)
    normal.put("q", [NewJob(id="a")])
    assert levels == ["fsync", "process"]
    with pytest.raises(ValueError, match="replicas must be 0 for a store in a file, got 1"):
        store.put("q", [], replicas=1)
    store.put("q", [NewJob(id="b")], durable=True)
    normal.close()


def test_file_that_was_removed_or_replaced_is_told(path, clock, store):
    put(store, "a")
    for each in list(path.parent.iterdir()):
        each.rename(each.with_name("away-" + each.name))
    with pytest.raises(StoreUnavailable, match=r"work\.db was removed or replaced while it was open"):
        put(store, "b")
    other = open_store(path, clock)
    with pytest.raises(StoreUnavailable, match="was removed or replaced"):
        put(store, "c")
    assert other.queues() == []
    other.close()


def test_file_of_a_newer_version_is_refused(path):
    newer = opener.Kind("store", schema.KIND.application_id, 2, schema.KIND.schema)
    opener.open_database(path, newer).close()
    with pytest.raises(StoreVersionError, match="as a store of version 2 where this one knows up to 1"):
        SqliteStore(path)


def test_journal_is_no_store(path):
    opener.open_database(path, opener.Kind("journal", 0x71616E31, 1, ("CREATE TABLE things(a)",))).close()
    with pytest.raises(StoreError, match="is a database of another program and no store of qanat"):
        SqliteStore(path)


def test_read_only_file_is_told(path, clock, store):
    put(store, "a")
    store._database.execute("PRAGMA query_only=ON")
    with pytest.raises(StoreUnavailable, match="cannot be read and written: attempt to write a readonly"):
        put(store, "b")
    store._database.execute("PRAGMA query_only=OFF")
    assert store.count("q").put == 1


def test_damaged_page_is_told_and_left(path, clock, store):
    put(store, *map(str, range(1000)), body=b"x" * 500)
    store._database.checkpoint()
    store.close()
    damaged = bytearray(path.read_bytes())
    damaged[20 * 4096 :] = b"\xa5" * (len(damaged) - 20 * 4096)
    path.write_bytes(damaged)
    again = open_store(path, clock)
    with pytest.raises(StoreError, match="is no database, or is damaged"):
        claim(again, 1000)
    again.close()


def test_other_writer_is_waited_for_no_longer_than_the_patience(path, clock, store):
    put(store, "a")
    impatient = open_store(path, clock, patience=0.05)
    with store._database.transaction():
        with pytest.raises(StoreUnavailable, match="is locked: another process has written to it for 0.05 s"):
            put(impatient, "b")
        # Who only looks does not wait, and neither does a claim with nothing to claim.
        assert impatient.count("q").ready == 1
        assert impatient.claim("empty", 1, worker="w", lease=1.0).jobs == []
        assert impatient.rescue("q").ids == []
    put(impatient, "b")
    impatient.close()


def test_full_disk_is_told_and_what_ends_jobs_still_works(store):
    put(store, *map(str, range(50)), body=b"x" * 900)
    jobs = claim(store, 10)
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFull, match="cannot grow: database or disk is full; what it held it still holds"):
        put(store, *[f"more {n}" for n in range(200)], body=b"x" * 900)
    assert store.count("q").put == 50
    assert done(store, *jobs) == ["ok"] * 10
    assert len(claim(store, 100)) == 40
    assert store.check("q") == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_is_refused(path, clock, store):
    put(store, "a")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            put(store, "b")
        except StoreForked:
            code = 7
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert store.count("q").put == 1


def test_closed_store_says_so(store):
    store.close()
    store.close()
    with pytest.raises(StoreError, match=r"work\.db is closed"):
        put(store, "a")


def test_store_that_cannot_set_its_clock_is_closed(path, monkeypatch):
    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("no clock")

    monkeypatch.setattr("qanat._stores.sqlite.store.settle_clock", fail)
    with pytest.raises(StoreError, match="no clock"):
        SqliteStore(path)


def test_long_reader_lets_the_log_grow_until_it_has_gone(path, clock, store, monkeypatch, caplog):
    monkeypatch.setattr(opener, "MOST_GROWTH", 2**16)
    monkeypatch.setattr(opener, "LARGE_LOG", 2**18)
    put(store, "a")
    reader = open_store(path, clock)
    with reader._database.snapshot() as connection:
        connection.execute("SELECT count(*) FROM jobs").fetchone()
        with caplog.at_level(logging.WARNING, "qanat"):
            for number in range(20):
                put(store, f"large {number}", body=b"x" * 50_000)
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert store._database.checkpoint()
    reader.close()


def test_threads_with_a_connection_each_share_a_file(path, clock, store):
    put(store, *map(str, range(200)))
    got: list[str] = []

    def work() -> None:
        mine = open_store(path, clock, patience=30.0, synchronous="NORMAL")
        while jobs := claim(mine, 7):
            got.extend(job.id for job in jobs)
            assert done(mine, *jobs) == ["ok"] * len(jobs)
        mine.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got, key=int) == [str(n) for n in range(200)]
    assert store.count("q").done == 200
    assert store.check("q") == []


def test_second_connection_sees_what_the_first_wrote(store):
    other = store.connect()
    put(store, "a")
    assert [job.id for job in claim(other)] == ["a"]
    other.close()


# --- check and repair ------------------------------------------------------------------------

DAMAGES = {
    "counts": ("UPDATE queues SET ready = 7, done = 0, put = 100", "jobs are counted as ready"),
    "a lane's size": ("UPDATE lanes SET size = 5 WHERE lane = 'x'", "lane 'x' is counted with 5 ready jobs"),
    "a lane missing": (
        "DELETE FROM lanes WHERE lane = 'x'",
        "lane 'x' is counted with 0 ready jobs, and has 1",
    ),
    "a lane too many": ("INSERT INTO lanes VALUES(1, 'ghost', 900, 2)", "lane 'ghost' is counted with 2"),
    "a key too many": (
        "INSERT INTO keys VALUES(1, 'ghost', 'nobody')",
        "key 'ghost' is held by job 'nobody'",
    ),
    "a key missing": ("DELETE FROM keys", "key 'k' of job 'keyed' is held by None"),
    "open children": (
        "UPDATE jobs SET open_children = 3 WHERE id = 'parent'",
        "counts 3 open children, and has 1",
    ),
    "a forlorn parent": (
        "DELETE FROM jobs WHERE id = 'child'",
        "job 'parent' counts 1 open children, and has 0",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_and_repaired(store, name):
    statement, told = DAMAGES[name]
    store.conf("q", Conf(unique="active", keep=1000.0))
    put(store, "parent")
    [parent] = claim(store)
    assert done(store, parent, children=(NewJob(id="child", lane="x"),)) == ["ok"]
    put(store, "keyed", key="k")
    assert store.check("q") == []
    with store._database.transaction() as connection:
        connection.execute(statement)
    assert any(told in problem for problem in store.check("q")), store.check("q")
    before = {job.id for state in ("ready", "waiting") for job in store.find("q", state).jobs}
    assert store.check("q", repair=True) != []
    assert store.check("q") == []
    after = {job.id for state in ("ready", "waiting", "done") for job in store.find("q", state).jobs}
    assert before == after
    assert {job.id for job in claim(store, 10)} == {"child", "keyed"} & after


def test_lost_bytes_are_told_of(store):
    put(store, "a", body=b"x" * 5_000)
    with store._database.transaction() as connection:
        connection.execute("DELETE FROM large")
    assert store.check("q") == ["job 'a' has large bytes that are not there, or more than it knows of"]


# --- finding ---------------------------------------------------------------------------------


def test_pages_of_ready_jobs_go_through_suspects_and_lanes(store, clock):
    put(store, *[f"s{n}" for n in range(5)], lane="z")
    claim(store, 5, lease=1.0)
    clock.advance(2.0)
    assert len(store.rescue("q").ids) == 5
    for name in "xyz":
        put(store, *[f"{name}{n}" for n in range(4)], lane=name)
    for limit in (1, 2, 3, 5, 7, 17, 100):
        for lane, wanted in ((None, 17), ("z", 9), ("x", 4), ("none", 0)):
            page = store.find("q", "ready", lane=lane, limit=limit)
            seen = [job.id for job in page.jobs]
            while page.next is not None:
                page = store.find("q", "ready", lane=lane, limit=limit, after=page.next)
                assert len(page.jobs) <= limit
                seen += [job.id for job in page.jobs]
            assert len(seen) == len(set(seen)) == wanted


def test_find_that_passes_over_many_gives_a_short_page(store, monkeypatch):
    monkeypatch.setattr("qanat._stores.sqlite.looking.LOOKS", 10)
    put(store, *map(str, range(35)), delay=5.0)
    put(store, "last", delay=5.0, lane="x")
    pages = [store.find("q", "scheduled", lane="x")]
    while pages[-1].next is not None:
        pages.append(store.find("q", "scheduled", lane="x", after=pages[-1].next))
    assert [[job.id for job in page.jobs] for page in pages] == [[], [], [], ["last"]]


def test_suspects_of_other_lanes_are_passed_over_in_short_pages(store, clock, monkeypatch):
    monkeypatch.setattr("qanat._stores.sqlite.looking.LOOKS", 2)
    put(store, "a", "b", "c", lane="x")
    put(store, "d", lane="y")
    claim(store, 4, lease=1.0)
    clock.advance(2.0)
    store.rescue("q")
    first = store.find("q", "ready", lane="y")
    assert first.jobs == []
    assert first.next is not None
    assert [job.id for job in store.find("q", "ready", lane="y", after=first.next).jobs] == ["d"]


@pytest.mark.parametrize("after", ["", "x", "[1]", '["", 1]', "\ud800"])
def test_cursor_of_another_kind_is_refused(store, after):
    with pytest.raises(ValueError, match="after must be the next of a page before, got"):
        store.find("q", "ready", after=after)
