"""What happened to the jobs of a queue, written down by all who took part, and what must not be in it.

Each line is appended in one write, so that it survives the process: `time pid word id token detail`.

    put, put-ok, put-unknown, put-full  a producer, before it sends and after the answer; the detail is the item's sum
    lease                               a worker that was given a job
    start, end, fell                    a handler, that began, came to its end, or raised; the detail of a
                                        start is the item's sum
    settle                              a worker, before it sends; the detail is the kind
    settle-ok, -repeated, -stale        the same, after the answer
    rescued                             a worker that took back a lease that had expired
    ready                               a worker, with its first claim
    gone                                the test, when a process has ended

`faults` is given such a history and what is in the store at the end, and names what contradicts the
promises. It is plain arithmetic, and is itself tested with histories that are wrong.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

ENDED = ("done", "dead", "cancelled")


@dataclass(frozen=True)
class Event:
    """One line."""

    at: float
    pid: int
    word: str
    id: str = "-"
    token: int = 0
    detail: str = "-"

    def __str__(self) -> str:
        return f"{self.at:.6f} {self.pid} {self.word} {self.id} {self.token} {self.detail}"


@dataclass(frozen=True)
class Last:
    """What is in the store at the end about one job; `token` is that of the lease that ended it, or 0."""

    state: str
    token: int = 0
    reason: str = ""


class Diary:
    """Append to a history."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def tell(self, word: str, *lines: tuple[str, int, str], pid: int = 0) -> None:
        """Write lines of one kind, in one write."""
        at, pid = time.monotonic(), pid or os.getpid()
        told = lines or (("-", 0, "-"),)
        text = "".join(f"{Event(at, pid, word, id, token, detail)}\n" for id, token, detail in told)
        os.write(self._file, text.encode())

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> list[Event]:
    """Return what was written; a last line that is not whole was not."""
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    events = []
    for line in whole.splitlines():
        at, pid, word, id, token, detail = line.split(" ", 5)
        events.append(Event(float(at), int(pid), word, id, int(token), detail))
    return events


@dataclass
class History:
    """A history, sorted by what is asked of it.

    Attributes:
        last: What is in the store at the end, by id.
        pauses: Whether processes or the store were stopped past a lease, so that who wakes up may
            begin, or write down, what is over.
        outages: Whether the store was away: leases may expire in the hands of living workers then.
        losses: Whether the store may have lost what it had acknowledged.
        gap: Seconds for which another worker may live and not take back the jobs of one that was killed;
            None is not looked at.
        at_once: How many jobs a worker runs at once.
    """

    events: list[Event]
    last: Mapping[str, Last]
    pauses: bool = False
    outages: bool = False
    losses: bool = False
    gap: float | None = None
    at_once: int = 10
    by: dict[str, list[Event]] = field(init=False)
    leases: dict[str, list[Event]] = field(init=False)
    gone: dict[int, float] = field(init=False)

    def __post_init__(self) -> None:
        self.by = defaultdict(list)
        self.leases = defaultdict(list)
        for event in self.events:
            self.by[event.word].append(event)
        for lease in self.by["lease"]:
            self.leases[lease.id].append(lease)
        for each in self.leases.values():
            each.sort(key=lambda lease: lease.token)
        self.gone = {event.pid: event.at for event in self.by["gone"]}

    def ids(self, word: str) -> set[str]:
        return {event.id for event in self.by[word]}

    def settled(self, *kinds: str) -> dict[tuple[str, int], Event]:
        """Return what was acknowledged as settled so, by job and token."""
        told = (*self.by["settle-ok"], *self.by["settle-repeated"])
        return {(event.id, event.token): event for event in told if event.detail in kinds}

    @property
    def lost(self) -> set[str]:
        """What was acknowledged to its producer, and is not there."""
        return self.ids("put-ok") - self.last.keys()

    @property
    def repeats(self) -> int:
        """How often a handler was called for a job that it had been called for."""
        return len(self.by["start"]) - len(self.ids("start"))


def lost_jobs(history: History) -> Iterator[str]:
    if not history.losses:
        yield from (f"{id} was put and is gone" for id in history.lost)


def ended_twice(history: History) -> Iterator[str]:
    ends: dict[str, set[int]] = defaultdict(set)
    for event in history.by["settle-ok"]:
        if event.detail in ENDED:
            ends[event.id].add(event.token)
    if not history.losses:
        yield from (f"{id} ended twice" for id, tokens in ends.items() if len(tokens) > 1)


def begun_after_end(history: History) -> Iterator[str]:
    ends = {id: event for (id, _), event in history.settled("done", "dead").items()}
    for id, leases in history.leases.items():
        end, last = ends.get(id), history.last.get(id)
        final = last.token if last is not None and last.state in ENDED else 0
        token = final or (end.token if end else 0)
        if history.losses or not token:
            continue
        yield from (
            f"{id} was leased ({lease.token}) after its end" for lease in leases if lease.token > token
        )
    if history.pauses or history.losses:
        return
    for start in history.by["start"]:
        end = ends.get(start.id)
        if end is not None and end.at < start.at:
            yield f"{start.id} began after its end"


