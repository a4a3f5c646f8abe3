"""What aio-py-rq keeps in Redis is taken over, written here as it writes it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

import qanat
from qanat._cli.import_command import stored_name
from qanat.compat.aiopyrq import Pool, Queue, UniqueQueue
from qanat.compat.aiopyrq._names import stored_name as stored_name_there
from tests._cli.shell import call
from tests._stores.redis.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests._cli.shell import Ran

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.kill()


@pytest.fixture
def server(shared: Server) -> Server:
    """Give a server with two queues, items of which were taken by two consumers, and a pool."""
    shared.command("FLUSHALL")
    shared.command("LPUSH", "emails", *(f"m{n}" for n in range(2_003)))
    for client, items in (("host[7][1000]", ("t2", "t3")), ("host[7][900]", ("t0", "t1"))):
        key = f"emails-processing-{client}"
        shared.command("LPUSH", key, *items)
        shared.command("HSET", "emails-timeouts", key, 1_444_222_459)
    shared.command("HSET", "emails-retry-count", "t0", 3)
    shared.command("LPUSH", "emails-processing-left[1][1]", "t4")
    for item in ("a", "b", "c"):
        shared.command("LPUSH", "uni:que", item)
        shared.command("SADD", "uni:que-unique", item)
    shared.command("LPUSH", "uni:que-processing-h[1][1]", "x", "b")
    shared.command("HSET", "uni:que-timeouts", "uni:que-processing-h[1][1]", 1)
    now = int(time.time())
    for item, score in (
        ("late", now - 50),
        ("taken", f"{now - 20}.1"),
        ("later", now - 100),
        ("far", now + 5_000),
    ):
        shared.command("ZADD", "feeds", score, item)
    return shared


def imported(where: Path, server: Server, *names: str) -> Ran:
    return call(
        where, "import-aiopyrq", *names, "--from", server.url, "--store", "sqlite:///work.db", "--json"
    )


def at(where: Path, kind: Any, name: str) -> Any:
    return kind(name, f"sqlite:///{where}/work.db")


def dump(server: Server) -> list[Any]:
    return [(key, server.command("DUMP", key)) for key in sorted(server.command("KEYS", "*"))]


def test_a_queue_is_taken_over_with_what_was_taken_first(tmp_path: Path, server: Server):
    before = dump(server)
    ran = imported(tmp_path, server, "emails")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "name": "emails", "queue": "emails", "kind": "queue", "items": 2_008, "taken": 5, "stored": 2_008,
    }  # fmt: skip
    assert dump(server) == before
    items = asyncio.run(at(tmp_path, Queue, "emails").get_items(5_000))
    assert items == ["t2", "t3", "t0", "t1", "t4", *(f"m{n}" for n in range(2_003))]


def test_a_unique_queue_is_taken_over(tmp_path: Path, server: Server):
    ran = imported(tmp_path, server, "uni:que")
    told = json.loads(ran.stdout)
    assert (told["queue"], told["kind"], told["stored"]) == (stored_name("uni:que"), "unique", 4)

    async def main() -> list[str]:
        queue = at(tmp_path, UniqueQueue, "uni:que")
        await queue.add_item("c")
        found: list[str] = await queue.get_items(9)
        return found

    assert asyncio.run(main()) == ["x", "b", "a", "c"]


def test_a_pool_is_taken_over_with_its_due_times(tmp_path: Path, server: Server):
    ran = imported(tmp_path, server, "feeds")
    assert json.loads(ran.stdout) == {
        "name": "feeds", "queue": "feeds", "kind": "pool", "items": 4, "taken": 1, "stored": 4,
    }  # fmt: skip

    async def main() -> None:
        pool = at(tmp_path, Pool, "feeds")
        assert await pool.get_items(9) == ["later", "late", "taken"]
        assert await pool.get_count() == 4

    asyncio.run(main())
    with qanat.open(f"sqlite:///{tmp_path}/work.db") as store:
        job = store.rotation("feeds", every=60).get("far")
        assert job is not None
        assert 4_900 < (job.due_at or 0.0) - store.now() <= 5_000


def test_the_same_call_again_stores_nothing_twice(tmp_path: Path, server: Server):
    names = ("emails", "uni:que", "feeds")
    assert imported(tmp_path, server, *names).returncode == 0
    ran = imported(tmp_path, server, *names)
    assert [json.loads(line)["stored"] for line in ran.stdout.splitlines()] == [0, 0, 0]


def test_a_server_is_taken_over_into_itself(tmp_path: Path, server: Server):
    ran = call(tmp_path, "import-aiopyrq", "emails", "feeds", "--from", server.url, "--store", server.url)
    assert ran.returncode == 0, ran.stderr
    assert "2008 items of emails, 5 of them taken before: stored 2008, in emails, a queue" in ran.stderr
    assert "4 items of feeds, 1 of them taken before: stored 4, in feeds, a rotation" in ran.stderr
    assert asyncio.run(Queue("emails", server.url).get_items(2)) == ["t2", "t3"]


def test_a_queue_all_of_whose_items_are_taken_needs_to_be_told(tmp_path: Path, server: Server):
    server.command("DEL", "uni:que", "uni:que-unique")
    ran = imported(tmp_path, server, "uni:que")
    assert (ran.returncode, "say --unique or --no-unique" in ran.stderr) == (2, True)
    ran = imported(tmp_path, server, "uni:que", "--unique")
    assert json.loads(ran.stdout)["kind"] == "unique"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "aio-py-rq keeps nothing under 'nothing'"),
        (["emails-timeouts"], "'emails-timeouts' is a hash in Redis"),
        (["broken"], "and items must be texts in UTF-8"),
        ([], "name the queues and pools to import"),
    ],
)
def test_what_cannot_be_taken_over_is_told(
    tmp_path: Path, server: Server, arguments: list[str], message: str
):
    server.command("LPUSH", "broken", b"\xff")
    ran = imported(tmp_path, server, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert message in ran.stderr


def test_a_source_that_is_no_server_is_told(tmp_path: Path, server: Server):
    for source, message in (
        ("sqlite:///a.db", "url must name a Redis or Valkey server"),
        ("unix:///nowhere/s", "cannot be reached"),
        ("localhost", "url must begin with one of"),
    ):
        ran = call(tmp_path, "import-aiopyrq", "a", "--from", source, "--store", "sqlite:///work.db")
        assert (ran.returncode, message in ran.stderr) == (2, True), ran.stderr


@pytest.mark.parametrize("name", ["a", "a:b", "ä" * 200, "a" * 129, "a b/c"])
def test_names_are_those_of_the_calls(name: str):

    assert stored_name(name) == stored_name_there(name)
