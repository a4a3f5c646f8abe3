"""What a tree of jobs is made of: its jobs, what is known of those that spawn, and what it is judged by."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from itertools import count as count_up
from reprlib import repr as short
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, cast

import msgspec

from qanat._core.arguments import number
from qanat._core.job import ENDED, Job
from qanat._core.outcome import Outcome
from qanat._core.shown import shown
from qanat.errors import ChildrenFailedError

if TYPE_CHECKING:
    from qanat._core.limit import Limit
    from qanat._core.outcome import State

R = TypeVar("R")

Key: TypeAlias = "str | bytes | int | tuple[Any, ...]"
MOST_ID = 64
"""Characters of a child's id; a longer one is told by its hash, so that deep trees have short ids."""


@dataclass(frozen=True, slots=True)
class Quorum:
    """Let a job fail unless a share of its children is done.

    To be given as `failure=Quorum(0.8)` to `job.spawn`. It is judged when the last child has ended,
    over the children that the attempt spawned with an equal `Quorum`; a cancelled one is not done.

    Args:
        share: How many of them must be done, greater than 0 and at most 1.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is out of range.

    Example:
        >>> str(Quorum(0.8))
        '80% of the children'
    """

    share: float

    def __post_init__(self) -> None:
        """Check the share."""
        share = number("share", self.share)
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share must be greater than 0 and at most 1, got {shown(self.share)}")
        object.__setattr__(self, "share", share)

    def __str__(self) -> str:
        """Say it in words."""
        return f"{100 * self.share:g}% of the children"


Failure: TypeAlias = "Literal['continue', 'fail'] | Quorum"


_FAILURES: dict[str, Failure] = {"continue": "continue", "fail": "fail"}


def checked_failure(failure: object) -> Failure:
    """Return what a child's failure means for its parent.

    Raises:
        TypeError: If it is of the wrong kind.
        ValueError: If it is another text.
    """
    if isinstance(failure, Quorum):
        return failure
    if not isinstance(failure, str):
        raise TypeError(f'failure must be "continue", "fail" or a Quorum, got {shown(failure)}')
    if failure not in _FAILURES:
        raise ValueError(f'failure must be "continue", "fail" or a Quorum, got {shown(failure)}')
    return _FAILURES[failure]


def checked_key(key: object) -> Key:
    """Return what a job is known by.

    Raises:
        TypeError: If it cannot be known by that.
    """
    kind = type(key)
    if kind is str or kind is int or kind is bytes:
        return cast("Key", key)
    if not _is_key(key):
        raise TypeError(
            f"key must be a str, bytes, an int or a tuple of these, got {shown(key)}: make one of it, "
            "such as str(...) or tuple(...)"
        )
    return cast("Key", key)


def _is_key(key: object) -> bool:
    if isinstance(key, tuple):
        return all(_is_key(each) for each in cast("tuple[object, ...]", key))
    return isinstance(key, (str, bytes, int)) and not isinstance(key, bool)


def key_text(key: Key) -> str:
    """Return a key as the last part of an id: another text for each key, and none that is a position."""
    if isinstance(key, str):
        # What could be read as a position, another kind of key or more than one part is quoted.
        return key if key[:1].isalpha() and key.replace("_", "").replace("-", "").isalnum() else repr(key)
    return f"#{key}" if isinstance(key, int) else repr(key)


def child_id(parent: int | str, last: int | str) -> str:
    """Return the id of a child by that of its parent and its own part of it."""
    found = f"{parent}/{last}"
    if len(found) <= MOST_ID:
        return found
    return f"~{blake2b(found.encode('utf-8', 'surrogatepass'), digest_size=15).hexdigest()}"


