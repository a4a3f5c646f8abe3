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

from typing import TYPE_CHECKING, Any, Final, cast

from qanat._core.branch import FamilyJob
from qanat._core.content_key import given_key
from qanat._core.job import ENDED, NEW, WAITING, Job
from qanat._core.kept import (
    ASKING,
    DONE,
    FAILED,
    KEEPING,
    WITH_DISPATCHER,
    Entry,
    Kept,
    failed_instead,
    written,
)  # fmt: skip
from qanat._core.outcome import Outcome
from qanat._engine.bell import Bell
from qanat._engine.commits import Commits, Endings
from qanat._engine.under_way import UnderWay
from qanat.errors import JobCancelledError, SerialisationError, blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qanat._core.branch import Branch
    from qanat._core.kept import Codec, Key, Reader, Trees
    from qanat._core.outcome import State
    from qanat._engine.courier import Call, Courier, Desk
    from qanat._engine.engine import Engine

AT_ONCE: Final = 2048
"""Jobs that are looked up in one go."""
MOST_FAILURES: Final = 10_000
"""Failures that are remembered for items that are equal and come later; the oldest are forgotten."""


class LeftOutError(JobCancelledError):
    """Say that a job was not run, as it had not failed before."""


class Keeper:
    """Keep an engine's jobs in a journal.

    Args:
        engine: Who runs the jobs.
        courier: Carries to the journal, and is closed with the keeper.
        key_of: Gives the key of an item; what it raises fails that job.
        codec: Writes and reads the handler's values.
        add_keys: Adds the keys of several items to a list, up to one for which it raises; None calls
            `key_of` for each.
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
        add_keys: Callable[[Iterable[Any], list[Key]], object] | None = None,
        retry_failed: bool = False, fresh: bool = False,
    ) -> None:  # fmt: skip
        """Begin with nothing; `open` begins the work."""
        self._engine = engine
        self._courier = courier
        self._desk: Desk
        self._key_of = key_of
        self._add_keys = add_keys or self._add_each_key
        self._codec = codec
        self._retry_failed = retry_failed
        self._fresh = fresh
        self._here = UnderWay()
        self._entries, self._by_job = self._here.entries, self._here.by_job
        self._to_ask: list[Key] = []
        self._askers: list[Job[Any]] = []
        self._commits = Commits(engine, hand_over=self._hand_over, broke=self._break, moved=self._moved)
        self._failures: dict[Key, Outcome[Any, Any]] = {}
        self._forgotten: set[str] = set()
        self._asking = False
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
        self._desk = self._commits.desk = self._courier.desk()
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
        return self._asked + self._followers + self._commits.number

    def holds(self, job: Job[Any]) -> bool:
        """Whether a job is here, or came by way of here and has not ended."""
        return job in self._by_job

    def under_way(self) -> list[tuple[Key, Job[Any]]]:
        """Return the keys that are under way, each with the job that leads; from any thread."""
        return self._here.leaders()

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
        if self._to_ask and not self._asking:
            self._ask()

    def arrived_all(self, jobs: list[Job[Any]], now: float) -> None:
        """Take new jobs in, as `arrived` does; they are roots with `offered_at` set to now."""
        while jobs:
            keys: list[Key] = []
            try:
                self._add_keys([job.item for job in jobs], keys)
            except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
                self._refuse(jobs[len(keys)], error, now)
            self._take_all(jobs[: len(keys)], keys, now)
            jobs = jobs[len(keys) + 1 :]
        if self._to_ask and not self._asking:
            self._ask()

    def _add_each_key(self, items: Iterable[Any], keys: list[Key]) -> None:
        for item in items:
            keys.append(self._key_of(item))  # noqa: PERF401 - of those before one that fails, too

    def _take_all(self, jobs: list[Job[Any]], keys: list[Key], now: float) -> None:
        """Let new roots be looked up; as plain jobs if nobody has the key of any."""
        failures = self._failures
        if (
            self.when_arrived is None
            and (not failures or failures.keys().isdisjoint(keys))
            and self._here.add_plain(jobs, keys)
        ):
            self._asked += len(jobs)
            self._to_ask += keys
            self._askers += jobs
        else:
            for job, key in zip(jobs, keys, strict=True):
                self._take(job, key, now, 0.0)

    def _refuse(self, job: Job[Any], error: BaseException, now: float) -> None:
        """End a job of whose key nothing is known but what the asking raised."""
        self._engine.dispatcher.refuse(job, blamed_on_job(error), now)
        self._engine.offered()

    def _take(self, job: Job[Any], key: Key, now: float, delay: float) -> None:
        """Let a job be looked up, follow another one, or share its failure."""
        if key in self._entries:
            entry = self._here.entry_at(key)
            entry.followers.append(job)
            self._by_job[job] = entry
            self._followers += 1
            return
        failure = self._failures.get(key)
        if failure is not None:
            self._share(job, failure)
            self._engine.offered()
            return
        entry = self._here.add(key, job, delay, now)
        if job.parent is not None:
            self._inherit(entry, job)
        elif self.when_arrived is not None:
            self.when_arrived(key, job)
        self._asked += 1
        self._to_ask.append(key)
        self._askers.append(job)

    def _inherit(self, entry: Entry, job: Job[Any]) -> None:
        """Note of a job that was spawned what follows from who did, and from its handler."""
        above = job._above.job if type(job) is FamilyJob and job._above is not None else None
        parent = None if above is None else self._by_job.get(above)
        entry.opens = type(parent) is Entry and parent.opens
        if self._fresh and isinstance(entry.key, tuple) and entry.key[0] not in self._forgotten:
            name = entry.key[0]
            self._forgotten.add(name)
            self._desk.send("forget", [name], _heed)

    async def wait_answered(self) -> None:
        """Wait until no job is being looked up."""
        while self._asked and self.broken is None:
            await self._answered.wait()

    def _ask(self) -> None:
        keys, self._to_ask = self._to_ask[:AT_ONCE], self._to_ask[AT_ONCE:]
        jobs, self._askers = self._askers[:AT_ONCE], self._askers[AT_ONCE:]
        self._asking = True
        self._desk.send("look", keys, lambda call: self._heard(call, keys, jobs))

    def _heard(self, call: Call, keys: list[Key], jobs: list[Job[Any]]) -> None:
        """Hear what is kept of jobs that were asked about."""
        if call.error is not None:
            self._break(call.error)
        answers: list[Kept | None] = call.answers or [None] * len(keys)
        now = self._engine.now()
        entries = self._entries
        if not self._retry_failed and not any(answers) and list(map(entries.get, keys)) == jobs:
            self._asked -= len(jobs)
            self._offer_all(jobs, now)
        else:
            self._heard_each(keys, jobs, answers, now)
        # Not before: what recalled jobs had spawned is looked up in one go.
        self._asking = False
        if self._to_ask:
            self._ask()
        elif not self._asked:
            self._answered.ring()
        self._moved()

    def _heard_each(
        self, keys: list[Key], jobs: list[Job[Any]], answers: list[Kept | None], now: float
    ) -> None:
        """Hear of each job by itself what is kept of it."""
        new: list[Job[Any]] = []
        recalled: list[tuple[Job[Any], Kept]] = []
        simply = not self._retry_failed and self._engine.dispatcher.family is None
        for key, job, kept in zip(keys, jobs, answers, strict=True):
            found = self._entries.get(key)
            if found is job and simply and (kept is None or (kept.state == DONE and kept.spawned is None)):
                self._asked -= 1
                if kept is None:
                    new.append(job)
                else:
                    recalled.append((job, kept))
                continue
            if found is None:
                continue  # all of its jobs were cancelled meanwhile
            entry = self._here.entry_at(key)
            if entry.began is not job:
                continue  # likewise, and others have come
            self._asked -= 1
            # Before others hear of it, who may cancel one of these.
            self._offer_all(new, now)
            self._recall(recalled, now)
            new, recalled = [], []
            self._go_on(entry, kept, now)
        self._offer_all(new, now)
        self._recall(recalled, now)

    def _recall(self, recalled: list[tuple[Job[Any], Kept]], now: float) -> None:
        """End plain jobs that are done with the values that are kept."""
        if not recalled:
            return
        decode = self._codec.decode
        jobs: list[Job[Any]] = []
        outcomes: list[Outcome[Any, Any]] = []
        failed: list[tuple[Entry, SerialisationError]] = []
        for job, kept in recalled:
            try:
                value = decode(kept.value)
            except SerialisationError as error:
                failed.append((self._here.entry_at(cast("Key", self._by_job[job])), error))
                continue
            del self._entries[cast("Key", self._by_job.pop(job))]
            job._status = ENDED
            outcome: Outcome[Any, Any] = Outcome(
                job.id, job.index, job.item, value, None, "done", kept.attempts, job.lane, job.metadata,
                job.parent, now, None, now, kept.ran, _NO_WAITS,
            )  # fmt: skip
            outcomes.append(outcome)
            jobs.append(job)
        self.recalled += len(jobs)
        self._engine.dispatcher.done += len(jobs)
        self._deliver_all(jobs, outcomes)
        for entry, problem in failed:
            self._leave(entry, self._ended(entry.job, "dead", now, error=problem))

    def _deliver_all(self, jobs: list[Job[Any]], outcomes: list[Outcome[Any, Any]]) -> None:
        """Hand over the outcomes of plain jobs that are done, and of which no entry is left."""
        engine = self._engine
        if engine.extend is not None and self.when_arrived is None:
            engine.extend(outcomes)
        else:
            for job, outcome in zip(jobs, outcomes, strict=True):
                engine.deliver(job, outcome)

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
        """Let plain jobs run, which are of one task."""
        if not jobs:
            return
        for job in jobs:
            job.offered_at = now
            job._status = WAITING
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
        entry = self._here.entry_of(job)
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

    def settle(self, job: Job[Any], outcome: Outcome[Any, Any]) -> None:
        """Take the outcome of a job that ended, and hand it over once it is recorded, if it is kept."""
        found = self._by_job.get(job)
        if found is None:
            self._engine.deliver(job, outcome)
            return
        if type(found) is not Entry and outcome.error is None:
            try:
                content = self._codec.encode(outcome.value)
            except SerialisationError:
                pass  # told below
            else:
                self._kept_one = True
                del self._by_job[job]
                self._commits.add_plain(job, cast("Key", found), outcome, content)
                return
        entry = self._here.entry_at(cast("Key", found)) if type(found) is not Entry else found
        del self._by_job[job]
        if not self._keeps(entry, job, outcome):
            self._engine.deliver(job, outcome)

    def _keeps(self, entry: Entry, job: Job[Any], outcome: Outcome[Any, Any]) -> bool:
        """Take the outcome of a job that ended, to hand it over later; False if it is not kept."""
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
            state, content, spawned = FAILED, written(outcome.error), None
        assert content is not None  # noqa: S101 - or it failed
        entry.where = KEEPING
        entry.job = job
        self._commits.add(entry, outcome, content, (state, spawned, entry.row))
        if entry.stops is not None:
            self._engine.cancel(entry.stops)
        return True

    def _refused(self, outcome: Outcome[Any, Any], error: SerialisationError) -> Outcome[Any, Any]:
        """Return the outcome of a job that is done, with a value that cannot be kept."""
        dispatcher = self._engine.dispatcher
        dispatcher.done -= 1
        dispatcher.failed += 1
        return failed_instead(outcome, error)

    def _hand_over(self, endings: Endings) -> None:
        """Hand over outcomes that are committed, or never will be."""
        entries = self._entries
        leaders, outcomes = endings.leaders, endings.outcomes
        keys = endings.keys
        if not endings.others and list(map(entries.get, keys)) == leaders:
            for key in keys:
                del entries[key]
            self._deliver_all(cast("list[Job[Any]]", leaders), outcomes)
        else:
            for key, outcome in zip(keys, outcomes, strict=True):
                self._leave(self._here.entry_at(key), outcome)

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
        self._commits.broken = True
        self._engine.cancel(error)

    # --- single jobs -----------------------------------------------------------------------

    def leader_of(self, job: Job[Any]) -> Job[Any] | None:
        """Return the job that the dispatcher has for this one; None if the journal is at it."""
        entry = self._here.entry_of(job)
        if entry is None:
            return job if job._status != ENDED else None
        return entry.job if entry.where == WITH_DISPATCHER else None

    def cancel(self, job: Job[Any]) -> bool:
        """Cancel a job that is here and has not run; False if it is not, or has."""
        entry = self._here.entry_of(job)
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
        while self.broken is None and (self._asking or self._commits.under_way):
            # Each deed goes in its order, so these come back behind what is under way.
            await self._desk.ask("keep", [])
            await self._desk.ask("look", [])
        await self._courier.aclose()


def _heed(_call: Call) -> None:
    """Go on: if that failed, so does the next look."""


_NO_WAITS: Final[dict[str, float]] = {}
