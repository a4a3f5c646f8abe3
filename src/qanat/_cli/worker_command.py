"""`qanat worker`: work a durable queue off until told to stop."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import anyio

from qanat._app.durable.consuming import make_worker
from qanat._app.durable.renewing import STALL_LIMIT
from qanat._app.durable.store import ROTATION_LEASE
from qanat._app.durable.store import open as open_store
from qanat._app.durable.working import Worker
from qanat._app.handlers import name_of
from qanat._app.rules import Rules
from qanat._app.run import Backend, backend_of
from qanat._app.stopping import Stopping
from qanat._app.text import safe_text
from qanat._cli.loading import load
from qanat._cli.map_rules import make_rules
from qanat._cli.usage import UsageError
from qanat._core.arguments import duration
from qanat._core.intervals import Between
from qanat._core.store.levels import level_in_words
from qanat.errors import StartTimeoutError, StoreError, TooManyFailuresError

if TYPE_CHECKING:
    from qanat._app.durable.queue import Queue
    from qanat._app.durable.rotation import Rotation
    from qanat._app.durable.store import Store

CANCELLING: Final = 5.0
"""Seconds that handlers have to end once they were cancelled; then the process ends without them."""
CLOSING: Final = 1.0
"""Seconds that a store has to be opened or closed once a signal came: one that hangs holds up nobody."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What a `qanat worker` was asked for."""

    functions: tuple[str, ...]
    flags: Mapping[str, Any]
    store: str
    queue: str | None = None
    rotation: str | None = None
    every: str | None = None
    lease: str | None = None
    require: str | None = None
    burst: bool = False
    grace: str | None = None
    stall_limit: str | None = None
    exit_on_stall: bool = False
    rules: str | None = None
    loop: Backend = "asyncio"


def run_worker(options: WorkerOptions) -> int:
    """Carry out a `qanat worker` and return its exit status: 0 drained, 1 jobs abandoned.

    Raises:
        UsageError: If it cannot be carried out as it was asked for.
    """
    rules, named = make_rules(options.flags, options.rules)
    if named.named:
        raise UsageError(
            f"{named.named[0]!r} is a field of items of files: lanes and priorities come with put"
        )
    grace = _seconds("grace", options.grace, 25.0)
    stall_limit = _seconds("stall_limit", options.stall_limit, STALL_LIMIT)
    from_where = _source(options)
    try:
        backend, backend_options = backend_of(options.loop)
        opening = open_store(options.store, require_durability=options.require)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
    functions = [load(each) for each in options.functions]
    if not functions:
        raise UsageError("name a function such as app:send")
    _log_to_stderr()
    with Stopping() as stopping:
        watch = _Watch(stopping, grace)

        async def work() -> None:
            async with opening as store:
                try:
                    source = from_where(store)
                    worker = make_worker(
                        source, functions[0], functions[1:] or None, burst=options.burst, grace=grace,
                        rules=rules, stopping=stopping, stall_limit=stall_limit,
                        stalled=watch.stalled if options.exit_on_stall else None, progress=None,
                    )  # fmt: skip
                    await worker.check()
                except (TypeError, ValueError) as error:
                    raise UsageError(str(error)) from None
                promise = await store.guarantees()
                _say(f"working on {source.name} in {store!r} ({promise}): {_words(functions, rules)}")
                if promise in {"none", "unverified"} and not store.is_private:
                    _say(f"{level_in_words(promise)}: qanat doctor says why, and what mends it")
                watch.worker, watch.stage = worker, "working"
                try:
                    await worker.run()
                finally:
                    watch.stage = "closing"

        watch.begin()
        try:
            anyio.run(work, backend=backend, backend_options=backend_options)
        except StoreError as error:
            raise UsageError(str(error)) from None
        except (TooManyFailuresError, StartTimeoutError) as error:
            _say(str(error))
            return 1
        finally:
            watch.end()
    return watch.last_words()


