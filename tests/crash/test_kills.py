"""Workers killed at any instant, again and again, and jobs that kill theirs."""

from __future__ import annotations

import random
import signal
import time

import pytest

from tests.crash.crew import RECOVERY, SLACK
from tests.crash.stores import FILE_FIRST, SERVER_FIRST

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(240)]


def storm(crew, workers, kills, jobs):
    """Kill one of several workers again and again, while a producer puts and is killed as well."""
    chance = random.Random(kills)
    flags = ("--retries", "2")
    crew.put([{"do": "fail", "with": "ValueError", "n": each} for each in range(5)])
    producing = crew.producer("p", jobs, 0.2, batch=7)
    running = [crew.at_work(crew.worker(*flags)) for _ in range(workers)]
    for kill in range(kills):
        time.sleep(chance.uniform(0.02, 0.2))
        victim = running.pop(chance.randrange(workers))
        assert victim.runs, victim.said
        victim.kill()
        running.append(crew.worker(*flags))
        crew.ready(running[-1])
        if kill == kills // 2 and producing.runs:
            producing.kill()
            producing = crew.producer("p", jobs, 0.2, batch=7)
    assert producing.wait() == 0
    crew.wait_done(120.0)
    assert [worker.stop() for worker in running] == [0] * workers


@SERVER_FIRST
@pytest.mark.parametrize("kills", [3, pytest.param(30, marks=pytest.mark.long)])
def test_nothing_is_lost_when_workers_are_killed_at_random(crew, kills):
    jobs = 200 if kills < 10 else 3000
    storm(crew, 4 if kills > 10 else 2, kills, jobs)
    history = crew.check(gap=None if kills > 10 else RECOVERY + SLACK)
    assert len(history.last) == jobs + 5
    # A few beyond those that ran when it was killed had ended, and it was not told that the store knows.
    assert 0 < history.repeats - 10 <= kills * (4 + 4)
    crashed = [last for last in history.last.values() if last.reason == "crashes"]
    assert len(crashed) <= kills // 5


@FILE_FIRST
@pytest.mark.parametrize("deed", ["leave", pytest.param("crash", marks=pytest.mark.long)])
def test_job_that_kills_its_worker_dies_alone(crew, deed):
    """Only it is given up, although others were in the same hands each time."""
    jobs = 1000
    crew.naps(jobs // 2)
    [poison] = crew.put([{"do": deed, "with": 7 if deed == "leave" else None}])
    crew.naps(jobs // 2)
    for _ in range(5):
        assert crew.worker(at_once=10).wait() == (7 if deed == "leave" else -signal.SIGSEGV)
    crew.work_off(at_once=10)
    history = crew.check(at_once=10)
    dead = {id: last.reason for id, last in history.last.items() if last.state != "done"}
    assert dead == {poison: "crashes"}
