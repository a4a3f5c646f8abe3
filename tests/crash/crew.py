"""Whole workers and producers in processes of their own, over one queue, and the history of what they do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qanat
from qanat._app.durable.connecting import connector
from qanat._core.store.states import STATES
from qanat._stores.failpoints import VARIABLE
from tests._cli.shell import environment
from tests.crash.app import HISTORY, sum_of
from tests.crash.history import Diary, History, Last, faults, read

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

ROOT = Path(__file__).parents[2]
LEASE = 2.0
PATIENCE = 40.0
"""Seconds that anything may take that is waited for here."""
RECOVERY = LEASE + LEASE / 3.0 + 1.0
"""Seconds after which the job of a killed worker is leased again: its lease, a rescue, a poll."""
SLACK = 1.5
"""Seconds more, as the machine has other things to do."""


def until(ready: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait until something holds; asserts that it does in time."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
        time.sleep(0.02)
    return found


class Process:
    """A worker or a producer."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path, diary: Diary) -> None:
        self.popen = popen
        self.log = log
        self._diary = diary
        self._watch = threading.Thread(target=self._wait, daemon=True)
        self._watch.start()

    def _wait(self) -> None:
        self.popen.wait()
        self._diary.tell("gone", pid=self.pid)

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self.log.read_text()

    @property
    def runs(self) -> bool:
        return self.popen.poll() is None

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end and return its status."""
        status = self.popen.wait(seconds)
        self._watch.join(10)
        return status

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """Ask it to end, and return its status."""
        self.send(signal.SIGTERM)
        return self.wait()


class Crew:
    """The processes of one test, and what they wrote down."""

    def __init__(self, folder: Path, url: str, queue: str = "q") -> None:
        self.folder = folder
        self.url = url
        self.queue = queue
        self.path = folder / "history"
        self.diary = Diary(self.path)
        self.processes: list[Process] = []

    # Processes.

    def _start(self, command: list[str], url: str | None, failpoint: str) -> Process:
        log = self.folder / f"log-{len(self.processes)}"
        more = {HISTORY: str(self.path), "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
        if failpoint:
            more[VARIABLE] = failpoint
        where = [sys.executable, "-m", *command]
        with log.open("wb") as file:
            popen = subprocess.Popen(where, cwd=ROOT, env=environment(**more), stderr=file, stdout=file)
        process = Process(popen, log, self.diary)
        self.processes.append(process)
        return process

    def worker(
        self, *flags: str, function: str = "work", url: str | None = None, failpoint: str = "", at_once: int = 4,
        lease: float = LEASE,
    ) -> Process:  # fmt: skip
        """Start a worker; it may not be at work yet."""
        command = [
            "qanat", "worker", f"tests.crash.app:{function}", "--store", url or self.url, "--queue", self.queue,
            "--lease", f"{lease:g}s", "-j", str(at_once), *flags,
        ]  # fmt: skip
        return self._start(command, url, failpoint)

    def producer(
        self, who: str, number: int, seconds: float = 0.0, *, batch: int = 10, url: str | None = None,
        failpoint: str = "",
    ) -> Process:  # fmt: skip
        """Start a process that puts so many jobs, each of which naps for so long."""
        command = [
            "tests.crash.producer", url or self.url, self.queue, who, str(number), str(seconds), str(batch)
        ]  # fmt: skip
        return self._start(command, url, failpoint)

    def at_work(self, process: Process) -> Process:
        """Wait until a worker has been given its first job."""
        self.wait_for("lease", pid=process.pid)
        return process

    def ready(self, process: Process) -> Process:
        """Wait until a worker has opened its store."""
        until(lambda: "working on" in process.said, "a worker to be ready")
        return process

    def end(self) -> None:
        for process in self.processes:
            if process.runs:
                process.send(signal.SIGCONT)
                process.kill()
        self.diary.close()

    def work_on(self, ends: int) -> None:
        """Wait until handlers have come to their end so many times more."""
        self.wait_for("end", self.count("end") + ends)

    # Jobs.

    def put(self, items: Iterable[dict[str, Any]], **options: Any) -> list[str]:
        """Put items from here, and return their ids."""
        items = list(items)
        ids = [f"test-{len(self.events())}-{each}" for each in range(len(items))]
        names = iter(ids)
        told = [(id, 0, sum_of(item)) for id, item in zip(ids, items, strict=True)]
        with qanat.open(self.url) as store:
            self.diary.tell("put", *told)
            queue = store.queue(self.queue, **{"keep": 3600.0, **options})
            queue.put_many(items, id=lambda _: next(names))
            self.diary.tell("put-ok", *told)
        return ids

    def naps(self, number: int, seconds: float = 0.0, **options: Any) -> list[str]:
        return self.put(({"do": "nap", "with": seconds, "n": each} for each in range(number)), **options)

    # What happened.

    def events(self) -> list[Any]:
        return read(self.path)

    def count(self, word: str, *, pid: int | None = None) -> int:
        # Asked many times a second: the words stand in the text as they are.
        told = f" {word} " if pid is None else f" {pid} {word} "
        return self.path.read_text().count(told)

    def wait_for(self, word: str, number: int = 1, *, pid: int | None = None) -> None:
        """Wait until something has happened so often."""
        until(lambda: self.count(word, pid=pid) >= number, f"{number} times {word}")

    @contextmanager
    def store(self) -> Generator[Any]:
        """Open the store itself."""
        store = connector(self.url)[1].connect()
        try:
            yield store
        finally:
            store.close()

    def last(self) -> dict[str, Last]:
        """Return all that is in the queue."""
        found: dict[str, Last] = {}
        with self.store() as store:
            for state in STATES:
                after = None
                while True:
                    page = store.find(self.queue, state, limit=1000, after=after)
                    found.update((job.id, Last(job.state, job.token, job.reason)) for job in page.jobs)
                    after = page.next
                    if after is None:
                        break
        return found

    def wait_done(self, seconds: float = PATIENCE) -> None:
        """Wait until nothing is left to be done."""
        with self.store() as store:

            def is_done() -> bool:
                counts = store.count(self.queue)
                return not (counts.ready or counts.leased or counts.scheduled)

            until(is_done, "the queue to be empty", seconds)

    def work_off(self, *flags: str, **options: Any) -> None:
        """Let a worker do what is left."""
        worker = self.ready(self.worker(*flags, **options))
        self.wait_done()
        assert worker.stop() == 0

    def check(self, **options: Any) -> History:
        """Hold the history against the promises, and the store against itself."""
        history = History(self.events(), self.last(), **{"at_once": 4, **options})
        found = faults(history)
        assert not found, "\n".join(found)
        with self.store() as store:
            assert store.check(self.queue) == []
            assert store.count(self.queue).put == len(history.last)
        return history
