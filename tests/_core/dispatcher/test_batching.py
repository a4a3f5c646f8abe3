"""Batches in the dispatcher: when they start, of whom they are made, and what becomes of whom."""

from __future__ import annotations

from collections import Counter
from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._core.backoff import constant
from qanat._core.batch import Batch, size_of
from qanat._core.dispatcher import Dispatcher
from qanat._core.dispatcher.gathering import Batches, Gathering
from qanat._core.events import JobParked, JobRetried, JobStarted
from qanat._core.limit import Limit, Refused
from qanat._core.orders import ORDERS, Fifo
from qanat._core.retry import Retry
from qanat.errors import Discard, RetryLater, Throttled
from tests._core.dispatcher.world import Noting, Until, job, make, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.job import Job, Task
    from qanat._core.outcome import Outcome


def add(dispatcher: Dispatcher, batch: Batch, *, order: str = "fifo", retry: Any = 0, **options: Any) -> Task:
    return dispatcher.add_task(
        "task", None, make_order=ORDERS[order], retry=Retry.of(retry), batch=batch, **options
    )


def offered(
    dispatcher: Dispatcher, task: Task, count: int, now: float = 0.0, **options: Any
) -> list[Job[Any]]:
    jobs = [job(task, number, **options) for number in range(count)]
    for each in jobs:
        dispatcher.offer(each, now)
    return jobs


def ids(batch: Job[Any] | None) -> list[int | str] | None:
    return None if batch is None else [member.id for member in batch.members]


def started(dispatcher: Dispatcher, now: float = 0.0) -> Job[Any]:
    batch = dispatcher.next(now)
    assert batch is not None
    return batch


def told(dispatcher: Dispatcher) -> dict[int | str, Outcome[Any, Any]]:
    found = {outcome.id: outcome for _, outcome in dispatcher.ended}
    assert len(found) == len(dispatcher.ended), "a job ended twice"
    dispatcher.ended.clear()
    return found


# --- when a batch starts ---------------------------------------------------------------------


def test_a_batch_starts_when_it_is_full_and_not_before():
    dispatcher = make()
    task = add(dispatcher, Batch(3))
    offered(dispatcher, task, 2)
    assert (dispatcher.next(0.0), dispatcher.wake_at) == (None, inf)
    dispatcher.offer(job(task, 2), 5.0)
    assert dispatcher.wake_at == 5.0
    assert ids(dispatcher.next(5.0)) == [0, 1, 2]
    assert (dispatcher.running, dispatcher.waiting) == (1, 0)


def test_a_batch_that_is_not_full_starts_when_its_first_job_has_waited_long_enough():
    dispatcher = make()
    task = add(dispatcher, Batch(3, within=1.5))
    dispatcher.offer(job(task, 0), 1.0)
    assert (dispatcher.next(1.0), dispatcher.wake_at) == (None, 2.5)
    dispatcher.offer(job(task, 1), 2.0)
    assert (dispatcher.next(2.0), dispatcher.wake_at) == (None, 2.5)
    assert dispatcher.next(2.4375) is None
    assert ids(dispatcher.next(2.5)) == [0, 1]


def test_what_is_left_over_waits_from_when_it_came():
    dispatcher = make()
    task = add(dispatcher, Batch(2, within=1.0))
    offered(dispatcher, task, 3, 0.25)
    assert ids(dispatcher.next(0.25)) == [0, 1]
    assert (dispatcher.next(0.25), dispatcher.wake_at) == (None, 1.25)
    assert ids(dispatcher.next(1.25)) == [2]


def test_the_time_is_that_of_the_oldest_that_is_still_there():
    dispatcher = make()
    task = add(dispatcher, Batch(3, within=1.0))
    first = job(task, 0)
    dispatcher.offer(first, 0.0)
    dispatcher.offer(job(task, 1), 0.5)
    assert dispatcher.next(0.5) is None
    assert dispatcher.cancel(first, 0.75)
    assert (dispatcher.next(1.0), dispatcher.wake_at) == (None, 1.5)
    assert ids(dispatcher.next(1.5)) == [1]


def test_within_0_takes_what_is_there():
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(3, within=0)), 4)
    assert [ids(dispatcher.next(0.0)) for _ in range(3)] == [[0, 1, 2], [3], None]


def test_closing_lets_what_is_there_start():
    dispatcher = make()
    task = add(dispatcher, Batch(3))
    offered(dispatcher, task, 2)
    assert dispatcher.next(0.0) is None
    dispatcher.close(1.0)
    assert ids(dispatcher.next(1.0)) == [0, 1]
    dispatcher.offer(job(task, 2), 2.0)
    assert ids(dispatcher.next(2.0)) == [2]


def test_a_task_added_after_the_closing_waits_for_nobody():
    dispatcher = make()
    dispatcher.close(0.0)
    offered(dispatcher, add(dispatcher, Batch(3)), 1)
    assert ids(dispatcher.next(0.0)) == [0]


