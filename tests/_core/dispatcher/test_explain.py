"""`why` tells what holds a job, since when, and until when at the earliest."""

from __future__ import annotations

from typing import Any

import pytest

from qanat._core.backoff import constant
from qanat._core.dispatcher.explain import reason_of
from qanat._core.reason import Reason
from qanat._core.retry import Retry
from qanat.errors import Throttled
from tests._core.dispatcher.world import Noting, Until, add, begin, job, make

BOTH = pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])


@BOTH
def test_nothing_waits(with_lanes: bool):
    dispatcher = make()
    each = job(add(dispatcher, uses_lanes=with_lanes), 0)
    assert (dispatcher.why(), dispatcher.why(each)) == (None, None)
    dispatcher.offer(each, 0.0)
    assert dispatcher.next(0.0) is each
    assert (dispatcher.why(), dispatcher.why(each)) == (None, None)
    dispatcher.finish(each, None, None, 1.0)
    assert (dispatcher.why(), dispatcher.why(each)) == (None, None)


@BOTH
def test_a_job_that_nothing_holds_waits_for_its_turn(with_lanes: bool):
    dispatcher = make()
    each = job(add(dispatcher, uses_lanes=with_lanes), 0)
    dispatcher.offer(each, 2.0)
    assert dispatcher.why(each) == dispatcher.why() == Reason("turn", None, None, 2.0, None)


@BOTH
def test_a_job_waits_for_a_slot(with_lanes: bool):
    dispatcher = make(capacity=1)
    task = add(dispatcher, uses_lanes=with_lanes)
    jobs = [job(task, id) for id in range(3)]
    for now, each in enumerate(jobs):
        dispatcher.offer(each, now)
        dispatcher.next(now)
    assert dispatcher.why(jobs[1]) == Reason("concurrency", "1", None, 1.0, None)
    assert dispatcher.why(jobs[2]) == Reason("concurrency", "1", None, 2.0, None)
    why = dispatcher.why()
    assert why is not None
    assert (why.cause, why.limit, why.until) == ("concurrency", "1", None)


@BOTH
def test_a_delayed_job_waits_until_it_is_due(with_lanes: bool):
    dispatcher = make()
    each = job(add(dispatcher, uses_lanes=with_lanes), 0)
    dispatcher.offer(each, 1.0, delay=4.0)
    assert dispatcher.why(each) == dispatcher.why() == Reason("delay", None, None, 1.0, 5.0)


@BOTH
def test_a_failed_job_waits_for_its_retry(with_lanes: bool):
    dispatcher = make()
    each = job(add(dispatcher, retry=Retry(1, backoff=constant(3)), uses_lanes=with_lanes), 0)
    dispatcher.offer(each, 0.0)
    assert dispatcher.next(0.0) is each
    dispatcher.finish(each, None, OSError(), 2.0)
    assert dispatcher.why(each) == dispatcher.why() == Reason("retry", None, None, 2.0, 5.0)


def test_the_first_that_falls_due_speaks_for_all():
    dispatcher = make()
    task = add(dispatcher)
    dispatcher.offer(job(task, 0), 0.0, delay=4.0)
    dispatcher.offer(job(task, 1), 0.0, delay=3.0)
    assert dispatcher.why() == Reason("delay", None, None, 0.0, 3.0)


@BOTH
def test_a_pause_holds_all(with_lanes: bool):
    dispatcher = make()
    each = job(add(dispatcher, uses_lanes=with_lanes), 0)
    dispatcher.offer(each, 0.0)
    dispatcher.pause(3.0)
    assert dispatcher.why() == Reason("paused", None, None, 3.0, None)
    assert dispatcher.why(each) == Reason("paused", None, None, 3.0, None)


@pytest.mark.parametrize("level", ["lane", "task", "root"])
def test_a_limit_holds_at_its_level(level: str):
    limit = Until(6.0)
    dispatcher = make(limits=(limit,) if level == "root" else ())
    task = add(
        dispatcher, limits=(limit,) if level == "task" else (),
        lane_limits=lambda _lane: limit if level == "lane" else (),
    )  # fmt: skip
    each = job(task, 0, "a")
    dispatcher.offer(each, 1.0)
    assert dispatcher.next(1.0) is None
    assert dispatcher.why(each) == Reason("rate", "until", "a", 1.0, 6.0)
    lane = "a" if level == "lane" else None
    assert dispatcher.why() == Reason("rate", "until", lane, 1.0, 6.0)


