"""The ports of a store: what every store does, as synchronous deeds.

Every deed names its queue, takes a batch of at most 1,000 and is ONE atomic step: all of it happens,
or, if it raises, nothing. No deed waits for anything but the store's own lock or server. A queue
comes into being with its first `put`, `conf` or `pause`; on one that is not there all other deeds find
nothing.

An object with these methods is one connection: it is used by one thread at a time. Several may be
open to the same data, from several threads and processes; each deed is atomic towards all of them.

Three rules that need saying once:

**Order.** At put a job gets an order number: rising for "fifo", falling for "lifo". It keeps it for
life (`requeue` and "again" give a new one). Within a lane the smallest (priority, order number) is
first, so a job that comes back (retry, release, rescue, due) takes its old place, before what was put
later. With the order "due" the priority is when a job last fell due, so the longest overdue is first.

**Turns.** The lanes with ready jobs that are no suspects stand in a ring. A claim takes from the lane
at the head of the ring; once that lane has given as many jobs as its weight in this turn, it goes to
the tail. A lane in `skip` goes to the tail at once, and so loses its turn. A lane that runs empty
leaves the ring, and its turn is over; one that gets a job enters at the tail. A turn half used when a
claim has enough is carried on by the next claim.

**Suspects.** A ready job with crashes >= 1 lies in no lane but in the queue's line of suspects, by
(priority, order number). A claim takes as many as it may have first: of the line's first 100 those whose
lane is not in `skip`.

Errors of all deeds: `StoreUnavailable` (try again; with the same stamp nothing happens twice),
`StoreFull`, `StoreForked`, and other `StoreError`; ValueError and TypeError for what `bounds` refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qanat._core.store.states import State
    from qanat._core.store.values import (
        Claim,
        Conf,
        Counts,
        Extended,
        Lease,
        NewJob,
        Page,
        Placed,
        Rescued,
        Settle,
        Settled,
        Stamp,
        StoredJob,
    )


class Jobs(Protocol):
    """The life of jobs: put, leased, settled."""

    def put(
        self,
        queue: str,
        jobs: Sequence[NewJob],
        *,
        stamp: Stamp | None = None,
        replicas: int = 0,
        durable: bool = False,
    ) -> list[Placed]:
        """Store new jobs, all in one step.

        They are placed one after the other, so of two with the same id or key the second is a
        duplicate. A job is refused (told, not raised; nothing of it is stored) in this order: its
        `parent` is not leased under that token or is asked to cancel; its id is known (any record, or
        an ended job's within `dedupe_for`); its key is held. Otherwise it is scheduled if it has a
        delay, else ready; it takes its key; its parent has one more open child.

        Repetition: a stamp whose number is the last one of its client on this queue gives the
        stored answer and changes nothing; answers are kept for a day. Without a stamp a
        repetition is told as duplicates by id, as long as the ids are known.

        Args:
            queue: Which queue.
            jobs: At most 1,000.
            stamp: Who sends it and which batch it is.
            replicas: How many replicas must have it when this returns.
            durable: Whether it must be on disk when this returns.

        Returns:
            For each job, in order, what became of it.

        Raises:
            ValueError: If the stamp's number is smaller than the last one, or its last batch was a
                settle; or if this store cannot give the replicas or the durability asked for.
            NotReplicated: If the jobs are stored but fewer replicas have them than asked for.
        """
        ...

    def claim(
        self,
        queue: str,
        n: int,
        *,
        worker: str,
        lease: float,
        skip: Collection[str] = (),
        suspects: int = 1,
    ) -> Claim:
        """Lease up to `n` jobs.

        First, unless the queue is paused, up to 1,000 scheduled jobs whose time has come are made
        ready, the earliest due first (by order number among equals). Then jobs are taken: as
        many suspects as may be had, then by turns. A job beyond a bound (`rules.beyond`) is dead
        instead, uses no place of `n` and no turn, and its parent hears of it; at most 1,000 jobs end
        so in one claim.

        A job that is leased: state leased, attempt + 1, a new token that is greater than every token
        this queue gave before (also to ids long gone), worker, started_at = now, due_at = now + lease,
        note "", and with its first lease family = token; with unique "pending" it lets go of its key.

        Repetition: none; a claim whose answer was lost leaves leases that expire.

        Args:
            queue: Which queue.
            n: How many at most, 0 to 1,000; 0 only makes due jobs ready and tells `next_due`.
            worker: A name for who claims, shown with the job; up to 512 bytes.
            lease: Seconds until the leases expire, unless they are extended.
            skip: Lanes from which nothing is wanted now; at most 1,000.
            suspects: How many jobs may be among them that have lost their worker before, 0 to 1,000; the
                first 100 are looked at. A worker holds one at a time: while it does, it says 0, and claims
                of several who each may have one go together as one.
        """
        ...

    def settle(self, queue: str, settles: Sequence[Settle], *, stamp: Stamp | None = None) -> list[Settled]:
        """End leases, each as it says, all in one step and one after the other.

        Guarded by the token: only the live one changes anything. It is live until the job is settled or
        rescued, so a lease that has expired but was not yet rescued still counts. In this order, for
        each:

        1. `children` are placed as by `put`; after a cancel request all are refused ("parent").
        2. Where the job goes is decided by `rules.after_settle`, of what `rules.as_settled` makes of the
           settle. crashes = 0, and value, reason and error are kept.
        3. If it ended, its parent counts it (if that record is there, with the child's
           `parent_family`) and has one open child less. A waiting parent without open children goes on by
           `rules.after_children`: if it ends, this step follows for its own parent, in a loop.
        4. The key is held or let go by `rules.holds_key`.
        5. `also` are placed as by `put`.

        A job that returns to the queue under "pending" takes its key again if it is free, else goes on
        without, also when it falls due later. One that ends is kept for `keep` (dead: `keep_dead`), or
        its record is removed at once.

        Repetition: by stamp, as `put`. Without: a token that settled its job is told as "repeated"
        as long as the record is there and was not leased again, else as "stale"; never any effect.

        Args:
            queue: Which queue.
            settles: At most 1,000, and at most 1,000 children and `also` in all of them together.
            stamp: Who sends it and which batch it is.

        Returns:
            For each, in order, what became of it.

        Raises:
            ValueError: If the stamp's number is smaller than the last one, or its last batch was a put.
        """
        ...

    def extend(self, queue: str, leases: Sequence[Lease], lease: float) -> Extended:
        """Let live leases expire `lease` seconds from now, and keep their notes.

        A lease that has expired but was not yet rescued is live. Repeating it does no harm.

        Args:
            queue: Which queue.
            leases: At most 1,000.
            lease: Seconds from now.

        Returns:
            Which were lost, and which are asked to cancel.
        """
        ...

    def rescue(self, queue: str, n: int = 1000) -> Rescued:
        """Take back up to `n` leases that have expired, and remove up to `n` records whose time is over.

        Each is looked at again in the same step: a lease that was extended or settled is left alone. A
        rescued job: `rules.crashes_after`, token 0 (its old token is stale), attempt unchanged; ready
        (with crashes as a suspect, without in its lane), or what `rules.after_rescue` says. The earliest
        expired comes first, among equals the smaller token. Works while the queue is paused. Also forgets
        ids beyond `dedupe_for` and stamps older than a day. A record whose time is over is there, and its
        id known, until this removes it. Anybody may call it, and as often as they like.
        """
        ...

    def cancel(
        self, queue: str, ids: Sequence[str]
    ) -> list[Literal["cancelled", "asked", "ended", "unknown"]]:
        """Cancel jobs that have not ended.

        One that is scheduled, ready or waiting ends as cancelled in this step (its parent hears of it).
        For one that is leased its worker is asked: told by `extend`, kept in the record, and bound to
        that record, so it never meets a later job of the same id. Children of a cancelled job go on:
        cancel them by `find(parent=...)`. Repeating it changes nothing.

        Returns:
            For each id, in order: "cancelled" now; "asked", now or before; "ended" before; "unknown".
        """
        ...

    def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        """Return what is known of jobs, in order; None for an id without a record."""
        ...

    def find(
        self,
        queue: str,
        state: State | None = None,
        *,
        lane: str | None = None,
        parent: str | None = None,
        bodies: Collection[bytes] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page:
        """Return jobs by state and lane, or the children of one, page by page.

        In an order of the store's own. A job that fits all the while is on exactly one page. A page may hold
        less than there is, or nothing, and have a next.

        Args:
            queue: Which queue.
            state: In this state; None only with `parent`.
            lane: In this lane; None: any.
            parent: Children of this job; None: any.
            bodies: With one of these bodies, at most 1,000; None: any.
            limit: Jobs on a page at most, 1 to 1,000.
            after: The `next` of the page before; its text is the store's own.

        Raises:
            ValueError: If neither a state nor a parent is given, or `after` is not from this store.
        """
        ...

    def count(self, queue: str) -> Counts:
        """Return how many jobs are in each state, in constant time but for counting those that are `due`."""
        ...


class Control(Protocol):
    """What operators do."""

    def conf(self, queue: str, conf: Conf | None = None, *, change: bool = False) -> Conf:
        """Set a queue at its first use, and return what it is set to.

        Without `conf` nothing is set, and a queue that is not there has `Conf()`. At first use
        (no `conf` and no `put` before) `conf` is kept. Later it is kept only with `change`; without,
        nothing changes, and the caller compares (`rules.differences`) and complains. A put to a queue
        that is not there keeps `Conf()`.

        Raises:
            ValueError: If `unique` or `order` is to change while the queue holds a record or a key.
        """
        ...

    def pause(self, queue: str) -> None:
        """Let claims of this queue get nothing, until it is resumed; nothing else changes."""
        ...

    def resume(self, queue: str) -> None:
        """Let claims get jobs again."""
        ...

    def requeue(self, queue: str, ids: Sequence[str]) -> list[Literal["ready", "key", "live", "unknown"]]:
        """Let jobs that have ended run again, or scheduled ones run now.

        One that has ended: ready as if put now, with attempt, crashes and phase 0, a new order number,
        no token, no value, reason, error or note, and without its parent, who has counted it already.
        It takes its key if the mode says so. One that is scheduled becomes ready, as if it had fallen
        due now, and is otherwise unchanged.

        Returns:
            For each id, in order: "ready"; "key": nothing changed, its key is held by another;
            "live": nothing changed, it is ready, leased or waiting; "unknown".
        """
        ...

    def delete(
        self, queue: str, ids: Sequence[str], *, leased: bool = False
    ) -> list[Literal["deleted", "leased", "unknown"]]:
        """Remove jobs with all that is known of them, their keys and ids included.

        For its parent a job that had not ended is cancelled. A leased job is left alone (cancel it
        first), unless `leased`: then it goes too, and its lease is lost.
        """
        ...

    def purge(self, queue: str, state: State, n: int = 1000) -> int:
        """Delete up to `n` jobs that are in one state when this begins, as `delete` does.

        One that leaves the state on the way, because its last child was deleted, stays.

        When none is left in that state, its count becomes 0 (ended jobs whose record had gone are
        counted as removed).

        Returns:
            How many were deleted; call it again until that is less than `n`.

        Raises:
            ValueError: If the state is leased.
        """
        ...

    def forget(self, queue: str, keys: Sequence[str]) -> int:
        """Let go of keys whose jobs have ended ("forever"); return how many were let go."""
        ...

    def queues(self) -> list[str]:
        """Return the names of all queues, sorted."""
        ...

    def check(self, queue: str, *, repair: bool = False) -> list[str]:
        """Return what contradicts itself in a queue, in words; nothing if it is sound.

        Every record is in the index of its state and in no other; counts are what they count; every
        key is held by the job that the rules name; open children are those that have not ended.

        Args:
            queue: Which queue.
            repair: Whether indexes and counts are made to fit the records; no job is deleted.
        """
        ...


class Store(Jobs, Control, Protocol):
    """One connection to a store."""

    def now(self) -> float:
        """Return the time on the store's clock, as `*_at` in its answers."""
        ...

    def guarantees(self) -> str:
        """Return what survives, as found and not as hoped for.

        "none": lost with the process. "process": survives a killed process, not a power cut.
        "~1s": a power cut loses about a second. "fsync": survives a power cut. "replicas(n)":
        survives the loss of n machines. "unverified": the server would not say.
        """
        ...

    def close(self) -> None:
        """Let go of everything; may be called twice. Every other call then raises StoreError."""
        ...


class Ear(Protocol):
    """What hears that something was handed in elsewhere, by another process or on another machine.

    A hint may be late, doubled or lost: whoever waits looks for itself once in a while.
    """

    def hear(self) -> Collection[str]:
        """Wait for a while, and return the queues that may hold something new; "" stands for all of them.

        Called again and again, by one thread. After `stop` it returns, or raises, at once.
        """
        ...

    def stop(self) -> None:
        """Let `hear` come back; may be called from any thread."""
        ...

    def close(self) -> None:
        """Let go of everything; called by the thread that hears, at its end."""
        ...
