"""A process that measures for `run.py`: a line of JSON in says what, a line of JSON out says how much.

A process of its own for each contender keeps one's memory, imports and specialised bytecode away
from the others; it lives through all rounds, so only the first, uncounted run is cold.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.work import handler_named

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine


def named(path: str) -> Any:
    """Return what `module:name` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def run_on(backend: str, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    """Run a coroutine function on "asyncio", "uvloop" or "trio"."""
    if backend == "trio":
        import trio

        return trio.run(function, *args)
    import asyncio

    if backend == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(function(*args))
    return asyncio.run(function(*args))


def time_way(
    way: str, handler: str, items: int, concurrency: int, backend: str = "asyncio", warm: bool = True
) -> dict[str, float]:
    """Time one way of running a handler over items; the clock starts inside of the loop.

    Returns:
        Seconds an item, on the wall and of the processor. A first run that is not `warm` is short.
    """
    function: Callable[..., Awaitable[int]] = named(way)

    async def timed(number: int) -> dict[str, float]:
        call = handler_named(handler, backend)
        cpu, wall = time.process_time(), time.perf_counter()
        done = await function(call, range(number), concurrency)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert done == number, f"{way} ran {done} of {number} items"
        return {"wall": wall / number, "cpu": cpu / number}

    if not warm:
        items = max(concurrency, items // 10)
    result: dict[str, float] = run_on(backend, timed, items)
    # What one run leaves behind is not the next one's to clear away.
    gc.collect()
    return result


def main() -> None:
    """Answer requests until there are no more."""
    # Whatever a library prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": named(request["probe"])(**request["arguments"])}
        except BaseException as error:  # noqa: BLE001 - told to the parent, which goes on with the others
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
