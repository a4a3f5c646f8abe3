"""What `Adaptive` costs a job, beside `Concurrency` and a plain number.

Run it with `python -m benchmarks.adaptive`. Each way runs the same instant handler over the same items,
in turns, and the best of each is told: on a machine that does other things, too, that is the one that
was disturbed least.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import qanat

if TYPE_CHECKING:
    from collections.abc import Callable

ITEMS = 50_000
ROUNDS = 5
AT_ONCE = 50

WAYS: dict[str, Callable[[], int | qanat.Concurrency | qanat.Adaptive]] = {
    "a number": lambda: AT_ONCE,
    "Concurrency": lambda: qanat.Concurrency(AT_ONCE),
    "Adaptive, settled": lambda: qanat.Adaptive(AT_ONCE, AT_ONCE, max_lag=None, max_memory=None),
    "Adaptive, settled, with brakes": lambda: qanat.Adaptive(AT_ONCE, AT_ONCE),
}


async def instant(item: int) -> int:
    return item


async def suspending(item: int) -> int:
    await asyncio.sleep(0)
    return item


def measure() -> None:
    for handler in (instant, suspending):
        best = dict.fromkeys(WAYS, float("inf"))
        for _ in range(ROUNDS):
            for name, make in WAYS.items():
                began = time.perf_counter()
                qanat.run(handler, range(ITEMS), concurrency=make(), progress=False)
                best[name] = min(best[name], time.perf_counter() - began)
        for name, seconds in best.items():
            print(f"{handler.__name__:12} {name:32} {seconds / ITEMS * 1e6:6.2f} us a job")


if __name__ == "__main__":
    measure()
