"""What goes into a store and what comes out of it: plain values, the same for every store.

Bodies, values and metadata are bytes that a store keeps and never reads. Lengths are float seconds;
a store may round them up to the next millisecond, never down. Points in time (`*_at`) are on the
store's own clock: seconds since 1970 as that clock counts them. It never steps, so it may drift from
the wall clock; `Store.now()` reads it.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct, field

from qanat._core.store.states import State

Unique: TypeAlias = Literal["pending", "active", "forever"] | None
"""How long a key keeps a second job away: while the first waits to run, until it has ended, for ever."""
Kind: TypeAlias = Literal["done", "retry", "release", "again", "dead", "cancelled"]
"""How a lease is settled; `Settle` tells what each does."""
Failure: TypeAlias = Literal["ignore", "fail"]
"""What the death of a child does to its parent, beyond being counted."""


class Conf(Struct, frozen=True, kw_only=True):
    """What a queue is set to, kept in the store and the same for all who use the queue.

    `unique` and `order` are fixed at first use and change only while the queue holds no job and no
    key. The others are fixed too, until an operator changes them (`Control.conf(change=True)`).

    Attributes:
        unique: How long a key is held: None never; "pending" while its job is scheduled or ready and
            in phase 0; "active" until its job has ended; "forever" beyond its end, until `forget`,
            `delete` or `purge`.
        order: Which comes first among the jobs of one lane and one priority, by when they were put. With
            "due" it is whoever fell due first: a job's priority is that time (`rules.priority_at`),
            whatever its put says, and order numbers rise as with "fifo".
        weights: How many jobs a lane gives in one turn, 1 to 1,000; 1 for lanes not named. At most
            1,000 lanes.
        max_attempts: A job that was leased so often is dead instead of being leased again; None: no bound.
        max_age: A job whose `born_at` lies longer back than so many seconds is dead instead of being
            leased; None: no bound.
        max_crashes: A job that lost its worker so often in a row is dead. None: lost leases are not
            counted, so that they make no suspect, and end nothing.
        keep: Seconds for which the record of a job is kept that is done or cancelled; 0: not at all.
        keep_dead: Seconds for which dead letters are kept; None: until purged.
    """

    unique: Unique = None
    order: Literal["fifo", "lifo", "due"] = "fifo"
    weights: dict[str, int] = field(default_factory=dict[str, int])
    max_attempts: int | None = 20
    max_age: float | None = None
    max_crashes: int | None = 5
    keep: float = 0.0
    keep_dead: float | None = None


class Lease(Struct, frozen=True, gc=False):
    """A claim on one job.

    Attributes:
        id: The job.
        token: The fence: rises with every lease that the queue gives, and is never given twice.
        note: Text to be shown with the job, up to 500 characters; None leaves what is there.
    """

    id: str
    token: int
    note: str | None = None


class Stamp(Struct, frozen=True, gc=False):
    """Who sends a batch, and which one: a batch sent twice acts once.

    Attributes:
        client: A random text of the client's own, one for as long as it counts its batches.
        number: Rises with every batch that this client sends to this queue, be it put or settle.
    """

    client: str
    number: int


class NewJob(Struct, frozen=True, kw_only=True, gc=False):
    """A job to be put.

    Attributes:
        id: Made by the client before it sends anything. 1 to 512 bytes of UTF-8 without NUL.
        body: The item. At most 1 MiB.
        handler: Which handler runs it, by name; "" for the only one. At most 512 bytes.
        lane: Which lane it lies in; "" is the unnamed one. At most 512 bytes.
        priority: Smaller is earlier within a lane; finite. Means nothing where `Conf.order` is "due".
        key: What `Conf.unique` looks at; None is unique with nothing. 1 to 512 bytes.
        delay: Seconds before it may be leased.
        metadata: More bytes, at most 64 KiB.
        keep: Instead of the queue's `keep`; None takes the queue's.
        dedupe_for: Seconds after its end for which its id stays known although its record is gone,
            so that a put of the same id is a duplicate. Of use for ids that users gave.
        parent: The lease of a running job whose child it becomes; None without. In `Settle.children`
            it must be None: the parent is the job that is settled.
        failure: What its death does to its parent.
    """

    id: str
    body: bytes = b""
    handler: str = ""
    lane: str = ""
    priority: float = 0.0
    key: str | None = None
    delay: float = 0.0
    metadata: bytes = b""
    keep: float | None = None
    dedupe_for: float = 0.0
    parent: Lease | None = None
    failure: Failure = "ignore"


class Placed(Struct, frozen=True, gc=False):
    """What became of a job that was put.

    Attributes:
        id: The id that was asked for.
        why: "" if it was stored. Otherwise nothing changed, because: "id": that id is known; "key":
            its key is held; "parent": its parent's lease is lost, or the parent is to be cancelled.
        other: The id of the job that stands in its way; "" if stored.
    """

    id: str
    why: Literal["", "id", "key", "parent"] = ""
    other: str = ""


class StoredJob(Struct, frozen=True, kw_only=True, gc=False):
    """A job as a store knows it.

    Attributes:
        id: Its id, unique within its queue.
        state: Where it is.
        body: As it was put; so are `handler`, `lane`, `priority`, `key`, `metadata`, `keep`,
            `dedupe_for` and `failure`.
        attempt: Which lease of this phase it is on, from 1; 0 before the first. Given at lease, handed
            back by release; neither raised nor lowered by rescue.
        crashes: How often in a row its lease expired, where that is counted. From 1 on the job is a
            suspect. Back to 0 with every settle.
        token: That of its lease; if not leased, that of the lease that was settled last, or 0.
        worker: Who holds or held the last lease.
        note: What its worker last said of it.
        cancel: True if its worker was asked to cancel it.
        put_at: When it was put, or put back by `requeue`.
        born_at: From when its age is counted: `put_at` plus its first delay; anew with each phase
            and each `again`.
        due_at: When something happens to it by itself. Scheduled: it falls due. Leased: the lease
            expires. Ended: the record goes. None: never.
        started_at: When it was last leased; None before.
        ended_at: When it ended; None before.
        value: What the last "done" or "again" said; None without.
        reason: Why it ended: "attempts", "age", "crashes", "children", or what the worker said.
        error: The last error, a traceback; kept when a later attempt succeeds.
        parent: The id of its parent, or None.
        phase: 0 for the handler; from 1 on for callbacks.
        after: The name of the callback to come (waiting), or that is to be called now (phase > 0).
        open_children: Children that have not ended.
        done_children: Children that ended as done; so `dead_children`, `cancelled_children`.
        failed_children: Those among the dead that have `failure="fail"`; back to 0 when a callback
            takes over.
        family: The token of its first lease, 0 before; by it and the id its children name it, so
            that they never meet a later job of the same id.
        parent_family: That of its parent.
        order: Its order number.
    """

    id: str
    state: State
    body: bytes = b""
    handler: str = ""
    lane: str = ""
    priority: float = 0.0
    key: str | None = None
    metadata: bytes = b""
    keep: float | None = None
    dedupe_for: float = 0.0
    failure: Failure = "ignore"
    attempt: int = 0
    crashes: int = 0
    token: int = 0
    worker: str = ""
    note: str = ""
    cancel: bool = False
    put_at: float = 0.0
    born_at: float = 0.0
    due_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    value: bytes | None = None
    reason: str = ""
    error: str = ""
    parent: str | None = None
    phase: int = 0
    after: str = ""
    open_children: int = 0
    done_children: int = 0
    dead_children: int = 0
    cancelled_children: int = 0
    failed_children: int = 0
    family: int = 0
    parent_family: int = 0
    order: int = 0


class Ended(Struct, frozen=True, gc=False):
    """A job that ended without its worker saying so.

    Attributes:
        id: The job.
        state: How it ended.
        reason: Why.
    """

    id: str
    state: State
    reason: str = ""


class Claim(Struct, frozen=True):
    """What a claim got.

    Attributes:
        jobs: The jobs leased, in the order in which they are to start.
        next_due: Seconds until a scheduled job falls due or a lease expires, whichever is first; 0.0
            if one has, or if the claim stopped at its bound of looks: claim (and rescue) again; None
            if nothing is scheduled or leased, or the queue is paused.
        ended: Jobs that ended instead of being leased, and what ended with them.
        paused: True if the queue is paused; then nothing was done.
    """

    jobs: list[StoredJob]
    next_due: float | None = None
    ended: list[Ended] = field(default_factory=list[Ended])
    paused: bool = False


class Settle(Struct, frozen=True, kw_only=True, gc=False):
    """How one lease ends.

    Every settle sets the job's crashes to 0. After a cancel request a job never goes back or on:
    retry, release, again, and a done that would wait or call back, make it cancelled, and its
    children are not put.

    Attributes:
        id: The job.
        token: Its lease.
        kind: "done": it succeeded with `value`. If it has open children, `children` among them, it
            waits; else, if there is `after`, it is ready for the callback; else it has ended.
            "retry": the attempt failed and counts; ready or scheduled again, or dead beyond a bound.
            Also what `reject` is, without an error.
            "release": handed back as if it had not been leased: the attempt does not count.
            "again": it succeeded and comes back as if put anew under the same id: attempt 0, phase 0,
            a new order number, no ended children; it keeps its key.
            "dead": it is given up. "cancelled": it was cancelled.
        delay: Seconds before it may be leased again (retry, release, again); 0: at once, in its old
            place, which is before everything that was put after it.
        value: The result (done, again); at most 1 MiB. None leaves what an earlier phase said.
        reason: Why (dead, cancelled, retry, again); up to 500 characters.
        error: The traceback (retry, dead, again); up to 65,536 characters. "" leaves what is there.
        children: Jobs put in the same step as this one's children (done only).
        after: The name of the handler to be called once all children have ended (done only); "" none.
        also: Jobs put in the same step, not as children (done, again, dead, cancelled). They are put
            after the job has ended, so one may take its id if its record is not kept.
        yields: Whether it is as a plain done where another job holds the job's key by then (release): no
            two with that key wait. A callback that is due then is not called.
    """

    id: str
    token: int
    kind: Kind
    delay: float = 0.0
    value: bytes | None = None
    reason: str = ""
    error: str = ""
    children: tuple[NewJob, ...] = ()
    after: str = ""
    also: tuple[NewJob, ...] = ()
    yields: bool = False


class Settled(Struct, frozen=True, gc=False):
    """What became of one settle.

    Attributes:
        id: The job.
        status: "ok": done as asked, or what the rules make of it. "repeated": this very lease was
            settled before; nothing changed. "stale": the lease is lost; nothing changed.
        state: Where the job is now (ok, repeated); None if stale.
        reason: Why it is dead or cancelled, if the rules made it so.
        placed: What became of `children`, then of `also`; empty unless ok.
        ended: What ended with it: parents whose last child it was.
    """

    id: str
    status: Literal["ok", "repeated", "stale"]
    state: State | None = None
    reason: str = ""
    placed: tuple[Placed, ...] = ()
    ended: tuple[Ended, ...] = ()


class Extended(Struct, frozen=True):
    """What became of leases that were to be extended.

    Attributes:
        lost: Ids whose lease is lost: another has the job, or it is gone. The worker stops them.
        cancelled: Ids extended whose cancellation was asked for.
    """

    lost: list[str]
    cancelled: list[str]


class Rescued(Struct, frozen=True):
    """What a rescue did.

    Attributes:
        ids: Jobs that are ready again, as suspects.
        ended: Jobs that ended instead, and what ended with them.
        removed: How many records were removed because their time to be kept was over.
        more: True if there is more to do at once.
    """

    ids: list[str]
    ended: list[Ended]
    removed: int = 0
    more: bool = False


class Page(Struct, frozen=True):
    """A page of what was looked for.

    Attributes:
        jobs: Some jobs; may be fewer than asked for, even none, although there is a next page.
        next: What to hand in as `after` for the next page; None: this was the last.
    """

    jobs: list[StoredJob]
    next: str | None = None


class Counts(Struct, frozen=True, kw_only=True, gc=False):
    """How many jobs are in each state. Always `put == removed + the sum of the seven states`.

    A job whose record went because its time was over stays counted in the state in which it ended;
    one that was deleted or purged is counted under `removed`.

    Attributes:
        scheduled: Jobs in that state, and so on.
        put: Jobs ever stored.
        removed: Jobs ever deleted or purged.
        paused: Whether the queue is paused.
        due: How many of those scheduled have fallen due, and of those leased have an expired lease: the
            next claim or rescue finds them.
    """

    scheduled: int = 0
    ready: int = 0
    leased: int = 0
    waiting: int = 0
    done: int = 0
    dead: int = 0
    cancelled: int = 0
    put: int = 0
    removed: int = 0
    paused: bool = False
    due: int = 0
