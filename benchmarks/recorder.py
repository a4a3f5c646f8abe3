"""What the flight recorder costs a job, and what a simulated job costs: `python -m benchmarks.recorder`.

Jobs are offered, started and finished without an event loop, with and without the recorder, in turns;
the least of many short turns counts, as whatever else the machine does only adds to it.
"""

from __future__ import annotations

import time
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import qanat
from qanat._core.dispatcher import Dispatcher
from qanat._core.dispatcher.recording import RecordingDispatcher
from qanat._core.job import WAITING, Job
from qanat._core.orders import ORDERS
from qanat._core.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS = 2048
CHUNK = 64
TURNS = 200
SIMULATED = 20_000


def turn(make: Callable[..., Dispatcher], limits: list[qanat.Limit]) -> float:
    """Return the microseconds that a job takes."""
    dispatcher = make(rng=Random(1), capacity=10, limits=limits)
    task = dispatcher.add_task("jobs", None, make_order=ORDERS["fifo"], retry=Retry.of(0))
    begun = time.perf_counter()
    now = 0.0
    for first in range(0, JOBS, CHUNK):
        jobs: list[Job[Any]] = [Job(n, n, n, task, now, WAITING) for n in range(first, first + CHUNK)]
        dispatcher.offer_all(jobs, now)
        for _ in range(CHUNK):
            job = dispatcher.next(now)
            assert job is not None
            now += 1e-5
            dispatcher.finish(job, None, None, now)
    dispatcher.detach()
    return (time.perf_counter() - begun) / JOBS * 1e6


def recorder() -> None:
    written = 0

    def write(content: bytes) -> None:
        nonlocal written
        written += len(content)

    recording = partial(RecordingDispatcher, write=write)
    for name, limits in (("no limits", 0), ("a rate", 1)):
        pairs = [
            [turn(make, [qanat.SlidingWindow(10**6, 1.0)] * limits) for make in (Dispatcher, recording)]
            for _ in range(TURNS)
        ]
        off, on = (min(pair[which] for pair in pairs) for which in (0, 1))
        print(f"{name}: {off:.2f} us a job, recorded {on:.2f}: {on - off:+.2f} us (wanted: less than 1)")
    print(f"written: {written / (2 * TURNS * JOBS):.1f} bytes a job")


def simulation() -> None:
    best = float("inf")
    for _ in range(9):
        begun = time.perf_counter()
        limits = [qanat.SlidingWindow(100, 1.0), qanat.TokenBucket(120, burst=50)]
        qanat.simulate(SIMULATED, latency=0.1, concurrency=20, limits=limits)
        best = min(best, time.perf_counter() - begun)
    each = best / SIMULATED * 1e6
    print(f"a simulated job under three limits: {each:.2f} us, a million {each:.1f} s (wanted: less than 10)")


if __name__ == "__main__":
    recorder()
    simulation()
