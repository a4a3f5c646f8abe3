"""Who starts when: orders, limits at every level, several tasks, and the counts of it all."""

from __future__ import annotations

from math import inf

import pytest

from qanat._core.backoff import constant
from qanat._core.limits import Concurrency, SlidingWindow, Spacing, TokenBucket
from qanat._core.orders import Fifo, Lifo, Priority
from qanat._core.retry import Retry
from qanat.errors import JobCancelledError
from tests._core.dispatcher.world import (
    Noting,
    Until,
    add,
    at_zero,
    begin,
    job,
    make,
    order_of,
    outcomes_by_id,
    run,
    starts,
)


@pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
class TestOrders:
    """The same start times, whether the lane is alone or takes turns."""

    def test_fifo_serves_who_came_first(self, with_lanes: bool):
        dispatcher = make(capacity=2)
        task = add(dispatcher, uses_lanes=with_lanes)
        result = run(dispatcher, at_zero(*(job(task, id) for id in range(5))))
        assert starts(result) == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0), (4, 2.0)]

    def test_lifo_serves_the_newest(self, with_lanes: bool):
        dispatcher = make(capacity=1)
        task = add(dispatcher, order=Lifo, uses_lanes=with_lanes)
        arrivals = [(0.0, job(task, 0)), (0.25, job(task, 1)), (0.5, job(task, 2)), (1.5, job(task, 3))]
        assert starts(run(dispatcher, arrivals)) == [(0, 0.0), (2, 1.0), (3, 2.0), (1, 3.0)]

    def test_priority_serves_the_smallest(self, with_lanes: bool):
        dispatcher = make(capacity=1)
        task = add(dispatcher, order=Priority(), uses_lanes=with_lanes)
        jobs = [job(task, id, priority=priority) for id, priority in enumerate([5, 3, 1, 3])]
        assert order_of(run(dispatcher, at_zero(*jobs))) == [2, 1, 3, 0]

    def test_arrivals_start_at_once_while_a_slot_is_free(self, with_lanes: bool):
        dispatcher = make(capacity=2)
        task = add(dispatcher, uses_lanes=with_lanes)
        arrivals = [(0.125 * id, job(task, id)) for id in range(3)]
        assert starts(run(dispatcher, arrivals)) == [(0, 0.0), (1, 0.125), (2, 1.0)]

    def test_a_finish_comes_before_an_arrival_of_the_same_time(self, with_lanes: bool):
        dispatcher = make(capacity=1)
        task = add(dispatcher, uses_lanes=with_lanes)
        assert starts(run(dispatcher, [(0.0, job(task, 0)), (1.0, job(task, 1))])) == [(0, 0.0), (1, 1.0)]

    def test_a_job_that_falls_due_comes_before_an_arrival_of_the_same_time(self, with_lanes: bool):
        dispatcher = make(capacity=1)
        task = add(dispatcher, uses_lanes=with_lanes)
        dispatcher.offer(job(task, "due"), 0.0, delay=2.0)
        assert dispatcher.next(0.0) is None
        dispatcher.offer(job(task, "arrived"), 2.0)
        started = dispatcher.next(2.0)
        assert started is not None
        assert started.id == "due"

    def test_a_job_that_fell_due_while_nobody_asked_comes_before_a_later_arrival(self, with_lanes: bool):
        dispatcher = make(capacity=1)
        task = add(dispatcher, uses_lanes=with_lanes)
        first = job(task, "first")
        dispatcher.offer(first, 0.0)
        assert dispatcher.next(0.0) is first
        dispatcher.offer(job(task, "due"), 0.0, delay=2.0)
        dispatcher.offer(job(task, "arrived"), 3.0)
        dispatcher.finish(first, None, None, 5.0)
        started = dispatcher.next(5.0)
        assert started is not None
        assert started.id == "due"

    def test_delayed_job_starts_when_it_falls_due(self, with_lanes: bool):
        dispatcher = make()
        task = add(dispatcher, uses_lanes=with_lanes)
        dispatcher.offer(job(task, 0), 0.0, delay=2.5)
        assert (dispatcher.scheduled, dispatcher.waiting) == (1, 0)
        assert dispatcher.next(0.0) is None
        assert dispatcher.wake_at == 2.5
        assert dispatcher.next(2.25) is None
        assert begin(dispatcher, 2.5) == [0]
        assert (dispatcher.scheduled, dispatcher.waiting, dispatcher.running) == (0, 0, 1)

    def test_time_never_runs_backwards(self, with_lanes: bool):
        dispatcher = make(capacity=1)
        task = add(dispatcher, uses_lanes=with_lanes)
        first, second = job(task, 0), job(task, 1)
        dispatcher.offer(first, 5.0)
        dispatcher.offer(second, 4.0)
        assert second.offered_at == 5.0
        assert dispatcher.next(3.0) is first
        assert first.started_at == 5.0
        outcome = dispatcher.finish(first, None, None, 2.0)
        assert outcome is not None
        assert outcome.ended_at == 5.0
        dispatcher.close(1.0)
        assert dispatcher.now == 5.0

    def test_jobs_offered_together_are_jobs_offered_one_by_one(self, with_lanes: bool):
        for make_order in (Fifo, Lifo):
            dispatcher = make(capacity=1)
            task = add(dispatcher, order=make_order, uses_lanes=with_lanes)
            jobs = [job(task, id) for id in range(3)]
            for each in jobs:
                each._status = 1
                each.offered_at = 2.0
            dispatcher.offer_all(jobs, 2.0)
            assert (dispatcher.waiting, dispatcher.now) == (3, 2.0)
            expected = [0, 1, 2] if make_order is Fifo else [2, 1, 0]
            assert starts(run(dispatcher, [])) == [(id, 2.0 + n) for n, id in enumerate(expected)]


