"""Processes killed at any instant, again and again: nothing is lost, nothing ends twice."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import defaultdict

import pytest

from qanat._core.store.values import Settle
from tests._stores.redis.servers import poll

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=pytest.mark.long)])
def test_nothing_is_lost_when_workers_are_killed(server, store, tmp_path, kills):
    rng = random.Random(kills)
    log = tmp_path / "log"
    names = iter(range(10_000))

    def start():
        command = [
            sys.executable,
            "-m",
            "tests._stores.redis.crashing",
            server.url,
            str(log),
            f"w{next(names)}",
        ]
        return subprocess.Popen(command)

    def lines():
        return log.read_text().splitlines() if log.exists() else []

    workers = [start() for _ in range(2)]
    try:
        for _ in range(kills):
            before = len(lines())
            poll(lambda before=before: len(lines()) > before + 200, "the workers to work")
            time.sleep(rng.random() * 0.05)  # any instant
            victim = workers.pop(0)
            assert victim.poll() is None, "a worker ended by itself"
            victim.kill()
            victim.wait()
            workers.append(start())
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    drain(store)
    history(lines(), store)


def drain(store):
    """Settle what is left, also what died with its worker."""

    def step():
        store.rescue("q")
        jobs = store.claim("q", 1000, worker="last", lease=60.0).jobs
        store.settle("q", [Settle(id=job.id, token=job.token, kind="done") for job in jobs])
        counts = store.count("q")
        return counts.ready + counts.leased + counts.scheduled == 0

    poll(step, "the queue to be empty")


def history(lines, store):
    """Check what the workers wrote down against what is in the store."""
    seen = defaultdict(list)
    for line in lines:
        what, id, *token = line.split()
        seen[what].append((id, *map(int, token)))
    counts = store.count("q")
    put, put_ok = {id for (id,) in seen["put"]}, {id for (id,) in seen["put-ok"]}
    # Everything acknowledged is there, and nothing was invented.
    assert len(put_ok) <= counts.put <= len(put)
    assert {id for id, _ in seen["start"]} <= put
    # What was put has ended once, and only once.
    assert counts.put == counts.done + counts.dead
    ended = [id for id, _ in seen["done-ok"]]
    assert len(ended) == len(set(ended))
    # Nothing starts again after its end was acknowledged, and no lease is given twice.
    end_token = dict(seen["done-ok"])
    assert all(token <= end_token.get(id, token) for id, token in seen["start"])
    tokens = [token for _, token in seen["start"]]
    assert len(tokens) == len(set(tokens))
    assert store.check("q") == []
