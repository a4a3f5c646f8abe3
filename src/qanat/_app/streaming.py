"""Outcomes as they complete: `stream`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from qanat._app.failures import FailureLimit, problem_of
from qanat._app.handlers import name_of, size_of
from qanat._app.hosting import hosted, make_engine, make_intake
from qanat._app.task_host import TaskHost
from qanat._engine.bell import Bell
from qanat._engine.intake import nothing_unread

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable
    from types import TracebackType

    from qanat._app.rules import Rules
    from qanat._core.outcome import Outcome
    from qanat._engine.engine import Engine
    from qanat._engine.intake import Intake

T = TypeVar("T")
R = TypeVar("R")


class OutcomeStream(Generic[T, R]):
    """The outcomes of a run, to be read with `async for` inside its `async with`."""

    def __init__(
        self,
        handler: Callable[..., Any],
        items: Iterable[Any] | AsyncIterable[Any],
        rules: Rules,
        *,
        ordered: bool,
        only_failed: bool = False,
    ) -> None:
        """Keep what was asked for; nothing runs before the block is entered."""
        self._handler = handler
        self._items = items
        self._rules = rules
        self._ordered = ordered
        self._only_failed = only_failed
        self._ready: deque[Outcome[T, R]] = deque()
        # Ordered: outcomes that came before their turn, by position.
        self._early: dict[int, Outcome[T, R]] = {}
        self._turn = 0
        self._bell: Bell
        self._failures = FailureLimit(rules.max_failures)
        self._engine: Engine | None = None
        self._intake: Intake | None = None
        self._host: TaskHost | None = None
        self._entered = False
        self._closed = False
        self._raised = False

    async def __aenter__(self) -> Self:
        """Begin the run."""
        if self._entered:
            raise RuntimeError("a stream can be entered once: call qanat.stream again for another run")
        self._entered = True
        rules = self._rules
        engine = self._engine = make_engine(
            rules, append=self._way_in(), on_failure=None if rules.max_failures is None else self._judge,
            handler=self._handler, name="stream",
        )  # fmt: skip
        self._bell = Bell(engine.loop)
        engine.wants_done = engine.append is None or not self._only_failed
        # Failures that nobody reads hold up what is started, but few are counted for every item.
        unread = nothing_unread if self._only_failed else self._unread
        self._intake = make_intake(engine, self._handler, self._items, rules, unread=unread)
        self._intake.is_held = not self._ordered and rules.journal is None
        if rules.batch is not None:
            engine.is_full = self._is_stuck
        engine.when_over(self._bell.ring)
        host = hosted(
            engine, progress=rules.progress or False, title=name_of(self._handler), total=size_of(self._items)
        )
        # In a task of its own, so that an async generator around the block may be closed by another task
        # than the one that began it, as the event loop does with one that was left.
        self._host = TaskHost(host, engine)
        await self._host.__aenter__()
        engine.read(self._intake)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Cancel what is left and wait until nothing runs."""
        assert self._host is not None  # noqa: S101 - entered
        self._closed = True
        self._host.leave()
        await self._host.__aexit__(kind, error, trace)
        return None

    def __aiter__(self) -> Self:
        """Return itself: there is one pass over the outcomes."""
        return self

    async def __anext__(self) -> Outcome[T, R]:
        """Return the next outcome, waiting for it.

        Raises:
            StopAsyncIteration: If all were read.
            BaseException: What the source of items raised, or what stopped the run, once.
        """
        engine = self._engine
        if engine is None:
            raise RuntimeError("enter the stream first: async with qanat.stream(...) as outcomes")
        while not self._ready:
            if engine.over or self._closed:
                self._finish()
            await self._bell.wait()
        ready, source = self._ready, engine.source
        outcome = ready.popleft()
        if engine.held:
            if len(ready) < self._rules.buffer:
                engine.hold(False)
        elif source is not None and (engine.idle or source.is_async) and len(ready) * 2 <= self._rules.buffer:
            engine.refill_soon()
        return outcome

    def _finish(self) -> None:
        engine, intake = self._engine, self._intake
        assert engine is not None  # noqa: S101 - entered
        assert intake is not None  # noqa: S101 - entered
        if self._raised or self._closed or (problem := problem_of(engine, intake)) is None:
            raise StopAsyncIteration
        self._raised = True
        raise problem

    def _way_in(self) -> Callable[[Outcome[Any, Any]], None]:
        """Return what is to be called with each outcome."""
        if self._ordered:
            return self._put_in_turn
        return self._put_failed if self._only_failed else self._put

    def _put(self, outcome: Outcome[Any, Any]) -> None:
        """Let the reader have an outcome; stop starting jobs when it is behind."""
        ready = self._ready
        ready.append(outcome)
        if self._bell.spots:
            self._bell.ring()
        if len(ready) >= self._rules.buffer:
            self._hold()

    def _put_failed(self, outcome: Outcome[Any, Any]) -> None:
        """Let the reader have an outcome if the job is not done."""
        if outcome.state != "done":
            self._put(outcome)

    def _put_in_turn(self, outcome: Outcome[Any, Any]) -> None:
        """Let the reader have an outcome when its turn has come."""
        if outcome.parent is not None:
            self._put(outcome)
        elif outcome.index != self._turn:
            self._early[outcome.index] = outcome
        else:
            following: Outcome[Any, Any] | None = outcome
            while following is not None:
                self._put(following)
                self._turn += 1
                following = self._early.pop(self._turn, None)

    def _hold(self) -> None:
        if self._engine is not None:
            self._engine.hold(True)

    def _judge(self, outcome: Outcome[Any, Any]) -> None:
        engine = self._engine
        assert engine is not None  # noqa: S101 - entered
        self._failures.judge(engine)

    def _is_stuck(self) -> bool:
        """Whether no more items can be read although the reader has read all that it can."""
        assert self._intake is not None  # noqa: S101 - entered
        return not self._ready and self._intake.is_full()

    def _unread(self) -> int:
        return len(self._ready) + len(self._early)