class TestLimits:
    def test_sliding_window_spreads_the_starts(self):
        dispatcher = make(limits=(SlidingWindow(2, 1.0),))
        task = add(dispatcher)
        result = run(dispatcher, at_zero(*(job(task, id) for id in range(5))), 0.25)
        assert [at for _, at in starts(result)] == [0.0, 0.0, 1.0, 1.0, 2.0]

    def test_spacing_keeps_its_gap(self):
        dispatcher = make()
        task = add(dispatcher, limits=(Spacing(0.5),))
        result = run(dispatcher, at_zero(*(job(task, id) for id in range(3))))
        assert [at for _, at in starts(result)] == [0.0, 0.5, 1.0]

    def test_spacing_after_a_finish_waits_for_it(self):
        dispatcher = make()
        task = add(dispatcher, limits=(Spacing(0.5, after="finish"),))
        result = run(dispatcher, at_zero(*(job(task, id) for id in range(3))))
        assert [at for _, at in starts(result)] == [0.0, 1.5, 3.0]

    def test_concurrency_as_a_limit_is_the_same_as_slots(self):
        dispatcher = make(limits=(Concurrency(2),))
        task = add(dispatcher)
        result = run(dispatcher, at_zero(*(job(task, id) for id in range(5))))
        assert starts(result) == [(0, 0.0), (1, 0.0), (2, 1.0), (3, 1.0), (4, 2.0)]

    def test_several_limits_all_hold(self):
        limits = (Concurrency(2), TokenBucket(1.0, burst=3), Spacing(0.25))
        dispatcher = make(limits=limits)
        task = add(dispatcher)
        result = run(dispatcher, at_zero(*(job(task, id) for id in range(5))), 0.5)
        assert [at for _, at in starts(result)] == [0.0, 0.25, 0.5, 1.0, 2.0]

    def test_limits_hold_on_lane_task_and_root_at_once(self):
        dispatcher = make(limits=(SlidingWindow(3, 4.0),))
        task = add(dispatcher, limits=(Spacing(0.5),), lane_limits=lambda _lane: SlidingWindow(1, 2.0))
        jobs = [job(task, f"{lane}{n}", lane) for lane in "ab" for n in range(2)]
        result = run(dispatcher, at_zero(*jobs), 0.25)
        assert starts(result) == [("a0", 0.0), ("b0", 0.5), ("a1", 2.0), ("b1", 4.0)]

    def test_nothing_is_taken_when_one_says_no(self):
        yes, no = Noting(), Until(5.0)
        dispatcher = make(limits=(no,))
        task = add(dispatcher, limits=(yes,), lane_limits=lambda _lane: Noting())
        dispatcher.offer(job(task, 0, "a"), 0.0)
        assert dispatcher.next(0.0) is None
        assert yes.taken == []
        assert begin(dispatcher, 5.0) == [0]
        assert yes.taken == [(0, 5.0)]

    def test_each_take_is_given_back_once(self):
        limit = Noting(2)
        dispatcher = make(limits=(limit,))
        task = add(dispatcher, retry=1)
        run(
            dispatcher,
            at_zero(*(job(task, id) for id in range(4))),
            failures=lambda each, _rng: OSError() if each.attempt == 1 else None,
        )
        assert len(limit.taken) == len(limit.given) == 8
        assert limit.running == 0

    @pytest.mark.parametrize("level", ["task", "root"])
    def test_nobody_overtakes_at_an_ancestors_limit(self, level: str):
        def picky(job_id: object) -> float:
            return 3.0 if job_id == "a" else 0.0

        limit = Until(lambda each: picky(each.id))
        dispatcher = make(limits=(limit,) if level == "root" else ())
        task = add(dispatcher, limits=(limit,) if level == "task" else (), uses_lanes=True)
        result = run(dispatcher, at_zero(job(task, "a", 1), job(task, "b", 2), job(task, "c", 3)))
        assert starts(result) == [("a", 3.0), ("b", 3.0), ("c", 3.0)]

    def test_a_blocked_lane_never_blocks_another(self):
        dispatcher = make()
        task = add(dispatcher, lane_limits=lambda lane: Until(9.0) if lane == "slow" else ())
        jobs = [job(task, 0, "slow"), job(task, 1, "slow"), job(task, 2, "quick"), job(task, 3)]
        assert starts(run(dispatcher, at_zero(*jobs))) == [(2, 0.0), (3, 0.0), (0, 9.0), (1, 9.0)]

    def test_a_blocked_task_never_blocks_another(self):
        dispatcher = make()
        slow, quick = add(dispatcher, "slow", limits=(Until(9.0),)), add(dispatcher, "quick")
        assert starts(run(dispatcher, at_zero(job(slow, 0), job(quick, 1)))) == [(1, 0.0), (0, 9.0)]

    def test_limits_of_a_lane_are_made_once_in_its_life(self):
        made: list[object] = []

        def lane_limits(lane: object) -> list[Concurrency]:
            made.append(lane)
            return [Concurrency(1)]

        dispatcher = make()
        task = add(dispatcher, lane_limits=lane_limits)
        run(dispatcher, at_zero(*(job(task, id, id % 2) for id in range(6))))
        assert made == [0, 1]

    def test_a_limit_that_changes_while_it_is_taken_is_heard(self):
        class Restless(Noting):
            def take(self, job, now):
                super().take(job, now)
                self.changed()

        limit = Restless(1)
        dispatcher = make(limits=(limit,))
        task = add(dispatcher)
        result = run(dispatcher, at_zero(*(job(task, id) for id in range(3))))
        assert starts(result) == [(0, 0.0), (1, 1.0), (2, 2.0)]

    def test_a_limit_of_the_users_may_have_no_hash(self):
        class Unhashable(Noting):
            __hash__ = None  # type: ignore[assignment]

            def __eq__(self, other: object) -> bool:
                return True

        first, second = Unhashable(1), Unhashable(1)
        dispatcher = make(limits=(first,))
        task = add(dispatcher, limits=(second,))
        result = run(dispatcher, at_zero(*(job(task, id) for id in range(3))))
        assert starts(result) == [(0, 0.0), (1, 1.0), (2, 2.0)]

    def test_a_head_that_is_cancelled_does_not_hold_up_the_next_with_its_own_time(self):
        limit = Until(lambda each: 50.0 if each.id == "heavy" else 1.0)
        for options in ({"limits": (limit,)}, {"lane_limits": lambda _lane: limit}, {}):
            dispatcher = make(limits=() if options else (limit,))
            task = add(dispatcher, **options)
            heavy = job(task, "heavy", "a")
            result = run(dispatcher, at_zero(heavy, job(task, "light", "a")), cancels=[(0.5, heavy)])
            assert starts(result) == [("light", 1.0)]

    def test_an_urgent_arrival_is_asked_for_itself(self):
        limit = Until(lambda each: 50.0 if each.id == "heavy" else 1.0)
        for options in ({"limits": (limit,)}, {"lane_limits": lambda _lane: limit}, {}):
            dispatcher = make(limits=() if options else (limit,))
            task = add(dispatcher, order=Priority(), **options)
            arrivals = [(0.0, job(task, "heavy", "a", priority=1)), (0.5, job(task, "urgent", "a"))]
            assert starts(run(dispatcher, arrivals)) == [("urgent", 1.0), ("heavy", 50.0)]


