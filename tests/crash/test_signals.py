"""Workers that are asked to end, once, twice and three times, whatever they and their store are doing."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.crash.crew import Crew, until
from tests.crash.stores import SERVER_FIRST

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

TERM, INT = signal.SIGTERM, signal.SIGINT
LONG = 600.0


@pytest.fixture
def file(tmp_path):
    """Give a crew over a file: what signals do is no matter of the store."""
    crew = Crew(tmp_path, f"sqlite:///{tmp_path / 'work.db'}")
    yield crew
    crew.end()


@pytest.fixture
def served(server, tmp_path):
    """Give a crew over a server."""
    crew = Crew(tmp_path, server.url)
    yield crew
    crew.end()


def took(process, *signals, between=0.2):
    """Send signals, and return the status and the seconds until the end."""
    began = time.monotonic()
    for number, each in enumerate(signals):
        if number:
            time.sleep(between)  # two at once are one, for the kernel
        process.send(each)
    return process.wait(), time.monotonic() - began


def begun(crew, *items, flags=()):
    """Put items, and return a worker that has begun with all of them."""
    crew.put(items)
    worker = crew.worker(*flags)
    crew.wait_for("start", len(items))
    return worker


def counts(crew):
    with crew.store() as store:
        return store.count(crew.queue)


@SERVER_FIRST
def test_first_signal_lets_jobs_end_and_leases_nothing_more(crew):
    crew.naps(400, 0.1)
    worker = crew.at_work(crew.worker())
    status, _ = took(worker, TERM)
    assert status == 0
    assert "stopped by SIGTERM" in worker.said
    left = counts(crew)
    assert left.leased == 0
    assert left.done == crew.count("end") == crew.count("start") < 400
    assert "Traceback" not in worker.said


@pytest.mark.parametrize(("second", "loop"), [(TERM, "asyncio"), (INT, "trio")])
def test_second_signal_cancels_at_once_and_hands_back_uncounted(file, second, loop):
    items = ({"do": "sleep", "with": LONG, "n": each} for each in range(4))
    worker = begun(file, *items, flags=("--loop", loop))
    status, seconds = took(worker, TERM, second)
    assert (status, seconds < 8.0) == (0, True)
    assert (counts(file).ready, counts(file).leased) == (4, 0)
    with file.store() as store:
        assert {job.attempt for job in store.find(file.queue, "ready").jobs} == {0}
    assert file.count("fell") == 4
    assert "Traceback" not in worker.said


@pytest.mark.parametrize("handler", ["deny", "block"])
def test_third_signal_ends_a_worker_whose_handler_goes_on(file, handler):
    worker = begun(file, {"do": handler, "with": LONG})
    status, seconds = took(worker, TERM, TERM, TERM)
    assert (status, seconds < 6.0) == (128 + TERM, True)
    assert counts(file).leased == 1
    assert "Traceback" not in worker.said


@pytest.mark.long
@pytest.mark.parametrize("handler", ["deny", "block"])
def test_handler_that_cannot_be_stopped_is_left_after_grace_and_seven_seconds(file, handler):
    worker = begun(file, {"do": handler, "with": LONG}, flags=("--grace", "1s"))
    status, seconds = took(worker, TERM)
    assert (status, 1.0 < seconds < 8.0) == (1, True)
    assert "abandoned" in worker.said
    assert counts(file).leased == 1


def test_job_that_is_cancelled_while_its_worker_ends_is_cancelled(file):
    worker = begun(file, {"do": "nap", "with": LONG})
    worker.send(TERM)
    with file.store() as store:
        assert store.cancel(file.queue, [event.id for event in file.events() if event.word == "start"]) == [
            "asked"
        ]
    assert worker.wait() == 0
    assert counts(file).cancelled == 1


def test_worker_that_cannot_reach_its_store_ends_at_once(served, server):
    """Idle, and before it has begun: a server that hangs holds nobody up."""
    idle = served.ready(served.worker())
    server.send(signal.SIGSTOP)
    try:
        beginning = served.worker()
        until(lambda: is_opening(beginning.pid), "a worker to begin")
        for worker in (idle, beginning):
            status, seconds = took(worker, TERM)
            assert (status, seconds < 7.0) == (0, True)  # 1 s, and a machine with other things to do
            assert "stopped by SIGTERM" in worker.said
    finally:
        server.send(signal.SIGCONT)


def is_opening(pid):
    """Say whether a worker has begun to open its store: the watch and the store have threads by then."""
    return len(list(Path(f"/proc/{pid}/task").iterdir())) >= 3


@pytest.mark.long
def test_outcomes_that_a_lost_store_never_heard_are_told(served, server):
    worker = begun(served, *({"do": "nap", "with": 1.0, "n": each} for each in range(3)))
    server.send(signal.SIGSTOP)
    try:
        status, seconds = took(worker, TERM)
    finally:
        server.send(signal.SIGCONT)
    assert (status, seconds < 9.0) == (1, True)
    assert "3 outcomes could not be stored" in worker.said
    assert "3 jobs were abandoned" in worker.said
