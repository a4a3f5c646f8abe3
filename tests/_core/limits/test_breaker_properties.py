"""Whatever ends in whatever order: what a circuit breaker never does, and what it always does."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from qanat._core.limit import Refused
from qanat._core.limits import CircuitBreaker
from qanat._core.limits.health import Share
from qanat.errors import Discard, Throttled
from tests._core.limits.attempts import CANCELLED, FAULT, a_job, end, start
from tests._core.limits.properties import Ear, state_of

if TYPE_CHECKING:
    from qanat._core.job import Job

ENDINGS: list[BaseException | None] = [None, FAULT, FAULT, CANCELLED, Discard(), Throttled()]
STEPS = st.lists(
    st.one_of(
        st.just(("start", 0)),
        st.tuples(st.just("end"), st.tuples(st.integers(0, 30), st.sampled_from(range(len(ENDINGS))))),
        st.tuples(st.just("pass"), st.sampled_from([0.0, 0.1, 1.0, 3.0, 10.0])),
    ),
    max_size=60,
)
SETTINGS = st.fixed_dictionaries(
    {
        "failures": st.integers(1, 3),
        "rate": st.sampled_from([None, 0.3, 1.0]),
        "probes": st.integers(1, 3),
        "fail_fast": st.booleans(),
        "cooldown": st.sampled_from([0.1, 3.0]),
    }
)


def kept_by(breaker: CircuitBreaker) -> list[object]:
    """Return a copy of all that it keeps, its count of failures too."""
    kept = [each for each in state_of(breaker) if not isinstance(each, Share)]
    share = breaker._share
    return [*kept, share.calls, share.bad, [list(each) for each in share._slices]]


class Watched:
    """A breaker, what runs under it, and what was let through since it last opened."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.probes = settings["probes"]
        self.cooldown = settings["cooldown"]
        self.breaker = CircuitBreaker(**settings)
        self.ear = Ear()
        self.breaker.listen(self.ear)
        self.now = 0.0
        self.opened_at = -inf
        self.running: list[Job[Any]] = []
        self.through: list[Job[Any]] = []
        self.good = 0

    def ask(self) -> float:
        """Ask twice; refused is never."""
        before = kept_by(self.breaker)
        try:
            at = self.breaker.ready_at(a_job(), self.now)
            assert self.breaker.ready_at(a_job(), self.now) == at
        except Refused:
            at = inf
        assert kept_by(self.breaker) == before, "asking changed something"
        if self.breaker.state == "open":
            assert at >= self.opened_at + self.cooldown or at <= self.now
        return at

    def start(self) -> bool:
        if self.ask() > self.now:
            return False
        if self.breaker.state == "open":
            assert self.now >= self.opened_at + self.cooldown, "started while it was open"
            self.through, self.good = [], 0
        job = start(self.breaker, self.now)
        self.running.append(job)
        self.through.append(job)
        if self.breaker.state == "half-open":
            under_way = [each for each in self.through if each in self.running]
            assert len(under_way) + self.good <= self.probes, "too many probes"
        return True

    def end(self, number: int, error: BaseException | None) -> None:
        if not self.running:
            return
        job = self.running.pop(number % len(self.running))
        told, heard, before = self.ask(), self.ear.heard, self.breaker.state
        end(self.breaker, job, self.now, error)
        if error is None and before == "half-open" and job in self.through:
            self.good += 1
        if before != "open" and self.breaker.state == "open":
            assert error is FAULT
            self.opened_at = self.now
            self.through, self.good = [], 0
        if max(self.now, self.ask()) < told:
            assert self.ear.heard > heard, "an earlier answer, and nobody was told"


@run_with(max_examples=40, deadline=None)
@given(SETTINGS, STEPS)
def test_it_keeps_its_promises_and_always_recovers(settings: dict[str, Any], plan: Any):
    watched = Watched(settings)
    for what, argument in plan:
        if what == "start":
            watched.start()
        elif what == "end":
            watched.end(argument[0], ENDINGS[argument[1]])
        else:
            watched.now += argument
    # The other side is well again, and what hangs is cancelled in the end.
    while watched.running:
        watched.end(0, CANCELLED)
    watched.now += settings["cooldown"] * 2
    for _ in range(70):
        watched.start()
        watched.end(0, None)
    assert watched.breaker.state == "closed"
    assert [watched.start() for _ in range(50)] == [True] * 50
    while watched.running:
        watched.end(0, None)
    assert watched.breaker.fresh_at(watched.now) < inf
    assert watched.breaker._taken == watched.breaker._running == 0


@given(SETTINGS, st.integers(0, 5))
def test_probes_that_hang_for_ever_do_not_keep_it_open(settings: dict[str, Any], hanging: int):
    """Unless all of its places are held by probes that neither end nor are cancelled."""
    watched = Watched(settings | {"failures": 1, "rate": None})
    for _ in range(hanging + 1):
        watched.start()
    watched.end(0, FAULT)
    watched.now += settings["cooldown"] * 2
    for _ in range(settings["probes"]):
        assert watched.start()
        watched.end(-1, None)
    assert watched.breaker.state == "closed"
