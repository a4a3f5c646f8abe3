"""The machine is looked at for limits that want to know, and for nobody else."""

from __future__ import annotations

import os
from random import Random
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat._core.dispatcher import Dispatcher
from qanat._engine import machine as machine_module
from qanat._engine.clock import RealClock
from qanat._engine.machine import Machine
from qanat._engine.sampler import INTERVAL, Sampler
from tests._core.dispatcher import world

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from qanat._core.job import Job
    from qanat._core.limit import Signal
    from qanat.testing import VirtualTime


class Listening(qanat.Limit):
    def __init__(self, *signals: Signal) -> None:
        self.signals = signals
        self.heard: list[tuple[str, float, float]] = []

    def ready_at(self, job: Job[Any], now: float) -> float:
        return now

    def wants(self) -> Collection[Signal]:
        return self.signals

    def sense(self, signal: Signal, value: float, now: float) -> None:
        self.heard.append((signal, value, now))

    def fresh_at(self, now: float) -> float:
        return now


class Fixed(Machine):
    """A machine that is always alike; it can tell its memory or not."""

    def __init__(self, cpu: float | None = 0.25, memory: float | None = 0.5) -> None:
        super().__init__(None)
        self.values = cpu, memory
        self.asked = 0

    def cpu(self) -> float | None:
        self.asked += 1
        return self.values[0]

    def memory(self) -> float | None:
        return self.values[1]


class Late:
    """A clock whose sleeps end late, until the third one."""

    precision = 0.001
    seed = None

    def __init__(self, late: float) -> None:
        self.late = late
        self.at = 100.0
        self.sleeps = 0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        raise NotImplementedError

    async def sleep(self, seconds: float) -> None:
        self.sleeps += 1
        if self.sleeps == 3:
            raise EOFError
        self.at += seconds + self.late

    def work_outside_began(self) -> None:
        raise NotImplementedError

    work_outside_ended = work_outside_began


# --- who is told ------------------------------------------------------------------------------


def test_limits_hear_the_signals_that_they_want_and_no_others():
    both, cpu, none = Listening("lag", "memory"), Listening("cpu"), Listening()
    dispatcher = world.make(limits=[both, cpu, none])
    sampler = Sampler(dispatcher, RealClock(), Fixed())
    sampler.look(0.125, 7.0)
    assert both.heard == [("lag", 0.125, 7.0), ("memory", 0.5, 7.0)]
    assert cpu.heard == [("cpu", 0.25, 7.0)]
    assert none.heard == []


def test_what_the_system_does_not_tell_is_not_heard_of():
    limit = Listening("lag", "cpu", "memory")
    Sampler(world.make(limits=[limit]), RealClock(), Fixed(None, None)).look(0.0, 7.0)
    assert limit.heard == [("lag", 0.0, 7.0)]


def test_what_nobody_wants_is_not_looked_at():
    machine = Fixed()
    Sampler(world.make(limits=[Listening("lag")]), RealClock(), machine).look(0.0, 7.0)
    assert machine.asked == 0


async def test_lag_is_how_late_a_sleep_ended():
    limit = Listening("lag")
    with pytest.raises(EOFError):
        await Sampler(world.make(limits=[limit]), Late(0.25), Fixed()).run()
    assert limit.heard == [("lag", 0.25, 100.75), ("lag", 0.25, 101.5)]


def test_a_limit_that_raises_is_reported_and_the_others_hear():
    class Broken(Listening):
        def sense(self, signal: Signal, value: float, now: float) -> None:
            raise ZeroDivisionError

    faults: list[Exception] = []
    fine = Listening("lag")
    dispatcher = world.make(limits=[Broken("lag"), fine], on_fault=lambda fault, _: faults.append(fault))
    dispatcher.sense("lag", 1.0, 0.0)
    assert [type(fault) for fault in faults] == [ZeroDivisionError]
    assert fine.heard == [("lag", 1.0, 0.0)]


def test_a_plain_limit_wants_nothing_and_hears_nothing():
    limit = qanat.Limit()
    assert not limit.wants()
    limit.sense("lag", 1.0, 0.0)


