"""How an attempt ends: what it held goes back, and its job is done for good or comes again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher import ledger
from qanat._core.dispatcher.account import add_waits, entered_at, make_outcome, note_rest
from qanat._core.dispatcher.lone_lane import count_running, set_lone
from qanat._core.dispatcher.parking import after_leaving, head_changed, park_if_full
from qanat._core.dispatcher.valve import Valve
from qanat._core.events import JobEnded, JobRetried
from qanat._core.job import ENDED, NEW, RUNNING, WAITING, History, Job
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.node import Node
    from qanat._core.limit import Limit
    from qanat._core.outcome import Outcome, State
    from qanat._core.verdict import Verdict

MOST_LANES = 1000
"""Lanes whose waits are kept apart: there may be a million of them."""


def end(
    dispatcher: Dispatcher, job: Job[Any], value: Any, error: BaseException | None, now: float,
    *, cancelled: bool, holding: bool,
) -> Outcome[Any, Any] | None:  # fmt: skip
    """Settle a job's last attempt, and return the job's outcome; None if that is held."""
    state: State = "cancelled" if cancelled else "done" if error is None else "dead"
    started, history = job.started_at, job._history
    ran = now - started
    took, job._took = job._took, None
    is_only = history is None or (history.first_started_at == started and not history.ran)
    outcome: Outcome[Any, Any] | None = None
    if took or is_only:
        # The limits are told of the attempt.
        outcome = make_outcome(job, value, error, state, now, ran, started, job.attempt)
    if not holding:
        _free(dispatcher, job, took, outcome, now)
    job._status = ENDED
    if outcome is None or not is_only:
        assert history is not None  # noqa: S101 - or it were the only attempt
        ran += history.ran
        outcome = make_outcome(job, value, error, state, now, ran, history.first_started_at, job.attempt)
    told = _told(dispatcher, job, outcome, now)
    if dispatcher._lone is None:
        _fade(dispatcher, job, now)
    return told


def _told(
    dispatcher: Dispatcher, job: Job[Any], outcome: Outcome[Any, Any], now: float, *, ran: bool = True
) -> Outcome[Any, Any] | None:
    """Count a job that has ended; None if it is held until its children have."""
    family = dispatcher.family
    if family is not None:
        return family.end(job, outcome, now, ran=ran)
    _count(dispatcher, job, outcome)
    return outcome


def end_alone(dispatcher: Dispatcher, job: Job[Any], value: Any, now: float) -> Outcome[Any, Any] | None:
    """Return the outcome of a job of the lone lane that is done, and was tried or delayed before."""
    if dispatcher.family is not None:
        # It may have children, or be one: that is seen to on the long way, which counts by itself.
        dispatcher.running += 1
        dispatcher.done -= 1
        return end(dispatcher, job, value, None, now, cancelled=False, holding=False)
    history = job._history
    assert history is not None  # noqa: S101 - or it has none
    ran = history.ran + (now - job.started_at)
    outcome = make_outcome(job, value, None, "done", now, ran, history.first_started_at, job.attempt)
    _count_waits(dispatcher, outcome)
    return outcome


def come_again(dispatcher: Dispatcher, job: Job[Any], verdict: Verdict, now: float, holding: bool) -> None:
    """Settle an attempt that another one follows."""
    started, error = job.started_at, verdict.error
    ran = now - started
    took, job._took = job._took, None
    history = job._history
    if history is None:
        history = job._history = History(started)
    if dispatcher.family is not None:
        dispatcher.family.book.again(job)
    lone = dispatcher._lone
    at_once = verdict.kind == "again" and not verdict.delay and not holding
    if (
        at_once
        and not took
        and lone is not None
        and job._task.node is lone.parent
        and dispatcher.returns is None
    ):
        note_rest(job, history)
        history.ran += ran
        _again_alone(dispatcher, job, history, error, lone, now)
        return
    attempt: Outcome[Any, Any] | None = None
    if took:
        attempt = make_outcome(job, None, error, "dead", now, ran, started, job.attempt)
    if verdict.kind == "throttled":
        _close(dispatcher, job, verdict, now)
    if not holding:
        _free(dispatcher, job, took, attempt, now)
    note_rest(job, history)
    history.ran += ran
    _again(dispatcher, job, history, verdict, now)
    if dispatcher._lone is None:
        # Not before it came back, or its lane would be forgotten in between.
        _fade(dispatcher, job, now)


def _close(dispatcher: Dispatcher, job: Job[Any], verdict: Verdict, now: float) -> None:
    """Close what a throttled job means; the slot that it holds still counts there."""
    if dispatcher._lone is not None:
        count_running(dispatcher, dispatcher._lone)
    elif dispatcher._straight is not None:
        count_running(dispatcher, dispatcher._straight.lane)
    dispatcher._throttling.close(job, verdict, dispatcher.running, now)
    set_lone(dispatcher)


def _again_alone(
    dispatcher: Dispatcher, job: Job[Any], history: History, error: BaseException, lone: Node, now: float
) -> None:
    """Let a job of the lone lane come back at once: all that is left of the way in turns."""
    dispatcher.running -= 1
    dispatcher.retried += 1
    dispatcher.waiting += 1
    job.attempt += 1
    if job._task.retry.deadline is not None:
        history.error = error
    history.entered_at = now
    job._mark = None
    job._status = WAITING
    lone.order.put_back(job)


def _again(dispatcher: Dispatcher, job: Job[Any], history: History, verdict: Verdict, now: float) -> None:
    """Let a job come back: after a delay, or in a lane that is closed."""
    again_at = now
    if verdict.kind == "throttled":
        history.throttles += 1
        dispatcher._enter(job, now, first=False)
    else:
        job.attempt += 1
        dispatcher.retried += 1
        if job._task.retry.deadline is not None:
            history.error = verdict.error
        if dispatcher.returns is not None:
            job._status = NEW
            again_at = now + (verdict.delay or 0.0)
            dispatcher.returns(job, verdict)
        elif verdict.delay:
            again_at = dispatcher._schedule(job, now, verdict.delay, "retry")
        else:
            dispatcher._enter(job, now, first=False)
    if dispatcher._observe is not None:
        dispatcher._observe(JobRetried(now, job, verdict.error, again_at))


def hold(job: Job[Any], error: BaseException | None) -> Job[Any]:
    """Return a stand-in that goes on holding what a job took, and knows why its attempt is over."""
    held = Job(job.id, None, job.index, job._task, lane=job.lane, started_at=job.started_at, cost=job.cost)
    held.target = job.target
    if error is not None:
        held._history = History(error=error)
    held.attempt = job.attempt
    held._took = job._took
    held._status = RUNNING
    return held


def release(
    dispatcher: Dispatcher, held: Job[Any], value: Any, error: BaseException | None, now: float
) -> None:
    """Give back what a stand-in held; its attempt ended when it was over, and not well."""
    if held._history is not None:
        value, error = None, held._history.error
    state: State = "done" if error is None else "dead"
    ran = now - held.started_at
    outcome = make_outcome(held, value, error, state, now, ran, held.started_at, held.attempt)
    took, held._took = held._took, None
    held._status = ENDED
    _free(dispatcher, held, took, outcome, now)
    if dispatcher._lone is None:
        _fade(dispatcher, held, now)


def _free(
    dispatcher: Dispatcher,
    job: Job[Any],
    took: tuple[Limit, ...] | None,
    outcome: Outcome[Any, Any] | None,
    now: float,
) -> None:
    """Give back the slot and the limits, and let others on; the outcome is there if limits were taken."""
    dispatcher.running -= 1
    task: Node = job._task.node
    lone = dispatcher._lone
    if lone is None:
        task.running -= 1
        task.lanes[job.lane].running -= 1
        if dispatcher._straight is not None and task is not dispatcher._straight.task:
            dispatcher._elsewhere -= 1
        unpark_if_not_full(dispatcher, now)
    elif task is not lone.parent:
        dispatcher._elsewhere -= 1
    if took and outcome is not None:
        give_back(dispatcher, job, took, outcome, now)


def unpark_if_not_full(dispatcher: Dispatcher, now: float) -> None:
    """Let jobs be asked for again if there is a slot, and it was a slot that they waited for."""
    root = dispatcher.tree.root
    if root.cause == "concurrency" and root.gate is None and dispatcher.running < dispatcher.capacity:
        dispatcher.gates.unpark(root, now)


def fade(dispatcher: Dispatcher, job: Job[Any], now: float) -> None:
    """See to the lane of a job that left it, where there is more than one."""
    if dispatcher._lone is None:
        _fade(dispatcher, job, now)


def _fade(dispatcher: Dispatcher, job: Job[Any], now: float) -> None:
    """See to the lane of a job that ended: it may be empty."""
    task: Node = job._task.node
    lane = task.lanes.get(job.lane)
    if lane is not None and not lane.running and not len(lane.order) and dispatcher.tree.may_fade(lane):
        dispatcher.tree.fade(lane, task, now)


def give_back(
    dispatcher: Dispatcher, job: Job[Any], took: tuple[Limit, ...], outcome: Outcome[Any, Any], now: float
) -> None:
    """Give each limit back what was taken of it."""
    for limit in took:
        try:
            limit.give_back(job, outcome, now)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            # The job's outcome stands; the driver reports what is broken.
            dispatcher._on_fault(blamed_on_job(error), "give_back")
        if isinstance(limit, Valve) and limit.is_open:
            dispatcher._throttling.open(job, limit, now)
            set_lone(dispatcher)


def _count(dispatcher: Dispatcher, job: Job[Any], outcome: Outcome[Any, Any]) -> None:
    """Count a job that ended for good, and what it waited for."""
    if dispatcher.kinds is not None:
        dispatcher.kinds.note(job._task.node, outcome.state)
    if outcome.state == "done":
        dispatcher.done += 1
    elif outcome.state == "dead":
        dispatcher.failed += 1
    else:
        dispatcher.cancelled += 1
    _count_waits(dispatcher, outcome)
    if dispatcher._observe is not None:
        dispatcher._observe(JobEnded(outcome.ended_at, outcome))


def _count_waits(dispatcher: Dispatcher, outcome: Outcome[Any, Any]) -> None:
    """Add what an ended job waited for to the sums."""
    lost, waits = dispatcher._lost, outcome.lost
    if isinstance(waits, str):
        waited = outcome.ended_at - outcome.offered_at - outcome.ran
        if waited > 0.0:
            lost[waits] = lost.get(waits, 0.0) + waited
    else:
        for cause, seconds in waits.items():
            lost[cause] = lost.get(cause, 0.0) + seconds


# --- ending without running ----------------------------------------------------------------


def withdraw(dispatcher: Dispatcher, job: Job[Any], lane: Node, now: float) -> None:
    """Take a waiting job out of its lane, wherever in it it stands."""
    task = lane.parent
    assert task is not None  # noqa: S101 - a lane has a task
    is_lone = dispatcher._lone is not None
    note_waits(dispatcher, job, lane, now)
    was_head = not is_lone and lane.order.head() is job
    lane.order.discard(job)
    dispatcher.waiting -= 1
    job._status = NEW
    if not was_head:
        return
    if len(lane.order):
        head_changed(dispatcher, lane, task, now)
        return
    # An empty lane waits for nothing, and neither does a task in which none can be asked.
    gates, root = dispatcher.gates, dispatcher.tree.root
    had_turn = task.turns.current() is lane
    task_had_turn = had_turn and root.turns.current() is task
    gates.withdraw(lane, now)
    after_leaving(dispatcher, lane, task, now)
    for node, had in ((task, had_turn), (root, task_had_turn)):
        if not len(node.turns):
            gates.withdraw(node, now)
        elif had:
            gates.ask_again(node, now)
    park_if_full(dispatcher, now)


def note_waits(dispatcher: Dispatcher, job: Job[Any], lane: Node, now: float) -> None:
    """Keep what a job waited for in its lane."""
    mark = job._mark
    if mark is None:
        mark = dispatcher._unmarked.mark_of(job)
    if mark is not None:
        here = ledger.mark(lane, now)
        if here is not mark or here.cause is not None:
            since = entered_at(job)
            waits = ledger.waited_between(mark, since, here, now)
            if waits:
                add_waits(job, waits)
            if here.own or here.is_own or mark.own or mark.is_own:
                own = ledger.own_between(mark, since, here, now)
                if own:
                    _note_lane(dispatcher, lane, own)
    if dispatcher._lone is not None:
        # What is not noted then is time without a slot.
        job._mark = None


def _note_lane(dispatcher: Dispatcher, lane: Node, own: dict[str, float]) -> None:
    """Keep what a job waited for its own lane's limits, by the lane."""
    kept = dispatcher.lane_waits
    key = lane.key if lane.key in kept or len(kept) < MOST_LANES else None
    waits = kept.setdefault(key, {})
    for cause, seconds in own.items():
        waits[cause] = waits.get(cause, 0.0) + seconds


def end_unrun(dispatcher: Dispatcher, job: Job[Any], error: BaseException, state: State, now: float) -> None:
    """End a job that does not run (again)."""
    job._status = ENDED
    history = job._history
    ran, first = (0.0, None) if history is None else (history.ran, history.first_started_at)
    # The attempt that was waited for never began.
    attempts = 0 if first is None else job.attempt - 1
    outcome = make_outcome(job, None, error, state, now, ran, first, attempts)
    told = _told(dispatcher, job, outcome, now, ran=False)
    if told is not None:
        dispatcher.ended.append((job, told))
