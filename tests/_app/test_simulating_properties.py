"""The real engine on virtual time beside the simulation, under generated rules.

Where no two things fall on one instant both have the same trace, to the last bit. Where they do,
the order within the instant may differ, but the totals are the same and every limit holds.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import qanat
from qanat import Concurrency, Retry, SlidingWindow, Spacing, TokenBucket
from qanat.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

Key = tuple[str, int, int]


@dataclass(frozen=True)
class Case:
    """Rules, and what the attempts do."""

    backend: Literal["asyncio", "trio"]
    items: int
    sized: bool
    concurrency: int
    rate: str | None
    bucket: tuple[float, int] | None
    lanes: int
    lane_slots: int | None
    lane_gap: float | None
    order: Literal["fifo", "lifo", "priority"]
    retries: int
    backoff: float
    timeout: float | None
    max_failures: int | None
    buffer: int
    seed: int
    observed: bool

    def rules(self) -> dict[str, Any]:
        def lane_limits(_lane: int) -> list[qanat.Limit]:
            slots = [] if self.lane_slots is None else [Concurrency(self.lane_slots)]
            return [*slots, *([] if self.lane_gap is None else [Spacing(self.lane_gap, jitter=0.037)])]

        return {
            "concurrency": self.concurrency,
            "rate": self.rate,
            "limits": () if self.bucket is None else TokenBucket(self.bucket[0], burst=self.bucket[1]),
            "lane": (lambda item: item % self.lanes) if self.lanes else None,
            "lane_limits": lane_limits if self.lanes else None,
            "order": self.order,
            "priority": (lambda item: -item) if self.order == "priority" else None,
            "retry": Retry(self.retries, backoff=qanat.constant(self.backoff, jitter="equal")),
            "timeout": self.timeout,
            "max_failures": self.max_failures,
            "buffer": self.buffer,
            # With an observer nothing goes the short way, which does not look at the buffer.
            "observers": Diary() if self.observed else (),
        }

    def source(self) -> Any:
        return list(range(self.items)) if self.sized else iter(range(self.items))


def cases(latencies: st.SearchStrategy[float]) -> st.SearchStrategy[Case]:
    return st.builds(
        Case,
        backend=st.sampled_from(["asyncio", "trio"]),
        items=st.integers(0, 25),
        sized=st.booleans(),
        concurrency=st.integers(1, 5),
        rate=st.sampled_from([None, None, "3/s", "2/s evenly", "7/2s"]),
        bucket=st.sampled_from([None, None, (2.3, 2)]),
        lanes=st.integers(0, 3),
        lane_slots=st.sampled_from([None, 1, 2]),
        lane_gap=st.sampled_from([None, 0.3141592653]),
        order=st.sampled_from(["fifo", "fifo", "lifo", "priority"]),
        retries=st.integers(0, 2),
        backoff=latencies,
        timeout=st.sampled_from([None, 0.7182818284]),
        max_failures=st.sampled_from([None, None, 2]),
        buffer=st.integers(1, 6),
        seed=st.integers(0, 1000),
        observed=st.booleans(),
    )


def behaviour(
    seed: int, draw: Callable[[random.Random], float]
) -> tuple[Callable[[int, int], float], Callable[[int, int], bool]]:
    """Return how long an attempt of an item takes, and whether it fails; the same on either side."""

    def seconds(item: int, attempt: int) -> float:
        return draw(random.Random(f"{seed} {item} {attempt}"))

    def fails(item: int, attempt: int) -> bool:
        return random.Random(f"{seed} {item} {attempt} fails").random() < 0.3

    return seconds, fails


def simulated(case: Case, draw: Callable[[random.Random], float]) -> tuple[list[tuple[float, Key]], Any]:
    seconds, fails = behaviour(case.seed, draw)
    attempts: dict[int, int] = {}

    def latency(item: int, _rng: Any, _running: int) -> float:
        attempts[item] = attempts.get(item, 0) + 1
        return seconds(item, attempts[item])

    simulation = qanat.simulate(
        case.source(), latency=latency, seed=0,
        failures=lambda item, _rng, attempt: OSError() if fails(item, attempt) else None, **case.rules(),
    )  # fmt: skip
    return [(step.at, (step.kind, step.index, step.attempt)) for step in simulation.trace], simulation


class Diary:
    """Writes down what the simulation's trace has."""

    def __init__(self) -> None:
        self.steps: list[tuple[float, Key]] = []
        self.begun = 0.0

    def event(self, event: qanat.Event) -> None:
        at = event.at - self.begun
        if isinstance(event, qanat.RunStarted):
            self.begun = event.at
        elif isinstance(event, qanat.JobStarted):
            self.steps.append((at, ("start", event.job.index, event.job.attempt)))
        elif isinstance(event, qanat.JobRetried):
            # Told when the number of the next attempt is set.
            self.steps.append((at, ("again", event.job.index, event.job.attempt - 1)))
        elif isinstance(event, qanat.JobEnded):
            self.steps.append((at, ("end", event.outcome.index, max(1, event.outcome.attempts))))

    def close(self) -> None:
        pass


