"""How a batch ends: each of its members for itself, with its own answer, attempts and retries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.batch import answers_in, can_be_split, halves
from qanat._core.dispatcher import ledger
from qanat._core.dispatcher.account import make_outcome, note_rest
from qanat._core.dispatcher.ending import _close, _fade, _free, come_again, end, end_unrun, withdraw
from qanat._core.dispatcher.gathering import Gathering
from qanat._core.dispatcher.parking import head_changed, park_if_full
from qanat._core.events import JobRetried
from qanat._core.job import ENDED, RUNNING, WAITING, History
from qanat._core.verdict import Verdict, judge
from qanat.errors import JobCancelledError, Throttled

if TYPE_CHECKING:
    from qanat._core.batch import Answer, BatchJob
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.node import Node
    from qanat._core.job import Job
    from qanat._core.outcome import State


def refuse_batch(
    dispatcher: Dispatcher, batch: BatchJob, lane: Node, problem: BaseException, now: float, *,
    for_good: bool,
) -> None:  # fmt: skip
    """End the members of a batch that a limit raised for; what it refuses for good is tried in halves."""
    gathering: Gathering = lane.order  # type: ignore[assignment]  # where batches come from
    if for_good and gathering.narrow(batch):
        return
    for member in gathering.members():
        withdraw(dispatcher, member, lane, now)
        end_unrun(dispatcher, member, problem, "dead", now)
    gathering.widen()


def finish_batch(
    dispatcher: Dispatcher, batch: BatchJob, value: Any, error: BaseException | None, now: float,
    wall: float, *, cancelled: bool, holding: bool,
) -> None:  # fmt: skip
    """Settle the call of a batch: its members are in `ended` afterwards, or wait again."""
    splits = error is not None and not cancelled and _splits(batch, error)
    answers: list[Answer] = []
    if error is None:
        try:
            answers = answers_in(value, len(batch.members))
        except Exception as problem:  # noqa: BLE001 - what the handler returned may do anything
            error = problem
    if error is not None:
        answers = [(None, error)] * len(batch.members)
    # The others were cancelled meanwhile.
    left = [pair for pair in zip(batch.members, answers, strict=True) if pair[0]._status == RUNNING]
    verdicts = [
        None if problem is None or splits or cancelled else _judge(dispatcher, member, problem, now, wall)
        for member, (_, problem) in left
    ]
    _close_once(dispatcher, batch, verdicts, now)
    took, batch._took = batch._took or (), None
    batch._status = ENDED
    if not holding:
        if error is None:
            error = _error_of([problem for _, (_, problem) in left])
        state: State = "cancelled" if cancelled else "done" if error is None else "dead"
        ran = now - batch.started_at
        outcome = make_outcome(batch, value, error, state, now, ran, batch.started_at, batch.attempt)
        _free(dispatcher, batch, took, outcome, now)
    lane: Node = batch._task.node.lanes[batch.lane]
    # It must not be forgotten while some of its jobs are still to come back.
    lane.running += 1
    if splits and error is not None:
        _split(dispatcher, lane, [member for member, _ in left], error, now)
    else:
        _settle(dispatcher, left, verdicts, now, cancelled=cancelled)
    lane.running -= 1
    _fade(dispatcher, batch, now)


def _gathering_of(batch: BatchJob) -> Gathering:
    gathering: Gathering = batch._task.node.lanes[batch.lane].order
    return gathering


def _splits(batch: BatchJob, error: BaseException) -> bool:
    """Whether the call is to be made again with each half."""
    if _gathering_of(batch).batch.on_error != "split" or not can_be_split(error):
        return False
    if len(batch.members) > 1:
        return True
    # It is the one that fails: from now on it is called alone, and spoils no other batch.
    member = batch._members[0]
    if member._history is None:
        member._history = History(first_started_at=member.started_at)
    member._history.alone = True
    return False


def _judge(
    dispatcher: Dispatcher, member: Job[Any], error: BaseException, now: float, wall: float
) -> Verdict:
    task = member._task
    verdict = judge(
        member, error, retry=task.retry, budget=task.node.budget, now=now, wall=wall, rng=dispatcher._rng
    )
    return dispatcher._throttling.checked(verdict, member)


def _close_once(dispatcher: Dispatcher, batch: BatchJob, verdicts: list[Verdict | None], now: float) -> None:
    """Close what throttled members mean, once for all of them and for the longest time that one names."""
    longest: dict[str | None, Verdict] = {}
    for place, verdict in enumerate(verdicts):
        if verdict is not None and verdict.kind == "throttled":
            known = longest.get(verdict.limit)
            if known is None or (verdict.delay or 0.0) > (known.delay or 0.0):
                longest[verdict.limit] = verdict
            # What is closed already stays so.
            verdicts[place] = Verdict("throttled", verdict.error, 0.0, verdict.limit)
    for verdict in longest.values():
        _close(dispatcher, batch, verdict, now)


def _error_of(errors: list[BaseException | None]) -> BaseException | None:
    """Return what the limits are told of a call: that it was throttled, or that all of it failed."""
    for error in errors:
        if isinstance(error, Throttled):
            return error
    return errors[0] if errors and None not in errors else None


def _settle(
    dispatcher: Dispatcher, left: list[tuple[Job[Any], Answer]], verdicts: list[Verdict | None], now: float,
    *, cancelled: bool,
) -> None:  # fmt: skip
    """Settle each member; the slot and the limits are the batch's."""
    ended: list[tuple[Job[Any], Any, BaseException | None]] = []
    # Backwards, so that an order that serves the latest first has them as they were.
    for (member, (value, error)), verdict in reversed(list(zip(left, verdicts, strict=True))):
        if verdict is None or verdict.kind == "dead":
            ended.append((member, value, error if verdict is None else verdict.error))
        else:
            come_again(dispatcher, member, verdict, now, holding=True)
    for member, value, error in reversed(ended):
        _end(dispatcher, member, value, error, now, cancelled=cancelled)


