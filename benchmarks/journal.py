"""What a journal costs a job, beside the floors of SQLite: `python -m benchmarks.journal`.

A job that does nothing is run without a journal, with a new one, and with one that holds all of it; the
difference is the journal's. The floors are what the same rows cost in SQLite alone, in one thread:
committed one by one, and a thousand at a time. The least of several turns counts.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import qanat
from qanat._core.content_key import content_key
from qanat._core.kept import Rows
from qanat._stores.journal import JournalConnection

if TYPE_CHECKING:
    from collections.abc import Callable

ITEMS = 20_000
ONE_BY_ONE = 200
GROUP = 1_000
TURNS = 5


async def no_op(item: int) -> int:
    return item


def timed(work: Callable[[], object], items: int) -> tuple[float, float]:
    """Return the microseconds for an item, on the wall and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) / items * 1e6, (time.process_time() - cpu) / items * 1e6


def run(path: Path | None, items: int = ITEMS) -> Callable[[], object]:
    return lambda: asyncio.run(qanat.collect(no_op, range(items), journal=path, concurrency=100))


def keep(path: Path, items: int, group: int) -> None:
    """Commit rows as the journal does, without anything around it."""
    connection = JournalConnection(path, "floor", "")
    keys = [content_key(number) for number in range(items)]
    for begin in range(0, items, group):
        part = keys[begin : begin + group]
        values = [b"%d" % number for number in range(begin, begin + len(part))]
        connection.do("keep", [Rows(part, values, [1] * len(part), [0.0] * len(part))])
    connection.close()


def sync(path: Path, times: int) -> None:
    """Write a page and sync it, again and again."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for number in range(times):
        os.pwrite(fd, b"x" * 4096, number % 16 * 4096)
        os.fdatasync(fd)
    os.close(fd)


def measure(where: Path, turn: int) -> dict[str, tuple[float, float]]:
    """Return the microseconds of each way, taken once."""
    path = where / f"run-{turn}.db"
    return {
        "a page synced": timed(lambda: sync(where / f"sync-{turn}", ONE_BY_ONE), ONE_BY_ONE),
        "SQLite, a commit each": timed(lambda: keep(where / f"one-{turn}.db", ONE_BY_ONE, 1), ONE_BY_ONE),
        "SQLite, a thousand a commit": timed(lambda: keep(where / f"many-{turn}.db", ITEMS, GROUP), ITEMS),
        "no journal": timed(run(None), ITEMS),
        "a new journal": timed(run(path), ITEMS),
        "all from the journal": timed(run(path), ITEMS),
    }


def main() -> None:
    """Measure, and print the least of each."""
    best: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(TURNS):
            for name, (wall, cpu) in measure(Path(directory), turn).items():
                least = best.get(name, (wall, cpu))
                best[name] = (min(least[0], wall), min(least[1], cpu))
    for name, (wall, cpu) in best.items():
        print(f"{name:28} {wall:9.2f} us an item, {cpu:9.2f} of the processor")
    bare = best["no journal"]
    for name in ("a new journal", "all from the journal"):
        more = best[name][0] - bare[0]
        print(f"{name} adds {more:.2f} us an item (wanted: less than 10)")


if __name__ == "__main__":
    main()
