"""`simulate`: what rules would do with items, on virtual time."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Unpack, cast

from qanat._app.failures import FailureLimit
from qanat._app.handlers import check_items, size_of
from qanat._app.hosting import make_intake
from qanat._app.observing import observe_function
from qanat._app.recording import recorded
from qanat._app.rules import Rules
from qanat._app.simulation import Simulation, Trace
from qanat._app.why import held_of
from qanat._core.arguments import number, positive, whole
from qanat._core.dispatcher import Dispatcher
from qanat._core.family import Family
from qanat._core.schedules.schedule import checked_schedule, instant
from qanat._engine.callee import is_coroutine_function
from qanat._engine.comings import Recurring
from qanat._engine.inbox import Inbox
from qanat._engine.intake import nothing_unread
from qanat._engine.simulated import SimulatedEngine
from qanat.errors import SimulatedError

if TYPE_CHECKING:
    from datetime import datetime

    from qanat._app.rule_args import AllArgs
    from qanat._core.branch import AfterJob, Branch
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._core.ports import Random
    from qanat._core.schedules import At, Cron, Every, Schedule
    from qanat._engine.comings import Comings
    from qanat._engine.engine import Engine
    from qanat._engine.simulated import Failures, Latency

NEW_YEAR = 1_767_225_600.0
"""UTC seconds at which simulated time begins, as virtual time does: the first instant of 2026."""
MOST_SECONDS = 1e12
"""Of an attempt, some 30,000 years: sums of them are still finite, and exact to a millisecond."""


def simulate(
    items: Iterable[Any] | int, *,
    latency: float | Callable[[Any, Random, int], float],
    failures: float | Callable[[Any, Random, int], BaseException | None] | None = None,
    seed: int = 0, schedules: Iterable[tuple[At | Every | Cron, Any]] | None = None,
    until: float | None = None, wall: float | datetime = NEW_YEAR,
    rules: Rules | None = None, **options: Unpack[AllArgs],
) -> Simulation:  # fmt: skip
    """Find out what rules would do with items, without running anything.

    The same Dispatcher as in `collect` decides under the same rules, on a time that jumps from one
    thing that happens to the next: a day of rate-limited work takes milliseconds, and the same seed
    has the same trace. A million jobs take some seconds and some tens of megabytes.

    Of the rules `executor`, `state`, `progress`, `start_within`, `max_depth`, `max_jobs` and those of a
    journal have nothing to act on here: no handler runs or spawns, nobody looks on, and items are there at
    once. Limits that are handed in as objects are used, and remember it: hand in fresh ones.

    Args:
        items: Any iterable, or a number of items for short, which are 0, 1, 2 and so on.
        latency: Seconds that an attempt takes: a number, or a function of the item, a seeded source
            of randomness and how many attempts run, this one among them. May be infinite if there
            is a `timeout`.
        failures: Which attempts fail: None for none; a share from 0 to 1, drawn for each attempt,
            which fails with a `SimulatedError`; or a function of the item, a seeded source of
            randomness and the number of the attempt from 1, that returns the error or None. Any
            error a handler could raise will do: `Throttled`, `Discard`, one that `retry` looks at.
        seed: What all randomness begins with.
        schedules: Work that comes again and again besides the items: pairs of an `At`, `Every` or
            `Cron` and the item that it brings, as `Pool.schedule` takes them.
        until: Seconds from the beginning, from which on schedules bring nothing more, as if the Pool were
            left then; what they brought is done. Needed with `schedules`, and only then.
        wall: What the clocks on the wall show at the beginning, for schedules that go by them: UTC
            seconds since 1970, or a datetime with a zone. The beginning of 2026 unless given.
        rules: The rules as one value.
        **options: Single rules, see `Rules`; they win over `rules`.

    Returns:
        The figures of the run, and its trace.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range, `items` is an `Inbox` that is open, or `latency` gives no
            length of time, or one of more than 1e12 seconds that no timeout ends.
        BaseException: What `items`, `latency` or `failures` raised.

    Examples:
        >>> import qanat
        >>> simulation = qanat.simulate(1000, latency=0.5, concurrency=20, rate="300/15m")
        >>> simulation.makespan
        2702.5
    """
    found = Rules.of(rules, options)
    found.check_lanes()
    if isinstance(items, int):
        items = range(whole("items", items, 0))
    check_items(items)
    if isinstance(cast("object", items), AsyncIterable) and not isinstance(cast("object", items), Iterable):
        raise TypeError(
            f"items must be a plain iterable or a number of items, as nothing is awaited here, got {items!r}"
        )
    if isinstance(items, Inbox) and not items.closed:
        raise ValueError(
            f"items must not be an Inbox that is open, as nothing is put into it meanwhile, got {items!r}: "
            "close it first"
        )
    seed = whole("seed", seed, 0)
    return run_simulation(
        items, latency_of(latency, found.timeout), failures_of(failures), seed, found,
        recurring(schedules, until, instant("wall", wall), seed),
    )  # fmt: skip


def recurring(schedules: object, until: float | None, wall: float, seed: int) -> Recurring | None:
    """Return what schedules bring; None if there are none.

    Raises:
        TypeError: If they are no pairs of a schedule and an item.
        ValueError: If `until` is missing, or given without schedules.
    """
    if schedules is None:
        if until is not None:
            raise ValueError(
                f"until must be None without schedules, got {until!r}: a run ends with its items"
            )
        return None
    wrong = (
        "schedules must be pairs of a schedule and its item, such as [(Every(60), 'poll')], "
        f"got {schedules!r}"
    )
    if not isinstance(schedules, Iterable) or isinstance(schedules, (str, bytes)):
        raise TypeError(wrong)
    pairs: list[tuple[Schedule, Any]] = []
    for pair in cast("Iterable[object]", schedules):
        if not isinstance(pair, tuple) or len(cast("tuple[object, ...]", pair)) != 2:
            raise TypeError(wrong)
        schedule, item = cast("tuple[object, Any]", pair)
        pairs.append((checked_schedule("schedules", schedule), item))
    if until is None:
        raise ValueError("until must say when schedules end, got None: give seconds from the beginning")
    return Recurring(pairs, until=positive("until", until), wall=wall, seed=seed) if pairs else None


def run_simulation(
    items: Iterable[Any], latency: Latency | float, failures: Failures | None, seed: int, rules: Rules,
    comings: Comings | None = None,
) -> Simulation:  # fmt: skip
    """Simulate with what was checked."""
    # The handler is none, so there is no place where it runs.
    rules = rules.replace(executor=None, journal=None, version=None, retry_failed=False)
    limit = FailureLimit(rules.max_failures)

    def judge() -> None:
        limit.judge(cast("Engine", engine))

    _, make_dispatcher = recorded(rules, "simulation", seed=seed, now=0.0)
    engine = SimulatedEngine(
        seed=seed,
        make_dispatcher=make_dispatcher or Dispatcher,
        capacity=rules.capacity,
        limits=rules.all_limits,
        observe=observe_function(rules.all_observers),
        on_failure=None if rules.max_failures is None else judge,
    )
    if rules.key is not None:
        engine.dispatcher.raise_family(Family(on_end=_keep), _no_callback)
    intake = make_intake(cast("Engine", engine), _no_handler, items, rules, unread=nothing_unread)
    engine.run(intake, latency, failures, read_whole=intake.needs_task, comings=comings)
    dispatcher = engine.dispatcher
    # What was not read is known of a sized source only.
    unread = max(0, (size_of(items) or 0) - intake.count) if engine.failure is None else 0
    outcomes = {"done": dispatcher.done, "dead": dispatcher.failed, "cancelled": dispatcher.cancelled}
    return Simulation(
        items=sum(outcomes.values()),
        outcomes=outcomes,
        left=dispatcher.waiting + dispatcher.scheduled + unread,
        retried=dispatcher.retried,
        errors=engine.errors,
        makespan=engine.ended_at,
        waits=dispatcher.waits,
        most_running=engine.most_running,
        busy=engine.busy,
        slots=rules.capacity,
        stopped=engine.failure,
        trace=Trace(engine.log),
        seed=seed,
        rules=str(rules),
        held=held_of(dispatcher),
        _waited=engine.waited,
        _ran=engine.ran,
        _log=engine.log,
    )


def _keep(job: Job[Any], outcome: Outcome[Any, Any]) -> None:
    """Keep how a job ended, for those of its key that come later."""
    job._waiter = outcome


def _no_callback(branch: Branch) -> AfterJob:
    """Refuse: nothing registers a callback here."""
    raise AssertionError(f"no handler runs that could register one, got {branch!r}")


async def _no_handler(_item: object) -> None:
    """Stand where a handler would: nothing calls it."""


def latency_of(latency: object, timeout: float | None) -> Latency | float:
    """Return the seconds of an attempt, or a function that gives them, checked.

    Raises:
        TypeError: If it is neither a number nor a plain function.
        ValueError: If the number is no length of time.
    """
    longest = math.inf if timeout is not None else None
    # A timeout ends an attempt, however long it would take.
    most = MOST_SECONDS if timeout is None else math.inf
    if not callable(latency):
        if isinstance(latency, float) and latency == longest:
            return math.inf
        return float(_length("latency", number("latency", latency), most))
    if is_coroutine_function(latency):
        raise TypeError(f"latency must be a number of seconds or a plain function, got {latency!r}")
    function = cast("Callable[[Any, Random, int], object]", latency)

    def checked(item: Any, rng: Random, running: int) -> float:
        found = function(item, rng, running)
        if type(found) is float and 0.0 <= found <= most:
            return found
        if found == math.inf:
            raise ValueError("latency must give finite seconds, unless there is a timeout, got inf")
        return _length("latency", number("latency", found), most)

    return checked


def _length(name: str, seconds: float, most: float) -> float:
    if seconds < 0.0:
        raise ValueError(f"{name} must be at least 0 seconds, got {seconds!r}")
    if seconds > most:
        raise ValueError(f"{name} must be at most {most:g} seconds, got {seconds!r}")
    return seconds


def failures_of(failures: object) -> Failures | None:
    """Return a function that says why an attempt fails; None if none does.

    Raises:
        TypeError: If it is neither a share nor a plain function.
        ValueError: If the share is not between 0 and 1.
    """
    if failures is None:
        return None
    if not callable(failures):
        share = number("failures", failures)
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"failures must be a share from 0 to 1, got {failures!r}")
        return lambda _item, rng, _attempt: (
            SimulatedError("the attempt was to fail") if rng.random() < share else None
        )
    if is_coroutine_function(failures):
        raise TypeError(f"failures must be a share or a plain function, got {failures!r}")
    function = cast("Callable[[Any, Random, int], object]", failures)

    def checked(item: Any, rng: Random, attempt: int) -> BaseException | None:
        found = function(item, rng, attempt)
        if found is not None and not isinstance(found, BaseException):
            raise TypeError(f"failures must give an exception or None, got {found!r}")
        return found

    return checked
