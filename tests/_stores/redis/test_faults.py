"""What happens to the Redis store when the server, the network or its memory fails."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from qanat._core.store.values import Conf, NewJob, Settle, Stamp
from qanat._stores.redis import RedisStore
from qanat.errors import NotReplicated, StoreError, StoreForked, StoreFull, StoreUnavailable
from tests._stores.redis.proxy import Proxy
from tests._stores.redis.servers import Server, free_port, poll

pytestmark = pytest.mark.real

Q = "q"


def jobs(*ids, **given):
    return [NewJob(id=id, **given) for id in ids]


def take(store, n=1, lease=30.0):
    return store.claim(Q, n, worker="w", lease=lease).jobs


def settle(store, job, kind="done", **given):
    [settled] = store.settle(Q, [Settle(id=job.id, token=job.token, kind=kind)], **given)
    return settled.status


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.socket)
    yield proxy
    proxy.close()


@pytest.fixture
def through(proxy):
    """Give a store behind the proxy."""
    store = RedisStore.open(proxy.url + "?timeout=5")
    yield store
    store.close()


# Answers that are lost.


def test_a_stamped_put_whose_answer_is_lost_acts_once(proxy, through):
    stamp = Stamp("client", 1)
    through.count(Q)
    proxy.drop_answers = 1
    assert [each.why for each in through.put(Q, jobs("a", "b"), stamp=stamp)] == ["", ""]
    assert [each.why for each in through.put(Q, jobs("a", "b"), stamp=stamp)] == ["", ""]
    assert through.count(Q).put == 2


def test_a_put_without_a_stamp_is_not_sent_twice_and_told_as_known_when_repeated(proxy, through):
    through.put(Q, jobs("first"))
    proxy.drop_answers = 1
    with pytest.raises(StoreUnavailable):
        through.put(Q, jobs("a"))
    [placed] = through.put(Q, jobs("a"))
    assert (placed.why, through.count(Q).put) == ("id", 2)


def test_a_stamped_settle_whose_answer_is_lost_acts_once(proxy, through):
    through.put(Q, jobs("a"))
    [job] = take(through)
    proxy.drop_answers = 1
    assert settle(through, job, stamp=Stamp("client", 1)) == "ok"
    assert settle(through, job, stamp=Stamp("client", 1)) == "ok"
    assert settle(through, job, stamp=Stamp("client", 2)) == "stale"
    assert through.count(Q).done == 1


def test_a_claim_whose_answer_is_lost_is_not_sent_twice(proxy, through):
    assert take(through) == []  # the server knows the script now
    through.put(Q, jobs("a", "b"))
    proxy.drop_answers = 1
    with pytest.raises(StoreUnavailable):
        take(through)
    assert through.count(Q).leased == 1


@pytest.mark.parametrize("bytes_through", [0, 1, 3, 7, 20, 60])
def test_an_answer_cut_short_is_never_misread(proxy, through, bytes_through):
    assert take(through) == []  # the server knows the script now
    through.put(Q, jobs("a", "b", "c"))
    proxy.cut_after = bytes_through
    with pytest.raises(StoreUnavailable):
        take(through, 2)
    assert [job.id for job in take(through, 3)] == ["c"]


def test_broken_connections_are_made_anew(proxy, through):
    through.put(Q, jobs("a"))
    proxy.cut()
    assert through.count(Q).ready == 1


def test_a_server_that_does_not_answer_is_unavailable_in_time(server):
    store = RedisStore.open(server.url + "?timeout=0.2&wait=0.1")
    store.put(Q, jobs("a"))
    server.send(signal.SIGSTOP)
    try:
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            take(store)
    finally:
        server.send(signal.SIGCONT)
    poll(server.answers, "the server to go on")
    assert store.count(Q).put == 1
    store.close()


def test_a_server_that_does_not_speak_tls_is_asked_once_and_the_error_says_so():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        port = listener.getsockname()[1]
        store = RedisStore.open(f"rediss://127.0.0.1:{port}?timeout=0.2&connect_timeout=0.2&wait=0.1")
        with pytest.raises(StoreUnavailable, match=r"nothing was sent: .* does the server speak TLS"):
            take(store)
        store.close()
        listener.accept()[0].close()
        with pytest.raises(TimeoutError):
            listener.accept()


# The server itself.


def test_scripts_are_sent_again_to_a_server_that_forgot_them(server, store):
    store.put(Q, jobs("a", "b"))
    for _ in range(2):
        server.command("SCRIPT", "FLUSH")
        [job] = take(store)
        server.command("SCRIPT", "FLUSH")
        assert settle(store, job) == "ok"
    assert store.count(Q).done == 2


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(tmp_path):
    server = Server(tmp_path / "aof", "--appendonly", "yes", "--appendfsync", "everysec")
    store = RedisStore.open(server.url)
    try:
        store.put(Q, jobs(*(f"j{i}" for i in range(200))))
        assert settle(store, take(store)[0]) == "ok"
        server.kill()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            store.count(Q)
        server.start()
        counts = store.count(Q)
        assert (counts.ready, counts.done) == (199, 1)
        assert store.check(Q) == []
        assert len(take(store, 199)) == 199
    finally:
        store.close()
        server.kill()


@pytest.fixture
def full(server, store):
    """Give a server whose memory is full, with three jobs in it, one of them leased."""
    store.conf(Q, Conf(keep=100.0))
    store.put(Q, jobs("a", "b", "c"))
    [job] = take(store)
    used = server.command("INFO", "memory")["used_memory"]
    server.command("CONFIG", "SET", "maxmemory", used - 100_000)
    yield store, job
    server.command("CONFIG", "SET", "maxmemory", 0)


def test_a_full_server_refuses_to_put_and_stores_nothing(full):
    store, _ = full
    with pytest.raises(StoreFull, match="maxmemory"):
        store.put(Q, jobs("d", "e"), stamp=Stamp("c", 1))
    assert store.count(Q).put == 3


def test_a_full_server_can_be_drained(full):
    store, job = full
    assert store.extend(Q, [], 30.0).lost == []
    assert settle(store, job, "retry", stamp=Stamp("c", 1)) == "ok"
    for _ in range(3):
        [job] = take(store)
        assert settle(store, job) == "ok"
    assert store.count(Q).done == 3
    assert store.check(Q) == []


@pytest.mark.parametrize("key", ["leased", "names", "ring", "lanes", "live", "list:"])
def test_a_key_of_another_type_stops_a_deed_before_it_writes(server, store, key):
    store.put(Q, jobs("a", "b"))
    comes_later = key in {"leased", "live"}
    if not comes_later:
        server.command("RENAME", f"qanat:{{q}}:{key}", "aside")
    server.command("SET", f"qanat:{{q}}:{key}", "something")
    told = r"^something else has written a key of this store: use another database or \?prefix= \(WRONGTYPE .+\)$"
    with pytest.raises(StoreError, match=told):
        take(store, 2)
    server.command("DEL", f"qanat:{{q}}:{key}")
    if not comes_later:
        server.command("RENAME", "aside", f"qanat:{{q}}:{key}")
    assert store.check(Q) == []
    assert store.count(Q).ready == 2


def test_the_time_is_told_whatever_the_store_holds(store):
    before = store.now()
    store.put(Q, jobs("a"))
    assert before <= store.now() < before + 60


# Who may, and who is who.


def test_a_wrong_password_is_told_and_not_shown(server):
    store = RedisStore.open(server.url.replace("unix://", "unix://nobody:wr0ng@"))
    with pytest.raises(StoreError, match="refused the user name or the password") as caught:
        store.count(Q)
    assert not isinstance(caught.value, StoreUnavailable)
    assert "wr0ng" not in repr(caught.value) + repr(caught.value.__cause__)
    store.close()


def test_a_replica_is_told_as_unavailable(server, store, tmp_path):
    store.put(Q, jobs("a"))
    server.command("REPLICAOF", "127.0.0.1", "1")
    try:
        with pytest.raises(StoreUnavailable, match="replica"):
            store.put(Q, jobs("b"))
    finally:
        server.command("REPLICAOF", "NO", "ONE")
    [placed] = store.put(Q, jobs("b"))
    assert placed.why == ""


def test_a_user_with_few_rights_can_do_everything_but_see_the_guarantees(server):
    server.command(
        "ACL", "SETUSER", "worker", "on", ">pw", "~qanat:*", "+@read", "+@write", "+@scripting", "+info", "+time",
        "+ping", "+wait", "-@dangerous", "+info",
    )  # fmt: skip
    store = RedisStore.open(server.url.replace("unix://", "unix://worker:pw@"), ear="e")
    try:
        take(store)  # nobody may publish to this one, who waits now
        store.put(Q, jobs("a"))
        assert settle(store, take(store)[0]) == "ok"
        assert store.check(Q) == []
        assert store.queues() == [Q]
        assert store.guarantees() == "unverified"
    finally:
        store.close()
        server.command("ACL", "DELUSER", "worker")


def test_after_a_fork_every_call_is_refused(store):
    store.put(Q, jobs("a"))
    child = os.fork()
    if child == 0:
        try:
            store.count(Q)
        except StoreForked:
            store.close()
            os._exit(7)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert store.count(Q).ready == 1


def test_a_closed_store_is_told(server):
    store = RedisStore.open(server.url)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.count(Q)


# What survives.


def test_replicas_that_are_not_there_are_told(store):
    with pytest.raises(NotReplicated) as caught:
        RedisStore(store._calls.client, wait=0.05).put(Q, jobs("a", "b"), replicas=1)
    assert (caught.value.id, caught.value.got, caught.value.wanted) == ("a", 0, 1)
    assert store.count(Q).put == 2


def test_a_replica_that_has_the_jobs_is_waited_for(server, store, tmp_path):
    first = Server(tmp_path / "master", port=free_port())
    replica = Server(tmp_path / "replica", "--replicaof", "127.0.0.1", str(first.port))
    master = RedisStore.open(first.url)
    try:
        poll(lambda: replica.command("INFO", "replication")["master_link_status"] == "up", "the replica")
        assert [each.why for each in master.put(Q, jobs("a"), replicas=1)] == [""]
        assert replica.command("HGET", "qanat:{q}:meta", "put") == b"1"
        first.command("CONFIG", "SET", "min-replicas-to-write", 1)
        assert master.guarantees() == "replicas(1)"
    finally:
        master.close()
        replica.kill()
        first.kill()


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({}, "none"),
        ({"appendonly": "yes", "appendfsync": "no"}, "process"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, "~1s"),
        ({"appendonly": "yes", "appendfsync": "always"}, "fsync"),
        ({"appendonly": "yes", "maxmemory": "1gb", "maxmemory-policy": "allkeys-lru"}, "none"),
    ],
    ids=str,
)
def test_guarantees_are_read_from_the_server(server, store, settings, level):
    before = {name: server.command("CONFIG", "GET", name)[1] for name in settings}
    for name, value in settings.items():
        server.command("CONFIG", "SET", name, value)
    try:
        assert store.guarantees() == level
    finally:
        for name, value in before.items():
            server.command("CONFIG", "SET", name, value)


def test_durable_waits_for_the_disk_and_is_refused_without_one(server, store):
    with pytest.raises(ValueError, match="durable must be False for this server"):
        store.put(Q, jobs("a"), durable=True)
    assert store.count(Q).put == 0
    if store._durability._knows_waitaof({}) is False:
        pytest.skip("this server has no WAITAOF")
    server.command("CONFIG", "SET", "appendonly", "yes")
    try:
        poll(
            lambda: server.command("INFO", "persistence")["aof_rewrite_in_progress"] == 0, "the first rewrite"
        )
        assert [each.why for each in store.put(Q, jobs("a"), durable=True)] == [""]
    finally:
        server.command("CONFIG", "SET", "appendonly", "no")
