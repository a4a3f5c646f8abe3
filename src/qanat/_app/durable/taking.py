"""How jobs come in: what a claim got is held, decoded, and offered to the dispatcher."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, cast

from qanat._app.durable.handling import Handling, name_wanted
from qanat._app.durable.holding import Held, Holding
from qanat._app.durable.lineage import read_metadata
from qanat._core.job import WAITING, History, Job
from qanat._stores.codec import decode, decode_all
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._app.durable.queue import Queue
    from qanat._core.store.values import StoredJob
    from qanat._engine.engine import Engine
    from qanat._engine.intake import Callbacks

_log = logging.getLogger("qanat")

UNKNOWN_FIRST: Final = 5.0
UNKNOWN_LONGEST: Final = 300.0
"""Seconds for which a job waits whose handler is not known here, doubled each time."""


class Taking:
    """Take what the claims of one consumer got.

    Args:
        queue: The queue.
        engine: Who runs the jobs.
        handling: What runs them.
        holding: What is held.
        watch: Called with until when a lease that is new cannot have expired.
        callbacks: The rules that are functions of the item.
        retries: The ids of jobs that are to be tried again, and when; they are tried here if they come here.
        settle: Ends what is held of a job.
    """

    def __init__(
        self, queue: Queue[Any], engine: Engine, handling: Handling, holding: Holding,
        watch: Callable[[float], object], callbacks: Callbacks, retries: dict[str, float],
        settle: Callable[..., object],
    ) -> None:  # fmt: skip
        """Take nothing yet."""
        self._name = queue.name
        self._options = queue._asking.options
        self._engine = engine
        self._handling = handling
        self._holding = holding
        self._watch = watch
        self._callbacks = callbacks
        self._retries = retries
        self._settle = settle
        self._count = 0
        self._unknown: set[str] = set()

    def take_all(self, jobs: list[StoredJob], sent: float) -> None:
        """Take jobs that were leased: those with nothing but an item together, which is half the work."""
        task = self._handling.main
        if task is None or self._callbacks or task.retry.deadline is not None:
            for stored in jobs:
                self._take(stored, sent)
            return
        offered_at, options = self._engine.now(), self._options
        safe_until, retries = sent + options.lease, self._retries
        items = decode_all([stored.body for stored in jobs], options.type)
        if items is None:
            for stored in jobs:
                self._take(stored, sent)
            return
        index = self._count
        plain: list[Held] = []
        for stored, item in zip(jobs, items, strict=True):
            if stored.attempt == 1 and not (
                stored.handler or stored.lane or stored.metadata or stored.priority or stored.crashes
                or stored.parent or stored.phase or stored.id in retries
            ):  # fmt: skip
                held = Held(stored.id, item, index, task, offered_at, WAITING)
                held.stored = stored
                held.safe_until = safe_until
                plain.append(held)
                index += 1
                continue
            self._count = index
            self._offer(plain, offered_at)
            plain = []
            self._take(stored, sent)
            index = self._count
        self._count = index
        self._offer(plain, offered_at)

    def _offer(self, plain: list[Held], offered_at: float) -> None:
        """Offer jobs that have nothing but an item."""
        if plain:
            self._holding.take_all(plain)
            self._watch(plain[0].safe_until)
            self._engine.dispatcher.offer_all(cast("list[Job[Any]]", plain), offered_at)

    def _take(self, stored: StoredJob, sent: float) -> None:
        """Take a job that was leased."""
        engine = self._engine
        self._retries.pop(stored.id, None)
        now = engine.now()
        options = self._options
        task = self._handling.task(stored)
        index = self._count
        self._count = index + 1
        job = Held(
            stored.id, None, index, task or self._handling.any, stored=stored, safe_until=sent + options.lease
        )
        self._holding.take(job)
        self._watch(job.safe_until)
        if task is None:
            self._park(job)
            return
        job.attempt = stored.attempt
        job.lane = stored.lane or None
        job.priority = stored.priority
        job.parent = stored.parent
        if task.retry.deadline is not None and stored.started_at is not None:
            # The store knows since when the job was due, and not when it first ran.
            job._history = History(first_started_at=now - max(0.0, stored.started_at - stored.born_at))
        try:
            job.item = decode(stored.body, options.type)
            job.metadata = read_metadata(stored.metadata)
            self._callbacks.fill(job, now)
        except BaseException as error:  # noqa: BLE001 - the user's functions may raise anything
            engine.dispatcher.refuse(job, blamed_on_job(error), now)
        else:
            engine.dispatcher.offer(job, now)

    def _park(self, held: Held) -> None:
        """Let a job wait for a worker that knows its handler."""
        stored = held.stored
        name = name_wanted(stored)
        if name not in self._unknown:
            self._unknown.add(name)
            _log.warning("queue %s: no handler %r here, and its jobs wait", self._name, name)
        delay = min(UNKNOWN_FIRST * 2.0 ** min(stored.attempt - 1, 16), UNKNOWN_LONGEST)
        reason = f"no handler {name!r} at {stored.worker}"[:500]
        self._settle(held, kind="retry", delay=delay, reason=reason)
