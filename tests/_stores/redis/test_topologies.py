"""The Redis store behind sentinels, with a failover, and on a cluster, with a slot that moves."""

from __future__ import annotations

import subprocess

import pytest
from redis.crc import key_slot

from qanat._core.store.values import Conf, NewJob, Settle, Stamp
from qanat._stores.redis import RedisStore
from qanat._stores.redis.ear import RedisEar
from qanat.errors import StoreError, StoreUnavailable
from tests._stores.redis.servers import Server, binary, free_port, poll

pytestmark = [pytest.mark.real, pytest.mark.long, pytest.mark.timeout(180)]


@pytest.fixture
def cluster(tmp_path):
    """Give a cluster of two masters that halve the slots."""
    nodes = []
    try:
        for i in range(2):
            settings = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
            nodes.append(Server(tmp_path / f"n{i}", *settings, port=free_port()))
        nodes[0].command("CLUSTER", "ADDSLOTS", *range(8192))
        nodes[1].command("CLUSTER", "ADDSLOTS", *range(8192, 16384))
        nodes[0].command("CLUSTER", "MEET", "127.0.0.1", nodes[1].port)
        poll(lambda: all(map(is_whole, nodes)), "the cluster to be whole")
        yield nodes
    finally:
        for node in nodes:
            node.kill()


def is_whole(node):
    told = node.command("CLUSTER", "INFO")
    return b"cluster_state:ok" in told and b"cluster_slots_ok:16384" in told


def work_through(store, queue, n=50):
    """Put, claim and settle."""
    store.conf(queue, Conf(unique="active"))
    placed = store.put(queue, [NewJob(id=f"j{i}", lane=f"l{i % 3}", key=f"k{i}") for i in range(n)])
    assert all(each.why == "" for each in placed)
    jobs = store.claim(queue, n, worker="w", lease=30.0).jobs
    assert len(jobs) == n
    settled = store.settle(queue, [Settle(id=job.id, token=job.token, kind="done") for job in jobs])
    assert all(each.status == "ok" for each in settled)
    assert store.check(queue) == []


def test_queues_lie_on_all_nodes_of_a_cluster(cluster):
    store = RedisStore.open(f"redis+cluster://127.0.0.1:{cluster[0].port}")
    try:
        names = [f"queue{i}" for i in range(8)]
        slots = {key_slot(f"qanat:{{{name}}}:meta".encode()) < 8192 for name in names}
        assert slots == {True, False}
        for name in names:
            work_through(store, name)
        assert store.queues() == names
        assert store.guarantees() == "none"
        found = {finding.name: finding.verdict for finding in store.examine()}
        for node in cluster:
            assert found[f"durability of 127.0.0.1:{node.port}"] == "broken"
            assert found[f"cluster of 127.0.0.1:{node.port}"] == "ok"
        assert store.now() > 0
    finally:
        store.close()


def test_who_waits_hears_of_puts_on_every_node_of_a_cluster(cluster):
    url = f"redis+cluster://127.0.0.1:{cluster[0].port}"
    ear, store = RedisEar(url, "e"), RedisStore.open(url, ear="e")
    try:
        assert ear.hear() == [""]
        for name in ("queue0", "queue1", "queue2"):
            assert not store.claim(name, 1, worker="w", lease=30.0).jobs
            store.put(name, [NewJob(id="a")])
            assert poll(ear.hear, "a hint") == [name]
    finally:
        ear.stop()
        ear.close()
        store.close()


def test_who_waits_hears_again_after_a_failover(watched):
    master, _, port = watched
    url = f"redis+sentinel://127.0.0.1:{port}/mymaster?timeout=3&connect_timeout=2"
    ear, store = RedisEar(url, "e"), RedisStore.open(url, ear="e")
    try:
        poll(lambda: attempt(ear.hear) == [""], "the sentinel")
        poll(lambda: attempt(lambda: store.put("q", [NewJob(id="x")], replicas=1)), "the replica")
        master.kill()
        poll(lambda: attempt(ear.hear) == [""], "the ear to find the new master")
        poll(lambda: attempt(lambda: store.claim("q", 9, worker="w", lease=30.0)), "a claim")
        store.put("q", [NewJob(id="a")])
        assert poll(lambda: attempt(ear.hear), "a hint") == ["q"]
    finally:
        ear.stop()
        ear.close()
        store.close()


