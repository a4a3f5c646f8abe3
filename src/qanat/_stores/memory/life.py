"""What becomes of single jobs in one queue: placed, leased, ended, counted by their parents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from qanat._core.store.rules import after_children, kept_for, priority_at, state_after
from qanat._core.store.states import ENDED
from qanat._core.store.values import Ended, Placed, StoredJob
from qanat._stores.memory.line import Line
from qanat._stores.memory.places import Places

if TYPE_CHECKING:
    from qanat._core.store.states import State
    from qanat._core.store.values import Lease, NewJob


class Life:
    """The steps that deeds are made of. The time is handed in."""

    def __init__(self) -> None:
        self.places = Places()
        self.put_total = 0
        self.known = Line()
        """Ids of ended jobs that stay known for a time, by when they are forgotten."""
        self._orders = 0
        self._tokens = 0

    def live(self, id: str, token: int) -> StoredJob | None:
        """Return the job that is leased under a token, or None."""
        record = self.places.records.get(id)
        return record if record is not None and record.state == "leased" and record.token == token else None

    def place(self, job: NewJob, parent: Lease | None, now: float) -> Placed:
        """Store a job, or tell what stands in its way."""
        places = self.places
        family = None
        if parent is not None:
            family = self.live(parent.id, parent.token)
            if family is None or family.cancel:
                return Placed(job.id, "parent", parent.id)
        until = self.known.keys.get(job.id)
        if job.id in places.records or (until is not None and until > now):
            return Placed(job.id, "id", job.id)
        if job.key is not None and places.conf.unique is not None and job.key in places.keys:
            return Placed(job.id, "key", places.keys[job.key])
        if family is not None:
            places.update(replace(family, open_children=family.open_children + 1))
        self.put_total += 1
        places.add(
            StoredJob(
                id=job.id,
                state=state_after(job.delay),
                body=job.body,
                handler=job.handler,
                lane=job.lane,
                priority=priority_at(places.conf, float(job.priority), now + job.delay),
                key=job.key,
                metadata=job.metadata,
                keep=job.keep,
                dedupe_for=job.dedupe_for,
                failure=job.failure,
                put_at=now,
                born_at=now + job.delay,
                due_at=now + job.delay if job.delay > 0 else None,
                parent=parent.id if parent is not None else None,
                parent_family=family.family if family is not None else 0,
                order=self.next_order(),
            )
        )
        return Placed(job.id)

    def next_order(self) -> int:
        """Return the order number of a job that comes in last."""
        self._orders += 1
        return -self._orders if self.places.conf.order == "lifo" else self._orders

    def lease(self, record: StoredJob, worker: str, lease: float, now: float) -> StoredJob:
        """Give a job to a worker, under a new token."""
        self._tokens += 1
        leased = replace(
            record,
            state="leased",
            attempt=record.attempt + 1,
            token=self._tokens,
            worker=worker,
            note="",
            started_at=now,
            due_at=now + lease,
            family=record.family or self._tokens,
        )
        self.places.move(leased)
        return leased

    def anew(self, record: StoredJob, born_at: float) -> StoredJob:
        """Return a job as it begins again, last in its order and without its children."""
        return replace(
            record,
            order=self.next_order(),
            priority=priority_at(self.places.conf, record.priority, born_at),
            born_at=born_at,
            after="",
            done_children=0,
            dead_children=0,
            cancelled_children=0,
            failed_children=0,
        )

    def end(self, new: StoredJob, now: float, ended: list[Ended], *, told: bool = False) -> None:
        """Let a job end, and then those whose last child it was; `told` if it is to be named itself."""
        ending: StoredJob | None = new
        while ending is not None:
            if told:
                ended.append(Ended(ending.id, ending.state, ending.reason))
            self._close(ending, now)
            ending = self.count_child(ending, ending.state, now)
            told = True

    def _close(self, new: StoredJob, now: float) -> None:
        """Keep the record of a job that has ended, for as long as it is wanted."""
        kept = kept_for(self.places.conf, new.state, new.keep)
        new = replace(new, ended_at=now, due_at=None if kept is None else now + kept)
        self.places.move(new)
        if kept == 0:
            self.places.take_out(new)
        if new.dedupe_for:
            self.known.push(new.id, now + new.dedupe_for)

    def count_child(self, child: StoredJob, state: State, now: float) -> StoredJob | None:
        """Tell a parent how its child ended; return the parent if it ends by that."""
        parent = self.places.records.get(child.parent) if child.parent is not None else None
        if parent is None or parent.family != child.parent_family:
            return None
        dead = state == "dead"
        parent = replace(
            parent,
            open_children=parent.open_children - 1,
            done_children=parent.done_children + (state == "done"),
            dead_children=parent.dead_children + dead,
            cancelled_children=parent.cancelled_children + (state == "cancelled"),
            failed_children=parent.failed_children + (dead and child.failure == "fail"),
        )
        self.places.update(parent)
        return self.go_on(parent, now)

    def go_on(self, parent: StoredJob, now: float) -> StoredJob | None:
        """Let a parent go on if it waits for nobody any more; return it if it ends by that."""
        if parent.state != "waiting" or parent.open_children:
            return None
        step = after_children(
            attempt=parent.attempt,
            phase=parent.phase,
            failed_children=parent.failed_children,
            after=bool(parent.after),
        )
        new = replace(
            parent,
            state=step.state,
            attempt=step.attempt,
            phase=step.phase,
            reason=step.reason,
        )
        if step.state in ENDED:
            return new
        self.places.move(self.called_back(new, now))
        return None

    def called_back(self, record: StoredJob, now: float) -> StoredJob:
        """Return a job as it begins a callback."""
        priority = priority_at(self.places.conf, record.priority, now)
        return replace(record, priority=priority, born_at=now, due_at=None, failed_children=0)
