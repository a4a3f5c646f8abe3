"""`qanat worker`: works a queue off, stops as it is told, and dies without losing a job."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import qanat
from tests._cli.shell import call, command, environment

if TYPE_CHECKING:
    from pathlib import Path

APP = """
import asyncio, os, time

async def send(item):
    with open("log", "a") as log: log.write(f"{os.getpid()} {item}\\n")
    await asyncio.sleep(0.02)
    return item

async def long(item):
    open(f"started-{item}", "w").close()
    await asyncio.sleep(60)

def block(item):
    open(f"started-{item}", "w").close()
    time.sleep(60)
"""

needs_sqlite = pytest.mark.skipif(
    importlib.util.find_spec("qanat._stores.sqlite.store") is None, reason="the store in SQLite is not there"
)


@pytest.fixture
def where(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def start(where: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("worker", *arguments), cwd=where, env=environment(), text=True, stderr=subprocess.PIPE
    )


def until(condition: object, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.real
def test_a_burst_over_an_empty_queue_ends_well(where: Path):
    ran = call(where, "worker", "app:send", "--store", "memory://", "--queue", "q", "--burst", "-j", "5")
    assert ran.returncode == 0
    assert "working on q in <Store memory://> (none): send, 5 at once" in ran.stderr


@pytest.mark.real
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["app:send", "--queue", "q"], "requires an argument"),
        (["app:send", "--store", "memory://", "--queue", "q q"], "name must be 1 to 128"),
        (
            ["app:send", "--store", "memory://", "--queue", "q", "--require", "fsync"],
            "promises 'none', and 'fsync' is required",
        ),
        (["app:send", "--store", "memory://", "--queue", "q", "--require", "much"], "must be one of"),
        (["app:send", "--store", "nothing", "--queue", "q"], "url must begin with one of"),
        (["app:send", "--store", "memory://"], "give --queue or --rotation, one of the two"),
        (["app:send", "--store", "memory://", "--rotation", "r"], "--rotation needs --every"),
        (
            ["app:send", "--store", "memory://", "--queue", "q", "--every", "1h"],
            "--every goes with --rotation",
        ),
        (
            ["app:send", "--store", "memory://", "--rotation", "r", "--every", "2h..1h"],
            "highest must be at least lowest, 7200.0, got 3600.0",
        ),
        (["app:nobody", "--store", "memory://", "--queue", "q"], "app has no 'nobody'"),
        (["--store", "memory://", "--queue", "q"], "name a function"),
        (["app:send", "--store", "memory://", "--queue", "q", "--grace", "long"], "grace must be a time"),
        (["app:send", "--store", "memory://", "--queue", "q", "--rate", "much"], "rate must be"),
    ],
)
def test_wrong_usage_is_told(where: Path, arguments: list[str], message: str):
    ran = call(where, "worker", *arguments)
    assert ran.returncode == 2
    assert message in ran.stderr


@pytest.mark.real
def test_an_idle_worker_drains_at_once_when_it_is_told_to(where: Path):
    worker = start(where, "app:send", "--store", "memory://", "--queue", "q")
    assert worker.stderr is not None
    assert "working on q" in worker.stderr.readline()
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    assert time.monotonic() - began < 5
    last_words = worker.stderr.read()
    assert " done, 0 failed" in last_words
    assert "stopped by SIGTERM" in last_words
    worker.stderr.close()


@needs_sqlite
@pytest.mark.real
def test_a_worker_gives_back_what_outlives_its_grace(where: Path):
    url = f"sqlite:///{where}/work.db"
    with qanat.open(url) as store:
        store.queue("q").put_many(["a", "b"])
        worker = start(where, "app:long", "--store", url, "--queue", "q", "--grace", "0.5s")
        until(lambda: (where / "started-a").exists() and (where / "started-b").exists())
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        counts = store.queue("q").counts()
        assert (counts.ready, counts.leased) == (2, 0)
    assert worker.stderr is not None
    worker.stderr.close()


@needs_sqlite
@pytest.mark.real
def test_a_worker_goes_round_a_rotation(where: Path):
    url = f"sqlite:///{where}/work.db"
    with qanat.open(url) as store:
        feeds = store.rotation("r", every=1)
        feeds.add("a", "b")
        worker = start(where, "app:send", "--store", url, "--rotation", "r", "--every", "0.2s")
        until(lambda: (where / "log").exists() and len(lines(where)) >= 6)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
        assert feeds.counts().all == 2
    assert {line.split()[1] for line in lines(where)} == {"a", "b"}
    assert worker.stderr is not None
    assert "working on r in" in worker.stderr.read()
    worker.stderr.close()


@needs_sqlite
@pytest.mark.real
def test_a_thread_that_cannot_be_stopped_is_abandoned(where: Path):
    url = f"sqlite:///{where}/work.db"
    with qanat.open(url) as store:
        store.queue("q").put("a")
        worker = start(where, "app:block", "--store", url, "--queue", "q", "--grace", "0.2s")
        until((where / "started-a").exists)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 1
        assert store.queue("q").counts().leased == 1
    assert worker.stderr is not None
    assert "abandoned" in worker.stderr.read()
    worker.stderr.close()


@needs_sqlite
@pytest.mark.real
@pytest.mark.slow
def test_workers_that_are_killed_lose_no_job(where: Path):
    url = f"sqlite:///{where}/work.db"
    jobs, kills, at_once = 200, 3, 4
    with qanat.open(url) as store:
        queue = store.queue("q", keep=600.0)
        queue.put_many(range(jobs))
        arguments = ("app:send", "--store", url, "--queue", "q", "-j", str(at_once), "--lease", "2s")
        for kill in range(kills):
            worker = start(where, *arguments)
            seen = jobs * (kill + 1) // 8
            until(lambda seen=seen: (where / "log").exists() and len(lines(where)) >= seen)
            worker.kill()
            worker.wait(20)
            assert worker.stderr is not None
            worker.stderr.close()
        last = start(where, *arguments)
        until(lambda: queue.counts().done == jobs, 50.0)
        last.send_signal(signal.SIGTERM)
        assert last.wait(20) == 0
        assert last.stderr is not None
        last.stderr.close()
        counts = queue.counts()
        assert (counts.done, counts.dead, counts.put) == (jobs, 0, jobs)
    ran = Counter(int(line.split()[1]) for line in lines(where))
    assert sorted(ran) == list(range(jobs))
    # What ran when it was killed, and what had ended and was not yet told.
    assert sum(ran.values()) - jobs <= kills * at_once * 3


def lines(where: Path) -> list[str]:
    return (where / "log").read_text().splitlines()


TREE = """
import asyncio, os, qanat

