"""A vigil: how long it stays awake, and when it does not begin."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from qanat._engine import vigil as vigil_module
from qanat._engine.loop import running_loop
from qanat._engine.vigil import DOUBLINGS, PATIENCE, Vigil

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Rounds:
    """A loop whose rounds are called for one by one, each a quarter of the patience after the one before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 100.0
        self.called: list[Callable[[], object]] = []
        self.are_cheap = True
        self.asked = 0
        self.yielded = 0
        monkeypatch.setattr(vigil_module, "monotonic", lambda: self.time)
        monkeypatch.setattr(vigil_module, "processors", lambda: 2.0)
        monkeypatch.setattr(vigil_module, "_yield", self.let_others)

    def let_others(self) -> None:
        self.yielded += 1

    def next_round(self, function: Callable[[], object]) -> bool:
        self.asked += 1
        if self.are_cheap:
            self.called.append(function)
        return self.are_cheap

    def sleepless(self) -> int:
        """Go on until nothing is called for; return how many rounds it took."""
        rounds = 0
        while self.called:
            rounds += 1
            self.time += PATIENCE / 4
            called, self.called = self.called, []
            for each in called:
                each()
        return rounds


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Rounds:
    return Rounds(monkeypatch)


def vigil_of(rounds: Any) -> Vigil:
    return Vigil(rounds)


def test_it_stays_awake_until_there_is_news(rounds: Rounds):
    vigil = vigil_of(rounds)
    for _ in range(3):
        vigil.begin()
        assert len(rounds.called) == 1
        rounds.called.pop()()
        assert len(rounds.called) == 1
        vigil.end()
        assert rounds.sleepless() == 1


def test_it_stays_awake_no_longer_than_its_patience(rounds: Rounds):
    vigil_of(rounds).begin()
    assert rounds.sleepless() == 5  # in the last one it is judged


def test_others_are_let_onto_the_processor_in_each_round(rounds: Rounds):
    vigil_of(rounds).begin()
    assert rounds.yielded == 0
    assert rounds.sleepless() == rounds.yielded == 5


def test_news_that_came_while_the_loop_was_at_work_are_in_time(rounds: Rounds):
    vigil = vigil_of(rounds)
    for _ in range(3):
        vigil.begin()
        assert len(rounds.called) == 1
        rounds.time += 10 * PATIENCE
        # The loop calls whoever reads behind what it was told to call.
        rounds.called.pop()()
        vigil.end()
        assert rounds.sleepless() == 1


def test_what_begins_behind_news_is_one_vigil(rounds: Rounds):
    vigil = vigil_of(rounds)
    for _ in range(3):
        vigil.begin()
        vigil.end()
    vigil.begin()
    assert len(rounds.called) == 1
    assert rounds.sleepless() == 5


def passes(vigil: Vigil, rounds: Rounds) -> int:
    """Return how many flights have no vigil before one has, in vain."""
    number = 0
    while True:
        vigil.begin()
        if rounds.sleepless():
            return number
        number += 1


def test_each_vigil_in_vain_lets_twice_as_many_flights_pass(rounds: Rounds):
    vigil = vigil_of(rounds)
    found = [passes(vigil, rounds) for _ in range(DOUBLINGS + 3)]
    assert found == [0, 2, 4, 8, 16, 32, 64, 128, 128, 128]


def test_news_in_time_make_it_as_willing_as_at_first(rounds: Rounds):
    vigil = vigil_of(rounds)
    assert [passes(vigil, rounds) for _ in range(4)] == [0, 2, 4, 8]
    for _ in range(17):
        vigil.begin()
    vigil.end()
    rounds.sleepless()
    assert [passes(vigil, rounds) for _ in range(3)] == [0, 2, 4]


def test_news_that_come_too_late_change_nothing(rounds: Rounds):
    vigil = vigil_of(rounds)
    assert [passes(vigil, rounds) for _ in range(3)] == [0, 2, 4]
    vigil.end()
    assert [passes(vigil, rounds) for _ in range(2)] == [8, 16]


def test_a_loop_with_dear_rounds_is_asked_once(rounds: Rounds):
    rounds.are_cheap = False
    vigil = vigil_of(rounds)
    for _ in range(3):
        vigil.begin()
    assert rounds.asked == 1


def test_on_one_processor_it_never_begins(rounds: Rounds, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vigil_module, "processors", lambda: 1.0)
    vigil_of(rounds).begin()
    assert rounds.asked == 0


@pytest.mark.parametrize(
    ("mask", "bound", "expected"),
    [
        ({0}, None, 1.0),
        ({0, 3, 5}, None, 3.0),
        ({0, 1}, "max 100000", 2.0),
        ({0, 1}, "150000 100000", 1.5),
        ({0, 1}, "400000 100000", 2.0),
        ({0, 1}, "nonsense", 2.0),
        ({0, 1}, "1 0", 2.0),
    ],
)
def test_processors_are_those_of_the_process_and_of_its_container(
    mask: set[int], bound: str | None, expected: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    told = tmp_path / "cpu.max"
    if bound is not None:
        told.write_text(bound + "\n")
    monkeypatch.setattr(vigil_module, "CPU_MAX", told)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: mask, raising=False)
    assert vigil_module.processors.__wrapped__() == expected


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_calls_what_it_is_told_in_its_next_round_or_says_that_it_does_not(backend: str):
    async def main() -> tuple[bool, list[str]]:
        told: list[str] = []
        is_called = running_loop().next_round(lambda: told.append("called"))
        told.append("going on")
        await anyio.lowlevel.checkpoint()
        return is_called, told

    expected = (True, ["going on", "called"]) if backend == "asyncio" else (False, ["going on"])
    assert anyio.run(main, backend=backend) == expected
