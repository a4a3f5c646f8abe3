"""Calls over a queue in real processes: killed, made again, made twice at once, and interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

import qanat
from tests._cli.shell import environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.slow]

SCRIPT = """
import os, sys, time
import anyio, qanat

AT_ONCE = 5

async def work(item):
    with open("log", "a") as log: log.write(f"{os.getpid()} {item}\\n")
    await anyio.sleep(0.01)
    return item * item

async def main(number):
    async with qanat.open("sqlite:///work.db") as store:
        queue = store.queue("q", keep=600.0, lease=2.0)
        outcomes = await qanat.collect(work, range(number), queue=queue, concurrency=AT_ONCE)
    print(outcomes.values() == [item * item for item in range(number)], sum(o.recalled for o in outcomes))

def interrupted(number):
    with qanat.open("sqlite:///work.db") as store:
        qanat.run(work, range(number), queue=store.queue("q", keep=600.0), concurrency=AT_ONCE)

if __name__ == "__main__":
    if sys.argv[1] == "run":
        interrupted(int(sys.argv[2]))
    else:
        anyio.run(main, int(sys.argv[2]))
"""


@pytest.fixture
def where(tmp_path: Path) -> Path:
    (tmp_path / "script.py").write_text(SCRIPT)
    return tmp_path


def start(where: Path, how: str, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "script.py", how, str(number)], cwd=where, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def lines(where: Path) -> list[str]:
    log = where / "log"
    return log.read_text().splitlines() if log.exists() else []


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def ran(where: Path) -> Counter[int]:
    return Counter(int(line.split()[1]) for line in lines(where))


def test_a_call_that_is_killed_and_made_again_does_only_what_is_left(where: Path):
    number = 150
    first = start(where, "collect", number)
    until(lambda: len(lines(where)) > number // 3)
    first.kill()
    first.communicate()
    before = len(lines(where))
    again = start(where, "collect", number)
    out, err = again.communicate(timeout=60)
    same, recalled = out.split()
    assert (same, err) == ("True", "")
    assert sorted(ran(where)) == list(range(number))
    # What ran when it was killed, or had ended and was not stored.
    assert sum(ran(where).values()) - number <= 15
    assert before - 15 <= int(recalled) <= before
    last = start(where, "collect", number)
    assert last.communicate(timeout=60)[0] == f"True {number}\n"
    assert sum(ran(where).values()) - number <= 15


def test_two_processes_that_make_one_call_share_its_jobs(where: Path):
    number = 120
    calls = [start(where, "collect", number) for _ in range(2)]
    answers = [call.communicate(timeout=60) for call in calls]
    assert [out.split()[0] for out, _ in answers] == ["True", "True"]
    assert ran(where) == Counter(range(number))
    assert sum(int(out.split()[1]) for out, _ in answers) == number


def test_a_run_that_is_interrupted_leaves_the_rest_for_the_next(where: Path):
    number = 150
    run = start(where, "run", number)
    until(lambda: len(lines(where)) > 30)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    assert "done are in queue q: run it again with that queue to go on" in err
    with qanat.open(f"sqlite:///{where}/work.db") as store:
        counts = store.queue("q").counts()
        assert (counts.leased, counts.dead, counts.done) == (0, 0, len(lines(where)))
        assert counts.ready > 0
    assert start(where, "collect", number).communicate(timeout=60)[0].startswith("True")
    assert ran(where) == Counter(range(number))
