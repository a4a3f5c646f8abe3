"""Hold an order of your own to what every order promises."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from qanat._core.job import Job
from qanat.testing._plans import BrokenPromiseError, try_plans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qanat._core.order import Order

MOST_STEPS = 40
"""Steps of the longest plan."""


class _Step(NamedTuple):
    """What is done with the order."""

    do: Literal["add", "put_back", "take", "discard"]
    item: Any = None
    priority: float = 0.0
    choice: int = 0

    def __str__(self) -> str:
        if self.do in {"add", "put_back"}:
            return f"{self.do} item {self.item!r} with priority {self.priority:g}"
        return self.do if self.do == "take" else f"discard the job that came in as number {self.choice}"


def check_order(
    make: Callable[[], Order], *, items: Sequence[Any] = range(5), plans: int = 300, seed: int = 0
) -> None:
    """Try an order with random plans of arrivals, starts, retries and cancellations.

    It has to name one of the jobs that are in, the same one until something changes; to hand out the
    one that it named; to lose none and to give none twice; to tell jobs apart by identity; to know
    how many wait; and to raise `IndexError` when none does.

    Args:
        make: What `order=` would be given: it makes a new, empty order.
        items: What the jobs' items are drawn from.
        plans: How many random plans are tried.
        seed: Where the randomness begins: the same seed, the same plans.

    Raises:
        AssertionError: Which promise was broken, and the shortest steps found that break it.
        TypeError: If `make` makes nothing.
        ValueError: If there are no items or no plans.

    Example:
        >>> from collections import deque
        >>> from qanat.testing import check_order
        >>> class Reverse:
        ...     def __init__(self):
        ...         self.jobs = []
        ...
        ...     def add(self, job):
        ...         self.jobs.append(job)
        ...
        ...     put_back = add
        ...
        ...     def head(self):
        ...         return self.jobs[-1]
        ...
        ...     def take(self):
        ...         return self.jobs.pop()
        ...
        ...     def discard(self, job):
        ...         self.jobs.remove(job)
        ...
        ...     def __len__(self):
        ...         return len(self.jobs)
        >>> check_order(Reverse)
    """
    if not callable(make):
        raise TypeError(f"make must be a function without arguments that makes a new order, got {make!r}")

    def run(plan: Sequence[_Step]) -> None:
        _run(make, plan)

    try_plans(run, _drawn_step, items=items, most_steps=MOST_STEPS, plans=plans, seed=seed)


def _drawn_step(rng: Random, items: Sequence[Any]) -> _Step:
    kind = rng.choice(("add", "add", "add", "put_back", "take", "take", "discard"))
    if kind in {"add", "put_back"}:
        return _Step(cast("Any", kind), rng.choice(items), rng.choice((0.0, 0.0, 1.0, -1.0, 2.5)))
    return _Step(cast("Any", kind), choice=rng.randrange(MOST_STEPS))


def _run(make: Callable[[], Order], plan: Sequence[_Step]) -> None:
    order = make()
    bind = getattr(order, "bind", None)
    if bind is not None:
        bind(Random(1))
    inside: list[Job[Any]] = []
    taken: list[Job[Any]] = []
    came = 0
    _check(order, inside)
    for step in plan:
        if step.do == "add":
            job = Job(
                came, step.item, came, cast("Any", None), offered_at=float(came), priority=step.priority
            )
            came += 1
            order.add(job)
            inside.append(job)
        elif step.do == "put_back" and taken:
            job = taken.pop(step.choice % len(taken))
            order.put_back(job)
            inside.append(job)
        elif step.do == "take" and inside:
            taken.append(_take(order, inside))
        elif step.do == "discard" and inside:
            order.discard(inside.pop(step.choice % len(inside)))
        _check(order, inside)
    while inside:
        _take(order, inside)
        _check(order, inside)


def _take(order: Order, inside: list[Job[Any]]) -> Job[Any]:
    named = order.head()
    job = order.take()
    if job is not named:
        raise BrokenPromiseError(f"take() gave {_said(job)} where head() had named {_said(named)}")
    inside[:] = [each for each in inside if each is not job]
    return job


def _check(order: Order, inside: Sequence[Job[Any]]) -> None:
    if len(order) != len(inside):
        raise BrokenPromiseError(f"len() is {len(order)} where {len(inside)} jobs wait")
    if not inside:
        for name in ("head", "take"):
            try:
                job = getattr(order, name)()
            except IndexError:
                continue
            raise BrokenPromiseError(f"{name}() gave {_said(job)} where no job waits, and IndexError is due")
        return
    job = order.head()
    if not any(job is each for each in inside):
        raise BrokenPromiseError(f"head() named {_said(job)}, which does not wait")
    if order.head() is not job:
        raise BrokenPromiseError("head() named another job when asked again, and nothing had changed")
    if len(order) != len(inside):
        raise BrokenPromiseError("head() changed how many jobs wait")


def _said(job: object) -> str:
    return f"the job with item {job.item!r}" if isinstance(job, Job) else repr(job)  # pyright: ignore[reportUnknownMemberType]
