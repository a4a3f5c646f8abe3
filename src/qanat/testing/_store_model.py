"""A store as simple as can be, to compare others with: a dict of jobs that is searched through.

Nothing here is fast and nothing is kept twice, so there is little to be wrong. What a job does next
is asked of the rules of the core, which have a table of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qanat._core.store import rules
from qanat._core.store.states import ENDED, STATES
from qanat._core.store.values import Lease

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qanat._core.store.rules import Step
    from qanat._core.store.states import State
    from qanat._core.store.values import Conf, NewJob, Settle


@dataclass
class ModelJob:
    """A job; the fields are those of `StoredJob`, times are seconds from the start."""

    new: NewJob
    priority: float
    order: int
    put_at: float
    born_at: float
    state: State
    due_at: float | None = None
    attempt: int = 0
    crashes: int = 0
    phase: int = 0
    token: int = 0
    family: int = 0
    cancel: bool = False
    note: str = ""
    value: bytes | None = None
    reason: str = ""
    error: str = ""
    after: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    parent: ModelJob | None = None
    open: int = 0
    done: int = 0
    dead: int = 0
    cancelled: int = 0
    failed: int = 0

    @property
    def place(self) -> tuple[float, int]:
        """Return what it is ordered by within its lane."""
        return self.priority, self.order


class Model:
    """What a store should hold, and what its deeds should answer."""

    def __init__(self, conf: Conf) -> None:
        self.conf = conf
        self.now = 0.0
        self.jobs: dict[str, ModelJob] = {}
        self.gone = dict.fromkeys(STATES, 0)
        """Ended jobs whose records went, by the state in which they ended."""
        self.known: dict[str, float] = {}
        self.keys: dict[str, str] = {}
        self.ring: list[str] = []
        self.given = 0
        self.orders = 0
        self.token = 0
        self.put_total = 0
        self.removed = 0
        self.paused = False

    # What is where.

    def of(self, *states: str) -> list[ModelJob]:
        """Return the jobs in these states, in their order."""
        return sorted((job for job in self.jobs.values() if job.state in states), key=lambda job: job.place)

    def counts(self) -> dict[str, int]:
        """Return the counts of all states."""
        counts = dict(self.gone)
        for job in self.jobs.values():
            counts[job.state] += 1
        return {str(state): number for state, number in counts.items()}

    def due(self) -> int:
        """Return how many have fallen due, or lost their lease, and were not looked at since."""
        return len(self._over("scheduled", "leased"))

    def live(self, id: str, token: int) -> ModelJob | None:
        """Return the job leased under a token."""
        job = self.jobs.get(id)
        return job if job is not None and job.state == "leased" and job.token == token else None

    def _in_lane(self, lane: str) -> list[ModelJob]:
        return [job for job in self.of("ready") if job.new.lane == lane and not job.crashes]

    def _mend_ring(self) -> None:
        """Let lanes without jobs leave, and a lane that has got one join."""
        filled = {job.new.lane for job in self.of("ready") if not job.crashes}
        if self.ring and self.ring[0] not in filled:
            self.given = 0
        self.ring = [lane for lane in self.ring if lane in filled]
        # One step brings back one job at most, so there is never a choice of who is first.
        self.ring += [lane for lane in filled if lane not in self.ring]

    def _go(self, job: ModelJob, step: Step, due_at: float | None = None) -> None:
        """Let a job go where a rule sends it, and let it hold its key or not."""
        key, unique = job.new.key, self.conf.unique
        held = rules.holds_key(unique, job.state, job.phase)
        holds = rules.holds_key(unique, step.state, step.phase)
        if key is not None and holds and not held:
            self.keys.setdefault(key, job.new.id)
        elif key is not None and held and not holds and self.keys.get(key) == job.new.id:
            del self.keys[key]
        job.state, job.attempt, job.phase, job.due_at = step.state, step.attempt, step.phase, due_at
        self._mend_ring()

    def _stay(self, job: ModelJob, state: State) -> Step:
        return rules.Step(state, job.attempt, job.phase)

    # Deeds.

    def put(self, new: NewJob, parent: Lease | None) -> tuple[str, str]:
        """Place one job; return why it was refused, and by whom."""
        family = None
        if parent is not None:
            family = self.live(parent.id, parent.token)
            if family is None or family.cancel:
                return "parent", parent.id
        if new.id in self.jobs or self.known.get(new.id, -1.0) > self.now:
            return "id", new.id
        if new.key is not None and self.conf.unique is not None and new.key in self.keys:
            return "key", self.keys[new.key]
        state = rules.state_after(new.delay)
        born_at = self.now + new.delay
        priority = rules.priority_at(self.conf, new.priority, born_at)
        job = ModelJob(new, priority, self._order(), self.now, born_at, state, born_at if new.delay else None)
        self.jobs[new.id] = job
        self.put_total += 1
        if family is not None:
            job.parent = family
            family.open += 1
        if new.key is not None and rules.holds_key(self.conf.unique, state, 0):
            self.keys[new.key] = new.id
        self._mend_ring()
        return "", ""

    def _order(self) -> int:
        self.orders += 1
        return -self.orders if self.conf.order == "lifo" else self.orders

    def _fall_due(self, job: ModelJob, at: float) -> None:
        job.priority = rules.priority_at(self.conf, job.priority, at)

    def claim(
        self, n: int, skip: Collection[str], suspects: int, lease: float
    ) -> tuple[list[ModelJob], list[tuple[str, str, str]], float | None]:
        """Return who is leased, who ended, and when something is next due."""
        if self.paused:
            return [], [], None
        due = [job for job in self.of("scheduled") if job.due_at is not None and job.due_at <= self.now]
        for job in sorted(due, key=lambda job: (job.due_at, job.order)):
            self._go(job, self._stay(job, "ready"))
        leased: list[ModelJob] = []
        ended: list[tuple[str, str, str]] = []
        for job in [job for job in self.of("ready") if job.crashes]:
            if len(leased) < min(suspects, n) and job.new.lane not in skip:
                self._lease(job, lease, leased, ended)
        passed = 0
        while len(leased) < n and passed < len(self.ring):
            lane = self.ring[0]
            if lane in skip:
                self._turn()
                passed += 1
                continue
            passed = 0
            if self._lease(self._in_lane(lane)[0], lease, leased, ended) and self.ring[:1] == [lane]:
                self.given += 1
                if self.given >= self.conf.weights.get(lane, 1):
                    self._turn()
        times = [job.due_at for job in self.of("scheduled", "leased") if job.due_at is not None]
        return leased, ended, max(0.0, min(times) - self.now) if times else None

    def _turn(self) -> None:
        self.ring.append(self.ring.pop(0))
        self.given = 0

    def _lease(
        self, job: ModelJob, lease: float, leased: list[ModelJob], ended: list[tuple[str, str, str]]
    ) -> bool:
        why = rules.beyond(self.conf, attempt=job.attempt, crashes=job.crashes, age=self.now - job.born_at)
        if why:
            self._end(job, rules.Step("dead", job.attempt, job.phase, why), ended, told=True)
            return False
        self._go(job, rules.Step("leased", job.attempt + 1, job.phase), self.now + lease)
        job.started_at, job.note = self.now, ""
        leased.append(job)
        return True

    def settle(
        self, settle: Settle
    ) -> tuple[str, str | None, str, list[tuple[str, str]], list[tuple[str, str, str]]]:
        """Return status, state, reason, what was placed, and who ended with it."""
        job = self.live(settle.id, settle.token)
        if job is None:
            late = self.jobs.get(settle.id)
            if late is not None and late.state != "leased" and late.token == settle.token > 0:
                return "repeated", late.state, "", [], []
            return "stale", None, "", [], []
        holder = None if job.new.key is None else self.keys.get(job.new.key)
        settle = rules.as_settled(settle, cancel=job.cancel, holder=holder)
        lease = Lease(settle.id, settle.token)
        placed = [self.put(child, lease) for child in settle.children]
        step = rules.after_settle(
            self.conf,
            kind=settle.kind,
            attempt=job.attempt,
            phase=job.phase,
            age=self.now - job.born_at,
            delay=settle.delay,
            cancel=job.cancel,
            open_children=job.open + (len(settle.children) if job.cancel else 0),
            failed_children=job.failed,
            after=bool(settle.after),
        )
        job.crashes, job.reason = 0, step.reason or settle.reason
        job.value = job.value if settle.value is None else settle.value
        job.error = settle.error or job.error
        if settle.kind == "done":
            job.after = settle.after
        if step.phase > job.phase:
            job.born_at, job.failed = self.now, 0
            self._fall_due(job, self.now)
        if settle.kind in {"retry", "again"} and step.state not in ENDED:
            self._fall_due(job, self.now + settle.delay)
        if settle.kind == "again" and step.state != "cancelled":
            job.order, job.born_at, job.after = self._order(), self.now + settle.delay, ""
            job.done = job.dead = job.cancelled = job.failed = 0
        ended: list[tuple[str, str, str]] = []
        if step.state in ENDED:
            self._end(job, step, ended, reason=job.reason)
        else:
            self._go(job, step, self.now + settle.delay if step.state == "scheduled" else None)
        placed += [self.put(each, None) for each in settle.also]
        return "ok", step.state, step.reason, placed, ended

    def _end(
        self,
        job: ModelJob,
        step: Step,
        ended: list[tuple[str, str, str]],
        *,
        reason: str | None = None,
        told: bool = False,
    ) -> None:
        job.reason = step.reason if reason is None else reason
        kept = rules.kept_for(self.conf, step.state, job.new.keep)
        self._go(job, step, None if kept is None else self.now + kept)
        job.ended_at = self.now
        if told:
            ended.append((job.new.id, step.state, job.reason))
        if kept == 0:
            self._forget(job)
        if job.new.dedupe_for:
            self.known[job.new.id] = self.now + job.new.dedupe_for
        self._tell_parent(job, step.state, ended)

    def _forget(self, job: ModelJob) -> None:
        del self.jobs[job.new.id]
        self.gone[job.state] += 1

    def _tell_parent(self, job: ModelJob, state: State, ended: list[tuple[str, str, str]]) -> None:
        parent = job.parent
        if parent is None:
            return
        parent.open -= 1
        parent.done += state == "done"
        parent.cancelled += state == "cancelled"
        parent.dead += state == "dead"
        parent.failed += state == "dead" and job.new.failure == "fail"
        # A parent that is no longer in the dict is spoken to in vain.
        if parent.state != "waiting" or parent.open or self.jobs.get(parent.new.id) is not parent:
            return
        step = rules.after_children(
            attempt=parent.attempt,
            phase=parent.phase,
            failed_children=parent.failed,
            after=bool(parent.after),
        )
        if step.state in ENDED:
            self._end(parent, step, ended, told=True)
        else:
            parent.reason, parent.born_at, parent.failed = step.reason, self.now, 0
            self._fall_due(parent, self.now)
            self._go(parent, step)

    def extend(self, leases: Sequence[Lease], lease: float) -> tuple[list[str], list[str]]:
        """Return which are lost, and which are asked to cancel."""
        lost: list[str] = []
        cancelled: list[str] = []
        for each in leases:
            job = self.live(each.id, each.token)
            if job is None:
                lost.append(each.id)
                continue
            job.due_at = self.now + lease
            job.note = job.note if each.note is None else each.note
            cancelled += [each.id] if job.cancel else []
        return lost, cancelled

    def rescue(self, n: int) -> tuple[list[str], list[tuple[str, str, str]], int, bool]:
        """Return who is ready again, who ended, how many records went, and whether there are more."""
        back: list[str] = []
        ended: list[tuple[str, str, str]] = []
        for job in self._over("leased")[:n]:
            job.crashes = rules.crashes_after(self.conf, job.crashes)
            self._fall_due(job, job.due_at or 0.0)
            step = rules.after_rescue(
                self.conf,
                attempt=job.attempt,
                crashes=job.crashes,
                phase=job.phase,
                age=self.now - job.born_at,
                cancel=job.cancel,
            )
            job.token, job.reason = 0, step.reason
            if step.state in ENDED:
                self._end(job, step, ended, told=True)
            else:
                self._go(job, step)
                back.append(job.new.id)
        over = self._over(*ENDED)[:n]
        for job in over:
            self._forget(job)
        return back, ended, len(over), bool(self._over("leased") or self._over(*ENDED))

    def _over(self, *states: str) -> list[ModelJob]:
        jobs = [job for job in self.of(*states) if job.due_at is not None and job.due_at <= self.now]
        return sorted(jobs, key=lambda job: (job.due_at, job.token))

    def cancel(self, id: str) -> str:
        """Return what became of one job."""
        job = self.jobs.get(id)
        if job is None:
            return "unknown"
        if job.state in ENDED:
            return "ended"
        if job.state == "leased":
            job.cancel = True
            return "asked"
        self._end(job, self._stay(job, "cancelled"), [], reason="cancelled")
        return "cancelled"

    def requeue(self, id: str) -> str:
        """Return what became of one job."""
        job = self.jobs.get(id)
        if job is None:
            return "unknown"
        if job.state == "scheduled":
            self._fall_due(job, self.now)
            self._go(job, self._stay(job, "ready"))
            return "ready"
        if job.state not in ENDED:
            return "live"
        key = job.new.key
        if key is not None and self.conf.unique is not None:
            if self.keys.get(key, id) != id:
                return "key"
            self.keys[key] = id
        job.order, job.crashes, job.token, job.cancel, job.note = self._order(), 0, 0, False, ""
        job.put_at = job.born_at = self.now
        self._fall_due(job, self.now)
        job.value, job.reason, job.error, job.after, job.ended_at, job.parent = None, "", "", "", None, None
        job.done = job.dead = job.cancelled = job.failed = 0
        self.known.pop(id, None)
        self._go(job, rules.Step("ready", 0, 0))
        return "ready"

    def delete(self, id: str, *, leased: bool = False) -> str:
        """Return what became of one job."""
        job = self.jobs.get(id)
        if job is None:
            return "unknown"
        if job.state == "leased" and not leased:
            return "leased"
        del self.jobs[id]
        self.removed += 1
        self.known.pop(id, None)
        if job.new.key is not None and self.keys.get(job.new.key) == id:
            del self.keys[job.new.key]
        self._mend_ring()
        if job.state not in ENDED:
            self._tell_parent(job, "cancelled", [])
        return "deleted"

    def purge(self, state: State) -> int:
        """Return how many went."""
        jobs = self.of(state)
        for job in jobs:
            self.delete(job.new.id)
        if state in ENDED:
            self.removed += self.gone[state]
            self.gone[state] = 0
        return len(jobs)

    def forget(self, key: str) -> int:
        """Return whether a key was let go of."""
        if key not in self.keys:
            return 0
        job = self.jobs.get(self.keys[key])
        if job is not None and job.new.key == key and job.state not in ENDED:
            return 0
        del self.keys[key]
        return 1