def test_a_limit_hears_once_however_many_nodes_have_it_and_until_the_last_is_gone():
    limit, wanted = Listening("lag"), list[bool]()
    dispatcher = Dispatcher(rng=Random(1), on_wanted=lambda: wanted.append(True))
    task = world.add(dispatcher, lane_limits=lambda _: [limit], uses_lanes=True)
    assert dispatcher.wanted == set()
    jobs = [world.job(task, number, lane=f"lane {number}") for number in range(2)]
    for job in jobs:
        dispatcher.offer(job, 0.0)
    assert wanted == [True, True]
    dispatcher.sense("lag", 1.0, 0.0)
    assert limit.heard == [("lag", 1.0, 0.0)]
    assert world.begin(dispatcher, 0.0) == [0, 1]
    dispatcher.finish(jobs[0], None, None, 1.0)
    assert dispatcher.wanted == {"lag"}
    dispatcher.finish(jobs[1], None, None, 1.0)
    assert dispatcher.wanted == set()
    dispatcher.sense("lag", 1.0, 2.0)
    assert len(limit.heard) == 1


def test_a_task_that_is_dropped_takes_its_limits_along():
    limit = Listening("lag")
    dispatcher = world.make()
    task = world.add(dispatcher, limits=[limit])
    other = world.add(dispatcher, "other", limits=[qanat.Concurrency(1)])
    assert dispatcher.wanted == {"lag"}
    dispatcher.drop_task(other)
    assert dispatcher.wanted == {"lag"}
    dispatcher.drop_task(task)
    assert dispatcher.wanted == set()


# --- in an engine -----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_engine_samples_for_limits_that_want_it(backend: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("qanat._engine.sampler.INTERVAL", 0.001)
    limit, seen = Listening("lag"), anyio.Event

    async def main() -> None:
        enough = seen()

        async def handler(_item: int) -> None:
            while len(limit.heard) < 3:
                await anyio.sleep(0.001)
            enough.set()

        await qanat.collect(handler, [1], limits=limit)
        assert enough.is_set()

    anyio.run(main, backend=backend)
    assert [signal for signal, _, _ in limit.heard[:3]] == ["lag"] * 3


async def test_limits_of_lanes_are_sampled_for_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("qanat._engine.sampler.INTERVAL", 0.001)
    made: list[Listening] = []

    def make(_lane: object) -> Listening:
        made.append(Listening("lag"))
        return made[-1]

    async def handler(_item: int) -> None:
        while not made[-1].heard:
            await anyio.sleep(0.001)

    await qanat.collect(handler, [1, 2], lane=lambda item: item, lane_limits=make, concurrency=1)
    assert len(made) == 2


async def test_nothing_is_sampled_when_nobody_wants_it(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("qanat._engine.engine.Sampler", refuse)

    async def handler(item: int) -> int:
        return item

    assert await qanat.map(handler, [1], limits=[Listening(), qanat.Concurrency(3)]) == [1]


@pytest.mark.virtual_time("asyncio", "trio")
async def test_nothing_is_sampled_on_virtual_time(virtual_time: VirtualTime):
    limit = Listening("lag", "cpu", "memory")

    async def handler(_item: int) -> None:
        await anyio.sleep(10 * INTERVAL)

    await qanat.collect(handler, [1], limits=limit)
    assert limit.heard == []


# --- the machine ------------------------------------------------------------------------------


def test_psutil_is_asked_where_it_is():
    psutil: Any = SimpleNamespace(
        cpu_percent=lambda _interval: 37.5, virtual_memory=lambda: SimpleNamespace(percent=62.5)
    )
    machine = Machine(psutil)
    assert (machine.cpu(), machine.memory()) == (0.375, 0.625)


def test_psutil_is_found_by_itself(monkeypatch: pytest.MonkeyPatch):
    assert isinstance(Machine()._psutil, ModuleType)

    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(machine_module, "import_module", fail)
    assert Machine()._psutil is None


def test_without_psutil_the_system_tells(tmp_path: Path):
    machine = Machine(None, tmp_path)
    (tmp_path / "stat").write_text("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3\n")
    assert machine.cpu() is None, "there is no time before"
    assert machine.cpu() is None, "no time has passed"
    (tmp_path / "stat").write_text("cpu  160 0 115 720 105 0 0 0 0 0\n")
    assert machine.cpu() == 0.75
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\n")
    assert machine.memory() == 0.75


@pytest.mark.parametrize("text", ["", "cpu 1 2\n", "cpu a b\n"])
def test_a_system_that_tells_nothing_of_use(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "stat").write_text(text)
    (tmp_path / "meminfo").write_text(text)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    machine = Machine(None, tmp_path)
    assert machine.cpu() == 0.75
    assert machine.memory() is None


def test_a_system_that_tells_nothing_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise OSError

    monkeypatch.setattr(os, "getloadavg", fail)
    machine = Machine(None, tmp_path)
    assert machine.cpu() is None
    assert machine.memory() is None
