"""Virtual time: what happens at one instant, in which order, and exactly when."""

from __future__ import annotations

from math import inf
from random import Random
from typing import Any

import pytest

from qanat._core.backoff import constant
from qanat._core.dispatcher import Dispatcher
from qanat._core.limit import Limit
from qanat._core.limits import SlidingWindow
from qanat._core.retry import Retry
from qanat.errors import JobCancelledError
from tests._core.dispatcher.world import add, at_zero, failing, job, make, run, starts
from tests._core.driver import Step, drive


def test_the_trace_tells_starts_finishes_and_ends():
    dispatcher = make(capacity=1)
    task = add(dispatcher, retry=Retry(1, backoff=constant(0.5)))
    result = run(dispatcher, [(2.0, job(task, "a"))], failures=failing(OSError()))
    assert result.trace == [
        Step(2.0, "start", "a", 1),
        Step(3.0, "finish", "a", 1),
        Step(3.5, "start", "a", 2),
        Step(4.5, "end", "a", 2),
    ]
    assert result.now == 4.5
    assert [outcome.ok for outcome in result.outcomes] == [True]


def test_nothing_to_do_takes_no_time():
    result = run(make(), [])
    assert (result.trace, result.outcomes, result.now) == ([], [], -inf)


def test_finishes_of_one_time_come_in_the_order_of_the_starts():
    dispatcher = make()
    task = add(dispatcher)
    result = run(dispatcher, [(0.0, job(task, 2)), (0.5, job(task, 1))], {2: 1.5, 1: 1.0})
    assert [(step.at, step.id) for step in result.trace if step.kind == "end"] == [(1.5, 2), (1.5, 1)]


def test_at_one_time_finishes_come_first_then_due_jobs_then_arrivals_then_starts():
    dispatcher = make(capacity=1)
    task = add(dispatcher)
    first, due = job(task, "first"), job(task, "due")
    dispatcher.offer(first, 0.0)
    dispatcher.offer(due, 0.0, delay=1.0)
    result = run(dispatcher, [(1.0, job(task, "arrives"))])
    assert [(step.at, step.kind, step.id) for step in result.trace] == [
        (0.0, "start", "first"), (1.0, "end", "first"), (1.0, "start", "due"),
        (2.0, "end", "due"), (2.0, "start", "arrives"), (3.0, "end", "arrives"),
    ]  # fmt: skip


def test_calls_come_after_arrivals_and_before_starts():
    dispatcher = make()
    task = add(dispatcher)
    seen: list[tuple[int, int]] = []
    result = run(
        dispatcher, [(1.0, job(task, 0))],
        calls=[(1.0, lambda _now: seen.append((dispatcher.waiting, dispatcher.running)))],
    )  # fmt: skip
    assert seen == [(1, 0)]
    assert starts(result) == [(0, 1.0)]


def test_a_job_that_takes_no_time_ends_at_its_start():
    dispatcher = make(capacity=1)
    task = add(dispatcher)
    result = run(dispatcher, at_zero(*(job(task, id) for id in range(3))), 0.0)
    assert [step.at for step in result.trace] == [0.0] * 6
    assert [step.kind for step in result.trace] == ["start", "end"] * 3


def test_the_latency_is_told_how_many_run():
    dispatcher = make(capacity=2)
    task = add(dispatcher)
    seen: list[tuple[int | str, int]] = []

    def latency(each: Any, _rng: Any, running: int) -> float:
        seen.append((each.id, running))
        return float(running)

    result = drive(dispatcher, at_zero(*(job(task, id) for id in range(3))), latency, rng=Random(1))
    assert seen == [(0, 1), (1, 2), (2, 2)]
    assert result.now == 3.0


def test_a_job_that_never_ends_leaves_the_rest_waiting():
    dispatcher = make(capacity=1)
    task = add(dispatcher)
    result = run(dispatcher, at_zero(job(task, 0), job(task, 1)), inf)
    assert starts(result) == [(0, 0.0)]
    assert (dispatcher.running, dispatcher.waiting) == (1, 1)


