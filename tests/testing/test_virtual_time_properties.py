"""For any set of sleeping tasks: each wakes at the sum of its sleeps, and time never runs back."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat.testing import Backend, virtual_time

sleeps = st.floats(min_value=0, max_value=1e6, allow_subnormal=False) | st.sampled_from([0.1, 0.2, 0.3, 1.0])
plans = st.lists(st.lists(sleeps, min_size=1, max_size=4), min_size=1, max_size=6)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@given(plan=plans)
@settings(max_examples=20, deadline=None)
def test_each_task_wakes_at_the_sum_of_its_sleeps(backend: Backend, plan: list[list[float]]):
    with virtual_time(backend) as time:
        trace: list[float] = []

        async def sleeper(lengths: list[float]) -> None:
            expected = 0.0
            for seconds in lengths:
                await anyio.sleep(seconds)
                expected += seconds
                trace.append(time.now())
                assert time.now() == expected

        async def main() -> None:
            async with anyio.create_task_group() as group:
                for lengths in plan:
                    group.start_soon(sleeper, lengths)

        time.run(main)
        assert trace == sorted(trace)
