"""Workers that stand still, and handlers that let nobody else run."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from qanat._stores.sqlite.store import SqliteStore
from qanat.errors import StoreUnavailable
from tests.crash.crew import LEASE, until
from tests.crash.stores import FILE_FIRST, SERVER_FIRST

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

ERRORS = (
    "ValueError", "KeyboardInterrupt", "SystemExit", "GeneratorExit", "StopIteration", "StopAsyncIteration",
    "MemoryError", "RecursionError", "CancelledError", "BaseException",
)  # fmt: skip


@pytest.mark.long
def test_worker_stopped_for_less_than_its_lease_keeps_its_jobs(crew):
    crew.naps(4, 1.0)
    worker = crew.worker()
    crew.wait_for("start", 4)
    other = crew.ready(crew.worker())
    worker.send(signal.SIGSTOP)
    time.sleep(LEASE / 2)
    worker.send(signal.SIGCONT)
    crew.wait_done()
    assert [worker.stop(), other.stop()] == [0, 0]
    history = crew.check()
    assert history.repeats == 0


@SERVER_FIRST
def test_worker_stopped_past_its_lease_ends_nothing_when_it_wakes_up(crew):
    crew.naps(4, 0.5)
    worker = crew.worker()
    crew.wait_for("start", 4)
    stop_between_steps(crew, worker)
    other = crew.worker()
    crew.wait_for("end", 4, pid=other.pid)
    crew.wait_done()
    worker.send(signal.SIGCONT)
    crew.naps(4, 0.5)
    crew.wait_done()
    assert [worker.stop(), other.stop()] == [0, 0]
    history = crew.check(pauses=True)
    assert history.repeats == 4
    stale = [event for event in history.events if event.pid == worker.pid and event.word == "settle-stale"]
    first = {event.id for event in history.by["start"] if event.pid == other.pid}
    assert {event.id for event in stale} <= first
    assert "lease" in worker.said
    assert "lost" in worker.said or "could not be renewed in time" in worker.said


@FILE_FIRST
@pytest.mark.parametrize("deed", ["block", pytest.param("spin", marks=pytest.mark.long)])
def test_handler_that_blocks_the_loop_keeps_its_lease(crew, deed):
    """The pulse renews what the loop cannot, also while a handler lets no other thread of Python run long."""
    crew.put([{"do": deed, "with": 3 * LEASE}])
    worker = crew.worker()
    crew.wait_for("start")
    other = crew.ready(crew.worker())
    crew.wait_done()
    assert [worker.stop(), other.stop()] == [0, 0]
    history = crew.check()
    assert history.repeats == 0


@pytest.mark.long
def test_handler_that_blocks_the_loop_past_the_stall_limit_loses_its_job(crew):
    """Nobody would have it else, if it hangs; what the blocked worker makes of it means nothing."""
    crew.put([{"do": "block", "with": 4 * LEASE}])
    worker = crew.worker("--stall-limit", "1s")
    crew.wait_for("start")
    other = crew.ready(crew.worker())
    crew.wait_for("start", 1, pid=other.pid)
    crew.wait_done()
    assert [worker.stop(), other.stop()] == [0, 0]
    assert crew.check(pauses=True).repeats == 1
    assert "a handler has blocked the event loop for" in worker.said


@FILE_FIRST
def test_worker_that_is_to_exit_on_a_stall_leaves_its_job_to_others(crew):
    crew.put([{"do": "block", "with": 4 * LEASE}])
    worker = crew.worker("--stall-limit", "1s", "--exit-on-stall")
    crew.wait_for("start")
    assert worker.wait() == 1
    assert "ended, as a job has blocked the event loop for too long" in worker.said


@FILE_FIRST
def test_whatever_a_handler_raises_ends_its_job_and_nothing_else(crew):
    crew.put({"do": "fail", "with": each} for each in ERRORS)
    crew.put([{"do": "give", "with": each} for each in (1, "two", None, [3])])
    crew.naps(20, 0.05)
    worker = crew.worker("--retries", "1")
    crew.wait_done()
    assert worker.stop() == 0
    history = crew.check()
    with crew.store() as store:
        reasons = {job.reason.partition(":")[0] for job in store.find(crew.queue, "dead").jobs}
    # A coroutine cannot raise StopIteration: Python makes a RuntimeError of it.
    assert reasons == {*ERRORS, "RuntimeError"} - {"StopIteration"}
    assert sum(last.state == "done" for last in history.last.values()) == 24


@pytest.mark.long
@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_worker_stopped_with_the_lock_of_a_file_holds_the_others_up_and_no_longer(crew):
    """They cancel what they cannot renew, and go on once it goes on."""
    crew.naps(200, 0.1)
    other = crew.at_work(crew.worker())
    stopped = crew.worker(failpoint="settle.written:stop:2")
    until(lambda: is_stopped(stopped), "the worker to stop")
    crew.work_on(1)
    until(
        lambda: "could not be renewed in time" in other.said or "are kept" in other.said,
        "the other to notice",
    )
    crew.diary.tell("resumed", pid=stopped.pid)
    stopped.send(signal.SIGCONT)
    until(lambda: keeps_stopping(stopped, crew), "all to be done")
    stopped.kill()
    crew.work_off()
    assert other.stop() == 0
    history = crew.check(pauses=True, outages=True)
    assert {last.state for last in history.last.values()} == {"done"}


def stop_between_steps(crew, worker):
    """Stop a worker while it does not hold the lock of a file, for which all others would have to wait."""
    while True:
        worker.send(signal.SIGSTOP)
        if not crew.url.startswith("sqlite"):
            return
        try:
            with closing(SqliteStore(crew.url.removeprefix("sqlite:///"), patience=0.1)) as store:
                store.resume(crew.queue)
        except StoreUnavailable:
            worker.send(signal.SIGCONT)
            time.sleep(0.02)
        else:
            return


def is_stopped(worker):
    return "State:\tT" in Path(f"/proc/{worker.pid}/status").read_text()


def keeps_stopping(worker, crew):
    """Let a worker go on that stops at each step of a kind; True once it has gone on three times."""
    if is_stopped(worker):
        crew.diary.tell("resumed", pid=worker.pid)
        worker.send(signal.SIGCONT)
        time.sleep(0.05)
    return crew.count("resumed") > 3
