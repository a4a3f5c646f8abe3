"""Measure what one call in a thread costs: ours, AnyIO's and asyncio's own, at concurrency 10.

Run it with `python benchmarks/threads.py [calls] [rounds]`. The ways take turns, and the median of
the rounds is printed, in microseconds per call of a function that does nothing.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import anyio
from anyio.to_thread import run_sync

from qanat._engine.loop import running_loop
from qanat._engine.threads import Call, Threads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

AT_ONCE = 10


class NoClock:
    """A clock that does not care."""

    def work_outside_began(self) -> None:
        """Do nothing."""

    def work_outside_ended(self) -> None:
        """Do nothing."""


def nothing(item: int) -> int:
    """Be called."""
    return item


async def carried(calls: int, call_once: Callable[[int], Awaitable[Any]]) -> float:
    """Return the seconds that so many calls take with `AT_ONCE` carriers."""
    left = iter(range(calls))

    async def carrier() -> None:
        for item in left:
            await call_once(item)

    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(AT_ONCE):
            group.start_soon(carrier)
    return time.perf_counter() - began


async def ours(calls: int) -> float:
    """Time `Threads`, waited for as the engine does."""
    loop = running_loop()
    threads = Threads(loop, NoClock())

    async def call_once(item: int) -> Any:
        spot = loop.spot()

        def on_end(_call: Call) -> None:
            spot.wake()

        call = threads.submit(nothing, item, on_end)
        await spot.wait()
        return call.value

    try:
        return await carried(calls, call_once)
    finally:
        await threads.close()


async def anyios(calls: int) -> float:
    """Time `anyio.to_thread.run_sync`."""
    return await carried(calls, lambda item: run_sync(nothing, item))


async def loops(calls: int) -> float:
    """Time `loop.run_in_executor` with its default executor."""
    loop = asyncio.get_running_loop()
    return await carried(calls, lambda item: loop.run_in_executor(None, nothing, item))


def measure(backend: str, options: dict[str, Any], calls: int, rounds: int) -> None:
    """Print the medians on one event loop."""
    ways: dict[str, Callable[[int], Awaitable[float]]] = {"qanat": ours, "anyio.to_thread": anyios}
    if backend == "asyncio":
        ways["run_in_executor"] = loops
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            seconds = anyio.run(way, calls, backend=backend, backend_options=options)
            took[name].append(seconds / calls * 1e6)
    place = "uvloop" if options else backend
    for name, each in took.items():
        median, least, most = statistics.median(each), min(each), max(each)
        print(f"{place:8} {name:16} {median:7.1f} us a call  ({least:.1f} to {most:.1f})")


def main() -> None:
    """Measure on every event loop."""
    calls, rounds = (int(text) for text in (*sys.argv[1:], *("5000", "7")[len(sys.argv) - 1 :]))
    for backend, options in (("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})):
        measure(backend, options, calls, rounds)


if __name__ == "__main__":
    main()
