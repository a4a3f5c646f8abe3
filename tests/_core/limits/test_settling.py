"""How well `Adaptive` settles, on simulated servers: twenty seeds each.

The best number is the knee: throughput is as high there as it gets, and latency as low. *Settled* means
that after a warm-up of 20 round trips (of a call that does not queue) the median of `.current` over time
is within 20 % of the knee; and the *swing*, the distance of its 5th from its 95th percentile over its
median, is below 25 %.
"""

from __future__ import annotations

import math
from random import Random
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from qanat._core.limits import Adaptive
from qanat.errors import Throttled
from qanat.testing import SimulatedServer
from tests._core.dispatcher import world
from tests._core.driver import drive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests._core.driver import Failures

SEEDS = [pytest.param(seed, marks=pytest.mark.long) if seed >= 2 else seed for seed in range(20)]
WARM_UP = 20.0
STEP = 0.25


class Change(NamedTuple):
    at: float
    name: str
    value: float


def currents(
    seed: int,
    server: SimulatedServer,
    until: float,
    changes: Sequence[Change] = (),
    limit: Adaptive | None = None,
    jobs: int | None = None,
    failures: Failures | None = None,
) -> list[tuple[float, int]]:
    """Keep a server as busy as the limit lets, and note `.current` four times a round trip."""
    limit = limit or Adaptive(1, 1000)
    dispatcher = world.make(limits=[limit])
    task = world.add(dispatcher)
    noted: list[tuple[float, int]] = []
    calls: list[tuple[float, Any]] = [
        (number * STEP, lambda now: noted.append((now, limit.current))) for number in range(int(until / STEP))
    ]
    calls += [(each.at, lambda _now, each=each: setattr(server, each.name, each.value)) for each in changes]
    calls.sort(key=lambda call: call[0])
    served = max([server.knee, *(each.value for each in changes if each.name == "knee")])
    fastest = min([server.latency, *(each.value for each in changes if each.name == "latency")])
    count = jobs or math.ceil(until * served / fastest * 1.15)
    drive(
        dispatcher,
        ((0.0, world.job(task, number)) for number in range(count)),
        server.seconds,
        rng=Random(seed),
        failures=failures,
        calls=calls,
        record=False,
    )
    assert limit._running == 0, "every take is given back"
    return noted


def assert_settled(
    noted: list[tuple[float, int]], since: float, until: float, knee: float, most: float = 0.25
) -> None:
    values = sorted(current for at, current in noted if since <= at < until)
    middle = median(values)
    swing = (values[int(0.95 * len(values))] - values[int(0.05 * len(values))]) / middle
    assert abs(middle - knee) <= 0.2 * knee, f"settled at {middle} for {knee}"
    assert swing < most, f"a swing of {swing:.0%}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("knee", "until"), [(5, 120.0), (40, 100.0), (200, 45.0)])
def test_settles_at_the_knee(knee: int, until: float, seed: int):
    noted = currents(seed, SimulatedServer(knee, noise=0.1), until)
    assert_settled(noted, WARM_UP, until, knee)


@pytest.mark.parametrize(("knee", "until"), [(5, 120.0), (40, 100.0), (200, 45.0)])
def test_settles_at_the_knee_without_noise(knee: int, until: float):
    assert_settled(currents(0, SimulatedServer(knee), until), WARM_UP, until, knee)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_settles_at_the_knee_with_twice_the_noise(seed: int):
    assert_settled(currents(seed, SimulatedServer(40, noise=0.2), 100.0), WARM_UP, 100.0, 40)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("knee", "then"), [(40, 120), (120, 40), (40, 60), (40, 20)])
def test_follows_a_knee_that_moves(knee: int, then: int, seed: int):
    noted = currents(seed, SimulatedServer(knee, noise=0.1), 90.0, [Change(45.0, "knee", then)])
    assert_settled(noted, WARM_UP, 45.0, knee)
    assert_settled(noted, 45.0 + WARM_UP, 90.0, then)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("latency", [1.5, 0.6])
def test_a_latency_that_changes_by_itself_does_not_move_it(latency: float, seed: int):
    noted = currents(seed, SimulatedServer(40, noise=0.1), 110.0, [Change(50.0, "latency", latency)])
    assert_settled(noted, WARM_UP, 50.0, 40)
    assert_settled(noted, 50.0 + 1.5 * WARM_UP, 110.0, 40, most=0.35)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_knee_above_the_highest_keeps_it_there(seed: int):
    noted = currents(seed, SimulatedServer(100, noise=0.1), 60.0, limit=Adaptive(1, 20), jobs=1200)
    assert {current for at, current in noted if at > WARM_UP} <= set(range(16, 21))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_knee_below_the_lowest_keeps_it_there(seed: int):
    noted = currents(seed, SimulatedServer(4, noise=0.1), 100.0, limit=Adaptive(20, 200), jobs=500)
    settled = [current for at, current in noted if at > WARM_UP]
    assert median(settled) <= 22


@pytest.mark.parametrize("seed", SEEDS)
def test_stays_below_what_is_refused(seed: int):
    """The server refuses more than 30 at once, though its latency would bear 100."""
    server = SimulatedServer(100, noise=0.1, limit=30, error=ConnectionError)
    noted = currents(seed, server, 100.0, failures=server.failure, jobs=2500)
    settled = [current for at, current in noted if WARM_UP <= at < 80.0]
    assert 20 <= median(settled) <= 33
    assert server.refused < 0.1 * 2500


def test_a_throttling_server_is_left_alone():
    """Each refusal closes the lane for a second, so they had better be rare."""
    server = SimulatedServer(100, noise=0.1, limit=30, error=lambda: Throttled(1.0))
    noted = currents(1, server, 150.0, failures=server.failure, jobs=3000)
    assert 15 <= median(current for at, current in noted if at >= WARM_UP) <= 33
    assert server.refused < 300