def check_twice(known: Job[Any], item: object) -> None:
    """Check that what is spawned a second time by an id is the same.

    Raises:
        ValueError: If its item is another one.
    """
    if known.item is item or type(item).__eq__ is object.__eq__:
        return  # nothing else says whether it is another
    try:
        same = bool(known.item == item)
    except Exception:  # noqa: BLE001 - the user's code may raise anything
        return
    if not same:
        raise ValueError(
            f"id must be another one for each item that an attempt spawns, got {known.id!r} for "
            f"{short(item)} and, before, for {short(known.item)}: leave id out, or give key= to what is to "
            "be done once"
        )


class Children(msgspec.Struct, Generic[R], frozen=True):
    """What became of a job's children, as its `after_children` callback is told.

    Attributes:
        done: How many of its children have a value.
        failed: How many failed for good.
        cancelled: How many were cancelled.
    """

    done: int
    failed: int
    cancelled: int
    _values: tuple[R, ...] | None = None

    def values(self) -> list[R]:
        """Return the values of the children that are done, in the order in which they were spawned.

        Raises:
            RuntimeError: If the callback was registered without `gather=True`.
        """
        if self._values is None:
            raise RuntimeError(
                "values() works with `job.after_children(callback, gather=True)`: "
                "without it the children's values are not kept"
            )
        return list(self._values)


class FamilyJob(Job[Any], eq=False):
    """A job that was spawned, or a root that is known by a key."""

    # So that its end goes the long way, which looks for its branch.
    _took: tuple[Limit, ...] | None = ()
    _above: Branch | None = None
    _branch: Branch | None = None
    _failure: Any = "continue"
    # The attempt of the parent that spawned it last.
    _turn: int = 0
    _key: Any = None
    # With a journal: what it ended with, which others are told when it is recorded.
    _sealed: Outcome[Any, Any] | None = None


class AfterJob(Job[Any], eq=False):
    """The call of a job's callback: its item is the job's `Children`."""

    _branch: Any = None


