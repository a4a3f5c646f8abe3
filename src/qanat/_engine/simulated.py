"""As much of an engine as the rules and the intake need, on virtual time and without an event loop.

It reads the source, asks the dispatcher and settles attempts when the real engine would, so that
both come to the same decisions. At one instant: finishes by the number of their start, then what
falls due, then starts; items are read when a slot is free and nothing waits, as carriers do it.

Nothing is kept for a job but a few numbers: two entries of the log for each attempt, and how long
it waited and ran. A million jobs take some tens of megabytes.
"""

from __future__ import annotations

import math
import random
from array import array
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher import Dispatcher
from qanat._core.events import RunEnded, RunStarted
from qanat._engine.simulation_log import AGAIN, ATTEMPTS, END, UNRUN, Log
from qanat._engine.smooth import SmoothRun
from qanat.errors import JobCancelledError, JobTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qanat._core.events import Event
    from qanat._core.job import Job
    from qanat._core.limit import Limit
    from qanat._core.outcome import Outcome
    from qanat._core.ports import Random
    from qanat._engine.comings import Comings
    from qanat._engine.intake import Intake

    Latency = Callable[[Any, Random, int], float]
    """Seconds that an attempt takes, given its item, a source of randomness and how many run."""
    Failures = Callable[[Any, Random, int], BaseException | None]
    """Why an attempt fails, given its item, a source of randomness and its number; None: it does not."""


def _always(seconds: float) -> Latency:
    """Return a function that always gives the same."""

    def same(_item: Any, _rng: Random, _running: int) -> float:
        return seconds

    return same