def test_waiting_is_told_from_its_beginning_whatever_arrives_meanwhile():
    dispatcher = make(limits=(Until(9.0),))
    task = add(dispatcher)
    first, second = job(task, 0), job(task, 1)
    dispatcher.offer(first, 1.0)
    assert dispatcher.next(1.0) is None
    dispatcher.offer(second, 4.0)
    assert dispatcher.next(5.0) is None
    assert dispatcher.why(first) == Reason("rate", "until", None, 1.0, 9.0)
    assert dispatcher.why(second) == Reason("rate", "until", None, 4.0, 9.0)


def test_waiting_is_told_from_its_beginning_when_it_was_asked_again_and_refused():
    limit = Until(3.0)
    dispatcher = make(limits=(limit,))
    each = job(add(dispatcher), 0)
    dispatcher.offer(each, 1.0)
    assert dispatcher.next(1.0) is None
    limit.at = 7.0
    assert dispatcher.next(3.0) is None
    assert dispatcher.why(each) == Reason("rate", "until", None, 1.0, 7.0)


def test_a_limit_that_only_a_change_helps_names_no_time():
    limit = Noting(0)
    dispatcher = make(limits=(limit,))
    each = job(add(dispatcher), 0)
    dispatcher.offer(each, 1.0)
    assert dispatcher.next(1.0) is None
    assert dispatcher.why(each) == Reason("concurrency", "noting", None, 1.0, None)


def test_a_lane_behind_others_is_never_told_too_late_a_time():
    shared = Until(6.0)
    dispatcher = make()
    task = add(dispatcher, lane_limits=lambda _lane: shared)
    jobs = [job(task, id, id) for id in range(3)]
    for each in jobs:
        dispatcher.offer(each, 0.0)
    assert begin(dispatcher, 0.0) == []
    assert [getattr(dispatcher.why(each), "until", None) for each in jobs] == [6.0, 6.0, 6.0]


def test_the_lane_comes_before_what_holds_all():
    """Until its own time nothing else matters to it."""
    dispatcher = make(capacity=1)
    task = add(dispatcher, lane_limits=lambda lane: Until(5.0) if lane == "a" else ())
    slow, quick, more = job(task, 0, "a"), job(task, 1, "b"), job(task, 2, "b")
    for each in (slow, quick, more):
        dispatcher.offer(each, 0.0)
    assert begin(dispatcher, 0.0) == [1]
    assert dispatcher.why(slow) == Reason("rate", "until", "a", 0.0, 5.0)
    assert dispatcher.why(more) == Reason("concurrency", "1", "b", 0.0, None)


def test_all_slots_taken_speaks_for_lanes_that_wait_for_something_else():
    dispatcher = make(capacity=1)
    task = add(dispatcher, lane_limits=lambda lane: Until(5.0) if lane == "a" else ())
    for each in (job(task, 0, "a"), job(task, 1, "b")):
        dispatcher.offer(each, 0.0)
    assert begin(dispatcher, 0.0) == [1]
    assert dispatcher.why() == Reason("concurrency", "1", None, 0.0, None)


def test_a_throttled_job_waits_until_its_lane_reopens():
    dispatcher = make()
    each = job(add(dispatcher, uses_lanes=True), 0, "a")
    dispatcher.offer(each, 0.0)
    assert dispatcher.next(0.0) is each
    dispatcher.finish(each, None, Throttled(8.0), 1.0)
    assert dispatcher.next(1.0) is None
    assert dispatcher.why(each) == Reason("throttled", "Throttled", "a", 1.0, 9.0)


def test_a_node_is_told_without_a_job():
    dispatcher = make()
    task = add(dispatcher, limits=(Until(5.0),), uses_lanes=True)
    dispatcher.offer(job(task, 0, "a"), 2.0)
    assert dispatcher.next(2.0) is None
    reason: Any = reason_of(task.node, None, dispatcher.capacity)
    assert (reason.lane, reason.since, reason.until) == (None, 2.0, 5.0)
