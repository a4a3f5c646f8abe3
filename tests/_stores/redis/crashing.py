"""A worker to be killed at any instant: puts, claims and settles, and writes down what it did.

Each line is appended in one write, so it survives a kill: `put id` before, `put-ok id` after; `start id
token`, `done id token` before settling and `done-ok id token` after.
"""

from __future__ import annotations

import os
import random
import sys

from qanat._core.store.values import Kind, NewJob, Settle
from qanat._stores.redis import RedisStore


def main(url: str, log: str, name: str) -> None:
    rng = random.Random(name)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def tell(lines):
        os.write(file, "".join(f"{line}\n" for line in lines).encode())

    store = RedisStore.open(url)
    batch = 0
    while True:
        batch += 1
        ids = [f"{name}-{batch}-{i}" for i in range(rng.randint(1, 30))]
        tell(f"put {id}" for id in ids)
        store.put("q", [NewJob(id=id, body=id.encode(), lane=id[-1]) for id in ids])
        tell(f"put-ok {id}" for id in ids)
        store.rescue("q")
        jobs = store.claim("q", rng.randint(1, 40), worker=name, lease=1.0).jobs
        assert all(job.body == job.id.encode() for job in jobs)
        tell(f"start {job.id} {job.token}" for job in jobs)
        settles = [Settle(id=job.id, token=job.token, kind=rng.choice(KINDS)) for job in jobs]
        tell(f"done {each.id} {each.token}" for each in settles if each.kind == "done")
        told = store.settle("q", settles)
        ok = {each.id for each in told if each.status == "ok"}
        tell(f"done-ok {each.id} {each.token}" for each in settles if each.id in ok and each.kind == "done")


KINDS: tuple[Kind, ...] = ("done", "done", "done", "retry", "release")

if __name__ == "__main__":
    main(*sys.argv[1:])