def falling_tokens(history: History) -> Iterator[str]:
    if history.losses:
        return  # they begin again with what the store still knew
    highest: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    for lease in history.by["lease"]:
        if (lease.id, lease.token) in seen:
            yield f"{lease.id} was leased twice by token {lease.token}"
        elif lease.token <= highest.get(lease.id, 0) and not history.pauses:
            yield f"the token of {lease.id} fell to {lease.token}"
        seen.add((lease.id, lease.token))
        highest[lease.id] = max(lease.token, highest.get(lease.id, 0))


def invented_jobs(history: History) -> Iterator[str]:
    sums = {event.id: event.detail for event in history.by["put"]}
    yield from (f"{id} is there, and nobody put it" for id in history.last.keys() - sums.keys())
    for start in history.by["start"]:
        if start.id not in sums:
            yield f"{start.id} ran, and nobody put it"
        elif sums[start.id] != start.detail:
            yield f"{start.id} ran with another item"


def refused_jobs(history: History) -> Iterator[str]:
    """Find what was refused with nothing stored, and is there."""
    refused = history.ids("put-full") - history.ids("put-ok") - history.ids("put-unknown")
    yield from (f"{id} was refused, and is there" for id in refused & history.last.keys())


def done_by_nobody(history: History) -> Iterator[str]:
    """Find jobs that are done without a handler that ended under the lease that ended them."""
    ends = {(event.id, event.token) for event in history.by["end"]}
    for id, last in history.last.items():
        if last.state == "done" and (id, last.token) not in ends and not history.losses:
            yield f"{id} is done ({last.token}), and no handler came to its end"
    for event in history.by["settle"]:
        if event.detail == "done" and (event.id, event.token) not in ends:
            yield f"{event.id} was told as done ({event.token}) before its handler came to its end"


def leased_again_without_reason(history: History) -> Iterator[str]:
    """Find leases that were given although the one before was neither over nor its worker gone."""
    if history.pauses or history.outages or history.losses:
        return
    let_go = {
        (event.id, event.token) for event in history.by["settle"] if event.detail in {"retry", "release"}
    }
    for id, leases in history.leases.items():
        for before, after in pairwise(leases):
            gone = history.gone.get(before.pid)
            if (id, before.token) not in let_go and (gone is None or gone > after.at):
                yield f"{id} was leased again ({after.token}) while {before.pid} held it ({before.token})"


def late_recovery(history: History) -> Iterator[str]:
    """Find jobs that were taken back late from who was killed; suspects may wait for their turn then."""
    if history.gap is None:
        return
    over = {(event.id, event.token) for event in history.by["settle"]}
    lives = [(event.at, history.gone.get(event.pid, math.inf)) for event in history.by["ready"]]
    rescued: dict[str, list[float]] = defaultdict(list)
    for event in history.by["rescued"]:
        rescued[event.id].append(event.at)
    for id, leases in history.leases.items():
        for before, after in pairwise(leases):
            gone = history.gone.get(before.pid)
            if gone is None or (id, before.token) in over:
                continue
            back = min(at for at in (*rescued[id], after.at) if at >= gone or at == after.at)
            lived = max((min(back, end) - max(gone, begin) for begin, end in lives), default=0.0)
            if lived > history.gap:
                yield f"{id} was taken back after {lived:.2f} s of another worker's life"


def too_many_at_once(history: History) -> Iterator[str]:
    running: Counter[int] = Counter()
    under_way: set[tuple[int, str, int]] = set()
    for event in history.events:
        key = (event.pid, event.id, event.token)
        if event.word == "start":
            under_way.add(key)
            running[event.pid] += 1
            if running[event.pid] == history.at_once + 1:
                yield f"{event.pid} ran more than {history.at_once} at once"
        elif event.word in {"end", "fell"} and key in under_way:
            under_way.remove(key)
            running[event.pid] -= 1


def left_over(history: History) -> Iterator[str]:
    yield from (f"{id} is still {last.state}" for id, last in history.last.items() if last.state not in ENDED)


CHECKS: tuple[Callable[[History], Iterator[str]], ...] = (
    lost_jobs, ended_twice, begun_after_end, falling_tokens, invented_jobs, refused_jobs, done_by_nobody,
    leased_again_without_reason, late_recovery, too_many_at_once, left_over,
)  # fmt: skip


def faults(history: History, checks: Iterable[Callable[[History], Iterator[str]]] = CHECKS) -> list[str]:
    """Return what contradicts the promises; nothing if all is well."""
    return [f"{check.__name__}: {fault}" for check in checks for fault in check(history)]
