"""The commands of operators over a real server: the same, and what doctor says of a bad one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests._cli.hostile import EVIL, OBEYED, fill
from tests._cli.shell import call
from tests._stores.redis.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.real


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    yield server
    server.kill()


def test_a_queue_on_a_server_is_looked_at_and_mended(tmp_path: Path, server: Server):
    ids = fill(server.url)
    variables = {"QANAT_STORE": server.url}
    dead = ids["dead"]
    for arguments, status in (
        (["ls"], 0), (["jobs"], 0), (["show", *ids.values()], 0), (["why", *ids.values()], 0),
        (["pause"], 0), (["why", ids["ready"]], 0), (["resume"], 0), (["retry", dead, EVIL], 1),
        (["retry", "--all", "--state", "scheduled"], 0), (["cancel", dead], 0), (["cancel", "--all", "--yes"], 0),
        (["purge", "--state", "cancelled", "--yes"], 0),
    ):  # fmt: skip
        ran = call(tmp_path, *arguments, **variables)
        assert ran.returncode == status, ran.stderr
        assert not OBEYED.search(ran.stdout + ran.stderr)


def test_a_worker_warns_of_a_server_that_drops_jobs(tmp_path: Path, server: Server):
    arguments = ("worker", "builtins:len", "--queue", "q", "--burst", "--store", server.url)
    warning = "qanat: jobs may be lost at any time: qanat doctor says why, and what mends it\n"
    ran = call(tmp_path, *arguments)
    assert (ran.returncode, warning in ran.stderr) == (0, True)
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.command("CONFIG", "SET", "appendonly", "yes")
    ran = call(tmp_path, *arguments)
    assert (ran.returncode, warning in ran.stderr) == (0, False)


def test_doctor_names_what_is_wrong_with_a_server(tmp_path: Path, server: Server):
    ran = call(tmp_path, "doctor", "--json", "--require", "fsync", "--check", QANAT_STORE=server.url)
    assert ran.returncode == 1
    told = json.loads(ran.stdout)
    broken = {each["name"]: each for each in told["findings"] if each["verdict"] == "broken"}
    assert (told["promises"], set(broken)) == ("none", {"required", "durability", "eviction"})
    assert broken["eviction"]["mend"] == "redis-cli CONFIG SET maxmemory-policy noeviction"
    server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.command("CONFIG", "SET", "appendonly", "yes")
    ran = call(tmp_path, "doctor", "--require", "~1s", QANAT_STORE=server.url)
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.endswith("\nall promises hold\n")
    server.command("ACL", "SETUSER", "blind", "on", ">hunter2", "~*", "+@all", "-config")
    blind = f"unix://blind:hunter2@{server.socket}"
    ran = call(tmp_path, "doctor", QANAT_STORE=blind)
    assert ran.returncode == 0
    assert ran.stdout.endswith("no promise is known to be broken, but 1 thing could not be looked at\n")
    assert "hunter2" not in ran.stdout
    assert call(tmp_path, "doctor", "--require", "process", QANAT_STORE=blind).returncode == 1
