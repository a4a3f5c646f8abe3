"""What `Adaptive` promises as a limit, step by step; how well it settles is in `test_settling`."""

from __future__ import annotations

from math import inf
from random import Random
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.dispatcher import Dispatcher
from qanat._core.job import Job
from qanat._core.limits import Adaptive, Balance
from qanat._core.outcome import Outcome
from qanat.errors import Throttled
from tests._core.dispatcher import world
from tests._core.driver import drive
from tests._core.limits.properties import Ear

if TYPE_CHECKING:
    from qanat._core.limit import Signal
    from qanat._core.outcome import State


class Runner:
    """Start and end jobs of a limit by hand, as a dispatcher would."""

    def __init__(self, limit: Adaptive) -> None:
        self.limit = limit
        self.ear = Ear()
        limit.listen(self.ear)
        self.running: list[Job[Any]] = []
        self.count = 0

    def start(self, now: float, most: float = inf) -> int:
        """Start all that may, up to so many that run; return how many run."""
        while len(self.running) < most and self.limit.ready_at(self._job(now), now) <= now:
            job = self._job(now)
            self.count += 1
            self.limit.take(job, now)
            self.running.append(job)
            assert len(self.running) <= self.limit.current
        return len(self.running)

    def end(self, now: float, error: BaseException | None = None) -> None:
        """End the job that has run for longest."""
        job = self.running.pop(0)
        ran = now - job.started_at
        self.limit.give_back(job, outcome_of(job, now, ran, error), now)

    def rounds(self, number: int, now: float, seconds: float = 1.0, most: float = inf) -> float:
        """Let all that may run do so, all together, so many times over."""
        for _ in range(number):
            self.start(now, most)
            now += seconds
            for _ in range(len(self.running)):
                self.end(now)
        return now

    def _job(self, now: float) -> Job[Any]:
        return Job(self.count, None, self.count, cast("Any", None), started_at=now)


def outcome_of(
    job: Job[Any], now: float, ran: float, error: BaseException | None = None, *, ran_at_all: bool = True
) -> Outcome[Any, Any]:
    state: State = "done" if error is None else "dead"
    started = job.started_at if ran_at_all else None
    return Outcome(job.id, job.index, None, None, error, state, 1, None, None, None, 0.0, started, now, ran)


def settled(lowest: int, highest: int, **options: Any) -> tuple[Runner, float]:
    """Return a limit that has run at its highest for a while."""
    runner = Runner(Adaptive(lowest, highest, **options))
    now = runner.rounds(40, 0.0)
    assert runner.limit.current == highest
    return runner, now


def test_begins_with_the_lowest_and_doubles_while_that_costs_no_latency():
    runner = Runner(Adaptive(1, 200))
    seen, now = [1], 0.0
    while seen[-1] < 200:
        now = runner.rounds(1, now)
        if runner.limit.current != seen[-1]:
            seen.append(runner.limit.current)
    assert seen == [1, 2, 4, 8, 16, 32, 64, 128, 200]
    assert now <= 20.0


def test_begins_with_start():
    assert Adaptive(1, 200, start=20).current == 20


def test_lets_no_more_start_than_the_current_number():
    runner = Runner(Adaptive(3, 9))
    assert runner.start(0.0) == 3
    assert runner.limit.ready_at(runner.running[0], 0.0) == inf


def test_a_finish_makes_room_and_wakes_who_waits():
    runner = Runner(Adaptive(3, 9))
    runner.start(0.0)
    runner.end(1.0)
    assert runner.ear.heard == 1
    runner.end(1.0)
    assert runner.ear.heard == 1, "there was room already"


def test_growth_wakes_who_waits():
    runner = Runner(Adaptive(1, 9))
    now = runner.rounds(3, 0.0)
    assert runner.limit.current == 1
    runner.start(now)
    runner.end(now + 1.0)
    assert runner.limit.current == 2
    assert runner.ear.heard > 3


def test_stops_doubling_where_latency_grows():
    runner, now = Runner(Adaptive(1, 1000)), 0.0
    while runner.limit._knee.phase == "doubling":
        running = runner.start(now)
        now = runner.rounds(1, now, seconds=max(1.0, running / 40))
    assert 10 <= runner.limit.current <= 48


