"""A Dispatcher that notes all that it is told, and what it answers.

It is a Dispatcher like any other, but for `is_plain`: drivers must not count jobs themselves, or
they would pass it by. What is noted is enough to decide everything once more: the answers of the
user's own functions (lanes' limits, `when`, a backoff) are noted where they were asked for.

An entry costs an integer, and a double if time has gone on; notes are for what is seldom.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from qanat._core.backoff import Backoff
from qanat._core.batch import BatchJob
from qanat._core.dispatcher.dispatcher import Dispatcher
from qanat._core.dispatcher.noting import (
    AGAIN,
    NotedChecks,
    Unreadable,
    UnreadableError,
    left_of,
    read_answers,
    results_of,
)
from qanat._core.flight import (
    CALL,
    DONE,
    FAIL,
    NEXT,
    NONE,
    OFFER,
    OFFER_ALL,
    OFFER_WITH,
    SAME_TIME,
    framed,
)  # fmt: skip
from qanat._core.job import SCHEDULED
from qanat._core.limit import Limit
from qanat._core.orders import ORDERS
from qanat._core.retry import Retry, _is_tenacity_wait, retry_after_of
from qanat._core.specs import noted_limit
from qanat.errors import Discard, RetryLater, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from qanat._core.job import Job, Task
    from qanat._core.limit import Signal
    from qanat._core.outcome import Outcome

_next, _finish = Dispatcher.next, Dispatcher.finish
_NEXT_SAME = NEXT | SAME_TIME
BLOCK = 4096
"""Entries that are written together."""
LAG = 0.25
"""Seconds that entries may stay unwritten while nothing can start."""


def plain_key(key: Hashable) -> Any:
    """Return a lane's key as it can be written: numbers and texts as they are, others as their repr."""
    if key is None or isinstance(key, (str, float)) or (isinstance(key, int) and abs(key) < 2**63):
        return key
    return repr(key)


