"""Hold a limit of your own to what every limit promises."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf, isclose, isnan
from random import Random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from qanat._core.dispatcher.account import make_outcome
from qanat._core.job import Job
from qanat._core.limit import Limit, Refused
from qanat.testing._plans import BrokenPromiseError, try_plans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_STEPS = 25
"""Jobs of the longest plan."""
MOST_ASKS = 1000
"""Questions of a plan after which it spins."""
SEED = 1
CLOSE = 1e-9
"""Share of a time that rounding may take."""
FAR = 1e6
"""Seconds: longer than any limit under test reaches."""


class Attempt(NamedTuple):
    """A job that was started, as `may_start` sees it.

    Attributes:
        item: The job's item.
        started_at: When it was started.
        ended_at: When it ended; infinity if it still runs.
        state: How it ended.
    """

    item: Any
    started_at: float
    ended_at: float
    state: Literal["done", "dead", "cancelled"]


class _Step(NamedTuple):
    """A job that arrives."""

    gap: float
    item: Any
    runs_for: float
    state: Literal["done", "dead", "cancelled"]

    def __str__(self) -> str:
        return (
            f"{self.gap:g} s later item {self.item!r} arrives, runs for {self.runs_for:g} s, is {self.state}"
        )


def check_limit(
    make: Callable[[], Limit],
    *,
    may_start: Callable[[Sequence[Attempt], float], bool] | None = None,
    items: Sequence[Any] = (0,),
    plans: int = 300,
    seed: int = 0,
) -> None:
    """Try a limit with random plans of arrivals, of how long jobs run and of how they end.

    Asking has to change nothing. A time that is named has to lie ahead, and asked again then the
    answer is yes or a strictly later time. Who is told to wait for a change has to be told of it;
    with nothing running and nothing refused, some job has to be let in sooner or later. From
    `fresh_at` on it has to behave like a new one. `take` and `give_back` must not raise.

    Args:
        make: Makes a new limit.
        may_start: Whether a job may start at a time, given what was started before: the limit is
            then held to it exactly, never above, and late by rounding at most. Only of use if the
            answer does not depend on the job.
        items: What the jobs' items are drawn from.
        plans: How many random plans are tried.
        seed: Where the randomness begins: the same seed, the same plans.

    Raises:
        AssertionError: Which promise was broken, and the shortest plan found that breaks it.
        TypeError: If `make` makes nothing.
        ValueError: If there are no items or no plans.

    Example:
        >>> from qanat import Concurrency
        >>> from qanat.testing import check_limit
        >>> check_limit(
        ...     lambda: Concurrency(2),
        ...     may_start=lambda started, now: sum(each.ended_at > now for each in started) < 2,
        ... )
    """
    if not callable(make):
        raise TypeError(f"make must be a function without arguments that makes a new limit, got {make!r}")

    def run(plan: Sequence[_Step]) -> None:
        _Trial(make, may_start).run(plan)

    try_plans(run, _drawn_step, items=items, most_steps=MOST_STEPS, plans=plans, seed=seed)


def _drawn_step(rng: Random, items: Sequence[Any]) -> _Step:
    # Equal times and very short ones are where borders are missed.
    gap = rng.choice((0.0, 0.0, 0.0, 0.1, 0.25, 1.0, rng.random(), 10.0 * rng.random()))
    runs_for = rng.choice((0.0, 0.1, 0.5, 1.0, rng.random(), 5.0 * rng.random()))
    state = cast("Literal['done']", rng.choice(("done", "done", "done", "dead", "cancelled")))
    return _Step(gap, rng.choice(items), runs_for, state)


class _Ear:
    """Hear that an answer may have changed."""

    heard = 0

    def limit_changed(self) -> None:
        """Count it."""
        self.heard += 1


class _Trial:
    """One plan, driven through one limit as the dispatcher does it: first come, first asked."""

    def __init__(
        self, make: Callable[[], Limit], may_start: Callable[[Sequence[Attempt], float], bool] | None
    ) -> None:
        limit = make()
        if not isinstance(cast("object", limit), Limit):
            raise BrokenPromiseError(f"make() must give a qanat.Limit, got {limit!r}")
        self.make = make
        self.limit = limit
        self.may_start = may_start
        self.ear = _Ear()
        self.attempts: list[Attempt] = []
        self.running: list[tuple[float, int, Job[Any], Literal["done", "dead", "cancelled"]]] = []
        self.named_at = inf
        self.asks = 0
        self.rng = Random(SEED)
        limit.bind(1, self.rng)
        limit.listen(self.ear)

    def run(self, plan: Sequence[_Step]) -> None:
        """Let the jobs of the plan arrive, wait, run and end."""
        arrivals: list[tuple[float, Job[Any], _Step]] = []
        at = 0.0
        for number, step in enumerate(plan):
            at += step.gap
            job = Job(number, step.item, number, cast("Any", None), offered_at=at)
            arrivals.append((at, job, step))
        arrivals.reverse()
        waiting: list[tuple[Job[Any], _Step]] = []
        now = 0.0
        while arrivals or waiting or self.running:
            now = min(
                arrivals[-1][0] if arrivals else inf,
                self.running[0][0] if self.running else inf,
                max(now, self.named_at) if waiting else inf,
            )
            if now == inf:
                raise BrokenPromiseError(
                    "jobs wait for ever: ready_at said inf, and nothing runs that could help"
                )
            self._end(now, waiting)
            while arrivals and arrivals[-1][0] <= now:
                _, job, step = arrivals.pop()
                waiting.append((job, step))
            while waiting and self._starts(waiting[0][0], waiting[0][1], now):
                waiting.pop(0)
        self._check_fresh(now)

    def _starts(self, job: Job[Any], step: _Step, now: float) -> bool:
        """Ask for a job; start it if it may. True if it waits no more."""
        self.asks += 1
        if self.asks > MOST_ASKS:
            raise BrokenPromiseError("whoever asks again at the time that ready_at named spins")
        try:
            at = self._asked(job, now)
        except Refused as refused:
            if not isinstance(cast("object", refused.error), Exception):
                raise BrokenPromiseError(f"Refused must carry an error, got {refused.error!r}") from None
            return True
        if at > now:
            self.named_at = at
            return False
        self.named_at = inf
        self.limit.take(job, now)
        ends_at = now + step.runs_for
        heappush(self.running, (ends_at, len(self.attempts), job, step.state))
        job.started_at = now
        self.attempts.append(Attempt(job.item, now, inf, step.state))
        return True

    def _asked(self, job: Job[Any], now: float) -> float:
        """Ask a limit as often as it takes to see that asking changes nothing."""
        limit = self.limit
        at = limit.ready_at(job, now)
        if (
            isinstance(cast("object", at), bool)
            or not isinstance(cast("object", at), (int, float))
            or isnan(at)
        ):
            raise BrokenPromiseError(f"ready_at must give a time, got {at!r}")
        if at != inf:
            limit.ready_at(job, max(now, at) + FAR)
        again = limit.ready_at(job, now)
        if again != at and max(again, now) != max(at, now):
            raise BrokenPromiseError(f"asking changed something: ready_at said {at!r}, and then {again!r}")
        if self.may_start is not None:
            self._compare(at, now)
        return at

    def _compare(self, at: float, now: float) -> None:
        may = self.may_start
        assert may is not None  # noqa: S101 - asked only then
        if at <= now:
            if not may(self.attempts, now):
                raise BrokenPromiseError(f"ready_at let a job start at {now!r}, which may_start forbids")
            return
        latest = now + FAR if at == inf else at - CLOSE * max(1.0, at)
        for when in (now, latest) if latest >= now else ():
            if may(self.attempts, when):
                raise BrokenPromiseError(
                    f"ready_at said {at!r}, past {when!r}, at which may_start allows a job"
                )

    def _end(self, now: float, waiting: Sequence[tuple[Job[Any], _Step]]) -> None:
        """Let the jobs end whose time has come, and see that those who wait are told what changed."""
        while self.running and self.running[0][0] <= now:
            _, number, job, state = heappop(self.running)
            attempt = self.attempts[number]
            self.attempts[number] = attempt._replace(ended_at=now)
            error = None if state == "done" else RuntimeError(f"the attempt is {state}")
            heard = self.ear.heard
            outcome = make_outcome(
                job, None, error, state, now, now - attempt.started_at, attempt.started_at, 1
            )
            self.limit.give_back(job, outcome, now)
            if not waiting:
                continue
            if self.ear.heard > heard:
                self.named_at = now
                continue
            try:
                at = self.limit.ready_at(waiting[0][0], now)
            except Refused:
                continue
            if max(now, at) < max(now, self.named_at):
                raise BrokenPromiseError(
                    f"give_back made the answer {at!r} instead of {self.named_at!r}, without changed()"
                )

    def _check_fresh(self, now: float) -> None:
        """See that it is like a new one from when it says so; by the times of the next starts."""
        at = self.limit.fresh_at(now)
        if isnan(at):
            raise BrokenPromiseError(f"fresh_at must give a time, got {at!r}")
        if at == inf or not self.attempts:
            return
        at = max(at, now)
        new = self.make()
        new.bind(1, Random(SEED))
        self.rng.seed(SEED)
        item = self.attempts[0].item
        got, expected = _starts_from(self.limit, item, at), _starts_from(new, item, at)
        if len(got) != len(expected) or not all(map(_are_close, got, expected)):
            raise BrokenPromiseError(
                f"fresh_at said {at!r}, but jobs then start at {got!r}, with a new limit at {expected!r}"
            )


def _are_close(one: float, other: float) -> bool:
    return isclose(one, other, rel_tol=CLOSE)


def _starts_from(limit: Limit, item: Any, now: float) -> list[float]:
    """Return when five jobs start that stay; fewer if the limit stops them for good."""
    starts: list[float] = []
    for number in range(5):
        job: Job[Any] = Job(number, item, number, cast("Any", None), offered_at=now)
        for _ in range(MOST_ASKS):
            try:
                at = limit.ready_at(job, now)
            except Refused:
                at = inf
            if at <= now or at == inf:
                break
            now = at
        else:
            raise BrokenPromiseError("whoever asks again at the time that ready_at named spins")
        if at == inf:
            break
        limit.take(job, now)
        starts.append(now)
    return starts