class SimulatedEngine:
    """Run the jobs of one intake on virtual time, which begins at 0.

    Attributes:
        dispatcher: Who decides.
        outside: None: nothing runs outside.
        failure: What stopped the run, if something did.
        log: What happened when.
        waited: Seconds that each job waited, in the order of the ends.
        ran: Seconds that each job ran, all its attempts together.
        busy: Seconds that all attempts ran.
        most_running: How many ran at once at most.
        errors: How many jobs failed with each type of error.
        ended_at: When the last job ended.
        is_full: With batches, whether no more items can be read before some that wait are started.
    """

    outside: Any = None

    def __init__(
        self,
        *,
        seed: int,
        capacity: float,
        limits: Iterable[Limit],
        observe: Callable[[Event], None] | None = None,
        on_failure: Callable[[], object] | None = None,
        make_dispatcher: Callable[..., Dispatcher] = Dispatcher,
    ) -> None:
        """Make an engine; `run` does the work."""
        self.dispatcher = make_dispatcher(
            rng=random.Random(seed), capacity=capacity, limits=limits, observe=observe,
            on_fault=self._report_fault,
        )  # fmt: skip
        self._finish, self._ended = self.dispatcher.finish, self.dispatcher.ended
        self.failure: BaseException | None = None
        self.log = Log()
        self.waited: array[float] = array("d")
        self.ran: array[float] = array("d")
        self._add_at, self._add_code = self.log.at.append, self.log.codes.append
        self._add_waited, self._add_ran = self.waited.append, self.ran.append
        self.busy = 0.0
        self.most_running = 0
        self.errors: dict[str, int] = {}
        self.ended_at = 0.0
        self._rng = random.Random(f"latencies and failures, seed {seed}")
        self._observe = observe
        self._on_failure = on_failure
        self._now = 0.0
        # What runs, by the time of its finish, then by the number of its start; and whether time is up then.
        self._finishes: list[tuple[float, int, Job[Any], bool]] = []
        self._source_ended = False
        self._comings: Comings | None = None
        self.is_full: Callable[[], bool] | None = None
        self._fault: BaseException | None = None

    # --- what the intake and the rules ask of an engine --------------------------------------

    def now(self) -> float:
        """Return the virtual time."""
        return self._now

    def source_ended(self) -> None:
        """Hear that the source has no more items."""
        self._source_ended = True
        if self._comings is None or self._comings.next_at == math.inf:
            self.dispatcher.close(self._now)

    def cancel(self, failure: BaseException | None = None) -> None:
        """End what waits and what runs, at once."""
        if self.failure is None:
            self.failure = failure
        self._source_ended = True
        dispatcher, now = self.dispatcher, self._now
        dispatcher.close(now)
        dispatcher.drop_all(now)
        finishes, self._finishes = sorted(self._finishes), []
        for _, _, job, _ in finishes:
            error = JobCancelledError("the job was cancelled while it ran")
            self._settle(job, error, now, cancelled=True)
        self._tell_ended()

    def _report_fault(self, fault: BaseException, _where: str) -> None:
        if self._fault is None:
            self._fault = fault

    # --- the run -----------------------------------------------------------------------------

    def run(
        self,
        intake: Intake,
        latency: Latency | float,
        failures: Failures | None,
        *,
        read_whole: bool,
        comings: Comings | None = None,
    ) -> None:
        """Run all jobs of an intake.

        Args:
            intake: Where the jobs come from.
            latency: How long each attempt takes; a function is asked at its start.
            failures: Why an attempt fails, asked at its end; None: none does.
            read_whole: Whether to read the source to its end before the first start.
            comings: Items that come by themselves, besides those of the intake's source.

        Raises:
            BaseException: What the source, `latency`, `failures` or a limit's `give_back` raised.
        """
        if self._observe is not None:
            self._observe(RunStarted(self._now, "simulation"))
        self._comings = comings
        while read_whole and not self._source_ended:
            if intake.read_chunk():
                intake.ended()
        dispatcher = self.dispatcher
        asked, seconds = (latency, None) if callable(latency) else (_always(latency), latency)
        if self._is_smooth(intake, failures):
            SmoothRun(self, intake, asked, seconds).run()
        else:
            self._turn(intake, asked, failures, comings)
        dispatcher.detach()
        if self._observe is not None:
            self._observe(RunEnded(self._now, dispatcher.counts, dispatcher.waits))
        problem: BaseException | None = self._fault if intake.error is None else intake.error
        if problem is None and not isinstance(self.failure, Exception):
            # An interrupt while the source was read is nobody's result.
            problem = self.failure
        if problem is not None:
            raise problem

    def _is_smooth(self, intake: Intake, failures: Failures | None) -> bool:
        """Whether each attempt ends well, as far as is known, and nobody looks at how."""
        return (
            failures is None
            and self._on_failure is None
            and self._comings is None
            and intake.task.timeout is None
            and not intake.tops_up
            and self.dispatcher.goes_together()
        )

    def _turn(
        self,
        intake: Intake,
        latency: Latency,
        failures: Failures | None,
        comings: Comings | None,
    ) -> None:
        """Jump from one time to the next until there is none."""
        dispatcher = self.dispatcher
        rng, settle, end_well = self._rng, self._settle, self._end_well
        batches = dispatcher.batches is not None
        comes_at = math.inf if comings is None else comings.next_at
        self._start(intake, latency)
        while True:
            # What ended unrun may have stopped the run.
            finishes = self._finishes
            now = min(dispatcher.wake_at, comes_at)
            if finishes and finishes[0][0] <= now:
                now = finishes[0][0]
            if now == math.inf:
                return
            before = self._now
            if now < before:
                now = before
            self._now = now
            while finishes and finishes[0][0] <= now:
                _, _, job, timed_out = heappop(finishes)
                value: list[BaseException | None] | None = None
                error: BaseException | None = None
                if timed_out:
                    error = JobTimeoutError(job._task.timeout or 0.0)
                elif batches and job.members:
                    # Each item of a batch has an answer of its own: none, or why it fails.
                    value = [failures and failures(each.item, rng, each.attempt) for each in job.members]
                elif failures is not None:
                    error = failures(job.item, rng, job.attempt)
                if error is None and value is None and comings is None:
                    end_well(job, now)
                else:
                    settle(job, error, now, value)
                finishes = self._finishes
            if comings is not None:
                comes_at = self._hear(comings, intake, now)
            if not self._start(intake, latency) and now == before and dispatcher.wake_at <= now:
                raise RuntimeError(f"nothing starts at {now!r}, and yet the dispatcher is to be asked then")

    def _hear(self, comings: Comings, intake: Intake, now: float) -> float:
        """Offer what comes by itself now, and return when more does."""
        if self.failure is not None:
            return math.inf
        comings.come(intake, now)
        if comings.next_at == math.inf and self._source_ended and not self.dispatcher.closed:
            self.dispatcher.close(now)
        return comings.next_at

    def _start(self, intake: Intake, latency: Latency) -> bool:
        """Start all that may start now; False if there was none, and nothing ended unrun."""
        dispatcher, finishes, rng, now = self.dispatcher, self._finishes, self._rng, self._now
        add_at, add_code = self._add_at, self._add_code
        next_job, ended, tops_up = dispatcher.next, dispatcher.ended, intake.tops_up
        number = len(self.log)
        moved = False
        while dispatcher.running < dispatcher.capacity:
            job = next_job(now)
            if ended:
                moved = True
                self._tell_ended()
                finishes = self._finishes
            if job is None:
                if not self._source_ended and self._pull(intake):
                    continue
                # As a carrier does that finds no more to read.
                if self.is_full is None or not self.is_full() or not dispatcher.squeeze(now):
                    break
                continue
            moved = True
            if tops_up and not self._source_ended:
                self._pull(intake)
                finishes = self._finishes
            number += 1
            add_at(now)
            attempt = job.attempt
            add_code((job.index * ATTEMPTS + (attempt if attempt < ATTEMPTS else ATTEMPTS - 1)) * 4)
            if self.failure is not None:
                # It was given out just as the run stopped.
                error = JobCancelledError("the job was cancelled before it ended")
                self._settle(job, error, now, cancelled=True)
                continue
            running = dispatcher.running
            if running > self.most_running:
                self.most_running = running
            seconds = latency(job.item, rng, running)
            timeout = job._task.timeout
            if timeout is not None and seconds > timeout:
                heappush(finishes, (now + timeout, number, job, True))
            else:
                heappush(finishes, (now + seconds, number, job, False))
        return moved

    def _pull(self, intake: Intake) -> bool:
        """Read from the source as a carrier with a free slot does; False if nothing came of it."""
        if intake.draws and self.dispatcher.is_plain:
            if self.dispatcher.waiting:
                return False
            # One item, that starts at once.
            if intake.read_chunk(1):
                intake.ended()
            came = True
        else:
            came = intake.pull()
        if self.dispatcher.ended:
            self._tell_ended()
        return came

    # --- ends --------------------------------------------------------------------------------

    def _end_well(self, job: Job[Any], now: float) -> None:
        """End a job that is done: `_settle` and `_count` in one, a twentieth of a simulated job less."""
        attempt = job.attempt
        code = (job.index * ATTEMPTS + (attempt if attempt < ATTEMPTS else ATTEMPTS - 1)) * 4 + END
        self.busy += now - job.started_at
        outcome = self._finish(job, None, None, now)
        assert outcome is not None  # noqa: S101 - without an error it does not come again
        self._add_at(now)
        self._add_code(code)
        ran = outcome.ran
        waited = now - outcome.offered_at - ran
        self._add_waited(max(0.0, waited))
        self._add_ran(ran)
        if now > self.ended_at:
            self.ended_at = now
        if self._ended:
            self._tell_ended()

    def _settle(
        self, job: Job[Any], error: BaseException | None, now: float, value: Any = None, *,
        cancelled: bool = False,
    ) -> None:  # fmt: skip
        """End an attempt."""
        attempt = job.attempt
        if attempt >= ATTEMPTS:
            attempt = ATTEMPTS - 1
        code = (job.index * ATTEMPTS + attempt) * 4
        self.busy += now - job.started_at
        # Virtual wall time is the same as virtual time.
        outcome = self._finish(job, value, error, now, now, cancelled)
        self._add_at(now)
        if outcome is None:
            self._add_code(code + AGAIN)
        else:
            self._add_code(code + END)
            self._count(outcome)
        if self._ended:
            self._tell_ended()

    def _count(self, outcome: Outcome[Any, Any]) -> None:
        """Count a job that ended for good."""
        if self._comings is not None:
            self._comings.ended(outcome.index, outcome.ended_at)
        ran, ended_at = outcome.ran, outcome.ended_at
        waited = ended_at - outcome.offered_at - ran
        self._add_waited(max(0.0, waited))
        self._add_ran(ran)
        if ended_at > self.ended_at:
            self.ended_at = ended_at
        if outcome.state == "dead":
            name = type(outcome.error).__name__
            self.errors[name] = self.errors.get(name, 0) + 1
            if self._on_failure is not None:
                self._on_failure()

    def _tell_ended(self) -> None:
        """Take what ended without running."""
        ended = self.dispatcher.ended
        while ended:
            told = ended[:]
            ended.clear()
            for job, outcome in told:
                self.log.add(outcome.ended_at, UNRUN, job.index, job.attempt)
                self._count(outcome)
