"""A store as a courier asks for it: deeds by name, a list in, a list of answers out.

The name of a deed holds what has to be the same for all that goes together in one round trip: the
queue, and whatever the deed takes beside its list. So the calls of a thousand producers become one
`put`. Puts and settles carry a stamp, so one whose answer was lost is sent once more and acts once.
"""

from __future__ import annotations

import os
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from qanat._core.store.bounds import MOST, MOST_SUSPECTS
from qanat._core.store.states import State
from qanat._core.store.values import Claim, Stamp
from qanat.errors import NotReplicated, PutUnknown, StoreError, StoreForked, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qanat._core.store.ports import Store
    from qanat._core.store.values import Conf, Lease, NewJob, Placed, Settle


FEW: Final = 64
"""Jobs that are claimed at most where an event loop itself takes in the answer; for several who claim
together half of that, so that the largest bodies there are fit into one answer."""
TOGETHER: Final = 500
"""Jobs that several claim together at most: what a step over Redis may take."""
_BEGUN_BY: Final = {
    "put": "begin_put", "claim": "begin_claim", "settle": "begin_settle", "rescue": "begin_rescue",
    "get": "begin_by_ids", "cancel": "begin_by_ids", "requeue": "begin_by_ids", "delete": "begin_by_ids",
}  # fmt: skip
"""Which method of a store sends a deed without waiting for its answer."""
_PLAINLY: Final = "0 -"
"""What follows the queue in a put for which nobody else is waited for."""


class Wish(Struct, frozen=True, kw_only=True):
    """What one claim asks for; the attributes are those of the port."""

    n: int
    worker: str = ""
    lease: float
    skip: frozenset[str] = frozenset()
    suspects: int = 1


class Look(Struct, frozen=True, kw_only=True):
    """What one find asks for; the attributes are those of the port."""

    state: State | None
    lane: str | None = None
    parent: str | None = None
    bodies: frozenset[bytes] | None = None
    limit: int = 100
    after: str | None = None


class Renewed(Struct, frozen=True, gc=False):
    """What became of one lease that was to be extended.

    Attributes:
        id: The job.
        lost: Whether the lease is lost.
        cancel: Whether the job is asked to cancel.
    """

    id: str
    lost: bool = False
    cancel: bool = False


class Begun:
    """A deed that is under way while nobody waits for it; made by `Deeds.begin`."""

    __slots__ = ("_asked", "_began", "_deed", "_deeds", "_number")

    def __init__(self, deeds: Deeds, deed: str, asked: list[Any], began: Any, number: int) -> None:
        """Keep what is needed to finish it."""
        self._deeds = deeds
        self._deed = deed
        self._asked = asked
        self._began = began
        self._number = number

    def fileno(self) -> int:
        """Return the number of the socket that becomes readable when there is news."""
        number: int = self._began.fileno()
        return number

    def is_over(self) -> bool:
        """Take in what is there, without waiting; say whether there is nothing more to come."""
        over: bool = self._began.is_over()
        return over

    def answers(self) -> list[Any] | None:
        """Return the answers, once it is over; None if `finish` has to find out what became of it."""
        answer: Any = self._began.answer()
        if answer is None:
            return None
        if self._deed.startswith("claim "):
            shares = _shared_out(answer, self._asked)
            # Who may have got too little claims by itself, which is more than to take in an answer.
            return None if _may_lack(answer, shares) else shares
        if self._deed.startswith("rescue "):
            return [answer] * len(self._asked)
        answers: list[Any] = answer
        return answers

    def finish(self) -> list[Any]:
        """Wait for the answers, with all that `Deeds.do` does when things go wrong."""
        return self._deeds.resumed(self._began, self._number, self._deed, self._asked)


