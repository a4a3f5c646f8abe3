"""A run that stops in the very moment in which a job was given out: that one is not run either."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat.errors import outcomes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qanat.testing import VirtualTime


class Fussy(qanat.Limit):
    """Refuse the jobs of some items for good."""

    def __init__(self, *refused: int) -> None:
        self.refused = refused
        self.held = 0

    def ready_at(self, job: qanat.Job[Any], now: float) -> float:
        if job.index in self.refused:
            raise qanat.Refused(ValueError(job.index))
        return now

    def take(self, job: qanat.Job[Any], now: float) -> None:
        self.held += 1

    def give_back(self, job: qanat.Job[Any], outcome: qanat.Outcome[Any, Any], now: float) -> None:
        self.held -= 1


def one_lane(_item: int) -> int:
    return 0


async def states_of(called: list[Any], limit: Fussy, items: Any, **rules: Any) -> list[str]:
    async def work(item: Any) -> Any:
        called.append(item)
        await anyio.sleep(100.0)
        return item

    with pytest.raises(qanat.TooManyFailuresError) as caught:
        await qanat.collect(work, items, limits=limit, max_failures=1, **rules)
    assert limit.held == 0
    return [outcome.state for outcome in outcomes_of(caught.value)]


async def test_a_job_given_out_with_the_last_failure_allowed_is_not_run(virtual_time: VirtualTime):
    called: list[int] = []
    states = await states_of(called, Fussy(0, 1), range(4))
    assert states == ["dead", "dead", "cancelled"]
    assert called == []
    assert virtual_time.now() == 0.0


async def test_nor_is_a_batch_of_them(virtual_time: VirtualTime):
    called: list[list[int]] = []
    states = await states_of(called, Fussy(0, 1), range(4), batch=qanat.Batch(1))
    assert states == ["dead", "dead", "cancelled"]
    assert called == []


async def test_nor_one_that_was_given_out_before_more_was_read(virtual_time: VirtualTime):
    """Of a source with lanes another item is read for each that starts, and its lane may fail."""
    called: list[int] = []

    def items() -> Iterator[int]:
        yield from (0, 1, 2, 3)

    def lane(item: int) -> int:
        if item != 1:
            raise ValueError(item)
        return item

    states = await states_of(called, Fussy(), items(), lane=lane, buffer=1)
    assert states == ["dead", "cancelled", "dead"]
    assert called == []


@pytest.mark.parametrize("concurrency", [1, 2])
def test_in_a_simulation_each_job_ends_once(concurrency: int):
    def latency(item: int, _rng: Any, _running: int) -> float:
        return 100.0 if item < 3 else 1.0

    rules: dict[str, Any] = {"max_failures": 1, "concurrency": concurrency, "lane": one_lane}
    simulation = qanat.simulate(6, latency=latency, limits=Fussy(1, 2), **rules)
    assert simulation.items == 6
    assert simulation.outcomes["dead"] == 2
    ends = [step.index for step in simulation.trace if step.kind == "end"]
    assert sorted(ends) == list(range(6))
