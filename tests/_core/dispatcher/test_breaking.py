"""Breakers and balances under a dispatcher, whatever fails, is slow or is cancelled."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._core.backoff import constant
from qanat._core.limits import Balance, CircuitBreaker, Concurrency
from qanat._core.retry import Retry
from qanat.errors import CircuitOpenError, Discard, Throttled
from tests._core.dispatcher.world import add, job, make, outcomes_by_id
from tests._core.driver import drive

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._core.ports import Random as Source

SEEDS = st.integers(0, 2**32)
LONG = Retry(1_000, backoff=constant(0.5), max_throttles=1_000)


def unkind(rng: Random, up_at: float, time: list[float]) -> Any:
    """Fail often until the server is up, and now and then not quite."""

    def failures(_job: Job[Any], _rng: Source) -> BaseException | None:
        if time[0] >= up_at:
            return None
        return rng.choice([ConnectionError(), ConnectionError(), Throttled(2.0), Discard(), None])

    return failures


class Checked(CircuitBreaker):
    """Holds itself to what it promises at every start."""

    __slots__ = ()

    def take(self, job: Job[Any], now: float) -> None:
        assert self.state != "open" or self._open_until <= now
        super().take(job, now)
        assert self.state != "half-open" or self._running + self._good <= self._probes


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 3), st.integers(1, 4), st.booleans(), st.booleans())
def test_every_job_ends_and_everything_is_given_back(
    seed: int, failures: int, capacity: int, fail_fast: bool, with_lanes: bool
):
    rng, time = Random(seed), [0.0]
    made: list[Checked] = []

    def breaker(_: Any = None) -> Checked:
        made.append(Checked(failures, cooldown=3, probes=rng.randint(1, 3), fail_fast=fail_fast))
        return made[-1]

    dispatcher = make(capacity=capacity, limits=() if with_lanes else [breaker()])
    task = add(dispatcher, retry=LONG, lane_limits=breaker if with_lanes else None)
    jobs = [job(task, number, rng.choice("abc") if with_lanes else None) for number in range(30)]

    def latency(_job: Job[Any], _rng: Source, _running: int) -> float:
        time[0] = dispatcher.now
        return rng.choice([0.0, 0.25, 1.0, 5.0])

    result = drive(
        dispatcher,
        [(index * 0.25, each) for index, each in enumerate(jobs)],
        latency,
        rng=rng,
        failures=unkind(rng, 20.0, time),
        cancels=[(2.0 + index * 0.5, each) for index, each in enumerate(rng.sample(jobs, 6))],
    )
    outcomes = outcomes_by_id(result)
    assert len(outcomes) == 30
    assert fail_fast or not any(isinstance(each.error, CircuitOpenError) for each in outcomes.values())
    assert dispatcher.is_idle
    assert [each._taken for each in made] == [0] * len(made)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans())
def test_a_balance_gives_back_to_the_target_that_it_took(seed: int, fail_fast: bool):
    rng, time = Random(seed), [0.0]
    places = {target: Concurrency(rng.randint(1, 2)) for target in "abc"}
    balance = Balance(
        {"a": 3, "b": 1, "c": 0.5}, limits=places, breaker=CircuitBreaker(2, cooldown=3, fail_fast=fail_fast)
    )
    dispatcher = make(limits=[balance])
    task = add(dispatcher, retry=LONG)
    jobs = [job(task, number) for number in range(30)]

    def latency(each: Job[Any], _rng: Source, _running: int) -> float:
        time[0] = dispatcher.now
        assert each.target in places
        assert all(0 <= place._running <= place.at_once for place in places.values())
        return rng.choice([0.0, 0.25, 1.0, 5.0])

    result = drive(
        dispatcher,
        [(index * 0.25, each) for index, each in enumerate(jobs)],
        latency,
        rng=rng,
        failures=unkind(rng, 20.0, time),
        cancels=[(2.0 + index * 0.5, each) for index, each in enumerate(rng.sample(jobs, 6))],
    )
    assert len(outcomes_by_id(result)) == 30
    assert [place._running for place in places.values()] == [0, 0, 0]
    assert balance._running == 0
    assert balance.fresh_at(result.now) < float("inf")