def test_does_not_grow_while_it_is_not_used_to_the_full():
    runner = Runner(Adaptive(8, 200))
    runner.rounds(100, 0.0, most=5)
    assert runner.limit.current == 8


def test_does_not_grow_in_small_steps_either_while_it_is_not_used_to_the_full():
    runner, now = Runner(Adaptive(1, 1000)), 0.0
    while runner.limit._knee.phase == "doubling":
        running = runner.start(now)
        now = runner.rounds(1, now, seconds=max(1.0, running / 40))
    now = runner.rounds(4, now)
    allowed = runner.limit.current
    runner.rounds(100, now, most=20)
    assert runner.limit.current <= allowed


def test_throttled_takes_thirty_percent_away_and_once_a_round_trip():
    runner, now = settled(1, 100)
    runner.start(now)
    for _ in range(50):
        runner.end(now + 0.5, Throttled())
    assert runner.limit.current == 70
    runner.start(now + 0.5)
    for _ in range(50):
        runner.end(now + 1.0, Throttled())
    assert runner.limit.current == 70, "they started before it shrank"
    runner.end(now + 1.5, Throttled())
    assert runner.limit.current < 70


def test_recovers_after_throttling_and_nears_the_number_that_was_too_many_slowly():
    runner, now = settled(1, 100)
    runner.start(now)
    runner.end(now + 1.0, Throttled())
    now = runner.rounds(1, now + 1.0)
    assert runner.limit.current == 70
    now = runner.rounds(12, now)
    assert 95 <= runner.limit.current <= 98
    runner.rounds(60, now)
    assert runner.limit.current == 100


def test_few_errors_are_tolerated_and_more_are_not():
    runner, now = settled(1, 100)
    runner.start(now)
    for _ in range(5):
        runner.end(now + 1.0, ConnectionError())
    assert runner.limit.current == 100
    runner.end(now + 1.0, TimeoutError())
    assert runner.limit.current == 70


def test_a_single_error_is_always_tolerated():
    runner = Runner(Adaptive(4, 4, tolerance=0.0))
    runner.start(0.0)
    phases: list[str] = []
    for _ in range(2):
        runner.end(1.0, ConnectionError())
        phases.append(runner.limit._knee.phase)
    assert phases == ["doubling", "steady"]


def test_other_errors_say_nothing():
    runner, now = settled(1, 100)
    runner.start(now)
    for _ in range(100):
        runner.end(now + 0.001, ValueError())
    assert runner.limit.current == 100


def test_on_names_the_errors_that_count():
    runner, now = settled(1, 100, on=ValueError, tolerance=0.0)
    runner.start(now)
    for _ in range(10):
        runner.end(now + 1.0, ConnectionError())
    assert runner.limit.current == 100
    runner.end(now + 1.0, ValueError())
    runner.end(now + 1.0, ValueError())
    assert runner.limit.current == 70


def test_a_job_that_never_ran_says_nothing():
    runner, now = settled(1, 100)
    runner.start(now)
    job = runner.running.pop()
    runner.limit.give_back(job, outcome_of(job, now, 0.0, Throttled(), ran_at_all=False), now)
    assert runner.limit.current == 100


def test_never_shrinks_below_the_lowest():
    runner, now = settled(10, 20)
    for _ in range(200):
        runner.start(now)
        runner.end(now + 1.0, Throttled())
        now += 1.0
    assert runner.limit.current == 10


def test_a_job_that_hangs_does_not_hold_up_what_is_learned():
    runner = Runner(Adaptive(2, 100))
    runner.start(0.0)
    now = 0.0
    for _ in range(100):
        runner.start(now)
        now += 1.0
        for _ in range(len(runner.running) - 1):
            job = runner.running.pop()
            runner.limit.give_back(job, outcome_of(job, now, 1.0), now)
    assert runner.limit.current == 100


def test_attempts_that_take_no_time_are_no_problem():
    runner = Runner(Adaptive(1, 50))
    runner.rounds(40, 0.0, seconds=0.0)
    assert runner.limit.current == 50