class TestBrokenLimits:
    def test_error_of_ready_at_ends_the_job(self):
        broken = Until(lambda each: 1 / each.index)
        dispatcher = make(limits=(broken,))
        task = add(dispatcher)
        result = run(dispatcher, at_zero(job(task, 0), job(task, 1)))
        ends = outcomes_by_id(result)
        assert isinstance(ends[0].error, ZeroDivisionError)
        assert (ends[0].state, ends[0].attempts, ends[0].started_at) == ("dead", 0, None)
        assert ends[1].ok

    @pytest.mark.parametrize("answer", [float("nan"), None, "soon"])
    def test_an_answer_that_is_no_time_ends_the_job(self, answer: object):
        dispatcher = make(limits=(Until(lambda _each: answer),))  # type: ignore[arg-type,return-value]
        task = add(dispatcher)
        (outcome,) = run(dispatcher, at_zero(job(task, 0))).outcomes
        assert isinstance(outcome.error, TypeError | ValueError)
        assert outcome.state == "dead"

    def test_nan_is_refused_in_words(self):
        dispatcher = make(limits=(Until(float("nan")),))
        (outcome,) = run(dispatcher, at_zero(job(add(dispatcher), 0))).outcomes
        assert str(outcome.error) == "until.ready_at must return a time, got nan"

    def test_error_of_take_gives_back_what_was_taken(self):
        class Broken(Noting):
            def take(self, job, now):
                raise OSError("no")

        before, after = Noting(1), Noting(1)
        dispatcher = make(limits=(after,))
        task = add(dispatcher, limits=(Broken(),), lane_limits=lambda _lane: before)
        result = run(dispatcher, at_zero(job(task, 0, "a"), job(task, 1, "a")))
        assert [type(outcome.error) for outcome in result.outcomes] == [OSError, OSError]
        assert [id for id, _ in before.given] == [0, 1]
        assert (after.taken, after.given) == ([], [])
        assert (dispatcher.running, dispatcher.failed) == (0, 2)

    def test_an_interrupt_of_take_goes_on_with_nothing_taken(self):
        class Interrupted(Noting):
            def take(self, job, now):
                raise KeyboardInterrupt

        before = Noting(1)
        dispatcher = make(limits=(Interrupted(),))
        task = add(dispatcher, limits=(before,))
        dispatcher.offer(job(task, 0), 0.0)
        with pytest.raises(KeyboardInterrupt):
            dispatcher.next(0.0)
        assert before.running == 0
        assert (dispatcher.waiting, dispatcher.running) == (1, 0)

    def test_error_of_give_back_leaves_the_outcome_and_is_told(self):
        class Broken(Noting):
            def give_back(self, job, outcome, now):
                raise OSError("no")

        faults: list[Exception] = []
        other = Noting()
        dispatcher = make(limits=(Broken(), other), on_fault=lambda fault, _: faults.append(fault))
        (outcome,) = run(dispatcher, at_zero(job(add(dispatcher), 0))).outcomes
        assert outcome.ok
        assert [type(fault) for fault in faults] == [OSError]
        assert other.given == [(0, 1.0)]

    def test_fault_that_nobody_wants_to_hear_of_passes(self):
        class Broken(Noting):
            def give_back(self, job, outcome, now):
                raise OSError("no")

        dispatcher = make(limits=(Broken(),))
        assert run(dispatcher, at_zero(job(add(dispatcher), 0))).outcomes[0].ok

    def test_error_of_lane_limits_ends_the_jobs_of_that_lane(self):
        def lane_limits(lane: object) -> list[Concurrency]:
            if lane == "bad":
                raise LookupError(lane)
            return []

        dispatcher = make()
        task = add(dispatcher, lane_limits=lane_limits)
        ends = outcomes_by_id(run(dispatcher, at_zero(job(task, 0, "bad"), job(task, 1, "good"))))
        assert isinstance(ends[0].error, LookupError)
        assert ends[1].ok


