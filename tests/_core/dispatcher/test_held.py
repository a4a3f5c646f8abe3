"""What limits hear of attempts that were over while their handler still ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests._core.dispatcher.world import Noting, add, job, make

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome


class Hearing(Noting):
    """Notes what it is told of the attempts that end."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[Any, ...]] = []

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        self.heard.append((job.target, outcome.value, outcome.error, outcome.state, now))


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        (TimeoutError("over"), (None, "TimeoutError('over')", "dead")),
        (None, ("late", "None", "done")),
    ],
    ids=["over", "not told"],
)
def test_limits_hear_why_an_attempt_was_over_and_not_what_came_of_it_later(
    why: BaseException | None, expected: tuple[Any, ...]
):
    limit = Hearing()
    dispatcher = make(limits=[limit])
    each = job(add(dispatcher), 1)
    dispatcher.offer(each, 0.0)
    assert dispatcher.next(0.0) is each
    each.target = "eu"
    held = dispatcher.hold(each, why)
    dispatcher.finish(each, None, TimeoutError(), 1.0, holding=True)
    dispatcher.release(held, "late", None, 3.0)
    ((target, value, error, state, at),) = limit.heard
    assert (target, (value, repr(error), state), at) == ("eu", expected, 3.0)