# --- the machine -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signal", "fine", "bad"), [("lag", 0.1, 0.11), ("cpu", 0.8, 0.81), ("memory", 0.9, 0.91)]
)
def test_shrinks_while_the_machine_is_too_busy(signal: Signal, fine: float, bad: float):
    runner, now = settled(1, 100, max_cpu=0.8)
    runner.start(now)
    runner.limit.sense(signal, fine, now)
    runner.limit.sense(signal, bad, now)
    assert runner.limit.current == 100, "once is chance"
    runner.limit.sense(signal, bad, now)
    assert runner.limit.current == 80
    runner.limit.sense(signal, bad, now)
    assert runner.limit.current == 64
    runner.limit.sense(signal, fine, now)
    runner.limit.sense(signal, bad, now)
    assert runner.limit.current == 64


def test_does_not_grow_while_the_machine_is_too_busy_and_grows_again_then():
    runner, now = settled(1, 100)
    runner.start(now)
    runner.limit.sense("lag", 1.0, now)
    runner.limit.sense("lag", 1.0, now)
    assert runner.limit.current == 80
    for _ in range(20):
        runner.limit.sense("lag", 0.0, now)
        runner.limit.sense("lag", 1.0, now)
        now = runner.rounds(1, now)
        assert runner.limit.current <= 80
    runner.limit.sense("lag", 0.0, now)
    runner.rounds(60, now)
    assert runner.limit.current == 100


def test_wants_the_signals_that_it_has_a_limit_for():
    assert set(Adaptive(1, 2).wants()) == {"lag", "memory"}
    assert set(Adaptive(1, 2, max_cpu=1.0).wants()) == {"lag", "cpu", "memory"}
    quiet = Adaptive(1, 2, max_lag=None, max_memory=None)
    assert not quiet.wants()
    quiet.sense("lag", 9.0, 0.0)
    quiet.sense("lag", 9.0, 0.0)
    assert quiet._knee.phase == "doubling"


# --- forgetting --------------------------------------------------------------------------------


def test_forgets_all_after_five_minutes_without_a_job():
    runner, now = settled(1, 100)
    assert runner.limit.fresh_at(now) == now + 300.0
    runner.start(now + 299.0)
    assert runner.limit.current == 100
    assert runner.limit.fresh_at(now + 299.0) == inf
    now = runner.rounds(1, now + 299.0)
    runner.start(now + 300.0)
    assert runner.limit.current == 1


def test_a_new_one_is_fresh():
    assert Adaptive(1, 100).fresh_at(5.0) == 5.0


