"""Measure what lanes cost: one beside a hundred thousand, and ten thousand that are blocked.

Run it with `python benchmarks/lanes.py [jobs] [rounds]`. The dispatcher alone is turned, without an
event loop: offer, start and finish each job, ten at once. The ways take turns, and for each the
median of the rounds is printed, in microseconds of processor time per job; the ratios are the
medians of those within a round.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher import Dispatcher
from qanat._core.job import Job
from qanat._core.limit import Limit
from qanat._core.limits import SlidingWindow
from qanat._core.orders import Fifo
from qanat._core.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = 10
MANY = 100_000
BLOCKED = 10_000


class Closed(Limit):
    """Never let anything start."""

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Refuse."""
        return math.inf


def turned(jobs: int, lane: Callable[[int], object], *, blocked: int = 0, **options: Any) -> float:
    """Return the seconds per job that a dispatcher takes for jobs in these lanes."""
    dispatcher = Dispatcher(rng=random.Random(1), capacity=AT_ONCE)
    task = dispatcher.add_task("task", None, make_order=Fifo, retry=Retry(0), uses_lanes=True, **options)
    for number in range(blocked):
        dispatcher.offer(Job(-number, None, 0, task, lane=f"blocked {number}"), 0.0)
    assert dispatcher.next(0.0) is None
    made = [Job(number, None, number, task, lane=lane(number)) for number in range(jobs)]
    running: deque[Job[Any]] = deque()
    gc.collect()
    began = time.process_time()
    for job in made:
        dispatcher.offer(job, 0.0)
    left = jobs
    while left:
        while (started := dispatcher.next(1.0)) is not None:
            running.append(started)
        dispatcher.finish(running.popleft(), None, None, 1.0)
        left -= 1
    return (time.process_time() - began) / jobs


def closed_if_blocked(lane: object) -> tuple[Limit, ...]:
    """Close the lanes that are to be blocked."""
    return (Closed(),) if isinstance(lane, str) else ()


def window(_lane: object) -> Limit:
    """Give each lane a limit that never says no here."""
    return SlidingWindow(10_000_000, 60.0)


def weight(lane: object) -> float:
    """Give the lanes a hundred different weights, half of them below 1."""
    return (1 + hash(lane) % 100) / 50


def ways(jobs: int) -> dict[str, Callable[[], float]]:
    """Return what is measured, by name; each is compared with the one before the colon of its name."""

    def one(_number: int) -> int:
        return 1

    def many(number: int) -> int:
        return number % MANY

    return {
        "one lane": lambda: turned(jobs, one),
        "one lane: 100,000 lanes": lambda: turned(jobs, many),
        "one lane: 100,000 lanes, one job each": lambda: turned(min(jobs, MANY), many),
        "one lane with a limit": lambda: turned(jobs, one, lane_limits=window),
        "one lane with a limit: 100,000 lanes with limits": lambda: turned(jobs, many, lane_limits=window),
        "100 lanes, some closed": lambda: turned(jobs, lambda n: n % 100, lane_limits=closed_if_blocked),
        "100 lanes, some closed: and 10,000 blocked": lambda: turned(
            jobs, lambda n: n % 100, lane_limits=closed_if_blocked, blocked=BLOCKED
        ),
        "one lane: 100,000 lanes, weighted": lambda: turned(jobs, many, weights=weight),
    }


def main() -> None:
    """Measure and print."""
    jobs, rounds = (int(text) for text in (*sys.argv[1:], *("200000", "5")[len(sys.argv) - 1 :]))
    gc.disable()
    took: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, way in ways(jobs).items():
            took.setdefault(name, []).append(way() * 1e6)
    for name, each in took.items():
        base = took.get(name.partition(":")[0], each)
        ratio = statistics.median(ours / other for ours, other in zip(each, base, strict=True))
        print(f"{name:52} {statistics.median(each):6.2f} us a job  {ratio:5.2f} x")


if __name__ == "__main__":
    main()