def test_hurrying_lasts_as_long_as_somebody_wants_it():
    dispatcher = make()
    task = add(dispatcher, Batch(3))
    offered(dispatcher, task, 1)
    assert dispatcher.next(0.0) is None
    dispatcher.hurry(1.0)
    dispatcher.hurry(1.0)
    assert ids(dispatcher.next(1.0)) == [0]
    dispatcher.hurry(1.0, wanted=False)
    dispatcher.offer(job(task, 1), 1.0)
    assert ids(dispatcher.next(1.0)) == [1]
    dispatcher.hurry(1.0, wanted=False)
    dispatcher.offer(job(task, 2), 1.0)
    assert dispatcher.next(1.0) is None


def test_squeezing_lets_the_lane_start_that_has_waited_longest():
    dispatcher = make(capacity=2)
    task = add(dispatcher, Batch(3), uses_lanes=True)
    for number, lane in enumerate("aabbb"[:4]):
        dispatcher.offer(job(task, number, lane), float(number))
    assert dispatcher.next(4.0) is None
    assert dispatcher.squeeze(4.0)
    assert ids(dispatcher.next(4.0)) == [0, 1]
    assert dispatcher.next(4.0) is None
    assert dispatcher.squeeze(4.0)
    assert ids(dispatcher.next(4.0)) == [2, 3]
    assert not dispatcher.squeeze(4.0)


def test_a_squeezed_batch_that_its_lane_holds_up_takes_in_who_comes_meanwhile():
    limit = Until(2.0)
    dispatcher = make()
    task = add(dispatcher, Batch(3), lane_limits=lambda _lane: limit)
    offered(dispatcher, task, 1)
    assert dispatcher.next(0.0) is None
    assert [dispatcher.squeeze(0.0), dispatcher.squeeze(0.0)] == [True, False]
    assert dispatcher.next(0.0) is None
    dispatcher.offer(job(task, 1), 1.0)
    assert not dispatcher.squeeze(1.0)
    assert ids(dispatcher.next(2.0)) == [0, 1]
    dispatcher.offer(job(task, 2), 2.0)
    assert dispatcher.next(2.0) is None


def test_a_retry_budget_counts_items():
    dispatcher = make()
    task = add(dispatcher, Batch(4), retry=Retry(1, backoff=constant(1), budget=0.5))
    offered(dispatcher, task, 4)
    dispatcher.finish(started(dispatcher), [OSError() for _ in range(4)], None, 0.0)
    assert (dispatcher.retried, dispatcher.failed) == (4, 0)
    strict = make()
    task = add(strict, Batch(4), retry=Retry(1, backoff=constant(1), budget=0.2))
    offered(strict, task, 4)
    strict.finish(started(strict), [OSError() for _ in range(4)], None, 0.0)
    assert (strict.retried, strict.failed) == (1, 3)


def test_nothing_is_squeezed_that_could_not_start():
    dispatcher = make(capacity=1)
    task = add(dispatcher, Batch(2))
    offered(dispatcher, task, 3)
    batch = started(dispatcher)
    assert not dispatcher.squeeze(0.0)
    dispatcher.finish(batch, [0, 1], None, 1.0)
    dispatcher.pause(1.0)
    assert not dispatcher.squeeze(1.0)
    dispatcher.resume(1.0)
    assert dispatcher.squeeze(1.0)
    assert ids(dispatcher.next(1.0)) == [2]


def test_without_batches_there_is_nothing_to_hurry_or_squeeze():
    dispatcher = make()
    dispatcher.hurry(0.0)
    assert not dispatcher.squeeze(0.0)


def test_a_batch_starts_when_its_costs_add_up():
    dispatcher = make()
    task = add(dispatcher, Batch(10, max_cost=5))
    costs = [2.0, 2.0, 2.0, 7.0, 1.0]
    for number, cost in enumerate(costs):
        each = job(task, number)
        each.cost = cost
        dispatcher.offer(each, float(number))
    batches = []
    while (batch := dispatcher.next(5.0)) is not None:
        batches.append((ids(batch), batch.cost))
    assert batches == [([0, 1], 4.0), ([2], 2.0), ([3], 7.0)]
    dispatcher.close(5.0)
    assert ids(dispatcher.next(5.0)) == [4]


def test_each_job_costs_1_unless_it_says_otherwise():
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(10, max_cost=2.5)), 4)
    assert [ids(dispatcher.next(0.0)) for _ in range(3)] == [[0, 1], None, None]


def test_a_batch_waits_for_its_limits_and_is_filled_meanwhile():
    dispatcher = make(limits=(Until(2.0),))
    task = add(dispatcher, Batch(3, within=0.5), order="priority")
    for number, priority in ((0, 2.0), (1, 3.0)):
        dispatcher.offer(job(task, number, priority=priority), 0.0)
    assert (dispatcher.next(1.0), dispatcher.wake_at) == (None, 2.0)
    dispatcher.offer(job(task, 2, priority=1.0), 1.5)
    assert ids(dispatcher.next(2.0)) == [2, 0, 1]