class Branch:
    """What is known of a job that has spawned others, or has a callback.

    Attributes:
        job: The job, until it has ended.
        above: The branch of its parent, until its tree is complete.
        depth: How far it is below its root.
        places: Counts the jobs that the present attempt spawns; a step of it is one instruction, so threads
            need no lock for it.
        turn: Counts the attempts that spawned or registered something.
        is_fresh: Whether another attempt has begun, and nothing was spawned or registered in it yet.
        is_plain: Whether this is the first attempt, and no child was given an id: then each place is that of
            a new job.
        children: The children by id, as long as the job may run again or they are to be gathered; read
            `by_id` instead.
        line: Those spawned plainly, of which the first `lined` are among `children` already.
        born: How many children have arrived.
        ended: How many of them have ended.
        late: How many children have ended, and have something to be done below them.
        failed: How many failed for good.
        cancelled: How many were cancelled.
        policies: What the present attempt's children were spawned with, apart from "continue": how many of
            them ended, are done and failed.
        callback: What is to be called once its tree is complete.
        gathers: Whether the callback wants the values.
        outcome: What the job ended with, while that is held.
        after: The call of the callback, once it is due.
        due_at: When it was due.
        is_over: Whether the job has ended for good.
        is_cut: Whether a job of its tree was cancelled because the run stopped.
        is_cancelled: Whether the job was cancelled while its end was held.
        place: With a journal, the last place that was given.
        spawned: With a journal, the place and the record of each that the present attempt spawned.
        left: With a journal, how many were not taken, by the rule and its number.
    """

    __slots__ = (
        "above", "after", "born", "callback", "cancelled", "children", "depth", "due_at", "ended", "failed",
        "gathers", "is_cancelled", "is_cut", "is_fresh", "is_over", "is_plain", "job", "late", "left", "line",
        "lined", "outcome", "place", "places", "policies", "spawned", "turn",
    )  # fmt: skip

    def __init__(self, job: Job[Any], above: Branch | None) -> None:
        self.job: Job[Any] | None = job
        self.above = above
        self.depth: int = 0 if above is None else above.depth + 1
        self.places = count_up()
        self.turn = 0
        self.is_fresh = False
        self.is_plain = True
        self.children: dict[int | str, FamilyJob] | None = {}
        self.line: list[FamilyJob] = []
        self.lined = 0
        # Of each child only two of these change, as a count costs as much as six questions.
        self.born = self.ended = self.late = 0
        self.failed = self.cancelled = 0
        self.policies: dict[Failure, list[int]] | None = None
        self.callback: Any = None
        self.gathers = False
        self.outcome: Outcome[Any, Any] | None = None
        self.after: AfterJob | None = None
        self.due_at = 0.0
        self.is_over = self.is_cut = self.is_cancelled = False
        self.spawned: dict[Any, tuple[int, bytes | None]] | None = None
        self.left: dict[str, int] | None = None
        self.place = 0

    def renew(self) -> None:
        """Begin another attempt: what it spawns and registers counts, not what an earlier one did."""
        self.is_fresh = False
        self.places = count_up()
        self.turn += 1
        self.callback = self.policies = self.spawned = None

    @property
    def open_jobs(self) -> int:
        """How many children have not ended."""
        return self.born - self.ended

    @property
    def done(self) -> int:
        """How many children ended with a value."""
        return self.ended - self.failed - self.cancelled

    @property
    def by_id(self) -> dict[int | str, FamilyJob] | None:
        """The children by id, in the order in which they were spawned; None once nobody needs them."""
        children = self.children
        if children is not None and self.lined < len(self.line):
            later = self.line[self.lined :]
            self.lined += len(later)
            children.update((child.id, child) for child in later)
        return children

    def forget(self) -> None:
        """Let go of the children, as the job does not run again."""
        self.children = None
        self.line.clear()
        self.lined = 0

    def note(self, known: Any, place: int, row: bytes | None) -> None:
        """Keep for a journal what the present attempt has spawned."""
        if self.spawned is None:
            self.spawned = {}
        self.spawned.setdefault(known, (place, row))

    def expect(self, failure: Failure, child: FamilyJob) -> None:
        """Note what a child of the present attempt was spawned with."""
        if self.policies is None:
            self.policies = {}
        counts = self.policies.setdefault(failure, [0, 0, 0])
        if child._status == ENDED and (ended := outcome_of(child)) is not None:
            count(counts, ended.state)  # spawned by an earlier attempt, and ended meanwhile

    def child_ended(self, child: FamilyJob, state: State) -> None:
        """Count a child that has ended."""
        self.ended += 1
        if state == "dead":
            self.failed += 1
        elif state != "done":
            self.cancelled += 1
        if self.policies is not None and child._failure != "continue" and child._turn == self.turn:
            counts = self.policies.get(child._failure)
            if counts is not None:
                count(counts, state)

    def verdict(self) -> ChildrenFailedError | None:
        """Return why the job fails for its children's sake, if it does."""
        for failure, (ended, done, failed) in (self.policies or {}).items():
            if isinstance(failure, Quorum):
                if done < failure.share * ended * (1.0 - 1e-12):
                    return ChildrenFailedError(ended - done, ended, ended - done - failed)
            elif failed:
                return ChildrenFailedError(failed, ended)
        return None

    def told(self) -> Children[Any]:
        """Return what the callback is told."""
        values: tuple[Any, ...] | None = None
        if self.gathers:
            outcomes = [outcome_of(child) for child in (self.by_id or {}).values()]
            values = tuple(each.value for each in outcomes if each is not None and each.ok)
        return Children(self.done, self.failed, self.cancelled, values)


def outcome_of(job: Job[Any]) -> Outcome[Any, Any] | None:
    """Return how a job ended; None if it has not, or was not told."""
    if type(job) is FamilyJob and job._sealed is not None:
        return job._sealed
    waiter: object = job._waiter
    return cast("Outcome[Any, Any]", job._waiter) if isinstance(waiter, Outcome) else None


def count(counts: list[int], state: State) -> None:
    """Add an end to how many ended, are done and failed."""
    counts[0] += 1
    if state == "done":
        counts[1] += 1
    elif state == "dead":
        counts[2] += 1
