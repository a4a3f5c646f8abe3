"""Outcomes: what they say of attempts, times and waits."""

from __future__ import annotations

import pytest

from qanat._core.backoff import constant
from qanat._core.dispatcher.account import LEAST, add_waits, make_outcome
from qanat._core.job import History, Job
from qanat._core.retry import Retry
from qanat.errors import Throttled
from tests._core.dispatcher.world import add, at_zero, failing, job, make, run

BOTH = pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])


def lost_of(each: Job[None], now: float) -> object:
    return make_outcome(each, None, None, "done", now, 1.0, 0.0, 1).lost


@BOTH
def test_an_outcome_tells_all_of_its_job(with_lanes: bool):
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=with_lanes)
    lane = "b" if with_lanes else None
    each = Job("id", "item", 4, task, lane=lane, metadata={"a": 1}, parent=9)
    (outcome,) = run(dispatcher, [(2.0, each)], 0.5).outcomes
    assert (outcome.id, outcome.item, outcome.index, outcome.lane) == ("id", "item", 4, lane)
    assert (outcome.metadata, outcome.parent, outcome.state, outcome.attempts) == ({"a": 1}, 9, "done", 1)
    assert (outcome.offered_at, outcome.started_at, outcome.ended_at, outcome.ran) == (2.0, 2.0, 2.5, 0.5)


@BOTH
def test_a_retried_job_counts_all_its_attempts(with_lanes: bool):
    dispatcher = make()
    task = add(dispatcher, retry=Retry(2, backoff=constant(3.0)), uses_lanes=with_lanes)
    (outcome,) = run(dispatcher, at_zero(job(task, 0)), 1.0, failures=failing(OSError(), OSError())).outcomes
    assert (outcome.attempts, outcome.started_at, outcome.ran, outcome.ended_at) == (3, 0.0, 3.0, 9.0)
    assert (outcome.waited, outcome.waits) == (6.0, {"retry": 6.0})


@BOTH
def test_a_job_cancelled_before_its_retry_counts_the_attempts_made(with_lanes: bool):
    dispatcher = make()
    each = job(add(dispatcher, retry=Retry(2, backoff=constant(3.0)), uses_lanes=with_lanes), 0)
    (outcome,) = run(dispatcher, at_zero(each), failures=failing(OSError()), cancels=[(2.0, each)]).outcomes
    assert (outcome.state, outcome.attempts, outcome.started_at, outcome.ran) == ("cancelled", 1, 0.0, 1.0)


@BOTH
def test_a_throttled_attempt_does_not_count(with_lanes: bool):
    dispatcher = make()
    each = job(add(dispatcher, uses_lanes=with_lanes), 0)
    result = run(dispatcher, at_zero(each), failures=failing(Throttled(5.0)), cancels=[(2.0, each)])
    (outcome,) = result.outcomes
    assert (outcome.state, outcome.attempts, outcome.started_at, outcome.ran) == ("cancelled", 0, 0.0, 1.0)
    assert outcome.waits == {"throttled": 1.0}


def test_rounding_is_not_told_as_waiting():
    each: Job[None] = Job(0, None, 0, add(make()))
    each._history = History(waits={"rate": 2.0})
    assert lost_of(each, 3.0 + LEAST / 2) == {"rate": 2.0}
    assert lost_of(each, 4.0) == {"rate": 2.0, "concurrency": 1.0}


def test_a_rest_adds_to_what_was_noted_of_its_cause():
    each: Job[None] = Job(0, None, 0, add(make()))
    each._history = History(waits={"concurrency": 2.0})
    assert lost_of(each, 4.0) == {"concurrency": 3.0}


def test_nothing_to_add_makes_no_history():
    each: Job[None] = Job(0, None, 0, add(make()))
    add_waits(each, {})
    assert each._history is None
    add_waits(each, {"rate": 1.0})
    add_waits(each, {"rate": 1.0, "paused": 0.5})
    assert each._history is not None
    assert each._history.waits == {"rate": 2.0, "paused": 0.5}
