"""Where a queue is: what is taken over from redis-py, and what is refused."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

import qanat
from qanat.compat.aiopyrq import Pool, Queue, UniqueQueue, _source
from qanat.compat.aiopyrq._source import Source
from qanat.compat.aiopyrq.helpers import NotEnoughSyncedSlavesError
from tests._stores.redis.servers import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

redis: Any = pytest.importorskip("redis.asyncio")
sentinels: Any = pytest.importorskip("redis.asyncio.sentinel")


def url_of(source: object, replicas_within: float = 0.0) -> str:
    return Source(source, replicas_within)._url


DEFAULTS = "?wait=2.0&timeout=10.0"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("redis://localhost", "redis://localhost:6379/0"),
        ("redis://host:7000/3", "redis://host:7000/3"),
        ("redis://:p%40ss%2F@host", "redis://:p%40ss%2F@host:6379/0"),
        ("redis://me:p%C3%A4%20ss@host/1", "redis://me:p%C3%A4%20ss@host:6379/1"),
        ("redis://[::1]:7000", "redis://[::1]:7000/0"),
        ("unix:///run/a b.sock", "unix:///run/a%20b.sock"),
    ],
)
def test_a_pool_made_from_a_url_is_carried_over(given: str, url: str):
    pool = redis.ConnectionPool.from_url(given, socket_timeout=None)
    assert url_of(pool) == url + DEFAULTS
    assert url_of(redis.Redis(connection_pool=pool)) == url + DEFAULTS


def test_times_files_and_databases_are_carried_over():
    pool = redis.ConnectionPool.from_url(
        "unix://me:secret@/run/r.sock?db=4", socket_timeout=3, socket_connect_timeout=1.5
    )
    assert url_of(pool) == "unix://me:secret@/run/r.sock?db=4&wait=1.5&timeout=3.0&connect_timeout=1.5"
    assert (
        url_of(pool, 8_000) == "unix://me:secret@/run/r.sock?db=4&wait=8.0&timeout=16.0&connect_timeout=1.5"
    )
    client = redis.Redis(
        host="h", ssl=True, ssl_ca_certs="/ca", ssl_certfile="/cert", ssl_keyfile="/key", socket_timeout=None,
        socket_connect_timeout=None,
    )  # fmt: skip
    assert url_of(client) == f"rediss://h:6379/0{DEFAULTS}&ca=%2Fca&cert=%2Fcert&key=%2Fkey"


def test_sentinels_are_carried_over():
    sentinel = sentinels.Sentinel(
        [("a", 1), ("b", 2)],
        sentinel_kwargs={"username": "s", "password": "t"},
        password="p&q",  # noqa: S106
    )
    assert url_of(sentinel.master_for("my master", db=3, socket_timeout=None)) == (
        f"redis+sentinel://:p%26q@a:1,b:2/my%20master/3{DEFAULTS}&sentinel_user=s&sentinel_password=t"
    )
    with pytest.raises(ValueError, match="replicas, which take no writes: use master_for"):
        Source(sentinel.slave_for("mymaster"))
    with pytest.raises(ValueError, match="sentinels with TLS and a master without, or the other way round"):
        Source(sentinel.master_for("mymaster", ssl=True))


def test_a_lone_connection_is_carried_over():
    connection = redis.Connection(host="h", port=7, db=2, username="u", password="p", socket_timeout=None)  # noqa: S106
    assert url_of(connection) == f"redis://u:p@h:7/2{DEFAULTS}"


class Tunnelled(redis.Connection):  # type: ignore[misc] # there may be no redis-py
    """Somebody's own connection."""


def test_an_unknown_class_of_connections_is_refused_by_its_name():
    for unknown in (redis.ConnectionPool(connection_class=Tunnelled), Tunnelled()):
        with pytest.raises(
            TypeError, match=r"test_sources\.Tunnelled, and what they do is not known: give a URL"
        ):
            Queue("emails", unknown)


@pytest.mark.parametrize("given", [None, 5, object(), qanat, asyncio])
@pytest.mark.parametrize("kind", [Queue, UniqueQueue, Pool])
def test_what_is_no_source_is_refused(kind: Any, given: object):
    with pytest.raises(
        TypeError, match="redis must be an asyncio ConnectionPool or client of redis-py, a URL"
    ):
        kind("emails", given)


def test_a_synchronous_client_is_refused():
    import redis as driver

    with pytest.raises(TypeError, match=r"got redis\.client\.Redis"):
        Queue("emails", driver.Redis())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"credential_provider": object()}, "credential_provider"),
        ({"redis_connect_func": print}, "redis_connect_func"),
        ({"ssl_cert_reqs": "none", "connection_class": redis.SSLConnection}, "ssl_cert_reqs"),
        ({"ssl_ca_data": "x", "connection_class": redis.SSLConnection}, "ssl_ca_data"),
    ],
)
def test_a_setting_that_cannot_be_carried_over_is_refused_by_its_name(options: dict[str, Any], name: str):
    with pytest.raises(ValueError, match=f"redis has the setting {name}"):
        Queue("emails", redis.ConnectionPool(**options))


def test_a_wrong_url_is_refused_at_once():
    with pytest.raises(ValueError, match="url must begin with one of"):
        Queue("emails", "localhost:6379")


def test_items_are_given_back_as_the_client_would():
    assert Source(redis.ConnectionPool()).as_bytes
    assert not Source(redis.Redis(decode_responses=True)).as_bytes
    assert not Source("memory://").as_bytes
    assert Source(redis.ConnectionPool(encoding="latin-1")).encoding == "latin-1"


