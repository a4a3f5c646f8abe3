"""What failed jobs and stopped runs mean for the caller."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from qanat import JobCancelledError, Outcome, Outcomes, TooManyFailuresError, errors
from qanat._app.failures import FailureLimit, add_note, raisable, with_outcomes
from qanat._core.dispatcher import Dispatcher


class Frozen(Exception):
    """An error on which nothing can be set, as on a frozen dataclass."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


def dispatcher(done: int, failed: int, cancelled: int = 0) -> Dispatcher:
    counting = Dispatcher(rng=random.Random(0))
    counting.done, counting.failed, counting.cancelled = done, failed, cancelled
    return counting


def failed_outcome(error: BaseException, item: Any = "x", attempts: int = 1) -> Outcome[Any, Any]:
    return Outcome(
        id=7, index=7, item=item, value=None, error=error, state="dead", attempts=attempts, lane=None,
        metadata=None, parent=None, offered_at=0.0, started_at=0.0, ended_at=1.0, ran=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("most", "done", "failed", "exceeded"),
    [
        (None, 0, 10**6, False),
        (1, 0, 1, False),
        (1, 0, 2, True),
        (3, 100, 3, False),
        (3, 100, 4, True),
        (0.5, 0, 19, False),
        (0.5, 10, 9, False),
        (0.5, 10, 10, False),
        (0.5, 9, 11, True),
        (0.1, 90, 10, False),
        (0.1, 89, 11, True),
    ],
)
def test_a_limit_is_exceeded_by_one_more_than_it_allows(
    most: float | None, done: int, failed: int, exceeded: bool
):
    problem = FailureLimit(most).exceeded_by(dispatcher(done, failed))
    assert (problem is not None) == exceeded
    if problem is not None:
        assert isinstance(problem, TooManyFailuresError)
        assert (problem.failed, problem.finished) == (failed, done + failed)


def test_cancelled_jobs_have_finished_and_have_not_failed():
    assert FailureLimit(0.5).exceeded_by(dispatcher(0, 11, cancelled=11)) is None


def test_outcomes_hang_at_the_error():
    outcomes = Outcomes([failed_outcome(KeyError())])
    error = with_outcomes(ValueError(), outcomes)
    assert errors.outcomes_of(error) is outcomes


def test_an_error_that_takes_nothing_is_handed_on_without_them():
    error = Frozen()
    assert with_outcomes(error, Outcomes()) is error
    add_note(error, "a note")
    assert errors.outcomes_of(error) == ()


def test_a_note_says_which_job_it_was():
    error = KeyError()
    assert raisable(failed_outcome(error)) is error
    assert error.__notes__ == ["job 7 with item 'x', after 1 attempt"]


def test_a_note_is_added_once():
    error = KeyError()
    for _ in range(2):
        raisable(failed_outcome(error, attempts=3))
    assert error.__notes__ == ["job 7 with item 'x', after 3 attempts"]


def test_an_item_whose_repr_raises_is_named_by_its_type():
    class Item:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    # reprlib has an answer of its own where it can.
    (note,) = raisable(failed_outcome(KeyError(), item=Item())).__notes__
    assert "Item" in note


def test_an_item_that_only_calls_itself_a_list_is_named_by_its_type():
    # reprlib goes by the name of the type, and asks for a length.
    item = type("list", (), {})()
    (note,) = raisable(failed_outcome(KeyError(), item=item)).__notes__
    assert note == "job 7 with item <list, whose repr raised TypeError>, after 1 attempt"


def test_a_cancellation_from_elsewhere_is_raised_as_an_error():
    cancellation = asyncio.CancelledError()
    error = raisable(failed_outcome(cancellation))
    assert isinstance(error, JobCancelledError)
    assert error.__cause__ is cancellation


def test_a_stop_iteration_is_raised_as_an_error_that_coroutines_can_raise():
    stop = StopIteration(3)
    error = raisable(failed_outcome(stop))
    assert isinstance(error, RuntimeError)
    assert error.__cause__ is stop
