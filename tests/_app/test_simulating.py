"""`simulate`: the rules of a run on a time that jumps."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

import qanat
from qanat import Concurrency, Simulation, SlidingWindow, Spacing, Throttled
from qanat._app.simulation import Percentiles, Slice, Step
from qanat._core.dispatcher import Dispatcher


def test_a_rate_decides_how_long_it_takes():
    simulation = qanat.simulate(900, latency=0.5, concurrency=20, rate="300/15m")
    # Twenty at once: the last of a window's 300 start 14 half seconds after its first.
    assert simulation.makespan == 1800.0 + 7.0 + 0.5
    assert simulation.outcomes == {"done": 900, "dead": 0, "cancelled": 0}
    assert simulation.throughput == 900 / 1807.5
    assert simulation.most_running == 20


def test_the_trace_tells_starts_and_ends():
    simulation = qanat.simulate(
        2, latency=1.0, concurrency=1, retry=qanat.Retry(1, backoff=qanat.constant(0.5)),
        failures=lambda item, _rng, attempt: OSError() if (item, attempt) == (0, 1) else None,
    )  # fmt: skip
    assert list(simulation.trace) == [
        Step(0.0, "start", 0, 1), Step(1.0, "again", 0, 1), Step(1.0, "start", 1, 1),
        Step(2.0, "end", 1, 1), Step(2.0, "start", 0, 2), Step(3.0, "end", 0, 2),
    ]  # fmt: skip
    assert simulation.trace[1:2] == [Step(1.0, "again", 0, 1)]
    assert simulation.trace[-1] == Step(3.0, "end", 0, 2)
    assert repr(simulation.trace) == "<Trace of 6 steps>"
    assert simulation.retried == 1


def of_seed(seed: int) -> Simulation:
    return qanat.simulate(
        range(200), latency=lambda _item, rng, running: rng.random() * running, failures=0.3, retry=2,
        seed=seed, limits=[Spacing(0.01, jitter=0.1)], timeout=2.0, lane=lambda item: item % 3,
    )  # fmt: skip


def test_the_same_seed_has_the_same_trace():
    assert of_seed(1).trace == of_seed(1).trace
    assert of_seed(1).trace != of_seed(2).trace
    assert of_seed(1).trace != "something else"


def test_what_happened_is_the_same_however_often_it_is_looked_at():
    simulation = of_seed(3)
    said = str(simulation)
    assert str(simulation) == said
    assert simulation.errors.keys() <= {"SimulatedError", "JobTimeoutError"}
    assert f"{simulation.retried} retried" in str(simulation)


def test_a_share_of_attempts_fails():
    simulation = qanat.simulate(10_000, latency=1.0, failures=0.25, concurrency=100)
    assert simulation.outcomes["dead"] == simulation.errors["SimulatedError"]
    assert 2300 < simulation.outcomes["dead"] < 2700
    assert qanat.simulate(10, latency=1.0, failures=1.0).outcomes["dead"] == 10
    assert qanat.simulate(10, latency=1.0, failures=0).outcomes["dead"] == 0


def test_an_attempt_longer_than_the_timeout_ends_with_it():
    simulation = qanat.simulate(
        [0.5, 1.0, 1.5, inf], latency=lambda item, _rng, _running: item, timeout=1.0, concurrency=1
    )
    assert simulation.errors == {"JobTimeoutError": 2}
    assert simulation.makespan == 3.5
    assert qanat.simulate(1, latency=inf, timeout=2.0).makespan == 2.0


def test_throttled_closes_the_lane():
    def throttled(item, _rng, _attempt):
        said.append(item)
        return Throttled(retry_after=10.0) if len(said) == 1 else None

    said: list[int] = []
    simulation = qanat.simulate(3, latency=1.0, concurrency=1, failures=throttled)
    assert simulation.makespan == 14.0
    assert simulation.waits["throttled"] > 0.0


def test_too_many_failures_stop_it():
    simulation = qanat.simulate(100, latency=1.0, failures=1.0, max_failures=5, concurrency=4)
    assert isinstance(simulation.stopped, qanat.TooManyFailuresError)
    assert simulation.outcomes["dead"] == 6
    assert simulation.outcomes["cancelled"] == 2
    assert "stopped early" in str(simulation)


def test_a_stop_cancels_what_waits():
    simulation = qanat.simulate(
        list(range(10)), latency=1.0, failures=1.0, max_failures=1, concurrency=1, order="lifo"
    )
    assert simulation.outcomes == {"done": 0, "dead": 2, "cancelled": 8}
    assert [step.index for step in simulation.trace if step.kind == "start"] == [9, 8]


def test_an_item_that_a_callback_refuses_fails():
    simulation = qanat.simulate([1, 0], latency=1.0, lane=lambda item: 1 // item)
    assert simulation.errors == {"ZeroDivisionError": 1}
    assert simulation.outcomes == {"done": 1, "dead": 1, "cancelled": 0}
    assert simulation.over_time(1) == [Slice(0.0, 1.0, 1, 2, 1.0)]


def test_observers_are_told_with_virtual_times():
    class Diary:
        def event(self, event):
            told.append((type(event).__name__, event.at))

        def close(self):
            told.append(("closed", 0.0))

    told: list[tuple[str, float]] = []
    qanat.simulate(1, latency=1.0, observers=Diary())
    assert told == [
        ("RunStarted", 0.0), ("JobStarted", 0.0), ("JobEnded", 1.0), ("RunEnded", 1.0), ("closed", 0.0),
    ]  # fmt: skip


def test_a_sized_input_is_read_whole_where_there_is_a_choice():
    simulation = qanat.simulate(
        [3, 1, 2], latency=1.0, concurrency=1, order="priority", priority=lambda item: item
    )
    assert [step.index for step in simulation.trace if step.kind == "start"] == [1, 2, 0]


def test_an_unsized_input_is_chosen_from_as_far_as_the_buffer_goes():
    simulation = qanat.simulate(
        iter([5, 4, 3, 2, 1]), latency=1.0, concurrency=1, order="priority", priority=lambda item: item,
        buffer=2,
    )  # fmt: skip
    assert [step.index for step in simulation.trace if step.kind == "start"] == [1, 2, 3, 4, 0]


def test_percentiles_are_exact():
    simulation = qanat.simulate(
        range(1, 101), latency=lambda item, _rng, _running: float(item), concurrency=100
    )
    assert simulation.run == Percentiles(50.5, 50.0, 90.0, 99.0, 100.0)
    assert simulation.wait == Percentiles(0.0, 0.0, 0.0, 0.0, 0.0)
    assert qanat.simulate(0, latency=1.0).run == Percentiles(0.0, 0.0, 0.0, 0.0, 0.0)


def test_over_time_adds_up():
    simulation = of_seed(5)
    parts = simulation.over_time(7)
    assert sum(part.ended for part in parts) == simulation.items
    assert sum(part.started for part in parts) == simulation.items + simulation.retried
    assert sum(part.running * part.seconds for part in parts) == pytest.approx(simulation.busy)
    assert parts[0].throughput == parts[0].ended / parts[0].seconds


def test_nothing_takes_no_time():
    simulation = qanat.simulate([], latency=1.0)
    assert (simulation.makespan, simulation.throughput, simulation.over_time()) == (0.0, 0.0, [])
    assert str(simulation).startswith("0 of 0 done in 0 s")
    assert Slice(0.0, 0.0, 0, 0, 0.0).throughput == 0.0


def test_it_says_what_held_it_up():
    simulation = qanat.simulate(500, latency=0.1, concurrency=20, rate="100/s")
    assert "rate 100/s" in str(simulation)
    assert "at once: " in str(simulation)
    slow = qanat.simulate(20, latency=0.1, limits=[SlidingWindow(1, "15m"), Concurrency(5)])
    assert "of 5" not in slow.rules
    assert slow.why.endswith("concurrency was never full, so raising it changes nothing")


@pytest.mark.parametrize(
    ("options", "problem", "message"),
    [
        ({"latency": "1"}, TypeError, "latency must be a number, got '1'"),
        ({"latency": -1.0}, ValueError, "latency must be at least 0 seconds, got -1.0"),
        ({"latency": inf}, ValueError, "latency must be a finite number, got inf"),
        ({"latency": 1e308}, ValueError, r"latency must be at most 1e\+12 seconds, got 1e\+308"),
        ({"latency": lambda _i, _r, _n: 1e308}, ValueError, r"latency must be at most 1e\+12 seconds"),
        ({"latency": lambda _i, _r, _n: "x"}, TypeError, "latency must be a number, got 'x'"),
        ({"latency": lambda _i, _r, _n: -2}, ValueError, "latency must be at least 0 seconds, got -2.0"),
        (
            {"latency": lambda _i, _r, _n: inf},
            ValueError,
            "latency must give finite seconds, unless .* got inf",
        ),
        ({"failures": 2}, ValueError, "failures must be a share from 0 to 1, got 2"),
        ({"failures": "5%"}, TypeError, "failures must be a number, got '5%'"),
        ({"failures": lambda _i, _r, _n: 1}, TypeError, "failures must give an exception or None, got 1"),
        ({"items": -1}, ValueError, "items must be at least 0, got -1"),
        ({"items": True}, TypeError, "items must be a whole number, got True"),
        ({"items": 1.5}, TypeError, "items must be an iterable"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"rat": "1/s"}, TypeError, "'rat' is not a rule"),
    ],
)
def test_a_wrong_call_is_refused(options, problem, message):
    with pytest.raises(problem, match=message):
        qanat.simulate(**{"items": 2, "latency": 1.0, **options})


def test_coroutine_functions_are_refused():
    async def function(_item, _rng, _number):
        raise AssertionError

    with pytest.raises(TypeError, match="latency must be a number of seconds or a plain function"):
        qanat.simulate(1, latency=function)  # type: ignore[arg-type]  # which is the point
    with pytest.raises(TypeError, match="failures must be a share or a plain function"):
        qanat.simulate(1, latency=1.0, failures=function)  # type: ignore[arg-type]  # which is the point


def test_items_that_are_awaited_are_refused():
    async def items():
        yield 1

    with pytest.raises(TypeError, match="items must be a plain iterable or a number of items"):
        qanat.simulate(items(), latency=1.0)


def test_what_the_source_raises_comes_through():
    def items():
        yield 1
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        qanat.simulate(items(), latency=1.0)


def test_what_a_limit_raises_in_give_back_comes_through():
    class Broken(qanat.Limit):
        def ready_at(self, job, now):
            return now

        def give_back(self, job, outcome, now):
            raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        qanat.simulate(3, latency=1.0, limits=Broken())


class Never(qanat.Limit):
    def ready_at(self, job, now):
        return inf


def test_jobs_that_never_start_are_told():
    simulation = qanat.simulate(3, latency=1.0, limits=Never())
    assert (simulation.items, simulation.left) == (0, 3)
    assert "3 never ended: what they wait for never comes" in str(simulation)


def test_a_dispatcher_that_wants_to_be_asked_for_ever_is_an_error(monkeypatch):
    monkeypatch.setattr(Dispatcher, "wake_at", property(lambda dispatcher: dispatcher.now))
    with pytest.raises(RuntimeError, match=r"nothing starts at 0\.0"):
        qanat.simulate(1, latency=1.0, limits=Never())


@pytest.mark.slow
def test_many_jobs_take_little_time_and_keep_little():
    simulation = qanat.simulate(50_000, latency=0.1, concurrency=20, rate="100/s", timeout=1.0)
    assert simulation.items == 50_000
    assert len(simulation.trace) == 100_000


@pytest.mark.parametrize("parts", [nan, 1.5, None, True], ids=repr)
def test_over_time_has_a_whole_number_of_parts(parts: Any):
    with pytest.raises(TypeError, match="^parts must be a whole number, got"):
        qanat.simulate(1, latency=1.0).over_time(parts)


def test_over_time_needs_a_part():
    with pytest.raises(ValueError, match="parts must be at least 1, got 0"):
        qanat.simulate(1, latency=1.0).over_time(0)


def test_a_slow_rate_is_told_by_the_day():
    assert "1.50/d" in str(qanat.simulate(3, latency=1.0, limits=Spacing(86_400.0)))
    assert "/h" in str(qanat.simulate(3, latency=1.0, limits=Spacing(1_800.0)))


def test_a_job_whose_retry_comes_back_into_a_broken_lane_ends():
    asked: list[str] = []

    def lane_limits(lane):
        asked.append(lane)
        if len(asked) > 1:
            raise LookupError(lane)
        return ()

    simulation = qanat.simulate(
        1, latency=1.0, failures=1.0, retry=qanat.Retry(1, backoff=qanat.constant(1.0)),
        lane=lambda _item: "a", lane_limits=lane_limits,
    )  # fmt: skip
    assert simulation.errors == {"LookupError": 1}
    assert simulation.makespan == 2.0


def test_an_interrupt_while_the_source_is_read_comes_through():
    def items():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        qanat.simulate(items(), latency=1.0)
