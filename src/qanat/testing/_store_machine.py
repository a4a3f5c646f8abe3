"""Random histories of a store, compared step by step with the simplest one that can be. Needs Hypothesis."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from qanat._core.store.states import ENDED, LIVE, STATES
from qanat._core.store.values import Conf, Lease, NewJob, Placed, Settle, Stamp
from qanat.testing._plans import BrokenPromiseError
from qanat.testing._store_bench import QUEUE, Hand, StoreBench, expect
from qanat.testing._store_model import Model, ModelJob

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qanat._core.store.values import Ended, StoredJob

IDS = tuple("abcdefghijklmn")
LANES = ("", "x", "y")
KEYS = ("k", "l")
LEASE = 4.0
TIMES = (0.5, 1.0, 1.0, 4.0, 6.0)
"""Seconds that pass at a time."""

_confs = st.builds(
    Conf,
    unique=st.sampled_from([None, "pending", "active", "forever"]),
    order=st.sampled_from(["fifo", "fifo", "lifo", "due"]),
    weights=st.sampled_from([{}, {"x": 2}, {"": 3, "y": 2}]),
    max_attempts=st.sampled_from([None, 1, 2, 4]),
    max_age=st.sampled_from([None, None, 5.0]),
    max_crashes=st.sampled_from([1, 2, 3, None]),
    keep=st.sampled_from([0.0, 3.0, 1000.0]),
    keep_dead=st.sampled_from([None, None, 0.0, 3.0]),
)
_jobs = st.builds(
    NewJob,
    id=st.sampled_from(IDS),
    body=st.sampled_from([b"", b"1"]),
    lane=st.sampled_from(["", "", "", "x", "y"]),
    priority=st.sampled_from([0.0, 0.0, 0.0, 0.0, 1.0, -1.0]),
    key=st.sampled_from([None, None, *KEYS]),
    delay=st.sampled_from([0.0, 0.0, 0.0, 2.0, 5.0]),
    keep=st.sampled_from([None, None, None, 0.0, 3.0]),
    dedupe_for=st.sampled_from([0.0, 0.0, 0.0, 3.0]),
    failure=st.sampled_from(["ignore", "fail"]),
)
_batches = st.lists(_jobs, min_size=1, max_size=3)
_picks = st.integers(0, 1000)
_ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=3)


class StoreMachine(RuleBasedStateMachine):
    """What may happen to a queue, in any order; after each step store and model are compared.

    At most one unexpired lease a job (I4); a stale token has no effect (I5); rescue and maintenance
    touch no job that is done or leased anew (I8); nothing is lost and every count adds up (I10); one
    live job a key (I20). They hold in the model, and the store is the same as the model.
    """

    makers: ClassVar[tuple[Callable[[], StoreBench], ...]]

    def __init__(self) -> None:
        super().__init__()
        self.bench = self.makers[0]()
        self.hand = Hand(self.bench)
        self.store = self.bench.store
        self.leases: list[Lease] = []
        """Every lease ever given, the live ones among them."""
        self.stamps = 0
        self.last: tuple[Stamp, Sequence[NewJob], list[Placed]] | None = None

    def teardown(self) -> None:
        """Close the store."""
        self.store.close()
        self.bench.close()

    @initialize(conf=_confs)
    def begin(self, conf: Conf) -> None:
        """Set the queue."""
        self.model = Model(conf)
        expect(self.store.conf(QUEUE, conf), conf, "the settings")

    # Jobs come in.

    @rule(jobs=_batches, stamped=st.booleans())
    def put(self, jobs: list[NewJob], stamped: bool) -> None:
        """Put new jobs, and jobs whose id or key is known."""
        self._put(jobs, self._stamp() if stamped else None)

    @rule(jobs=_batches, pick=_picks, live=st.booleans())
    def put_children(self, jobs: list[NewJob], pick: int, live: bool) -> None:
        """Put children of a job that runs, or under a lease of any age."""
        leases = self._leased() if live else self.leases
        if not leases:
            return
        parent = leases[pick % len(leases)]
        self._put([_with_parent(job, parent) for job in jobs], None)

    @rule()
    def put_again(self) -> None:
        """Send the last stamped batch once more."""
        if self.last is None:
            self._put([NewJob(id="a"), NewJob(id="b")], self._stamp())
        if self.last is not None:
            stamp, jobs, answer = self.last
            expect(self.store.put(QUEUE, jobs, stamp=stamp), answer, "the answer to a batch sent twice")

    def _put(self, jobs: list[NewJob], stamp: Stamp | None) -> None:
        answer = self.store.put(QUEUE, jobs, stamp=stamp)
        wanted = [self.model.put(job, job.parent) for job in jobs]
        expect([(each.why, each.other) for each in answer], wanted, "what became of the jobs put")
        expect([each.id for each in answer], [job.id for job in jobs], "the ids of the answer")
        if stamp is not None:
            self.last = (stamp, jobs, answer)

    def _stamp(self) -> Stamp:
        self.stamps += 1
        return Stamp("client", self.stamps)

    # Jobs are leased.

    @rule(n=st.sampled_from([1, 1, 2, 2, 4, 0]))
    def claim(self, n: int) -> None:
        """Claim some jobs."""
        self._stock()
        self._claim(n, set(), suspects=1)

    @rule(n=st.integers(1, 4), skip=st.sets(st.sampled_from(LANES), max_size=2), suspects=st.integers(0, 3))
    def claim_some(self, n: int, skip: set[str], suspects: int) -> None:
        """Claim some jobs, but not of all kinds."""
        self._stock()
        self._claim(n, skip, suspects=suspects)

    def _claim(self, n: int, skip: set[str], *, suspects: int) -> None:
        claim = self.store.claim(QUEUE, n, worker="w", lease=LEASE, skip=skip, suspects=suspects)
        jobs, ended, next_due = self.model.claim(n, skip, suspects, LEASE)
        expect([job.id for job in claim.jobs], [job.new.id for job in jobs], "who is leased")
        expect(_told(claim.ended), ended, "who ended")
        expect(claim.paused, self.model.paused, "whether it is paused")
        if next_due is None:
            expect(claim.next_due, None, "next_due")
        else:
            self.hand.expect_length(claim.next_due, next_due, "next_due")
        if sum(job.crashes > 0 for job in claim.jobs) > suspects:
            raise BrokenPromiseError("a claim gave more suspects than it may")
        for got, job in zip(claim.jobs, jobs, strict=True):
            if got.token <= self.model.token:
                raise BrokenPromiseError(f"token {got.token} came after {self.model.token}")
            self.model.token = job.token = got.token
            job.family = job.family or got.token
            self.leases.append(Lease(got.id, got.token))
            self._compare(got, job)

    @rule(
        pick=_picks,
        kind=st.sampled_from(
            ["done", "done", "done", "retry", "retry", "release", "again", "dead", "cancelled"]
        ),
        delay=st.sampled_from([0.0, 0.0, 2.0, 5.0]),
        value=st.sampled_from([None, b"2"]),
        children=st.lists(_jobs, max_size=2),
        also=st.lists(_jobs, max_size=1),
        after=st.sampled_from(["", "", "callback"]),
        yields=st.booleans(),
        stamped=st.booleans(),
    )
    def settle(self, pick: int, kind: Any, stamped: bool, **given: Any) -> None:
        """Settle a live lease, sometimes twice."""
        live = self._leased()
        if not live:
            return
        settle = _settle(live[pick % len(live)], kind, **given)
        stamp = self._stamp() if stamped else None
        self._settle([settle], stamp)
        if stamp is None:
            self._settle([settle], None)

    @rule(
        kinds=st.lists(st.sampled_from(["done", "retry", "dead", "cancelled"]), min_size=2, max_size=2),
        after=st.sampled_from(["", "callback"]),
        failure=st.sampled_from(["ignore", "fail"]),
        back=st.booleans(),
    )
    def grow(self, kinds: list[Any], after: str, failure: Any, back: bool) -> None:
        """Let a job have children that end one by one, each told twice, and perhaps put one back."""
        leases = self._leased()
        free = [id for id in IDS if id not in self.model.jobs][:2]
        if not leases or len(free) < 2:
            return
        children = [NewJob(id=id, failure=failure, keep=1000.0, priority=-2.0) for id in free]
        self._settle([_settle(leases[0], "done", children=children, after=after)], None)
        self._claim(3, set(), suspects=0)
        for lease, kind in zip([each for each in self._live() if each.id in free], kinds, strict=False):
            settle = _settle(lease, kind)
            self._settle([settle], None)
            if back:
                expect(list(self.store.requeue(QUEUE, [lease.id])), [self.model.requeue(lease.id)], "requeue")
                self._claim(1, set(), suspects=0)
            self._settle([settle], None)

    @rule(kinds=st.lists(st.sampled_from(["done", "retry", "release", "dead"]), min_size=1, max_size=4))
    def settle_many(self, kinds: list[Any]) -> None:
        """Settle several leases in one batch."""
        leases = self._leased()
        self._settle([_settle(lease, kind) for lease, kind in zip(leases, kinds, strict=False)], None)

    @rule(pick=_picks, kind=st.sampled_from(["done", "retry", "dead"]), child=_jobs, off=st.integers(0, 1))
    def settle_stale(self, pick: int, kind: Any, child: NewJob, off: int) -> None:
        """Settle under a lease that is over, or that never was."""
        self._leased()
        if not self.leases:
            return
        lease = self.leases[pick % len(self.leases)]
        lease = Lease(lease.id, lease.token + off * 1000)
        if self.model.live(lease.id, lease.token) is None:
            self._settle([_settle(lease, kind, children=[child] if kind == "done" else [])], None)

    def _settle(self, settles: list[Settle], stamp: Stamp | None) -> None:
        answer = self.store.settle(QUEUE, settles, stamp=stamp)
        wanted = [self.model.settle(settle) for settle in settles]
        got = [
            (
                each.status,
                each.state,
                each.reason,
                [(one.why, one.other) for one in each.placed],
                _told(each.ended),
            )
            for each in answer
        ]
        expect(got, wanted, "what became of the settles")
        if stamp is not None:
            expect(self.store.settle(QUEUE, settles, stamp=stamp), answer, "the answer to a batch sent twice")
            self.last = None

    @rule(picks=st.lists(_picks, min_size=1, max_size=3), note=st.sampled_from([None, "half"]))
    def extend(self, picks: list[int], note: str | None) -> None:
        """Extend leases, live ones and others."""
        self._leased()
        leases = [self.leases[-1 - pick % min(5, len(self.leases))] for pick in picks if self.leases]
        leases = [Lease(lease.id, lease.token, note) for lease in leases]
        extended = self.store.extend(QUEUE, leases, LEASE)
        expect((extended.lost, extended.cancelled), self.model.extend(leases, LEASE), "lost and cancelled")

    # Time passes.

    @rule(seconds=st.sampled_from(TIMES))
    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.bench.advance(seconds)
        self.model.now += seconds

    @rule(n=st.sampled_from([1, 1000]))
    def rescue(self, n: int) -> None:
        """Take back what has expired."""
        self._rescue(n)

    @rule(suspects=st.integers(0, 3))
    def crash_worker(self, suspects: int) -> None:
        """Let all leases expire, rescue them, and let another worker claim."""
        self._leased()
        self.advance(LEASE + 1.0)
        self._rescue(1000)
        self._claim(3, set(), suspects=suspects)

    def _rescue(self, n: int) -> None:
        # Records whose time is over at once go in an order of the store's own.
        times = [job.due_at for job in self.model.of(*ENDED)]
        if len(set(times)) < len(times):
            n = 1000
        rescued = self.store.rescue(QUEUE, n)
        back, ended, removed, more = self.model.rescue(n)
        expect(rescued.ids, back, "who is rescued")
        expect(_told(rescued.ended), ended, "who ended by a rescue")
        expect(
            (rescued.removed, rescued.more), (removed, more), "records removed, and whether there are more"
        )

    # Somebody steps in.

    @rule(what=st.sampled_from(["cancel", "cancel", "requeue", "requeue", "delete"]), ids=_ids)
    def step_in(self, what: str, ids: list[str]) -> None:
        """Cancel jobs, put them back, or delete them."""
        wanted = [getattr(self.model, what)(id) for id in ids]
        expect(list(getattr(self.store, what)(QUEUE, ids)), wanted, f"what became of {what} {ids}")

    @rule(ids=_ids)
    def take_away(self, ids: list[str]) -> None:
        """Delete jobs, leased ones too."""
        wanted = [self.model.delete(id, leased=True) for id in ids]
        expect(list(self.store.delete(QUEUE, ids, leased=True)), wanted, f"what became of deleted {ids}")

    @rule(state=st.sampled_from(["scheduled", "ready", "done", "dead", "cancelled"]), sure=st.integers(0, 2))
    def purge(self, state: Any, sure: int) -> None:
        """Purge a state, seldom; forget a key else."""
        if sure:
            key = KEYS[sure % 2]
            expect(self.store.forget(QUEUE, [key]), self.model.forget(key), "whether a key was let go of")
        else:
            expect(self.store.purge(QUEUE, state), self.model.purge(state), "how many were purged")

    @rule()
    def pause(self) -> None:
        """Pause the queue for one claim."""
        self.store.pause(QUEUE)
        self.model.paused = True
        self._claim(1, set(), suspects=1)
        self.store.resume(QUEUE)
        self.model.paused = False

    @rule(
        state=st.sampled_from(STATES), lane=st.sampled_from([None, *LANES]), limit=st.integers(1, 3),
        bodies=st.sampled_from([None, None, [b"1"], [b"1", b""]]),
    )  # fmt: skip
    def find(self, state: Any, lane: str | None, limit: int, bodies: list[bytes] | None) -> None:
        """Look through all pages of a state."""
        found: list[str] = []
        after: str | None = None
        for _ in range(100):
            page = self.store.find(QUEUE, state, lane=lane, bodies=bodies, limit=limit, after=after)
            found += [job.id for job in page.jobs]
            after = page.next
            if after is None:
                break
        wanted = [
            job.new.id
            for job in self.model.of(state)
            if lane in {None, job.new.lane} and (bodies is None or job.new.body in bodies)
        ]
        expect(sorted(found), sorted(wanted), "who was found")

    # What always holds.

    @invariant()
    def every_job_is_as_it_should_be(self) -> None:
        """Hold the records of the store to those of the model."""
        if not hasattr(self, "model"):
            return
        for id, got in zip(IDS, self.store.get(QUEUE, IDS), strict=True):
            job = self.model.jobs.get(id)
            expect(got is None, job is None, f"whether job {id!r} is gone")
            if got is not None and job is not None:
                self._compare(got, job)

    @invariant()
    def nothing_is_lost(self) -> None:
        """Hold the counts to those of the model; and the store has to find nothing wrong with itself."""
        if not hasattr(self, "model"):
            return
        counts = self.store.count(QUEUE)
        expect({state: getattr(counts, state) for state in STATES}, self.model.counts(), "the counts")
        expect((counts.put, counts.removed), (self.model.put_total, self.model.removed), "put and removed")
        expect(counts.due, self.model.due(), "how many are due")
        self.hand.expect_sound()

    @invariant()
    def one_live_job_has_a_key(self) -> None:
        """See that no key has two."""
        if not hasattr(self, "model") or self.model.conf.unique not in {"active", "forever"}:
            return
        jobs = [job for job in self.store.get(QUEUE, IDS) if job is not None]
        keys = Counter(job.key for job in jobs if job.key is not None and job.state in LIVE)
        if self.model.conf.unique == "active" and any(number > 1 for number in keys.values()):
            raise BrokenPromiseError(f"two live jobs have one key: {keys!r}")

    def _stock(self) -> None:
        """See that there is something to claim: Hypothesis leaves out rules at will, also those that put."""
        if not self.model.of("ready"):
            unknown = [id for id in IDS if id not in self.model.jobs]
            self._put([NewJob(id=id, key=KEYS[place % 2]) for place, id in enumerate(unknown[:3])], None)

    def _leased(self) -> list[Lease]:
        """Return the live leases; if there are none, claim first."""
        if not self._live():
            self._stock()
            self._claim(2, set(), suspects=1)
        return self._live()

    def _live(self) -> list[Lease]:
        return [lease for lease in self.leases if self.model.live(lease.id, lease.token) is not None]

    def _compare(self, got: StoredJob, job: ModelJob) -> None:
        what = f"job {got.id!r}"
        plain = {name: getattr(job.new, name) for name in _GIVEN}
        plain |= {name: getattr(job, name) for name in _KEPT}
        plain |= {f"{state}_children": getattr(job, state) for state in _CHILDREN}
        plain["parent"] = job.parent.new.id if job.parent is not None else None
        expect({name: getattr(got, name) for name in plain}, plain, what)
        if self.model.conf.order == "due":
            self.hand.expect_time(got.priority, job.priority, f"priority of {what}")
        else:
            expect(got.priority, job.priority, f"priority of {what}")
        for name in ("put_at", "born_at", "due_at", "started_at", "ended_at"):
            wanted = getattr(job, name)
            if wanted is None:
                expect(getattr(got, name), None, f"{name} of {what}")
            else:
                self.hand.expect_time(getattr(got, name), wanted, f"{name} of {what}")


_GIVEN = ("id", "body", "lane", "key", "keep", "dedupe_for", "failure")
_KEPT = (
    "state",
    "attempt",
    "crashes",
    "phase",
    "token",
    "cancel",
    "note",
    "value",
    "reason",
    "error",
    "after",
    "family",
)
_CHILDREN = ("open", "done", "dead", "cancelled", "failed")
_CARRIES = {
    "done": ("value", "children", "also", "after"),
    "retry": ("delay",),
    "release": ("delay", "yields"),
    "again": ("delay", "value", "also"),
    "dead": ("also",),
    "cancelled": ("also",),
}


def _settle(lease: Lease, kind: Any, **given: Any) -> Settle:
    """Return a settle with what its kind may carry."""
    carried = {name: value for name, value in given.items() if name in _CARRIES[kind]}
    for name in ("children", "also"):
        if name in carried:
            carried[name] = tuple(carried[name])
    if kind in {"retry", "again", "dead"}:
        carried.update(reason="why", error="trace")
    return Settle(id=lease.id, token=lease.token, kind=kind, **carried)


def _with_parent(job: NewJob, parent: Lease) -> NewJob:
    return replace(job, parent=parent)


def _told(ended: Sequence[Ended]) -> list[tuple[str, str, str]]:
    return [(each.id, each.state, each.reason) for each in ended]