@given(
    st.sampled_from(sorted(ORDERS)),
    st.lists(
        st.tuples(st.sampled_from(["add", "put back", "discard", "start"]), st.integers(0, 9)), max_size=40
    ),
    st.integers(1, 4),
    st.sampled_from([None, 3.0]),
)
def test_asking_the_limits_changes_no_batch(
    order: str, steps: list[tuple[str, int]], size: int, max_cost: float | None
):
    """Two see the same; one of them is asked for its batch, which may not start, after every step.

    Nothing is taken out of a random order, as who joins it changes places with one of all that it still
    has: to be asked, it lets go of those at its head that were taken out.
    """
    task = make().add_task("task", None, make_order=Fifo, retry=Retry.of(0))
    gatherings = [Gathering(Batch(size, max_cost=max_cost), ORDERS[order](), Batches()) for _ in range(2)]
    for each in gatherings:
        each._batches.is_closed = True
        each.bind(Random(7))
    waiting: list[list[Job[Any]]] = [[], []]
    for number, (step, pick) in enumerate(steps):
        started: list[list[int | str]] = []
        for gathering, jobs in zip(gatherings, waiting, strict=True):
            if step in {"add", "put back"}:
                new = job(task, number, priority=float(pick % 3))
                new.index, new.cost, new.deadline = pick, 1.0 + pick % 2, float(pick % 4)
                gathering.add(new) if step == "add" else gathering.put_back(new)
                jobs.append(new)
            elif jobs and step == "discard" and order != "shuffle":
                gathering.discard(jobs.pop(pick % len(jobs)))
            elif jobs and step == "start":
                members = gathering.members()
                gathering.start()
                started.append([member.id for member in members])
                for member in members:
                    jobs.remove(member)
        assert started[:1] == started[1:]
        if waiting[0]:
            gatherings[0].propose(0.0)
            gatherings[0].dissolve()
        assert len(gatherings[0]) == len(gatherings[1]) == len(waiting[0])


def test_asking_puts_jobs_back_into_an_order_of_the_users_own():
    class Own:
        def __init__(self) -> None:
            self.jobs: list[Job[Any]] = []

        def add(self, job: Job[Any]) -> None:
            self.jobs.append(job)

        def put_back(self, job: Job[Any]) -> None:
            self.jobs.insert(0, job)

        def head(self) -> Job[Any]:
            return self.jobs[0]

        def take(self) -> Job[Any]:
            return self.jobs.pop(0)

        def discard(self, job: Job[Any]) -> None:
            self.jobs.remove(job)

        def __len__(self) -> int:
            return len(self.jobs)

    dispatcher = make()
    until = Until(5.0)
    task = dispatcher.add_task(
        "task", None, make_order=Own, retry=Retry.of(0), batch=Batch(2, within=0.0), limits=[until]
    )
    for each in [job(task, number) for number in (3, 1, 2)]:
        each.cost = 2.0
        dispatcher.offer(each, 0.0)
    assert (dispatcher.next(0.0), dispatcher.next(1.0)) == (None, None)
    assert ids(dispatcher.next(5.0)) == [3, 1]


@pytest.mark.parametrize("order", [name for name in ORDERS if name != "shuffle"])
def test_jobs_with_costs_of_their_own_keep_their_order_while_a_limit_holds_them_up(order: str):
    plain: list[Any] = []
    dear: list[Any] = []
    for found, cost in ((plain, 1.0), (dear, 2.0)):
        dispatcher = make(limits=(Until(2.0),))
        task = add(dispatcher, Batch(2, within=0.25), order=order)
        for number in range(5):
            each = job(task, number, priority=-number % 3)
            each.cost = cost
            dispatcher.offer(each, number / 8)
            assert dispatcher.next(number / 8) is None
        dispatcher.next(1.0)
        found += [ids(dispatcher.next(2.0)) for _ in range(4)]
    assert dear == plain
    assert plain[3] is None


