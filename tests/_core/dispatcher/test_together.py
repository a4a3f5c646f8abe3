"""What the calls for many jobs leave to `next`, and what they count then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.limits import Concurrency, SlidingWindow, Spacing
from qanat._core.orders import Lifo
from tests._core.dispatcher.world import add, job, make

if TYPE_CHECKING:
    from qanat._core.dispatcher import Dispatcher
    from qanat._core.job import Job
    from qanat._core.limit import Limit


def started(dispatcher: Dispatcher, now: float) -> list[Any]:
    """Start all that can, together."""
    found: list[Job[Any]] = []
    while more := dispatcher.start_together(now):
        found += more
    return found


@pytest.mark.parametrize("limits", [(), (SlidingWindow(10, 1.0),)])
def test_a_line_with_a_job_taken_out_is_served_as_ever(limits: tuple[Limit, ...]):
    dispatcher = make(limits=limits, capacity=2)
    task = add(dispatcher)
    jobs = [job(task, number) for number in range(7)]
    for each in jobs:
        dispatcher.offer(each, 0.0)
    dispatcher.cancel(jobs[1], 0.0)
    first = started(dispatcher, 0.0)
    assert [each.id for each in first] == [0, 2]
    dispatcher.end_together(first, 1.0)
    assert [each.id for each in started(dispatcher, 1.0)] == [3, 4]
    assert dispatcher.waits == {"concurrency": 2.0}
    assert (dispatcher.running, dispatcher.done, dispatcher.waiting) == (2, 2, 2)


@pytest.mark.parametrize("limits", [(), (SlidingWindow(10, 1.0),)])
def test_a_job_that_was_delayed_starts_when_it_is_due_and_its_delay_is_counted(limits: tuple[Limit, ...]):
    dispatcher = make(limits=limits, capacity=3)
    task = add(dispatcher)
    dispatcher.offer(job(task, 0), 0.0)
    dispatcher.offer(job(task, 1), 0.0, delay=1.0)
    first = started(dispatcher, 0.0)
    assert [each.id for each in first] == [0]
    dispatcher.end_together(first, 2.0)
    assert [each.id for each in started(dispatcher, 2.0)] == [1]
    assert dispatcher.waits["delay"] == 1.0


def test_relay_hands_a_slot_on_where_nothing_else_is_to_be_decided():
    dispatcher = make(limits=[SlidingWindow(10, 1.0)], capacity=1)
    task = add(dispatcher)
    for number in range(4):
        dispatcher.offer(job(task, number), 0.0)
    (first,) = started(dispatcher, 0.0)
    following = dispatcher.relay(first, 0.5)
    assert following is not None
    assert (following.id, following.started_at, dispatcher.running, dispatcher.done) == (1, 0.5, 1, 1)
    assert dispatcher.waits == {"concurrency": 0.5}


def test_relay_tells_turns_from_slots_and_counts_from_the_arrival():
    dispatcher = make(limits=[SlidingWindow(10, 1.0)], capacity=1)
    task = add(dispatcher)
    for number in range(2):
        dispatcher.offer(job(task, number), 0.0)
    (running,) = started(dispatcher, 1.0)
    for number in range(2, 4):
        dispatcher.offer(job(task, number), 1.5)
    for number in range(1, 3):
        following = dispatcher.relay(running, 1.0 + number)
        assert following is not None
        running = following
    assert running.id == 2
    # Nobody asked in the first second; then the one waited until 2.0, and the other from 1.5 until 3.0.
    assert dispatcher.waits == {"turn": 2.0, "concurrency": 1.0 + 1.5}


def test_relay_leaves_a_job_that_was_delayed_to_the_long_way():
    dispatcher = make(limits=[SlidingWindow(10, 1.0)], capacity=1)
    task = add(dispatcher)
    dispatcher.offer(job(task, 0), 0.0)
    (first,) = started(dispatcher, 0.0)
    for number in range(1, 3):
        dispatcher.offer(job(task, number), 0.0, delay=0.5)
    dispatcher.offer(job(task, 3), 0.75)
    assert dispatcher.relay(first, 1.0) is None


def test_relay_does_nothing_where_there_is_more_to_decide():
    dispatcher = make(limits=[SlidingWindow(1, 1.0)], capacity=1)
    task = add(dispatcher)
    for number in range(4):
        dispatcher.offer(job(task, number), 0.0)
    (first,) = started(dispatcher, 0.0)
    assert dispatcher.relay(first, 0.5) is None
    assert (dispatcher.running, dispatcher.done) == (1, 0)


@pytest.mark.parametrize(
    ("options", "limits", "goes"),
    [
        ({}, [], True),
        ({}, [SlidingWindow(1, 1.0), Spacing(1.0)], True),
        ({"order": Lifo}, [], False),
        ({"order": Lifo}, [SlidingWindow(1, 1.0)], False),
        ({}, [Concurrency(1)], False),
        ({}, [Spacing(1.0, after="finish")], False),
        ({}, [SlidingWindow(number, 1.0) for number in range(1, 5)], False),
        ({"uses_lanes": True}, [], False),
    ],
)
def test_jobs_go_together_where_no_limit_hears_of_their_end(
    options: dict[str, Any], limits: list[Limit], goes: bool
):
    dispatcher = make(limits=limits)
    add(dispatcher, **options)
    assert dispatcher.goes_together() is goes