class TestTasks:
    def test_tasks_take_turns(self):
        dispatcher = make(capacity=1)
        first, second = add(dispatcher, "first"), add(dispatcher, "second")
        jobs = [job(first, f"a{n}") for n in range(3)] + [job(second, f"b{n}") for n in range(3)]
        assert order_of(run(dispatcher, at_zero(*jobs))) == ["a0", "b0", "a1", "b1", "a2", "b2"]

    def test_lanes_take_turns(self):
        dispatcher = make(capacity=1)
        task = add(dispatcher, uses_lanes=True)
        jobs = [job(task, f"{lane}{n}", lane) for lane in "abc" for n in range(2)]
        assert order_of(run(dispatcher, at_zero(*jobs))) == ["a0", "b0", "c0", "a1", "b1", "c1"]

    def test_a_task_takes_as_many_turns_as_another_however_many_lanes_it_has(self):
        dispatcher = make(capacity=1)
        many, one = add(dispatcher, "many", uses_lanes=True), add(dispatcher, "one")
        jobs = [job(many, f"m{lane}", lane) for lane in range(3)] + [job(one, f"o{n}") for n in range(3)]
        assert order_of(run(dispatcher, at_zero(*jobs))) == ["m0", "o0", "m1", "o1", "m2", "o2"]

    def test_dropping_a_task_lets_go_of_its_limits(self):
        shared = Concurrency(1)
        dispatcher = make()
        add(dispatcher, "stays")
        task = add(dispatcher, "goes", lane_limits=lambda _lane: shared, limits=(own := Concurrency(1),))
        run(dispatcher, at_zero(*(job(task, id, id % 2) for id in range(6))))
        dispatcher.drop_task(task)
        assert (len(shared._listeners), len(own._listeners), len(dispatcher.gates)) == (0, 0, 0)


