"""A function over items: `map`, `collect`, `stream`."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast, overload

from qanat._app.failures import FailureLimit, problem_of, raisable, with_outcomes
from qanat._app.handler_names import handler_name
from qanat._app.handlers import check_handler, check_items, name_of, size_of
from qanat._app.hosting import hosted, make_engine, make_intake
from qanat._app.journaling import check_journal
from qanat._app.outcomes import Outcomes, put_families_in_order, put_in_order
from qanat._app.rules import Rules
from qanat._app.streaming import OutcomeStream
from qanat._app.why import held_of
from qanat._engine.callee import callee_of
from qanat._engine.intake import nothing_unread

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence

    from qanat._app.rule_args import AllCallArgs, CallArgs
    from qanat._app.stopping import Stopping
    from qanat._core.batch import Batch
    from qanat._core.outcome import Outcome

T = TypeVar("T")
R = TypeVar("R")


async def gather(
    handler: Callable[..., Any],
    items: Iterable[Any] | AsyncIterable[Any],
    rules: Rules,
    *,
    first_failure: Callable[[Outcome[Any, Any]], BaseException] | None = None,
    stopping: Stopping | None = None,
    progress: bool | None = False,
) -> Outcomes[Any, Any]:
    """Run a handler over items and return all outcomes in input order.

    Args:
        handler: The handler, checked.
        items: The items, checked.
        rules: The rules.
        first_failure: Given, the first job that fails ends the run with the error that this makes.
        stopping: Given, its signals stop the run.
        progress: Whether to show progress where the rules do not say; None is on a terminal.

    Raises:
        BaseException: What stopped the run, with the outcomes of the jobs that ended.
    """
    if rules.queue is not None:
        from qanat._app.durable.shared_calls import gather_shared

        return await gather_shared(
            handler, items, rules, first_failure=first_failure, stopping=stopping, progress=progress
        )
    outcomes: Outcomes[Any, Any] = Outcomes()
    failures = FailureLimit(rules.max_failures)

    def on_failure(outcome: Outcome[Any, Any]) -> None:
        if first_failure is not None:
            engine.cancel(first_failure(outcome))
        else:
            failures.judge(engine)

    engine = make_engine(
        rules,
        append=outcomes.append,
        on_failure=None if first_failure is None and rules.max_failures is None else on_failure,
        handler=handler,
        name="run",
    )
    engine.extend = outcomes.extend
    intake = make_intake(engine, handler, items, rules, unread=nothing_unread)
    host = hosted(
        engine,
        progress=progress if rules.progress is None else rules.progress,
        title=name_of(handler),
        total=size_of(items),
        stopping=stopping,
    )
    try:
        async with host:
            engine.read(intake)
            await engine.wait_over()
        if engine.dispatcher.family is None:
            outcomes = await put_in_order(outcomes, intake.count, engine.loop.checkpoint)
        else:
            put_families_in_order(outcomes)
    except BaseException as error:
        outcomes._held = held_of(engine.dispatcher)
        if engine.dispatcher.family is None:
            outcomes.sort(key=attrgetter("index"))
        else:
            put_families_in_order(outcomes)
        with_outcomes(error, outcomes)
        raise
    outcomes._held = held_of(engine.dispatcher)
    outcomes._left_out = engine.spawner.left_out
    problem = problem_of(engine, intake)
    if problem is not None:
        raise with_outcomes(problem, outcomes)
    return outcomes


def checked(
    handler: Callable[..., Any],
    items: Iterable[Any] | AsyncIterable[Any],
    rules: Rules | None,
    options: AllCallArgs,
) -> Rules:
    """Check what a call was given, before any work starts, and return its rules."""
    found = Rules.of(rules, options)
    found.check_lanes()
    check_handler(handler, takes="the item" if found.batch is None else "the list of items")
    check_items(items)
    callee_of(handler, found.executor)
    check_journal(handler, found)
    if found.queue is not None:
        handler_name(handler, found.version, keeper="a queue")
    return found


@overload
async def collect(
    handler: Callable[[list[T]], Awaitable[Sequence[R | BaseException]]],
    items: Iterable[T] | AsyncIterable[T], *, batch: Batch,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
@overload
async def collect(
    handler: Callable[[list[T]], Sequence[R | BaseException]],
    items: Iterable[T] | AsyncIterable[T], *, batch: Batch,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
@overload
async def collect(
    handler: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], *,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
@overload
async def collect(
    handler: Callable[[T], R], items: Iterable[T] | AsyncIterable[T], *, rules: Rules | None = None,
    **options: Unpack[CallArgs],
) -> Outcomes[T, R]: ...  # fmt: skip
async def collect(
    handler: Callable[[Any], Any], items: Iterable[Any] | AsyncIterable[Any], *, rules: Rules | None = None,
    **options: Unpack[AllCallArgs],
) -> Outcomes[Any, Any]:  # fmt: skip
    """Run a handler over items and return every outcome, in input order.

    A job that fails is an outcome like any other: this never raises for a job.

    Args:
        handler: A coroutine function or a plain function of one item; called once an attempt.
        items: Any iterable or async iterable.
        rules: The rules as one value.
        **options: Single rules, see `Rules`; they win over `rules`.

    Returns:
        The outcomes: a list with `values()`, `failed` and `summary()`.

    Raises:
        TypeError: If an argument is of the wrong kind; before any work starts.
        ValueError: If a rule is out of range; before any work starts.
        TooManyFailuresError: If more jobs failed than `max_failures` allows.
        StartTimeoutError: If no job arrived within `start_within`.
        BaseException: What the source of items raised; `errors.outcomes_of` gives what was done.
    """
    return await gather(handler, items, checked(handler, items, rules, options))


@overload
async def map(
    handler: Callable[[list[T]], Awaitable[Sequence[R | BaseException]]],
    items: Iterable[T] | AsyncIterable[T], *, batch: Batch,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> list[R]: ...  # fmt: skip
@overload
async def map(
    handler: Callable[[list[T]], Sequence[R | BaseException]],
    items: Iterable[T] | AsyncIterable[T], *, batch: Batch,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> list[R]: ...  # fmt: skip
@overload
async def map(
    handler: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], *,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> list[R]: ...  # fmt: skip
@overload
async def map(
    handler: Callable[[T], R], items: Iterable[T] | AsyncIterable[T], *, rules: Rules | None = None,
    **options: Unpack[CallArgs],
) -> list[R]: ...  # fmt: skip
async def map(
    handler: Callable[[Any], Any], items: Iterable[Any] | AsyncIterable[Any], *, rules: Rules | None = None,
    **options: Unpack[AllCallArgs],
) -> list[Any]:  # fmt: skip
    """Run a handler over items and return the values, in input order.

    The first job that fails for good cancels the others, and its error is raised with a note that
    says which item it was and after how many attempts.

    Args:
        handler: A coroutine function or a plain function of one item; called once an attempt.
        items: Any iterable or async iterable.
        rules: The rules as one value.
        **options: Single rules, see `Rules`; they win over `rules`.

    Returns:
        The values in input order.

    Raises:
        TypeError: If an argument is of the wrong kind; before any work starts.
        ValueError: If a rule is out of range; before any work starts.
        BaseException: The error of the first job that failed, or what the source of items raised;
            `errors.outcomes_of` gives what was done.
    """
    found = checked(handler, items, rules, options)
    first: list[Outcome[Any, Any]] = []

    def first_failure(outcome: Outcome[Any, Any]) -> BaseException:
        if not first:
            first.append(outcome)
        return raisable(first[0])

    outcomes = await gather(handler, items, found, first_failure=first_failure)
    return [outcome.value for outcome in outcomes if outcome.state == "done" and outcome.parent is None]


@overload
def stream(
    handler: Callable[[list[T]], Awaitable[Sequence[R | BaseException]]],
    items: Iterable[T] | AsyncIterable[T], *, batch: Batch, ordered: bool = False,
    only_failed: bool = False,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> OutcomeStream[T, R]: ...  # fmt: skip
@overload
def stream(
    handler: Callable[[list[T]], Sequence[R | BaseException]],
    items: Iterable[T] | AsyncIterable[T], *, batch: Batch, ordered: bool = False,
    only_failed: bool = False,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> OutcomeStream[T, R]: ...  # fmt: skip
@overload
def stream(
    handler: Callable[[T], Awaitable[R]], items: Iterable[T] | AsyncIterable[T], *, ordered: bool = False,
    only_failed: bool = False,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> OutcomeStream[T, R]: ...  # fmt: skip
@overload
def stream(
    handler: Callable[[T], R], items: Iterable[T] | AsyncIterable[T], *, ordered: bool = False,
    only_failed: bool = False,
    rules: Rules | None = None, **options: Unpack[CallArgs],
) -> OutcomeStream[T, R]: ...  # fmt: skip
def stream(
    handler: Callable[[Any], Any], items: Iterable[Any] | AsyncIterable[Any], *, ordered: bool = False,
    only_failed: bool = False,
    rules: Rules | None = None, **options: Unpack[AllCallArgs],
) -> OutcomeStream[Any, Any]:  # fmt: skip
    """Run a handler over items and give the outcomes as they complete.

    Use it as `async with qanat.stream(...) as outcomes:` and iterate over that with `async for`.
    A reader that is slow slows the run down: at most `buffer` outcomes wait for it. Leaving early
    cancels the rest.

    Args:
        handler: A coroutine function or a plain function of one item; called once an attempt.
        items: Any iterable or async iterable, also an endless one.
        ordered: Give the outcomes in input order instead.
        only_failed: Give the outcomes of jobs that are not done alone, for handlers that pass their results
            on by themselves; the others wake nobody and take no room.
        rules: The rules as one value.
        **options: Single rules, see `Rules`; they win over `rules`.

    Returns:
        An async context manager giving an async iterator of outcomes.

    Raises:
        TypeError: If an argument is of the wrong kind; here, before any work starts.
        ValueError: If a rule is out of range; here, before any work starts.
    """
    found = checked(handler, items, rules, options)
    if not isinstance(cast("object", ordered), bool):
        raise TypeError(f"ordered must be True or False, got {ordered!r}")
    if not isinstance(cast("object", only_failed), bool):
        raise TypeError(f"only_failed must be True or False, got {only_failed!r}")
    if ordered and only_failed:
        raise ValueError("ordered must be False with only_failed, got True: the others are not waited for")
    if found.queue is not None:
        from qanat._app.durable.shared_calls import SharedStream

        return SharedStream(handler, items, found, ordered=ordered, only_failed=only_failed)
    return OutcomeStream(handler, items, found, ordered=ordered, only_failed=only_failed)