def real(case: Case, draw: Callable[[random.Random], float]) -> tuple[Any, list[Any]]:
    seconds, fails = behaviour(case.seed, draw)
    rules = case.rules()

    async def handler(item: int) -> None:
        attempt = qanat.current_job().attempt
        await anyio.sleep(seconds(item, attempt))
        if fails(item, attempt):
            raise OSError

    async def main() -> list[Any]:
        try:
            return await qanat.collect(handler, case.source(), **rules)
        except qanat.TooManyFailuresError as error:
            return list(qanat.errors.outcomes_of(error))

    with virtual_time(case.backend) as time:
        return rules["observers"], time.run(main)


def states(outcomes: list[Any]) -> dict[str, int]:
    found = [outcome.state for outcome in outcomes]
    return {state: found.count(state) for state in ("done", "dead", "cancelled")}


def uneven(rng: random.Random) -> float:
    return 0.05 + rng.random()


def in_quarters(rng: random.Random) -> float:
    return rng.randrange(5) / 4


@pytest.mark.slow
@given(cases(st.floats(0.1, 1.0)))
@settings(max_examples=150)
def test_where_no_two_things_fall_on_one_instant_the_trace_is_the_same(case: Case):
    trace, simulation = simulated(case, uneven)
    ends = [at for at, (kind, _, _) in trace if kind != "start" and at > 0.0]
    # Timeouts and gaps are odd numbers, so that no limit lets others start when an attempt ends.
    assume(len(set(ends)) == len(ends))
    diary, outcomes = real(case, uneven)
    if case.observed:
        assert diary.steps == trace
    told = [(outcome.ended_at, outcome.index) for outcome in outcomes]
    assert sorted(told) == sorted((at, index) for at, (kind, index, _) in trace if kind == "end")
    assert sum(outcome.ran for outcome in outcomes) == pytest.approx(simulation.busy)
    assert states(outcomes) == simulation.outcomes


@pytest.mark.slow
@given(cases(st.sampled_from([0.0, 0.25, 0.5])))
@settings(max_examples=150)
def test_where_things_fall_on_one_instant_totals_and_limits_are_the_same(case: Case):
    trace, simulation = simulated(case, in_quarters)
    _, outcomes = real(case, in_quarters)
    assert len(outcomes) == simulation.items or case.max_failures is not None
    if case.max_failures is None and case.timeout is None:
        assert states(outcomes) == simulation.outcomes
        assert sum(outcome.attempts for outcome in outcomes) == simulation.items + simulation.retried
        assert sum(outcome.ran for outcome in outcomes) == pytest.approx(simulation.busy)
    assert_limits_hold(case, trace)


def assert_limits_hold(case: Case, trace: list[tuple[float, Key]]) -> None:
    """Slots, rates and lanes in the trace of a simulation."""
    running: set[int] = set()
    for _, (kind, index, _) in trace:
        if kind == "start":
            assert index not in running
            running.add(index)
        else:
            running.discard(index)
        assert len(running) <= case.concurrency
        for lane in range(case.lanes):
            in_lane = sum(each % case.lanes == lane for each in running)
            assert case.lane_slots is None or in_lane <= case.lane_slots
    begun = [at for at, (kind, _, _) in trace if kind == "start"]
    for limit in qanat.Rules(rate=case.rate).all_limits:
        if isinstance(limit, SlidingWindow):
            for number, start in enumerate(begun):
                assert bisect_left(begun, start + limit._per) - number <= limit.n
