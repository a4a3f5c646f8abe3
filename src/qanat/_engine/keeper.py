"""The keeper: holds what a run has in a journal, between the engine and the courier.

A job that arrives is looked up by its key: what is done ends at once with its old value, all else goes
to the dispatcher. A job that ends is handed to the courier, and its outcome is handed over once that
is committed. Both go in batches: what comes while one is under way goes with the next.

What must stay true:

- **One entry a key.** While a key is being looked up, runs, or waits for its commit, it has an entry with
  the job that leads; whoever comes with the same key follows, and shares what comes of it.
- **`pending` counts every job that is here and not with the dispatcher**, so the engine is not over
  before the last outcome was handed over.
- **Nothing starts while too much waits for its commit**: what a crash could lose is bounded.
- **A tree's jobs are known to its family, too.** Whatever ends here that was spawned, or has children,
  ends there as well, at once; and what a job is done with is written before its family hears of it, as
  a value that cannot be kept fails it. What a recalled job had spawned arrives before it ends.
- **A journal that cannot be used ends the run.** What ended until then is handed over all the same, as it
  is done; it is not recorded, and another run does it again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from qanat._core.branch import FamilyJob
from qanat._core.content_key import given_key
from qanat._core.job import ENDED, NEW, WAITING, Job
from qanat._core.kept import ASKING, DONE, FAILED, KEEPING, WITH_DISPATCHER, Entry, Kept, failed_instead
from qanat._core.outcome import Outcome
from qanat._engine.bell import Bell
from qanat.errors import JobCancelledError, SerialisationError, blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.branch import Branch
    from qanat._core.kept import Codec, Key
    from qanat._core.outcome import State
    from qanat._engine.courier import Call, Courier, Desk
    from qanat._engine.engine import Engine

Ending: TypeAlias = "tuple[Entry, Outcome[Any, Any]]"
"""A key whose job has ended, and its outcome."""

MOST_UNKEPT: Final = 4096
"""Outcomes that wait for their commit, beyond which nothing more starts."""
MOST_BYTES: Final = 32 * 2**20
"""Of their values, likewise."""
AT_ONCE: Final = 2048
"""Jobs that are looked up or recorded in one go."""
MOST_FAILURES: Final = 10_000
"""Failures that are remembered for items that are equal and come later; the oldest are forgotten."""
LONGEST_MESSAGE: Final = 2_000
"""Characters of an error's message that are recorded."""


class LeftOutError(JobCancelledError):
    """Say that a job was not run, as it had not failed before."""


class Trees(Protocol):
    """Who knows what jobs spawn, and how that is recorded."""

    def codec_of(self, job: Job[Any]) -> Codec:
        """Return what writes and reads a job's value."""
        ...

    def record(self, branch: Branch) -> bytes | None:
        """Return what is recorded of what a job spawned; None if it spawned nothing."""
        ...

    def read(self, job: Job[Any], content: bytes) -> Any:
        """Return what a recalled job had spawned; None if its handler has to be called again."""
        ...

    def spawn_again(self, job: Job[Any], recorded: Any) -> None:
        """Let what a recalled job had spawned arrive."""
        ...


class Reader(Protocol):
    """Who reads the input of a run, as far as there is room."""

    def look_for_room(self) -> None:
        """Read on if there is room now."""
        ...


