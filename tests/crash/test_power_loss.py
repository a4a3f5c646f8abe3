"""A machine that loses its power, as the file's disk saw it: what was acknowledged is there.

A process works with a store under `strace`, and each write, sync and removal of its files is known with its
bytes, beside what it told to have been stored. From these the files are made again as they may be found after
a loss of power at each sync: what was synced is there, what was not may be there, or not, or in part.
"""

from __future__ import annotations

import ast
import random
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from qanat._stores.sqlite.store import SqliteStore

pytestmark = [
    pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]  # fmt: skip

SCRIPT = """
import os, sys
from pathlib import Path
from qanat._core.store.values import NewJob, Settle
from qanat._stores.sqlite.store import SqliteStore

def say(word, ids):
    os.write(1, " ".join([word, *ids]).encode() + b"\\n")

for turn in range(3):
    store = SqliteStore(Path(sys.argv[1]))
    for n in range(5):
        ids = [f"{turn}-{n}-{i}" for i in range(1 + 40 * (n == 2))]
        say("putting", ids)
        store.put("q", [NewJob(id=id, body=b"x" * 100) for id in ids])
        say("put", ids)
    jobs = store.claim("q", 4, worker="w:1", lease=600.0).jobs
    ids = [job.id for job in jobs]
    say("settling", ids)
    store.settle("q", [Settle(id=job.id, token=job.token, kind="done") for job in jobs])
    say("settled", ids)
    store.close()
"""
CALLS = "openat,pwrite64,write,fdatasync,fsync,ftruncate,unlink,close"
LINE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+)")


@dataclass
class Event:
    """One call: what it did to which file. A name that is made anew is another file, with a number of its own."""

    call: str
    name: str = ""
    file: int = 0
    at: int = 0
    data: bytes = b""


DIRECTORY = 0


@dataclass
class Disk:
    """Names and files as a disk has them for sure, and what it was given since."""

    names: dict[str, int] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)
    waiting: list[Event] = field(default_factory=list)

    def give(self, event: Event) -> None:
        if event.call != "sync":
            self.waiting.append(event)
            return
        # A directory's sync keeps names, a file's sync its bytes.
        kept = [each for each in self.waiting if _place(each) == event.file]
        for each in kept:
            _apply(self.names, self.files, each)
        self.waiting = [each for each in self.waiting if _place(each) != event.file]

    def after_loss(self, draw: random.Random, share: float) -> dict[str, bytes]:
        """Return what is found when the power is back: of what was not synced, a share, some of it torn."""
        names, files = dict(self.names), dict(self.files)
        for event in self.waiting:
            if draw.random() < share:
                torn = share < 1.0 and event.call == "write" and draw.random() < 0.2
                _apply(names, files, replace(event, data=event.data[:512]) if torn else event)
        return {name: files.get(file, b"") for name, file in names.items()}


def _place(event: Event) -> int:
    return DIRECTORY if event.call in {"create", "unlink"} else event.file