class AtMost(Limit):
    """Refuse for good what costs too much."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.asked: list[Any] = []

    def ready_at(self, job: Job[Any], now: float) -> float:
        self.asked.append(job.cost)
        if size_of(job.cost) > self.most:
            raise Refused(ValueError("too dear"))
        return now


def test_what_is_too_much_for_a_limit_is_tried_in_halves():
    limit = AtMost(3.0)
    dispatcher = make(limits=(limit,))
    offered(dispatcher, add(dispatcher, Batch(8)), 8)
    dispatcher.close(0.0)
    assert [ids(dispatcher.next(0.0)) for _ in range(4)] == [[0, 1], [2, 3, 4], [5, 6, 7], None]
    assert limit.asked == [8.0, 4.0, 2.0, 6.0, 3.0, 3.0]
    assert dispatcher.ended == []


def test_a_job_that_is_too_much_by_itself_ends_alone():
    dispatcher = make(limits=(AtMost(3.0),))
    task = add(dispatcher, Batch(4))
    for number, cost in enumerate([1.0, 9.0, 1.0, 1.0]):
        each = job(task, number)
        each.cost = cost
        dispatcher.offer(each, 0.0)
    dispatcher.close(0.0)
    assert [ids(dispatcher.next(0.0)) for _ in range(3)] == [[0], [2, 3], None]
    assert {id: str(outcome.error) for id, outcome in told(dispatcher).items()} == {1: "too dear"}


def test_a_half_that_is_refused_is_halved_again():
    limit = AtMost(inf)
    dispatcher = make(limits=(limit,))
    offered(dispatcher, add(dispatcher, Batch(4, on_error="split")), 4)
    dispatcher.finish(started(dispatcher), None, OSError(), 0.0)
    limit.most = 1.0
    assert [ids(dispatcher.next(0.0)) for _ in range(5)] == [[0], [1], [2], [3], None]


class Broken(Limit):
    """Fail, asked or taken."""

    def __init__(self, error: BaseException, *, asked: bool) -> None:
        self.error = error
        self.fails_asked = asked

    def ready_at(self, job: Job[Any], now: float) -> float:
        if self.fails_asked:
            raise self.error
        return now

    def take(self, job: Job[Any], now: float) -> None:
        raise self.error


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "taken"])
def test_a_limit_that_raises_ends_all_members(asked: bool):
    before, error = Noting(), KeyError("broken")
    dispatcher = make(limits=(before, Broken(error, asked=asked)))
    offered(dispatcher, add(dispatcher, Batch(2)), 3)
    assert dispatcher.next(0.0) is None
    assert {id: outcome.error for id, outcome in told(dispatcher).items()} == {0: error, 1: error}
    assert (before.running, dispatcher.waiting, dispatcher.running) == (0, 1, 0)


# --- what a batch is -------------------------------------------------------------------------


def test_a_batch_is_a_job_with_the_items_of_its_members():
    dispatcher = make()
    task = add(dispatcher, Batch(2))
    jobs = [job(task, 3, "a", 5.0), job(task, 4, "a", 2.0)]
    jobs[0].cost, jobs[1].cost = {"tokens": 5.0}, {"tokens": 2.0, "calls": 1.0}
    jobs[1].deadline = 9.0
    for each, at in zip(jobs, (1.0, 2.0), strict=True):
        dispatcher.offer(each, at)
    batch = started(dispatcher, 3.0)
    assert batch.members == tuple(jobs)
    assert (batch.id, batch.item, batch.index, batch.lane) == ("batch-0", ["item 3", "item 4"], 3, "a")
    assert (batch.priority, batch.deadline, batch.attempt) == (2.0, 9.0, 1)
    assert batch.cost == {"tokens": 7.0, "calls": 1.0}
    assert (batch.offered_at, batch.started_at) == (1.0, 3.0)


def test_a_batch_is_one_call_for_slots_and_limits():
    limit = Noting(1)
    dispatcher = make(capacity=2, limits=(limit,))
    offered(dispatcher, add(dispatcher, Batch(2)), 6)
    batch = started(dispatcher)
    assert (limit.running, dispatcher.running, dispatcher.waiting) == (1, 1, 4)
    assert dispatcher.next(0.0) is None
    dispatcher.finish(batch, ["ab"] * 2, None, 1.0)
    assert limit.taken == [("batch-0", 0.0)]
    assert ids(dispatcher.next(1.0)) == [2, 3]


def test_each_lane_has_batches_of_its_own_and_limits_of_its_own():
    dispatcher = make()
    task = add(dispatcher, Batch(2), lane_limits=lambda _lane: Noting(1), uses_lanes=True)
    for number, lane in enumerate("abaabb"):
        dispatcher.offer(job(task, number, lane), 0.0)
    first = started(dispatcher)
    assert [ids(first), ids(dispatcher.next(0.0)), dispatcher.next(0.0)] == [[0, 2], [1, 4], None]
    dispatcher.close(0.0)
    dispatcher.finish(first, [0, 0], None, 1.0)
    assert ids(dispatcher.next(1.0)) == [3]


def test_an_empty_lane_is_forgotten():
    dispatcher = make()
    task = add(dispatcher, Batch(1), uses_lanes=True)
    dispatcher.offer(job(task, 0, "a"), 0.0)
    dispatcher.finish(started(dispatcher), [1], None, 1.0)
    assert list(task.node.lanes) == []
    assert len(dispatcher.gates) == 0


def test_waits_and_reasons_name_the_batch():
    dispatcher = make()
    task = add(dispatcher, Batch(2, within=4.0))
    (first,) = offered(dispatcher, task, 1)
    assert dispatcher.next(0.0) is None
    reason = dispatcher.why(first)
    assert reason is not None
    assert (reason.cause, reason.since, reason.until, str(reason)) == (
        "batch", 0.0, 4.0, "batch of 2 within 4 s",
    )  # fmt: skip
    dispatcher.offer(job(task, 1), 3.0)
    batch = started(dispatcher, 3.0)
    dispatcher.finish(batch, [1, 2], None, 5.0)
    outcomes = told(dispatcher)
    assert (outcomes[0].waits, outcomes[1].waits) == ({"batch": 3.0}, {})
    assert (outcomes[0].ran, outcomes[0].started_at) == (2.0, 3.0)
    assert dispatcher.waits == {"batch": 3.0}


def test_observers_are_told_of_members():
    events: list[Any] = []
    dispatcher = make(observe=events.append)
    task = add(dispatcher, Batch(2, on_error="split"))
    jobs = offered(dispatcher, task, 1)
    assert dispatcher.next(0.0) is None
    jobs += [job(task, 1)]
    dispatcher.offer(jobs[1], 1.0)
    error = OSError()
    dispatcher.finish(started(dispatcher, 1.0), None, error, 2.0)
    parked, *others = events
    assert isinstance(parked, JobParked)
    assert (parked.job, parked.reason.cause) == (jobs[0], "batch")
    assert others == [JobStarted(1.0, each) for each in jobs] + [
        JobRetried(2.0, each, error, 2.0) for each in jobs
    ]


# --- what becomes of whom --------------------------------------------------------------------


def test_each_member_ends_by_its_own_answer():
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(3)), 3)
    error = ValueError("bad")
    assert dispatcher.finish(started(dispatcher), ["a", error, None], None, 1.0) is None
    outcomes = told(dispatcher)
    assert [outcomes[id].state for id in range(3)] == ["done", "dead", "done"]
    assert (outcomes[0].value, outcomes[1].error, outcomes[2].value) == ("a", error, None)
    assert (dispatcher.done, dispatcher.failed, dispatcher.is_idle) == (2, 1, True)


def test_each_member_is_retried_for_itself_and_joins_another_batch():
    dispatcher = make()
    task = add(dispatcher, Batch(2), retry=Retry(1, backoff=constant(2)))
    offered(dispatcher, task, 3)
    dispatcher.finish(started(dispatcher), ["a", ValueError()], None, 1.0)
    assert list(told(dispatcher)) == [0]
    assert (dispatcher.next(2.0), dispatcher.retried) == (None, 1)
    batch = started(dispatcher, 3.0)
    assert (ids(batch), batch.attempt, [each.attempt for each in batch.members]) == ([1, 2], 2, [2, 1])
    dispatcher.finish(batch, ["b", "c"], None, 4.0)
    assert {id: outcome.attempts for id, outcome in told(dispatcher).items()} == {1: 2, 2: 1}


def test_signals_among_the_answers_are_each_members_own():
    dispatcher = make()
    task = add(dispatcher, Batch(4), retry=1)
    offered(dispatcher, task, 4)
    answers = [Discard("no"), RetryLater(1.0), Throttled(5.0), "ok"]
    dispatcher.finish(started(dispatcher), answers, None, 0.0)
    outcomes = told(dispatcher)
    assert {id: outcome.state for id, outcome in outcomes.items()} == {0: "dead", 3: "done"}
    dispatcher.close(0.0)
    assert dispatcher.next(4.0) is None
    batch = started(dispatcher, 5.0)
    assert [(each.id, each.attempt) for each in batch.members] == [(1, 2), (2, 1)]


@pytest.mark.parametrize("answers", [None, [Throttled(), Throttled()]], ids=["raised", "answered"])
def test_throttling_closes_once_and_costs_no_attempt(answers: Any):
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(2)), 2)
    error = Throttled() if answers is None else None
    dispatcher.finish(started(dispatcher), answers, error, 0.0)
    assert (dispatcher.next(0.0), dispatcher.wake_at) == (None, 1.0)
    batch = started(dispatcher, 1.0)
    assert [each.attempt for each in batch.members] == [1, 1]
    dispatcher.finish(batch, [1, 2], None, 1.0)
    assert {outcome.attempts for outcome in told(dispatcher).values()} == {1}


def test_the_longest_pause_that_a_member_names_holds():
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(3)), 3)
    dispatcher.finish(started(dispatcher), [Throttled(2.0), Throttled(), Throttled(1.0)], None, 0.0)
    assert (dispatcher.next(1.0), dispatcher.wake_at) == (None, 2.0)


def test_a_member_that_was_throttled_too_often_fails():
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(2), retry=Retry(0, max_throttles=0)), 2)
    dispatcher.finish(started(dispatcher), None, Throttled(), 0.0)
    assert {outcome.state for outcome in told(dispatcher).values()} == {"dead"}


def test_an_error_of_the_call_is_one_of_each_member():
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(2)), 2)
    error = OSError()
    dispatcher.finish(started(dispatcher), None, error, 1.0)
    assert [outcome.error for outcome in told(dispatcher).values()] == [error, error]


def test_an_answer_that_makes_no_sense_fails_every_member_and_is_not_split():
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(2, on_error="split")), 2)
    dispatcher.finish(started(dispatcher), [1], None, 1.0)
    outcomes = told(dispatcher)
    assert [str(outcomes[id].error) for id in (0, 1)] == [
        "handler must return a sequence of 2, a value or an exception for each item of the batch, got 1: [1]"
    ] * 2


class Hearing(Noting):
    """Note what the limits are told of a call."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, Any]] = []

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        super().give_back(job, outcome, now)
        self.heard.append((outcome.state, type(outcome.error)))