def test_jobs_that_wait_already_start_at_once():
    dispatcher = make()
    dispatcher.offer(job(add(dispatcher), 0), 3.0)
    assert starts(run(dispatcher, [])) == [(0, 3.0)]


def test_arrivals_are_taken_one_by_one():
    dispatcher = make(capacity=1)
    task = add(dispatcher)
    taken: list[int] = []

    def arrivals() -> Any:
        for id in range(3):
            taken.append(id)
            yield float(id), job(task, id)

    seen: list[list[int]] = []
    run(dispatcher, arrivals(), 0.0, calls=[(0.5, lambda _now: seen.append(list(taken)))])
    assert seen == [[0, 1]]


@pytest.mark.parametrize(("at", "state", "ended_at"), [(0.25, "cancelled", 0.25), (1.25, "cancelled", 1.25)])
def test_a_job_is_cancelled_waiting_or_running(at: float, state: str, ended_at: float):
    dispatcher = make(capacity=1)
    task = add(dispatcher)
    jobs = [job(task, id) for id in range(3)]
    result = run(dispatcher, at_zero(*jobs), cancels=[(at, jobs[1])])
    (outcome,) = (outcome for outcome in result.outcomes if outcome.id == 1)
    assert (outcome.state, outcome.ended_at) == (state, ended_at)
    assert isinstance(outcome.error, JobCancelledError)
    # Its slot is free at once.
    assert starts(result)[-1] == (2, 1.0 if at < 1.0 else 1.25)
    assert dispatcher.is_idle


def test_a_job_that_has_ended_is_not_cancelled():
    dispatcher = make()
    task = add(dispatcher)
    each, other = job(task, 0), job(task, 1)
    cancels = [(2.0, each), (3.0, other), (4.0, other)]
    result = run(dispatcher, at_zero(each, other), {1: 5.0}, cancels=cancels)
    assert [(outcome.id, outcome.state) for outcome in result.outcomes] == [(0, "done"), (1, "cancelled")]


def test_what_ends_unrun_is_told():
    class Never(Limit):
        def ready_at(self, job: Any, now: float) -> float:
            raise LookupError("never")

    dispatcher = make(limits=(Never(),))
    result = run(dispatcher, [(2.0, job(add(dispatcher), 0))])
    assert result.trace == [Step(2.0, "end", 0, 1)]
    assert isinstance(result.outcomes[0].error, LookupError)


def test_no_trace_is_kept_unless_asked_for():
    dispatcher = make()
    result = run(dispatcher, at_zero(job(add(dispatcher), 0)), record=False)
    assert result.trace == []
    assert len(result.outcomes) == 1


def test_the_same_seed_has_the_same_trace():
    def told(seed: int) -> Any:
        dispatcher = make(capacity=3, limits=(SlidingWindow(5, 1.0),))
        task = add(dispatcher, retry=2)
        arrivals = [(id / 7, job(task, id)) for id in range(40)]
        return drive(
            dispatcher, arrivals, lambda _each, rng, running: rng.random() * running, rng=Random(seed),
            failures=lambda _each, rng: OSError() if rng.random() < 0.3 else None,
        ).trace  # fmt: skip

    assert told(1) == told(1)
    assert told(1) != told(2)


def test_a_dispatcher_that_wants_to_be_asked_for_ever_is_an_error():
    class Spinning(Dispatcher):
        wake_at = property(lambda self: self.now)

    dispatcher = Spinning(rng=Random(1), capacity=0)
    task = add(dispatcher)
    dispatcher.close(1.0)
    with pytest.raises(RuntimeError, match=r"nothing starts at 1\.0"):
        run(dispatcher, [(1.0, job(task, 0))], calls=[(1.0, lambda _now: None), (9.0, lambda _now: None)])


@pytest.mark.slow
def test_many_jobs_take_little_time():
    dispatcher = make(capacity=50)
    task = add(dispatcher)
    arrivals = ((id / 1000, job(task, id)) for id in range(100_000))
    result = run(dispatcher, arrivals, 0.01, record=False)
    assert dispatcher.done == len(result.outcomes) == 100_000
    assert result.now == 99.999 + 0.01
