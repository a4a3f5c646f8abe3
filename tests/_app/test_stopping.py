"""Signals that ask a run to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import anyio
import pytest

from qanat._app.stopping import Stopping
from qanat._engine.loop import running_loop

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.real


def send(number: int) -> None:
    """Send a signal to this process, and let Python hear of it."""
    signal.raise_signal(number)


def at_once(function: Callable[[], object]) -> None:
    """Stand for a loop that has time."""
    function()


class Steps:
    """Note what was asked for."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def stop(self) -> None:
        self.taken.append("stop")

    def cancel(self) -> None:
        self.taken.append("cancel")


def test_first_stop_then_cancel() -> None:
    steps = Steps()
    with Stopping() as stopping, stopping.reach(at_once, stop=steps.stop, cancel=steps.cancel):
        assert stopping.status is None
        send(signal.SIGINT)
        assert steps.taken == ["stop"]
        send(signal.SIGTERM)
        assert steps.taken == ["stop", "cancel"]
    assert stopping.signal is signal.SIGINT
    assert stopping.status == 130


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_the_status_is_that_of_the_first_signal(number: signal.Signals, status: int) -> None:
    with Stopping() as stopping:
        send(number)
    assert stopping.status == status


def test_a_hangup_cancels_as_nobody_is_left_to_ask_twice() -> None:
    steps = Steps()
    with Stopping() as stopping, stopping.reach(at_once, stop=steps.stop, cancel=steps.cancel):
        send(signal.SIGHUP)
    assert steps.taken == ["stop", "cancel"]


def test_signals_before_the_loop_runs_are_kept_for_it() -> None:
    steps = Steps()
    with Stopping() as stopping:
        send(signal.SIGTERM)
        with stopping.reach(at_once, stop=steps.stop, cancel=steps.cancel):
            assert steps.taken == ["stop"]


def test_signals_after_the_run_are_only_noted() -> None:
    steps = Steps()
    with Stopping() as stopping:
        with stopping.reach(at_once, stop=steps.stop, cancel=steps.cancel):
            pass
        send(signal.SIGINT)
    assert steps.taken == []
    assert stopping.times == 1


def test_a_loop_that_has_ended_is_no_trouble() -> None:
    def ended(function: Callable[[], object]) -> None:
        raise RuntimeError

    steps = Steps()
    with Stopping() as stopping, stopping.reach(ended, stop=steps.stop, cancel=steps.cancel):
        send(signal.SIGINT)
    assert steps.taken == []


def test_the_handlers_of_before_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with Stopping():
        assert signal.getsignal(signal.SIGINT) is not before[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stopping() as stopping:
            send(signal.SIGHUP)
        assert stopping.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_handle_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    inside: list[object] = []

    def run() -> None:
        with Stopping():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert inside == [before]


@pytest.mark.parametrize(
    ("backend", "options"), [("asyncio", {}), ("asyncio", {"use_uvloop": True}), ("trio", {})]
)
@pytest.mark.parametrize("outside", [True, False], ids=["before-the-loop", "in-the-loop"])
def test_a_loop_that_sleeps_hears_at_once(backend: str, options: dict[str, bool], outside: bool) -> None:
    async def wait(stopping: Stopping) -> str:
        loop = running_loop()
        spot = loop.spot()
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
        timer.start()
        with anyio.fail_after(5), stopping.reach(loop.call_soon_threadsafe, stop=spot.wake, cancel=spot.wake):
            await spot.wait()
        timer.join()
        return "heard"

    async def inside() -> str:
        with Stopping() as stopping:
            return await wait(stopping)

    if outside:
        with Stopping() as stopping:
            assert anyio.run(wait, stopping, backend=backend, backend_options=options) == "heard"
    else:
        assert anyio.run(inside, backend=backend, backend_options=options) == "heard"


def test_the_third_ends_the_process_after_its_last_words() -> None:
    code = (
        "import os, signal\n"
        "from qanat._app.stopping import Stopping\n"
        "with Stopping(lambda: os.write(1, b'bye')):\n"
        "    for _ in range(3): signal.raise_signal(signal.SIGTERM)\n"
        "    print('not reached')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (143, b"bye")


@pytest.mark.parametrize(("number", "again"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_without_grace_the_first_cancels(number: signal.Signals, again: str) -> None:
    steps = Steps()
    with Stopping(graceful=False) as stopping:
        with stopping.reach(at_once, stop=steps.stop, cancel=steps.cancel):
            send(number)
    assert steps.taken == ["stop", "cancel"]
    assert (stopping.times, stopping.again) == (2, again)
