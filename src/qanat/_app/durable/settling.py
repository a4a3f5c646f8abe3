"""How leases end: what became of each job goes to the store, in batches, and is sent until it is answered.

One batch is under way at a time. What ends meanwhile goes with it as long as it waits for its turn, behind
a claim, and then with the next. While too much is not answered nothing new is started: what a crash could
make run twice is bounded.
"""

from __future__ import annotations

import logging
import traceback
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

from qanat._core.store.bounds import ERROR_CHARACTERS, MOST, NOTE_CHARACTERS
from qanat._core.store.states import ENDED
from qanat._core.store.values import Settle
from qanat._engine.bell import Bell
from qanat.errors import StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._app.durable.holding import Held, Holding
    from qanat._core.store.values import Settled
    from qanat._engine.courier import Call, Desk
    from qanat._engine.engine import Engine
    from qanat.errors import JobDiscardedError

_log = logging.getLogger("qanat")

MOST_BYTES: Final = 4 * 2**20
"""Bytes of results in one batch, unless a single one is larger."""
FIRST_BACKOFF: Final = 0.1
LONGEST_BACKOFF: Final = 5.0
"""Seconds before a batch that could not be sent is sent again."""


class Settling:
    """The settles of one consumer.

    Args:
        engine: Who runs the jobs; held up while too much is not answered.
        desk: Where deeds are handed in.
        queue: The queue's name.
        lease: Seconds of a lease.
        holding: What is held.
        when_settled: Called when a batch was answered, with whether jobs went back to the queue, and
            the ids of those that have ended.
        step: How many go in one batch at most.
        when_answered: Called before, with each lease that was settled and the answer.
    """

    def __init__(
        self, engine: Engine, desk: Desk, queue: str, lease: float, holding: Holding,
        when_settled: Callable[[bool, list[str]], object], step: int = MOST,
        when_answered: Callable[[Held, Settled], object] | None = None,
    ) -> None:  # fmt: skip
        """Begin with none."""
        self._engine = engine
        self._desk = desk
        self._deed = f"settle {queue}"
        self._queue = queue
        self._patience = lease / 3.0
        self._holding = holding
        self._when_settled = when_settled
        self._step = step
        self._when_answered = when_answered
        self._waiting: deque[Held] = deque()
        self._all_plain = True
        self._under_way = 0
        self._call: Call | None = None
        self._batch: list[Held] = []
        self._oldest = 0.0
        self._backoff = 0.0
        self._is_called = False
        self._alarm: Any = None
        self._answered = Bell(engine.loop)
        self.gave_up = False

    @property
    def pending(self) -> int:
        """How many are not answered."""
        return len(self._waiting) + self._under_way

    def open(self) -> None:
        """Get ready to send again what could not be sent."""
        self._alarm = self._engine.make_alarm(self._send)

    def add(self, held: Held, now: float) -> None:
        """Settle a lease, as of now: as `held.settle` says, or done with its value."""
        waiting, under_way = self._waiting, self._under_way
        held.settled_at = now
        waiting.append(held)
        if held.settle is not None or held.value is not None:
            self._all_plain = False
        if not self._is_called and not self._backoff and under_way < self._step:
            # What else ends in this turn of the loop goes with it: a batch of one costs as much as of fifty.
            self._is_called = True
            self._engine.loop.call_soon_threadsafe(self._called)
        oldest = self._oldest if under_way else waiting[0].settled_at
        if len(waiting) + under_way >= MOST or now - oldest > self._patience:
            self._engine.hold(True, by="queue")

    def _called(self) -> None:
        """Begin to send, at the end of a turn of the loop in which something ended."""
        self._is_called = False
        if self._backoff:
            return
        if self._call is not None and self._under_way < self._step and self._desk.withdraw(self._call):
            # It waits behind a claim, and may as well take along what has ended since.
            self._take_back(self._batch)
            self._under_way, self._call, self._batch = 0, None, []
        self._send()

    def _send(self) -> None:
        """Send the next batch."""
        waiting = self._waiting
        if self._under_way or not waiting:
            return
        batch = self._next_batch()
        self._under_way, self._batch = len(batch), batch
        self._oldest = batch[0].settled_at
        settles = [
            held.settle or Settle(id=held.stored.id, token=held.stored.token, kind="done", value=held.value)
            for held in batch
        ]
        self._call = self._desk.send(self._deed, settles, lambda call: self._heard(call, batch))

    def _next_batch(self) -> list[Held]:
        """Take out what goes in one batch."""
        waiting, step = self._waiting, self._step
        batch: list[Held] = []
        if self._all_plain and len(waiting) <= step:
            batch += waiting
            waiting.clear()
            return batch
        size = children = 0
        while waiting and len(batch) < step and size < MOST_BYTES:
            held = waiting[0]
            settle = held.settle
            if settle is not None and settle.children:
                children += len(settle.children)
                if batch and children > MOST:
                    break
                size += sum(len(new.body) for new in settle.children)
            value = held.value if settle is None else settle.value
            if value is not None:
                size += len(value)
            batch.append(waiting.popleft())
        self._all_plain = not waiting
        return batch

    def _take_back(self, batch: list[Held]) -> None:
        """Let a batch wait again, before all others."""
        self._waiting.extendleft(reversed(batch))
        self._all_plain = False

    def _heard(self, call: Call, batch: list[Held]) -> None:
        self._under_way, self._call, self._batch = 0, None, []
        if isinstance(call.error, StoreUnavailable | StoreFull) and not self.gave_up:
            self._take_back(batch)
            if not self._backoff:
                _log.warning("queue %s: outcomes cannot be stored, and are kept: %s", self._queue, call.error)
            self._backoff = min(max(self._backoff * 2.0, FIRST_BACKOFF), LONGEST_BACKOFF)
            self._alarm.set(self._engine.now() + self._backoff)
            return
        self._backoff = 0.0
        back = False
        ended: list[str] = []
        if call.error is not None:
            _log.error("queue %s: %d outcomes are lost: %r", self._queue, len(batch), call.error)
            if not self.gave_up:
                self._engine.cancel(call.error)
        else:
            tell = self._when_answered
            for held, settle, answer in zip(batch, call.asked, call.answers, strict=True):
                if tell is not None:
                    tell(held, answer)
                if (
                    answer.state == "done"
                    and held.settle is None
                    and held.stored.parent is None
                    and not answer.ended
                ):
                    # Nearly all: it has ended, and nothing else comes of that.
                    ended.append(held.stored.id)
                else:
                    back = self._heard_of(held, settle, answer, ended) or back
        self._holding.settled(batch)
        if self._waiting:
            self._send()
        if self.pending < MOST // 2:
            self._engine.hold(False, by="queue")
        self._when_settled(back, ended)
        self._answered.ring()

    def _heard_of(self, held: Held, settle: Settle, answer: Settled, ended: list[str]) -> bool:
        """Add to those that have ended; True if something goes to the queue with that."""
        if answer.state in ENDED or answer.state is None:
            ended.append(held.stored.id)
        ended += [each.id for each in answer.ended]
        if answer.status == "stale":
            _log.warning(
                "queue %s: the lease of job %s was lost, and its outcome is discarded",
                self._queue, held.stored.id,
            )  # fmt: skip
        # A job that ends may be what its parent waits for, to be called back.
        return (
            settle.kind in {"retry", "release", "again"}
            or bool(settle.children or settle.after)
            or (held.stored.parent is not None and answer.state in ENDED)
        )

    async def flush(self) -> None:
        """Wait until all are answered."""
        while self.pending:
            await self._answered.wait()


def error_text(error: BaseException) -> str:
    """Return a traceback as stores keep it: its end, if it is long."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as problem:  # noqa: BLE001 - the user's error may do anything
        text = f"{type(error).__name__}, whose text raised {type(problem).__name__}"
    return _kept(text)[-ERROR_CHARACTERS:]


def reason_text(error: BaseException) -> str:
    """Return in a line why a job is dead."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - the user's error may do anything
        text = type(error).__name__
    return _kept(text)[:NOTE_CHARACTERS]


def discarded_text(error: JobDiscardedError) -> str:
    """Return in a line why a handler gave its job up."""
    reason = cast("object", error.reason)  # whoever raises the error itself may have handed in anything
    if not isinstance(reason, str):
        return reason_text(error)
    return _kept(reason)[:NOTE_CHARACTERS] or "discarded"


def _kept(text: str) -> str:
    """Return a text without what UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()
