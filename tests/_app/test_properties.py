"""Random sources, rules and readers of a stream on virtual time, against what must hold.

Every item that was read has one outcome, in order where that was asked for; a slow reader slows the
reading down; the source's error comes last; and after the block nothing runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qanat
from qanat.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class SourceError(Exception):
    """What a source raises."""


@dataclass(frozen=True)
class Plan:
    """A source, the rules and a reader."""

    backend: Literal["asyncio", "trio"]
    kind: str
    seconds: tuple[float, ...]  # that each job takes: as many as there are items
    fails: tuple[int, ...]  # how often each job fails first
    raises: bool  # whether the source raises in the end
    pause: float  # of a source that is awaited
    concurrency: int
    buffer: int
    ordered: bool
    order: Literal["fifo", "lifo", "priority"]
    lanes: int
    retries: int
    backoff: float
    rate: str | None
    timeout: float | None
    reading: float  # that the reader takes for each outcome
    leave_after: int | None

    @property
    def chooses(self) -> bool:
        return self.order != "fifo" or self.lanes > 0


QUARTERS = st.integers(0, 8).map(lambda n: n / 4)
plans = st.builds(
    Plan,
    backend=st.sampled_from(["asyncio", "trio"]),
    kind=st.sampled_from(["list", "generator", "awaited"]),
    seconds=st.lists(QUARTERS, max_size=15).map(tuple),
    fails=st.lists(st.integers(0, 2), min_size=15, max_size=15).map(tuple),
    raises=st.booleans(),
    pause=st.sampled_from([0.0, 0.0, 0.5]),
    concurrency=st.integers(1, 4),
    buffer=st.integers(1, 6),
    ordered=st.booleans(),
    order=st.sampled_from(["fifo", "fifo", "lifo", "priority"]),
    lanes=st.integers(0, 3),
    retries=st.integers(0, 2),
    backoff=st.sampled_from([0.0, 0.75, 5.0]),
    rate=st.sampled_from([None, None, "2/s", "1/s evenly"]),
    timeout=st.sampled_from([None, None, 1.0]),
    reading=st.sampled_from([0.0, 0.0, 0.5, 3.0]),
    leave_after=st.none() | st.integers(0, 15),
)


class Watch:
    """What a run of a plan looks like from the outside."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.read = 0
        self.consumed = 0
        self.running = 0
        self.most_running = 0
        self.most_ahead = 0
        self.calls: dict[int, int] = {}

    def _note_read(self) -> None:
        self.read += 1
        self.most_ahead = max(self.most_ahead, self.read - self.consumed)

    def source(self) -> Any:
        if self.plan.kind == "list":
            self.read = len(self.plan.seconds)
            return list(range(self.read))
        return self._plain() if self.plan.kind == "generator" else self._awaited()

    def _plain(self) -> Iterator[int]:
        for item in range(len(self.plan.seconds)):
            self._note_read()
            yield item
        if self.plan.raises:
            raise SourceError

    async def _awaited(self) -> AsyncIterator[int]:
        for item in self._plain():
            yield item
            await anyio.sleep(self.plan.pause)

    async def handler(self, item: int) -> int:
        call = self.calls[item] = self.calls.get(item, 0) + 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await anyio.sleep(self.plan.seconds[item])
        finally:
            self.running -= 1
        if call <= self.plan.fails[item]:
            raise KeyError(item)
        return item


async def carry_out(plan: Plan, watch: Watch) -> tuple[list[Any], bool]:
    """Run a stream; return the outcomes that were read and whether the source's error was raised."""
    outcomes: list[Any] = []
    try:
        async with qanat.stream(
            watch.handler, watch.source(), ordered=plan.ordered, concurrency=plan.concurrency,
            buffer=plan.buffer, order=plan.order, priority=(lambda item: -item) if plan.order == "priority" else None,
            lane=(lambda item: item % plan.lanes) if plan.lanes else None,
            retry=qanat.Retry(plan.retries, backoff=qanat.constant(plan.backoff)), rate=plan.rate,
            timeout=plan.timeout,
        ) as stream:  # fmt: skip
            if plan.leave_after == 0:
                return outcomes, False
            async for outcome in stream:
                watch.consumed += 1
                outcomes.append(outcome)
                if len(outcomes) == plan.leave_after:
                    return outcomes, False
                await anyio.sleep(plan.reading)
    except SourceError:
        return outcomes, True
    return outcomes, False


def check(plan: Plan) -> None:
    watch = Watch(plan)

    async def main() -> tuple[list[Any], bool]:
        result = await carry_out(plan, watch)
        assert watch.running == 0
        calls = dict(watch.calls)
        await anyio.sleep(100.0)
        assert watch.calls == calls
        return result

    with virtual_time(plan.backend) as time:
        outcomes, raised = time.run(main)
    indexes = [outcome.index for outcome in outcomes]
    left = plan.leave_after is not None and len(indexes) == plan.leave_after
    assert len(set(indexes)) == len(indexes)
    if not left:
        assert sorted(indexes) == list(range(len(plan.seconds)))
        assert raised == (plan.raises and plan.kind != "list")
    if plan.ordered:
        assert indexes == list(range(len(indexes)))
    assert watch.most_running <= plan.concurrency
    if plan.kind != "list":
        assert watch.most_ahead <= plan.buffer + plan.concurrency
    for outcome in outcomes:
        fails = plan.fails[outcome.index]
        times_out = plan.timeout is not None and plan.seconds[outcome.index] > plan.timeout
        if plan.timeout is None or plan.seconds[outcome.index] != plan.timeout:
            assert outcome.ok == (fails <= plan.retries and not times_out)
        assert outcome.attempts == watch.calls[outcome.index] <= plan.retries + 1


@pytest.mark.slow
@given(plans)
@settings(max_examples=150)
def test_whatever_the_source_the_rules_and_the_reader_a_stream_keeps_its_promises(plan: Plan):
    check(plan)
