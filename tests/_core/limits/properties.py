"""What every limit promises, as one function that holds a limit to it.

`check_limit_holds` drives jobs through a limit as the dispatcher does: ask, wait until the time that
it named or until something finishes, ask again, take. At each step an oracle, which looks at the
whole history and knows nothing of the limit's numbers, says whether a job may start.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf, nextafter
from random import Random
from typing import TYPE_CHECKING, Any, cast

from qanat._core.job import Job
from qanat._core.limit import Limit

if TYPE_CHECKING:
    from qanat._core.outcome import Outcome

JOB: Job[None] = Job(0, None, 0, cast("Any", None))
OUTCOME: Outcome[None, None] = cast("Any", None)
SEED = 7
MOST_ASKS = 1_000


@dataclass
class History:
    """When jobs started and ended, in the order of their starts; infinity: it still runs."""

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)

    @property
    def running(self) -> int:
        return self.ends.count(inf)


MayStart = Callable[[History, float], bool]
"""The oracle: whether a job may start at this time, given what happened before."""

Plan = Sequence[tuple[float, float]]
"""For each job the seconds since the arrival of the job before, and the seconds that it runs."""


class Ear:
    """Count how often the limit said that its answer changed."""

    def __init__(self) -> None:
        self.heard = 0

    def limit_changed(self) -> None:
        self.heard += 1


def bound(limit: Limit, precision: float = 0.0) -> Limit:
    """Bind a limit as a run does, with a source of randomness that is always the same."""
    limit.bind(1, Random(SEED), precision)
    return limit


def check_limit_holds(make: Callable[[], Limit], may_start: MayStart, plan: Plan) -> History:
    """Drive the plan through a new limit, and assert all that limits promise.

    Each job starts only when the oracle allows it, and not an instant later; asking changes
    nothing; a time that is named lies ahead; whoever waits without a time hears `changed`; and the
    limit is as good as new when it says so, and sooner or later says so.
    """
    limit, ear, history = bound(make()), Ear(), History()
    limit.listen(ear)
    arrivals = deque[tuple[float, float]]()
    at = 0.0
    for gap, runs_for in plan:
        at += gap
        arrivals.append((at, runs_for))
    waiting, finishes = deque[float](), list[tuple[float, int]]()
    now, named_at, asks = 0.0, inf, 0
    while arrivals or waiting or finishes:
        now = min(
            arrivals[0][0] if arrivals else inf,
            finishes[0][0] if finishes else inf,
            named_at if waiting else inf,
        )
        assert now < inf, "whoever waits is never woken"
        while finishes and finishes[0][0] <= now:
            job = heappop(finishes)[1]
            history.ends[job] = now
            _check_give_back(limit, ear, now)
            _check_freshness(make, limit, now)
        while arrivals and arrivals[0][0] <= now:
            waiting.append(arrivals.popleft()[1])
        while waiting:
            asks += 1
            assert asks < MOST_ASKS, "whoever asks again at the named time spins"
            named_at = _check_answer(limit, may_start, history, now)
            if named_at > now:
                break
            limit.take(JOB, now)
            heappush(finishes, (now + waiting.popleft(), len(history.starts)))
            history.starts.append(now)
            history.ends.append(inf)
            _check_freshness(make, limit, now)
    assert limit.fresh_at(now) < inf, "never as good as new, with nothing running"
    return history


def _check_answer(limit: Limit, may_start: MayStart, history: History, now: float) -> float:
    before = state_of(limit)
    at = limit.ready_at(JOB, now)
    assert limit.ready_at(JOB, now) == at
    assert state_of(limit) == before, "asking changed something"
    if at <= now:
        assert may_start(history, now), "above the limit"
    else:
        latest = now + 1e6 if at == inf else max(now, nextafter(at, -inf))
        assert not may_start(history, now), "named a time past the true one"
        assert not may_start(history, latest), "named a time past the true one"
    return at


def _check_give_back(limit: Limit, ear: Ear, now: float) -> None:
    told, heard = limit.ready_at(JOB, now), ear.heard
    limit.give_back(JOB, OUTCOME, now)
    if max(now, limit.ready_at(JOB, now)) < told:
        assert ear.heard > heard, "an earlier answer, and nobody was told"


def _check_freshness(make: Callable[[], Limit], limit: Limit, now: float) -> None:
    at = limit.fresh_at(now)
    if at < inf:
        at = max(at, now)
        assert starts_from(twin_of(limit), at) == starts_from(bound(make()), at), "not as good as new"


def starts_from(limit: Limit, now: float) -> list[float]:
    """Return when seven jobs start that run for no time; fewer if the limit stops them for good."""
    starts = list[float]()
    while len(starts) < 7:
        now = max(now, limit.ready_at(JOB, now))
        if now == inf:
            break
        limit.take(JOB, now)
        limit.give_back(JOB, OUTCOME, now)
        starts.append(now)
    return starts


def state_of(limit: Limit) -> list[object]:
    """Return a copy of all that a limit keeps."""
    return [copy.copy(getattr(limit, name)) for name in _slots(type(limit))]


def twin_of(limit: Limit) -> Limit:
    """Return a limit in the same state, with a new source of randomness and no listeners."""
    twin = bound(type(limit).__new__(type(limit)))
    for name, value in zip(_slots(type(limit)), state_of(limit), strict=True):
        setattr(twin, name, value)
    return twin


def _slots(cls: type[Limit]) -> list[str]:
    return [name for part in cls.__mro__ if part is not Limit for name in getattr(part, "__slots__", ())]
