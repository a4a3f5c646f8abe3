"""Who waits at a queue hears of what others hand in."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat._app.durable import hints as hints_module
from qanat._app.durable.hints import Hints
from qanat._core.store.values import NewJob
from qanat._stores.sqlite.ear import SqliteEar
from qanat._stores.sqlite.store import SqliteStore
from qanat.errors import StoreUnavailable
from tests._stores.redis.servers import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FakeEar:
    """Hears what a test says; an error is raised, None lets it come back."""

    def __init__(self) -> None:
        self.said: SimpleQueue[Any] = SimpleQueue()
        self.asked = threading.Semaphore(0)
        self.closed_in = 0

    def hear(self) -> list[str]:
        self.asked.release()
        said = self.said.get(timeout=20)
        if isinstance(said, Exception):
            raise said
        return [] if said is None else [said]

    def stop(self) -> None:
        self.said.put(None)

    def close(self) -> None:
        self.closed_in = threading.get_ident()


def test_what_an_ear_hears_is_told_to_those_who_listen_there():
    ear = FakeEar()
    hints = Hints(lambda: ear)
    rung = SimpleQueue[str]()
    with hints.listening("q", lambda: rung.put("q")), hints.listening("r", lambda: rung.put("r")):
        ear.said.put("r")
        assert rung.get(timeout=20) == "r"
        ear.said.put("")
        assert {rung.get(timeout=20), rung.get(timeout=20)} == {"q", "r"}
        ear.said.put("other")
        ear.said.put("q")
        assert rung.get(timeout=20) == "q"
    hints.close()
    assert ear.closed_in
    assert threading.get_ident() != ear.closed_in


def test_nobody_listens_afar_for_who_does_not_wait():
    hints = Hints(lambda: pytest.fail("an ear was made"))
    with hints.listening("q", list, far=False):
        hints.ring("q")
    hints.close()


def test_an_ear_hears_only_while_somebody_listens():
    ear = FakeEar()
    hints = Hints(lambda: ear)
    with hints.listening("q", list):
        assert ear.asked.acquire(timeout=20)
    ear.said.put(None)
    rung = threading.Event()
    assert not ear.asked.acquire(blocking=False)
    with hints.listening("q", rung.set):
        ear.said.put("q")
        assert rung.wait(20)
    hints.close()
    with hints.listening("q", list):
        pass
    assert not ear.asked.acquire(timeout=0.01) or ear.closed_in


def test_an_ear_whose_store_is_away_listens_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hints_module, "FIRST_BACKOFF", 0.001)
    ear = FakeEar()
    hints = Hints(lambda: ear)
    rung = threading.Event()
    with hints.listening("q", rung.set):
        ear.said.put(StoreUnavailable("away"))
        ear.said.put(OSError("still away"))
        ear.said.put("q")
        assert rung.wait(20)
    hints.close()


def test_an_ear_that_cannot_be_closed_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    ear = FakeEar()
    monkeypatch.setattr(ear, "close", lambda: 1 / 0)
    hints = Hints(lambda: ear)
    told: list[str] = []

    def last() -> None:
        told.append("first")
        hints.end(lambda: told.append("second"))  # the thread that ends is alive, and has told who waited

    with hints.listening("q", lambda: None):
        ear.asked.acquire()
        hints.end(last)
    hints.close()
    assert told == ["first", "second"]
    assert "raised when it was closed: ZeroDivisionError" in caplog.text


def test_what_is_heard_after_the_loop_has_ended_is_let_pass():
    def bring(_tell: object) -> None:
        raise RuntimeError("the loop is closed")

    ear = FakeEar()
    hints = Hints(lambda: ear, bring)
    with hints.listening("q", lambda: pytest.fail("told")):
        ear.said.put("q")
    hints.close()


# --- over real stores ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("redis"))
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "redis":
        server: Server = request.getfixturevalue("server")
        return f"unix://{server.socket}?prefix=t{abs(hash(tmp_path)) % 10**9}"
    return f"sqlite:///{tmp_path}/work.db"


class Worker:
    """A consumer that never looks by itself, and what it has seen."""

    def __init__(self, url: str, queue: str = "q") -> None:
        self.url = url
        self.queue = queue
        self.seen: list[Any] = []

    async def __call__(self, item: Any) -> None:
        if item == "again" and item not in self.seen:
            self.seen.append(item)
            raise qanat.RetryLater(0.0)
        self.seen.append(item)

    async def run(self, retry: int = 0) -> None:
        async with qanat.open(self.url) as store:
            store.poll = 1000.0
            await qanat.consume(store.queue(self.queue), self, retry=retry)

    async def wait_seen(self, item: Any) -> None:
        with anyio.fail_after(15):
            while item not in self.seen:
                await anyio.sleep(0.001)


@pytest.mark.real
async def test_who_waits_is_told_of_all_that_others_make_ready(url: str):
    worker = Worker(url)
    async with qanat.open(url) as store, anyio.create_task_group() as group:
        group.start_soon(worker.run)
        queue = store.queue("q")
        await queue.put("first")
        await worker.wait_seen("first")
        await queue.put("second")
        await worker.wait_seen("second")
        await queue.put("soon", delay=0.05)
        await worker.wait_seen("soon")
        far = await queue.put("far", delay=600.0)
        await queue.admin.requeue(far.id)
        await worker.wait_seen("far")
        await queue.admin.pause()
        await queue.put("paused")
        await anyio.sleep(0.05)
        assert "paused" not in worker.seen
        await queue.admin.resume()
        await worker.wait_seen("paused")
        group.cancel_scope.cancel()


@pytest.mark.real
@pytest.mark.parametrize("watches", [True, False])
def test_an_ear_hears_each_commit_of_others_in_a_file(tmp_path: Path, watches: bool):
    path = tmp_path / "work.db"
    store, ear = SqliteStore(path), SqliteEar(path, watches=watches)
    assert ear.hear() == [""]
    assert ear.hear() == []
    for number in range(3):
        store.put("q", [NewJob(id=str(number))])
        for _ in range(1000):
            if ear.hear():
                break
        else:
            pytest.fail("nothing was heard")
    ear.stop()
    assert ear.hear() == []
    ear.close()
    store.close()


@pytest.mark.real
def test_plain_code_waits_for_what_others_put(url: str):
    with qanat.open(url) as one, qanat.open(url) as other:
        one.poll = 1000.0
        taken: list[Any] = []
        thread = threading.Thread(target=lambda: taken.extend(one.queue("q").lease(wait=15.0)))
        thread.start()
        other.queue("q").put("x")
        thread.join(20)
        assert [job.item for job in taken] == ["x"]


@pytest.mark.real
async def test_one_job_wakes_one_of_those_who_wait_in_redis(server: Server):
    url = f"unix://{server.socket}?prefix=one"
    workers = [Worker(url), Worker(url)]
    async with qanat.open(url) as store, anyio.create_task_group() as group:
        for worker in workers:
            group.start_soon(worker.run)
        queue = store.queue("q")
        with anyio.fail_after(15):
            while server.command("ZCARD", "one:{q}:waiters") != 2:
                await anyio.sleep(0.001)
        await queue.put("x")
        while not (workers[0].seen or workers[1].seen):
            await anyio.sleep(0.001)
        assert server.command("ZCARD", "one:{q}:waiters") >= 1
        assert sum(len(worker.seen) for worker in workers) == 1
        group.cancel_scope.cancel()


@pytest.mark.real
async def test_an_ear_finds_back_to_a_server_that_was_away(tmp_path: Path):
    server = Server(tmp_path)
    try:
        worker = Worker(server.url)
        async with qanat.open(server.url) as store, anyio.create_task_group() as group:
            group.start_soon(worker.run)
            queue = store.queue("q")
            await queue.put("before")
            await worker.wait_seen("before")
            server.command("CLIENT", "KILL", "TYPE", "pubsub")
            await anyio.sleep(0.05)
            await queue.put("after")
            await worker.wait_seen("after")
            group.cancel_scope.cancel()
    finally:
        server.kill()
