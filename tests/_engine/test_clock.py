from __future__ import annotations

import contextvars
import time

import anyio
import pytest

from qanat._engine.clock import RealClock, clock_in_use, installed


class Frozen(RealClock):
    def now(self) -> float:
        return 7.0


def test_the_real_clock_is_in_use_by_default():
    assert isinstance(clock_in_use(), RealClock)
    assert clock_in_use() is clock_in_use()


def test_an_installed_clock_is_in_use_in_the_body_only():
    before, frozen = clock_in_use(), Frozen()
    with installed(frozen):
        assert clock_in_use() is frozen
        with installed(RealClock()):
            assert clock_in_use() is not frozen
        assert clock_in_use() is frozen
    assert clock_in_use() is before


def test_the_clock_before_comes_back_when_the_body_raises():
    before = clock_in_use()
    with pytest.raises(ZeroDivisionError), installed(Frozen()):
        raise ZeroDivisionError
    assert clock_in_use() is before


def test_an_installed_clock_reaches_copies_of_the_context():
    with installed(Frozen()):
        copied = contextvars.copy_context()
    assert copied.run(lambda: clock_in_use().now()) == 7.0


def test_now_is_the_monotonic_time_of_the_machine_with_nothing_around_it():
    assert RealClock().now is time.monotonic


def test_wall_is_the_system_time_of_the_machine(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(time, "time", lambda: 1_767_225_600.25)
    assert RealClock().wall() == 1_767_225_600.25


async def test_sleep_waits_on_the_running_loop():
    clock = RealClock()
    began = time.monotonic()
    await clock.sleep(0.01)
    assert clock.now() - began >= 0.009  # asyncio wakes up to its clock's resolution early
    with anyio.move_on_after(0) as scope:
        await clock.sleep(3600)
    assert scope.cancelled_caught


def test_real_time_stands_still_for_nobody():
    clock = RealClock()
    clock.work_outside_ended()
    clock.work_outside_began()
    assert clock.precision == 0.005
