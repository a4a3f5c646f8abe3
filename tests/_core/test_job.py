"""Jobs, and what all jobs of one handler share."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from qanat._core.job import NEW, SCHEDULED, History, Job, Task
from qanat._core.retry import Retry

RETRY = Retry(2)
TASK = Task("fetch", print, "node", RETRY, 5.0, {"client": 1})


def test_a_new_job_has_made_no_attempt():
    job = Job(7, "item", 3, TASK)
    assert (job.id, job.item, job.index, job.attempt) == (7, "item", 3, 1)
    assert (job.priority, job.lane, job.metadata, job.parent) == (0.0, None, None, None)
    assert job._status == NEW


def test_the_state_of_the_run_is_found_at_the_job():
    assert Job(0, None, 0, TASK).state == {"client": 1}


def test_jobs_are_equal_only_to_themselves():
    first, second = Job(0, None, 0, TASK), Job(0, None, 0, TASK)
    assert first != second
    assert len({first, second}) == 2


def test_a_job_can_be_collected_with_what_it_reaches():
    job: Job[Any] = Job(0, [], 0, TASK)
    job.item.append(job)
    assert gc.is_tracked(job)


@pytest.mark.parametrize(
    ("status", "due_at", "at", "awaits"),
    [
        pytest.param(SCHEDULED, 3.0, 3.0, True, id="its time"),
        pytest.param(SCHEDULED, 3.0, 2.0, False, id="another time"),
        pytest.param(NEW, 3.0, 3.0, False, id="no more scheduled"),
        pytest.param(SCHEDULED, None, 3.0, False, id="never scheduled"),
    ],
)
def test_a_scheduled_job_awaits_its_time(status: int, due_at: float | None, at: float, awaits: bool):
    job = Job(0, None, 0, TASK)
    job._status = status
    job._history = None if due_at is None else History(due_at=due_at)
    assert job.awaits(at) is awaits


def test_each_history_has_its_own_waits():
    History().waits["rate"] = 1.0
    assert History().waits == {}


def test_a_task_may_be_varied_for_one_job():
    varied = TASK.varied(retry=Retry(5))
    assert (varied.name, varied.handler, varied.node, varied.state) == ("fetch", print, "node", {"client": 1})
    assert (varied.retry, varied.timeout) == (Retry(5), 5.0)
    varied = TASK.varied(timeout=1.0)
    assert (varied.retry, varied.timeout) == (RETRY, 1.0)
    assert TASK.timeout == 5.0