# --- making one --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 5), {}, "lowest must be at least 1, got 0"),
        ((5, 4), {}, "highest must be at least lowest, 5, got 4"),
        ((5, 9), {"start": 4}, "start must be from 5 to 9, got 4"),
        ((5, 9), {"start": 10}, "start must be from 5 to 9, got 10"),
        ((1, 9), {"tolerance": 1.0}, "tolerance must be below 1, got 1.0"),
        ((1, 9), {"tolerance": -0.1}, "tolerance must be at least 0, got -0.1"),
        ((1, 9), {"max_lag": 0.0}, "max_lag must be greater than 0, got 0.0"),
        ((1, 9), {"max_cpu": 80}, "max_cpu must be a share of at most 1, got 80"),
        ((1, 9), {"max_memory": 1.1}, "max_memory must be a share of at most 1, got 1.1"),
    ],
)
def test_what_is_out_of_range_is_refused(arguments: tuple[int, int], options: Any, message: str):
    with pytest.raises(ValueError, match=f"^{message}$"):
        Adaptive(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((1.0, 5), {}, "lowest must be a whole number, got 1.0"),
        ((1, "5"), {}, "highest must be a whole number, got '5'"),
        (
            (1, 5),
            {"on": ValueError()},
            r"on must be an exception class or a tuple of them, got ValueError\(\)",
        ),
        ((1, 5), {"on": ("x",)}, r"on must be an exception class or a tuple of them, got \('x',\)"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused(arguments: Any, options: Any, message: str):
    with pytest.raises(TypeError, match=f"^{message}$"):
        Adaptive(*arguments, **options)


def test_is_said_in_words():
    limit = Adaptive(1, 200)
    assert str(limit) == "1 to 200 at once"
    assert repr(limit) == "Adaptive(1, 200)"
    assert (limit.lowest, limit.highest) == (1, 200)
    assert Adaptive.cause == "concurrency"


# --- under a dispatcher, whatever happens ------------------------------------------------------


class Watched(Adaptive):
    """Check what always holds, at each step."""

    __slots__ = ("given", "held", "taken")

    def __init__(self, lowest: int, highest: int) -> None:
        super().__init__(lowest, highest)
        self.held: set[int] = set()
        self.taken = self.given = 0

    def take(self, job: Job[Any], now: float) -> None:
        assert len(self.held) < self.current, "above the limit"
        assert job.index not in self.held
        self.held.add(job.index)
        self.taken += 1
        super().take(job, now)
        self._check()

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        self.held.remove(job.index)
        self.given += 1
        super().give_back(job, outcome, now)
        self._check()

    def _check(self) -> None:
        assert self.lowest <= self.current <= self.highest
        assert len(self._cohort) <= self._running == len(self.held)


ERRORS = [
    None,
    None,
    None,
    None,
    ValueError(),
    ConnectionError(),
    TimeoutError(),
    Throttled(0.5),
    Throttled(),
]


@given(
    seed=st.integers(0, 10_000),
    bounds=st.tuples(st.integers(1, 20), st.integers(0, 100)),
    count=st.integers(1, 300),
    knee=st.integers(1, 60),
    noise=st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    share=st.sampled_from([0.0, 0.02, 0.5]),
)
def test_bounds_and_counts_hold_whatever_happens(seed, bounds, count, knee, noise, share):
    limit = Watched(bounds[0], sum(bounds))
    faults: list[Exception] = []
    dispatcher = world.make(limits=[limit], on_fault=lambda fault, _: faults.append(fault))
    task = world.add(dispatcher, retry=2)
    source = Random(seed)
    jobs = [world.job(task, number) for number in range(count)]
    arrivals = sorted(
        ((source.choice([0.0, source.uniform(0, 20)]), job) for job in jobs), key=lambda a: a[0]
    )
    signals: list[Signal] = ["lag", "memory"]
    calls = [
        (at / 2, lambda now: dispatcher.sense(source.choice(signals), source.choice([0.0, 0.0, 2.0]), now))
        for at in range(40)
    ]
    result = drive(
        dispatcher,
        arrivals,
        lambda _job, _rng, running: max(1.0, running / knee) * source.lognormvariate(0.0, noise),
        rng=source,
        failures=lambda _job, _rng: source.choice(ERRORS) if source.random() < share else None,
        cancels=[(5.0, job) for at, job in arrivals[::7] if at < 5.0],
        calls=calls,
    )
    assert not faults
    assert len(result.outcomes) == count
    assert dispatcher.is_idle
    assert limit.taken == limit.given
    assert not limit.held


def test_a_stand_in_is_measured_in_place_of_its_job_which_runs_again():
    limit = Adaptive(4, 10)
    job, held = [Job(0, None, 0, cast("Any", None), started_at=0.0) for _ in range(2)]
    limit.take(job, 0.0)
    limit.replaced(job, held)
    limit.replaced(job, held)
    job.started_at = 5.0
    limit.take(job, 5.0)
    assert limit._cohort == {held, job}
    limit.give_back(held, outcome_of(held, 8.0, 8.0), 8.0)
    assert limit._cohort == {job}


def test_the_machine_is_heard_of_inside_a_balance():
    inside = Adaptive(1, 100, start=50, max_lag=0.1)
    dispatcher = Dispatcher(rng=Random(0), limits=(Balance({"a": 1, "b": 1}, limits={"a": inside}),))
    assert dispatcher.wanted == {"lag", "memory"}
    for _ in range(2):
        dispatcher.sense("lag", 0.5, 1.0)
    assert inside.current < 50
