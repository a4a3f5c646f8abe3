"""Random plans and the shortest one that still breaks a promise: a small property test without Hypothesis."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from qanat._core.arguments import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

S = TypeVar("S")


class BrokenPromiseError(AssertionError):
    """Say which promise was broken; raised while a plan runs."""


def try_plans(
    run: Callable[[Sequence[S]], None],
    draw_step: Callable[[Random, Sequence[Any]], S],
    *,
    items: Iterable[Any],
    most_steps: int,
    plans: int,
    seed: int,
) -> None:
    """Run so many random plans; raise for the shortest form of the first that breaks a promise.

    Args:
        run: Runs one plan.
        draw_step: Draws a step, with an item out of all if it takes one.
        items: What items are drawn from.
        most_steps: Steps of the longest plan.
        plans: How many plans are run.
        seed: Where the randomness begins.

    Raises:
        AssertionError: What was broken, and the steps that break it.
        ValueError: If there are no items or no plans.
    """
    drawn = list(items)
    if not drawn:
        raise ValueError("items must have at least one item, got none")
    for number in range(whole("plans", plans, 1)):
        rng = Random(f"{seed} {number}")
        plan = [draw_step(rng, drawn) for _ in range(rng.randint(1, most_steps))]
        problem = _problem(run, plan)
        if problem is not None:
            plan, problem = _shortest(run, plan, problem)
            steps = "\n".join(f"  {step}" for step in plan)
            raise AssertionError(
                f"{problem}; plan {number} of seed {seed}, made short:\n{steps}"
            ) from problem


def _problem(run: Callable[[Sequence[S]], None], plan: Sequence[S]) -> Exception | None:
    try:
        run(plan)
    except Exception as problem:  # noqa: BLE001 - whatever the code under test raises is a finding
        if isinstance(problem, BrokenPromiseError):
            return problem
        found = BrokenPromiseError(f"it raised {type(problem).__name__}: {problem}")
        found.__cause__ = problem
        return found
    return None


def _shortest(
    run: Callable[[Sequence[S]], None], plan: list[S], problem: Exception
) -> tuple[list[S], Exception]:
    """Leave out one step after the other, as long as some promise is still broken."""
    length = len(plan) + 1
    while len(plan) < length:
        length = len(plan)
        for place in reversed(range(length)):
            shorter = plan[:place] + plan[place + 1 :]
            found = _problem(run, shorter)
            if found is not None:
                plan, problem = shorter, found
    return plan, problem
