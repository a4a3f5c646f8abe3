"""Why a stored job does not run: what its record and its queue say, in sentences.

A store knows what the queue is set to and who holds what. It does not know the limits of workers
(rates, throttled lanes), which live in their processes; the last sentence for a ready job says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from qanat._core.store.finding import number_of, span_in_words
from qanat._core.store.rules import beyond
from qanat._core.store.values import Conf, Counts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qanat._core.store.values import StoredJob


class Around(Struct, frozen=True, kw_only=True):
    """What is known around a job.

    Attributes:
        now: The time on the store's clock.
        conf: What the queue is set to.
        counts: How many jobs the queue has.
        before: Ready jobs of the same lane that come before it.
        all_seen: Whether these are all, or only those among the first that were looked at.
        children: Ids of some of its children that have not ended.
    """

    now: float
    conf: Conf
    counts: Counts
    before: int = 0
    all_seen: bool = True
    children: tuple[str, ...] = ()


def explained(job: StoredJob, around: Around) -> list[str]:
    """Return why a job does not run now, or that it does, the first reason first."""
    looks = {"scheduled": _scheduled, "ready": _ready, "leased": _leased, "waiting": _waiting, "dead": _dead}
    return [*looks.get(job.state, _ended)(job, around)]


def _in(at: float, now: float) -> str:
    return f"in {span_in_words(at - now)}" if at >= now else f"{span_in_words(now - at)} ago"


def _scheduled(job: StoredJob, around: Around) -> Iterator[str]:
    due = "" if job.due_at is None else f", {_in(job.due_at, around.now)}"
    if job.due_at is not None and job.due_at < around.now:
        yield f"it fell due {_in(job.due_at, around.now)}, and the next claim of a worker makes it ready"
    elif job.attempt:
        yield f"attempt {job.attempt} ended and it is tried again later{due}{_last_line(job)}"
    else:
        yield f"it was put with a delay and falls due later{due}"
    if around.counts.paused:
        yield "its queue is paused, so it would not be leased then either: qanat resume"


def _ready(job: StoredJob, around: Around) -> Iterator[str]:
    counts = around.counts
    if counts.paused:
        yield "its queue is paused, so no job of it is leased: qanat resume"
    bound = beyond(
        around.conf, attempt=job.attempt, crashes=job.crashes, age=around.now - job.born_at
    )  # fmt: skip
    if bound:
        why = _bound(bound, job, around.conf)
        yield f"it is beyond a bound of its queue and will be dead instead of leased: {why}"
    if job.crashes:
        yield (
            f"it has lost its worker {number_of(job.crashes, 'time')} in a row, so a worker takes it only "
            f"while it holds no other such job; after {around.conf.max_crashes} times it is dead"
        )
    elif around.before or not around.all_seen:
        least = "" if around.all_seen else "at least "
        verb = "comes" if around.before == 1 else "come"
        yield f"{least}{number_of(around.before, 'ready job')} of its lane {job.lane!r} {verb} before it"
    elif not bound:
        yield f"it is the next one of its lane {job.lane!r}"
    if job.attempt:
        yield f"it was leased {number_of(job.attempt, 'time')} before{_last_line(job)}"
    if job.handler:
        yield f"only workers that know the handler {job.handler!r} run it"
    if job.phase:
        yield f"its handler has succeeded: what is to be run is its callback {job.after!r}"
    if not counts.leased:
        yield "no job of its queue is leased now, so perhaps no worker runs: qanat worker"
    else:
        yield (
            f"of its queue {number_of(counts.leased, 'job is', 'jobs are')} leased now; workers may hold "
            "back by limits of their own, which are told where they run"
        )


def _leased(job: StoredJob, around: Around) -> Iterator[str]:
    time = "" if job.started_at is None else f" for {span_in_words(around.now - job.started_at)}"
    yield f"it is leased by {job.worker!r}{time}, attempt {job.attempt}"
    if job.note:
        yield f"its worker says: {job.note}"
    if job.due_at is not None and job.due_at < around.now:
        yield (
            f"its lease expired {_in(job.due_at, around.now)}, and any worker takes it back: "
            "perhaps none runs"
        )
    elif job.due_at is not None:
        yield f"its lease expires {_in(job.due_at, around.now)} unless its worker extends it"
    if job.cancel:
        yield "it is asked to cancel, and its worker has not said yet that it has"


def _waiting(job: StoredJob, around: Around) -> Iterator[str]:
    more = ", ..." if len(around.children) < job.open_children else ""
    named = f": {', '.join(map(repr, around.children))}{more}" if around.children else ""
    children = number_of(job.open_children, "child", "children")
    yield f"it has succeeded and waits for {children} not yet ended{named}"
    if job.failed_children:
        yield f"{job.failed_children} of its children are dead, and fail it unless a callback decides"
    if job.after:
        yield f"then its callback {job.after!r} is called"


def _dead(job: StoredJob, around: Around) -> Iterator[str]:
    yield f"it was given up {_ago(job, around)}: {_bound(job.reason, job, around.conf)}"
    if job.error:
        yield f"its last error{_last_line(job)}"
    yield "to run it once more: qanat retry"


def _ended(job: StoredJob, around: Around) -> Iterator[str]:
    word = "it is done" if job.state == "done" else "it was cancelled"
    reason = f": {job.reason}" if job.reason not in {"", job.state} else ""
    yield f"{word}, {_ago(job, around)}{reason}"


def _ago(job: StoredJob, around: Around) -> str:
    return "some time ago" if job.ended_at is None else f"{span_in_words(around.now - job.ended_at)} ago"


def _bound(reason: str, job: StoredJob, conf: Conf) -> str:
    if reason == "attempts":
        return f"it was leased {number_of(job.attempt, 'time')}, and its queue allows {conf.max_attempts}"
    if reason == "age" and conf.max_age is not None:
        return f"it is older than its queue allows, {span_in_words(conf.max_age)}"
    if reason == "crashes":
        lost = number_of(job.crashes, "time")
        return f"it lost its worker {lost} in a row, and {conf.max_crashes} are too many"
    if reason == "children":
        return f"{job.failed_children or 'some'} of its children are dead"
    return reason or "its worker gave no reason"


def _last_line(job: StoredJob) -> str:
    lines = [line.strip() for line in job.error.splitlines() if line.strip()]
    return f": {lines[-1][:300]}" if lines else ""