@pytest.mark.parametrize(
    ("answers", "heard"),
    [
        ([1, ValueError()], ("done", type(None))),
        ([KeyError(), ValueError()], ("dead", KeyError)),
        ([1, Throttled(1.0)], ("dead", Throttled)),
        ([], ("dead", ValueError)),
    ],
    ids=["some failed", "all failed", "throttled", "of the wrong length"],
)
def test_limits_are_told_how_the_call_went(answers: list[Any], heard: Any):
    limit = Hearing()
    dispatcher = make(limits=(limit,))
    offered(dispatcher, add(dispatcher, Batch(2)), 2)
    dispatcher.finish(started(dispatcher), answers, None, 1.0)
    assert limit.heard == [heard]


def test_what_runs_on_after_its_attempt_holds_what_it_took():
    limit = Noting(1)
    dispatcher = make(limits=(limit,))
    offered(dispatcher, add(dispatcher, Batch(1)), 2)
    batch = started(dispatcher)
    held = dispatcher.hold(batch)
    dispatcher.finish(batch, None, TimeoutError(), 1.0, holding=True)
    assert list(told(dispatcher)) == [0]
    assert dispatcher.next(1.0) is None
    dispatcher.release(held, None, None, 2.0)
    assert ids(dispatcher.next(2.0)) == [1]