def _end(
    dispatcher: Dispatcher, member: Job[Any], value: Any, error: BaseException | None, now: float,
    *, cancelled: bool,
) -> None:  # fmt: skip
    outcome = end(dispatcher, member, value, error, now, cancelled=cancelled, holding=True)
    if outcome is not None:
        dispatcher.ended.append((member, outcome))


def _split(
    dispatcher: Dispatcher, lane: Node, members: list[Job[Any]], error: BaseException, now: float
) -> None:
    """Let each half wait for a call of its own; it is still the same attempt."""
    for member in members:
        history = member._history
        if history is None:
            history = member._history = History(first_started_at=member.started_at)
        note_rest(member, history)
        history.ran += now - member.started_at
        history.entered_at = now
        member._status = WAITING
        member._mark = ledger.mark(lane, now)
        if dispatcher._observe is not None:
            dispatcher._observe(JobRetried(now, member, error, now))
    dispatcher.waiting += len(members)
    if members:
        gathering: Gathering = lane.order  # type: ignore[assignment]  # where batches come from
        gathering.add_groups([half for half in halves(members) if half])
        lane.activate()
        assert lane.parent is not None  # noqa: S101 - a lane has a task
        head_changed(dispatcher, lane, lane.parent, now)
        park_if_full(dispatcher, now)


def cancel_running(dispatcher: Dispatcher, job: Job[Any], now: float) -> bool:
    """End a member of a running batch, whose call goes on for the others; False if it is none.

    Given a batch that has ended, take out those of its members that came back.
    """
    if job.members:
        taken = [member for member in job.members if dispatcher.cancel(member, now)]
        return bool(taken)
    if job._status != RUNNING or type(job._task.node.lanes[job.lane].order) is not Gathering:
        return False
    error = JobCancelledError("the job was cancelled while it ran")
    _end(dispatcher, job, None, error, now, cancelled=True)
    return True