def _source(options: WorkerOptions) -> Callable[[Store], Queue[Any] | Rotation[Any]]:
    """Return what opens the queue or the rotation that the flags name."""
    name, every = options.rotation, options.every
    if (options.queue is None) == (name is None):
        raise UsageError("give --queue or --rotation, one of the two")
    if name is None:
        if every is not None:
            raise UsageError("--every goes with --rotation")
        queue, lease = options.queue or "", _seconds("lease", options.lease, 30.0)
        return lambda store: store.queue(queue, lease=lease)
    if every is None:
        raise UsageError("--rotation needs --every, such as --every 36h")
    lowest, dots, highest = every.partition("..")
    try:
        first = duration(lowest, "every")
        interval = Between(first, duration(highest, "every")) if dots else first
    except ValueError as error:
        raise UsageError(str(error)) from None
    lease = _seconds("lease", options.lease, ROTATION_LEASE)
    return lambda store: store.rotation(name, every=interval, lease=lease)


class _Watch:
    """End the process if it cannot end by itself: threads cannot be stopped, nor can a store be hurried.

    Attributes:
        stage: What is under way: "opening" the store, "working", or "closing" the store.
        worker: What works; None before.
    """

    def __init__(self, stopping: Stopping, grace: float) -> None:
        self._stopping = stopping
        self._patience = {
            "opening": CLOSING, "working": grace + CANCELLING + 1.0, "cancelling": CANCELLING + 1.0,
            "closing": CLOSING,
        }  # fmt: skip
        self._done = threading.Event()
        self.stage = "opening"
        self.worker: Worker | None = None

    def begin(self) -> None:
        threading.Thread(target=self._wait, name="qanat-watch", daemon=True).start()

    def end(self) -> None:
        self._done.set()

    def stalled(self) -> None:
        """End the process, as nothing in its event loop can; called in another thread."""
        _say("ended, as a job has blocked the event loop for too long")
        os._exit(1)

    def _wait(self) -> None:
        stage, entered = "", 0.0
        while not self._done.wait(0.1):
            now = time.monotonic()
            if self._asked_to_end() != stage:
                stage, entered = self._asked_to_end(), now
            if stage and now - entered >= self._patience[stage]:
                break
        else:
            return
        if stage in {"working", "cancelling"}:
            _say("jobs were abandoned that cannot be cancelled; their leases expire")
            os._exit(1)
        os._exit(self.last_words())

    def _asked_to_end(self) -> str:
        """Return what is to end since a signal came; "" if none did."""
        if not self._stopping.times:
            return ""
        return "cancelling" if self.stage == "working" and self._stopping.times > 1 else self.stage

    def last_words(self) -> int:
        """Say how it ended, and return the exit status."""
        abandoned = 0 if self.worker is None else self.worker.abandoned
        ran = None if self.worker is None else self.worker.dispatcher
        if ran is not None:
            _say(f"{ran.done:,} done, {ran.failed:,} failed")
        if abandoned:
            _say(f"{abandoned} jobs were abandoned")
        if self._stopping.signal is not None:
            _say(f"stopped by {self._stopping.signal.name}")
        return 1 if abandoned else 0


def _seconds(name: str, text: str | None, default: float) -> float:
    """Return the seconds that a flag names; a grace of 0 is none."""
    if text is None:
        return default
    if name == "grace" and text.strip() in {"0", "0s"}:
        return 0.0
    try:
        return duration(text, name)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _words(functions: list[Callable[[Any], Any]], rules: Rules) -> str:
    return f"{', '.join(safe_text(name_of(each), 60) for each in functions)}, {rules}"


def _log_to_stderr() -> None:
    """Let what a worker logs be seen, unless somebody has set up logging."""
    if not logging.getLogger().handlers and not logging.getLogger("qanat").handlers:
        logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s", level="INFO")


def _say(text: str) -> None:
    try:
        print(f"qanat: {safe_text(text, 2000)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # nobody to hear it
