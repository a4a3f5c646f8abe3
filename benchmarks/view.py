"""Measure what the live view costs: runs of handlers that do nothing, watched and not, in turns.

Run it with `python -m benchmarks.view [seconds] [pairs]`. Each pair is a run without the view and one
with it, on a terminal of 80 by 24, over an endless source for so many seconds. Printed is the CPU time of
the view's own thread and of taking the figures, as a share of one core, and how many more items went
through without it. The second part shows 300 workers at once that all describe what they do.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import statistics
import struct
import sys
import termios
import threading
import time
from typing import TYPE_CHECKING, Any

import qanat
from qanat._app.progress import view as view_module

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

own: list[float] = []


async def nothing(item: int) -> int:
    return item


async def describing(item: int) -> int:
    job = qanat.current_job()
    for step in range(3):
        job.describe(f"step {step} of 3")
        await asyncio.sleep(0.05)
    return item


def endless(seconds: float) -> Iterator[int]:
    end = time.monotonic() + seconds
    number = 0
    while number % 1000 or time.monotonic() < end:
        yield number
        number += 1


def watched_cpu() -> None:
    """Have the view note the CPU time of its thread, and of the figures that the loop takes."""
    draw, take = view_module.Progress._draw, view_module.Progress._take

    def noted_draw(self: Any) -> None:
        draw(self)
        own.append(time.thread_time())

    def noted_take(self: Any) -> None:
        begun = time.thread_time()
        take(self)
        own.append(time.thread_time() - begun)

    view_module.Progress._draw = noted_draw  # type: ignore[method-assign]
    view_module.Progress._take = noted_take  # type: ignore[method-assign]


async def count(handler: Callable[[int], Any], seconds: float, **rules: Any) -> int:
    number = 0

    async def source() -> AsyncIterator[int]:
        for item in endless(seconds):
            yield item

    items: Any = endless(seconds) if handler is nothing else source()
    async with qanat.stream(handler, items, **rules) as outcomes:
        async for _ in outcomes:
            number += 1
    return number


def measure(handler: Callable[[int], Any], seconds: float, **rules: Any) -> tuple[float, float, float]:
    """Return items, CPU seconds of the process and wall seconds of a run."""
    wall, cpu = time.monotonic(), time.process_time()
    number = asyncio.run(count(handler, seconds, **rules))
    return number, time.process_time() - cpu, time.monotonic() - wall


def compare(name: str, handler: Callable[[int], Any], seconds: float, pairs: int, **rules: Any) -> None:
    rates: list[float] = []
    shares: list[float] = []
    more: list[float] = []
    for _ in range(pairs):
        plain, plain_cpu, _ = measure(handler, seconds, progress=False, **rules)
        own.clear()
        seen, seen_cpu, wall = measure(handler, seconds, progress=True, **rules)
        rates.append(seen)
        shares.append(sum(own) / wall)
        # CPU time an item, so that other work on the machine matters less.
        more.append((seen_cpu / seen) / (plain_cpu / plain) - 1.0)
    print(
        f"{name}: {statistics.median(shares):.1%} of a core for the view, "
        f"{statistics.median(more):+.1%} CPU time an item, {statistics.median(rates) / seconds:,.0f} items/s",
        file=sys.__stdout__,
    )


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    main_end, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.environ["TERM"] = "xterm-256color"
    sys.stderr = os.fdopen(terminal, "w", buffering=1)

    def swallow() -> None:
        while os.read(main_end, 65536):
            pass

    threading.Thread(target=swallow, daemon=True).start()
    watched_cpu()
    compare("no-op handlers", nothing, seconds, pairs)
    compare("300 workers that describe", describing, seconds, pairs, concurrency=300)


if __name__ == "__main__":
    main()
