"""The SQLite store does what every store promises."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings

from tests._stores.sqlite.bench import HandClock, open_store

check_store = pytest.importorskip(
    "qanat.testing.check_store", reason="the suite of all stores is not here yet"
)
machine = pytest.importorskip("qanat.testing.store_machine")
bench = pytest.importorskip("qanat.testing._store_bench")


def new_store():
    """A new file for each; without waiting for the disk, as nothing here is about that."""
    directory = Path(mkdtemp())
    clock = HandClock()
    store = open_store(directory / "store.db", clock, synchronous="NORMAL")
    return bench.StoreBench(
        store=store, advance=clock.advance, connect=store.connect, close=lambda: shutil.rmtree(directory)
    )


@pytest.mark.parametrize("promise", check_store.STORE_PROMISES)
def test_promise(promise):
    check_store.check_store(new_store, only=[promise])


TestHistories = machine.store_machine(new_store).TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestHistories = pytest.mark.slow(TestHistories)


@pytest.mark.long
class TestManyHistories(machine.store_machine(new_store).TestCase):  # type: ignore[misc]  # made as it is imported
    settings = settings(max_examples=500, stateful_step_count=50, deadline=None)
