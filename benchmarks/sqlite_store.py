"""What the SQLite store costs, beside bare statements on the same disk.

Run it with `make bench ARGS=sqlite-store`, or alone with `python -m benchmarks.sqlite_store`. Jobs have
bodies of 100 bytes and ids of 32 letters that begin with the time, `synchronous` is FULL, and every batch
carries a stamp. Ids in no order are measured too: each has a page of the index to itself, which is to be
logged. Beside the rate stands the processor time of a job, which a machine that does something else
meanwhile disturbs less. The floor is a table of an id and a body, and one INSERT of many rows in one
transaction: whoever stores jobs pays at least that.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from benchmarks.crew import plan_of
from benchmarks.report import Table, Wanted, as_text, number
from qanat._core.store.values import NewJob, Settle, Stamp
from qanat._stores.sqlite.store import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Generator

    from benchmarks.crew import Plan

PUT = 1_000
CLAIM = 300
BODY = b"x" * 100
ROUNDS = 200
"""Claims and settles that are timed one by one, for their percentiles."""


class Figures:
    """What some deeds took: seconds of the clock and of the processor, best of all rounds."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.wall = self.processor = float("inf")

    @contextmanager
    def timed(self) -> Generator[None]:
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.wall = min(self.wall, time.perf_counter() - wall)
        self.processor = min(self.processor, time.process_time() - processor)

    @property
    def rate(self) -> float:
        return self.jobs / self.wall

    def row(self, name: str) -> tuple[str, ...]:
        return name, number(self.rate), number(self.processor / self.jobs * 1e6)


def ids(count: int, chance: random.Random, *, ordered: bool = True) -> list[str]:
    if not ordered:
        return [f"{chance.getrandbits(128):032x}" for _ in range(count)]
    return [f"{time.time_ns():016x}{chance.getrandbits(64):016x}" for _ in range(count)]


@contextmanager
def opened() -> Generator[SqliteStore]:
    """Open a store on the disk of this directory, as /tmp may be no disk."""
    with TemporaryDirectory(dir=Path.cwd()) as directory:
        store = SqliteStore(Path(directory) / "store.db", patience=60.0)
        try:
            yield store
        finally:
            store.close()


