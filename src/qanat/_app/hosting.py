"""An engine in its task group, and what comes out of the group as one plain error."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio

from qanat._app import waiting
from qanat._app.handler_names import handler_name
from qanat._app.handlers import name_of, size_of
from qanat._app.journaling import ValueCodec, make_keeper
from qanat._app.observing import observe_function
from qanat._app.recording import recorded
from qanat._app.spawning import Spawner
from qanat._core.job import Job
from qanat._core.retry import Retry
from qanat._engine.callee import InBatches, InProcess, InThread, callee_of
from qanat._engine.clock import clock_in_use
from qanat._engine.engine import Engine
from qanat._engine.intake import Callbacks, Intake
from qanat._engine.kept_intake import KeptIntake

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable

    from rich.console import Console

    from qanat._app.rules import Rules
    from qanat._app.stopping import Stopping
    from qanat._core.job import Task
    from qanat._core.limit import Limit
    from qanat._core.outcome import Outcome
    from qanat._engine.keeper import Keeper


def make_engine(
    rules: Rules,
    *,
    limits: tuple[Limit, ...] | None = None,
    append: Callable[[Outcome[Any, Any]], None] | None = None,
    on_outcome: Callable[[Job[Any], Outcome[Any, Any]], None] | None = None,
    on_failure: Callable[[Outcome[Any, Any]], None] | None = None,
    on_release: Callable[[], object] | None = None,
    handler: Callable[..., Any] | None = None,
    name: str,
) -> Engine:
    """Return an engine for these rules, in the running event loop; the handler says where it works."""
    clock = clock_in_use()
    seed, make_dispatcher = recorded(rules, name, seed=clock.seed, now=clock.now())
    if append is not None and rules.journal is not None:
        # Nobody hands an outcome over past the keeper.
        on_outcome, append = _appending(append), None
    engine = Engine(
        clock=clock,
        rng=random.Random(seed),
        make_dispatcher=make_dispatcher,
        capacity=rules.capacity,
        limits=rules.all_limits if limits is None else limits,
        observe=observe_function(rules.all_observers),
        append=append,
        on_outcome=on_outcome,
        on_failure=on_failure,
        on_release=on_release,
        start_within=rules.start_within,
        on_loop=handler is None or not isinstance(callee_of(handler, rules.executor), InThread | InProcess),
        name=name,
    )
    engine.spawner = Spawner(engine, rules)
    if rules.key is not None:
        engine.spawner.begin()
    if rules.journal is not None and handler is not None:
        codec = ValueCodec(handler, batch=rules.batch is not None)
        name = handler_name(handler, rules.version)
        engine.keeper = make_keeper(engine, rules, name, codec, handler=handler)
    return engine


def _appending(
    append: Callable[[Outcome[Any, Any]], None],
) -> Callable[[Job[Any], Outcome[Any, Any]], None]:
    def deliver(job: Job[Any], outcome: Outcome[Any, Any]) -> None:
        append(outcome)
        if type(job) is Job and job._waiter is not outcome:
            # A root whose handle a job has, as it spawned what has the same content.
            waiting.ended(job, outcome)

    return deliver


def add_task(engine: Engine, handler: Callable[..., Any], rules: Rules) -> Task:
    """Add a handler with its rules to an engine."""
    callee = callee_of(handler, rules.executor)
    if rules.batch is not None:
        callee = InBatches(callee)
    callee.prepare(engine.outside)
    task = engine.dispatcher.add_task(
        name_of(handler),
        callee,
        make_order=rules.make_order,
        retry=Retry.of(rules.retry),
        timeout=rules.timeout,
        state=rules.state,
        lane_limits=rules.lane_limits,
        weights=rules.weight_of,
        uses_lanes=rules.lane is not None,
        batch=rules.batch,
    )
    spawner: Spawner | None = getattr(engine, "spawner", None)  # a simulation has none
    return task if spawner is None else spawner.serve(handler, task)


def make_intake(
    engine: Engine,
    handler: Callable[..., Any],
    items: Iterable[Any] | AsyncIterable[Any],
    rules: Rules,
    *,
    unread: Callable[[], int],
) -> Intake:
    """Add a handler to an engine and return where its jobs come from; nothing is read yet."""
    task = add_task(engine, handler, rules)
    make = Intake if rules.journal is None else partial(KeptIntake, keeper=cast("Keeper", engine.keeper))
    intake = make(
        items,
        engine,
        task,
        callbacks=Callbacks(
            rules.lane,
            rules.priority,
            rules.id,
            cost=rules.cost,
            deadline=rules.deadline,
            key=rules.key,
        ),
        buffer=rules.buffer,
        chooses=rules.chooses,
        unread=unread,
        gathers=0 if rules.batch is None else rules.batch.size,
    )
    if rules.batch is not None:
        engine.is_full = intake.is_full
    if (spawner := getattr(engine, "spawner", None)) is not None:
        size = size_of(items) or 0
        spawner.count_roots = lambda: max(size, intake.count)
    return intake


def hosted(
    engine: Engine,
    *,
    progress: bool | Console | None = False,
    title: str = "",
    total: int | None = None,
    stopping: Stopping | None = None,
    stop: Callable[[], object] | None = None,
) -> AbstractAsyncContextManager[None]:
    """Host an engine, and show how it goes if that is wanted.

    Args:
        engine: The engine.
        progress: Whether to show it, or a rich console to show it on; None is on a terminal.
        title: What the run is called.
        total: How many jobs there will be, if that is known.
        stopping: Given, its signals stop the run.
        stop: What the first signal calls; None is the engine's own `stop`.
    """
    if progress is False:
        return _hosted(engine) if stopping is None else _stoppable(engine, stopping, stop=stop)
    return _watched(engine, progress, title, total, stopping, stop)


@asynccontextmanager
async def _watched(
    engine: Engine, progress: bool | Console | None, title: str, total: int | None,
    stopping: Stopping | None, stop: Callable[[], object] | None,
) -> AsyncGenerator[None]:  # fmt: skip
    # Imported here: most runs show nothing.
    from qanat._app.progress.view import Progress

    view = Progress(title, shown=progress, total=total)
    engine.when_failed(view.failed)
    view.stopping = stopping
    if stopping is not None:
        stopping.last_words = view.last_words
    host = _hosted(engine) if stopping is None else _stoppable(engine, stopping, view.say_stopping, stop)
    async with view.shown(engine), host:
        yield


@asynccontextmanager
async def _stoppable(
    engine: Engine, stopping: Stopping, say: Callable[[], object] | None = None,
    stop: Callable[[], object] | None = None,
) -> AsyncGenerator[None]:  # fmt: skip
    """Host an engine that signals stop."""

    def begin_stop() -> None:
        if say is not None and not engine.over:
            say()
        (stop or engine.stop)()

    async with _hosted(engine):
        with stopping.reach(engine.loop.call_soon_threadsafe, stop=begin_stop, cancel=engine.cancel):
            yield


@asynccontextmanager
async def _hosted(engine: Engine) -> AsyncGenerator[None]:
    """Host an engine: when the block is left, nothing of it runs any more.

    What the block raises comes out as it is, never in an exception group. A block that is left
    early cancels what is left.
    """
    problem: BaseException | None = None
    try:
        if engine.keeper is not None:
            await engine.keeper.open()
        async with anyio.create_task_group() as group:
            engine.open(group)
            try:
                yield
            except BaseException as error:
                problem = error
                raise
            finally:
                if not engine.over:
                    engine.cancel()
                group.cancel_scope.cancel()
    except BaseExceptionGroup as errors:
        if problem is None or isinstance(problem, engine.cancellation):
            problem = sole(errors)
    finally:
        await engine.close()
    if problem is not None:
        # Raised here, where no group is being handled that would become its context. A cancellation
        # too: the group has taken it for its own.
        try:
            raise problem
        finally:
            del problem


def sole(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error that matters in a group: an interrupt before others, the first of those."""
    leaves: list[BaseException] = []
    todo: list[BaseException] = [errors]
    while todo:
        error = todo.pop(0)
        if isinstance(error, BaseExceptionGroup):
            todo[:0] = cast("BaseExceptionGroup[BaseException]", error).exceptions
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if not isinstance(leaf, Exception)), leaves[0])
