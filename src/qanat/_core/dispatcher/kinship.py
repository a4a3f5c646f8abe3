"""Trees of jobs in a dispatcher: ends that are held, and callbacks that take a slot and nothing else.

A callback that is due waits here and not in a lane: it starts before all that wait there, as soon as
there is a slot, whatever rate or lane holds the others up. What calls it is an `AfterJob`, which stands
for the job meanwhile; its job's end is put into `ended` when it is through.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from qanat._core.batch import BatchJob
from qanat._core.branch import AfterJob, FamilyJob
from qanat._core.dispatcher.account import make_outcome
from qanat._core.dispatcher.batching import finish_batch
from qanat._core.dispatcher.ending import (
    _count,
    give_back,
    unpark_if_not_full,
)
from qanat._core.dispatcher.parking import park_if_full
from qanat._core.job import CHILDREN, ENDED, RUNNING, SCHEDULED, WAITING, History
from qanat._core.limits import Adaptive, Concurrency
from qanat._core.verdict import judge
from qanat.errors import JobCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.branch import Branch
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.family import Family
    from qanat._core.job import Job
    from qanat._core.limit import Limit
    from qanat._core.outcome import Outcome, State

AGAIN_AFTER = 1.0
"""Seconds after which a callback that was throttled, and not told for how long, is called again."""


class Kinship:
    """The trees of jobs of one dispatcher.

    Attributes:
        book: What is known of the trees.
    """

    __slots__ = ("_dispatcher", "_listens", "_stand_in", "_waiting", "book")

    def __init__(self, dispatcher: Dispatcher, book: Family, stand_in: Callable[[Branch], AfterJob]) -> None:
        self._dispatcher = dispatcher
        self._stand_in = stand_in
        self._waiting: deque[AfterJob] = deque()
        # Those of the root's limits that count slots, once they are listened to.
        self._listens: tuple[Limit, ...] | None = None
        self.book = book

    # --- ends ------------------------------------------------------------------------------

    def end(
        self, job: Job[Any], outcome: Outcome[Any, Any], now: float, *, ran: bool
    ) -> Outcome[Any, Any] | None:
        """Count a job that has ended; None if its end is held until its children have ended."""
        final = self.book.end(job, outcome, now, ran=ran)
        if final is None:
            job._status = CHILDREN
        else:
            _count(self._dispatcher, job, final)
        if self.book.ready or self.book.due:
            self.settle(now)
        return final

    def visit(self, root: FamilyJob, now: float) -> bool:
        """Let a root with a key arrive; False if another is visited for it, with which it ends."""
        first = self.book.first(root)
        if first is root:
            return True
        root.offered_at = now
        self.book.join(root, first)
        self.settle(now)
        return False

    def recall(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        """Let a job end that a driver has counted, as it did not run in this dispatcher."""
        self.book.end(job, outcome, now, ran=False)
        self.settle(now)

    def settle(self, now: float) -> None:
        """Do what follows from an end: others end that were held, and callbacks are due."""
        dispatcher, book = self._dispatcher, self.book
        while book.ready or book.due:
            ready, book.ready = book.ready, []
            due, book.due = book.due, []
            for job, outcome in ready:
                job._status = ENDED
                _count(dispatcher, job, outcome)
                dispatcher.ended.append((job, outcome))
            for branch in due:
                after = branch.after = self._stand_in(branch)
                after._branch = branch
                after.offered_at = now
                self.queue(after)

    def held_since(self, job: Job[Any]) -> float:
        """Return since when a job's end is held."""
        branch = self.book.known(job)
        outcome = None if branch is None else branch.outcome
        return job.started_at if outcome is None else outcome.ended_at

    # --- callbacks -------------------------------------------------------------------------

    def queue(self, after: AfterJob) -> None:
        """Let a callback wait for a slot."""
        dispatcher = self._dispatcher
        after._status = WAITING
        if after._history is not None:
            after._history.entered_at = dispatcher.now
        # So that its end does not take the quick way.
        after._took = ()
        self._waiting.append(after)
        dispatcher.waiting += 1
        if dispatcher._lone is not None:
            dispatcher._take_lone = self._take_lone

    def ride(self) -> None:
        """Let the lone lane give out callbacks first, if some wait as it is entered."""
        if self._waiting:
            self._dispatcher._take_lone = self._take_lone

    def _take_lone(self) -> Job[Any]:
        """Take a callback in the place of the lone lane's next job."""
        dispatcher = self._dispatcher
        after = self._waiting.popleft()
        if not self._waiting:
            self._leave_lone()
        dispatcher._elsewhere += 1
        return after

    def _leave_lone(self) -> None:
        dispatcher = self._dispatcher
        lone = dispatcher._lone
        if lone is not None:
            has_unmarked = len(dispatcher._unmarked) > 0 and len(lone.order) > 0
            dispatcher._take_lone = dispatcher._take_unmarked if has_unmarked else lone.order.take

    @property
    def may_start(self) -> bool:
        """Whether a callback waits, and would not wait for a slot."""
        after = self._waiting[0] if self._waiting else None
        dispatcher = self._dispatcher
        if after is None or dispatcher.is_paused or dispatcher.running >= dispatcher.capacity:
            return False
        now = dispatcher.now
        return all(limit.ready_at(after, now) <= now for limit in self._slots())

    def next(self, now: float) -> Job[Any] | None:
        """Return a callback to call now, with a slot taken; None if none waits, or none can be called."""
        if not self._waiting or not self.may_start:
            return None
        dispatcher = self._dispatcher
        after = self._waiting.popleft()
        slots = self._slots()
        for limit in slots:
            limit.take(after, now)
        after._took = slots
        after._status = RUNNING
        after.started_at = now
        dispatcher.waiting -= 1
        dispatcher.running += 1
        if dispatcher.running >= dispatcher.capacity:
            park_if_full(dispatcher, now)
        return after

    def _slots(self) -> tuple[Limit, ...]:
        """Return those of the run's limits that count slots, as a callback holds one."""
        if self._listens is None:
            limits = self._dispatcher.tree.root.limits
            self._listens = tuple(each for each in limits if isinstance(each, (Concurrency, Adaptive)))
            for limit in self._listens:
                limit.listen(self)
        return self._listens

    def full(self) -> str | None:
        """Return in words which limit leaves no slot to the callback that is next; None if none does."""
        now = self._dispatcher.now
        return next(
            (str(limit) for limit in self._slots() if limit.ready_at(self._waiting[0], now) > now), None
        )

    def limit_changed(self) -> None:
        """Hear that there may be a slot again."""
        notify = self._dispatcher.gates._notify
        if self._waiting and notify is not None:
            notify()

    def finish(
        self, after: AfterJob, value: Any, error: BaseException | None, now: float, wall: float, *,
        cancelled: bool, holding: bool,
    ) -> None:  # fmt: skip
        """Hear how a callback ended: its job ends in `ended`, or it is called again."""
        dispatcher = self._dispatcher
        ran = now - after.started_at
        took, after._took = after._took, None
        if not holding:
            state: State = "cancelled" if cancelled else "done" if error is None else "dead"
            self._free(after, took, error, state, now)
        history = after._history
        if error is not None and not cancelled:
            task = after._task
            verdict = judge(
                after, error, retry=task.retry, budget=None, now=now, wall=wall, rng=dispatcher._rng
            )
            if verdict.kind != "dead" and self.book.stopping:
                # Nothing more starts: as a job that waits for a retry then, it is cancelled.
                cancelled = True
            elif verdict.kind != "dead":
                if history is None:
                    history = after._history = History(after.started_at)
                history.ran += ran
                delay = verdict.delay or 0.0
                if verdict.kind == "throttled":
                    history.throttles += 1
                    delay = AGAIN_AFTER if verdict.delay is None else verdict.delay
                else:
                    after.attempt += 1
                    dispatcher.retried += 1
                if delay:
                    dispatcher._schedule(after, now, delay, "retry")
                else:
                    self.queue(after)
                return
            error = verdict.error
        after._status = ENDED
        ran += 0.0 if history is None else history.ran
        self.book.conclude(after._branch, value, error, now, ran=ran, cancelled=cancelled)
        self.settle(now)

    def _free(
        self, after: AfterJob, took: tuple[Limit, ...] | None, error: BaseException | None, state: State,
        now: float,
    ) -> None:  # fmt: skip
        dispatcher = self._dispatcher
        dispatcher.running -= 1
        if dispatcher._lone is not None:
            dispatcher._elsewhere -= 1
        else:
            unpark_if_not_full(dispatcher, now)
        if took:
            started = after.started_at
            outcome = make_outcome(after, None, error, state, now, now - started, started, after.attempt)
            give_back(dispatcher, after, took, outcome, now)

    def hold(self, after: AfterJob, error: BaseException | None) -> AfterJob:
        """Return a stand-in that goes on holding a callback's slot."""
        held = AfterJob(after.id, None, after.index, after._task, started_at=after.started_at)
        held.attempt, held._took, held._status = after.attempt, after._took, RUNNING
        if error is not None:
            held._history = History(error=error)
        return held

    def release(self, held: AfterJob, error: BaseException | None, now: float) -> None:
        """Give back the slot that a stand-in held."""
        error = error if held._history is None else held._history.error
        took, held._took = held._took, None
        held._status = ENDED
        self._free(held, took, error, "done" if error is None else "dead", now)

    # --- cancelling ------------------------------------------------------------------------

    def cancel_held(self, job: Job[Any], now: float) -> bool:
        """Cancel a job whose end is held; its callback is called all the same, unless it is asked twice."""
        branch = self.book.known(job)
        if branch is None:
            return False
        if branch.after is not None and branch.is_cancelled:
            return self.cancel_after(branch.after, now)
        done = self.book.cancel_held(branch, now)
        self.settle(now)
        return done

    def callback_of(self, job: Job[Any]) -> AfterJob | None:
        """Return the call of a job's callback, if it is due."""
        branch = self.book.known(job)
        return None if branch is None else branch.after

    def cancel_after(self, after: AfterJob, now: float) -> bool:
        """Take a callback out that waits; False if it runs or has ended."""
        dispatcher = self._dispatcher
        if after._status == SCHEDULED:
            dispatcher._leave_schedule(after, now)
            dispatcher.timeline.spoil()
        elif after._status == WAITING:
            self._waiting.remove(after)
            dispatcher.waiting -= 1
            if not self._waiting:
                self._leave_lone()
        else:
            return False
        after._status = ENDED
        error = JobCancelledError("the job was cancelled before its after_children callback was called")
        history = after._history
        ran = 0.0 if history is None else history.ran
        self.book.conclude(after._branch, None, error, now, ran=ran, cancelled=True)
        self.settle(now)
        return True

    def stop(self) -> None:
        """Hear that nothing more starts but the callbacks of trees that are complete."""
        self.book.stopping = True

    def cancel_all(self, now: float) -> None:
        """Call no callback any more; those that run are the driver's to cancel."""
        self.book.stopping = self.book.cancelling = True
        while self._waiting:
            self.cancel_after(self._waiting[0], now)


def finish_other(
    dispatcher: Dispatcher, job: Job[Any], value: Any, error: BaseException | None, now: float,
    wall: float, *, cancelled: bool, holding: bool,
) -> tuple[bool, Outcome[Any, Any] | None]:  # fmt: skip
    """End an attempt of what is not a plain job, and return whether that is all, and its outcome."""
    if type(job) is BatchJob:
        finish_batch(dispatcher, job, value, error, now, wall, cancelled=cancelled, holding=holding)
        return True, None
    family = dispatcher.family
    if family is None:
        return False, None
    if type(job) is AfterJob:
        family.finish(job, value, error, now, wall, cancelled=cancelled, holding=holding)
        return True, None
    return False, None
