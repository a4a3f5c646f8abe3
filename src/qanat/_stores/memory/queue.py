"""One queue of the reference store: every deed, as the ports tell it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from qanat._core.store.rules import (
    REMEMBERED_FOR,
    after_rescue,
    after_settle,
    as_settled,
    crashes_after,
    priority_at,
)
from qanat._core.store.states import ENDED
from qanat._core.store.values import Claim, Ended, Extended, Lease, Placed, Rescued, Settled
from qanat._stores.memory.claiming import Claiming, Wish
from qanat._stores.memory.life import Life

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._core.store.states import State
    from qanat._core.store.values import NewJob, Settle, Stamp


class Queue:
    """The jobs of one queue. The time is handed in, and whoever calls holds the lock."""

    def __init__(self) -> None:
        self.life = Life()
        self.conf_set = False
        self.paused = False
        self.removed = 0
        self._answers: dict[str, tuple[int, str, float, Sequence[Placed] | Sequence[Settled]]] = {}

    # Batches that are sent twice.

    def answered(self, stamp: Stamp, deed: str) -> Sequence[Placed] | Sequence[Settled] | None:
        """Return the answer that a batch got before, or None if it is new."""
        last = self._answers.get(stamp.client)
        if last is None or stamp.number > last[0]:
            return None
        if stamp.number < last[0] or deed != last[1]:
            raise ValueError(
                f"stamp must be newer than {last[1]} number {last[0]} of this client, got {deed} "
                f"number {stamp.number}: a client sends one batch after the other"
            )
        return last[3]

    def remember(
        self, stamp: Stamp, deed: str, answer: Sequence[Placed] | Sequence[Settled], now: float
    ) -> None:
        """Keep the answer to a client's last batch."""
        # Dropped and put anew, so that the oldest are in front.
        self._answers.pop(stamp.client, None)
        self._answers[stamp.client] = (stamp.number, deed, now, answer)

    # Jobs come in.

    def put(self, jobs: Sequence[NewJob], now: float) -> list[Placed]:
        """Place jobs one after the other."""
        self.conf_set = True
        return [self.life.place(job, job.parent, now) for job in jobs]

    # Jobs are leased.

    def claim(self, wish: Wish) -> Claim:
        """Lease jobs, unless the queue is paused."""
        return Claim([], None, [], True) if self.paused else Claiming(self.life, wish).run()

    # Leases end.

    def settle(self, settles: Sequence[Settle], now: float) -> list[Settled]:
        """End leases one after the other."""
        return [self._settle(settle, now) for settle in settles]

    def _settle(self, settle: Settle, now: float) -> Settled:
        record = self.life.live(settle.id, settle.token)
        if record is None:
            return self._settle_late(settle)
        if settle.yields:
            holder = None if record.key is None else self.life.places.keys.get(record.key)
            settle = as_settled(settle, cancel=record.cancel, holder=holder)
        lease = Lease(record.id, record.token)
        placed = [self.life.place(job, lease, now) for job in settle.children]
        record = self.life.places.records[settle.id]
        step = after_settle(
            self.life.places.conf,
            kind=settle.kind,
            attempt=record.attempt,
            phase=record.phase,
            age=now - record.born_at,
            delay=settle.delay,
            cancel=record.cancel,
            open_children=record.open_children + (len(placed) if record.cancel else 0),
            failed_children=record.failed_children,
            after=bool(settle.after),
        )
        new = replace(
            record,
            state=step.state,
            attempt=step.attempt,
            phase=step.phase,
            crashes=0,
            value=record.value if settle.value is None else settle.value,
            reason=step.reason or settle.reason,
            error=settle.error or record.error,
            due_at=now + settle.delay if step.state == "scheduled" else None,
        )
        if settle.kind == "done":
            new = replace(new, after=settle.after)
            if step.phase > record.phase:
                new = self.life.called_back(new, now)
        elif settle.kind == "again" and step.state != "cancelled":
            new = self.life.anew(new, now + settle.delay)
        elif settle.kind == "retry" and step.state not in ENDED:
            priority = priority_at(self.life.places.conf, record.priority, now + settle.delay)
            new = replace(new, priority=priority)
        ended: list[Ended] = []
        if step.state in ENDED:
            self.life.end(new, now, ended)
        else:
            self.life.places.move(new)
        placed += [self.life.place(job, None, now) for job in settle.also]
        return Settled(
            settle.id, "ok", step.state, new.reason if step.reason else "", tuple(placed), tuple(ended)
        )

    def _settle_late(self, settle: Settle) -> Settled:
        """Tell of a lease that is over whether it was this client that ended it."""
        record = self.life.places.records.get(settle.id)
        if record is None or record.state == "leased" or not record.token or record.token != settle.token:
            return Settled(settle.id, "stale")
        return Settled(settle.id, "repeated", record.state)

    # Leases are kept up, and taken back.

    def extend(self, leases: Sequence[Lease], lease: float, now: float) -> Extended:
        """Let live leases expire later."""
        lost: list[str] = []
        cancelled: list[str] = []
        for each in leases:
            record = self.life.live(each.id, each.token)
            if record is None:
                lost.append(each.id)
                continue
            note = record.note if each.note is None else each.note
            self.life.places.move(replace(record, due_at=now + lease, note=note))
            if record.cancel:
                cancelled.append(each.id)
        return Extended(lost, cancelled)

    def rescue(self, n: int, now: float) -> Rescued:
        """Take back leases that have expired, and forget what was kept long enough."""
        ids: list[str] = []
        ended: list[Ended] = []
        for _ in range(n):
            head = self.life.places.leased.head()
            if head is None or head[0][0] > now:
                break
            record = self.life.places.records[head[1]]
            conf = self.life.places.conf
            crashes = crashes_after(conf, record.crashes)
            step = after_rescue(
                conf,
                attempt=record.attempt,
                crashes=crashes,
                phase=record.phase,
                age=now - record.born_at,
                cancel=record.cancel,
            )
            new = replace(
                record,
                state=step.state,
                attempt=step.attempt,
                phase=step.phase,
                crashes=crashes,
                priority=priority_at(conf, record.priority, head[0][0]),
                token=0,
                due_at=None,
                reason=step.reason,
            )
            if step.state in ENDED:
                self.life.end(new, now, ended, told=True)
            else:
                self.life.places.move(new)
                ids.append(new.id)
        removed = self._remove_expired(n, now)
        heads = (self.life.places.leased.head(), self.life.places.expiring.head())
        more = any(head is not None and head[0][0] <= now for head in heads)
        return Rescued(ids, ended, removed, more)

    def _remove_expired(self, n: int, now: float) -> int:
        """Remove records whose time is over; return how many."""
        removed = 0
        while removed < n and (head := self.life.places.expiring.head()) is not None and head[0][0] <= now:
            self.life.places.take_out(self.life.places.records[head[1]])
            removed += 1
        for _ in range(n):
            known = self.life.known.head()
            if known is None or known[0] > now:
                break
            self.life.known.discard(known[1])
        for client in list(self._answers)[:n]:
            if self._answers[client][2] + REMEMBERED_FOR > now:
                break
            del self._answers[client]
        return removed

    # Somebody steps in.

    def cancel(
        self, ids: Sequence[str], now: float
    ) -> list[Literal["cancelled", "asked", "ended", "unknown"]]:
        """Cancel what has not ended."""
        return [self._cancel(id, now) for id in ids]

    def _cancel(self, id: str, now: float) -> Literal["cancelled", "asked", "ended", "unknown"]:
        record = self.life.places.records.get(id)
        if record is None:
            return "unknown"
        if record.state in ENDED:
            return "ended"
        if record.state == "leased":
            self.life.places.update(replace(record, cancel=True))
            return "asked"
        self.life.end(replace(record, state="cancelled", reason="cancelled"), now, [])
        return "cancelled"

    def requeue(self, ids: Sequence[str], now: float) -> list[Literal["ready", "key", "live", "unknown"]]:
        """Let jobs that have ended run again, or scheduled ones now."""
        return [self._requeue(id, now) for id in ids]

    def _requeue(self, id: str, now: float) -> Literal["ready", "key", "live", "unknown"]:
        places = self.life.places
        record = places.records.get(id)
        if record is None:
            return "unknown"
        if record.state == "scheduled":
            priority = priority_at(places.conf, record.priority, now)
            places.move(replace(record, state="ready", priority=priority, due_at=None))
            return "ready"
        if record.state not in ENDED:
            return "live"
        if record.key is not None and places.conf.unique is not None:
            if places.keys.get(record.key, id) != id:
                return "key"
            places.keys[record.key] = id
        places.move(
            replace(
                self.life.anew(record, now),
                state="ready",
                attempt=0,
                crashes=0,
                phase=0,
                token=0,
                note="",
                cancel=False,
                put_at=now,
                due_at=None,
                ended_at=None,
                value=None,
                reason="",
                error="",
                parent=None,
                parent_family=0,
            )
        )
        self.life.known.discard(id)
        return "ready"

    def delete(
        self, ids: Sequence[str], now: float, *, leased: bool
    ) -> list[Literal["deleted", "leased", "unknown"]]:
        """Remove jobs, leased ones only if that is asked for."""
        return [self._delete(id, now, leased=leased) for id in ids]

    def _delete(
        self, id: str, now: float, *, leased: bool = False
    ) -> Literal["deleted", "leased", "unknown"]:
        places = self.life.places
        record = places.records.get(id)
        if record is None:
            return "unknown"
        if record.state == "leased" and not leased:
            return "leased"
        places.counts[record.state] -= 1
        self.removed += 1
        places.take_out(record)
        places.let_go(record)
        self.life.known.discard(id)
        if record.state not in ENDED:
            parent = self.life.count_child(record, "cancelled", now)
            if parent is not None:
                self.life.end(parent, now, [])
        return "deleted"

    def purge(self, state: State, n: int, now: float) -> int:
        """Remove up to `n` jobs of a state."""
        places = self.life.places
        ids = list(islice(places.in_state[state], n))
        deleted = 0
        for id in ids:
            # One that was the child of another may have sent it on.
            if id in places.in_state[state]:
                self._delete(id, now)
                deleted += 1
        if not places.in_state[state]:
            self.removed += places.counts[state]
            places.counts[state] = 0
        return deleted

    def forget(self, keys: Sequence[str]) -> int:
        """Let go of keys whose jobs have ended."""
        places = self.life.places
        forgotten = 0
        for key in keys:
            record = places.records.get(places.keys.get(key, ""))
            # Its id may have gone to another job since.
            live = record is not None and record.key == key and record.state not in ENDED
            if key in places.keys and not live:
                del places.keys[key]
                forgotten += 1
        return forgotten

    def rebuild(self, now: float) -> None:
        """Make every index and count fit the records."""
        places = self.life.places = self.life.places.rebuilt()
        for record in list(places.records.values()):
            children = [places.records[id] for id in places.children.get(record.id, ())]
            open_children = sum(
                child.parent_family == record.family and child.state not in ENDED for child in children
            )
            places.update(replace(record, open_children=open_children))
        for id in list(places.in_state["waiting"]):
            parent = self.life.go_on(places.records[id], now)
            if parent is not None:
                self.life.end(parent, now, [])
        self.life.put_total = self.removed + sum(places.counts.values())
