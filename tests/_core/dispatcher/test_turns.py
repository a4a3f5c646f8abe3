"""Children take turns by weight and cost; who was away saves nothing up, and keeps what it owes."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._core.dispatcher.node import Node
from qanat._core.dispatcher.turns import FEWEST, Turns, stride_of


def child(name: str, weight: float = 1.0) -> Node:
    node = Node(None, name, ())
    node.stride = stride_of(weight)
    return node


def ring(**weights: float) -> tuple[Turns, dict[str, Node]]:
    turns, nodes = Turns(), dict[str, Node]()
    for name, weight in weights.items():
        nodes[name] = child(name, weight)
        turns.add(nodes[name])
    return turns, nodes


def served(turns: Turns, times: int, cost: object = 1.0) -> str:
    names: list[str] = []
    for _ in range(times):
        node = turns.current()
        assert node is not None
        names.append(str(node.key))
        turns.spend(node, cost)
    return "".join(names)


def test_nobody_has_the_turn_when_nobody_takes_part():
    assert Turns().current() is None


def test_equals_take_turns():
    assert served(ring(a=1, b=1, c=1)[0], 6) == "abcabc"


def test_turns_are_shared_by_weight_and_spread_out():
    assert served(ring(a=2, b=1)[0], 9) == "abaabaaba"


WEIGHTS = {
    "one to three": (1, 2, 3),
    "fractions": (0.1, 0.2, 0.7),
    "tiny": (1e-9, 2e-9, 1e-9),
    "huge": (3e9, 1e9, 2e9),
    "huge and odd": (1e12, 5e11, 3e11 + 1),
    "many": tuple(range(1, 101)),
    "thousands": (3000, 2000, 1000),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_shares_are_within_2_percent_of_the_weights_over_10_000_starts(weights: tuple[float, ...]):
    turns, _ = ring(**{str(number): weight for number, weight in enumerate(weights)})
    counts = Counter[str]()
    for _ in range(10_000):
        counts[served(turns, 1)] += 1
    for number, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(counts[str(number)] / 10_000 - share) <= 0.02 * share + 1 / 10_000


def test_next_to_a_huge_weight_a_small_one_has_its_small_share():
    turns, _ = ring(a=1e9, b=1)
    assert Counter(served(turns, 10_000)) == {"a": 10_000}
    turns, _ = ring(a=1000, b=1)
    assert Counter(served(turns, 2_010)) == {"a": 2_008, "b": 2}


def test_huge_weights_are_told_apart_however_long_others_have_gone_on():
    turns, _ = ring(a=1e-6, b=1e-6)
    served(turns, 1_000)
    turns.add(child("c", 2e12))
    turns.add(child("d", 1e12))
    counts = Counter(served(turns, 3_000))
    assert abs(counts["c"] - 2_000) <= 2
    assert abs(counts["d"] - 1_000) <= 2


def test_no_weight_costs_more_steps_than_another(monkeypatch: pytest.MonkeyPatch):
    """Seen in how often a later place is looked for: once a start at most."""
    moves = 0
    move_on = Turns._move_on

    def count(self: Turns) -> None:
        nonlocal moves
        moves += 1
        move_on(self)

    monkeypatch.setattr(Turns, "_move_on", count)
    turns, _ = ring(a=1e-12, b=1, c=1e12)
    served(turns, 1_000)
    assert moves <= 1_000
    assert len(turns._places) <= 3


def test_a_dear_start_is_paid_for_with_turns():
    turns, nodes = ring(a=1, b=1)
    turns.spend(nodes["a"], 3)
    assert served(turns, 5) == "bbbab"


def test_shares_count_what_starts_cost():
    turns, nodes = ring(a=1, b=2)
    spent = Counter[str]()
    for _ in range(10_000):
        node = turns.current()
        assert node is not None
        cost = 2.5 if node is nodes["a"] else 0.5
        spent[str(node.key)] += int(cost * 2)
        turns.spend(node, cost)
    assert abs(spent["b"] / spent["a"] - 2) < 0.01


@pytest.mark.parametrize(
    "cost", [0, 0.0, -1.0, nan, inf, -inf, {"tokens": 500}, True, None, 1, 1.0, "5"], ids=repr
)
def test_what_is_no_cost_counts_as_one(cost: object):
    turns, nodes = ring(a=1, b=1)
    turns.spend(nodes["a"], cost)
    assert served(turns, 4) == "baba"


def test_a_newcomer_is_last_in_the_round():
    turns, _ = ring(a=1, b=1)
    assert served(turns, 1) == "a"
    turns.add(child("c"))
    assert served(turns, 6) == "bacbac"


def test_coming_and_going_gains_nothing():
    """With a job at a time, in a lane that is made anew each time, it has its turn and no more."""
    turns, _ = ring(a=1, b=1)
    started = ""
    for _ in range(50):
        guest = child("c")
        turns.add(guest)
        while "c" not in (once := served(turns, 1)):
            started += once
        started += once
        turns.leave(guest)
    assert Counter(started) == {"a": 50, "b": 50, "c": 50}


def test_joining_twice_is_joining_once():
    turns, nodes = ring(a=1, b=1)
    turns.add(nodes["a"])
    assert len(turns) == 2


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_whoever_leaves_is_passed_over_wherever_it_stood(name: str):
    turns, nodes = ring(a=1, b=1, c=1)
    turns.leave(nodes[name])
    assert not nodes[name].in_turns
    assert served(turns, 2) == "abc".replace(name, "")
    turns.leave(nodes[name])
    assert len(turns) == 2


def test_what_was_not_used_while_away_is_not_saved_up():
    turns, nodes = ring(a=1, b=1)
    turns.leave(nodes["a"])
    served(turns, 10)
    turns.add(nodes["a"])
    assert served(turns, 4) == "baba"


def test_what_a_dear_start_cost_is_still_owed_after_being_away():
    turns, nodes = ring(a=1, b=1)
    turns.spend(nodes["a"], 5)
    turns.leave(nodes["a"])
    assert turns.owes(nodes["a"])
    assert served(turns, 2) == "bb"
    turns.add(nodes["a"])
    assert served(turns, 5) == "bbbab"
    assert not turns.owes(nodes["a"])


def test_nobody_owes_anything_once_all_have_gone():
    turns, nodes = ring(a=1, b=1)
    turns.spend(nodes["a"], 50)
    for node in nodes.values():
        turns.leave(node)
    assert not turns.owes(nodes["a"])
    turns.add(nodes["b"])
    turns.add(nodes["a"])
    assert served(turns, 4) == "baba"


def test_the_turn_stays_whoever_comes():
    turns, nodes = ring(a=1, b=1)
    turns.leave(nodes["b"])
    served(turns, 5)
    turns.add(nodes["b"])
    turns.add(child("c", 1e9))
    assert turns.current() is nodes["a"]


def test_who_comes_back_in_time_has_its_old_place():
    turns, nodes = ring(a=1, b=1, c=1)
    turns.leave(nodes["b"])
    turns.add(nodes["b"])
    assert served(turns, 3) == "abc"


def test_all_leave_when_it_is_cleared():
    turns, nodes = ring(a=1, b=2)
    turns.clear()
    assert len(turns) == 0
    assert not any(node.in_turns or node.is_listed for node in nodes.values())


def listed(turns: Turns) -> int:
    return len(turns._listed()) + len(turns._places) - len(turns._later)


def test_who_has_left_is_let_go_of():
    turns, nodes = ring(**{f"n{number}": 1 + number % 7 for number in range(1_000)})
    for node in list(nodes.values())[1:]:
        turns.leave(node)
        assert listed(turns) <= 2 * len(turns) + FEWEST
    assert served(turns, 2) == "n0n0"


def test_guests_that_come_and_go_beside_one_that_stays_leave_nothing():
    """It never moves far enough for their places to come up by themselves."""
    turns, _ = ring(a=1e9)
    for number in range(1_000):
        guest = child("guest", 1 + number / 1_000)
        turns.add(guest)
        turns.leave(guest)
        assert listed(turns) <= 2 + FEWEST


class Model:
    """The same arithmetic with fractions, looking through all children each time."""

    def __init__(self) -> None:
        self.at: dict[str, Fraction] = {}
        self.inside: set[str] = set()
        self.served = self.furthest = Fraction(0)

    def first(self) -> Fraction:
        return min(self.at[name] for name in self.inside)


steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "leave", "spend", "spend", "spend"]),
        st.sampled_from("abcd"),
        st.sampled_from([1.0, 1.0, 2.0, 0.25]),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(st.tuples(*[st.sampled_from([0.5, 1.0, 2.0, 4.0])] * 4), steps)
def test_turns_agree_with_plain_arithmetic(weights: tuple[float, ...], steps: list[tuple[str, str, float]]):
    turns, model = Turns(), Model()
    nodes = {name: child(name, weight) for name, weight in zip("abcd", weights, strict=True)}
    period = {name: 1 / Fraction(weight) for name, weight in zip("abcd", weights, strict=True)}
    for what, name, cost in steps:
        if what == "add":
            before = turns.current()
            turns.add(nodes[name])
            assert before is None or turns.current() is before
            if name not in model.inside:
                at = model.at.get(name)
                at = model.served + period[name] if at is None else at
                at = max(at, model.first() if model.inside else model.served)
                model.at[name] = at
                model.inside.add(name)
        elif what == "leave":
            turns.leave(nodes[name])
            model.inside.discard(name)
            if not model.inside:
                model.served = model.furthest
        elif model.inside:
            current: Any = turns.current()
            assert model.at[current.key] == model.first()
            turns.spend(current, cost)
            model.served = model.first()
            model.at[current.key] = model.served + period[current.key] * Fraction(cost)
            model.furthest = max(model.furthest, model.at[current.key])
        assert len(turns) == len(model.inside)
        assert (turns.current() is None) is (not model.inside)
