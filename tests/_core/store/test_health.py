"""What readings of servers and files mean: one table of states, each with the finding that it makes."""

from __future__ import annotations

from typing import Any

import pytest

from qanat._core.store.finding import size_in_words, span_in_words
from qanat._core.store.levels import level_in_words, rank, suffices
from qanat._core.store.queue_health import queue_findings
from qanat._core.store.redis_health import RedisReadings, redis_findings
from qanat._core.store.sqlite_health import SqliteReadings, sqlite_findings
from qanat._core.store.values import Counts

INFO: dict[str, Any] = {
    "redis_version": "7.2.4",
    "role": "master",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "aof_delayed_fsync": 0,
    "rdb_last_bgsave_status": "ok",
    "maxmemory": 100 * 2**20,
    "used_memory": 10 * 2**20,
    "maxmemory_policy": "noeviction",
    "connected_slaves": 0,
    "connected_clients": 3,
    "maxclients": 10_000,
}
CONFIG = {
    "appendfsync": "everysec",
    "save": "",
    "stop-writes-on-bgsave-error": "yes",
    "min-replicas-to-write": "0",
    "min-replicas-max-lag": "10",
}


def server(info: dict[str, Any] | None = None, config: dict[str, str] | None = None, **more: Any):
    readings: dict[str, Any] = {
        "info": INFO | (info or {}), "config": CONFIG | (config or {}), "level": "~1s", **more,
    }  # fmt: skip
    return RedisReadings(**readings)


def test_a_server_as_the_docs_advise_is_well():
    findings = redis_findings(server())
    assert {finding.verdict for finding in findings} == {"ok"}
    assert all(finding.ok and not finding.mend for finding in findings)
    assert [each.name for each in findings] == [
        "version", "role", "durability", "disk", "eviction", "memory", "replicas", "clock",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("readings", "name", "verdict", "words"),
    [
        (server({"redis_version": "6.0.16"}), "version", "broken", "6.0.16"),
        (server({"redis_version": "7.0.15"}), "version", "ok", "durable=True"),
        (server({"redis_version": ""}), "version", "unverified", "unknown"),
        (server({"valkey_version": "8.0.1"}), "version", "ok", "Valkey 8.0.1"),
        (server({"role": "slave", "master_host": "m", "master_port": 1}), "role", "broken", "replica of m:1"),
        (server({"role": ""}), "role", "unverified", "INFO"),
        (server(scripts="NOPERM"), "scripts", "broken", "NOPERM"),
        (server(waits=False), "waiting", "advice", "replicas="),
        (server(cluster={"cluster_state": "ok"}), "cluster", "ok", "cluster_state ok"),
        (server(cluster={"cluster_state": "fail"}), "cluster", "broken", "cluster_state fail"),
        (server({"aof_enabled": 0}), "durability", "broken", "all jobs are lost"),
        (server({"aof_enabled": 0}, {"save": "60 1"}), "durability", "broken", "since the last snapshot"),
        (server({"aof_enabled": 0}, level="replicas(1)"), "durability", "advice", "loss of 1 machines"),
        (server(config={"appendfsync": "no"}), "durability", "advice", "half a minute"),
        (server(config={"appendfsync": "always"}), "durability", "ok", "jobs survive a loss of power"),
        (server({"aof_last_write_status": "err"}), "disk", "broken", "refuses every write"),
        (server({"aof_delayed_fsync": 3}), "disk", "advice", "aof_delayed_fsync 3"),
        (server({"rdb_last_bgsave_status": "err"}), "snapshots", "advice", "not written"),
        (server({"rdb_last_bgsave_status": "err"}, {"save": "1 1"}), "snapshots", "broken", "refuses"),
        (server({"maxmemory_policy": "allkeys-lru"}), "eviction", "broken", "jobs are dropped"),
        (server({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}), "eviction", "advice", "would be"),
        (server({"maxmemory_policy": ""}), "eviction", "unverified", "not known"),
        (server({"maxmemory": 0}), "memory", "ok", "maxmemory 0"),
        (server({"used_memory": 85 * 2**20}), "memory", "advice", "85 MiB of 100 MiB"),
        (server({"used_memory": 98 * 2**20}), "memory", "broken", "puts are refused"),
        (server({"connected_slaves": 1}), "replicas", "advice", "cut off"),
        (server({"connected_slaves": 1}, {"min-replicas-to-write": "1"}), "replicas", "ok", "max-lag 10"),
        (server(config={"min-replicas-to-write": "1"}), "replicas", "broken", "refuses every write"),
        (
            server({"connected_slaves": 1, "min_slaves_good_slaves": 0}, {"min-replicas-to-write": "1"}),
            "replicas", "broken", "refuses",
        ),
        (server({"connected_clients": 9_000}), "clients", "advice", "9000 of 10000"),
        (server(skew=-3.0, round_trip=0.5), "clock", "advice", "3.000 s behind"),
        (server(skew=1.2, round_trip=0.5), "clock", "ok", "1.200 s ahead"),
        (server(exposed=True), "network", "advice", "no TLS"),
    ],
)  # fmt: skip
def test_a_server_is_found_as_it_is(readings: RedisReadings, name: str, verdict: str, words: str):
    (found,) = [finding for finding in redis_findings(readings) if finding.name == name]
    assert found.verdict == verdict
    assert words in f"{found.read} {found.means}"
    # What is not well says what to do, unless nobody could look.
    assert (found.mend != "") == (verdict in {"advice", "broken"})
    assert found.ok == (verdict != "broken")


