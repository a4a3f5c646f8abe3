"""Turn a Dispatcher in virtual time, without an event loop.

Time jumps from one thing that happens to the next. At one instant the order is: finishes by start
number, then jobs that fall due, then arrivals, then cancellations and other calls, then starts.
What starts with a latency of 0 finishes at the same instant, in a round of its own. Nothing here is
random but what the functions draw from the source that is handed in, so a run can be repeated exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from qanat._core.job import RUNNING
from qanat.errors import JobCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from qanat._core.dispatcher import Dispatcher
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._core.ports import Random

    Latency = Callable[[Job[Any], Random, int], float]
    """Seconds that an attempt takes, given how many jobs run, this one among them."""
    Failures = Callable[[Job[Any], Random], BaseException | None]
    """Why an attempt fails, asked at its end; None if it does not."""

StepKind = Literal["start", "finish", "end"]


class Step(NamedTuple):
    """What happened to a job.

    Attributes:
        at: The time.
        kind: "start": an attempt began. "finish": an attempt ended, and the job comes again.
            "end": the job ended for good, running or not.
        id: The job's id.
        attempt: The number of the attempt, from 1.
    """

    at: float
    kind: StepKind
    id: int | str
    attempt: int


@dataclass(slots=True)
class Drive:
    """What came of a drive.

    Attributes:
        now: When the last thing happened.
        trace: Every start, finish and end, in order; empty if it was not recorded.
        outcomes: The outcomes, in the order of the ends.
    """

    now: float = -math.inf
    trace: list[Step] = field(default_factory=list[Step])
    outcomes: list[Outcome[Any, Any]] = field(default_factory=list["Outcome[Any, Any]"])


def drive(
    dispatcher: Dispatcher,
    arrivals: Iterable[tuple[float, Job[Any]]],
    latency: Latency,
    *,
    rng: Random,
    failures: Failures | None = None,
    cancels: Iterable[tuple[float, Job[Any]]] = (),
    calls: Iterable[tuple[float, Callable[[float], object]]] = (),
    record: bool = True,
) -> Drive:
    """Run jobs until nothing more happens: all ended, or what waits can never start.

    Args:
        dispatcher: Who decides.
        arrivals: When each job is offered, in the order of the times; taken one by one.
        latency: How long each attempt takes, asked at its start. Infinity: it never ends.
        rng: The source of randomness handed to `latency` and `failures`.
        failures: Why an attempt fails.
        cancels: When which job is cancelled, in the order of the times.
        calls: What else is done at which time, such as `dispatcher.pause`, in the order of the times;
            called with the time.
        record: Whether to keep a trace.

    Raises:
        RuntimeError: If the dispatcher wants to be asked again at once, and then has nothing to say.
    """
    return _Driver(dispatcher, latency, failures, rng, record=record).run(
        _Agenda(arrivals), _Agenda(cancels), _Agenda(calls)
    )


class _Agenda:
    """Things that come in the order of their times."""

    __slots__ = ("_entries", "_next", "at")

    def __init__(self, entries: Iterable[tuple[float, Any]]) -> None:
        self._entries: Iterator[tuple[float, Any]] = iter(entries)
        self._next: Any = None
        self.at = -math.inf
        self._step()

    def _step(self) -> None:
        entry = next(self._entries, None)
        if entry is None:
            self.at = math.inf
        else:
            self.at, self._next = entry

    def until(self, now: float) -> Iterator[Any]:
        """Yield what has come by now."""
        while self.at <= now < math.inf:
            what = self._next
            self._step()
            yield what


class _Driver:
    """Turn one dispatcher."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        latency: Latency,
        failures: Failures | None,
        rng: Random,
        *,
        record: bool,
    ) -> None:
        self._dispatcher = dispatcher
        self._latency = latency
        self._failures = failures
        self._rng = rng
        self._started = 0
        # What runs, by the time of its finish, then by the number of its start.
        self._finishes: list[tuple[float, int, Job[Any]]] = []
        # Numbers of starts whose job was cancelled before its finish.
        self._gone: set[int] = set()
        self._result = Drive()
        self._trace = self._result.trace.append if record else None

    def run(self, arrivals: _Agenda, cancels: _Agenda, calls: _Agenda) -> Drive:
        """Jump from one time to the next until there is none."""
        dispatcher, finishes = self._dispatcher, self._finishes
        if dispatcher.now > -math.inf:
            # Jobs may wait already.
            self._result.now = dispatcher.now
            self._start(dispatcher.now)
        result = self._result
        while True:
            known = min(arrivals.at, cancels.at, calls.at)
            now = dispatcher.wake_at
            if known < now:
                now = known
            if finishes and finishes[0][0] < now:
                now = finishes[0][0]
            if now == math.inf:
                return result
            before = result.now
            if now < before:
                now = before
            else:
                result.now = now
            if finishes and finishes[0][0] <= now:
                self._finish(now)
            if known <= now:
                self._hear(now, arrivals, cancels, calls)
            if not self._start(now) and now == before and known > now and dispatcher.wake_at <= now:
                raise RuntimeError(f"nothing starts at {now!r}, and yet the dispatcher is to be asked then")

    def _hear(self, now: float, arrivals: _Agenda, cancels: _Agenda, calls: _Agenda) -> None:
        """Do what comes from outside by now."""
        if arrivals.at <= now:
            for job in arrivals.until(now):
                self._dispatcher.offer(job, now)
        if cancels.at <= now:
            for job in cancels.until(now):
                self._cancel(job, now)
        if calls.at <= now:
            for call in calls.until(now):
                call(now)

    def _finish(self, now: float) -> None:
        """End the attempts whose time has come."""
        finishes, gone = self._finishes, self._gone
        while finishes and finishes[0][0] <= now:
            _, number, job = heappop(finishes)
            if number in gone:
                gone.remove(number)
                continue
            if job.members:
                self._end_attempt(job, None, now, cancelled=False, value=self._answers(job))
                continue
            error = None if self._failures is None else self._failures(job, self._rng)
            self._end_attempt(job, error, now, cancelled=False)

    def _answers(self, batch: Job[Any]) -> list[BaseException | None]:
        """Return what the call of a batch gives for each member that still wants it."""
        failures = self._failures
        return [
            None if failures is None or member._status != RUNNING else failures(member, self._rng)
            for member in batch.members
        ]

    def _end_attempt(
        self, job: Job[Any], error: BaseException | None, now: float, *, cancelled: bool, value: Any = None
    ) -> None:
        attempt = job.attempt
        # Virtual wall time is the same as virtual time.
        outcome = self._dispatcher.finish(job, value, error, now, wall=now, cancelled=cancelled)
        if outcome is not None:
            self._result.outcomes.append(outcome)
        if self._trace is not None:
            self._trace(Step(now, "finish" if outcome is None else "end", job.id, attempt))
        if self._dispatcher.ended:
            self._tell_ended()

    def _cancel(self, job: Job[Any], now: float) -> None:
        """Cancel a job, waiting or running; one that has ended stays as it is."""
        if self._dispatcher.cancel(job, now):
            self._tell_ended()
            return
        for at, number, running in self._finishes:
            if running is job and number not in self._gone and at >= now:
                self._gone.add(number)
                error = JobCancelledError("the job was cancelled while it ran")
                self._end_attempt(job, error, now, cancelled=True)
                return

    def _start(self, now: float) -> bool:
        """Start all that may start now; False if there was none, and nothing ended unrun."""
        dispatcher, trace = self._dispatcher, self._trace
        moved = False
        while (job := dispatcher.next(now)) is not None:
            moved = True
            if dispatcher.ended:
                self._tell_ended()
            self._started += 1
            if trace is not None:
                trace(Step(now, "start", job.id, job.attempt))
            seconds = self._latency(job, self._rng, dispatcher.running)
            heappush(self._finishes, (now + seconds, self._started, job))
        if dispatcher.ended:
            moved = True
            self._tell_ended()
        return moved

    def _tell_ended(self) -> None:
        """Take what ended without running."""
        for job, outcome in self._dispatcher.ended:
            self._result.outcomes.append(outcome)
            if self._trace is not None:
                self._trace(Step(outcome.ended_at, "end", job.id, job.attempt))
        self._dispatcher.ended.clear()