def floor(jobs: int, *, index: bool) -> Figures:
    figures = Figures(jobs)
    chance = random.Random(1)
    with TemporaryDirectory(dir=Path.cwd()) as directory:
        connection = sqlite3.connect(Path(directory) / "floor.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"CREATE TABLE jobs(n INTEGER PRIMARY KEY, id TEXT {'UNIQUE' * index}, body BLOB)")
        for _ in range(3):
            rows = [[(id, BODY) for id in ids(PUT, chance)] for _ in range(jobs // PUT)]
            with figures.timed():
                for batch in rows:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany("INSERT INTO jobs(id, body) VALUES(?, ?)", batch)
                    connection.execute("COMMIT")
        connection.close()
    return figures


class Run:
    """One store, filled and drained."""

    def __init__(self, store: SqliteStore, *, ordered: bool = True) -> None:
        self.store = store
        self.ordered = ordered
        self.chance = random.Random(2)
        self.sent = 0

    def stamp(self) -> Stamp:
        self.sent += 1
        return Stamp("bench", self.sent)

    def put(self, figures: Figures) -> None:
        batches = [
            [NewJob(id=id, body=BODY) for id in ids(PUT, self.chance, ordered=self.ordered)]
            for _ in range(figures.jobs // PUT)
        ]
        with figures.timed():
            for batch in batches:
                self.store.put("q", batch, stamp=self.stamp())

    def drain(self, figures: Figures) -> None:
        with figures.timed():
            left = figures.jobs
            while left > 0:
                left -= self.turn(min(CLAIM, left))

    def turn(self, n: int) -> int:
        jobs = self.store.claim("q", n, worker="bench", lease=60.0).jobs
        settles = [Settle(id=job.id, token=job.token, kind="done") for job in jobs]
        settled = self.store.settle("q", settles, stamp=self.stamp())
        assert all(each.status == "ok" for each in settled)
        return len(jobs)

    def slowest(self) -> float:
        """Return the 99th percentile of a claim and its settle, in seconds of the processor.

        Those of the clock say on a busy machine who else had the processor.
        """
        times: list[float] = []
        for _ in range(ROUNDS):
            begun = time.process_time()
            self.turn(10)
            times.append(time.process_time() - begun)
        return sorted(times)[int(ROUNDS * 0.99)]


def commit() -> float:
    """Return the seconds that one write and its way to the disk take here, the median of 100."""
    with TemporaryDirectory(dir=Path.cwd()) as directory:
        file = os.open(Path(directory) / "file", os.O_CREAT | os.O_WRONLY, 0o600)
        times: list[float] = []
        for _ in range(100):
            begun = time.perf_counter()
            os.write(file, bytes(4096))
            os.fdatasync(file)
            times.append(time.perf_counter() - begun)
        os.close(file)
    return sorted(times)[50]


def one_at_a_time(run: Run) -> float:
    """Return the seconds of a put of one job, the median of 100."""
    times: list[float] = []
    for id in ids(100, run.chance):
        begun = time.perf_counter()
        run.store.put("q", [NewJob(id=id, body=BODY)], stamp=run.stamp())
        times.append(time.perf_counter() - begun)
    return sorted(times)[50]


def sqlite_store(plan: Plan) -> list[Table]:
    """Measure puts, drains, a single put, and what a backlog changes."""
    jobs = plan.items // PUT * PUT
    backlog = plan.many
    puts, drains, late_puts, late_drains, wild_puts, wild_drains = (Figures(jobs) for _ in range(6))
    bare, indexed = floor(jobs, index=False), floor(jobs, index=True)
    sync = commit()
    with opened() as store:
        run = Run(store)
        for _ in range(3):
            run.put(puts)
            run.drain(drains)
        alone = one_at_a_time(run)
        run.put(Figures(jobs))
        before = run.slowest()
        run.put(Figures(backlog))
        for _ in range(3):
            run.put(late_puts)
            run.drain(late_drains)
        after = run.slowest()
        run.ordered = False
        for _ in range(3):
            run.put(wild_puts)
            run.drain(wild_drains)
    held = f"{backlog:,} jobs waiting"
    rates = Table(
        "SQLite store: jobs per second",
        f"puts of {PUT:,} jobs, claims and settles of {CLAIM}; best of 3 with {jobs:,} jobs each",
        ["", "jobs/s", "processor us/job"],
        [
            bare.row("floor: bare INSERT"),
            indexed.row("floor: INSERT with an index of ids"),
            puts.row("put"),
            drains.row("claim and settle"),
            late_puts.row(f"put, {held}"),
            late_drains.row(f"claim and settle, {held}"),
            wild_puts.row(f"put, {held}, ids in no order"),
            wild_drains.row(f"claim and settle, {held}, as above"),
        ],
        [
            Wanted("put of 1,000", puts.rate, least=60_000, unit=" jobs/s"),
            Wanted("claim and settle of 300", drains.rate, least=30_000, unit=" jobs/s"),
        ],
    )
    single = Table(
        "SQLite store: milliseconds",
        f"medians of 100; 99th percentile of the processor time of {ROUNDS} claims of 10 with their settles",
        ["", "ms"],
        [
            ("floor: write and sync a page", number(sync * 1e3)),
            ("put one job", number(alone * 1e3)),
            ("claim and settle 10", number(before * 1e3)),
            (f"claim and settle 10, {held}", number(after * 1e3)),
        ],
        [
            Wanted("one put costs one sync", alone / sync, most=1.5, unit=" syncs"),
            Wanted(f"p99 with {held}", after / before, most=2.0, unit=" times an empty one"),
        ],
    )
    return [rates, single]


if __name__ == "__main__":
    for each in sqlite_store(plan_of(quick=os.environ.get("BENCH") == "quick")):
        print(as_text(each), end="\n\n")
