"""`qanat demo`: qanat at work, killed in the middle and started again, without a network.

The work is done by a child process, so that it can be killed with -9: by this one, which serves the pages,
counts what is asked for, and tells at the end what came of it.
"""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import current_thread, main_thread
from types import FrameType
from typing import Final, NoReturn

import msgspec

from qanat._cli import demo_app, demo_child
from qanat._cli.demo_server import ABOUT, PAGES, DemoServer
from qanat._cli.usage import UsageError

_WHY: Final = {
    "rate": 'for the rate: rate="40/s" lets no more start',
    "throttled": "for the server, which had asked for a pause: raise qanat.Throttled",
    "retry": "for another attempt after a 500 or a dropped connection: retry=4",
    "concurrency": "for one of 20 slots: concurrency=20",
    "turn": "for their turn, behind other pages",
}
_ENDING: Final = ("SIGINT", "SIGTERM", "SIGHUP")
_POLL: Final = 0.02
"""Seconds between two looks at how far the child is."""


def run_demo() -> int:
    """Run the demo and return its exit status.

    Raises:
        UsageError: If there is no port to be had for the server, or no place for the journal.
    """
    with _signals_end_it(), DemoServer() as server:
        try:
            with _folder() as folder:
                return _show(server, folder)
        except KeyboardInterrupt:
            done = len(server.served)
            print(f"\nStopped: {done} of {PAGES} pages were fetched, and nothing was left running.")
            return 128 + signal.SIGINT


def _show(server: DemoServer, folder: Path) -> int:
    """Run the program twice, the first time until it is killed, and tell about it."""
    print(f"qanat fetches {PAGES} pages from a web server on this machine that\n{ABOUT}.\n", flush=True)
    with _program_running(server, folder) as child:
        while len(server.served) < PAGES // 2 and child.poll() is None:
            time.sleep(_POLL)
        if child.poll() is not None:
            return _gave_up(child)
    sent, before = frozenset(server.served), server.requests.copy()
    below = "\n" if sys.stderr.isatty() else ""  # the view that was killed ends within a line
    print(f"{below}\nkill -9, after {len(sent)} pages. The same program once more:\n", flush=True)
    with _program_running(server, folder) as child:
        if child.wait() != 0:
            return _gave_up(child)
    report = msgspec.json.decode((folder / "report.json").read_bytes(), type=demo_child.Report)
    known = {url.partition(f":{server.port}")[2] for url in report.recalled}
    print(f"\nAfter the kill\n{_indented(_story(report, known, sent, server.requests - before))}")
    print(f"\nWhat jobs waited for then\n{_indented(_waits(report.waits))}")
    print(f"\nThe program\n\n{_indented(_program())}")
    return 0


def _gave_up(child: subprocess.Popen[bytes]) -> int:
    """Say that the program ended when it should not have."""
    print(f"qanat: the program of the demo ended with status {child.returncode}", file=sys.stderr)
    return 1


# --- the process that works ------------------------------------------------------------------


@contextmanager
def _program_running(server: DemoServer, folder: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run the program in a child process while the block lasts; it is killed if it runs then."""
    arguments = (server.port, PAGES, str(folder / "journal.db"), str(folder / "report.json"))
    # With our own path: the working directory may hold modules of any name.
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; "
        f"from qanat._cli.demo_child import main; main(*{arguments!r})"
    )
    child = None
    try:
        # Ctrl-C reaches all processes of a terminal, but to end this one is for us.
        with _held(block=True):
            child = subprocess.Popen([sys.executable, "-P", "-c", code], stdin=subprocess.PIPE)
        yield child
    finally:
        if child is not None:
            with _held():
                child.kill()
                child.wait()
                if child.stdin is not None:
                    child.stdin.close()


@contextmanager
def _held(*, block: bool = False) -> Generator[None]:
    """Keep requests to end back while the block lasts.

    Handlers of our own note them: a signal that this thread blocks reaches another one, and Python calls its
    handler here all the same.

    Args:
        block: Whether Ctrl-C is kept back for good from a process that is started meanwhile.
    """
    if sys.platform == "win32" or current_thread() is not main_thread():
        yield
        return
    noted: list[int] = []
    handlers = {name: signal.getsignal(signal.Signals[name]) for name in _ENDING}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        for name in _ENDING:
            signal.signal(signal.Signals[name], lambda number, _: noted.append(number))
        if block:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, handler in handlers.items():
            signal.signal(signal.Signals[name], handler)
        if noted:
            signal.raise_signal(noted[0])


@contextmanager
def _folder() -> Generator[Path]:
    """Make a folder for the journal, and remove it with all that is in it, whatever comes."""
    made = None
    try:
        with _held():
            try:
                made = tempfile.TemporaryDirectory(prefix="qanat-demo-", ignore_cleanup_errors=True)
            except OSError as error:
                raise UsageError(f"the demo needs a folder for its journal: {error.strerror}") from None
        yield Path(made.name)
    finally:
        if made is not None:
            with _held():
                made.cleanup()


@contextmanager
def _signals_end_it() -> Generator[None]:
    """Let a request to end, or a closed terminal, unwind as Ctrl-C does, so that nothing is left."""
    numbers = [getattr(signal.Signals, name, None) for name in _ENDING[1:]]
    before = {
        number: signal.signal(number, _leave)
        for number in numbers
        if number is not None
        and current_thread() is main_thread()
        and signal.getsignal(number) is signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


# --- what is told ----------------------------------------------------------------------------


def _story(report: demo_child.Report, known: set[str], sent: frozenset[str], since: Mapping[str, int]) -> str:
    """Say how it went on, in sentences.

    Args:
        report: What became of the second run.
        known: The pages that it took from the journal.
        sent: The pages that the server had sent before.
        since: How often the server was asked for each page since.
    """
    twice = sum(since.get(path, 0) for path in known)
    lines = [
        f"{len(known)} pages were taken from the journal: journal=file",
        f"the server was asked {twice} times for these, and {sum(since.values()) - twice} times for others",
    ]
    if lost := len(sent - known):
        lines.append(f"{lost} had been sent, but not recorded yet when the kill came: fetched again")
    lines.append(f"{report.again} needed another attempt: retry=4")
    lines += [f"{number} failed for good: {why}" for why, number in report.lost.items()]
    lines.append(f"{report.paused} had to wait while the server wanted a pause; nobody called it meanwhile")
    lines.append(f"in all, {report.done} pages were fetched")
    return "\n".join(lines)


def _waits(waits: Mapping[str, float]) -> str:
    total = sum(waits.values()) or 1.0
    parts = sorted(waits.items(), key=lambda part: -part[1])
    return "\n".join(
        f"{seconds / total:4.0%} {_WHY.get(cause, cause)}"
        for cause, seconds in parts
        if seconds / total >= 0.005
    )


def _program() -> str:
    """Return the lines that did it, as they stand in their file."""
    return f"{inspect.getsource(demo_app.fetch)}\n\n{inspect.getsource(demo_app.crawl)}".rstrip()


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
