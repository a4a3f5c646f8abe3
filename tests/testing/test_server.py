"""The simulated server: its latency, its knee, and what it refuses."""

from __future__ import annotations

from math import log
from random import Random
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

import pytest

import qanat
from qanat.errors import Throttled
from qanat.testing import SimulatedServer

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

RNG = Random(1)


@pytest.mark.parametrize(("running", "seconds"), [(1, 0.5), (40, 0.5), (60, 0.75), (80, 1.0)])
def test_latency_is_flat_up_to_the_knee_and_grows_from_there_on(running: int, seconds: float):
    assert SimulatedServer(40, latency=0.5).seconds("item", RNG, running) == seconds


def test_the_knee_moves_when_it_is_set():
    server = SimulatedServer(40)
    server.knee = 10
    assert server.seconds("item", RNG, 20) == 2.0


def test_noise_is_a_factor_around_one():
    server, rng = SimulatedServer(40, noise=0.2), Random(1)
    logs = [log(server.seconds("item", rng, 1)) for _ in range(10_000)]
    assert abs(fmean(logs)) < 0.01
    assert abs(pstdev(logs) - 0.2) < 0.01


def test_more_than_the_limit_are_refused_soon_and_at_their_end():
    server = SimulatedServer(40, limit=2)
    first, second = object(), object()
    assert server.seconds(first, RNG, 2) == 1.0
    assert server.seconds(second, RNG, 3) == 0.1
    assert isinstance(server.failure(second, RNG), Throttled)
    assert server.failure(second, RNG) is None
    assert server.failure(first, RNG) is None
    assert (server.refused, server.most) == (1, 3)


@pytest.mark.virtual_time("asyncio", "trio")
async def test_handles_jobs_on_virtual_time(virtual_time: VirtualTime):
    server = SimulatedServer(5, latency=2.0)
    assert await qanat.map(server.handle, range(10), concurrency=5) == list(range(10))
    assert virtual_time.now() == 4.0
    assert (server.most, server.running) == (5, 0)


async def test_refuses_jobs_with_the_error_that_it_was_given(virtual_time: VirtualTime):
    server = SimulatedServer(5, limit=3, error=lambda: ConnectionError("full"))
    outcomes = await qanat.collect(server.handle, range(4), concurrency=4)
    assert [type(each.error) for each in outcomes] == [type(None)] * 3 + [ConnectionError]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"knee": 0}, "knee must be greater than 0, got 0"),
        ({"knee": 5, "latency": 0.0}, "latency must be greater than 0, got 0.0"),
        ({"knee": 5, "noise": -1}, "noise must be at least 0, got -1"),
        ({"knee": 5, "limit": 0}, "limit must be at least 1, got 0"),
    ],
)
def test_what_is_out_of_range_is_refused(options: Any, message: str):
    with pytest.raises(ValueError, match=f"^{message}$"):
        SimulatedServer(**options)