def _apply(names: dict[str, int], files: dict[int, bytes], event: Event) -> None:
    content = files.get(event.file, b"")
    if event.call == "create":
        names[event.name] = event.file
    elif event.call == "unlink":
        names.pop(event.name, None)
    elif event.call == "write":
        content = content.ljust(event.at, b"\0")
        files[event.file] = content[: event.at] + event.data + content[event.at + len(event.data) :]
    elif event.call == "truncate":
        files[event.file] = content[: event.at].ljust(event.at, b"\0")


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    """Give what a process did to its files, and what it said, in order."""
    folder = tmp_path_factory.mktemp("power")
    log = folder / "log"
    command = ["strace", "-xx", "-s", "1000000", "-e", f"trace={CALLS}", "-o", str(log)]
    done = subprocess.run(
        [*command, sys.executable, "-c", SCRIPT, str(folder / "work.db")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not look at processes here: {done.stderr.strip()[:100]}")
    assert done.returncode == 0, done.stderr
    reader = Reader(folder)
    for line in log.read_text().splitlines():
        reader.read(line)
    return reader.found


class Reader:
    """What the lines of a log say of the files in a folder, and of what was written to standard output."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: dict[int, int] = {}
        self.here: dict[str, int] = {}
        self.found: list[Event] = []

    def read(self, line: str) -> None:
        matched = LINE.match(line)
        if matched is None or matched[3].startswith("-"):
            return
        call, words, result = matched[1], matched[2].split(", "), int(matched[3])
        if call == "openat":
            self.open(Path(_text(words[1]).decode("utf-8", "replace")), result)
        elif call == "unlink":
            name = Path(_text(words[0]).decode()).name
            if name in self.here:
                self.found.append(Event("unlink", name, self.here.pop(name)))
        elif call == "write" and words[0] == "1":
            self.found.append(Event("say", data=_text(words[1])))
        elif int(words[0]) in self.opened:
            self.change(call, words, self.opened[int(words[0])])

    def open(self, path: Path, number: int) -> None:
        self.opened.pop(number, None)
        if path == self.folder:
            self.opened[number] = DIRECTORY
        elif path.parent == self.folder and not path.name.endswith("-shm"):
            if path.name not in self.here:
                self.here[path.name] = len(self.found) + 1
                self.found.append(Event("create", path.name, self.here[path.name]))
            self.opened[number] = self.here[path.name]

    def change(self, call: str, words: list[str], file: int) -> None:
        if call == "close":
            del self.opened[int(words[0])]
        elif call == "pwrite64":
            self.found.append(Event("write", "", file, int(words[3]), _text(words[1])))
        elif call == "ftruncate":
            self.found.append(Event("truncate", "", file, int(words[1])))
        else:
            assert call in {"fsync", "fdatasync"}, f"a write without a place: {call}"
            self.found.append(Event("sync", "", file))


def _text(quoted: str) -> bytes:
    value: bytes = ast.literal_eval("b" + quoted)
    return value


def _said(events: list[Event], word: str) -> set[str]:
    lines = b"".join(each.data for each in events if each.call == "say").decode().splitlines()
    return {id for line in lines for first, *ids in [line.split()] if first == word for id in ids}


def _is_cut(event: Event) -> bool:
    return event.call in {"sync", "unlink", "truncate"} or (event.call == "say" and b"ing " not in event.data)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_was_acknowledged_is_there_after_a_loss_of_power_at_each_sync(
    events: list[Event], share: float, tmp_path: Path
):
    assert len(_said(events, "put")) == 3 * 45
    disk, draw, cuts = Disk(), random.Random(7), 0
    for index, event in enumerate(events):
        if _is_cut(event):
            folder = tmp_path / str(index)
            folder.mkdir(mode=0o700)
            for name, content in disk.after_loss(draw, share).items():
                (folder / name).write_bytes(content)
                (folder / name).chmod(0o600)
            _check(folder / "work.db", events[:index])
            shutil.rmtree(folder)
            cuts += 1
        if event.call != "say":
            disk.give(event)
    assert cuts > 60


def _check(path: Path, so_far: list[Event]) -> None:
    put, putting = _said(so_far, "put"), _said(so_far, "putting")
    settled, settling = _said(so_far, "settled"), _said(so_far, "settling")
    if not put and not (path.exists() and path.stat().st_size):
        return
    store = SqliteStore(path)
    try:
        there = {job.id for state in ("ready", "leased") for job in store.find("q", state, limit=1000).jobs}
        assert put - settling <= there <= putting - settled
        assert store.check("q") == []
        assert store.count("q").done >= len(settled)
    finally:
        store.close()


def test_syncs_are_what_keeps_it(events: list[Event], tmp_path: Path):
    """Without the syncs of the log in which puts go, some are lost: the test above can fail."""
    logs = {each.file for each in events if each.call == "create" and each.name.endswith("-wal")}
    careless = [each for each in events if not (each.call == "sync" and each.file in logs)]
    with pytest.raises(AssertionError):
        test_what_was_acknowledged_is_there_after_a_loss_of_power_at_each_sync(careless, 0.0, tmp_path)
