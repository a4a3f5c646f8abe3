"""Workers and producers whose server is killed, forgets, is full, is busy or stands still."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from redis.exceptions import RedisError

import qanat
from qanat.errors import StoreFull
from tests._stores.redis.servers import Server
from tests.crash.crew import Crew, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(120)]

IMPATIENT = "?timeout=1&connect_timeout=1&wait=0.5"


@pytest.fixture
def start(tmp_path):
    """Give what starts a server of this test's own, and its crew."""
    begun = []

    def make(*arguments):
        server = Server(tmp_path / "server", *arguments)
        crew = Crew(tmp_path, server.url)
        begun.append((server, crew))
        return server, crew

    yield make
    for server, crew in begun:
        crew.end()
        server.kill()


@pytest.fixture
def crew(server, tmp_path):
    crew = Crew(tmp_path, server.url)
    yield crew
    crew.end()


def stop_all(*processes):
    assert [process.stop() for process in processes] == [0] * len(processes)
    assert not any("Traceback" in process.said for process in processes)


@pytest.mark.long
def test_nothing_is_lost_and_workers_go_on_when_a_server_with_a_log_is_killed(start):
    server, crew = start("--appendonly", "yes", "--appendfsync", "everysec")
    producing = crew.producer("p", 500, 0.1, batch=5)
    workers = [crew.ready(crew.worker()) for _ in range(2)]
    for _ in range(2):
        crew.work_on(30)
        server.kill()
        time.sleep(0.5)
        server.start()
    assert producing.wait() == 0
    crew.wait_done()
    stop_all(*workers)
    history = crew.check(outages=True)
    assert {last.state for last in history.last.values()} == {"done"}
    assert "lost what it had stored" not in "".join(worker.said for worker in workers)


def test_loss_is_told_and_workers_live_on_when_a_server_without_a_log_is_killed(start):
    server, crew = start()
    crew.naps(200, 0.05)
    worker = crew.at_work(crew.worker())
    crew.wait_for("end", 20)
    server.kill()
    server.start()
    crew.naps(40, 0.05)
    crew.wait_done()
    stop_all(worker)
    history = crew.check(losses=True)
    assert 100 < len(history.lost) <= 200
    assert {last.state for last in history.last.values()} == {"done"}
    assert "the store has lost what it had stored" in worker.said


@pytest.mark.long
def test_server_that_forgets_its_scripts_is_told_them_again(crew, server):
    crew.naps(200, 0.02)
    worker = crew.worker()
    while crew.count("end") < 200:
        server.command("SCRIPT", "FLUSH")
        time.sleep(0.02)
    crew.wait_done()
    stop_all(worker)
    assert crew.check().repeats == 0


def test_full_server_refuses_to_put_and_is_drained(crew, server):
    crew.put([{"do": "fail", "with": "ValueError", "n": each} for each in range(5)])
    crew.naps(100, 0.02)
    with qanat.open(crew.url) as store:
        queue = store.queue(crew.queue)
        server.command(
            "CONFIG", "SET", "maxmemory", server.command("INFO", "memory")["used_memory"] - 100_000
        )
        try:
            with pytest.raises(StoreFull, match="maxmemory"):
                queue.put("one more")
            worker = crew.worker("--retries", "1")
            crew.wait_done()
        finally:
            server.command("CONFIG", "SET", "maxmemory", 0)
        assert queue.counts().put == 105
    stop_all(worker)
    history = crew.check()
    assert sorted(last.state for last in history.last.values()) == ["dead"] * 5 + ["done"] * 100
    assert history.repeats == 5


@pytest.mark.long
def test_handlers_are_cancelled_before_their_leases_expire_while_the_server_stands_still(crew, server):
    """Nobody could tell whether another worker has begun with the jobs."""
    crew.put([{"do": "nap", "with": 3.0}])
    worker = crew.worker(url=crew.url + IMPATIENT)
    crew.wait_for("start")
    began = time.monotonic()
    server.send(signal.SIGSTOP)
    try:
        crew.wait_for("fell")
        assert time.monotonic() - began < 3.0
    finally:
        server.send(signal.SIGCONT)
    crew.wait_done()
    stop_all(worker)
    assert "could not be renewed in time" in worker.said
    assert crew.check(outages=True).repeats == 1


@pytest.mark.long
def test_server_that_is_busy_with_a_script_is_waited_for(crew, server):
    server.command("CONFIG", "SET", "busy-reply-threshold", "50")
    crew.naps(100, 0.02)
    worker = crew.at_work(crew.worker(url=crew.url + IMPATIENT))

    def hold_up():
        with server.client() as client:
            try:
                client.execute_command("EVAL", "while true do end", 0)
            except RedisError:
                pass  # killed

    busy = threading.Thread(target=hold_up)
    busy.start()
    try:
        until(lambda: "busy with a long script" in worker.said, "the worker to notice")
    finally:
        server.command("SCRIPT", "KILL")
        busy.join(10)
        server.command("CONFIG", "SET", "busy-reply-threshold", "5000")
    crew.wait_done()
    stop_all(worker)
    crew.check(outages=True)


@pytest.mark.long
def test_worker_waits_for_a_connection_when_all_are_taken(crew, server):
    crew.naps(100, 0.02)
    worker = crew.at_work(crew.worker(url=crew.url + IMPATIENT))
    with server.client() as operator:
        operator.execute_command("CONFIG", "SET", "maxclients", "1")
        try:
            operator.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            until(lambda: "tried again" in worker.said or "are kept" in worker.said, "the worker to notice")
            late = crew.worker()
            assert late.wait() == 2
            # The server says why and hangs up; who was about to speak may not hear it.
            assert "max number of clients" in late.said or "cannot be reached" in late.said
        finally:
            operator.execute_command("CONFIG", "SET", "maxclients", "1000")
    crew.wait_done()
    stop_all(worker)
    crew.check(outages=True)


@pytest.mark.parametrize(
    ("rights", "message"),
    [
        ([">other"], "refused the user name or the password"),
        ([">s3cret", "+@all", "-eval", "-evalsha", "~*"], "access list forbids"),
        ([">s3cret", "+@all", "~other:*"], "access list forbids"),
    ],
    ids=["password", "eval", "keys"],
)
def test_worker_that_may_not_is_told_and_its_password_is_not_shown(crew, server, rights, message):
    server.command("ACL", "SETUSER", "few", "on", *rights)
    try:
        worker = crew.worker(url=server.url.replace("unix://", "unix://few:s3cret@"))
        assert worker.wait() == 2
    finally:
        server.command("ACL", "DELUSER", "few")
    assert message in worker.said
    assert "s3cret" not in worker.said
    assert "Traceback" not in worker.said


@pytest.mark.long
def test_worker_that_may_not_see_the_settings_works(crew, server):
    server.command("ACL", "SETUSER", "few", "on", ">s3cret", "~qanat:*", "+@all", "-config")
    crew.naps(3)
    try:
        worker = crew.worker("--burst", url=server.url.replace("unix://", "unix://few:s3cret@"))
        assert worker.wait() == 0
    finally:
        server.command("ACL", "DELUSER", "few")
    assert "(unverified)" in worker.said
    assert "s3cret" not in worker.said
    crew.check()
