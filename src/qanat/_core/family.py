"""Trees of jobs: who spawned whom, and when a job and all below it are done.

A job that spawns has a `Branch`, which its children refer to and which never refers to them once it has
ended. While its job may run, the branch keeps its children by their ids: what an attempt spawns that an
earlier one spawned already is the same job. Two counts say the rest: `open_jobs` are children that have
not ended, `late` those that have, and below which something is still to be done. A leaf that ends takes
one from its parent's first count, and that is all unless it was the last. A tree that is
complete makes the next one complete in a loop, never by recursion, so trees may be as deep as they like.

The end of a job is *held* while a callback or a `failure` policy of its present attempt waits for its
children: its outcome is kept in the branch. Nothing here knows a driver or a dispatcher.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from qanat._core.branch import MOST_ID, Branch, FamilyJob, check_twice, child_id, key_text, outcome_of
from qanat._core.job import ENDED
from qanat._core.outcome import Outcome
from qanat.errors import JobCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qanat._core.branch import Failure, Key
    from qanat._core.job import Job, Task
    from qanat._core.outcome import State

LEAST = 1e-9
"""Seconds below which a rest of waiting time is taken for rounding."""


def nothing() -> int:
    """Count nothing."""
    return 0


def unheard(_job: Job[Any], _outcome: Outcome[Any, Any]) -> None:
    """Hear of an end, and do nothing."""


class Family:
    """The trees of a run.

    Attributes:
        roots: The branches of roots that have not ended.
        seen: The jobs that are known by a key, whether they have ended or not.
        spawned: How many jobs were spawned and taken.
        left_out: How many were not taken, by the rule that says so.
        ready: Jobs whose end was held, with what they ended with; to be emptied after every call.
        due: Branches whose callback is due; to be emptied after every call.
        twins: Roots that are known by the key of another job, which is visited in their place.
        stopping: Whether nothing more starts: jobs that are cancelled from now on cut their trees.
        cancelling: Whether callbacks are not called any more.
        is_plain: Whether the end of a job that has spawned nothing matters to nobody but its parent and those
            who wait for it: there are no keys, no journal, and no handlers whose jobs are counted.
        tells: Whether all that `on_end` does then, if nobody waits, is to keep the outcome in the job.
        seal: Makes of what a job ends with what can be kept in a journal; None without one.
    """

    __slots__ = (
        "_max_depth", "_max_jobs", "cancelling", "due", "is_plain", "left_out", "on_end", "ready", "roots",
        "seal", "seen", "spawned", "stopping", "tells", "twins",
    )  # fmt: skip

    def __init__(
        self,
        *,
        max_depth: int | None = None,
        max_jobs: int | None = None,
        on_end: Callable[[Job[Any], Outcome[Any, Any]], object] = unheard,
    ) -> None:
        """Begin with no trees.

        Args:
            max_depth: How deep a tree may be; a root has depth 0.
            max_jobs: How many jobs there may be, roots and spawned ones.
            on_end: Called with each job of a family that has ended for good, before anybody else hears of it.
        """
        self.roots: dict[Job[Any], Branch] = {}
        self.seen: dict[Key, Job[Any]] = {}
        self.spawned = 0
        self.left_out: dict[str, int] = {}
        self.ready: list[tuple[Job[Any], Outcome[Any, Any]]] = []
        self.due: list[Branch] = []
        self.twins: dict[Job[Any], list[FamilyJob]] = {}
        self.stopping = self.cancelling = self.is_plain = self.tells = False
        self.on_end = on_end
        self.seal: Callable[[Job[Any], Branch | None, Outcome[Any, Any]], Outcome[Any, Any]] | None = None
        self._max_depth = max_depth
        self._max_jobs = max_jobs

    # --- growing ---------------------------------------------------------------------------

    def known(self, job: Job[Any]) -> Branch | None:
        """Return a job's branch, if it has one."""
        return job._branch if type(job) is FamilyJob else self.roots.get(job)

    def branch(self, job: Job[Any]) -> Branch:
        """Return the branch of a job that runs, ready for what its present attempt spawns."""
        branch = self.known(job)
        if branch is None:
            if type(job) is FamilyJob:
                branch = job._branch = Branch(job, job._above)
            else:
                branch = self.roots[job] = Branch(job, None)
                if job._took is None:
                    # So that its end goes the long way, which looks for its branch.
                    job._took = ()
        elif branch.is_fresh:
            branch.renew()
        return branch

    def adopt(  # noqa: C901, PLR0912 - each is a question that most calls skip, and a call costs more
        self, branch: Branch, item: Any, task: Task, key: Key | None = None, id: int | str | None = None,
        failure: Failure = "continue", count_roots: Callable[[], int] = nothing, known_by: Any = None,
    ) -> tuple[Job[Any], bool]:  # fmt: skip
        """Return the job that a job spawns, and whether it is a new one, that is to arrive.

        Args:
            branch: The branch of the job that spawns.
            item: The item.
            task: What the new job is of.
            key: What it is known by.
            id: Its id; None makes one of its parent's and its key or its place in the attempt.
            failure: What its failure means for its parent.
            count_roots: Says how many roots there are by now.
            known_by: By what a journal knows it, beside the key.

        Returns:
            A new job. Or one that there is: of the same id under this parent, or of the same key. Or one
            that was left out, because of `max_depth` or `max_jobs`: it has its outcome already.

        Raises:
            RuntimeError: If the job does not run any more.
            ValueError: If the attempt has spawned another item with this id.
        """
        parent, children = branch.job, branch.by_id
        if parent is None or children is None:
            raise ended_before("spawn")
        last: int | str = next(branch.places) if key is None else key_text(key)
        if known_by is not None and isinstance(last, int):
            branch.place = last
        if id is None:
            id = f"{parent.id}/{last}"
            if len(id) > MOST_ID:
                id = child_id(parent.id, last)
        else:
            branch.is_plain = False
        if key is not None or known_by is not None:
            there = self.seen.get(key) if key is not None else None
            if there is None and known_by is not None:
                there = self.seen.get(known_by)
            if there is not None:
                if type(there) is FamilyJob and there._above is branch:
                    self._again(branch, there, failure)
                return there, False
        known = children.get(id)
        if known is not None:
            if known._turn == branch.turn:
                check_twice(known, item)
            self._again(branch, known, failure)
            return known, False
        child = FamilyJob(id, item, parent.index, task, parent=parent.id, _above=branch)
        child._turn = branch.turn
        children[id] = child
        if self._max_depth is not None or self._max_jobs is not None:
            rule = self._rule_against(branch.depth + 1, count_roots)
            if rule is not None:
                self.leave_out(child, rule)
                if known_by is not None:
                    branch.left = branch.left or {}
                    branch.left[rule] = branch.left.get(rule, 0) + 1
                return child, False
        if key is not None:
            child._key = key
            self.seen[key] = child
        if known_by is not None:
            self.seen[known_by] = child
        if failure != "continue":
            child._failure = failure
            branch.expect(failure, child)
        self.spawned += 1
        return child, True

    def _again(self, branch: Branch, child: FamilyJob, failure: Failure) -> None:
        """Note that an attempt has spawned a job that there is."""
        if child._turn != branch.turn and child._above is branch:
            child._turn = branch.turn
            child._failure = failure
            if failure != "continue":
                branch.expect(failure, child)

    def _rule_against(self, depth: int, count_roots: Callable[[], int]) -> str | None:
        if self._max_depth is not None and depth > self._max_depth:
            return f"max_depth={self._max_depth}"
        if self._max_jobs is not None and count_roots() + self.spawned >= self._max_jobs:
            return f"max_jobs={self._max_jobs}"
        return None

    def count_left_out(self, rule: str, times: int = 1) -> None:
        """Count jobs that were not taken, by the rule that left no room for them."""
        name = rule.partition("=")[0]
        self.left_out[name] = self.left_out.get(name, 0) + times

    def leave_out(self, child: FamilyJob, rule: str) -> None:
        """Give a job that is not taken its end."""
        self.count_left_out(rule)
        error = JobCancelledError(f"the job was not taken: {rule} leaves no room for it")
        end_unseen(child, error)

    def first(self, root: FamilyJob) -> Job[Any]:
        """Return the job that is visited for the key of a root: itself, if no other is known by it."""
        return self.seen.setdefault(root._key, root)

    def join(self, root: FamilyJob, first: Job[Any]) -> None:
        """Let a root end as the job that is visited in its place, when that does."""
        outcome = outcome_of(first)
        if outcome is not None:
            self.ready.append((root, _joined(root, outcome)))
        else:
            self.twins.setdefault(first, []).append(root)

    def register(self, branch: Branch, callback: Any, *, gather: bool) -> None:
        """Keep what is to be called when a job and all below it are done.

        Raises:
            RuntimeError: If the attempt has registered one.
        """
        if branch.callback is not None:
            raise RuntimeError("after_children was called before in this attempt: one callback does it all")
        branch.callback = callback
        branch.gathers = gather

    def again(self, job: Job[Any]) -> None:
        """Hear that a job is to run again."""
        branch = self.known(job)
        if branch is not None:
            branch.is_fresh = True
            branch.is_plain = False

    # --- ending ----------------------------------------------------------------------------

    def end(
        self, job: Job[Any], outcome: Outcome[Any, Any], now: float, *, ran: bool = True
    ) -> Outcome[Any, Any] | None:
        """Hear that a job is done with, and return its outcome; None if its end is held.

        Args:
            job: A job, of a family or not.
            outcome: What its last attempt ended with.
            now: The time.
            ran: Whether it ended by an attempt, not while it waited.
        """
        branch = self.known(job)
        if branch is not None:
            if branch.is_fresh and ran:
                branch.renew()  # the attempt registered nothing
            branch.outcome = outcome
            final = self._final(branch, now)
            if final is None:
                if not branch.gathers:
                    branch.forget()
                return None
            outcome = final
        elif type(job) is not FamilyJob:
            return outcome
        if self.seal is not None:
            outcome = self.seal(job, branch, outcome)
        self.look(self._over(job, branch, outcome), now)
        return outcome

    def cancel_held(self, branch: Branch, now: float) -> bool:
        """Let a job whose end is held end as cancelled; False if it is to end so already."""
        if branch.is_cancelled or branch.outcome is None or branch.outcome.state == "cancelled":
            return False
        branch.is_cancelled = True
        if branch.callback is None:
            self.look(branch, now)
        return True

    def conclude(
        self, branch: Branch, value: Any, error: BaseException | None, now: float, *, ran: float,
        cancelled: bool,
    ) -> None:  # fmt: skip
        """Hear how a callback ended for good, or that it is not called."""
        job, outcome = branch.job, branch.outcome
        assert job is not None  # noqa: S101 - its end is held
        assert outcome is not None  # noqa: S101
        branch.callback = None
        final = self._judged(branch, outcome)
        if error is not None:
            if final.error is not None and error.__context__ is None and error is not final.error:
                error.__context__ = final.error
            final = _other(final, "cancelled" if cancelled else "dead", error)
            value = None
        final = _ended(final, outcome.ended_at, branch.due_at, now, ran, value)
        if self.seal is not None:
            final = self.seal(job, branch, final)
        self.ready.append((job, final))
        self.look(self._over(job, branch, final), now)

    def _final(self, branch: Branch, now: float) -> Outcome[Any, Any] | None:
        """Return what a job ends with, now that it could; None if its end is held on."""
        outcome = branch.outcome
        assert outcome is not None  # noqa: S101 - it has ended but for this
        if branch.after is not None:
            return None
        stops = self.stopping and outcome.state == "cancelled"
        if branch.callback is not None and not stops:
            if branch.open_jobs or branch.late:
                return None
            if not (branch.is_cut or self.cancelling):
                branch.due_at = now
                self.due.append(branch)
                return None
            error = JobCancelledError("the run was stopped before the job's after_children callback")
            return _ended(_other(outcome, "cancelled", error), outcome.ended_at, now, now)
        if branch.policies and outcome.ok and not branch.is_cancelled:
            if branch.open_jobs:
                return None
            if branch.is_cut:
                error = JobCancelledError("the run was stopped before the job's children ended")
                return _ended(_other(outcome, "cancelled", error), outcome.ended_at, now, now)
        final = self._judged(branch, outcome)
        return final if now == outcome.ended_at else _ended(final, outcome.ended_at, now, now)

    def _judged(self, branch: Branch, outcome: Outcome[Any, Any]) -> Outcome[Any, Any]:
        """Return an outcome as a cancellation meanwhile, or what became of the children, makes it."""
        if branch.is_cancelled:
            return _other(outcome, "cancelled", JobCancelledError("the job was cancelled before it ended"))
        problem = branch.verdict() if outcome.ok else None
        return outcome if problem is None else _other(outcome, "dead", problem)

    def _over(self, job: Job[Any], branch: Branch | None, outcome: Outcome[Any, Any]) -> Branch | None:
        """Note that a job has ended for good; return the branch that may have waited for it."""
        is_cut = self.stopping and outcome.state == "cancelled"
        is_complete = True
        if branch is not None:
            branch.is_over = True
            branch.job = branch.outcome = branch.after = branch.callback = branch.policies = None
            branch.forget()
            branch.is_cut |= is_cut
            is_cut = branch.is_cut
            is_complete = not (branch.open_jobs or branch.late)
        if self.seal is not None and type(job) is FamilyJob:
            job._sealed = outcome
        self.on_end(job, outcome)
        if self.twins and (twins := self.twins.pop(job, None)) is not None:
            for twin in twins:
                self.ready.append((twin, _joined(twin, outcome)))
        if type(job) is not FamilyJob:
            del self.roots[job]
            return None
        above = job._above
        job._branch = None
        if above is None:
            return None
        above.child_ended(job, outcome.state)
        above.is_cut |= is_cut
        if not is_complete:
            above.late += 1
        elif branch is not None:
            branch.above = None
        return above

    def look(self, branch: Branch | None, now: float) -> None:
        """See to a branch that may have been waited for, and to all above it for which that is the last."""
        while branch is not None:
            if branch.outcome is not None:
                final = self._final(branch, now)
                job = branch.job
                if final is None or job is None:
                    return
                if self.seal is not None:
                    final = self.seal(job, branch, final)
                self.ready.append((job, final))
                branch = self._over(job, branch, final)
            elif branch.is_over and not (branch.open_jobs or branch.late):
                above, branch.above = branch.above, None
                if above is not None:
                    above.late -= 1
                    above.is_cut |= branch.is_cut
                branch = above
            else:
                return