def log(*words):
    with open("log", "a") as file: file.write(" ".join(map(str, (os.getpid(), *words))) + "\\n")

async def branch(item):
    for number in range(5):
        qanat.current_job().spawn(item * 10 + number, handler=leaf)
    qanat.current_job().after_children(total, gather=True)
    log("branch", item)

async def leaf(item):
    log("leaf", item)
    await asyncio.sleep(0.05)
    return item

def total(children):
    log("total", qanat.current_job().item)
    return sum(children.values())
"""


@needs_sqlite
@pytest.mark.real
@pytest.mark.slow
def test_trees_that_a_killed_worker_began_are_ended_by_another_one(where: Path):
    """Each parent is called back, and no child is lost or doubled."""
    (where / "app.py").write_text(TREE)
    url = f"sqlite:///{where}/work.db"
    trees, at_once = 20, 3
    with qanat.open(url) as store:
        queue = store.queue("q", keep=600.0)
        jobs = queue.put_many(range(trees), handler="branch")
        options = ("--store", url, "--queue", "q", "-j", str(at_once), "--lease", "2s")
        workers = [start(where, "app:branch", "app:leaf", "app:total", *options) for _ in range(2)]
        until(lambda: (where / "log").exists() and len(lines(where)) >= trees)
        workers[0].kill()
        until(lambda: queue.counts().done == trees * 6, 50.0)
        workers[1].send_signal(signal.SIGTERM)
        for worker in workers:
            worker.wait(20)
            assert worker.stderr is not None
            worker.stderr.close()
        values = [found.value for job in jobs if (found := queue.get(job.id)) is not None]
        counts = queue.counts()
    assert values == [50 * tree + 10 for tree in range(trees)]
    assert (counts.put, counts.dead, counts.waiting) == (trees * 6, 0, 0)
    # What the killed worker had not settled ran again, once; its callbacks too.
    ran = Counter(line.split(maxsplit=1)[1] for line in lines(where))
    killed = {line.split(maxsplit=1)[1] for line in lines(where) if line.startswith(f"{workers[0].pid} ")}
    assert len(set(lines(where))) == len(lines(where))
    assert {line for line, times in ran.items() if times > 1} <= killed
    assert Counter(line.split()[0] for line in ran) == {"branch": trees, "leaf": trees * 5, "total": trees}
