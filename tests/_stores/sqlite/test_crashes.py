"""What holds while processes are killed, stopped and starved: nothing is lost, nothing runs again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qanat._core.store.values import NewJob, Settle
from qanat._stores.failpoints import VARIABLE, reacher
from qanat._stores.sqlite.store import SqliteStore
from qanat.errors import StoreFull, StoreUnavailable
from tests._stores.sqlite.crew import LEASE, Worker

ROOT = Path(__file__).parents[3]


def crew(path: Path, name: str, *more: str, failpoint: str = "") -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), VARIABLE: failpoint}
    command = [sys.executable, "-m", "tests._stores.sqlite.crew", str(path), str(path) + ".history", name]
    return subprocess.Popen([*command, *more], env=environment, cwd=ROOT)


class History:
    """What the processes wrote down, in order."""

    def __init__(self, path: Path) -> None:
        text = Path(str(path) + ".history").read_text() if Path(str(path) + ".history").exists() else ""
        self.lines = [line.split() for line in text.splitlines()]

    def said(self, what: str) -> set[str]:
        return {id for word, *ids in self.lines if word == what for id in ids}

    def check(self, store: SqliteStore, kills: int) -> None:
        invoked, stored = self.said("put_invoke"), self.said("put_ok")
        settled: set[str] = set()
        token: dict[str, int] = {}
        again = 0
        for word, *rest in self.lines:
            if word == "start":
                id, given = rest[0], int(rest[1])
                assert id in invoked, "something ran that nobody put"
                assert id not in settled, "a settled job ran again"
                assert given > token.get(id, 0), "a token came twice"
                again += id in token
                token[id] = given
            elif word in {"settle_ok", "settle_repeated"}:
                settled.add(rest[0])
        counts = store.count("q")
        there = {job.id for state in ("ready", "leased") for job in store.find("q", state, limit=1000).jobs}
        there |= {job.id for job in store.find("q", "dead", limit=1000).jobs}
        # What was settled in a batch whose answer was lost is neither there nor told: at most those of a kill.
        missing = stored - settled - there
        unheard = {id for id in missing if id in token}
        assert missing == unheard, "a job that was put is gone, and never ran"
        assert len(unheard) <= 5 * kills, "more ended unheard than can have been settled in batches that died"
        assert counts.done == counts.put - len(there) - counts.cancelled
        assert again <= 5 * kills, "more ran again than were held by those who died"
        assert store.check("q") == []


def drain(path: Path) -> None:
    """Do what is left, once the leases of the dead have expired."""
    worker = Worker(str(path), str(path) + ".history", "last")
    give_up_at = time.monotonic() + 30.0
    while (counts := worker.store.count("q")).ready or counts.leased:
        assert time.monotonic() < give_up_at
        if not worker.work():
            time.sleep(0.05)
    worker.store.close()
    os.close(worker.history)


def is_whole(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work.db"


STEPS = [
    f"{deed}.{step}" for deed in ("put", "claim", "settle") for step in ("before", "written", "committed")
]


@pytest.mark.real
@pytest.mark.parametrize("step", STEPS)
def test_nothing_is_lost_when_a_process_dies_at_a_step(path, step):
    dead = crew(path, "dead", "30", failpoint=f"{step}:kill:2")
    assert dead.wait(50) == -signal.SIGKILL
    drain(path)
    store = SqliteStore(path)
    History(path).check(store, kills=1)
    assert store.count("q").ready == store.count("q").leased == 0
    store.close()


@pytest.mark.real
@pytest.mark.parametrize("step", ["rescue.written", "rescue.committed"])
def test_rescue_that_dies_is_done_by_another(path, step):
    assert crew(path, "dead", "30", failpoint="claim.committed:kill:1").wait(50) == -signal.SIGKILL
    time.sleep(LEASE)
    assert crew(path, "rescuer", "0", failpoint=f"{step}:kill").wait(50) == -signal.SIGKILL
    drain(path)
    store = SqliteStore(path)
    History(path).check(store, kills=2)
    store.close()


def wait_for_word(path: Path, word: str) -> None:
    """Wait until a process has begun to work."""
    history = Path(str(path) + ".history")
    give_up_at = time.monotonic() + 30.0
    while not history.exists() or word not in history.read_text():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def storm(path: Path, workers: int, seconds: float) -> None:
    """Kill one of several processes again and again, at any moment of its work."""
    chance = random.Random(7)
    until = time.monotonic() + seconds
    running = {name: crew(path, name) for name in map(str, range(workers))}
    kills = 0
    while time.monotonic() < until:
        name = chance.choice(sorted(running))
        wait_for_word(path, f"{name}-{running[name].pid}-")
        time.sleep(chance.uniform(0.0, 0.2))
        running[name].kill()
        assert running[name].wait(10) == -signal.SIGKILL
        kills += 1
        running[name] = crew(path, name)
    assert kills > seconds / 4
    for each in running.values():
        each.kill()
        each.wait(10)
    kills += workers
    drain(path)
    store = SqliteStore(path)
    history = History(path)
    assert len(history.said("put_ok")) > kills
    history.check(store, kills)
    store.close()
    assert is_whole(path)


@pytest.mark.real
def test_nothing_is_lost_when_processes_are_killed_at_random(path):
    storm(path, 3, 10.0)


@pytest.mark.real
@pytest.mark.long
@pytest.mark.timeout(200)
def test_nothing_is_lost_in_a_long_storm_of_kills(path):
    storm(path, 4, 60.0)


@pytest.mark.real
def test_eight_processes_at_once_leave_the_file_whole(path):
    children = [crew(path, f"w{each}", "60") for each in range(8)]
    assert [child.wait(55) for child in children] == [0] * 8
    drain(path)
    store = SqliteStore(path)
    History(path).check(store, kills=0)
    assert store.count("q").done == 480
    store.close()
    assert is_whole(path)


@pytest.mark.real
def test_process_that_stops_inside_a_step_holds_the_others_up_no_longer_than_their_patience(path):
    stopped = crew(path, "stopped", "30", failpoint="put.written:stop:2")
    try:
        assert os.waitpid(stopped.pid, os.WUNTRACED)[1] >> 8 == signal.SIGSTOP
        with pytest.raises(StoreUnavailable, match="is locked: another process has written to it for 0.1 s"):
            SqliteStore(path, patience=0.1)
    finally:
        stopped.kill()
        stopped.wait(10)
    drain(path)
    whole = SqliteStore(path)
    History(path).check(whole, kills=1)
    whole.close()


@pytest.mark.real
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system of a limited size")
def test_full_file_system_loses_nothing_and_can_be_drained(tmp_path):
    small = tmp_path / "small"
    small.mkdir(mode=0o700)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode().strip()}")
    try:
        store = SqliteStore(small / "work.db")
        stored: list[str] = []
        with pytest.raises(StoreFull):
            for number in range(1000):
                ids = [f"{number}-{each}" for each in range(20)]
                store.put("q", [NewJob(id=id, body=b"x" * 500) for id in ids])
                stored += ids
        assert store.count("q").put == len(stored) > 0
        assert is_whole(small / "work.db")
        # Room comes back as soon as anything else on the disk goes: here, the file system grows.
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        ran: list[str] = []
        while jobs := store.claim("q", 100, worker="w", lease=30.0).jobs:
            ran += [job.id for job in jobs]
            store.settle("q", [Settle(id=job.id, token=job.token, kind="done") for job in jobs])
        assert ran == stored
        assert store.check("q") == []
        store.close()
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.real
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_put_waits_for_the_disk_once(path):
    """Between a put's lock and its answer the log is synced, and nothing else is."""
    script = (
        "import sys, os\n"
        "from qanat._stores.sqlite.store import SqliteStore\n"
        "from qanat._core.store.values import NewJob\n"
        "store = SqliteStore(sys.argv[1])\n"
        "store.put('q', [NewJob(id='first')])\n"
        "for each in range(3):\n"
        "    os.write(2, b'invoke\\n')\n"
        "    store.put('q', [NewJob(id=str(each))])\n"
        "    os.write(2, b'ok\\n')\n"
    )
    trace = path.with_name("trace")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    traced = subprocess.run(
        ["strace", "-y", "-e", "trace=fsync,fdatasync,write", "-o", str(trace), sys.executable, "-c", script, str(path)],
        env=environment, capture_output=True, check=False,
    )  # fmt: skip
    if traced.returncode:
        pytest.skip(f"strace: {traced.stderr.decode()[-200:]}")
    seen = [found for line in trace.read_text().splitlines() if (found := _told(line))]
    seen = seen[seen.index("invoke") : len(seen) - seen[::-1].index("ok")]
    assert seen == ["invoke", "sync of the log", "ok"] * 3


def _told(line: str) -> str:
    """Return what a line of strace says that matters here, or nothing."""
    if "sync(" in line:
        return "sync of the log" if "work.db-wal" in line else line
    return next((word for word in ("invoke", "ok") if f'"{word}\\n"' in line), "")


# --- the failpoints themselves ---------------------------------------------------------------


def test_no_failpoint_is_nothing_to_call():
    assert reacher("") is None


def test_failpoint_raises_at_its_step_after_its_passes():
    reach = reacher("put.written:raise:1,claim.before:delay")
    assert reach is not None
    reach("settle.written")
    reach("put.written")
    with pytest.raises(StoreUnavailable, match=r"put\.written failed, as QANAT_FAILPOINT asked for"):
        reach("put.written")


@pytest.mark.parametrize("text", ["put", "put.written:explode", ":kill", "put.written:kill:soon"])
def test_failpoint_that_makes_no_sense_is_refused(text):
    with pytest.raises(
        ValueError, match="QANAT_FAILPOINT must be step:action or step:action:passes with one"
    ):
        reacher(text)