class TestSharedLimits:
    def test_two_dispatchers_share_one_limit(self):
        limit, woken = Noting(1), list[str]()
        one = make(limits=(limit,), notify=lambda: woken.append("one"))
        two = make(limits=(limit,), notify=lambda: woken.append("two"))
        first, second = job(add(one), 1), job(add(two), 2)
        one.offer(first, 0.0)
        two.offer(second, 0.0)
        assert one.next(0.0) is first
        assert two.next(0.0) is None
        assert two.wake_at == inf
        one.finish(first, None, None, 1.0)
        assert woken == ["two"]
        assert two.wake_at == two.now
        assert two.next(1.0) is second

    def test_a_dispatcher_that_is_detached_hears_no_more(self):
        limit, woken = Noting(1), list[str]()
        one, two = make(limits=(limit,)), make(limits=(limit,), notify=lambda: woken.append("two"))
        first = job(add(one), 1)
        one.offer(first, 0.0)
        two.offer(job(add(two), 2), 0.0)
        assert (one.next(0.0), two.next(0.0)) == (first, None)
        two.detach()
        one.finish(first, None, None, 1.0)
        assert woken == []
        assert limit._listeners == []


class TestEnding:
    def test_counts_add_up(self):
        dispatcher = make(capacity=1)
        task = add(dispatcher, retry=1)
        good, bad, gone = job(task, "good"), job(task, "bad"), job(task, "gone")
        run(
            dispatcher,
            at_zero(good, bad, gone),
            failures=lambda each, _rng: OSError() if each is bad else None,
            cancels=[(0.5, gone)],
        )
        counts = (dispatcher.done, dispatcher.failed, dispatcher.cancelled, dispatcher.retried)
        assert counts == (1, 1, 1, 1)
        assert dispatcher.is_idle

    def test_a_refused_job_ends_as_it_arrives(self):
        dispatcher = make()
        each, error = job(add(dispatcher), 0), ValueError("no")
        dispatcher.refuse(each, error, 3.0)
        ((ended, outcome),) = dispatcher.ended
        assert ended is each
        assert (outcome.error, outcome.state) == (error, "dead")
        assert (outcome.offered_at, outcome.ended_at) == (3.0, 3.0)
        assert (dispatcher.failed, dispatcher.is_idle) == (1, True)

    @pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
    def test_a_waiting_job_is_cancelled(self, with_lanes: bool):
        dispatcher = make(capacity=1)
        task = add(dispatcher, uses_lanes=with_lanes)
        jobs = [job(task, id) for id in range(3)]
        result = run(dispatcher, at_zero(*jobs), cancels=[(0.5, jobs[1])])
        assert starts(result) == [(0, 0.0), (2, 1.0)]
        outcome = outcomes_by_id(result)[1]
        assert isinstance(outcome.error, JobCancelledError)
        assert (outcome.state, outcome.attempts) == ("cancelled", 0)
        assert (outcome.started_at, outcome.ended_at) == (None, 0.5)

    @pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
    def test_a_scheduled_job_is_cancelled(self, with_lanes: bool):
        dispatcher = make()
        each = job(add(dispatcher, uses_lanes=with_lanes), 0)
        dispatcher.offer(each, 0.0, delay=5.0)
        assert dispatcher.cancel(each, 2.0)
        ((_, outcome),) = dispatcher.ended
        assert (outcome.state, outcome.waits) == ("cancelled", {"delay": 2.0})
        assert (dispatcher.wake_at, dispatcher.is_idle) == (inf, True)
        assert dispatcher.next(5.0) is None

    @pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
    def test_a_job_that_runs_or_has_ended_is_not_cancelled_here(self, with_lanes: bool):
        dispatcher = make()
        each = job(add(dispatcher, uses_lanes=with_lanes), 0)
        dispatcher.offer(each, 0.0)
        assert dispatcher.next(0.0) is each
        assert not dispatcher.cancel(each, 0.5)
        dispatcher.finish(each, None, None, 1.0)
        assert not dispatcher.cancel(each, 2.0)
        assert dispatcher.ended == []

    @pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
    def test_a_running_job_that_was_cancelled_is_not_tried_again(self, with_lanes: bool):
        dispatcher = make()
        each = job(add(dispatcher, retry=3, uses_lanes=with_lanes), 0)
        (outcome,) = run(dispatcher, at_zero(each), cancels=[(0.5, each)]).outcomes
        assert (outcome.state, outcome.attempts, outcome.ended_at) == ("cancelled", 1, 0.5)
        assert dispatcher.running == 0

    @pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
    def test_dropping_all_cancels_what_waits_and_what_is_scheduled(self, with_lanes: bool):
        dispatcher = make(capacity=1)
        task = add(dispatcher, uses_lanes=with_lanes)
        jobs = [job(task, id, id % 2 if with_lanes else None) for id in range(5)]
        for each in jobs:
            dispatcher.offer(each, 0.0, delay=9.0 if each.id == 4 else 0.0)
        assert dispatcher.next(0.0) is jobs[0]
        dispatcher.drop_all(1.0)
        assert sorted(outcome.index for _, outcome in dispatcher.ended) == [1, 2, 3, 4]
        assert {outcome.state for _, outcome in dispatcher.ended} == {"cancelled"}
        assert (dispatcher.waiting, dispatcher.scheduled, dispatcher.running) == (0, 0, 1)
        dispatcher.finish(jobs[0], None, None, 2.0)
        assert dispatcher.is_idle

    def test_closing_is_said_and_waits_for_nothing(self):
        dispatcher = make()
        task = add(dispatcher)
        dispatcher.offer(job(task, 0), 0.0)
        dispatcher.close(1.0)
        assert (dispatcher.closed, dispatcher.is_idle) == (True, False)
        assert begin(dispatcher, 1.0) == [0]

    def test_each_offered_job_is_idle_no_more_until_it_ends(self):
        dispatcher = make()
        each = job(add(dispatcher), 0)
        assert dispatcher.is_idle
        dispatcher.offer(each, 0.0, delay=1.0)
        assert not dispatcher.is_idle
        assert dispatcher.next(1.0) is each
        assert not dispatcher.is_idle
        dispatcher.finish(each, None, None, 2.0)
        assert dispatcher.is_idle


@pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
class TestHolding:
    """A handler that goes on in its thread after its attempt timed out keeps what it took."""

    def test_what_is_held_stays_taken_until_it_is_released(self, with_lanes: bool):
        limit = Noting(1)
        dispatcher = make(limits=(limit,) if with_lanes else (), capacity=1)
        task = add(dispatcher)
        first, second = job(task, 1), job(task, 2)
        dispatcher.offer(first, 0.0)
        dispatcher.offer(second, 0.0)
        assert dispatcher.next(0.0) is first
        held = dispatcher.hold(first)
        outcome = dispatcher.finish(first, None, TimeoutError(), 1.0, holding=True)
        assert outcome is not None
        assert outcome.state == "dead"
        assert (dispatcher.running, dispatcher.next(1.0)) == (1, None)
        dispatcher.release(held, None, None, 3.0)
        assert dispatcher.running == 0
        assert dispatcher.next(3.0) is second
        assert limit.given == ([(1, 3.0)] if with_lanes else [])

    def test_the_job_may_run_again_while_its_last_attempt_is_held(self, with_lanes: bool):
        limit = Noting(2)
        dispatcher = make(limits=(limit,) if with_lanes else (), capacity=2)
        each = job(add(dispatcher, retry=Retry(1, backoff=constant(1))), 1)
        dispatcher.offer(each, 0.0)
        assert dispatcher.next(0.0) is each
        held = dispatcher.hold(each)
        assert dispatcher.finish(each, None, TimeoutError(), 1.0, holding=True) is None
        assert dispatcher.next(2.0) is each
        assert (dispatcher.running, each.attempt) == (2, 2)
        dispatcher.release(held, None, OSError(), 3.0)
        assert dispatcher.running == 1
        outcome = dispatcher.finish(each, None, None, 4.0)
        assert outcome is not None
        assert (outcome.attempts, outcome.ok) == (2, True)
        assert (dispatcher.running, limit.running) == (0, 0)


@pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
class TestResizing:
    def test_more_start_at_once_when_it_grows(self, with_lanes: bool):
        dispatcher = make(capacity=1)
        task = add(dispatcher, uses_lanes=with_lanes)
        jobs = [job(task, id) for id in range(4)]
        result = run(dispatcher, at_zero(*jobs), calls=[(0.5, lambda now: dispatcher.resize(3, now))])
        assert starts(result) == [(0, 0.0), (1, 0.5), (2, 0.5), (3, 1.0)]

    def test_nothing_starts_until_fewer_run_when_it_shrinks(self, with_lanes: bool):
        dispatcher = make(capacity=3)
        task = add(dispatcher, uses_lanes=with_lanes)
        jobs = [job(task, id) for id in range(5)]
        seconds: dict[int | str, float] = {0: 1.0, 1: 2.0, 2: 3.0}
        result = run(
            dispatcher, at_zero(*jobs), seconds, calls=[(0.5, lambda now: dispatcher.resize(1, now))]
        )
        assert starts(result) == [(0, 0.0), (1, 0.0), (2, 0.0), (3, 3.0), (4, 4.0)]


@pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
class TestPausing:
    def test_nothing_starts_until_it_resumes(self, with_lanes: bool):
        dispatcher = make(capacity=1)
        task = add(dispatcher, uses_lanes=with_lanes)
        result = run(
            dispatcher,
            at_zero(job(task, 0), job(task, 1)),
            calls=[(0.5, dispatcher.pause), (4.0, dispatcher.resume)],
        )
        assert starts(result) == [(0, 0.0), (1, 4.0)]

    def test_pausing_twice_is_pausing_once(self, with_lanes: bool):
        dispatcher = make()
        task = add(dispatcher, uses_lanes=with_lanes)
        dispatcher.pause(0.0)
        dispatcher.pause(1.0)
        dispatcher.offer(job(task, 0), 1.0)
        assert (dispatcher.next(1.0), dispatcher.wake_at, dispatcher.is_paused) == (None, inf, True)
        dispatcher.resume(2.0)
        dispatcher.resume(3.0)
        assert begin(dispatcher, 3.0) == [0]

    def test_jobs_that_fall_due_meanwhile_start_when_it_resumes(self, with_lanes: bool):
        dispatcher = make()
        each = job(add(dispatcher, uses_lanes=with_lanes), 0)
        dispatcher.offer(each, 0.0, delay=2.0)
        dispatcher.pause(1.0)
        dispatcher.resume(5.0)
        assert dispatcher.next(5.0) is each
        outcome = dispatcher.finish(each, None, None, 6.0)
        assert outcome is not None
        assert outcome.waits == {"delay": 2.0, "paused": 3.0}


@pytest.mark.parametrize("with_lanes", [False, True], ids=["alone", "in turns"])
def test_may_start_more_says_when_asking_is_of_no_use(with_lanes: bool):
    dispatcher = make(capacity=2)
    task = add(dispatcher, uses_lanes=with_lanes)
    assert not dispatcher.may_start_more
    jobs = [job(task, id) for id in range(3)]
    for each in jobs:
        dispatcher.offer(each, 0.0)
    assert dispatcher.may_start_more
    assert dispatcher.next(0.0) is jobs[0]
    assert dispatcher.may_start_more
    assert dispatcher.next(0.0) is jobs[1]
    assert not dispatcher.may_start_more