class Deeds:
    """One connection to a store, for one thread of a courier."""

    def __init__(self, store: Store) -> None:
        """Take a store of this thread's own."""
        self.store = store
        # Random, and a new one for each connection: numbers begin anew with it.
        self._client = os.urandom(12).hex()
        self._number = 0
        self._begins: Final[dict[str, Callable[..., Any]]] = {
            deed: begin
            for deed, name in _BEGUN_BY.items()
            if (begin := getattr(store, name, None)) is not None
        }
        self._deeds: Final[dict[str, Callable[..., list[Any]]]] = {
            "put": self._put, "claim": self._claim, "settle": self._settle, "extend": self._extend,
            "rescue": self._rescue, "cancel": self._cancel, "get": self._get, "find": self._find,
            "count": self._count, "conf": self._conf, "pause": self._pause, "resume": self._resume,
            "requeue": self._requeue, "delete": self._delete, "purge": self._purge,
            "guarantees": self._guarantees, "call": self._call,
        }  # fmt: skip

    @property
    def begins(self) -> bool:
        """Whether `begin` is of use: whether its store does not make its thread wait."""
        return bool(self._begins)

    @property
    def roams(self) -> bool:
        """Whether its store may be used by any thread, one at a time."""
        return bool(getattr(self.store, "roams", False))

    def do(self, deed: str, asked: list[Any]) -> list[Any]:
        """Carry out one deed for a batch; its name is followed by what it takes, after spaces."""
        name, *rest = deed.split(" ")
        return self._deeds[name](asked, *rest)

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    def begin(self, deed: str, asked: list[Any]) -> Begun | None:
        """Send a small deed without waiting for its answer; None if that is not possible.

        Until it is finished, or its answer is there, nothing else is asked of this connection.
        """
        name, _, rest = deed.partition(" ")
        queue, _, how = rest.partition(" ")
        number = self._number
        begin = self._begins.get(name)
        begun: Any = None
        if begin is None:
            return None
        if name == "put":
            if how == _PLAINLY:
                begun = begin(queue, asked, self._stamp())
        elif name == "settle":
            begun = begin(queue, asked, self._stamp())
        elif name == "rescue":
            begun = begin(queue)
        elif name != "claim":
            begun = begin(name, queue, asked, how)
        elif (wish := _small(asked)) is not None:
            begun = begin(
                queue, wish.n, worker=wish.worker, lease=wish.lease, skip=wish.skip, suspects=wish.suspects
            )
        return None if begun is None else Begun(self, deed, asked, begun, number)

    def resumed(self, begun: Any, number: int, deed: str, asked: list[Any]) -> list[Any]:
        """Carry out a deed that was begun, under the stamp that it has."""
        self._number = number
        begun.resume()
        try:
            return self.do(deed, asked)
        finally:
            # Also if it was interrupted before it asked for its stamp: no other batch may get the same.
            self._number = max(self._number, number + 1)
            begun.leave()

    def _stamp(self) -> Stamp:
        self._number += 1
        return Stamp(self._client, self._number)

    # The life of jobs.

    def _put(self, asked: list[NewJob], queue: str, replicas: str, durable: str) -> list[Any]:
        answers: list[Placed | BaseException] = []
        for jobs in _slices(asked):
            try:
                answers += self._stamped(
                    partial(self.store.put, queue, jobs, replicas=int(replicas), durable=durable == "durable")
                )
            except NotReplicated as error:
                answers += [NotReplicated(job.id, error.got, error.wanted) for job in jobs]
            except StoreUnavailable as error:
                answers += [_unknown(job.id, error) for job in jobs]
        return answers

    def _claim(self, asked: list[Wish], queue: str) -> list[Claim]:
        claims: list[Claim] = []
        for wishes in _together(asked):
            claim = self._claim_one(_as_one(wishes), queue)
            shares = _shared_out(claim, wishes)
            if _may_lack(claim, shares):
                shares = [
                    share if share.jobs else self._claim_more(share, wish, queue)
                    for share, wish in zip(shares, wishes, strict=True)
                ]
            claims += shares
        return claims

    def _claim_more(self, share: Claim, wish: Wish, queue: str) -> Claim:
        try:
            claim = self._claim_one(wish, queue)
        except StoreError:
            # The others have theirs, of which nobody would hear.
            return share
        return Claim(claim.jobs, claim.next_due, share.ended + claim.ended, claim.paused)

    def _claim_one(self, wish: Wish, queue: str) -> Claim:
        return self.store.claim(
            queue, wish.n, worker=wish.worker, lease=wish.lease, skip=wish.skip, suspects=wish.suspects
        )

    def _settle(self, asked: list[Settle], queue: str) -> list[Any]:
        answers: list[Any] = []
        for settles in _slices(asked):
            answers += self._stamped(partial(self.store.settle, queue, settles))
        return answers

    def _stamped(self, deed: Callable[..., list[Any]]) -> list[Any]:
        """Do what acts once however often it is sent, and send it again if the answer was lost."""
        stamp = self._stamp()
        try:
            return deed(stamp=stamp)
        except StoreUnavailable:
            return deed(stamp=stamp)

    def _extend(self, asked: list[Lease], queue: str, lease: str) -> list[Renewed]:
        lost: set[str] = set()
        cancelled: set[str] = set()
        for leases in _slices(asked):
            extended = self.store.extend(queue, leases, float(lease))
            lost.update(extended.lost)
            cancelled.update(extended.cancelled)
        return [Renewed(each.id, each.id in lost, each.id in cancelled) for each in asked]

    def _rescue(self, asked: list[None], queue: str) -> list[Any]:
        return [self.store.rescue(queue)] * len(asked)

    def _cancel(self, asked: list[str], queue: str) -> list[Any]:
        return [each for ids in _slices(asked) for each in self.store.cancel(queue, ids)]

    def _get(self, asked: list[str], queue: str) -> list[Any]:
        return [each for ids in _slices(asked) for each in self.store.get(queue, ids)]

    def _find(self, asked: list[Look], queue: str) -> list[Any]:
        return [_caught(self._found, queue, look) for look in asked]

    def _found(self, queue: str, look: Look) -> Any:
        return self.store.find(
            queue, look.state, lane=look.lane, parent=look.parent, bodies=look.bodies, limit=look.limit,
            after=look.after,
        )  # fmt: skip

    def _count(self, asked: list[None], queue: str) -> list[Any]:
        return [self.store.count(queue)] * len(asked)

    # What operators do.

    def _conf(self, asked: list[Conf | None], queue: str) -> list[Any]:
        return [self.store.conf(queue, conf) for conf in asked]

    def _pause(self, asked: list[None], queue: str) -> list[None]:
        self.store.pause(queue)
        return asked

    def _resume(self, asked: list[None], queue: str) -> list[None]:
        self.store.resume(queue)
        return asked

    def _requeue(self, asked: list[str], queue: str) -> list[Any]:
        return [each for ids in _slices(asked) for each in self.store.requeue(queue, ids)]

    def _delete(self, asked: list[str], queue: str, leased: str = "") -> list[Any]:
        delete = partial(self.store.delete, queue, leased=leased == "leased")
        return [each for ids in _slices(asked) for each in delete(ids)]

    def _purge(self, asked: list[State], queue: str) -> list[int]:
        return [self.store.purge(queue, state, MOST) for state in asked]

    def _guarantees(self, asked: list[None]) -> list[Any]:
        return [self.store.guarantees()] * len(asked)

    def _call(self, asked: list[Callable[[Deeds], Any]]) -> list[Any]:
        return [_caught(function, self) for function in asked]


