"""What is found of real servers, as they should be and as they should not."""

from __future__ import annotations

import pytest

from qanat._stores.redis import RedisStore
from qanat._stores.redis.connecting import is_exposed
from tests._stores.redis.servers import Server, free_port, poll

pytestmark = pytest.mark.real

GOOD = {
    "maxmemory": "0", "maxmemory-policy": "noeviction", "appendonly": "no", "appendfsync": "everysec",
    "min-replicas-to-write": "0",
}  # fmt: skip


def found(store: RedisStore) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in store.examine()}


@pytest.fixture
def settings(server):
    """Set settings of the shared server, and set them back."""

    def change(**values: str) -> None:
        for name, value in values.items():
            server.command("CONFIG", "SET", name.replace("_", "-"), value)

    yield change
    for name, value in GOOD.items():
        server.command("CONFIG", "SET", name, value)


def test_a_server_without_persistence_breaks_a_promise(store):
    verdicts = found(store)
    assert verdicts["durability"] == "broken"
    assert {name for name, verdict in verdicts.items() if verdict != "ok"} == {"durability"}
    assert store.guarantees() == "none"


def test_a_server_that_is_set_up_well_is_well(server, store, settings):
    settings(appendonly="yes", appendfsync="always", maxmemory="1gb")
    poll(lambda: not server.client().info("persistence")["aof_rewrite_in_progress"], "the first rewrite")
    assert set(found(store).values()) == {"ok"}
    assert store.guarantees() == "fsync"


def test_each_bad_setting_is_found(store, settings):
    settings(maxmemory="1gb", maxmemory_policy="allkeys-lru", min_replicas_to_write="2")
    verdicts = found(store)
    assert (verdicts["eviction"], verdicts["replicas"]) == ("broken", "broken")


def test_a_full_server_is_found(server, store, settings):
    settings(maxmemory=str(server.client().info("memory")["used_memory"] // 2))
    assert found(store)["memory"] == "broken"


def test_a_server_that_shows_no_settings_is_unverified(server):
    server.command("ACL", "SETUSER", "blind", "on", ">x", "~*", "+@all", "-config", "-wait")
    try:
        store = RedisStore.open(f"unix://blind:x@{server.socket}")
        verdicts = found(store)
        assert (store.guarantees(), verdicts["durability"], verdicts["waiting"]) == (
            "unverified", "unverified", "advice",
        )  # fmt: skip
        store.close()
    finally:
        server.command("ACL", "DELUSER", "blind")


def test_a_user_who_may_run_no_script_is_told(server):
    server.command("ACL", "SETUSER", "mute", "on", ">x", "~*", "+@all", "-@scripting")
    try:
        store = RedisStore.open(f"unix://mute:x@{server.socket}")
        assert found(store)["scripts"] == "broken"
        store.close()
    finally:
        server.command("ACL", "DELUSER", "mute")


def test_a_server_that_has_no_config_command_is_unverified(tmp_path):
    server = Server(tmp_path / "s", "--rename-command", "CONFIG", "")
    try:
        store = RedisStore.open(server.url)
        assert store.guarantees() == "unverified"
        assert found(store)["durability"] == "unverified"
        store.close()
    finally:
        server.kill()


def test_names_that_no_queue_can_have_are_passed_over(server, store):
    store.pause("real")
    server.command("SADD", "qanat:queues", "\x1b[2Jforged", b"\xff", "a b", "real")
    assert store.queues() == ["real"]


def test_a_replica_is_refused(tmp_path):
    port = free_port()
    master = Server(tmp_path / "m", port=port)
    replica = None
    try:
        replica = Server(tmp_path / "r", "--replicaof", f"127.0.0.1 {port}")
        store = RedisStore.open(replica.url)
        poll(lambda: replica.client().info("replication")["master_link_status"] == "up", "the link")
        assert found(store)["role"] == "broken"
        store.close()
        store = RedisStore.open(master.url)
        assert found(store)["replicas"] == "advice"
        store.close()
    finally:
        for each in (replica, master):
            if each is not None:
                each.kill()


@pytest.mark.parametrize(
    ("url", "exposed"),
    [
        ("redis://localhost", False), ("redis://127.0.0.1:1", False), ("redis://[::1]", False),
        ("unix:///run/s", False), ("rediss://far.example", False), ("redis://far.example", True),
        ("redis+cluster://127.0.0.1,10.0.0.7", True),
    ],
)  # fmt: skip
def test_what_crosses_a_network_in_the_open_is_known(url, exposed):
    assert is_exposed(url) is exposed