class RecordingDispatcher(Dispatcher):
    """Decide like a Dispatcher, and hand blocks of what was decided to `write`."""

    __slots__ = (
        "_add_code", "_add_time", "_at",
        "_backoffs",
        "_codes",
        "_depth",
        "_flushed_at",
        "_holders",
        "_holds",
        "_known_ended",
        "_notes",
        "_numbers",
        "_tasks",
        "_times",
        "_whens",
        "_write",
    )  # fmt: skip

    def __init__(self, *, write: Callable[[bytes], object], **options: Any) -> None:
        """Begin with no task; the other options are the Dispatcher's."""
        self._write = write
        self._codes: array[int]
        self._times: array[float]
        self._notes: list[Any]
        self._add_code: Callable[[int], None]
        self._add_time: Callable[[float], None]
        self._at: float
        self._begin_block()
        self._flushed_at = -math.inf
        self._depth = 0
        # By node: its task, and the number of that.
        self._tasks: dict[int, tuple[int, Task]] = {}
        self._numbers = self._holds = 0
        self._holders: dict[int, int] = {}
        # Those that were noted as ended, and that the driver may not have taken yet.
        self._known_ended: frozenset[int] = frozenset()
        # What the user's functions said at the end of an attempt; None: that function raised.
        self._whens: list[bool] = []
        self._backoffs: list[float | None] = []
        if options.get("keeper") is not None:
            options["keeper"] = NotedChecks(options["keeper"], self._note, lambda: self.now)
        super().__init__(**options)

    @property
    def is_plain(self) -> bool:
        """Return False: nobody may count jobs without asking."""
        return False

    @is_plain.setter
    def is_plain(self, value: bool) -> None:
        """Let it be."""

    # --- writing -----------------------------------------------------------------------------

    def _add(self, kind: int, index: int, now: float) -> None:
        if now == self._at:
            self._codes.append(index << 4 | SAME_TIME | kind)
        else:
            self._at = now
            self._times.append(now)
            self._codes.append(index << 4 | kind)
        if len(self._codes) >= BLOCK:
            self.flush()

    def _begin_block(self) -> None:
        self._codes, self._times, self._notes = array("q"), array("d"), []
        self._add_code, self._add_time = self._codes.append, self._times.append
        self._at = math.nan

    def _note(self, now: float, *note: Any) -> None:
        self._notes.append(note)
        self._add(CALL, 0, now)

    def _call(self, now: float, *note: Any) -> None:
        """Note a call that was made, and what ended by it without running."""
        self._note(now, *note)
        if self.ended:
            self._note_ended(now)

    def flush(self) -> None:
        """Write what was noted since the last time."""
        if self._codes:
            block = (self._codes.tobytes(), self._times.tobytes(), self._notes)
            self._begin_block()
            self._write(framed(block))

    def _note_ended(self, now: float) -> None:
        fresh = self._newly_ended()
        if fresh:
            self._note(now, "ended", fresh)

    def _newly_ended(self) -> list[int]:
        found = [job.index for job, _ in self.ended]
        fresh = [index for index in found if index not in self._known_ended]
        self._known_ended = frozenset(found)
        return fresh

    # --- tasks -------------------------------------------------------------------------------

    def add_task(self, name: str, handler: Any, **options: Any) -> Task:
        """Add a task, its functions watched."""
        kept: dict[str, Any] = {}
        number = self._numbers
        self._numbers += 1
        for option, value in options.items():
            if option == "retry":
                kept[option], options[option] = self._watched(value)
            elif option == "make_order":
                names = (name for name, made in ORDERS.items() if made is value)
                kept[option] = next(names, {"opaque": "order"})
            elif option == "limits":
                specs = [noted_limit(limit, self.now) for limit in value]
                kept[option] = {"opaque": "limits"} if None in specs else specs
            elif option == "state":
                kept[option] = None
            elif option == "batch":
                kept[option] = None if value is None else asdict(value)
            elif callable(value):
                kept[option] = {"answers": option}
                options[option] = self._answering(number, option, value)
            else:
                kept[option] = value
        task = super().add_task(name, handler, **options)
        self._tasks[id(task.node)] = (number, task)
        self._note(self.now, "add_task", name, kept)
        return task

    def _answering(self, task: int, option: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a function of a lane's key whose answers are noted."""

        def answering(key: Any) -> Any:
            answer = function(key)
            noted: Any = answer
            if option == "lane_limits":
                found = (answer,) if isinstance(answer, Limit) else tuple(answer)
                answer, noted = found, [noted_limit(limit, self.now) for limit in found]
            self._note(self.now, "answer", task, option, plain_key(key), noted)
            return answer

        return answering

    def _watched(self, retry: Retry) -> tuple[dict[str, Any], Retry]:
        """Return a retry as it can be written, and one whose functions tell what they say."""
        when, backoff = retry.when, retry.backoff
        kept: dict[str, Any] = {
            "times": retry.times, "on": _names(retry.on), "never_on": _names(retry.never_on),
            "deadline": retry.deadline, "budget": retry.budget, "max_throttles": retry.max_throttles,
            "when": when is not None, "backoff": None,
        }  # fmt: skip
        changes: dict[str, Any] = {}
        if when is not None:
            changes["when"] = self._watched_when(when)
        if isinstance(backoff, Backoff):
            kept["backoff"] = [backoff.first, backoff.step, backoff.factor, backoff.cap, backoff.jitter]
        elif not _is_tenacity_wait(backoff):
            changes["backoff"] = self._watched_backoff(cast("Callable[[int], float]", backoff))
        return kept, replace(retry, **changes) if changes else retry

    def _watched_when(
        self, when: Callable[[BaseException, int], bool]
    ) -> Callable[[BaseException, int], bool]:
        def watched(error: BaseException, attempt: int) -> bool:
            # A task that varies another has that one's functions, which are watched already.
            said, answer = self._whens, False
            number = len(said)
            try:
                answer = bool(when(error, attempt))
            finally:
                said[number:] = [answer]
            return answer

        return watched

    def _watched_backoff(self, backoff: Callable[[int], float]) -> Callable[[int], float]:
        def watched(attempt: int) -> float:
            said, answer = self._backoffs, None
            number = len(said)
            try:
                answer = found = backoff(attempt)
            finally:
                said[number:] = [answer]
            return found

        return watched

    def _task_number(self, task: Task) -> int:
        """Return the number of a task; one that varies another, for a single job, is noted here."""
        number, known = self._tasks[id(task.node)]
        if known is not task:
            kept, task.retry = self._watched(task.retry)
            self._note(self.now, "vary_task", number, kept, task.timeout)
            number = self._numbers
            self._numbers += 1
        return number

    def drop_task(self, task: Task) -> None:
        """Forget a task; its number stays its own."""
        self._call(self.now, "drop_task", self._tasks.pop(id(task.node))[0])
        super().drop_task(task)

    # --- arriving ----------------------------------------------------------------------------

    def offer(self, job: Job[Any], now: float, *, delay: float = 0.0) -> None:
        """Let a job arrive."""
        if self._depth:
            super().offer(job, now)
            return
        number = self._task_number(job._task)
        plain = job.lane is None and job.deadline is None and not job.priority and job.cost == 1.0
        if number or delay or not plain:
            note = (number, plain_key(job.lane), job.priority, job.cost, job.deadline, delay)
            super().offer(job, now, delay=delay)
            self._notes.append(note)
            self._add(OFFER_WITH, job.index, now)
        else:
            super().offer(job, now)
            self._add(OFFER, job.index, now)
        if self.ended:
            self._note_ended(now)

    def offer_all(self, jobs: list[Job[Any]], now: float) -> None:
        """Let new jobs arrive, which follow one another and have neither a lane nor anything of their own."""
        first = jobs[0]
        if self._task_number(first._task):
            for job in jobs:
                self.offer(job, now)
            return
        self._depth += 1
        try:
            super().offer_all(jobs, now)
        finally:
            self._depth -= 1
        self._notes.append(len(jobs))
        self._add(OFFER_ALL, first.index, now)
        if self.ended:
            self._note_ended(now)

    def refuse(self, job: Job[Any], error: BaseException, now: float) -> None:
        """End a job that arrived, but cannot be offered."""
        super().refuse(job, error, now)
        self._call(now, "refuse", job.index, self._task_number(job._task))

    # --- starting and ending -------------------------------------------------------------------

    def next(self, now: float) -> Job[Any] | None:
        """Return a job to start now, or None."""
        job = _next(self, now)
        if job is None:
            self._add(NONE, 0, now)
            if self.ended:
                self._note_ended(now)
            if now - self._flushed_at > LAG:
                self._flushed_at = now
                self.flush()
            return None
        # As in `_add`, without the call; and a product is cheaper than a shift, which is not specialised.
        if now == self._at:
            self._add_code(job.index * 16 + _NEXT_SAME)
        else:
            self._at = now
            self._add_time(now)
            self._add_code(job.index * 16)
        if self.batches is not None and job.members:
            self._note(now, "batch", job.index, [member.index for member in job.members])
        if self.ended:
            self._note_ended(now)
        return job

    def finish(
        self,
        job: Job[Any],
        value: Any,
        error: BaseException | None,
        now: float,
        wall: float = 0.0,
        cancelled: bool = False,
        holding: bool = False,
    ) -> Outcome[Any, Any] | None:
        """Hear how an attempt ended."""
        if self.batches is not None and isinstance(job, BatchJob):
            self._finish_batch(job, value, error, now, wall, cancelled, holding)
            return None
        if error is None and not cancelled and not holding:
            outcome = _finish(self, job, value, None, now)
            self._at = now
            self._add_time(now)
            self._add_code(job.index * 16 + DONE)
            if len(self._codes) >= BLOCK:
                self.flush()
            return outcome
        self._whens, self._backoffs = [], []
        outcome = Dispatcher.finish(self, job, value, error, now, wall, cancelled, holding)
        due_at = job._history.due_at if job._status == SCHEDULED and job._history is not None else None
        result = AGAIN if outcome is None else outcome.state
        facts = None if error is None else _facts(error, wall)
        self._notes.append((facts, wall, cancelled, holding, self._whens, self._backoffs, result, due_at))
        self._add(FAIL, job.index, now)
        if self.ended:
            self._note_ended(now)
        return outcome

    def goes_together(self) -> bool:
        """Return False: each start and each end is noted."""
        return False

    def _finish_batch(
        self, batch: BatchJob, value: Any, error: BaseException | None, now: float, wall: float,
        cancelled: bool, holding: bool,
    ) -> None:  # fmt: skip
        """Hear how the call of a batch ended, and note what it means for each member."""
        self._whens, self._backoffs = [], []
        answers: list[dict[str, Any] | None] | None = None
        facts = None if error is None else _facts(error, wall)
        if error is None:
            try:
                value = read_answers(value, len(batch.members))
            except UnreadableError as no_answer:
                value = Unreadable(no_answer.problem)
                facts = _facts(no_answer.problem, wall)
            else:
                answers = [_facts(each, wall) if isinstance(each, BaseException) else None for each in value]
        ran = left_of(batch)
        Dispatcher.finish(self, batch, value, error, now, wall, cancelled, holding)
        self._call(
            now, "finish_batch", batch.index, answers, facts, error is None, wall, cancelled, holding,
            self._whens, self._backoffs, results_of(batch, ran, self.ended),
        )  # fmt: skip

    def hold(self, job: Job[Any], error: BaseException | None = None) -> Job[Any]:
        """Return a stand-in that goes on holding what a job took."""
        held = super().hold(job, error)
        self._holds += 1
        self._holders[id(held)] = number = self._holds
        self._call(self.now, "hold", job.index, number, None if error is None else _facts(error, 0.0))
        return held

    def release(self, held: Job[Any], value: Any, error: BaseException | None, now: float) -> None:
        """Give back what a stand-in held."""
        super().release(held, value, error, now)
        number = self._holders.pop(id(held))
        self._call(now, "release", number, None if error is None else _facts(error, 0.0))

    def charge(self, job: Job[Any], currency: str, amount: float, now: float) -> None:
        """Settle the cost of a job that runs, or of a stand-in for one."""
        super().charge(job, currency, amount, now)
        self._call(now, "charge", job.index, self._holders.get(id(job)), currency, amount)

    # --- everything else -----------------------------------------------------------------------

    def cancel(self, job: Job[Any], now: float) -> bool:
        """Take a waiting or scheduled job out."""
        done = super().cancel(job, now)
        # Of a batch each member was told by itself.
        if not self._depth and not job.members:
            self._call(now, "cancel", job.index, done)
        return done

    def prioritise(self, job: Job[Any], priority: float, now: float) -> bool:
        """Give a waiting or scheduled job another priority."""
        done = super().prioritise(job, priority, now)
        self._call(now, "prioritise", job.index, priority, done)
        return done

    def sense(self, signal: Signal, value: float, now: float) -> None:
        """Tell the limits that want to hear it how the machine is."""
        super().sense(signal, value, now)
        self._call(now, "sense", signal, value)

    def drop_all(self, now: float) -> None:
        """Cancel every job that waits or is scheduled."""
        self._depth += 1
        try:
            super().drop_all(now)
        finally:
            self._depth -= 1
        self._note(now, "drop_all", self._newly_ended())

    def close(self, now: float) -> None:
        """Say that no more jobs arrive."""
        super().close(now)
        self._call(now, "close")

    def hurry(self, now: float, *, wanted: bool = True) -> None:
        """Let batches start that are not full, while somebody wants it."""
        super().hurry(now, wanted=wanted)
        if self.batches is not None:
            self._call(now, "hurry", wanted)

    def squeeze(self, now: float) -> bool:
        """Let the batch that has waited longest start as it is."""
        done = super().squeeze(now)
        self._call(now, "squeeze", done)
        return done

    def pause(self, now: float) -> None:
        """Start nothing until `resume`."""
        super().pause(now)
        self._call(now, "pause")

    def resume(self, now: float) -> None:
        """Start jobs again."""
        super().resume(now)
        self._call(now, "resume")

    def resize(self, capacity: float, now: float) -> None:
        """Let more or fewer jobs run at once."""
        super().resize(capacity, now)
        self._call(now, "resize", None if capacity == math.inf else capacity)

    def detach(self) -> None:
        """Stop listening to limits, and write what is left."""
        super().detach()
        self._call(self.now, "end", [self.done, self.failed, self.cancelled, self.retried])
        self.flush()


def _names(classes: Any) -> list[str]:
    """Return the names of exception classes."""
    found = cast("tuple[type[BaseException], ...]", classes if isinstance(classes, tuple) else (classes,))
    return [_name(each) for each in found]


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _facts(error: BaseException, wall: float) -> dict[str, Any]:
    """Return what is to be known of an error to judge it once more; not its text, which may be secret."""
    if isinstance(error, Throttled):
        return {"kind": "throttled", "retry_after": _plain(error.retry_after), "limit": error.limit}
    if isinstance(error, RetryLater):
        return {"kind": "later", "delay": _plain(error.delay)}
    if isinstance(error, Discard):
        return {"kind": "discard"}
    names = [_name(each) for each in type(error).__mro__]
    return {"kind": "error", "names": names, "retry_after": retry_after_of(error, wall)}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str)) else repr(value)
