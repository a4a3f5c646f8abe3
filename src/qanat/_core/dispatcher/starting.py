"""Whose turn it is, whether its limits agree, and what it takes to start."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from qanat._core.batch import BatchJob, make_batch
from qanat._core.dispatcher.account import make_outcome
from qanat._core.dispatcher.batching import refuse_batch
from qanat._core.dispatcher.ending import end_unrun, give_back, note_waits, withdraw
from qanat._core.dispatcher.gathering import Gathering
from qanat._core.dispatcher.parking import after_leaving, park_if_full, tell_parked
from qanat._core.events import JobStarted
from qanat._core.job import RUNNING
from qanat._core.limit import Refused
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.node import Node
    from qanat._core.job import Job
    from qanat._core.limit import Limit


def next_by_turns(dispatcher: Dispatcher, now: float) -> Job[Any] | None:
    """Return the first job in turn that may start, started; None if none can."""
    root, gates = dispatcher.tree.root, dispatcher.gates
    while True:
        if gates.changed:
            gates.open_changed(now)
        if root.cause is not None:
            return None
        task = root.turns.current()
        lane = None if task is None else task.turns.current()
        if task is None or lane is None:
            return None
        if dispatcher.running >= dispatcher.capacity and park_if_full(dispatcher, now):
            return None
        if type(lane.order) is Gathering:
            if (batch := _next_batch(dispatcher, lane.order, lane, task, now)) is not None:
                return batch
            continue
        job = lane.order.head()
        if job._history is not None and (error := _too_late_after(job, now)) is not None:
            withdraw(dispatcher, job, lane, now)
            end_unrun(dispatcher, job, error, "dead", now)
        elif _may_start(dispatcher, job, lane, task, now) and _take(dispatcher, job, lane, task, now):
            return job


def _next_batch(
    dispatcher: Dispatcher, gathering: Gathering, lane: Node, task: Node, now: float
) -> Job[Any] | None:
    """Return the batch of the lane whose turn it is, started; None if it may not start."""
    proposed = gathering.propose(now)
    if not _may_start(dispatcher, proposed, lane, task, now):
        gathering.dissolve()
        return None
    members: list[Job[Any]] = []
    for job in gathering.members():
        if (error := _too_late_after(job, now)) is None:
            members.append(job)
        else:
            withdraw(dispatcher, job, lane, now)
            end_unrun(dispatcher, job, error, "dead", now)
    if not members:
        return None
    batch = make_batch(members, gathering.next_number)
    return batch if _take(dispatcher, batch, lane, task, now) else None


def _refuse(dispatcher: Dispatcher, job: Job[Any], lane: Node, error: BaseException, now: float) -> None:
    """End a job that a limit raised for, or the members of a batch."""
    problem = error.error if isinstance(error, Refused) else blamed_on_job(error)
    if isinstance(job, BatchJob):
        refuse_batch(dispatcher, job, lane, problem, now, for_good=isinstance(error, Refused))
    else:
        withdraw(dispatcher, job, lane, now)
        end_unrun(dispatcher, job, problem, "dead", now)


def _too_late_after(job: Job[Any], now: float) -> BaseException | None:
    """Return why a job's last attempt failed if it is too late for another; None if it is not."""
    history = job._history
    if history is None or history.error is None or history.first_started_at is None:
        return None
    deadline = job._task.retry.deadline
    return history.error if deadline is not None and now - history.first_started_at > deadline else None


def _note_start(dispatcher: Dispatcher, job: Job[Any], lane: Node, now: float) -> None:
    """Keep what a job waited for until it started, and when it first did."""
    note_waits(dispatcher, job, lane, now)
    _note_first(job, now)


def _note_first(job: Job[Any], now: float) -> None:
    """Keep when a job first started, and forget why an attempt before failed."""
    history = job._history
    if history is not None:
        history.error = history.charged = None
        if history.first_started_at is None:
            history.first_started_at = now


