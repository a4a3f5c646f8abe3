"""Where the cell lies in a context: in the first node of the mapping, or references to it say nothing."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Any

import pytest

from qanat._engine import context
from qanat._engine.context import (
    Cell,
    _counts,
    count_references,
    mapping_of,
    running_carrier,
    running_cell,
    variable_apart,
)

pytestmark = pytest.mark.skipif(not _counts, reason="nothing is counted here")


def mapping_with(variable: ContextVar[Any], other: ContextVar[Any]) -> Any:
    cell, place = Cell(), Context()
    place.run(other.set, None)
    place.run(variable.set, cell)
    return mapping_of(place, cell)


def test_our_own_two_variables_lie_apart():
    assert mapping_with(running_cell, running_carrier) is not None


def test_a_variable_that_shares_a_place_is_not_taken():
    other: ContextVar[Any] = ContextVar("other")
    many = [ContextVar[Any]("many") for _ in range(2000)]
    sharing = [each for each in many if mapping_with(each, other) is None]
    assert sharing, "by chance one of 32 does"
    found = [variable_apart("found", other) for _ in range(200)]
    assert all(mapping_with(each, other) is not None for each in found)


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
