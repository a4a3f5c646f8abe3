"""Charges without a driver: what the dispatcher tells limits, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.job import Job, Task
from qanat._core.limits import Budget
from qanat._core.retry import Retry
from tests._core.dispatcher.world import Noting, add, begin, failing, job, make

if TYPE_CHECKING:
    from qanat._core.limit import Limit


class Hearing(Noting):
    """Note what was charged, and who stands for whom."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, float, float]] = []
        self.stand_ins: list[tuple[Any, Any]] = []

    def adjust(self, job: Job[Any], currency: str, delta: float, now: float) -> None:
        self.heard.append((currency, delta, now))

    def replaced(self, job: Job[Any], held: Job[Any]) -> None:
        self.stand_ins.append((job, held))


class Broken(Noting):
    def adjust(self, job: Job[Any], currency: str, delta: float, now: float) -> None:
        raise LookupError("adjust")

    def replaced(self, job: Job[Any], held: Job[Any]) -> None:
        raise LookupError("replaced")


def running(*limits: Limit, **options: Any) -> tuple[Any, Job[Any]]:
    dispatcher = make(limits=limits, **options)
    each = job(add(dispatcher, retry=Retry(1)), 0)
    each.cost = {"tokens": 10.0}
    dispatcher.offer(each, 0.0)
    assert begin(dispatcher, 0.0) == [0]
    return dispatcher, each


def test_limits_hear_the_difference_to_what_was_said_before():
    limit = Hearing()
    dispatcher, each = running(limit)
    for amount, now in ((12.0, 1.0), (12.0, 2.0), (4.0, 3.0)):
        dispatcher.charge(each, "tokens", amount, now)
    dispatcher.charge(each, "cents", 3.0, 4.0)
    dispatcher.charge(each, "requests", 1.0, 5.0)
    assert limit.heard == [("tokens", 2.0, 1.0), ("tokens", -8.0, 3.0), ("cents", 3.0, 4.0)]
    assert each.cost == {"tokens": 10.0}


def test_a_job_that_is_charged_is_settled_at_the_latest_time():
    limit = Hearing()
    dispatcher, each = running(limit)
    dispatcher.close(7.0)
    each.charge("tokens", 11)
    assert limit.heard == [("tokens", 1.0, 7.0)]


def test_each_attempt_is_charged_by_itself():
    limit = Hearing()
    dispatcher, each = running(limit)
    dispatcher.charge(each, "tokens", 12.0, 1.0)
    assert dispatcher.finish(each, None, failing(OSError())(each, None), 1.0) is None  # type: ignore[arg-type]
    dispatcher.next(dispatcher.wake_at)
    dispatcher.charge(each, "tokens", 12.0, 9.0)
    assert [delta for _, delta, _ in limit.heard] == [2.0, 2.0]
    outcome = dispatcher.finish(each, None, None, 9.0)
    assert (outcome.started_at, outcome.attempts) == (0.0, 2)


def test_a_charge_changes_nothing_in_the_outcome():
    seen: list[Any] = []
    for charged in (False, True):
        dispatcher, each = running(Hearing())
        if charged:
            dispatcher.charge(each, "tokens", 12.0, 1.0)
        outcome = dispatcher.finish(each, "value", None, 2.0)
        seen.append((outcome.started_at, outcome.ended_at, outcome.ran, outcome.attempts, outcome.waits))
    assert seen[0] == seen[1]


def test_a_job_that_does_not_run_cannot_be_charged():
    dispatcher, each = running(Hearing())
    dispatcher.finish(each, None, None, 1.0)
    with pytest.raises(RuntimeError, match=r"^charge\(\) works while the job runs, and it does not: call it"):
        dispatcher.charge(each, "tokens", 1.0, 1.0)


def test_a_job_of_no_run_cannot_be_charged():
    alone = Job(0, None, 0, Task("fetch", print, None, Retry(0)))
    with pytest.raises(RuntimeError, match=r"^charge\(\) works for jobs of a run or a Pool, and this job is"):
        alone.charge("tokens", 1)


def test_a_job_without_limits_has_nobody_to_tell():
    _, each = running()
    each.charge("anything", 1)
    assert each._history is None


def test_a_stand_in_goes_on_with_what_was_charged():
    limit = Hearing()
    dispatcher, each = running(limit)
    dispatcher.charge(each, "tokens", 12.0, 1.0)
    held = dispatcher.hold(each)
    assert limit.stand_ins == [(each, held)]
    dispatcher.finish(each, None, TimeoutError(), 2.0, holding=True)
    dispatcher.charge(held, "tokens", 13.0, 3.0)
    assert limit.heard == [("tokens", 2.0, 1.0), ("tokens", 1.0, 3.0)]
    dispatcher.release(held, None, None, 4.0)
    assert limit.given == [(0, 4.0)]


def test_a_stand_in_that_was_not_charged_goes_on_from_the_estimate():
    limit = Hearing()
    dispatcher, each = running(limit)
    held = dispatcher.hold(each)
    dispatcher.finish(each, None, TimeoutError(), 2.0, holding=True)
    dispatcher.charge(held, "tokens", 13.0, 3.0)
    assert limit.heard == [("tokens", 3.0, 3.0)]


def test_a_limit_that_raises_harms_nobody_else():
    faults: list[Exception] = []
    limit = Hearing()
    dispatcher, each = running(Broken(), limit, on_fault=lambda fault, _: faults.append(fault))
    dispatcher.hold(each)
    assert [str(fault) for fault in faults] == ["replaced"]
    assert len(limit.stand_ins) == 1
    with pytest.raises(LookupError, match="adjust"):
        each.charge("tokens", 3)


def test_currencies_of_all_limits_are_known():
    dispatcher, each = running(
        Budget("a", tokens="100/m"), Hearing(), Budget("b", cents="100/m", tokens="9000/h")
    )
    dispatcher.charge(each, "cents", 3.0, 1.0)
    with pytest.raises(
        ValueError, match=r"^currency must be one .* count, tokens, cents, tokens, got 'coins'$"
    ):
        dispatcher.charge(each, "coins", 3.0, 1.0)