# --- cancelling ------------------------------------------------------------------------------


def test_a_cancelled_member_of_a_running_batch_ends_at_once_and_the_others_go_on():
    dispatcher = make()
    jobs = offered(dispatcher, add(dispatcher, Batch(2)), 2)
    batch = started(dispatcher)
    assert dispatcher.cancel(jobs[0], 1.0)
    (outcome,) = told(dispatcher).values()
    assert (outcome.id, outcome.state, outcome.attempts, outcome.ran) == (0, "cancelled", 1, 1.0)
    assert dispatcher.running == 1
    assert not dispatcher.cancel(jobs[0], 1.0)
    dispatcher.finish(batch, ["a", "b"], None, 2.0)
    assert [(each.id, each.value) for each in told(dispatcher).values()] == [(1, "b")]
    assert (dispatcher.cancelled, dispatcher.done, dispatcher.is_idle) == (1, 1, True)


def test_a_cancelled_batch_cancels_its_members():
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(2, on_error="split"), retry=3), 2)
    error = RuntimeError("cancelled")
    dispatcher.finish(started(dispatcher), None, error, 1.0, cancelled=True)
    assert [(each.state, each.error) for each in told(dispatcher).values()] == [("cancelled", error)] * 2


def test_cancelling_a_batch_that_has_ended_takes_out_those_that_came_back():
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(2), retry=Retry(1, backoff=constant(1))), 2)
    batch = started(dispatcher)
    dispatcher.finish(batch, ["a", OSError()], None, 1.0)
    told(dispatcher)
    assert dispatcher.cancel(batch, 1.0)
    assert list(told(dispatcher)) == [1]
    assert not dispatcher.cancel(batch, 1.0)


def test_halves_whose_members_are_cancelled_are_called_without_them():
    dispatcher = make(capacity=1)
    jobs = offered(dispatcher, add(dispatcher, Batch(4, on_error="split")), 4)
    batch = started(dispatcher)
    dispatcher.cancel(jobs[0], 0.0)
    dispatcher.finish(batch, None, OSError(), 1.0)
    dispatcher.cancel(jobs[3], 1.0)
    assert ids(started(dispatcher, 1.0)) == [1, 2]
    assert (dispatcher.waiting, dispatcher.cancelled) == (0, 2)


def test_dropping_all_leaves_nobody():
    dispatcher = make(capacity=1)
    offered(dispatcher, add(dispatcher, Batch(4, on_error="split")), 6)
    dispatcher.finish(started(dispatcher), None, OSError(), 1.0)
    dispatcher.drop_all(1.0)
    assert dispatcher.is_idle
    assert len(told(dispatcher)) == 6


# --- splitting -------------------------------------------------------------------------------


