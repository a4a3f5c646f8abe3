"""Whole workers over sentinels, with a failover, and over a cluster, with a slot that moves."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import nullcontext

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from qanat.errors import StoreError
from tests._stores.redis.proxy import Proxy
from tests._stores.redis.servers import Server, binary, free_port, poll
from tests._stores.redis.test_topologies import is_whole
from tests.crash.crew import Crew

pytestmark = [pytest.mark.real, pytest.mark.long, pytest.mark.timeout(180)]


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
    yield master, replica, f"redis+sentinel://127.0.0.1:{port}/mymaster?timeout=2&connect_timeout=1&wait=1"
    sentinel.kill()
    sentinel.wait()
    master.kill()
    replica.kill()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_work_goes_on_after_a_failover_and_what_is_lost_is_counted(watched, tmp_path, how):
    master, replica, url = watched
    crew = Crew(tmp_path, replica.url)
    try:
        producing = crew.producer("p", 800, 0.1, batch=5, url=url)
        workers = [crew.ready(crew.worker(url=url)) for _ in range(2)]
        crew.wait_for("end", 60)
        began = time.monotonic()
        master.send(how)
        poll(lambda: is_master(replica), "the failover")
        crew.work_on(20)
        gone_on = time.monotonic() - began
        assert producing.wait() == 0
        crew.wait_done(60.0)
        assert [worker.stop() for worker in workers] == [0, 0]
        history = crew.check(losses=True)
    finally:
        crew.end()
    assert not any("Traceback" in worker.said for worker in workers)
    assert {last.state for last in history.last.values()} == {"done"}
    # What the master had acknowledged and not sent on: a batch or two.
    assert len(history.lost) <= 10
    print(
        f"failover: {len(history.lost)} of {len(history.ids('put-ok'))} jobs lost, "
        f"{history.repeats} run again, work went on after {gone_on:.1f} s"
    )


def is_master(server):
    try:
        return bool(server.command("ROLE")[0] == b"master")
    except RedisError:
        return False  # it has just become one, and hung up


@pytest.mark.parametrize("careful", [False, True])
def test_what_a_failover_loses_behind_a_broken_link_is_counted_and_told(tmp_path, careful):
    """A master goes on alone for a second, and then its replica takes over, which has not heard of that."""
    master = Server(tmp_path / "master", port=free_port())
    replica = Server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(master.port))
    proxy = Proxy(master.socket)
    crew = Crew(tmp_path, replica.url)
    url = proxy.url + "?timeout=2&connect_timeout=1&wait=1"
    alone = Crew(tmp_path, url)
    try:
        poll(lambda: replica.command("INFO", "replication")["master_link_status"] == "up", "the replica")
        if careful:
            master.command("CONFIG", "SET", "min-replicas-to-write", "1")
        producing = crew.producer("p", 600, 0.1, batch=5, url=url)
        workers = [crew.ready(crew.worker(url=url)) for _ in range(2)]
        crew.work_on(60)
        replica.command("REPLICAOF", "NO", "ONE")
        with nullcontext() if not careful else pytest.raises(StoreError):
            alone.naps(50, 0.1)
        time.sleep(1.0)
        master.kill()
        proxy.target = replica.socket
        proxy.cut()
        crew.work_on(20)
        assert producing.wait() == 0
        crew.wait_done(60.0)
        assert [worker.stop() for worker in workers] == [0, 0]
        history = crew.check(losses=True)
    finally:
        alone.end()
        crew.end()
        proxy.close()
        replica.kill()
        master.kill()
    told = any("the store has lost what it had stored" in worker.said for worker in workers)
    print(
        f"link broken for 1 s, careful: {careful}: {len(history.lost)} of {len(history.ids('put-ok'))} jobs "
        f"lost, {history.repeats} run again, told: {told}"
    )
    assert len(history.lost) == (0 if careful else 50)
    assert told != careful


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


def move(slot, source, target):
    """Move a slot key by key, as `redis-cli` does, while it is used."""
    ids = [node.command("CLUSTER", "MYID").decode() for node in (source, target)]
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 1):
        source.command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        time.sleep(0.02)
    for node in (target, source):
        node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])


def test_work_goes_on_while_the_slot_of_its_queue_moves(cluster, tmp_path):
    crew = Crew(tmp_path, f"redis+cluster://127.0.0.1:{cluster[0].port}?timeout=2&connect_timeout=1&wait=1")
    try:
        producing = crew.producer("p", 1000, 0.1, batch=5)
        workers = [crew.ready(crew.worker()) for _ in range(2)]
        slot = key_slot(b"qanat:{q}:meta")
        source, target = cluster if slot < 8192 else reversed(cluster)
        for _ in range(2):
            crew.work_on(40)
            move(slot, source, target)
            source, target = target, source
        assert producing.wait() == 0
        crew.wait_done(60.0)
        assert [worker.stop() for worker in workers] == [0, 0]
        history = crew.check(outages=True)
    finally:
        crew.end()
    assert not any("Traceback" in worker.said for worker in workers)
    assert {last.state for last in history.last.values()} == {"done"}
    assert history.repeats == 0
