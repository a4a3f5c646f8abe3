"""Whole workers and producers on a disk that is full: puts are refused, and what is there comes to its end."""

from __future__ import annotations

import os
import subprocess

import pytest

import qanat
from qanat.errors import StoreFull
from tests.crash.crew import Crew, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system of a limited size"),
]


@pytest.fixture
def small(tmp_path):
    """Give a folder on a file system of 32 MiB."""
    folder = tmp_path / "small"
    folder.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def crew(small, tmp_path):
    crew = Crew(tmp_path, f"sqlite:///{small / 'work.db'}")
    yield crew
    crew.end()


def fill_by_puts(crew):
    """Put until it is refused, and return how many are stored."""
    with qanat.open(crew.url) as store:
        queue = store.queue(crew.queue, keep=3600.0)
        with pytest.raises(StoreFull, match="are kept for the jobs that are there to end"):
            while True:
                queue.put_many([{"do": "give", "with": None, "n": "x" * 2000}] * 100)
        return queue.counts().put


def test_disk_that_puts_have_filled_is_drained(crew):
    stored = fill_by_puts(crew)
    worker = crew.worker(at_once=20)
    crew.wait_done()
    assert worker.stop() == 0
    with crew.store() as store:
        assert store.count(crew.queue).done == stored > 1000
        assert store.check(crew.queue) == []


@pytest.mark.long
def test_work_goes_on_when_a_disk_that_others_have_filled_has_room_again(crew, small):
    crew.naps(300, 0.05)
    worker = crew.at_work(crew.worker())
    before = crew.count("end")
    other = small / "other"
    with other.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            pass
    until(lambda: "cannot grow" in worker.said or crew.count("end") > before + 100, "the worker to notice")
    other.unlink()
    crew.wait_done()
    assert worker.stop() == 0
    history = crew.check(outages=True)
    assert {last.state for last in history.last.values()} == {"done"}