def test_what_a_server_does_not_show_is_never_taken_for_good():
    readings = RedisReadings(info=INFO | {"connected_slaves": 1}, config=None, level="unverified")
    found = {finding.name: finding.verdict for finding in redis_findings(readings)}
    assert (found["durability"], found["replicas"]) == ("unverified", "unverified")
    alone = RedisReadings(info=INFO, config=None, level="unverified")
    assert "replicas" not in {finding.name for finding in redis_findings(alone)}


def test_findings_of_a_cluster_name_their_node():
    assert {each.name.partition(" of ")[2] for each in redis_findings(server(node="10.0.0.1:6379"))} == {
        "10.0.0.1:6379"
    }


def file(**more: Any) -> SqliteReadings:
    readings: dict[str, Any] = {
        "library": (3, 51, 3), "journal_mode": "wal", "synchronous": 2, "file_system": "ext4", "mode": 0o600,
        "directory_mode": 0o700, "size": 2**20, "free": 2**33, "boot": "b", "damage": (), **more,
    }  # fmt: skip
    return SqliteReadings(**readings)


def test_a_file_as_the_store_makes_it_is_well():
    findings = sqlite_findings(file())
    assert {finding.verdict for finding in findings} == {"ok"}
    assert [each.name for each in findings] == [
        "library", "durability", "file system", "access", "room", "log", "boot", "clock", "file",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("readings", "name", "verdict", "words"),
    [
        (file(library=(3, 40, 1)), "library", "advice", "SQLite 3.40.1"),
        (file(journal_mode="delete"), "durability", "broken", "journal_mode delete"),
        (file(synchronous=0), "durability", "broken", "synchronous OFF"),
        (file(synchronous=1), "durability", "advice", "durable=True"),
        (file(file_system="NFS", remote=True), "file system", "broken", "locks"),
        (file(file_system="tmpfs", volatile=True), "file system", "broken", "in memory"),
        (file(file_system=""), "file system", "unverified", "not told"),
        (file(mode=0o640), "access", "advice", "file 0640"),
        (file(mode=0o602), "access", "broken", "everybody"),
        (file(directory_mode=0o777), "access", "broken", "directory 0777"),
        (file(free=2**20), "room", "broken", "1.0 MiB free"),
        (file(free=2**28), "room", "advice", "256 MiB free"),
        (file(size=2**28, unused=2**27), "unused", "advice", "128 MiB"),
        (file(log=2**29), "log", "advice", "512 MiB"),
        (file(boot=""), "boot", "advice", "no name"),
        (file(drift=-90.0), "clock", "advice", "behind"),
        (file(damage=("row 1 missing from index",)), "file", "broken", "row 1"),
    ],
)
def test_a_file_is_found_as_it_is(readings: SqliteReadings, name: str, verdict: str, words: str):
    (found,) = [finding for finding in sqlite_findings(readings) if finding.name == name]
    assert found.verdict == verdict
    assert words in f"{found.read} {found.means}"
    assert found.ok == (verdict != "broken")


def test_a_system_without_modes_of_files_has_no_finding_of_them():
    assert "access" not in {finding.name for finding in sqlite_findings(file(mode=None, damage=None))}
    assert "file" not in {finding.name for finding in sqlite_findings(file(damage=None))}


@pytest.mark.parametrize(
    ("counts", "overdue", "verdicts", "words"),
    [
        (Counts(done=3), -5.0, ["ok"], "0 ready"),
        (Counts(ready=2, leased=1), 0.0, ["ok"], "2 ready"),
        (Counts(ready=2), 0.0, ["advice"], "no worker seems to run"),
        (Counts(leased=1), 120.0, ["advice"], "expired 2 min ago"),
        (Counts(ready=2, paused=True), 0.0, ["advice"], "paused"),
        (Counts(dead=2), 0.0, ["advice"], "given up"),
        (Counts(dead=2, paused=True), 0.0, ["advice", "advice"], "2 dead"),
    ],
)
def test_a_queue_is_found_as_it_is(counts: Counts, overdue: float, verdicts: list[str], words: str):
    found = queue_findings("q", counts, overdue=overdue)
    assert [each.verdict for each in found] == verdicts
    assert any(words in f"{each.read} {each.means}" for each in found)


def test_contradictions_break_a_promise_until_they_are_mended():
    problems = [f"problem {n}" for n in range(7)]
    *_, found = queue_findings("q", Counts(), problems=problems)
    assert (found.verdict, found.read.endswith("problem 4; and 2 more")) == ("broken", True)
    assert found.mend == "qanat doctor --queue q --check --repair"
    assert queue_findings("q", Counts(), problems=problems, mended=True)[-1].ok
    assert queue_findings("q", Counts(), problems=[])[-1].verdict == "ok"


def test_levels_are_compared():
    levels = ["none", "process", "~1s", "fsync", "replicas(1)", "replicas(2)"]
    assert [rank("level", level) for level in levels] == sorted(rank("level", level) for level in levels)
    assert suffices("fsync", "~1s")
    with pytest.raises(ValueError, match="level must be one of none, process, ~1s, fsync and replicas"):
        rank("level", "replicas(0)")
    with pytest.raises(TypeError, match="level must be a text, got 1"):
        rank("level", 1)
    assert not suffices("~1s", "fsync")
    assert not suffices("unverified", "none")
    assert level_in_words("replicas(2)") == "jobs survive the loss of 2 machines"
    assert "lets nobody look" in level_in_words("unverified")
    assert "cannot tell" in level_in_words("raid")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.0, "59 s"), (120.0, "2 min"), (-7300.0, "2 h"), (2e5, "2 days")],
)
def test_spans_are_said_in_their_largest_unit(seconds: float, words: str):
    assert span_in_words(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 bytes"), (2048, "2.0 KiB"), (15 * 2**20, "15 MiB"), (2**45, "32.0 TiB")]
)
def test_sizes_are_said_in_their_largest_unit(count: int, words: str):
    assert size_in_words(count) == words
