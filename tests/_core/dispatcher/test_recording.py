"""The dispatcher that notes what it is told, called by hand, and its replay."""

from __future__ import annotations

import sys
from random import Random
from typing import Any

import pytest

from qanat._core.dispatcher.recording import RecordingDispatcher, plain_key
from qanat._core.dispatcher.replaying import OpaqueError, Replay, ReplayedError, rebuilt_error
from qanat._core.flight import FORMAT, Flight, Header, opening
from qanat._core.job import WAITING, Job
from qanat._core.limits import Concurrency, SlidingWindow, Spacing
from qanat._core.orders import ORDERS, Fifo
from qanat._core.retry import Retry
from qanat.errors import Discard
from tests._core.dispatcher.world import job

HEADER = Header(FORMAT, "1.0", "test", 7, 0.0, 2, [], {}, "", sys.byteorder)


class Recording:
    """A recording dispatcher with two slots, and its file."""

    def __init__(self) -> None:
        self.content = opening(HEADER)
        self.dispatcher = RecordingDispatcher(write=self.write, rng=Random(7), capacity=2)

    def write(self, content: bytes) -> None:
        self.content += content

    def add(self, **options: Any) -> Any:
        given: dict[str, Any] = {"make_order": ORDERS["fifo"], "retry": Retry(0), **options}
        return self.dispatcher.add_task("task", None, **given)

    def replayed(self, **own: Any) -> Replay:
        self.dispatcher.flush()
        return Replay(Flight(self.content), Random(7), **own).run()


def test_what_goes_on_in_a_thread_is_held_and_released_again():
    recording = Recording()
    dispatcher = recording.dispatcher
    task = recording.add()
    for id in range(4):
        dispatcher.offer(job(task, id), 0.0)
    first, second = dispatcher.next(0.0), dispatcher.next(0.0)
    assert first is not None
    assert second is not None
    stand_ins = []
    for each in (first, second):
        stand_ins.append(dispatcher.hold(each))
        dispatcher.finish(each, None, TimeoutError(), 1.0, holding=True)
    assert dispatcher.next(1.0) is None
    dispatcher.release(stand_ins.pop(), None, None, 2.0)
    assert dispatcher.next(2.0) is not None
    dispatcher.release(stand_ins.pop(), None, OSError(), 3.0)
    assert dispatcher.next(3.0) is not None
    found = recording.replayed()
    assert (found.difference, found.decisions) == (None, 7)


def test_a_task_that_came_back_after_it_was_dropped_has_a_number_of_its_own():
    recording = Recording()
    dispatcher = recording.dispatcher
    recording.add()
    for id in range(3):
        task = recording.add(limits=[SlidingWindow(1, 1.0)])
        dispatcher.offer_all([Job(id, None, id, task, float(id), WAITING)], float(id))
        each = dispatcher.next(float(id))
        assert each is not None
        dispatcher.finish(each, None, None, float(id))
        dispatcher.drop_task(task)
    dispatcher.detach()
    assert recording.replayed().difference is None


def test_answers_of_a_function_by_lane_are_kept(monkeypatch: pytest.MonkeyPatch):
    """Whatever option takes such a function: here one that adds nothing to the lanes' limits."""
    recording = Recording()
    task = recording.add(lane_limits=lambda lane: Concurrency(1) if lane == "one" else [])
    dispatcher = recording.dispatcher
    for id in range(6):
        dispatcher.offer(job(task, id, lane=("one", "two", (1, 2))[id % 3]), 0.0)
    while dispatcher.next(0.0):
        pass
    assert recording.replayed().difference is None


def test_an_option_that_takes_any_function_is_asked_once_more_from_the_file():
    recording = Recording()
    wrapped = recording.dispatcher._answering(0, "weights", len)
    assert wrapped("abc") == 3
    replay = recording.replayed()
    assert replay._answering(0, "weights")("abc") == 3


def test_a_lane_whose_limits_raise_ends_its_job_here_and_there():
    def broken(lane: str) -> Any:
        raise LookupError(lane)

    recording = Recording()
    task = recording.add(lane_limits=broken)
    dispatcher = recording.dispatcher
    dispatcher.offer(job(task, 1, lane="a"), 0.0)
    assert [each.id for each, _ in dispatcher.ended] == [1]
    dispatcher.ended.clear()
    assert recording.replayed().difference is None


def test_jobs_of_several_tasks_arrive_together():
    recording = Recording()
    recording.add()
    task = recording.add()
    jobs: list[Job[Any]] = [Job(id, None, id, task, 0.0, WAITING) for id in range(3)]
    recording.dispatcher.offer_all(jobs, 0.0)
    assert [each.index for each in iter(lambda: recording.dispatcher.next(0.0), None)] == [0, 1]
    assert recording.replayed().difference is None


def test_a_backoff_that_looks_at_more_is_told_by_when_the_job_came_again():
    class Wait:
        """As tenacity's waits are known."""

        def __call__(self, retry_state: Any) -> float:
            return 0.5 * float(retry_state.attempt_number)

    Wait.__module__ = "tenacity.wait"
    recording = Recording()
    dispatcher = recording.dispatcher
    dispatcher.offer(job(recording.add(retry=Retry(2, backoff=Wait())), 0), 0.0)
    now = 0.0
    for _ in range(3):
        each = dispatcher.next(now)
        assert each is not None
        dispatcher.finish(each, None, OSError(), now)
        now = dispatcher.wake_at
    found = recording.replayed()
    assert (found.difference, found.decisions) == (None, 6)


def test_what_is_not_in_the_file_has_to_be_given():
    recording = Recording()
    recording.add(make_order=lambda: Fifo())
    with pytest.raises(OpaqueError, match="order"):
        recording.replayed()
    assert recording.replayed(make_order=Fifo).difference is None


def test_a_limit_of_a_task_is_made_again_or_missed():
    recording = Recording()
    used = Spacing(1.0)
    used.take(job(recording.add(), 0), 0.0)
    recording.add(limits=[used])
    with pytest.raises(OpaqueError, match="limits"):
        recording.replayed()


def test_lanes_are_written_as_they_are_or_as_they_look():
    lane = ("tuple", 1)
    assert [plain_key(key) for key in (None, "a", 1, 1.5, 2**70, lane)] == [
        None, "a", 1, 1.5, str(2**70), "('tuple', 1)",
    ]  # fmt: skip


def test_an_error_is_called_as_it_was():
    found = rebuilt_error({"kind": "error", "names": ["app.Odd", "builtins.Exception"], "retry_after": None})
    assert isinstance(found, ReplayedError)
    assert type(found).__name__ == "Odd"
    assert isinstance(rebuilt_error({"kind": "discard"}), Discard)
