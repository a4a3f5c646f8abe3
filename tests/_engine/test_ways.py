"""Where the cell lies in a context, and what is counted of it: who sees it, wherever it lies."""

from __future__ import annotations

import gc
import random
import sys
from contextvars import Context, ContextVar
from typing import Any

import anyio.to_thread
import pytest

import qanat
from qanat._engine import context
from qanat._engine.context import (
    Cell,
    _counts,
    count_references,
    new_cell,
    running_carrier,
    running_cell,
    variable_apart,
)
from qanat._engine.ways import way_to

pytestmark = pytest.mark.skipif(not _counts, reason="nothing is counted here")


def way_with(variable: ContextVar[Any], *others: ContextVar[Any]) -> Any:
    """Return how many nodes lie on the way to a cell, below the first one."""
    cell, place = Cell(), Context()
    for other in others:
        place.run(other.set, None)
    place.run(variable.set, cell)
    mapping, way = way_to(variable, cell, place)
    assert mapping is not None
    return len(way)


def test_our_own_two_variables_lie_apart():
    assert way_with(running_cell, running_carrier) == 0


def sharing(variable: ContextVar[Any], place: int = 0) -> ContextVar[Any]:
    """Return a variable that shares its place in the first node with another."""
    # All are kept until then, or the next one would have the address of this.
    tried = [ContextVar[Any]("sharing") for _ in range(5_000)]
    return [each for each in tried if way_with(variable, each)][place]


def test_a_variable_that_shares_a_place_is_not_taken():
    other: ContextVar[Any] = ContextVar("other")
    assert way_with(sharing(other), other) > 0
    found = [variable_apart("found", other) for _ in range(200)]
    assert all(way_with(each, other) == 0 for each in found)


def test_there_is_a_variable_where_none_lies_apart(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(context, "MOST_TRIES", 1)
    assert variable_apart("found", ContextVar("other")).name == "found"


def test_a_change_of_the_context_is_seen_at_the_cell():
    cell, seen = Cell(), Context()
    seen.run(running_cell.set, cell)
    before = count_references(cell)
    seen.run(running_carrier.set, None)  # type: ignore[arg-type]
    copy = seen.copy()
    copy.run(ContextVar[Any]("another").set, 1)
    assert count_references(cell) != before


@pytest.mark.parametrize("at", [0, 1])
def test_a_thread_that_changes_its_context_meanwhile_is_seen(monkeypatch: pytest.MonkeyPatch, at: int):
    beside, apart, place = sharing(running_cell), variable_apart("apart", running_cell), Context()
    for each in (beside, apart):
        place.run(each.set, "before")
    counted: list[object] = []
    of_thread: list[Context] = []

    class Counting:
        """Let the thread have its turn before the count of that number."""

        @staticmethod
        def getrefcount(of: object) -> int:
            if of_thread and len(counted) == at:
                of_thread[0].run(beside.set, "later")
            counted.append(None)
            return sys.getrefcount(of)

    monkeypatch.setattr(context, "sys", Counting)
    held: list[Any] = [None, *place.run(new_cell)]
    _, cell, _, _, tally = held
    held[0] = cell
    before = tally(held[0])
    assert len(counted) >= 2, "a node and the cell"
    counted.clear()
    of_thread.append(place.copy())
    of_thread[0].run(apart.set, "now")
    now = tally(held[0])  # outside of the assertion, which would keep the cell once more
    assert now != before


@pytest.mark.parametrize("variables", [0, 40, 300])
def test_where_the_cell_lies_is_not_looked_for_anew_each_time(variables: int):
    place = Context()
    for number in range(variables):
        place.run(ContextVar[Any](f"user {number}").set, number)
    place.run(new_cell)
    looks = 0

    def note(_frame: object, event: str, called: object) -> None:
        nonlocal looks
        looks += event == "c_call" and called is gc.get_referents

    profiler = sys.getprofile()
    sys.setprofile(note)
    try:
        mapping = place.run(new_cell)[2]
    finally:
        sys.setprofile(profiler)
    assert mapping is not None
    assert 0 < looks <= 6, "one for each on the way"


def test_the_cell_is_found_in_contexts_of_one_size_that_have_it_elsewhere():
    users = [ContextVar[Any](f"user {number}") for number in range(60)]
    places = [Context() for _ in range(20)]
    for number, place in enumerate(places):
        for each in random.Random(number).sample(users, 30):
            place.run(each.set, [number])
    for number in range(200):
        cell, copy, mapping, _ = places[number % 20].run(new_cell)
        assert mapping is gc.get_referents(copy)[0]
        way = way_to(running_cell, cell, copy)[1]
        above = gc.get_referents(mapping)[0]
        for below in [*way, cell]:
            assert any(each is below for each in gc.get_referents(above))
            above = below


def test_a_cell_that_is_not_there_is_not_found():
    assert way_to(running_cell, Cell(), Context()) == (None, ())
    place = Context()
    place.run(ContextVar[Any]("another").set, 1)
    assert way_to(running_cell, Cell(), place) == (None, ())


@pytest.mark.parametrize("variables", [0, 1, 5, 15, 16, 17, 40, 300, 2000])
@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_whoever_changes_or_keeps_the_context_is_seen_wherever_the_cell_lies(
    variables: int, shares: bool, seed: int
):
    draw = random.Random(seed)
    users = [ContextVar[Any](f"user {number}") for number in range(variables)]
    place = Context()
    for each in users:
        place.run(each.set, "before")
    if shares:
        users.append(sharing(running_cell, draw.randrange(40)))
        place.run(users[-1].set, "before")
    held: list[Any] = [None, *place.run(new_cell)]
    _, cell, _, mapping, tally = held
    held[0] = cell
    assert mapping is not None
    before: Any = tally(held[0]), count_references(held[3])
    for number in range(50):
        variable = draw.choice([*users, ContextVar[Any](f"new {number}"), running_carrier])
        is_copied = draw.random() < 0.5
        changed = place.copy()
        assert (tally(held[0]), count_references(held[3])) == (before[0], before[1] + 1)
        token = changed.run(variable.set, number)
        if draw.random() < 0.3:
            # Also where a variable is taken out again, and where one change follows the other.
            changed.run(variable.reset, token) if draw.random() < 0.5 else changed.run(variable.set, "x")
        del token
        copies = [changed.copy()] if is_copied else []
        now = tally(held[0])  # outside of the assertion, which would keep the cell once more
        assert now != before[0]
        del changed, copies
        assert (tally(held[0]), count_references(held[3])) == before


@pytest.mark.virtual_time("asyncio", "trio")
@pytest.mark.parametrize("variables", [0, 40])
async def test_jobs_know_themselves_and_share_a_cell_wherever_that_lies(virtual_time: Any, variables: int):
    for number in range(variables):
        ContextVar[Any](f"user {number}").set(number)
    sharing(running_cell).set(1)
    cells: set[int] = set()

    async def inner(item: int) -> Any:
        cells.add(id(running_cell.get()))  # kept by nobody, so that a new one may be where one was
        here = qanat.current_job().item
        there = await anyio.to_thread.run_sync(lambda: qanat.current_job().item) if item % 10 == 9 else item
        return here, there, item

    async def outer(item: int) -> Any:
        found = await qanat.map(inner, range(item, item + 10), concurrency=1)
        return qanat.current_job().item, found

    got = await qanat.map(outer, [0, 100], concurrency=1)
    assert got == [(at, [(each,) * 3 for each in range(at, at + 10)]) for at in (0, 100)]
    assert len(cells) <= 2
