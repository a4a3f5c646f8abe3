"""A backlog of a million jobs: what is asked of the store costs what it costs without one."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import pytest

from qanat._core.store.values import NewJob, Settle

pytestmark = [pytest.mark.real, pytest.mark.long, pytest.mark.timeout(300)]

MILLION = 1_000_000
BODY = b'{"do":"give","with":null}'


def round_trips(store, queue):
    """Return the medians of a put, a claim and a settle of ten, and of a count, in seconds."""
    took: dict[str, list[float]] = {"put": [], "claim": [], "settle": [], "count": []}
    for each in range(200):
        marks = [time.perf_counter()]
        store.put(queue, [NewJob(id=f"m{each}-{i}", body=BODY, lane=str(i % 3)) for i in range(10)])
        marks.append(time.perf_counter())
        jobs = store.claim(queue, 10, worker="w", lease=60.0).jobs
        marks.append(time.perf_counter())
        store.settle(queue, [Settle(id=job.id, token=job.token, kind="done") for job in jobs])
        marks.append(time.perf_counter())
        store.count(queue)
        marks.append(time.perf_counter())
        assert len(jobs) == 10
        for name, begin, end in zip(took, marks, marks[1:], strict=False):
            took[name].append(end - begin)
    return {name: median(each) for name, each in took.items()}


def test_round_trips_do_not_grow_with_the_backlog_and_a_worker_holds_little_of_it(crew):
    with crew.store() as store:
        without = round_trips(store, crew.queue)
        for begin in range(0, MILLION, 1000):
            store.put(
                crew.queue, [NewJob(id=f"b{begin + i}", body=BODY, lane=str(i % 50)) for i in range(1000)]
            )
        with_it = round_trips(store, crew.queue)
        print({name: f"{without[name] * 1e6:.0f} -> {with_it[name] * 1e6:.0f} us" for name in without})
        for name, seconds in with_it.items():
            assert seconds <= 3.0 * without[name] + 0.001, name
        worker = crew.worker(at_once=10)
        crew.wait_for("end", 3000)
        status = Path(f"/proc/{worker.pid}/status").read_text()
        resident = int(status.partition("VmHWM:")[2].split()[0]) / 1024
        assert worker.stop() == 0
        print(f"the worker held {resident:.0f} MiB at most")
        assert resident < 200.0
        counts = store.count(crew.queue)
        assert counts.ready + counts.done == counts.put == MILLION + 4000
        assert (counts.leased, counts.dead) == (0, 0)
