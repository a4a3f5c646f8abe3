"""The property finds the mistakes that a dispatcher is prone to: each mutant here is caught."""

from __future__ import annotations

import inspect
import textwrap
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.dispatcher import ending, ledger, lone_lane, parking, path, starting, straight
from qanat._core.dispatcher.gate import Gates
from qanat._core.dispatcher.timeline import Timeline
from qanat._core.dispatcher.tree import Tree
from qanat._core.orders import Fifo, Lifo
from tests._core.dispatcher.plans import check, fixed_plans
from tests._core.dispatcher.test_straight import LIMITS, check_both_ways

if TYPE_CHECKING:
    from collections.abc import Callable

# For each mutant: the function, what is in its source just once, and what stands there instead.
MUTANTS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "one slot too many": (
        straight.next_job, "self.running >= self.capacity or", "self.running > self.capacity or",
    ),
    "one slot too many in turns": (
        parking.park_if_full, "running < dispatcher.capacity", "running <= dispatcher.capacity",
    ),
    "one slot too few": (
        straight.next_job, "self.running >= self.capacity or", "self.running + 1 >= self.capacity or",
    ),
    "> for >= at a due time": (straight.next_job, "now >= self.timeline.at", "now > self.timeline.at"),
    "< for <= on the timeline": (Timeline.pop, "heap[0][0] <= now", "heap[0][0] < now"),
    "given back twice": (ending.give_back, "for limit in took:", "for limit in took + took:"),
    "never given back": (ending._free, "if took and outcome", "if not took and outcome"),
    "taken before all agreed": (
        starting._may_start, "if worst is not None:", "if worst is not None and node is lane:",
    ),
    "the wake is not passed on": (Gates.pass_on, "if gate is not None:", "if gate is None:"),
    "only one is woken": (parking.after_leaving, "dispatcher.gates.pass_on(node, now)", "node.take_wake()"),
    "a change is not heard": (Gates.open_changed, "self.open(gate, now)", "pass"),
    "a retry loses its attempt": (ending._again, "job.attempt += 1", "pass"),
    "the lane of a waiting job is dropped": (Tree.fade, "or len(old.order)", ""),
    "lost time counts twice": (ledger.settle, "node.since = now", "pass"),
    "the lone lane forgets its marks": (lone_lane._leave, "dispatcher._unmarked.leave(lane, now)", "pass"),
    "the lone lane leaves a job behind": (lone_lane._leave, "lane.activate()", "pass"),
    "straight without taking": (straight.next_job, "job._took = straight.held", "pass"),
    "straight with a slot too many": (
        straight.next_job, "self.running += 1\n    try:", "pass\n    try:",
    ),
    "straight with waits forgotten": (straight.next_job, "straight.waited(mark, job.offered_at)", "{}"),
    "straight with waits of before": (
        path.Straight.clears, "self.mark = self._then = self", "self.mark = self",
    ),
    "straight out of an empty lane": (
        straight.next_job, "after_leaving(self, straight.lane, straight.task, now)", "pass",
    ),
    "straight to a slot that is kept": (
        straight.finish_job, "self.running -= 1\n    if not straight", "if not straight",
    ),
    "straight and nothing given back": (straight.finish_job, "limit.give_back(job, outcome, now)", "pass"),
    "straight and nobody let in": (straight.finish_job, "unpark_if_not_full(self, now)", "pass"),
    "straight and not heard of a park": (
        ledger._change, "node.straight.is_clear = False", "pass",
    ),
    "straight and who runs not counted": (lone_lane.set_lone, "count_running(dispatcher, straight.lane)", "pass"),
    "a cancelled job still counts as waiting": (ending.withdraw, "dispatcher.waiting -= 1", "pass"),
}  # fmt: skip


def mutate(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any], old: str, new: str) -> None:
    """Give a function the code of its source with one change in it."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{old!r} is not in {function.__name__} just once"
    names: dict[str, Any] = {}
    exec("from __future__ import annotations\n" + source.replace(old, new), names)  # noqa: S102 - our own
    monkeypatch.setattr(function, "__code__", names[function.__name__].__code__)


def is_caught(plans: int = 1500) -> bool:
    for plan in fixed_plans(plans):
        try:
            check(plan)
        except Exception:
            return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS)
def test_property_catches(mutant: str, monkeypatch: pytest.MonkeyPatch):
    mutate(monkeypatch, *MUTANTS[mutant])
    assert is_caught()


@pytest.mark.slow
@pytest.mark.parametrize("plans", [200, pytest.param(3000, marks=pytest.mark.long)])
def test_property_passes_what_is_not_changed(plans: int):
    assert not is_caught(plans)


# Waits that add up to what a job waited, and are those of another cause: the other way tells.
MUTANTS_OF_WAITS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "straight with waits of others": (path.Straight.waited, "or since != self._since", ""),
}  # fmt: skip


def ways_differ(plans: int = 300) -> bool:
    rng = Random(5)
    for _ in range(plans):
        gaps, lengths, ends = [0.0, 0.5, 3.0], [0.0, 1.0, 2.5], ["done", "fails", "throttled"]
        plan = [
            (rng.choice(gaps), rng.choice(lengths), rng.choice(ends), None) for _ in range(rng.randint(2, 12))
        ]
        limits, where = rng.choice([*LIMITS, list]), rng.choice(["root", "task"])
        try:
            check_both_ways(plan, limits, where, rng.choice([Fifo, Lifo]), rng.randint(1, 4))
        except AssertionError:
            return True
    return False


@pytest.mark.parametrize("mutant", MUTANTS_OF_WAITS)
def test_the_other_way_tells_wrong_waits(mutant: str, monkeypatch: pytest.MonkeyPatch):
    mutate(monkeypatch, *MUTANTS_OF_WAITS[mutant])
    assert ways_differ()


def test_the_ways_agree_where_nothing_is_changed():
    assert not ways_differ()
