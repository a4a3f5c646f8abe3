"""A server that all tests of the Redis store share, and benches upon it."""

from __future__ import annotations

import pytest

from qanat._stores.redis import RedisStore, scripts
from qanat.testing import StoreBench
from tests._stores.redis.servers import Server

START = 1_000_000_000


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("shared"))
    yield server
    server.kill()


@pytest.fixture
def server(shared_server):
    """Give an empty server with its settings as they were."""
    shared_server.command("FLUSHALL")
    return shared_server


@pytest.fixture
def make_bench(server):
    """Give what makes an empty store whose clock moves by hand."""

    def make():
        server.command("FLUSHALL")
        now = [float(START)]

        def advance(seconds):
            now[0] += seconds * 1000

        def connect():
            return RedisStore.open(server.url, clock=lambda: int(now[0]))

        return StoreBench(store=connect(), advance=advance, connect=connect)

    return make


@pytest.fixture
def bench(make_bench):
    bench = make_bench()
    yield bench
    bench.store.close()


@pytest.fixture
def store(server):
    """Give a store on the server's own clock."""
    with_own_clock = RedisStore.open(server.url)
    yield with_own_clock
    with_own_clock.close()


@pytest.fixture
def only_long(monkeypatch):
    """Give what leaves only the long ways."""

    def leave():
        for name, parts in scripts._PARTS.items():
            long = tuple(part for part in parts if not part.startswith("short"))
            monkeypatch.setitem(scripts._PARTS, name, long)
        scripts.script.cache_clear()

    yield leave
    monkeypatch.undo()
    scripts.script.cache_clear()
