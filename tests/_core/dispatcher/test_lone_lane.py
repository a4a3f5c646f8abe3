"""The lone lane and turns: the same outcomes, and nothing lost in moving between the two."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.backoff import constant
from qanat._core.dispatcher.lone_lane import MOST_ENDS
from qanat._core.events import JobEnded
from qanat._core.limits import Concurrency
from qanat._core.orders import Fifo, Lifo
from qanat._core.retry import Retry
from qanat.errors import Throttled
from tests._core.dispatcher.world import add, at_zero, begin, job, make, outcomes_by_id, run, starts

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.dispatcher import Dispatcher


def test_one_task_without_limits_and_lanes_is_alone():
    dispatcher = make(capacity=3)
    assert not dispatcher.is_plain
    add(dispatcher)
    assert dispatcher.is_plain


@pytest.mark.parametrize(
    ("options", "task_options"),
    [
        pytest.param({"limits": (Concurrency(1),)}, {}, id="limit of all"),
        pytest.param({"observe": lambda _event: None}, {}, id="observer"),
        pytest.param({}, {"limits": (Concurrency(1),)}, id="limit of the task"),
        pytest.param({}, {"uses_lanes": True}, id="lanes"),
        pytest.param({}, {"lane_limits": lambda _lane: ()}, id="limits of lanes"),
        pytest.param({}, {"retry": Retry(1, budget=0.5)}, id="budget"),
    ],
)
def test_what_needs_deciding_is_not_alone(options: dict[str, Any], task_options: dict[str, Any]):
    dispatcher = make(**options)
    add(dispatcher, **task_options)
    assert not dispatcher.is_plain


def test_without_a_task_there_is_nothing_to_take():
    dispatcher = make()
    assert dispatcher.next(0.0) is None
    with pytest.raises(IndexError):
        dispatcher._take_lone()


def test_a_named_lane_ends_it():
    dispatcher = make(capacity=1)
    task = add(dispatcher)
    dispatcher.offer(job(task, 0), 0.0)
    dispatcher.offer(job(task, 1, "a"), 0.0)
    dispatcher.offer(job(task, 2), 0.0)
    assert not dispatcher.is_plain
    assert starts(run(dispatcher, [])) == [(0, 0.0), (1, 1.0), (2, 2.0)]


def pause_and_resume(dispatcher: Dispatcher) -> Callable[[float], object]:
    def call(now: float) -> None:
        dispatcher.pause(now)
        dispatcher.resume(now)

    return call


def second_task(dispatcher: Dispatcher) -> Callable[[float], object]:
    def call(_now: float) -> None:
        dispatcher.drop_task(add(dispatcher, "second"))

    return call


def second_task_for_a_while(dispatcher: Dispatcher) -> Callable[[float], object]:
    tasks: list[Any] = []

    def call(_now: float) -> None:
        if tasks:
            dispatcher.drop_task(tasks.pop())
        else:
            tasks.append(add(dispatcher, "second"))

    return call


MOVES = {"pause": pause_and_resume, "task": second_task, "task for a while": second_task_for_a_while}


@pytest.mark.parametrize("make_order", [Fifo, Lifo])
@pytest.mark.parametrize("move", MOVES)
def test_moving_to_and_fro_at_any_time_changes_nothing(move: str, make_order: Any):
    """Jobs wait, run, are retried and are cancelled meanwhile."""

    def told(moves: tuple[float, ...]) -> Any:
        dispatcher = make(capacity=2)
        task = add(dispatcher, order=make_order, retry=Retry(1, backoff=constant(0.75)))
        jobs = [job(task, id) for id in range(7)]
        result = run(
            dispatcher,
            [(id * 0.25, each) for id, each in enumerate(jobs)],
            failures=lambda each, _rng: OSError() if each.index % 3 == 1 and each.attempt == 1 else None,
            cancels=[(1.5, jobs[4])],
            calls=[(at, call) for call in (MOVES[move](dispatcher),) for at in moves],
        )
        counts = dispatcher.done, dispatcher.failed, dispatcher.cancelled, dispatcher.retried
        assert dispatcher.is_idle
        waits = {id: end.waits for id, end in outcomes_by_id(result).items()}
        return result.trace, waits, counts, dispatcher.waits

    expected = told(())
    times = [n / 8 for n in range(48)]
    for at in times:
        assert told((at,)) == expected, at
    for pair in itertools.islice(itertools.combinations(times, 2), 0, None, 17):
        assert told(pair) == expected, pair


def test_what_was_lost_meanwhile_is_told_of_jobs_that_arrived_before():
    dispatcher = make(capacity=1)
    task = add(dispatcher)
    second = add(dispatcher, "second", limits=(Concurrency(1),))
    dispatcher.drop_task(second)
    jobs = [job(task, id) for id in range(3)]
    result = run(dispatcher, at_zero(*jobs), 1.0, calls=[(0.5, dispatcher.pause), (2.5, dispatcher.resume)])
    assert {id: end.waits for id, end in outcomes_by_id(result).items()} == {
        0: {}, 1: {"concurrency": 0.5, "paused": 2.0}, 2: {"concurrency": 1.5, "paused": 2.0},
    }  # fmt: skip


def test_only_so_many_moves_are_remembered():
    dispatcher = make(capacity=1)
    task = add(dispatcher)
    first, last = job(task, 0), job(task, 1)
    dispatcher.offer(first, 0.0)
    assert dispatcher.next(0.0) is first
    dispatcher.offer(last, 0.0)
    for second in range(2 * MOST_ENDS):
        dispatcher.pause(second)
        dispatcher.resume(second + 0.5)
    assert len(dispatcher._unmarked) == MOST_ENDS
    now = 2.0 * MOST_ENDS
    dispatcher.finish(first, None, None, now)
    assert dispatcher.next(now) is last
    assert len(dispatcher._unmarked) == 0
    outcome = dispatcher.finish(last, None, None, now)
    assert outcome is not None
    assert sum(outcome.waits.values()) == outcome.waited == now


def test_marks_are_forgotten_when_it_is_left_empty():
    dispatcher = make(capacity=1)
    task = add(dispatcher)
    each = job(task, 0)
    dispatcher.pause(0.0)
    dispatcher.resume(0.0)
    dispatcher.offer(each, 0.0)
    dispatcher.pause(1.0)
    assert len(dispatcher._unmarked) == 1
    dispatcher.cancel(each, 1.0)
    dispatcher.resume(2.0)
    dispatcher.pause(3.0)
    assert len(dispatcher._unmarked) == 0


def test_a_slot_held_by_a_job_of_a_task_that_is_gone_counts_as_a_slot_only():
    dispatcher = make(capacity=3)
    task, gone = add(dispatcher), add(dispatcher, "gone")
    left, each = job(gone, "left"), job(task, 0)
    dispatcher.offer(left, 0.0)
    dispatcher.offer(each, 0.0)
    assert set(begin(dispatcher, 0.0)) == {"left", 0}
    held = dispatcher.hold(left)
    dispatcher.finish(left, None, TimeoutError(), 1.0, holding=True)
    dispatcher.drop_task(gone)
    assert (dispatcher.is_plain, dispatcher.running) == (True, 2)
    dispatcher.pause(2.0)
    assert (task.node.running, task.node.lanes[None].running) == (1, 1)
    dispatcher.resume(2.0)
    dispatcher.release(held, None, None, 3.0)
    dispatcher.pause(4.0)
    assert (task.node.running, dispatcher.running) == (1, 1)
    dispatcher.resume(4.0)
    dispatcher.finish(each, None, None, 5.0)
    assert dispatcher.is_idle


def test_a_throttled_lone_task_counts_what_runs():
    dispatcher = make(capacity=3)
    task = add(dispatcher)
    jobs = [job(task, id) for id in range(3)]
    for each in jobs:
        dispatcher.offer(each, 0.0)
    begin(dispatcher, 0.0)
    assert dispatcher.finish(jobs[0], None, Throttled(5.0), 1.0) is None
    assert (task.node.running, dispatcher.running, dispatcher.waiting) == (2, 2, 1)
    assert (dispatcher.next(1.0), dispatcher.wake_at) == (None, 6.0)


def test_an_observed_run_has_the_same_times():
    def told(**options: Any) -> Any:
        dispatcher = make(capacity=2, **options)
        task = add(dispatcher, retry=Retry(1, backoff=constant(0.5)))
        return run(
            dispatcher, [(id / 4, job(task, id)) for id in range(9)],
            failures=lambda each, _rng: OSError() if each.index == 2 and each.attempt == 1 else None,
        ).trace  # fmt: skip

    events: list[Any] = []
    assert told() == told(observe=events.append)
    assert sum(isinstance(event, JobEnded) for event in events) == 9


def test_a_job_that_is_tried_again_at_once_is_next():
    dispatcher = make(capacity=1)
    task = add(dispatcher, retry=Retry(2, backoff=constant(0)))
    for id in range(3):
        dispatcher.offer(job(task, id), 0.0)
    first = dispatcher.next(0.0)
    assert first is not None
    for now in (1.0, 2.0):
        assert dispatcher.finish(first, None, OSError(), now) is None
        assert (dispatcher.running, dispatcher.waiting, dispatcher.retried) == (0, 3, int(now))
        assert len(dispatcher.timeline) == 0
        assert dispatcher.next(now) is first
    outcome = dispatcher.finish(first, "value", None, 4.0)
    assert outcome is not None
    assert (outcome.value, outcome.attempts, outcome.ran, outcome.started_at) == ("value", 3, 4.0, 0.0)
    assert outcome.waits == {}
    assert (dispatcher.done, dispatcher.running) == (1, 0)


def test_what_was_waited_for_before_a_retry_at_once_stays_told_when_it_ends_in_turns():
    dispatcher = make(capacity=1)
    task = add(dispatcher, retry=Retry(1, backoff=constant(0)))
    first, second = job(task, 0), job(task, 1)
    dispatcher.offer(first, 0.0)
    dispatcher.offer(second, 0.0)
    assert dispatcher.next(0.0) is first
    dispatcher.finish(first, None, None, 2.0)
    assert dispatcher.next(2.0) is second
    assert dispatcher.finish(second, None, OSError(), 3.0) is None
    dispatcher.pause(4.0)
    dispatcher.cancel(second, 6.0)
    assert dispatcher.ended[-1][1].waits == {"concurrency": 3.0, "paused": 2.0}