# --- the store below -------------------------------------------------------------------------------------


async def one_by_one(queue: Any) -> list[Any]:
    await queue.add_items(["a", "b"])
    found = await queue.get_items(1)
    await queue.ack_items(found)
    return [*found, *await queue.get_items(5)]


@pytest.mark.real
@pytest.mark.parametrize("kind", [Queue, UniqueQueue, Pool])
def test_a_file_does_as_well(kind: Any, tmp_path: Path):
    """And the threads of its store end with the event loop."""
    before = threading.active_count()
    assert asyncio.run(one_by_one(kind("emails", f"sqlite:///{tmp_path / 'work.db'}"))) == ["a", "b"]
    assert threading.active_count() == before


@pytest.mark.real
def test_the_same_object_serves_one_event_loop_after_another(tmp_path: Path):
    queue = Queue("emails", f"sqlite:///{tmp_path / 'work.db'}")
    assert asyncio.run(one_by_one(queue)) == ["a", "b"]
    asyncio.run(queue.reject_item("b"))
    assert asyncio.run(queue.get_items(5)) == ["b"]


@pytest.mark.real
def test_a_store_that_was_closed_is_opened_anew(tmp_path: Path):
    async def add_and_take(number: int) -> list[Any]:
        await pool.add_item(number)
        [taken] = await pool.get_items(9)
        await pool.ack_item(taken)
        return [taken, await pool.get_count(), await failing.can_rollback_item("x")]

    url = f"sqlite:///{tmp_path / 'work.db'}"
    pool, failing = Pool("feeds", url), Queue("failing", url, max_retry=1, max_timeout=1)

    async def main() -> None:
        assert await add_and_take(1) == ["1", 1, True]
        [shared] = _source._open[asyncio.get_running_loop()].values()
        assert shared._held is not None
        await shared._held.aclose()  # as the end of the event loop does
        assert await add_and_take(2) == ["2", 2, True]

    asyncio.run(main())


@pytest.mark.real
def test_a_queue_keeps_nothing_of_event_loops_that_have_ended(tmp_path: Path):
    queue = Queue("emails", f"sqlite:///{tmp_path / 'work.db'}")
    for _ in range(3):
        asyncio.run(queue.get_count())
    assert len(queue._queues._known) == 1
    assert [list(stores) for stores in _source._open.values() if stores] == []


@pytest.mark.real
def test_an_open_store_does_as_well(tmp_path: Path):
    async def main() -> None:
        async with qanat.open(f"sqlite:///{tmp_path / 'work.db'}") as store:
            assert await one_by_one(Queue("emails", store)) == ["a", "b"]
            assert (await store.queue("emails").counts()).leased == 1

    asyncio.run(main())


@pytest.mark.real
def test_a_store_that_cannot_be_opened_is_told_and_tried_again(tmp_path: Path):
    folder = tmp_path / "later"

    async def main() -> None:
        queue = Queue("emails", f"sqlite:///{folder / 'work.db'}")
        with pytest.raises(qanat.StoreError):
            await queue.get_count()
        folder.mkdir()
        assert await queue.get_count() == 0

    asyncio.run(main())


@pytest.mark.real
def test_a_store_without_replicas_says_so(tmp_path: Path):
    async def main() -> None:
        queue = Queue(
            "emails", f"sqlite:///{tmp_path / 'work.db'}", synced_slaves_enabled=True, synced_slaves_count=1
        )
        with pytest.raises(ValueError, match="replicas"):
            await queue.add_item("a")

    asyncio.run(main())


SECRET = "s:/@c#r%et"  # noqa: S105


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), port=free_port())
    server.command("ACL", "SETUSER", "me", "on", f">{SECRET}", "allkeys", "allchannels", "+@all")
    yield server
    server.kill()


@pytest.mark.real
@pytest.mark.parametrize("how", ["socket", "tcp"])
@pytest.mark.parametrize("kind", [Queue, UniqueQueue, Pool])
def test_a_server_is_reached_as_redis_py_would(server: Server, how: str, kind: Any):
    server.command("FLUSHALL")
    place = (
        {"host": "127.0.0.1", "port": server.port} if how == "tcp" else {"unix_socket_path": server.socket}
    )
    client = redis.Redis(db=2, username="me", password=SECRET, decode_responses=True, **place)
    assert asyncio.run(one_by_one(kind("emails", client))) == ["a", "b"]
    keyspace = server.command("INFO", "keyspace")
    assert list(keyspace) == ["db2"]


@pytest.mark.real
def test_a_client_without_decode_responses_gives_bytes(server: Server):
    server.command("FLUSHALL")
    assert asyncio.run(one_by_one(Queue("emails", redis.Redis(unix_socket_path=server.socket)))) == [
        b"a",
        b"b",
    ]


@pytest.mark.real
def test_too_few_replicas_are_told_by_the_error_of_aio_py_rq(server: Server):
    server.command("FLUSHALL")

    async def main() -> None:
        options = {"synced_slaves_enabled": True, "synced_slaves_count": 1, "synced_slaves_timeout": 20}
        pool = redis.ConnectionPool.from_url(f"unix://{server.socket}", decode_responses=True)
        for kind in (Queue, UniqueQueue, Pool):
            queue = kind(kind.__name__, pool, **options)
            with pytest.raises(NotEnoughSyncedSlavesError, match="only 0 synced slaves. Required 1"):
                await queue.add_items(["a"])
            assert await queue.get_items(5) == ["a"]

    asyncio.run(main())
