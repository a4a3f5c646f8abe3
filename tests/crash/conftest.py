"""The places where queues lie in these tests, and their crews."""

from __future__ import annotations

import pytest

from tests._stores.redis.servers import Server
from tests.crash.crew import Crew


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("crash"))
    yield server
    server.kill()


@pytest.fixture
def server(shared_server):
    """Give an empty server."""
    shared_server.command("FLUSHALL")
    return shared_server


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path):
    """Give the URL of an empty store, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'work.db'}"
    return request.getfixturevalue("server").url


@pytest.fixture
def crew(url, tmp_path):
    crew = Crew(tmp_path, url)
    yield crew
    crew.end()
