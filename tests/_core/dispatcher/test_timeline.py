"""What happens when: in order, and what no longer counts is swept out."""

from __future__ import annotations

from math import inf
from typing import Any

from qanat._core.dispatcher.timeline import Timeline
from tests._core.dispatcher.world import add, begin, job, make


class Entry:
    """Something that awaits one time."""

    def __init__(self, at: float) -> None:
        self.at = at

    def awaits(self, at: float) -> bool:
        return self.at == at


def filled(*times: float) -> tuple[Timeline, list[Any]]:
    timeline, entries = Timeline(), [Entry(at) for at in times]
    for entry in entries:
        timeline.add(entry.at, entry)  # type: ignore[arg-type]
    return timeline, entries


def test_entries_come_in_the_order_of_their_times_then_of_their_adding():
    timeline, (late, early, also) = filled(2.0, 1.0, 1.0)
    assert timeline.at == 1.0
    assert [timeline.pop(9.0) for _ in range(4)] == [(1.0, early), (1.0, also), (2.0, late), None]
    assert timeline.at == inf


def test_nothing_comes_before_its_time_and_all_at_it():
    timeline, (entry,) = filled(2.0)
    assert timeline.pop(1.999) is None
    assert timeline.at == 2.0
    assert timeline.pop(2.0) == (2.0, entry)


def test_what_no_longer_counts_is_passed_over():
    timeline, (gone, stays, _later) = filled(1.0, 2.0, 3.0)
    gone.at = inf
    timeline.spoil()
    assert timeline.pop(5.0) == (2.0, stays)


def test_what_no_longer_counts_is_swept_out_once_it_is_more_than_half():
    timeline, entries = filled(*(float(n) for n in range(10)))
    for entry in entries[:6]:
        entry.at = inf
        timeline.spoil()
    assert len(timeline) == 4
    assert timeline.at == 6.0


def test_the_last_one_that_goes_leaves_no_time():
    timeline, (entry,) = filled(1.0)
    entry.at = inf
    timeline.spoil()
    assert timeline.at == inf


def test_an_entry_that_nobody_spoiled_does_no_harm():
    timeline, (entry,) = filled(1.0)
    entry.at = inf
    assert timeline.pop(1.0) is None
    timeline.spoil()
    assert timeline.at == inf


def test_scheduled_jobs_are_listed_in_the_order_in_which_they_fall_due():
    dispatcher = make()
    task = add(dispatcher)
    jobs = [job(task, id) for id in range(3)]
    for each, delay in zip(jobs, (3.0, 1.0, 2.0), strict=True):
        dispatcher.offer(each, 0.0, delay=delay)
    dispatcher.cancel(jobs[2], 0.0)
    assert [each.id for each in dispatcher.timeline.jobs()] == [1, 0]


def test_jobs_due_at_one_time_start_in_the_order_of_their_offering():
    dispatcher = make()
    task = add(dispatcher)
    for id in (2, 0, 1):
        dispatcher.offer(job(task, id), 0.0, delay=1.0)
    assert begin(dispatcher, 1.0) == [2, 0, 1]


def test_the_order_of_due_times_holds_when_nobody_asked_for_long():
    dispatcher = make()
    task = add(dispatcher)
    for id, delay in enumerate((3.0, 1.0, 2.0)):
        dispatcher.offer(job(task, id), 0.0, delay=delay)
    assert begin(dispatcher, 10.0) == [1, 2, 0]