def _may_start(dispatcher: Dispatcher, job: Job[Any], lane: Node, task: Node, now: float) -> bool:
    """Ask the limits on the path; park the node whose limit says no."""
    gates = dispatcher.gates
    known = gates._gates
    for node in (lane, task, dispatcher.tree.root):
        if not node.limits:
            continue
        worst: Limit | None = None
        limit, at = node.limits[0], now
        latest = now
        try:
            for limit in node.limits:
                # Most limits never refuse anybody, and then there is no gate at which to queue up.
                if id(limit) in known and gates.queues(limit, node):
                    # Whoever is before it there lets it try in turn.
                    latest, worst = math.inf, limit
                    break
                at = limit.ready_at(job, now)
                if not at <= latest:
                    if math.isnan(at):
                        raise ValueError(f"{limit}.ready_at must return a time, got {at!r}")
                    latest, worst = at, limit
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            if isinstance(error, TypeError) and not isinstance(cast("object", at), (int, float)):
                # What it gave cannot be compared; looked at only here, as asking is hot.
                error = TypeError(f"{limit}.ready_at must return a time, got {at!r}")
            _refuse(dispatcher, job, lane, error, now)
            return False
        if worst is not None:
            gates.park(node, worst, latest, now)
            tell_parked(dispatcher, node, lane.order.head(), now)
            return False
    return True


def fail_take(
    dispatcher: Dispatcher,
    job: Job[Any],
    lane: Node,
    taken: tuple[Limit, ...],
    error: BaseException,
    now: float,
) -> None:
    """End a job of which a limit failed to be taken, and give back those that were taken before it."""
    outcome = make_outcome(job, None, error, "dead", now, 0.0, None, 0)
    give_back(dispatcher, job, taken, outcome, now)
    # An interrupt goes on from here: nothing is taken, and the job still waits.
    _refuse(dispatcher, job, lane, error, now)


def _take(dispatcher: Dispatcher, job: Job[Any], lane: Node, task: Node, now: float) -> bool:
    """Take everything on the path; False if a limit failed, which ends the job."""
    tree = dispatcher.tree
    path = lane.path if lane.path_version == tree.version else tree.path(lane, task)
    for number, limit in enumerate(path):
        try:
            limit.take(job, now)
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            fail_take(dispatcher, job, lane, path[:number], error, now)
            return False
    job._took = lane.held
    job._status = RUNNING
    job.started_at = now
    lane.running += 1
    task.running += 1
    dispatcher.running += 1
    if type(lane.order) is Gathering:
        _start_members(dispatcher, job, lane.order, lane, task, now)
    else:
        lane.order.take()
        dispatcher.waiting -= 1
        _note_start(dispatcher, job, lane, now)
        if task.budget is not None:
            task.budget.started(now, job.attempt > 1)
    task.turns.spend(lane, job.cost)
    tree.root.turns.spend(task)
    after_leaving(dispatcher, lane, task, now)
    if dispatcher._observe is not None:
        for started in job.members or (job,):
            dispatcher._observe(JobStarted(now, started))
    if dispatcher.running >= dispatcher.capacity:
        park_if_full(dispatcher, now)
    return True


def _start_members(
    dispatcher: Dispatcher, batch: Job[Any], gathering: Gathering, lane: Node, task: Node, now: float
) -> None:
    """Let the members of a batch leave their lane."""
    gathering.start()
    dispatcher.waiting -= len(batch.members)
    for member in batch.members:
        member._status = RUNNING
        member.started_at = now
        member.target = batch.target
        _note_start(dispatcher, member, lane, now)
        if task.budget is not None:
            task.budget.started(now, member.attempt > 1)


def start_noted(dispatcher: Dispatcher, job: Job[Any] | None, lone: Node, now: float) -> Job[Any] | None:
    """Start a job of the lone lane that carries a history or a mark, or one after it."""
    if job is not None and job._history is not None and job._history.error is not None:
        job = _first_in_time(dispatcher, job, lone, now)
    if job is not None:
        dispatcher.running += 1
        job._status = RUNNING
        job.started_at = now
        # What the lone lane did not note, it has noted as it gave the job out.
        if job._mark is not None:
            note_waits(dispatcher, job, lone, now)
        _note_first(job, now)
    return job


def _first_in_time(dispatcher: Dispatcher, job: Job[Any] | None, lone: Node, now: float) -> Job[Any] | None:
    """Return a job, or the first after it that it is not too late for; end those before it."""
    while job is not None and (error := _too_late_after(job, now)) is not None:
        note_waits(dispatcher, job, lone, now)
        end_unrun(dispatcher, job, error, "dead", now)
        job = None
        if dispatcher.waiting:
            job = dispatcher._take_lone()
            dispatcher.waiting -= 1
    return job
