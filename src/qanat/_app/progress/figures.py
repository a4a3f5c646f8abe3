"""The figures of a run at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from qanat._app.progress.shapes import ErrorGroup, ErrorTally
from qanat._app.progress.workers import Crowd, Places
from qanat._app.why import Held, held_of
from qanat._core.dispatcher.kinds import kinds_of
from qanat._core.limits import Adaptive, Balance, CircuitBreaker
from qanat._core.reason import Reason

if TYPE_CHECKING:
    from qanat._core.dispatcher import Dispatcher
    from qanat._core.dispatcher.node import Node
    from qanat._engine.engine import Engine

__all__ = ["MOST_LANES", "ErrorGroup", "ErrorTally", "Figures", "Kind", "Lane", "Target", "figures_of"]

MOST_LANES = 8
"""Lanes, and targets, that are few enough to be shown one by one."""
MOST_COUNTED = 1000
"""Lanes and scheduled jobs that are looked at one by one to tell kinds apart."""


class Kind(msgspec.Struct, frozen=True):
    """The jobs of one task.

    Attributes:
        name: The handler's name.
        done, failed, cancelled: How many ended so.
        running: How many run.
        waiting: How many are known and do not run.
    """

    name: str
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    running: int = 0
    waiting: int = 0

    @property
    def known(self) -> int:
        """How many were found so far."""
        return self.done + self.failed + self.cancelled + self.running + self.waiting


class Lane(msgspec.Struct, frozen=True):
    """A lane: how many of it run and wait, and what it waits for, if it does for something of its own."""

    name: str
    running: int
    waiting: int
    cause: str | None = None


class Target(msgspec.Struct, frozen=True):
    """A target of a `Balance`: how many calls it has in hand, and the state of its circuit breaker."""

    name: str
    running: int
    state: str | None = None


class Figures(msgspec.Struct, frozen=True):
    """A run at one moment.

    Attributes:
        at: The moment, on the engine's timeline.
        seconds: Since the run began.
        total: How many jobs there will be; None if nobody knows.
        done, failed, cancelled: How many ended so.
        retried: How many attempts were followed by another.
        running: How many run.
        waiting: How many are known and neither run nor wait for a time of their own.
        scheduled: How many wait for a time of their own: most for a retry.
        reason: Why nothing more starts; None if nothing waits.
        waits: Seconds waited by cause, all jobs together.
        errors: The failures by type and shape of message, the most frequent first.
        other_errors: How many failures were of further ones.
        stopping: Whether it was told to stop, so that what is left will not be done.
        untimed: How many of the ended have no part in `waits`.
        left_behind: The jobs whose handler goes on in a thread although their attempt is over.
        at_once: How many may run at once now, if that adapts by itself; else None.
        held: What may hold up jobs, by name; None is not known.
        found: How many jobs are known so far; None: `total` says it.
        kinds: The jobs by task, if there was more than one.
        lanes: The lanes, if they are few.
        targets: The targets, if they are few.
        crowd: What runs.
        stood: Seconds in which nothing ran and nothing could start, by cause: "paused", "throttled",
            "breaker".
        recalled: How many of the done were taken from a journal.
    """

    at: float
    seconds: float
    total: int | None
    done: int
    failed: int
    cancelled: int
    retried: int
    running: int
    waiting: int
    scheduled: int
    reason: Reason | None
    waits: Mapping[str, float]
    errors: tuple[ErrorGroup, ...] = ()
    other_errors: int = 0
    stopping: bool = False
    untimed: int = 0
    left_behind: tuple[int | str, ...] = ()
    at_once: int | None = None
    held: Held | None = None
    found: int | None = None
    kinds: tuple[Kind, ...] = ()
    lanes: tuple[Lane, ...] = ()
    targets: tuple[Target, ...] = ()
    crowd: Crowd = msgspec.field(default_factory=Crowd)
    stood: Mapping[str, float] = {}
    recalled: int = 0

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return self.done + self.failed + self.cancelled

    @property
    def finished(self) -> int:
        """How many jobs have ended by themselves."""
        return self.done + self.failed

    @property
    def left(self) -> int | None:
        """How many are still to end; None if nobody knows."""
        return None if self.total is None else max(0, self.total - self.ended)


def figures_of(
    engine: Engine, begun: float, total: int | None, tally: ErrorTally, places: Places | None = None,
    room: int = 0, *, whole: bool = True,
) -> Figures:  # fmt: skip
    """Take the figures of an engine; to be called in its loop's thread.

    Args:
        engine: The engine.
        begun: When the run began.
        total: How many items there are; None if nobody knows.
        tally: The failures.
        places: Who has which place among the rows; None shows no rows.
        room: How many rows there are.
        whole: Whether also to take what only a summary says.
    """
    dispatcher = engine.dispatcher
    now = engine.now()
    ended = dispatcher.done + dispatcher.failed + dispatcher.cancelled
    waiting = dispatcher.waiting
    crowd = (places or Places()).crowd(engine, room)
    # A call that goes on in a thread holds a slot, but its job has ended or comes again.
    running = max(dispatcher.running - len(engine.outside.left_behind), crowd.jobs)
    known = ended + running + waiting + dispatcher.scheduled
    found = None
    if total is not None:
        # What handlers hand in comes on top of the items, of which some are still to be read.
        source: Any = engine.source
        unread = 0 if source is None else max(0, total - getattr(source, "count", known))
        total = max(total, known + unread)
    elif dispatcher.closed and not whole:
        total = known
    else:
        found = known
    if total is not None and not dispatcher.closed:
        # Items that nobody has read yet wait, too.
        waiting = max(waiting, total - ended - running - dispatcher.scheduled)
    reason = dispatcher.why()
    if waiting > dispatcher.waiting == 0 and dispatcher.running >= dispatcher.capacity:
        # Items that are read when a slot is free wait for that.
        reason = Reason("concurrency", f"{dispatcher.capacity:g}", None, now, None)
    return Figures(
        at=now, seconds=now - begun, total=total,
        done=dispatcher.done, failed=dispatcher.failed, cancelled=dispatcher.cancelled,
        retried=dispatcher.retried, running=dispatcher.running, waiting=waiting,
        scheduled=dispatcher.scheduled, reason=reason, waits=dispatcher.waits if whole else {},
        errors=tally.groups(), other_errors=tally.others,
        stopping=engine.stopped, left_behind=tuple(job.id for job in engine.outside.left_behind),
        at_once=_adapted(engine), held=held_of(dispatcher) if whole else None, found=found,
        kinds=_kinds(dispatcher, crowd, waiting - dispatcher.waiting), lanes=_lanes(dispatcher),
        targets=_targets(dispatcher, crowd), crowd=crowd,
        recalled=0 if engine.keeper is None else engine.keeper.recalled,
    )  # fmt: skip


def _adapted(engine: Engine) -> int | None:
    """Return how many all jobs together may run at once, if that is found out while they run."""
    found = [limit.current for limit in engine.dispatcher.tree.root.limits if isinstance(limit, Adaptive)]
    return min(found, default=None)


def _kinds(dispatcher: Dispatcher, crowd: Crowd, unread: int) -> tuple[Kind, ...]:
    """Return the jobs by task; empty if there was no second one."""
    ends = kinds_of(dispatcher)
    if len(ends) < 2:
        return ()
    waiting = _waiting_by_kind(dispatcher)
    if dispatcher.tree.tasks:
        main = str(dispatcher.tree.tasks[0].key)
        waiting[main] = waiting.get(main, 0) + unread
    return tuple(
        Kind(name, each.done, each.dead, each.cancelled, crowd.by_kind.get(name, 0), waiting.get(name, 0))
        for name, each in ends.items()
    )


def _waiting_by_kind(dispatcher: Dispatcher) -> dict[str, int]:
    """Return how many jobs of each task wait; what is too many to be counted is put down to the largest."""
    counts: dict[str, int] = {}
    left = dispatcher.waiting + dispatcher.scheduled
    tasks = sorted(dispatcher.tree.tasks, key=lambda task: len(task.lanes))
    for task in tasks[:-1] if tasks and len(tasks[-1].lanes) > MOST_COUNTED else tasks:
        if len(task.lanes) <= MOST_COUNTED:
            number = sum(len(lane.order) for lane in task.lanes.values())
            counts[str(task.key)] = counts.get(str(task.key), 0) + number
            left -= number
    if 0 < dispatcher.scheduled <= MOST_COUNTED:
        for job in dispatcher.timeline.jobs():
            name = str(job._task.node.key)
            counts[name] = counts.get(name, 0) + 1
            left -= 1
    if left > 0 and tasks:
        name = str(tasks[-1].key)
        counts[name] = counts.get(name, 0) + left
    return counts


def _lanes(dispatcher: Dispatcher) -> tuple[Lane, ...]:
    """Return the lanes of all tasks; empty if there are none, or many."""
    nodes: list[Node] = []
    for task in dispatcher.tree.tasks:
        if task.uses_lanes:
            if len(task.lanes) > MOST_LANES + 1:
                return ()
            nodes += task.lanes.values()
    named = [node for node in nodes if node.key is not None]
    if len(named) > MOST_LANES:
        return ()
    return tuple(Lane(str(node.key), node.running, len(node.order), node.cause) for node in named)


def _targets(dispatcher: Dispatcher, crowd: Crowd) -> tuple[Target, ...]:
    """Return the targets that jobs are sent to; empty if there are none, or many."""
    for limit in dispatcher.tree.root.limits:
        if isinstance(limit, Balance):
            found = list(limit._targets.values())
            if len(found) > MOST_LANES:
                return ()
            return tuple(
                Target(
                    str(target.key),
                    crowd.by_target.get(target.key, 0),
                    next((each.state for each in target.limits if isinstance(each, CircuitBreaker)), None),
                )
                for target in found
            )
    return ()
