"""The durable store in one SQLite file: for many processes of one host.

Each deed is one transaction, which asks for the writers' lock before it reads: what it decides, it
decides about what is there. Deeds that may have nothing to do (a claim of an idle worker, a rescue)
look first, without a lock. The rules are those of the core; nothing is decided in SQL.

The time of a deed is read under the lock, so that times rise with the commits.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from msgspec import json

from qanat._core.store import bounds, rules
from qanat._core.store.sqlite_health import sqlite_findings
from qanat._core.store.values import Rescued
from qanat._stores import failpoints
from qanat._stores.sqlite import answers, checking, looking, placing, settling, tending
from qanat._stores.sqlite.claiming import Claiming, Wish, peek
from qanat._stores.sqlite.clock import HostClock, host_clock, settle_clock
from qanat._stores.sqlite.examining import examine
from qanat._stores.sqlite.opener import open_database
from qanat._stores.sqlite.paths import VOLATILE, file_system_number
from qanat._stores.sqlite.queue_row import decoded, read_queue
from qanat._stores.sqlite.room import check_room
from qanat._stores.sqlite.schema import KIND
from qanat._stores.sqlite.sheet import Sheet
from qanat.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Sequence

    from qanat._core.store.finding import Finding
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
        Settle,
        Settled,
        Stamp,
        StoredJob,
    )

AnswerT = TypeVar("AnswerT")

_QUEUES = "SELECT name FROM queues ORDER BY name"
_IN_USE = (
    "SELECT EXISTS(SELECT 1 FROM jobs WHERE queue = :queue) "
    "OR EXISTS(SELECT 1 FROM keys WHERE queue = :queue)"
)


class SqliteStore:
    """Jobs in a file, behind the ports of a store.

    One thread at a time uses it; `connect` opens the same file for another one.

    Args:
        path: Where the file lies; it is made if there is none, for its owner alone.
        patience: Seconds to wait for the lock while another writes; then `StoreUnavailable`.
        synchronous: "FULL": what was answered survives a loss of power. "NORMAL": it survives the end
            of the process, and a put that is to be durable still is.
        clock: Where the time comes from; None: this machine's.

    Raises:
        StoreError: If the file is something else, is damaged, or lies where others may write.
        StoreVersionError: If a newer version made it.
        StoreUnavailable: If it cannot be read and written, or stays locked.
        StoreFull: If there is no room for it.

    Attributes:
        roams: Any thread may use it.
    """

    roams: Final = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        patience: float = 5.0,
        synchronous: Literal["FULL", "NORMAL"] = "FULL",
        clock: HostClock | None = None,
    ) -> None:
        self._options = (patience, synchronous, clock)
        self._synchronous = synchronous
        self._database = open_database(path, KIND, patience=patience, synchronous=synchronous)
        try:
            status = os.stat(self._database.path)  # noqa: PTH116 - compared after each commit, where it counts
            self._file = (status.st_dev, status.st_ino)
            with self._database.transaction() as connection:
                self._clock = settle_clock(connection, clock or host_clock())
        except BaseException:
            self._database.close()
            raise

    def connect(self) -> SqliteStore:
        """Open the same file once more, for the thread that calls this."""
        patience, synchronous, clock = self._options
        return type(self)(self._database.path, patience=patience, synchronous=synchronous, clock=clock)

    # The life of jobs.

    def put(
        self,
        queue: str,
        jobs: Sequence[NewJob],
        *,
        stamp: Stamp | None = None,
        replicas: int = 0,
        durable: bool = False,
    ) -> list[Placed]:
        """Store new jobs."""
        bounds.check_put(queue, jobs, stamp)
        if replicas:
            raise ValueError(f"replicas must be 0 for a store in a file, got {replicas!r}")
        check_room(self._database.path)
        if durable and self._synchronous != "FULL":
            with self._full():
                return self._put(queue, jobs, stamp)
        return self._put(queue, jobs, stamp)

    def _put(self, queue: str, jobs: Sequence[NewJob], stamp: Stamp | None) -> list[Placed]:
        # Of two of one id in a batch the second is refused by name, so such a batch is looked at.
        hopeful = len({job.id for job in jobs}) == len(jobs)
        while True:
            try:
                with self._step("put", queue, make=True) as sheet:
                    if stamp is not None:
                        answer = answers.placed_before(sheet, stamp)
                        if answer is not None:
                            return answer
                    answer = placing.put(sheet, jobs, hopeful=hopeful)
                    if stamp is not None:
                        answers.remember(sheet, stamp, "put", answer)
                return answer
            except StoreError as error:
                if not hopeful or not isinstance(error.__cause__, sqlite3.IntegrityError):
                    raise
                # One of the ids is there: all was rolled back, and now it is looked up which.
                hopeful = False

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
        """Lease up to `n` jobs."""
        bounds.check_claim(queue, n, worker, lease, skip, suspects)
        with self._database.snapshot() as connection:
            claim = peek(connection, queue, n, self._clock.now())
        if claim is not None:
            return claim
        with self._step("claim", queue) as sheet:
            return Claiming(sheet, Wish(n, worker, float(lease), frozenset(skip), suspects)).run()

    def settle(self, queue: str, settles: Sequence[Settle], *, stamp: Stamp | None = None) -> list[Settled]:
        """End leases."""
        bounds.check_settle(queue, settles, stamp)
        with self._step("settle", queue) as sheet:
            if stamp is not None:
                answer = answers.settled_before(sheet, stamp)
                if answer is not None:
                    return answer
            answer = settling.settle(sheet, settles)
            if stamp is not None and sheet.queue.n:
                answers.remember(sheet, stamp, "settle", answer)
            return answer

    def extend(self, queue: str, leases: Sequence[Lease], lease: float) -> Extended:
        """Let live leases expire later."""
        bounds.check_extend(queue, leases, lease)
        with self._step("extend", queue) as sheet:
            return settling.extend(sheet, leases, lease)

    def rescue(self, queue: str, n: int = bounds.MOST) -> Rescued:
        """Take back leases that have expired."""
        bounds.checked_name("queue", queue)
        bounds.check_whole("n", n, 1, bounds.MOST)
        with self._look(queue) as sheet:
            if not settling.has_work(sheet):
                return Rescued([], [])
        with self._step("rescue", queue) as sheet:
            return settling.rescue(sheet, n)

    def cancel(
        self, queue: str, ids: Sequence[str]
    ) -> list[Literal["cancelled", "asked", "ended", "unknown"]]:
        """Cancel jobs that have not ended."""
        return self._with_ids("cancel", queue, ids, tending.cancel)

    def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        """Return what is known of jobs."""
        bounds.checked_name("queue", queue)
        bounds.check_ids("ids", ids)
        with self._database.snapshot() as connection:
            return looking.get(connection, queue, ids)

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
        """Return jobs by state and lane, or the children of one."""
        bounds.check_find(queue, state, parent, limit, bodies)
        search = looking.Search(state, lane, parent, bodies, limit, after)
        with self._database.snapshot() as connection:
            return search.run(connection, queue)

    def count(self, queue: str) -> Counts:
        """Return how many jobs are in each state."""
        bounds.checked_name("queue", queue)
        with self._database.snapshot() as connection:
            return looking.count(connection, queue, self._clock.now())

    # What operators do.

    def conf(self, queue: str, conf: Conf | None = None, *, change: bool = False) -> Conf:
        """Set a queue at its first use, and return what it is set to."""
        bounds.checked_name("queue", queue)
        if conf is None:
            with self._look(queue) as sheet:
                return sheet.conf
        bounds.check_conf(conf)
        with self._step("conf", queue, make=True) as sheet:
            row, connection = sheet.queue, sheet.connection
            if change:
                (in_use,) = connection.execute(_IN_USE, {"queue": row.n}).fetchone()
                conf = rules.changed(sheet.conf, conf, empty=not in_use or not row.conf_set)
            elif row.conf_set:
                return sheet.conf
            row.conf = json.encode(conf)
            row.conf_set = 1
            return decoded(row.conf)

    def pause(self, queue: str) -> None:
        """Let claims get nothing."""
        bounds.checked_name("queue", queue)
        with self._step("pause", queue, make=True) as sheet:
            sheet.queue.paused = 1

    def resume(self, queue: str) -> None:
        """Let claims get jobs again."""
        bounds.checked_name("queue", queue)
        with self._step("resume", queue) as sheet:
            sheet.queue.paused = 0

    def requeue(self, queue: str, ids: Sequence[str]) -> list[Literal["ready", "key", "live", "unknown"]]:
        """Let jobs that have ended run again, or scheduled ones now."""
        return self._with_ids("requeue", queue, ids, tending.requeue)

    def delete(
        self, queue: str, ids: Sequence[str], *, leased: bool = False
    ) -> list[Literal["deleted", "leased", "unknown"]]:
        """Remove jobs with all that is known of them."""
        return self._with_ids("delete", queue, ids, partial(tending.delete, leased=leased))

    def purge(self, queue: str, state: State, n: int = bounds.MOST) -> int:
        """Delete up to `n` jobs of one state."""
        bounds.check_purge(queue, state, n)
        with self._step("purge", queue) as sheet:
            return tending.purge(sheet, state, n)

    def forget(self, queue: str, keys: Sequence[str]) -> int:
        """Let go of keys whose jobs have ended."""
        bounds.checked_name("queue", queue)
        bounds.check_ids("keys", keys)
        with self._step("forget", queue) as sheet:
            return tending.forget(sheet, keys)

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        with self._database.snapshot() as connection:
            return [name for (name,) in connection.execute(_QUEUES)]

    def check(self, queue: str, *, repair: bool = False) -> list[str]:
        """Return what contradicts itself; with `repair` indexes and counts are made to fit the records.

        The whole file is read, for damage too; that takes a second for some 100 MB.
        """
        bounds.checked_name("queue", queue)
        with self._look(queue) as sheet:
            found = checking.problems(sheet.connection, sheet.queue, sheet.conf)
        if found and repair:
            with self._step("repair", queue) as sheet:
                checking.repair(sheet)
        return found

    # The store itself.

    def now(self) -> float:
        """Return the time on the clock of the file."""
        return self._clock.now()

    def guarantees(self) -> str:
        """Return "fsync" or "process", by what the connection is set to and where the file lies."""
        (mode,) = self._database.execute("PRAGMA journal_mode").fetchone()
        (level,) = self._database.execute("PRAGMA synchronous").fetchone()
        if mode in {"off", "memory"}:
            return "none"
        volatile = file_system_number(self._database.path.parent) in VOLATILE
        return "fsync" if level >= 2 and not volatile else "process"

    def examine(self, *, thorough: bool = False) -> list[Finding]:
        """Return what the state of the file and of its place mean for the queues in it."""
        return sqlite_findings(examine(self._database, self._clock, thorough=thorough))

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    # How deeds are carried out.

    @contextmanager
    def _step(self, deed: str, queue: str, *, make: bool = False) -> Generator[Sheet]:
        """Carry out a deed in one transaction, which is on the disk when the block is left."""
        reach = failpoints.reach
        if reach is not None:
            reach(f"{deed}.before")
        with self._database.transaction() as connection:
            row = read_queue(connection, queue, make=make)
            sheet = Sheet(connection, row, self._clock.now())
            yield sheet
            sheet.write()
            if reach is not None:
                reach(f"{deed}.written")
        self._check_file()
        if reach is not None:
            reach(f"{deed}.committed")

    @contextmanager
    def _look(self, queue: str) -> Generator[Sheet]:
        """Let something be looked at as it was at one moment."""
        with self._database.snapshot() as connection:
            yield Sheet(connection, read_queue(connection, queue), self._clock.now())

    @contextmanager
    def _full(self) -> Generator[None]:
        """Let commits be on the disk when they return."""
        self._database.execute("PRAGMA synchronous=FULL")
        try:
            yield
        finally:
            self._database.execute("PRAGMA synchronous=NORMAL")

    def _with_ids(
        self, deed: str, queue: str, ids: Sequence[str], work: Callable[[Sheet, Sequence[str]], AnswerT]
    ) -> AnswerT:
        bounds.checked_name("queue", queue)
        bounds.check_ids("ids", ids)
        with self._step(deed, queue) as sheet:
            return work(sheet, ids)

    def _check_file(self) -> None:
        """Raise if what was written went to a file that has no name any more, where nobody will find it."""
        try:
            status = os.stat(self._database.path)  # noqa: PTH116 - 1 us, a Path costs as much again
        except OSError:
            found = None
        else:
            found = (status.st_dev, status.st_ino)
        if found != self._file:
            raise StoreUnavailable(
                f"{self._database.path} was removed or replaced while it was open: put the file back "
                "or open it again"
            )
