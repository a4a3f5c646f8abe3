"""A process that puts, claims and settles until it is killed, and writes down what it did.

    python -m tests._stores.sqlite.crew FILE HISTORY NAME [JOBS]

Each line is written in one call to a file opened for appending, so it survives the process: what was
said before a deed is `invoke`, after it `ok`.
"""

from __future__ import annotations

import os
import sys
from time import monotonic

from qanat._core.store.values import NewJob, Settle, Stamp
from qanat._stores.sqlite.store import SqliteStore
from qanat.errors import StoreUnavailable

LEASE = 2.0


class Worker:
    def __init__(self, file: str, history: str, name: str) -> None:
        self.store = SqliteStore(file, patience=30.0)
        self.history = os.open(history, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.name = name
        self.sent = 0

    def tell(self, *words: object) -> None:
        os.write(self.history, (" ".join(map(str, words)) + "\n").encode())

    def stamp(self) -> Stamp:
        self.sent += 1
        return Stamp(f"{self.name}-{os.getpid()}", self.sent)

    def put(self, *ids: str) -> None:
        self.tell("put_invoke", *ids)
        self.store.put("q", [NewJob(id=id, body=id.encode(), key=id) for id in ids], stamp=self.stamp())
        self.tell("put_ok", *ids)

    def work(self) -> int:
        for id in self.store.rescue("q").ids:
            self.tell("rescued", id)
        jobs = self.store.claim("q", 5, worker=self.name, lease=LEASE).jobs
        for job in jobs:
            assert job.body == job.id.encode()
            self.tell("start", job.id, job.token)
        settles = [Settle(id=job.id, token=job.token, kind="done") for job in jobs]
        if settles:
            for settled in self.store.settle("q", settles, stamp=self.stamp()):
                token = next(job.token for job in jobs if job.id == settled.id)
                self.tell("settle_" + settled.status, settled.id, token)
        return len(jobs)


def main(file: str, history: str, name: str, jobs: str = "1000000000") -> None:
    worker = Worker(file, history, name)
    give_up_at = monotonic() + 50.0
    number = 0
    while monotonic() < give_up_at:
        try:
            if number < int(jobs):
                worker.put(*(f"{name}-{os.getpid()}-{number + more}" for more in range(3)))
                number += 3
            elif not worker.work() and not worker.store.count("q").leased:
                break
            worker.work()
        except StoreUnavailable as error:
            worker.tell("unavailable", error)
    worker.store.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
