"""A `qanat map` while it runs: records in, lines out, on the same engine as everything else."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from qanat._app.failures import FailureLimit
from qanat._app.hosting import add_task, hosted, make_engine
from qanat._app.journaling import TextCodec, make_keeper
from qanat._app.progress.view import Progress
from qanat._app.rules import Rules
from qanat._app.stopping import Stopping
from qanat._cli.completing import Completion
from qanat._cli.feeding import Feed
from qanat._cli.map_rules import Fields
from qanat._cli.reading import Record
from qanat._cli.results import AsyncCall, PlainCall, checked, line_of, written
from qanat._cli.sources import Source, records
from qanat._cli.writing import InOrder, Output, ThreadedOutput
from qanat._core.job import Job
from qanat._core.outcome import Outcome
from qanat._engine.callee import is_coroutine_function
from qanat._engine.engine import Engine
from qanat._engine.intake import Callbacks, Intake
from qanat._engine.keeper import LeftOutError
from qanat._engine.kept_intake import KeptIntake

FLUSHES = 0.2
"""Seconds between two looks whether somebody wants to go, while a slow reader takes the last lines."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is to do.

    Attributes:
        handler: What is called with each record.
        sources: The inputs.
        rules: The rules.
        named: The fields whose values are a record's lane, priority and deadline.
        keep_order: Whether lines come in the order of the input.
        name: By what a journal knows the handler.
        fresh: Whether a journal forgets first what was done.
    """

    handler: Callable[[Record], Any]
    sources: list[Source]
    rules: Rules
    named: Fields = field(default_factory=Fields)
    keep_order: bool = False
    name: str = ""
    fresh: bool = False

    @property
    def version(self) -> str:
        """The handler's version, for a journal."""
        return "" if self.rules.version is None else str(self.rules.version)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that a csv has to have."""
        return self.named.named


@dataclass(slots=True)
class Result:
    """How a run ended.

    Attributes:
        failed: How many jobs failed.
        dropped: How many records were read whose jobs never started.
        cut: How many jobs were cancelled while they ran.
        again: How many were dropped that had run and waited for another attempt.
        waits: Seconds by cause that all these had waited.
        first_left: The first record whose job never started, or was cut or dropped, and its position.
        last_read: The last record that was read.
        read_all: Whether the input was read to its end.
        failure: What ended the run early.
        error: What is wrong with the input.
        flushed: Whether all lines were taken.
        unwritten: Lines, also several at once, that the output did not take.
    """

    failed: int = 0
    dropped: int = 0
    cut: int = 0
    again: int = 0
    waits: dict[str, float] = field(default_factory=dict[str, float])
    first_left: tuple[int, Record] | None = None
    last_read: Record | None = None
    read_all: bool = False
    failure: BaseException | None = None
    error: BaseException | None = None
    flushed: bool = True
    unwritten: list[bytes] = field(default_factory=list[bytes])

    @property
    def is_whole(self) -> bool:
        """Whether all of the input was read and every item has its line."""
        left = self.dropped or self.cut or self.again or self.unwritten or not self.flushed
        return self.read_all and self.error is None and self.failure is None and not left


class MapRun:
    """One run; `run` is called once, in an event loop."""

    def __init__(
        self, plan: Plan, output: Output, progress: Progress, stopping: Stopping,
        completion: Completion | None = None,
    ) -> None:  # fmt: skip
        """Keep what belongs together."""
        self._completion = completion
        self._plan = plan
        self._output = output
        self._progress = progress
        self._stopping = stopping
        self._failures = FailureLimit(plan.rules.max_failures)
        self._feed: Feed | None = None
        self._threaded: ThreadedOutput | None = None
        self._write: Callable[[bytes], object] = self._write_now
        self._in_order: InOrder | None = None
        self._full = False
        self._stopped = False
        self._engine: Engine
        self.result = Result()

    async def run(self) -> None:
        """Run until all is done, or something ends it early; `result` says which."""
        plan, progress = self._plan, self._progress
        engine = self._engine = make_engine(
            plan.rules, on_outcome=self._ended, on_failure=self._failed, name="map"
        )  # fmt: skip
        task = add_task(engine, plan.handler, plan.rules)
        spawner = engine.spawner
        spawner.stages.dress, spawner.seal = dressed, _sealed
        if not self._output.is_regular:
            self._threaded = ThreadedOutput(self._output, self._wrote)
            self._write = self._threaded.write
        if plan.keep_order:
            self._in_order = InOrder(self._write)
        make: Callable[..., Intake] = Intake
        if plan.rules.journal is not None:
            engine.keeper = make_keeper(
                engine, plan.rules, plan.name, TextCodec(),
                handler=getattr(plan.handler, "function", plan.handler),
                item_of=lambda record: record.value, fresh=plan.fresh,
            )  # fmt: skip
            make = partial(KeptIntake, keeper=engine.keeper)
        intake = make(
            self._items(), engine, task,
            callbacks=Callbacks(
                None if plan.named.lane is None else self._lane_of,
                None if plan.named.priority is None else self._priority_of,
                self._id_of,
                deadline=None if plan.named.deadline is None else self._deadline_of,
            ),
            buffer=plan.rules.buffer, chooses=plan.rules.chooses or plan.named.lane is not None,
            unread=self._unread,
        )  # fmt: skip
        spawner.count_roots = lambda: intake.count
        result = self.result
        stopping = self._stopping
        progress.stopping = stopping
        try:
            with (
                progress.watch(engine),
                stopping.reach(engine.loop.call_soon_threadsafe, stop=self._stop, cancel=self._cancel),
            ):
                async with hosted(engine):
                    engine.read(intake)
                    await engine.wait_over()
                    if self._feed is not None:
                        self._feed.close()
                self._finish_output()
        finally:
            if self._feed is not None:
                self._feed.close()
        result.failed = engine.dispatcher.failed
        result.failure = engine.failure
        result.error = intake.error
        result.read_all = not self._stopped

    # --- records in ------------------------------------------------------------------------

    def _items(self) -> Iterable[Record] | AsyncIterable[Record]:
        plan = self._plan
        if all(source.size is not None for source in plan.sources):
            return records(plan.sources, plan.fields)
        self._feed = Feed(lambda watch: records(plan.sources, plan.fields, watch), self._engine.loop)
        return self._feed

    def _id_of(self, record: Record) -> int | str:
        self.result.last_read = record
        return record.id

    def _lane_of(self, record: Record) -> Any:
        return _field(record, self._plan.named.lane)

    def _priority_of(self, record: Record) -> float:
        """Return a record's priority; one that is no number fails its job, not the run."""
        return _number(record, self._plan.named.priority)

    def _deadline_of(self, record: Record) -> float:
        """Return the seconds until a record is due; what is no number fails its job, not the run."""
        return _number(record, self._plan.named.deadline)

    # --- lines out -------------------------------------------------------------------------

    def _ended(self, job: Job[Record], outcome: Outcome[Record, str]) -> None:
        """Write the line of a job that ended by itself; count one that did not."""
        line: bytes | None = None
        if isinstance(outcome.error, LeftOutError):
            pass  # as it was asked for
        elif outcome.state == "cancelled":
            self._left(job, outcome)
        elif not self._is_there(outcome):
            line = line_of(outcome)
        if self._in_order is not None and outcome.parent is None:
            self._in_order.put(outcome.index, line)
        elif line is not None:
            self._write(line)
        if self._threaded is not None and not self._full and len(self._threaded) >= self._plan.rules.buffer:
            self._full = True
            self._engine.hold(True)

    def _is_there(self, outcome: Outcome[Any, Any]) -> bool:
        """Whether an output that is completed has a job's line already."""
        completion = self._completion
        if completion is None:
            return False
        if outcome.parent is not None:
            return completion.has_spawned(outcome.id, outcome.item, ok=outcome.ok)
        return completion.has(outcome.item, ok=outcome.ok)

    def _left(self, job: Job[Record], outcome: Outcome[Record, str]) -> None:
        result = self.result
        if outcome.started_at is None:
            result.dropped += 1
        elif outcome.attempts < job.attempt:  # the attempt that it waited for never began
            result.again += 1
        else:
            result.cut += 1
        for cause, seconds in outcome.waits.items():
            result.waits[cause] = result.waits.get(cause, 0.0) + seconds
        if outcome.parent is None and (result.first_left is None or outcome.index < result.first_left[0]):
            result.first_left = (outcome.index, outcome.item)

    def _write_now(self, line: bytes) -> None:
        self._output.write(line)
        if self._output.problem is not None:
            self._broke()

    def _wrote(self) -> None:
        """Hear, in the output's thread, that lines were written."""
        threaded, output = self._threaded, self._output
        assert threaded is not None  # noqa: S101 - it is what calls
        try:
            if output.problem is not None:
                self._engine.loop.call_soon_threadsafe(self._broke)
            elif self._full and len(threaded) * 2 <= self._plan.rules.buffer:
                self._engine.loop.call_soon_threadsafe(self._drained)
        except RuntimeError:
            pass  # the loop has ended

    def _drained(self) -> None:
        if self._full:
            self._full = False
            self._engine.hold(False)
            self._engine.refill_soon()

    def _broke(self) -> None:
        """Start nothing more: there is nowhere to write to."""
        if self.result.flushed:
            self.result.flushed = False
            self._full = False
            self._engine.hold(False)
            self._stop_reading()
            self._engine.stop()

    def _unread(self) -> int:
        early = 0 if self._in_order is None else len(self._in_order)
        return early + (0 if self._threaded is None else len(self._threaded))

    def _finish_output(self) -> None:
        if self._in_order is not None:
            self._in_order.flush()
        if self._threaded is not None:
            while not self._threaded.finish(FLUSHES):
                if self._stopping.times > 1:
                    break
            self.result.unwritten = self._threaded.unwritten()
        self._output.try_again()
        self.result.unwritten += self._output.unwritten

    # --- the end, and early ends -----------------------------------------------------------

    def _failed(self, outcome: Outcome[Any, Any]) -> None:
        self._progress.failed(outcome)
        problem = self._failures.exceeded_by(self._engine.dispatcher)
        if problem is not None:
            self._stop_reading()
            self._engine.cancel(problem)

    def _stop(self) -> None:
        self._stop_reading()
        self._progress.say_stopping(always=True)
        self._engine.stop()

    def last_words(self) -> str:
        """Say, between any two instructions, how it stands where the process ends at once."""
        unwritten = self._unread() + len(self._output.unwritten)
        what = "results were lost" if unwritten else "what ended has its line in the output"
        return f"ended at once; {what}"

    def _cancel(self) -> None:
        self._progress.say_stopping(always=True)
        self._engine.cancel()

    def _stop_reading(self) -> None:
        """Read no more; what was not read is left for another time."""
        self._stopped = self._stopped or self._engine.source is not None
        if self._feed is not None:
            self._feed.close()


def dressed(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler of spawned jobs, whose values are to have a form in JSON."""
    return AsyncCall(handler) if is_coroutine_function(handler) else PlainCall(handler)


def _sealed(job: Job[Any], value: Any) -> Any:
    """Return what a callback gave in the place of its job's value, which for a record is JSON."""
    return written(value) if job.parent is None else checked(value)


def _field(record: Record, name: str | None) -> Any:
    value = record.value
    return cast("dict[str, Any]", value).get(name or "") if isinstance(value, dict) else None


def _number(record: Record, name: str | None) -> float:
    value = _field(record, name)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the field {name!r} must be a number, got {value!r}") from None
