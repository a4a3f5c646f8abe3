"""Retries: when, how often, in which place, and until when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.backoff import constant, exponential, linear
from qanat._core.events import JobEnded, JobParked, JobRetried, JobStarted
from qanat._core.orders import Fifo, Lifo, Priority
from qanat._core.reason import Reason
from qanat._core.retry import Retry
from qanat.errors import Discard, JobDiscardedError, RetryLater, Throttled
from tests._core.dispatcher.world import (
    Noting,
    Until,
    add,
    at_zero,
    failing,
    job,
    make,
    order_of,
    outcomes_by_id,
    run,
    starts,
)

if TYPE_CHECKING:
    from random import Random

BOTH = pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])


class BusyError(Exception):
    """What a client raises whose answer carried `Retry-After: 30`."""

    response = SimpleNamespace(headers={"Retry-After": "30"})


def attempts(retry: Retry, *errors: BaseException | None, with_lanes: bool = False, **options: Any) -> Any:
    dispatcher = make(**options)
    each = job(add(dispatcher, retry=retry, uses_lanes=with_lanes), 0)
    result = run(dispatcher, at_zero(each), failures=failing(*errors))
    assert dispatcher.is_idle
    return [at for _, at in starts(result)], result.outcomes[0]


@BOTH
@pytest.mark.parametrize(
    ("backoff", "times"),
    [
        pytest.param(constant(2), [0.0, 3.0, 6.0, 9.0], id="constant"),
        pytest.param(linear(1, 2), [0.0, 2.0, 6.0, 12.0], id="linear"),
        pytest.param(exponential(1, 2, jitter="none"), [0.0, 2.0, 5.0, 10.0], id="exponential"),
        pytest.param(constant(0), [0.0, 1.0, 2.0, 3.0], id="at once"),
    ],
)
def test_each_retry_waits_for_the_backoff(backoff: Any, times: list[float], with_lanes: bool):
    found, outcome = attempts(Retry(3, backoff=backoff), *[OSError()] * 3, with_lanes=with_lanes)
    assert (found, outcome.ok, outcome.attempts) == (times, True, 4)


@BOTH
def test_it_gives_up_after_the_last_attempt(with_lanes: bool):
    errors = [OSError(n) for n in range(3)]
    found, outcome = attempts(Retry(2, backoff=constant(1)), *errors, with_lanes=with_lanes)
    assert found == [0.0, 2.0, 4.0]
    assert (outcome.error, outcome.state, outcome.attempts) == (errors[2], "dead", 3)


def test_attempts_are_numbered_from_one():
    dispatcher = make()
    task = add(dispatcher, retry=Retry(2, backoff=constant(1)))
    result = run(dispatcher, at_zero(job(task, 0)), failures=failing(OSError(), OSError()))
    assert [(step.kind, step.attempt) for step in result.trace] == [
        ("start", 1), ("finish", 1), ("start", 2), ("finish", 2), ("start", 3), ("end", 3),
    ]  # fmt: skip
    assert dispatcher.retried == 2


@BOTH
@pytest.mark.parametrize("make_order", [Fifo, Lifo, Priority()])
def test_a_retry_is_first_of_its_class(make_order: Any, with_lanes: bool):
    """It is due at 1.5, while the second job runs, and starts before those that wait from 0."""
    dispatcher = make(capacity=1)
    task = add(dispatcher, order=make_order, retry=Retry(1, backoff=constant(0.5)), uses_lanes=with_lanes)
    jobs = [job(task, id, priority=5 if id == 3 else 1) for id in range(4)]
    first = 3 if make_order is Lifo else 0
    result = run(
        dispatcher, at_zero(*jobs),
        failures=lambda each, _rng: OSError() if each.id == first and each.attempt == 1 else None,
    )  # fmt: skip
    expected = [3, 2, 3, 1, 0] if make_order is Lifo else [0, 1, 0, 2, 3]
    assert order_of(result) == expected


def test_waiting_for_a_retry_holds_nothing():
    limit = Noting(1)
    dispatcher = make(capacity=1, limits=(limit,))
    task = add(dispatcher, retry=Retry(1, backoff=constant(5)))
    result = run(
        dispatcher, at_zero(job(task, 0), job(task, 1)),
        failures=lambda each, _rng: OSError() if each.id == 0 and each.attempt == 1 else None,
    )  # fmt: skip
    assert starts(result) == [(0, 0.0), (1, 1.0), (0, 6.0)]


def test_nothing_starts_after_the_deadline():
    found, outcome = attempts(Retry(9, backoff=constant(2), deadline=7.0), *[OSError()] * 9)
    assert (found, outcome.attempts, outcome.ended_at) == ([0.0, 3.0, 6.0], 3, 7.0)


def test_a_start_at_the_deadline_is_the_last_one_allowed():
    found, _ = attempts(Retry(9, backoff=constant(2), deadline=6.0), *[OSError()] * 9)
    assert found == [0.0, 3.0, 6.0]


@BOTH
def test_a_retry_that_waits_for_a_slot_until_after_its_deadline_is_not_made(with_lanes: bool):
    dispatcher = make(capacity=1)
    task = add(dispatcher, retry=Retry(3, backoff=constant(1), deadline=4.0), uses_lanes=with_lanes)
    late, error = job(task, 0), OSError()
    result = run(
        dispatcher, at_zero(late, job(task, 1), job(task, 2)), {1: 8.0},
        failures=lambda each, _rng: error if each is late else None,
    )  # fmt: skip
    assert starts(result) == [(0, 0.0), (1, 1.0), (2, 9.0)]
    outcome = outcomes_by_id(result)[0]
    assert (outcome.error, outcome.state, outcome.attempts) == (error, "dead", 1)
    assert (outcome.started_at, outcome.ended_at, outcome.ran) == (0.0, 9.0, 1.0)
    assert outcome.waits == {"retry": 1.0, "concurrency": 7.0}
    assert (dispatcher.failed, dispatcher.is_idle) == (1, True)


@BOTH
def test_many_retries_that_are_too_late_end_together(with_lanes: bool):
    dispatcher = make(capacity=3)
    task = add(dispatcher, retry=Retry(1, backoff=constant(1), deadline=2.5), uses_lanes=with_lanes)
    jobs = [job(task, id) for id in range(3)]
    result = run(
        dispatcher, at_zero(*jobs), failures=lambda _each, _rng: OSError(),
        calls=[(1.5, dispatcher.pause), (4.0, dispatcher.resume)],
    )  # fmt: skip
    assert len(starts(result)) == 3
    assert [outcome.ended_at for outcome in result.outcomes] == [4.0, 4.0, 4.0]
    assert dispatcher.is_idle


def test_a_retry_after_the_deadlines_failure_was_kept_forgets_it_at_its_start():
    dispatcher = make()
    each = job(add(dispatcher, retry=Retry(1, backoff=constant(1), deadline=9.0)), 0)
    run(dispatcher, at_zero(each), failures=failing(OSError()))
    assert each._history is not None
    assert each._history.error is None


def test_the_budget_keeps_retries_within_a_share_of_the_starts():
    dispatcher = make()
    task = add(dispatcher, retry=Retry(5, backoff=constant(0), budget=0.1))
    run(dispatcher, at_zero(*(job(task, id) for id in range(90))), failures=lambda _each, _rng: OSError())
    assert (dispatcher.retried, dispatcher.failed) == (10, 90)


def test_a_time_that_the_other_side_asked_for_is_kept_if_it_is_longer():
    found, _ = attempts(Retry(1, backoff=constant(2)), BusyError())
    assert found == [0.0, 31.0]


def test_the_backoff_is_kept_if_it_is_longer_than_what_the_other_side_asked_for():
    found, _ = attempts(Retry(1, backoff=constant(45)), BusyError())
    assert found == [0.0, 46.0]


def test_a_handler_may_ask_for_another_attempt_after_a_delay():
    found, outcome = attempts(Retry(2, backoff=constant(9)), RetryLater(3.5), RetryLater())
    assert (found, outcome.attempts) == ([0.0, 4.5, 5.5], 3)


def test_asking_for_another_attempt_is_bounded_by_the_retries():
    error = RetryLater(1.0)
    found, outcome = attempts(Retry(1), error, error)
    assert (found, outcome.error, outcome.attempts) == ([0.0, 2.0], error, 2)


def test_a_discarded_job_is_not_tried_again():
    found, outcome = attempts(Retry(5), Discard("gone"))
    assert found == [0.0]
    assert isinstance(outcome.error, JobDiscardedError)
    assert outcome.error.reason == "gone"
    assert (outcome.state, outcome.attempts) == ("dead", 1)


def test_an_error_of_when_ends_the_job():
    def when(error: BaseException, attempt: int) -> bool:
        raise LookupError("when")

    found, outcome = attempts(Retry(5, when=when), OSError())
    assert found == [0.0]
    assert isinstance(outcome.error, LookupError)
    assert isinstance(outcome.error.__context__, OSError)


def test_a_job_that_was_delayed_starts_for_the_first_time_when_it_is_due():
    dispatcher = make()
    each = job(add(dispatcher, retry=Retry(1, backoff=constant(1))), 0)
    dispatcher.offer(each, 0.0, delay=2.0)
    (outcome,) = run(dispatcher, [], failures=failing(OSError())).outcomes
    assert (outcome.started_at, outcome.ended_at, outcome.ran) == (2.0, 5.0, 2.0)
    assert outcome.waits == {"delay": 2.0, "retry": 1.0}


class TestEvents:
    """What an observer is told, and in which order."""

    def told(self, failures: Any, *, retry: Any = 0, n: int = 1, **options: Any) -> list[Any]:
        events: list[Any] = []
        dispatcher = make(observe=events.append, **options)
        task = add(dispatcher, retry=retry)
        run(dispatcher, at_zero(*(job(task, id) for id in range(n))), failures=failures)
        return events

    def test_of_a_start_and_an_end(self):
        started, ended = self.told(None)
        assert isinstance(started, JobStarted)
        assert isinstance(ended, JobEnded)
        assert (started.at, started.job.id, ended.at, ended.outcome.ok) == (0.0, 0, 1.0, True)

    def test_of_a_retry_and_when_it_comes(self):
        error = OSError()
        events = self.told(failing(error), retry=Retry(1, backoff=constant(2)))
        assert [type(event) for event in events] == [JobStarted, JobRetried, JobStarted, JobEnded]
        retried = events[1]
        assert (retried.at, retried.error, retried.again_at) == (1.0, error, 3.0)

    def test_of_a_throttled_job(self):
        left = [Throttled(4.0)]

        def failures(_each: Any, _rng: Random) -> BaseException | None:
            return left.pop() if left else None

        events = self.told(failures)
        assert [type(event) for event in events] == [JobStarted, JobRetried, JobParked, JobStarted, JobEnded]
        assert (events[2].reason.cause, events[2].reason.until) == ("throttled", 5.0)

    def test_of_a_lane_that_waits(self):
        events = self.told(None, limits=(Until(3.0),))
        assert [type(event) for event in events] == [JobParked, JobStarted, JobEnded]
        assert (events[0].at, events[0].job.id) == (0.0, 0)
        assert events[0].reason == Reason("rate", "until", None, 0.0, 3.0)

    def test_a_retry_at_once_of_the_only_job_is_not_told_to_wait_for_its_own_slot(self):
        events = self.told(failing(OSError()), retry=Retry(1, backoff=constant(0)), capacity=1)
        assert [type(event) for event in events] == [JobStarted, JobRetried, JobStarted, JobEnded]

    def test_of_a_want_of_slots(self):
        events = self.told(None, n=2, capacity=1)
        assert [type(event) for event in events] == [JobStarted, JobParked, JobEnded, JobStarted, JobEnded]
        assert (events[1].reason.cause, events[1].reason.limit, events[1].job.id) == ("concurrency", "1", 1)