def test_a_queue_that_moves_to_another_node_is_found(cluster):
    store = RedisStore.open(f"redis+cluster://127.0.0.1:{cluster[0].port}")
    try:
        slot = key_slot(b"qanat:{moving}:meta")
        source, target = cluster if slot < 8192 else reversed(cluster)
        store.put("moving", [NewJob(id="a"), NewJob(id="b")])
        ids = [node.command("CLUSTER", "MYID").decode() for node in (source, target)]
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, 100)
        source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        assert store.count("moving").ready == 2
        assert [job.id for job in store.claim("moving", 2, worker="w", lease=30.0).jobs] == ["a", "b"]
        assert target.command("EXISTS", "qanat:{moving}:live") == 1
    finally:
        store.close()


def test_a_queue_half_of_which_has_moved_is_left_alone_until_all_has(cluster):
    """Key by key a slot moves; a script that ran on what is left would write the rest anew."""
    store = RedisStore.open(f"redis+cluster://127.0.0.1:{cluster[0].port}")
    try:
        slot = key_slot(b"qanat:{moving}:meta")
        source, target = cluster if slot < 8192 else reversed(cluster)
        store.put("moving", [NewJob(id=f"j{i}") for i in range(6)])
        [job] = store.claim("moving", 1, worker="w", lease=60.0).jobs
        ids = [node.command("CLUSTER", "MYID").decode() for node in (source, target)]
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        keys = sorted(source.command("CLUSTER", "GETKEYSINSLOT", slot, 100), key=lambda key: b"meta" in key)
        assert keys[-1] == b"qanat:{moving}:meta"
        for key in keys:
            source.command("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
            for deed in (
                lambda: store.claim("moving", 1, worker="w", lease=60.0),
                lambda: store.put("moving", [NewJob(id="more")]),
                lambda: store.settle("moving", [Settle(id=job.id, token=job.token, kind="done")]),
            ):
                with pytest.raises(StoreUnavailable, match="the cluster is moving this queue"):
                    deed()
        for node in (target, source):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
        [settled] = store.settle("moving", [Settle(id=job.id, token=job.token, kind="done")])
        assert settled.status == "ok"
        assert [job.id for job in store.claim("moving", 9, worker="w", lease=60.0).jobs] == [
            "j1", "j2", "j3", "j4", "j5"
        ]  # fmt: skip
        assert store.check("moving") == []
    finally:
        store.close()


def test_a_node_that_is_down_stops_its_queues_alone(cluster):
    cluster[0].command("CONFIG", "SET", "cluster-require-full-coverage", "no")
    store = RedisStore.open(f"redis+cluster://127.0.0.1:{cluster[0].port}?timeout=3")
    try:
        names = {
            key_slot(f"qanat:{{{name}}}:meta".encode()) < 8192: name
            for name in ("a", "b", "c", "d", "e", "f")
        }
        for name in names.values():
            work_through(store, name)
        cluster[1].kill()
        with pytest.raises((StoreUnavailable, StoreError)):
            store.put(names[False], [NewJob(id="x")])
        assert store.count(names[True]).done == 50
    finally:
        store.close()


@pytest.fixture
def watched(tmp_path):
    """Give a master, its replica and the port of a sentinel that watches them."""
    master = Server(tmp_path / "master", port=free_port())
    replica = Server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master.port), port=free_port())
    poll(lambda: replica.command("INFO", "replication")["master_link_status"] == "up", "the replica")
    port = free_port()
    settings = tmp_path / "sentinel.conf"
    settings.write_text(
        f"port {port}\ndir {tmp_path}\nsentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 5000\n"
    )
    sentinel = subprocess.Popen([binary(), str(settings), "--sentinel"], stdout=subprocess.DEVNULL)
    yield master, replica, port
    sentinel.kill()
    sentinel.wait()
    master.kill()
    replica.kill()


def test_work_goes_on_after_a_failover(watched):
    master, _, port = watched
    store = RedisStore.open(f"redis+sentinel://127.0.0.1:{port}/mymaster?timeout=3&connect_timeout=2")
    try:
        poll(
            lambda: attempt(lambda: store.put("q", [NewJob(id="a"), NewJob(id="b")], replicas=1)),
            "the sentinel",
        )
        [job] = store.claim("q", 1, worker="w", lease=60.0).jobs
        # The lease is on the replica as well, or it may be lost.
        store.put("q", [NewJob(id="c")], replicas=1, stamp=Stamp("c", 1))
        master.kill()
        poll(lambda: attempt(lambda: store.count("q").put == 3), "the failover")
        [settled] = store.settle("q", [Settle(id=job.id, token=job.token, kind="done")], stamp=Stamp("c", 2))
        assert settled.status == "ok"
        assert [job.id for job in store.claim("q", 9, worker="w", lease=60.0).jobs] == ["b", "c"]
        assert store.check("q") == []
    finally:
        store.close()


def attempt(call):
    """Return what a call gives; None while the store is away."""
    try:
        return call()
    except StoreUnavailable:
        return None
