"""Whole workers and producers that die at a named step: nothing is lost, and nothing runs without need."""

from __future__ import annotations

import signal

import pytest

from tests.crash.crew import RECOVERY, SLACK
from tests.crash.stores import FILE_FIRST, SERVER_FIRST

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

KILLED = -signal.SIGKILL
STEPS = ("claim.before", "claim.committed", "run.mid", "settle.before", "settle.committed")
LATER = ("extend.before", "extend.committed", "rescue.before", "rescue.committed")
INSIDE = ("claim.written", "settle.written", "extend.written", "rescue.written")


def mixed(crew, number, seconds=0.05):
    """Put jobs that succeed, and a few that fail and are tried again."""
    for each in range(3):
        crew.put([{"do": "fail", "with": "ValueError", "n": each}])
    crew.naps(number, seconds)


def ended(history):
    return sorted(last.state for last in history.last.values())


@FILE_FIRST
def test_jobs_of_workers_that_die_at_any_step_run_again_in_time(crew):
    mixed(crew, 60)
    dead = [crew.worker("--retries", "1", failpoint=f"{step}:kill:1") for step in STEPS]
    assert [worker.wait() for worker in dead] == [KILLED] * len(STEPS)
    crew.work_off("--retries", "1")
    history = crew.check(gap=RECOVERY + SLACK)
    assert ended(history) == ["dead"] * 3 + ["done"] * 60


@pytest.mark.long
@pytest.mark.parametrize("step", [*STEPS, *LATER, *INSIDE])
def test_jobs_of_a_worker_that_dies_at_a_step_run_again_in_time(crew, step):
    if step in INSIDE and not crew.url.startswith("sqlite"):
        pytest.skip("only SQLite has a moment before the commit")
    mixed(crew, 12, 1.2 if step.startswith("extend") else 0.05)
    if step.startswith("rescue"):
        assert crew.worker(failpoint="run.mid:kill").wait() == KILLED
    passes = 0 if step.startswith("rescue") else 2
    assert crew.worker("--retries", "1", failpoint=f"{step}:kill:{passes}").wait() == KILLED
    crew.work_off("--retries", "1")
    history = crew.check(gap=RECOVERY + SLACK)
    assert ended(history) == ["dead"] * 3 + ["done"] * 12


@SERVER_FIRST
@pytest.mark.parametrize("step", [pytest.param("put.before", marks=pytest.mark.long), "put.committed"])
def test_a_producer_that_died_puts_the_same_again_and_makes_no_second_job(crew, step):
    assert crew.producer("p", 50, failpoint=f"{step}:kill:1").wait() == KILLED
    assert crew.count("put") == 20
    assert crew.count("put-ok") == 10
    with crew.store() as store:
        assert store.count(crew.queue).put == (20 if step == "put.committed" else 10)
    assert crew.producer("p", 50).wait() == 0
    crew.work_off()
    history = crew.check()
    assert ended(history) == ["done"] * 50
    assert history.repeats == 0
