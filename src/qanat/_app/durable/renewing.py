"""How leases are kept: renewed from the pulse, and given up before they can expire unseen.

The deadline of a lease is counted from before the claim or the renewal was sent, so the store's own is
never earlier. A job whose deadline comes near without an answer is cancelled here, and its outcome
discarded: by then another worker may have it.

A handler may block the event loop, and its job is renewed all the same; but not for ever, as one that
hangs would keep its job from everybody. Each beat asks the loop for a sign. If one has been owed for longer
than the stall limit, nothing is renewed until it comes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from qanat._core.job import RUNNING, description_of
from qanat._core.store.bounds import MOST, NOTE_CHARACTERS
from qanat._core.store.values import Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._app.durable.holding import Held, Holding
    from qanat._core.job import Job
    from qanat._engine.engine import Engine
    from qanat._stores.deeds import Deeds, Renewed

_log = logging.getLogger("qanat")

STALL_LIMIT: Final = 60.0
"""Seconds that a handler may block the event loop and keep its lease, unless told otherwise."""


class Renewing:
    """The renewals of one consumer.

    Args:
        engine: Who runs the jobs.
        queue: The queue's name.
        lease: Seconds of a lease.
        holding: What is held.
        drop: Called with what is held of a job that waits and is not ours, or wanted, any more.
        stall: For how many seconds the loop may owe a sign; None if it cannot stand still, as on virtual
            time, where it makes the beats.
        stalled: Called once in the thread of the pulse when it has owed one for longer.
    """

    def __init__(
        self, engine: Engine, queue: str, lease: float, holding: Holding, drop: Callable[[Held], object], *,
        stall: float | None, stalled: Callable[[], object] | None = None,
    ) -> None:  # fmt: skip
        """Begin with none."""
        self._engine = engine
        self._queue = queue
        self._lease = lease
        self._holding = holding
        self._drop = drop
        self._margin = min(1.0, lease / 10.0)
        self._alarm: Any = None
        self._alarm_set = False
        self._failed = False
        self._stall = stall
        self._stalled = stalled
        self._asked: float | None = None
        self._is_stalled = False

    def open(self) -> None:
        """Begin to look at the deadlines."""
        self._alarm = self._engine.make_alarm(self._ring)

    def watch(self, safe_until: float) -> None:
        """Look at the deadlines in time for leases that end then."""
        if not self._alarm_set:
            self._alarm_set = True
            self._alarm.set(safe_until - self._margin)

    # --- in the thread of the pulse ----------------------------------------------------------

    def beat(self, connection: Deeds) -> float:
        """Renew what is held; return the seconds until the next time."""
        held = list(self._holding.live.copy().values())
        sent = self._engine.now()
        if self._stall is not None and self._stands_still(held, sent, self._stall):
            return self._margin
        try:
            for begin in range(0, len(held), MOST):
                part = held[begin : begin + MOST]
                leases = [Lease(each.stored.id, each.stored.token, _note(each)) for each in part]
                answers: list[Renewed] = connection.do(f"extend {self._queue} {self._lease!r}", leases)
                for each, answer in zip(part, answers, strict=True):
                    if not answer.lost:
                        # At once: a loop that is blocked looks at its deadlines before it hears of this.
                        each.safe_until = sent + self._lease
                self._tell(part, answers)
        except Exception as error:  # noqa: BLE001 - a store may raise anything, and is asked again
            if not self._failed:
                _log.warning(
                    "queue %s: leases cannot be renewed, and are tried again: %s", self._queue, error
                )
            self._failed = True
            return self._margin
        self._failed = False
        return self._lease / 3.0

    def _stands_still(self, held: list[Held], now: float, limit: float) -> bool:
        """Say whether the loop owes a sign for too long; ask for one if it owes none."""
        asked = self._asked
        if asked is None:
            self._is_stalled = False
            if held:
                self._asked = now
                self._call(self._give_sign)
            return False
        if now - asked <= limit:
            return False
        if not self._is_stalled:
            self._is_stalled = True
            running = [each.stored.id for each in held if each._status == RUNNING]
            _log.error(
                "queue %s: a handler has blocked the event loop for %.3g s (stall_limit is %.3g s; running: "
                "%s): its leases (%d) are renewed no more, and other workers take the jobs. Make it a plain "
                "function, which runs in a thread, or await what it waits for",
                self._queue, now - asked, limit, ", ".join(running[:3]), len(held),
            )  # fmt: skip
            if self._stalled is not None:
                self._stalled()
        return True

    def _call(self, function: Callable[[], object]) -> None:
        try:
            self._engine.loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass  # the loop has ended, and with it the handlers

    def _tell(self, held: list[Held], answers: list[Renewed]) -> None:
        if not any(each.lost or each.cancel for each in answers):
            return
        self._call(lambda: self._renewed(held, answers))

    # --- in the loop -------------------------------------------------------------------------

    def _give_sign(self) -> None:
        self._asked = None

    def _renewed(self, held: list[Held], answers: list[Renewed]) -> None:
        for each, answer in zip(held, answers, strict=True):
            if self._holding.live.get(each.stored.id) is not each:
                continue  # it has ended meanwhile
            if answer.lost:
                self._lose(each, "is lost")
            elif answer.cancel and not each.cancel:
                each.cancel = True
                self._stop(each)

    def _ring(self) -> None:
        """Give up what could expire before it is looked at again."""
        self._alarm_set = False
        now = self._engine.now()
        soonest: float | None = None
        for each in list(self._holding.live.values()):
            if each.safe_until - self._margin <= now:
                self._lose(each, "could not be renewed in time")
            elif soonest is None or each.safe_until < soonest:
                soonest = each.safe_until
        if soonest is not None:
            self.watch(soonest)

    def _lose(self, held: Held, how: str) -> None:
        if not held.lost:
            held.lost = True
            _log.warning("queue %s: the lease of job %s %s", self._queue, held.stored.id, how)
            self._stop(held)

    def _stop(self, held: Held) -> None:
        """Stop a job, whether it waits or runs."""
        if held._status == RUNNING or not self._engine.dispatcher.recall(held, self._engine.now()):
            self._engine.cancel_job(held)
        else:
            self._drop(held)


def _note(job: Job[Any]) -> str | None:
    """Return what a job says that it does, for whoever looks into the store."""
    said = description_of(job)
    return None if said is None else said.encode("utf-8", "replace").decode()[:NOTE_CHARACTERS]
