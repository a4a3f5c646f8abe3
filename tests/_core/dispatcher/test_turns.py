"""Children take turns by weight; who leaves saves nothing up."""

from __future__ import annotations

import pytest

from qanat._core.dispatcher.node import Node
from qanat._core.dispatcher.turns import Turns


def ring(**weights: float) -> tuple[Turns, dict[str, Node]]:
    turns, nodes = Turns(), dict[str, Node]()
    for name, weight in weights.items():
        node = nodes[name] = Node(None, name, ())
        node.weight = weight
        turns.add(node)
    return turns, nodes


def served(turns: Turns, times: int) -> str:
    names: list[str] = []
    for _ in range(times):
        node = turns.current()
        assert node is not None
        names.append(str(node.key))
        turns.spend(node)
    return "".join(names)


def test_nobody_has_the_turn_when_nobody_takes_part():
    assert Turns().current() is None


def test_equals_take_turns():
    assert served(ring(a=1, b=1, c=1)[0], 6) == "abcabc"


def test_turns_are_shared_by_weight():
    assert served(ring(a=2, b=1)[0], 6) == "aabaab"


def test_a_cost_is_paid_for_with_turns():
    turns, nodes = ring(a=2, b=2)
    turns.spend(nodes["a"], 2.0)
    assert served(turns, 3) == "bba"


def test_a_newcomer_is_last_in_the_round():
    turns, _ = ring(a=1, b=1)
    assert served(turns, 1) == "a"
    turns.add(Node(None, "c", ()))
    assert served(turns, 3) == "bac"


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


def test_what_was_left_of_a_turn_is_not_saved_up():
    turns, nodes = ring(a=3, b=1)
    turns.spend(nodes["a"])
    turns.leave(nodes["a"])
    turns.add(nodes["a"])
    assert nodes["a"].deficit == 3.0
    assert served(turns, 5) == "baaab"


def test_all_leave_when_it_is_cleared():
    turns, nodes = ring(a=1, b=1)
    turns.clear()
    assert len(turns) == 0
    assert not any(node.in_turns for node in nodes.values())