def ended_before(what: str) -> RuntimeError:
    """Return the error of a call for a job that does not run any more."""
    return RuntimeError(
        f"{what}() works while the job runs, and this one does not run any more: call it from the handler"
    )


def end_unseen(child: FamilyJob, error: JobCancelledError) -> None:
    """End a job that is no job of the run, for whoever has its handle."""
    child._status = ENDED
    child._waiter = Outcome(
        child.id, child.index, child.item, None, error, "cancelled", 0, child.lane, child.metadata,
        child.parent, child.offered_at, None, child.offered_at, 0.0,
    )  # fmt: skip


def _joined(root: FamilyJob, outcome: Outcome[Any, Any]) -> Outcome[Any, Any]:
    """Return the outcome of a root that was not visited, as another of its key was."""
    return msgspec.structs.replace(
        outcome, id=root.id, index=root.index, item=root.item, lane=root.lane, metadata=root.metadata,
        parent=None, offered_at=root.offered_at, ran=0.0, lost="children",
        ended_at=max(outcome.ended_at, root.offered_at),
    )  # fmt: skip


def _other(outcome: Outcome[Any, Any], state: State, error: BaseException) -> Outcome[Any, Any]:
    return msgspec.structs.replace(outcome, state=state, error=error, value=None)


def _ended(
    outcome: Outcome[Any, Any], since: float, due_at: float, now: float, ran: float = 0.0, value: Any = None
) -> Outcome[Any, Any]:
    """Return an outcome that was held since a time, and what it waited for meanwhile.

    Args:
        outcome: What the last attempt ended with.
        since: Since when it was held.
        due_at: Since when it was not, but for a slot.
        now: The time.
        ran: Seconds that a callback ran.
        value: What that gave, which counts if nothing failed; None is as it was.
    """
    waits: Mapping[str, float] = outcome.waits
    lost = dict(waits)
    for cause, seconds in (("children", due_at - since), ("concurrency", now - due_at - ran)):
        if seconds > LEAST:
            lost[cause] = lost.get(cause, 0.0) + seconds
    if value is None or outcome.state != "done":
        value = outcome.value
    return msgspec.structs.replace(outcome, value=value, ended_at=now, ran=outcome.ran + ran, lost=lost)