def _together(wishes: list[Wish]) -> list[list[Wish]]:
    """Return wishes, in their order, in lists that may be one claim each: alike, of one worker, not many."""
    lists: list[list[Wish]] = []
    n = suspects = 0
    for each in wishes:
        n, suspects = n + each.n, suspects + _suspects(each)
        first = lists[-1][0] if lists else None
        if (
            first is None
            or n > TOGETHER
            or suspects > MOST_SUSPECTS
            or (each.worker, each.lease, each.skip) != (first.worker, first.lease, first.skip)
        ):
            lists.append([])
            n, suspects = each.n, _suspects(each)
        lists[-1].append(each)
    return lists


def _small(wishes: list[Wish]) -> Wish | None:
    """Return what is to be claimed for all of several; None if that is much, or more than one claim."""
    first = wishes[0]
    if len(wishes) == 1:
        return first if first.n <= FEW else None
    if len(_together(wishes)) > 1:
        return None
    wish = _as_one(wishes)
    return wish if wish.n <= FEW // 2 else None


def _suspects(wish: Wish) -> int:
    return min(wish.suspects, wish.n)


def _as_one(wishes: list[Wish]) -> Wish:
    """Return what is to be claimed for several."""
    first = wishes[0]
    if len(wishes) == 1:
        return first
    n, suspects = sum(each.n for each in wishes), sum(map(_suspects, wishes))
    return Wish(n=n, worker=first.worker, lease=first.lease, skip=first.skip, suspects=suspects)


def _shared_out(claim: Claim, wishes: list[Wish]) -> list[Claim]:
    """Return what each of several who claimed together gets: the first that asked gets the first jobs."""
    if len(wishes) == 1:
        return [claim]
    suspects = iter([job for job in claim.jobs if job.crashes])
    others = iter([job for job in claim.jobs if not job.crashes])
    claims: list[Claim] = []
    for each in wishes:
        jobs = list(islice(suspects, _suspects(each)))
        jobs += islice(others, each.n - len(jobs))
        claims.append(Claim(jobs, claim.next_due, [] if claims else claim.ended, claim.paused))
    return claims


def _may_lack(claim: Claim, shares: list[Claim]) -> bool:
    """Whether a claim of several may have stopped at a bound of one step, of which each has one alone."""
    # Also if nothing came, something may be due at once: a lease that has expired, which is none's to claim.
    stopped = bool(claim.ended) or (claim.next_due == 0.0 and bool(claim.jobs))
    return stopped and len(shares) > 1 and any(not share.jobs for share in shares)


def _slices(asked: Sequence[Any]) -> list[Sequence[Any]]:
    """Return what was asked in batches that a store takes."""
    return [asked[begin : begin + MOST] for begin in range(0, len(asked), MOST)]


def _unknown(id: str, cause: StoreUnavailable) -> PutUnknown:
    error = PutUnknown(id)
    error.__cause__ = cause
    return error


def _caught(function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns, or what it raises, which is for its own caller alone."""
    try:
        return function(*args)
    except StoreForked:
        raise
    except Exception as error:  # noqa: BLE001 - raised to who asked
        return error
