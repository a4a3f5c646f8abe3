"""What runs at this moment, each job in a place that it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from qanat._core.job import description_of

if TYPE_CHECKING:
    from qanat._core.job import Job
    from qanat._engine.engine import Engine


class Row(msgspec.Struct, frozen=True):
    """A job that runs.

    Attributes:
        id: The job's id.
        kind: The name of its task.
        attempt: The number of its attempt.
        item: Its item; of a batch the list.
        started_at: When the attempt began, on the engine's timeline.
        doing: What the handler says it does.
        members: How many jobs are in it, if it is a batch; else 0.
        target: Where it was sent, if something chose among targets.
        lane: Its lane.
        is_late: Whether its attempt is over, and its handler goes on in a thread all the same.
    """

    id: int | str
    kind: str
    attempt: int
    item: Any
    started_at: float
    doing: str | None = None
    members: int = 0
    target: Any = None
    lane: Any = None
    is_late: bool = False


class Crowd(msgspec.Struct, frozen=True):
    """All that runs.

    Attributes:
        rows: As many as were asked for, each in its place; None is a place that is free now.
        others: How many jobs and batches run that have no place.
        oldest_at: When the attempt began that has run longest, of all; None if nothing runs.
        oldest_id: The job of that.
        jobs: How many jobs run, those of batches one by one.
        by_kind: The same by the name of the task.
        by_target: How many calls run by target.
    """

    rows: tuple[Row | None, ...] = ()
    others: int = 0
    oldest_at: float | None = None
    oldest_id: int | str | None = None
    jobs: int = 0
    by_kind: dict[str, int] = {}
    by_target: dict[Any, int] = {}


class Places:
    """Give what runs a place, which it keeps: whoever watches a line sees one worker in it.

    A worker goes on in its place with the next job. One that has none for a while gives its place up, to the
    next that begins to work.
    """

    def __init__(self) -> None:
        """Begin with no places."""
        self._seats: list[Any] = []

    def crowd(self, engine: Engine, room: int) -> Crowd:
        """Return what runs, so many rows of it; to be called in the engine's thread."""
        busy: dict[Any, tuple[Job[Any], bool]] = {}
        for carrier in engine.carriers:
            job = carrier.look()
            if job is not None:
                busy[carrier] = (job, False)
        for job in engine.outside.left_behind:
            busy[job] = (job, True)
        self._seat(busy, room)
        oldest: Job[Any] | None = None
        jobs = 0
        by_kind: dict[str, int] = {}
        by_target: dict[Any, int] = {}
        for job, is_late in busy.values():
            if oldest is None or job.started_at < oldest.started_at:
                oldest = job
            if not is_late:
                number = len(job.members) or 1
                jobs += number
                name = job._task.name
                by_kind[name] = by_kind.get(name, 0) + number
            if job.target is not None:
                by_target[job.target] = by_target.get(job.target, 0) + 1
        rows = tuple(None if seat is None else _row(*busy[seat]) for seat in self._seats)
        return Crowd(
            rows, len(busy) - sum(row is not None for row in rows),
            None if oldest is None else oldest.started_at, None if oldest is None else oldest.id,
            jobs, by_kind, by_target,
        )  # fmt: skip

    def _seat(self, busy: dict[Any, tuple[Job[Any], bool]], room: int) -> None:
        seats = self._seats
        del seats[room:]
        for place, seat in enumerate(seats):
            if seat is not None and seat not in busy:
                seats[place] = None
        free = [place for place, seat in enumerate(seats) if seat is None]
        free += range(len(seats), room)
        if not free:
            return
        seated = {seat for seat in seats if seat is not None}
        newcomers = [worker for worker in busy if worker not in seated]
        newcomers.sort(key=lambda worker: (busy[worker][0].started_at, busy[worker][0].index))
        for place, worker in zip(free, newcomers, strict=False):
            if place < len(seats):
                seats[place] = worker
            else:
                seats.append(worker)


def _row(job: Job[Any], is_late: bool) -> Row:
    return Row(
        job.id, job._task.name, job.attempt, job.item, job.started_at, description_of(job),
        len(job.members), job.target, job.lane, is_late,
    )  # fmt: skip