def split_run(
    bad: set[int], count: int, size: int, **options: Any
) -> tuple[Dispatcher, dict[Any, Any], list[Any]]:
    """Run batches whose calls raise if a bad one is among them."""
    dispatcher = make(capacity=1)
    offered(dispatcher, add(dispatcher, Batch(size, on_error="split"), **options), count)
    dispatcher.close(0.0)
    calls: list[list[Any]] = []
    now = 0.0
    while not dispatcher.is_idle:
        batch = dispatcher.next(now)
        if batch is None:
            now = dispatcher.wake_at
            continue
        calls.append([each.id for each in batch.members])
        error = OSError() if bad & set(calls[-1]) else None
        dispatcher.finish(batch, list(calls[-1]), error, now)
    return dispatcher, told(dispatcher), calls


def test_a_batch_that_raises_is_called_in_halves_until_the_bad_one_is_alone():
    _, outcomes, calls = split_run({5}, 8, 8)
    assert calls == [[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [4], [5], [6, 7]]
    assert {id for id, outcome in outcomes.items() if not outcome.ok} == {5}
    assert {outcome.attempts for outcome in outcomes.values()} == {1}


def test_the_bad_one_is_retried_alone():
    _, outcomes, calls = split_run({1}, 4, 2, retry=Retry(2, backoff=constant(1)))
    assert calls == [[0, 1], [0], [1], [2, 3], [1], [1]]
    assert (outcomes[1].attempts, outcomes[0].attempts) == (3, 1)


@pytest.mark.parametrize("error", [Discard(), RetryLater(1.0), Throttled(1.0), KeyboardInterrupt()])
def test_what_is_meant_for_all_is_not_split(error: BaseException):
    dispatcher = make()
    offered(dispatcher, add(dispatcher, Batch(2, on_error="split"), retry=1), 2)
    dispatcher.finish(started(dispatcher), None, error, 0.0)
    dispatcher.close(0.0)
    batch = dispatcher.next(1.0)
    assert ids(batch) == (None if isinstance(error, (Discard, KeyboardInterrupt)) else [0, 1])


def test_a_split_job_too_late_for_its_retry_ends_with_its_error():
    dispatcher = make(capacity=1)
    retry = Retry(1, backoff=constant(0), deadline=2.0)
    offered(dispatcher, add(dispatcher, Batch(2), retry=retry), 4)
    first = started(dispatcher)
    error = OSError()
    dispatcher.finish(first, [error, "b"], None, 1.0)
    told(dispatcher)
    other = started(dispatcher, 1.0)
    assert ids(other) == [0, 2]
    dispatcher.finish(other, [1, error], None, 1.0)
    other = started(dispatcher, 1.0)
    assert ids(other) == [2, 3]
    told(dispatcher)


def test_members_that_are_too_late_for_another_attempt_end_and_the_rest_start():
    limit = Until(5.0)
    dispatcher = make(limits=(limit,))
    retry = Retry(1, backoff=constant(0), deadline=2.0)
    task = add(dispatcher, Batch(2), retry=retry)
    limit.at = 0.0
    offered(dispatcher, task, 3)
    error = OSError()
    dispatcher.finish(started(dispatcher), [error, error], None, 1.0)
    limit.at = 5.0
    assert dispatcher.next(1.0) is None
    dispatcher.close(1.0)
    assert ids(dispatcher.next(5.0)) == [2]
    assert {id: outcome.error for id, outcome in told(dispatcher).items()} == {0: error, 1: error}


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.data())
def test_splitting_finds_exactly_the_bad_ones_with_few_calls(count: int, size: int, data: Any):
    bad = data.draw(st.sets(st.integers(0, count - 1), max_size=4))
    dispatcher, outcomes, calls = split_run(bad, count, size)
    assert {id for id, outcome in outcomes.items() if not outcome.ok} == bad
    assert sorted(outcomes) == list(range(count))
    whole = -(-count // size)
    levels = max(1, (size - 1).bit_length())
    assert len(calls) <= whole + 2 * len(bad) * levels
    assert dispatcher.is_idle


# --- whatever happens ------------------------------------------------------------------------


class Answering(Dispatcher):
    """Answer for the handler: each member by itself, or the call as a whole."""

    answer: Callable[[Job[Any]], tuple[Any, BaseException | None]]

    def finish(self, job: Job[Any], value: Any, error: BaseException | None, *args: Any, **more: Any) -> Any:
        if error is None:
            value, error = self.answer(job)
        return super().finish(job, value, error, *args, **more)


RESULTS: dict[str, Callable[[], Any]] = {
    "ok": lambda: 1, "fail": OSError, "throttled": lambda: Throttled(0.5), "later": lambda: RetryLater(0.25),
    "discard": Discard,
}  # fmt: skip


@st.composite
def plans(draw: Any) -> dict[str, Any]:
    eighths = st.integers(0, 32).map(lambda n: n / 8)
    count = draw(st.integers(1, 16))
    return {
        "batch": Batch(
            draw(st.integers(1, 5)), within=draw(st.sampled_from([None, 0.0, 0.75])),
            max_cost=draw(st.sampled_from([None, 3.0])), on_error=draw(st.sampled_from(["fail", "split"])),
        ),
        "capacity": draw(st.sampled_from([1, 2, inf])),
        "limit": draw(st.sampled_from([None, 1])),
        "order": draw(st.sampled_from(sorted(ORDERS))),
        "retry": Retry(draw(st.integers(0, 2)), backoff=constant(draw(st.sampled_from([0, 0.5])))),
        "jobs": [
            (
                draw(eighths), draw(st.sampled_from([None, "a", "b"])), draw(st.sampled_from([1.0, 1.0, 0.5, 2.0, 7.0])),
                draw(st.lists(st.sampled_from(sorted(RESULTS)), max_size=3)), draw(st.none() | eighths),
            )
            for _ in range(count)
        ],
        "raises": draw(st.sets(st.integers(0, 7))),
        "seconds": draw(st.sampled_from([0.0, 0.5])),
    }  # fmt: skip


def play(plan: dict[str, Any], asked: bool) -> tuple[Any, list[list[Any]]]:
    limit = None if plan["limit"] is None else Noting(plan["limit"])
    dispatcher = Answering(
        rng=make()._rng, capacity=plan["capacity"], limits=() if limit is None else (limit,)
    )
    task = add(dispatcher, plan["batch"], order=plan["order"], retry=plan["retry"], uses_lanes=True)
    calls: list[list[Any]] = []
    attempts: Counter[Any] = Counter()

    def answer(batch: Job[Any]) -> tuple[Any, BaseException | None]:
        number = len(calls)
        calls.append([each.id for each in batch.members])
        assert len(batch.members) <= plan["batch"].size
        if plan["batch"].max_cost is not None and len(batch.members) > 1:
            assert batch.cost <= plan["batch"].max_cost
        assert len({each.lane for each in batch.members}) == 1
        if number in plan["raises"]:
            return None, OSError("the call")
        answers = []
        for each in batch.members:
            results = plan["jobs"][each.index][3]
            attempts[each.id] += 1
            place = attempts[each.id] - 1
            answers.append(RESULTS[results[place] if place < len(results) else "ok"]())
        return answers, None

    dispatcher.answer = answer
    jobs, arrivals, cancels = [], [], []
    for number, (at, lane, cost, _, cancelled_at) in enumerate(plan["jobs"]):
        each = job(task, number, lane, priority=number % 3)
        each.cost = cost
        jobs.append(each)
        arrivals.append((at, each))
        if cancelled_at is not None:
            cancels.append((max(at + 0.125, cancelled_at), each))
    calls_at = [(n / 16, lambda _now: None) for n in range(16 * 8 if asked else 0)]
    result = run(
        dispatcher, sorted(arrivals, key=lambda entry: entry[0]), plan["seconds"],
        cancels=sorted(cancels, key=lambda entry: entry[0]),
        calls=[*calls_at, (8.0, dispatcher.close)],
    )  # fmt: skip
    assert sorted(outcome.index for outcome in result.outcomes) == list(range(len(jobs)))
    assert (dispatcher.running, dispatcher.waiting, dispatcher.scheduled) == (0, 0, 0)
    assert dispatcher.done + dispatcher.failed + dispatcher.cancelled == len(jobs)
    assert limit is None or limit.running == 0
    assert dispatcher.batches is not None
    assert not dispatcher.batches.open
    for outcome in result.outcomes:
        assert outcome.attempts <= plan["retry"].times + 1
        assert sum(outcome.waits.values()) == outcome.waited
        assert "turn" not in outcome.waits
    gates = dispatcher.gates._gates.values()
    assert not any(gate.waiters or gate.awake for gate in gates)
    return result, calls


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(plans())
def test_whatever_happens_nobody_is_lost_doubled_or_starved(plan: dict[str, Any]):
    result, calls = play(plan, asked=False)
    asked, same = play(plan, asked=True)
    assert (asked.trace, same) == (result.trace, calls)


def test_the_fields_of_an_order_are_handed_on():
    class Ordered(Fifo):
        by_priority = True

        def bind(self, rng: Any) -> None:
            self.rng = rng

    made: list[Ordered] = []

    def make_order() -> Ordered:
        made.append(Ordered())
        return made[-1]

    dispatcher = make()
    task = dispatcher.add_task("task", None, make_order=make_order, retry=Retry(0), batch=Batch(2))
    dispatcher.offer(job(task, 0), 0.0)
    gathering = task.node.lanes[None].order
    gathering.bind("a source")
    assert (gathering.by_priority, made[0].rng) == (True, "a source")
    plain = add(dispatcher, Batch(2))
    dispatcher.offer(job(plain, 0), 0.0)
    plain.node.lanes[None].order.bind("a source")
    assert plain.node.lanes[None].order.by_priority is False