class Keeper:
    """Keep an engine's jobs in a journal.

    Args:
        engine: Who runs the jobs.
        courier: Carries to the journal, and is closed with the keeper.
        key_of: Gives the key of an item; what it raises fails that job.
        codec: Writes and reads the handler's values.
        retry_failed: Run those only that failed before.
        fresh: Forget first what was done before.

    Attributes:
        recalled: How many outcomes were taken from the journal.
        left_out: How many jobs were not run because they had never failed.
        when_moved: Called when jobs were handed to the dispatcher.
        reader: Reads the input, and is told then that there may be room.
        trees: Knows what jobs spawn.
        when_arrived: Called with the key and the job of each that arrives, once there are trees.
    """

    def __init__(
        self, engine: Engine, courier: Courier, *, key_of: Callable[[Any], bytes], codec: Codec,
        retry_failed: bool = False, fresh: bool = False,
    ) -> None:  # fmt: skip
        """Begin with nothing; `open` begins the work."""
        self._engine = engine
        self._courier = courier
        self._desk: Desk
        self._key_of = key_of
        self._codec = codec
        self._retry_failed = retry_failed
        self._fresh = fresh
        self._entries: dict[Key, Entry] = {}
        self._by_job: dict[Job[Any], Entry] = {}
        self._to_ask: list[Entry] = []
        # Of each that waits to be committed its ending, and what is recorded of it.
        self._to_keep: list[Ending] = []
        self._rows: list[tuple[Any, ...]] = []
        self._failures: dict[Key, Outcome[Any, Any]] = {}
        self._forgotten: set[str] = set()
        self._asking = self._keeping = False
        self._unkept = self._unkept_bytes = 0
        self._followers = 0
        self._asked = 0
        self._answered = Bell(engine.loop)
        self._kept_one = False
        self.broken: BaseException | None = None
        self.recalled = 0
        self.left_out = 0
        self.when_moved: Callable[[], object] | None = None
        self.reader: Reader | None = None
        self.trees: Trees
        self.when_arrived: Callable[[Key, Job[Any]], object] | None = None

    async def open(self) -> None:
        """Open the journal.

        Raises:
            JournalError: If the file is no journal, or cannot be trusted.
            StoreError: If it cannot be used now.
        """
        self._desk = self._courier.desk()
        try:
            await self._desk.ask("forget" if self._fresh else "look", [None] if self._fresh else [])
        except BaseException as error:
            self.broken = error
            raise

    # --- arriving --------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many jobs are here that have not run: those looked up, and those that follow another."""
        return self._asked + self._followers

    @property
    def pending(self) -> int:
        """How many jobs are here at all."""
        return self._asked + self._followers + self._unkept

    def holds(self, job: Job[Any]) -> bool:
        """Whether a job is here, or came by way of here and has not ended."""
        return job in self._by_job

    def under_way(self) -> list[tuple[Key, Job[Any]]]:
        """Return the keys that are under way, each with the job that leads."""
        return [(key, entry.job) for key, entry in self._entries.items()]

    def arrived(self, job: Job[Any], now: float, delay: float = 0.0, key: Key | None = None) -> None:
        """Take a new job in; it goes to the dispatcher, or ends, when it was looked up.

        Args:
            job: The job.
            now: The time.
            delay: Seconds before which it does not start.
            key: Its key, if that is known.
        """
        job.offered_at = now
        if key is None:
            try:
                key = self._key_of(job.item) if type(job) is not FamilyJob else given_key(job._key)
            except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
                self._refuse(job, error, now)
                return
        self._take(job, key, now, delay)

    def arrived_all(self, jobs: list[Job[Any]], now: float) -> None:
        """Take new jobs in, as `arrived` does; they are roots with `offered_at` set to now."""
        key_of, entries, failures, by_job = self._key_of, self._entries, self._failures, self._by_job
        for job in jobs:
            try:
                key = key_of(job.item)
            except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
                self._refuse(job, error, now)
                continue
            if key in entries or key in failures or self.when_arrived is not None:
                self._take(job, key, now, 0.0)
            else:
                entry = entries[key] = by_job[job] = Entry(key, job, 0.0, now)
                self._to_ask.append(entry)
                self._asked += 1
        if self._to_ask and not self._asking:
            self._ask()

    def _refuse(self, job: Job[Any], error: BaseException, now: float) -> None:
        """End a job of whose key nothing is known but what the asking raised."""
        self._engine.dispatcher.refuse(job, blamed_on_job(error), now)
        self._engine.offered()

    def _take(self, job: Job[Any], key: Key, now: float, delay: float) -> None:
        """Let a job be looked up, follow another one, or share its failure."""
        entry = self._entries.get(key)
        if entry is not None:
            entry.followers.append(job)
            self._by_job[job] = entry
            self._followers += 1
            return
        failure = self._failures.get(key)
        if failure is not None:
            self._share(job, failure)
            self._engine.offered()
            return
        entry = self._entries[key] = self._by_job[job] = Entry(key, job, delay, now)
        if job.parent is not None:
            self._inherit(entry, job)
        elif self.when_arrived is not None:
            self.when_arrived(key, job)
        self._asked += 1
        self._to_ask.append(entry)
        if not self._asking:
            self._ask()

    def _inherit(self, entry: Entry, job: Job[Any]) -> None:
        """Note of a job that was spawned what follows from who did, and from its handler."""
        above = job._above.job if type(job) is FamilyJob and job._above is not None else None
        parent = None if above is None else self._by_job.get(above)
        entry.opens = parent is not None and parent.opens
        if self._fresh and isinstance(entry.key, tuple) and entry.key[0] not in self._forgotten:
            name = entry.key[0]
            self._forgotten.add(name)
            self._desk.send("forget", [name], _heed)

    async def wait_answered(self) -> None:
        """Wait until no job is being looked up."""
        while self._asked and self.broken is None:
            await self._answered.wait()

    def _ask(self) -> None:
        entries, self._to_ask = self._to_ask[:AT_ONCE], self._to_ask[AT_ONCE:]
        self._asking = True
        self._desk.send("look", [entry.key for entry in entries], lambda call: self._heard(call, entries))

    def _heard(self, call: Call, entries: list[Entry]) -> None:
        """Hear what is kept of jobs that were asked about."""
        if call.error is not None:
            self._break(call.error)
            answers: list[Kept | None] = [None] * len(entries)
        else:
            answers = call.answers
        now = self._engine.now()
        under_way = self._entries
        simply = not self._retry_failed
        new: list[Job[Any]] = []
        for entry, kept in zip(entries, answers, strict=True):
            if under_way.get(entry.key) is not entry:
                continue  # all of its jobs were cancelled meanwhile
            self._asked -= 1
            job = entry.job
            if (
                kept is None and simply and not entry.delay and type(job) is Job and job.lane is None
                and (not new or new[0]._task is job._task)
            ):  # fmt: skip
                entry.where = WITH_DISPATCHER
                job.offered_at = now
                job._status = WAITING
                new.append(job)
            else:
                self._offer_all(new, now)
                new = []
                self._go_on(entry, kept, now)
        self._offer_all(new, now)
        # Not before: what recalled jobs had spawned is looked up in one go.
        self._asking = False
        if self._to_ask:
            self._ask()
        elif not self._asked:
            self._answered.ring()
        self._moved()

    def _go_on(self, entry: Entry, kept: Kept | None, now: float) -> None:
        """Let a job run that was looked up, or end."""
        if kept is not None:
            entry.row = kept.row
        if kept is not None and kept.state == DONE:
            spawned: Any = None
            if kept.spawned is not None:
                # Nothing more starts once the run is stopped: the job is cancelled, for the next run.
                spawned = None if self._engine.stopped else self.trees.read(entry.job, kept.spawned)
                if spawned is None:
                    self._offer(entry, now)
                    return
            try:
                value = self.trees.codec_of(entry.job).decode(kept.value)
            except SerialisationError as error:
                self._leave(entry, self._ended(entry.job, "dead", now, error=error))
                return
            self.recalled += 1 + len(entry.followers)
            entry.job.offered_at = now
            if spawned is not None:
                self.trees.spawn_again(entry.job, spawned)
            outcome = self._ended(entry.job, "done", now, value=value, attempts=kept.attempts, ran=kept.ran)
            self._leave(entry, outcome)
        elif kept is None and self._retry_failed and not entry.opens and self.broken is None:
            self.left_out += 1 + len(entry.followers)
            left_out = LeftOutError("the job was left out: it has not failed before, and only such run")
            self._leave(entry, self._ended(entry.job, "cancelled", now, error=left_out))
        else:
            entry.opens = self._retry_failed
            self._offer(entry, now)

    def _offer_all(self, jobs: list[Job[Any]], now: float) -> None:
        """Let jobs of one task run that nothing sets apart."""
        if not jobs:
            return
        engine = self._engine
        engine.dispatcher.offer_all(jobs, now)
        if engine.stopped:
            for job in jobs:
                engine.dispatcher.cancel(job, now)

    def _offer(self, entry: Entry, now: float) -> None:
        engine = self._engine
        job = entry.job
        entry.where = WITH_DISPATCHER
        engine.dispatcher.offer(job, now, delay=max(0.0, entry.delay - (now - entry.offered_at)))
        if engine.stopped:
            engine.dispatcher.cancel(job, now)

    def _moved(self) -> None:
        """Let the engine see that something has changed."""
        engine = self._engine
        engine.tell_ended()
        if self.reader is not None:
            self.reader.look_for_room()
        elif engine.source is not None:
            engine.source.pull()
        engine.called = False
        engine.poke()
        if self.when_moved is not None:
            self.when_moved()

    # --- ending ----------------------------------------------------------------------------

    def seal(self, job: Job[Any], branch: Branch | None, outcome: Outcome[Any, Any]) -> Outcome[Any, Any]:
        """Write what a job of a tree is done with; return its outcome, which failed if that cannot be."""
        entry = self._by_job.get(job)
        if entry is None or entry.where != WITH_DISPATCHER or outcome.error is not None:
            return outcome
        error = self._write(entry, job, outcome)
        if error is not None:
            return failed_instead(outcome, error)
        if branch is not None:
            entry.spawned = self.trees.record(branch)
        return outcome

    def _write(self, entry: Entry, job: Job[Any], outcome: Outcome[Any, Any]) -> SerialisationError | None:
        """Write the value of a job that is done; return why it cannot be kept, if so."""
        try:
            codec = self._codec if type(job) is Job else self.trees.codec_of(job)
            entry.content = codec.encode(outcome.value)
        except SerialisationError as error:
            # The first value of the run already: it is the type that cannot be kept, and all would fail.
            entry.stops = None if self._kept_one else error
            return error
        self._kept_one = True
        return None

    def keeps(self, job: Job[Any], outcome: Outcome[Any, Any]) -> bool:
        """Take the outcome of a job that ended, to hand it over later; False if it is not kept."""
        entry = self._by_job.pop(job, None)
        if entry is None:
            return False
        if outcome.state == "cancelled":
            self._succeed(entry)
            return False
        state, content, spawned = DONE, entry.content, entry.spawned
        if outcome.error is None and content is None:
            error = self._write(entry, job, outcome)
            if error is not None:
                outcome = self._refused(outcome, error)
            content = entry.content
        if outcome.error is not None:
            state, content, spawned = FAILED, _written(outcome.error), None
        assert content is not None  # noqa: S101 - or it failed
        entry.where = KEEPING
        entry.job = job
        self._unkept += 1
        self._unkept_bytes += len(content)
        self._to_keep.append((entry, outcome))
        self._rows.append((entry.key, state, outcome.attempts, outcome.ran, spawned, content, entry.row))
        if self.broken is not None:
            self._rows.clear()
            batch, self._to_keep = self._to_keep, []
            self._unkept_bytes -= len(content)
            self._hand_over(batch)
        elif not self._keeping:
            self._keep()
        if self._unkept >= MOST_UNKEPT or self._unkept_bytes >= MOST_BYTES:
            self._engine.hold(True, by="journal")
        if entry.stops is not None:
            self._engine.cancel(entry.stops)
        return True

    def _refused(self, outcome: Outcome[Any, Any], error: SerialisationError) -> Outcome[Any, Any]:
        """Return the outcome of a job that is done, with a value that cannot be kept."""
        dispatcher = self._engine.dispatcher
        dispatcher.done -= 1
        dispatcher.failed += 1
        return failed_instead(outcome, error)

    def _keep(self) -> None:
        """Send what waits to be committed."""
        batch, rows = self._to_keep, self._rows
        size = self._unkept_bytes
        if len(rows) > AT_ONCE or size > MOST_BYTES:
            number = size = 0
            while number < min(AT_ONCE, len(rows)) and size < MOST_BYTES:
                size += len(rows[number][5])
                number += 1
            batch, self._to_keep = batch[:number], batch[number:]
            rows, self._rows = rows[:number], rows[number:]
        else:
            self._to_keep, self._rows = [], []
        self._keeping = True
        self._desk.send("keep", rows, lambda call: self._kept(call, batch, size))

    def _kept(self, call: Call, batch: list[Ending], size: int) -> None:
        """Hear that a batch was committed, or why it was not."""
        self._keeping = False
        if call.error is not None:
            self._break(call.error)
            batch = [*batch, *self._to_keep]
            size = self._unkept_bytes
            self._to_keep, self._rows = [], []
        self._unkept_bytes -= size
        if self._to_keep:
            self._keep()  # before the outcomes are handed over, as the courier would be idle meanwhile
        self._hand_over(batch)
        self._moved()

    def _hand_over(self, batch: list[Ending]) -> None:
        engine, entries, leave = self._engine, self._entries, self._leave
        deliver = engine.deliver
        for entry, outcome in batch:
            self._unkept -= 1
            if outcome.state == "done" and not entry.followers:
                del entries[entry.key]
                deliver(entry.job, outcome)
            else:
                leave(entry, outcome)
        if self._unkept <= MOST_UNKEPT // 2 and self._unkept_bytes <= MOST_BYTES // 2:
            engine.hold(False, by="journal")

    def _leave(self, entry: Entry, outcome: Outcome[Any, Any]) -> None:
        """Hand over the outcome of a key to the job that led and to those that followed."""
        del self._entries[entry.key]
        self._by_job.pop(entry.job, None)
        if outcome.state == "dead":
            self._failures[entry.key] = outcome
            if len(self._failures) > MOST_FAILURES:
                del self._failures[next(iter(self._failures))]
        self._engine.deliver(entry.job, outcome)
        for job in entry.followers:
            self._followers -= 1
            self._by_job.pop(job, None)
            self._share(job, outcome)

    def _share(self, job: Job[Any], outcome: Outcome[Any, Any]) -> None:
        """End a job with what came of another one that has the same key."""
        now = self._engine.now()
        own = self._ended(
            job, outcome.state, now, value=outcome.value, error=outcome.error, attempts=outcome.attempts,
            ran=outcome.ran, started_at=outcome.started_at,
        )  # fmt: skip
        self._engine.deliver(job, own)

    def _ended(
        self, job: Job[Any], state: State, now: float, *, value: Any = None,
        error: BaseException | None = None, attempts: int = 0, ran: float = 0.0,
        started_at: float | None = None,
    ) -> Outcome[Any, Any]:  # fmt: skip
        """Return the outcome of a job that the dispatcher does not know, and count it there."""
        dispatcher = self._engine.dispatcher
        if state == "done":
            dispatcher.done += 1
        elif state == "dead":
            dispatcher.failed += 1
        else:
            dispatcher.cancelled += 1
        job._status = ENDED
        outcome: Outcome[Any, Any] = Outcome(
            job.id, job.index, job.item, value, error, state, attempts, job.lane, job.metadata, job.parent,
            job.offered_at, started_at, now, ran, _NO_WAITS,
        )  # fmt: skip
        if dispatcher.family is not None:
            dispatcher.family.recall(job, outcome, now)
        return outcome

    def _break(self, error: BaseException) -> None:
        """End the run, as the journal cannot be used any more."""
        if self.broken is None:
            self.broken = error
        self._engine.cancel(error)

    # --- single jobs -----------------------------------------------------------------------

    def leader_of(self, job: Job[Any]) -> Job[Any] | None:
        """Return the job that the dispatcher has for this one; None if the journal is at it."""
        entry = self._by_job.get(job)
        if entry is None:
            return job if job._status != ENDED else None
        return entry.job if entry.where == WITH_DISPATCHER else None

    def cancel(self, job: Job[Any]) -> bool:
        """Cancel a job that is here and has not run; False if it is not, or has."""
        entry = self._by_job.get(job)
        if entry is None or (entry.job is job and entry.where != ASKING):
            return False
        if entry.job is not job and entry.where == KEEPING:
            return False
        del self._by_job[job]
        if entry.job is job:
            self._succeed(entry)
        else:
            entry.followers.remove(job)
            self._followers -= 1
        error = JobCancelledError("the job was cancelled before it ended")
        self._engine.deliver(job, self._ended(job, "cancelled", self._engine.now(), error=error))
        self._moved()
        return True

    def prioritise(self, job: Job[Any], priority: float) -> bool:
        """Give a job that is here and has not run another priority; False if it is not here."""
        if job not in self._by_job or job._status != NEW:
            return False
        job.priority = priority
        return True

    def _succeed(self, entry: Entry) -> None:
        """Let another job lead, as the one that did was cancelled."""
        if not entry.followers:
            del self._entries[entry.key]
            self._asked -= entry.where == ASKING
            return
        self._followers -= 1
        entry.job = entry.followers.pop(0)
        if entry.where == WITH_DISPATCHER:
            self._offer(entry, self._engine.now())

    # --- the end ---------------------------------------------------------------------------

    async def close(self) -> None:
        """Wait until all is committed and handed over, and close the journal; may be called again."""
        while self.broken is None and (self._asking or self._keeping):
            # Each deed goes in its order, so these come back behind what is under way.
            await self._desk.ask("keep", [])
            await self._desk.ask("look", [])
        await self._courier.aclose()


def _heed(_call: Call) -> None:
    """Go on: if that failed, so does the next look."""


_NO_WAITS: Final[dict[str, float]] = {}


def _written(error: BaseException) -> bytes:
    """Return what is recorded of an error."""
    try:
        message = str(error)[:LONGEST_MESSAGE]
    except Exception as problem:  # noqa: BLE001 - the user's code may raise anything
        message = f"its str raised {type(problem).__name__}"
    return json.dumps({"type": type(error).__name__, "message": message}).encode()
