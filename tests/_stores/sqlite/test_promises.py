"""The SQLite store does what every store promises."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._core.store.values import Conf, NewJob, Settle
from qanat.testing import STORE_PROMISES, StoreBench, check_store, memory_store
from qanat.testing.store_machine import store_machine
from tests._stores.sqlite.bench import HandClock, open_store


def new_store():
    """A new file for each; without waiting for the disk, as nothing here is about that."""
    directory = Path(mkdtemp())
    clock = HandClock()
    store = open_store(directory / "store.db", clock, synchronous="NORMAL")
    return StoreBench(
        store=store, advance=clock.advance, connect=store.connect, close=lambda: shutil.rmtree(directory)
    )


@pytest.mark.parametrize("promise", STORE_PROMISES)
def test_promise(promise):
    check_store(new_store, only=[promise])


TestHistories = store_machine(new_store).TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestHistories = pytest.mark.slow(TestHistories)


@pytest.mark.long
class TestManyHistories(store_machine(new_store).TestCase):  # type: ignore[misc]  # made as it is imported
    settings = settings(max_examples=500, stateful_step_count=50, deadline=None)


_lanes = st.sampled_from([f"lane {number}" for number in range(12)])
_jobs = st.lists(st.tuples(_lanes, st.sampled_from([0.0, 0.0, 1.0]), st.booleans()), max_size=40)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    _jobs,
    st.dictionaries(_lanes, st.integers(1, 4), max_size=3),
    st.lists(st.tuples(st.integers(1, 20), st.frozensets(_lanes, max_size=6)), max_size=8),
)
def test_many_lanes_take_turns_as_in_memory(jobs, weights, claims):
    """Lanes and their jobs are read in lots, which must not be seen; jobs that are to die stir the ring."""
    seen = []
    for make in (memory_store, new_store):
        bench = make()
        store = bench.store
        store.conf("q", Conf(weights=weights, max_age=5.0, max_attempts=2))
        old = [NewJob(id=f"old {n}", lane=lane, priority=p) for n, (lane, p, aged) in enumerate(jobs) if aged]
        store.put("q", old)
        bench.advance(10.0)
        store.put("q", [NewJob(id=str(n), lane=lane, priority=p) for n, (lane, p, _) in enumerate(jobs)])
        story: list[object] = []
        for n, skip in claims:
            claim = store.claim("q", n, worker="w", lease=60.0, skip=skip)
            story.append(([job.id for job in claim.jobs], [each.id for each in claim.ended]))
            back = [Settle(id=job.id, token=job.token, kind="retry") for job in claim.jobs[::2]]
            story.append([each.state for each in store.settle("q", back)])
        story.append((store.count("q"), store.check("q")))
        seen.append(story)
        store.close()
        bench.close()
    assert seen[0] == seen[1]
