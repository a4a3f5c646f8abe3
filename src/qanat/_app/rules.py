"""The rules of a run: one frozen value, one definition, one validation."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, cast

from qanat._app.consoles import is_console
from qanat._app.rule_args import OrderName  # noqa: TC001
from qanat._app.rules_in_words import in_words, named
from qanat._core.arguments import number, one_of, positive, whole
from qanat._core.batch import Batch
from qanat._core.branch import Key  # noqa: TC001
from qanat._core.dispatcher.turns import checked_weight
from qanat._core.events import Observer  # noqa: TC001 - part of the types that users look up
from qanat._core.limit import Limit, given_twice
from qanat._core.limits import Adaptive, Balance, Concurrency
from qanat._core.order import Order  # noqa: TC001
from qanat._core.orders import ORDERS, Priority
from qanat._core.rates import parse_rate
from qanat._core.retry import Retry
from qanat._core.specs import unrecordable
from qanat._engine.callee import Executor, is_coroutine_function

if TYPE_CHECKING:
    from rich.console import Console

    from qanat._app.durable.plain_queue import PlainQueue
    from qanat._app.durable.queue import Queue

_COUNTING = (Concurrency, Adaptive)
EXECUTORS: tuple[Executor, ...] = ("loop", "thread", "process")


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """The options of a run as one frozen value.

    The same rules are taken by `map`, `collect`, `stream`, `run`, `Pool` and the command line.
    They are checked here, once: a wrong kind is a `TypeError`, a wrong number a `ValueError`.

    Attributes:
        concurrency: How many jobs run at once: a number, a `Concurrency` to share or resize, or an
            `Adaptive` that finds it out.
        rate: How many may start in a time, such as "100/s", "300/15m" or "100/s evenly"; or a
            limit. None is no rate.
        limits: Any further limits.
        lane: Function of the item giving its lane's key. Lanes take turns, and a lane that has to
            wait never blocks another.
        lane_limits: Function of a lane's key giving that lane's own limits. Without `lane` only a Pool
            takes it, and `weights`, as its `submit` may name lanes.
        weights: Function of a lane's key giving its weight, a number greater than 0, or a mapping
            of keys to weights; a key that is missing has 1. While lanes have jobs that may start,
            their shares of the starts are as their weights, a start counting as the job's cost.
        order: Which job of a lane is next: "fifo", "lifo", "priority", "deadline", "shuffle", a
            `Priority`, or whatever makes an order.
        priority: Function of the item giving its priority; smaller is first. For `order="priority"`
            or an order of your own; others refuse it.
        deadline: Function of the item giving the seconds from its offering until it is due, for
            `order="deadline"` or an order of your own; None is never. A job whose deadline has passed
            starts all the same.
        cost: Function of the item giving what it costs a `Budget`: a number, or a mapping of currencies
            to numbers.
        retry: How many times a failed job is tried again, or a `Retry`.
        timeout: Seconds for one attempt; None is unlimited.
        executor: Where the handler runs: "loop", "thread", "process"; None is by its kind.
        batch: How many items the handler is called with at once, as a list; None is one by one.
        buffer: How many items may be read and not started, outcomes not read counted too.
        id: Function of the item giving its job's id.
        key: Function of the item giving what its job is known by: a str, bytes, an int or a tuple of these.
            Equal keys are visited once in a run or a Pool's life. None is known by nothing; with a journal
            it is by the item itself.
        max_depth: How many generations a job may have below it: what comes from outside has depth 0,
            what it spawns 1. What is spawned beyond is not taken. None is any number.
        max_jobs: How many jobs there may be in a run or a Pool's life, from outside and spawned; what is
            spawned beyond is not taken, what comes from outside always is. None is any number.
        start_within: Seconds in which a first job has to arrive; None is for ever.
        max_failures: How many jobs may fail, or below 1 which share of the finished (judged after
            20); one more stops the run. None is any number.
        state: Any object, found at `current_job().state`.
        progress: Whether to show progress; None is by place: on for `run` on a terminal. A
            `rich.console.Console` shows it there.
        observers: Who is told of every event.
        record: A file, made anew, for every decision of the run, for `qanat replay`.
        journal: An SQLite file of finished jobs, made if there is none: another run with it does what is
            left, and gives the old values for the rest.
        queue: A durable queue in which the items are jobs, for `map`, `collect`, `stream` and `run`: the
            same call elsewhere shares them, and after a crash it finds what was done.
        version: Of the handler, for the journal or the queue: with another one everything is done anew.
        retry_failed: With a journal, whether only those jobs run that failed in an earlier run with it. With
            a queue, whether those that failed in earlier runs run again.
    """

    concurrency: int | Concurrency | Adaptive = 10
    rate: str | Limit | None = None
    limits: Limit | Iterable[Limit] = ()
    lane: Callable[[Any], Hashable] | None = None
    lane_limits: Callable[[Any], Limit | Iterable[Limit]] | None = None
    weights: Callable[[Any], float] | Mapping[Any, float] | None = None
    order: OrderName | Callable[[], Order] = "fifo"
    priority: Callable[[Any], float] | None = None
    deadline: Callable[[Any], float | None] | None = None
    cost: Callable[[Any], float | Mapping[str, float]] | None = None
    retry: int | Retry = 0
    timeout: float | None = None
    executor: Executor | None = None
    batch: Batch | None = None
    buffer: int = 1000
    id: Callable[[Any], int | str] | None = None
    key: Callable[[Any], Key] | None = None
    max_depth: int | None = None
    max_jobs: int | None = None
    start_within: float | None = None
    max_failures: float | None = None
    state: Any = None
    progress: bool | Console | None = None
    observers: Observer | Iterable[Observer] = ()
    record: str | os.PathLike[str] | None = None
    journal: str | os.PathLike[str] | None = None
    queue: Queue[Any] | PlainQueue[Any] | None = None
    version: str | int | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        """Check every rule, and bring those with several forms to one."""
        checked = self._checked_flow() | self._checked_rest()
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        self._check_effects()
        given = self.all_limits
        inside = [part for limit in given if isinstance(limit, Balance) for part in limit.inside]
        if (twice := given_twice([*given, *inside])) is not None:
            raise ValueError(
                f"limits must be different ones, got {twice!r} twice: it would count each job twice"
            )
        if self.record is not None:
            self._check_record()
        self._check_journal()
        if self.queue is not None:
            self._check_queue()

    def _checked_flow(self) -> dict[str, object]:
        checked: dict[str, object] = {"limits": _limits(self.limits)}
        if not isinstance(self.concurrency, _COUNTING):
            checked["concurrency"] = _slots(self.concurrency)
        if isinstance(self.rate, str):
            parse_rate(self.rate)
        elif self.rate is not None and not isinstance(cast("object", self.rate), Limit):
            raise TypeError(f'rate must be a text such as "100/s", or a limit, got {self.rate!r}')
        for name in ("lane", "lane_limits", "priority", "deadline", "cost", "id", "key"):
            _check_callback(name, getattr(self, name))
        checked["weights"] = _weights(self.weights)
        if cast("object", self.order) is Priority:
            raise TypeError("order must be a Priority, got the class: write Priority()")
        if hasattr(cast("object", self.order), "head") and not callable(self.order):
            raise TypeError(
                f"order must make orders, as a class does, got one, {self.order!r}: pass its class"
            )
        if not callable(self.order):
            one_of("order", self.order, cast("Mapping[OrderName, object]", ORDERS))
        return checked

    def _checked_rest(self) -> dict[str, object]:
        checked: dict[str, object] = {"observers": _observers(self.observers)}
        if isinstance(self.retry, bool) or not isinstance(cast("object", self.retry), (int, Retry)):
            raise TypeError(f"retry must be a number of retries or a Retry, got {self.retry!r}")
        Retry.of(self.retry)
        for name in ("timeout", "start_within"):
            value = getattr(self, name)
            if value is not None:
                checked[name] = positive(name, value)
        if self.executor is not None:
            one_of("executor", self.executor, EXECUTORS)
        if self.batch is not None and not isinstance(cast("object", self.batch), Batch):
            raise TypeError(f"batch must be a Batch, such as Batch(100), got {self.batch!r}")
        checked["buffer"] = whole("buffer", self.buffer, 1)
        if self.max_depth is not None:
            checked["max_depth"] = whole("max_depth", self.max_depth, 0)
        if self.max_jobs is not None:
            checked["max_jobs"] = whole("max_jobs", self.max_jobs, 1)
        if self.max_failures is not None:
            checked["max_failures"] = _max_failures(self.max_failures)
        if not (self.progress is None or isinstance(self.progress, bool) or is_console(self.progress)):
            raise TypeError(
                f"progress must be True, False, None or a rich.console.Console, got {self.progress!r}"
            )
        record = cast("object", self.record)
        if record is not None and (
            not isinstance(record, (str, os.PathLike)) or not os.fspath(self.record or "")
        ):
            raise TypeError(f"record must be the path of a file, got {record!r}")
        return checked

    def _check_effects(self) -> None:
        """Refuse what an order of ours does not look at; one of the user's own may look at anything."""
        order = self.order
        if callable(order) and not isinstance(order, Priority):
            return
        looks_at = "priority" if isinstance(order, Priority) else order
        for name in ("priority", "deadline"):
            value = getattr(self, name)
            if value is not None and looks_at != name:
                raise ValueError(
                    f"{name} must be None with order {named(order)!r}, which does not look at it, "
                    f'got {value!r}: set order="{name}"'
                )

    def check_lanes(self) -> None:
        """Refuse what is for lanes where only `lane` could make some; a Pool's `submit` makes them, too.

        Raises:
            ValueError: If `lane_limits` or `weights` is given without `lane`.
        """
        for name in ("lane_limits", "weights"):
            value = getattr(self, name)
            if value is not None and self.lane is None:
                raise ValueError(
                    f"{name} must be None without lane, as there are no lanes, got {value!r}: "
                    "set lane to a function of the item giving its lane's key"
                )

    def _check_journal(self) -> None:
        journal, version = cast("object", self.journal), cast("object", self.version)
        if journal is not None and (
            not isinstance(journal, (str, os.PathLike)) or not os.fspath(self.journal or "")
        ):
            raise TypeError(f"journal must be the path of a file, got {journal!r}")
        if journal is not None and "\0" in os.fspath(self.journal or ""):
            raise ValueError(f"journal must be the path of a file, got {journal!r}")
        if version is not None and (isinstance(version, bool) or not isinstance(version, (str, int))):
            raise TypeError(f"version must be a text or a whole number, got {version!r}")
        if not isinstance(cast("object", self.retry_failed), bool):
            raise TypeError(f"retry_failed must be True or False, got {self.retry_failed!r}")
        if journal is None and self.queue is None and (version is not None or self.retry_failed):
            name, value = ("retry_failed", True) if self.retry_failed else ("version", version)
            raise ValueError(
                f"{name} goes with a journal, got {value!r} without one: give journal= a file, or queue= one"
            )
        if journal is not None and self.record is not None:
            raise ValueError(
                f"record must be None with a journal, got {self.record!r}: what a journal answers is "
                "not replayed, so record a run without one"
            )

    def _check_queue(self) -> None:
        """Refuse what means nothing for jobs in a queue."""
        # Imported here: most runs have none.
        from qanat._app.durable.plain_queue import PlainQueue
        from qanat._app.durable.queue import Queue

        if not isinstance(cast("object", self.queue), Queue | PlainQueue):
            raise TypeError(
                f"queue must be a queue of an open store, got {self.queue!r}: "
                "write `async with qanat.open(url) as store` and store.queue(name, keep=86400)"
            )
        for name, why in _NOT_WITH_QUEUE.items():
            if getattr(self, name) is not None:
                raise ValueError(f"{name} must be None with a queue, got {getattr(self, name)!r}: {why}")

    def without_queue(self, whose: str) -> None:
        """Refuse a queue where nothing is made of it.

        Raises:
            ValueError: If there is one.
        """
        if self.queue is not None:
            raise ValueError(
                f"queue must be None for {whose}, got {self.queue.name!r}: "
                "it is for map, collect, stream and run"
            )

    def _check_record(self) -> None:
        """Refuse to record what could not be replayed."""
        if self.key is not None:
            raise ValueError(
                f"record must be None with key, got {self.record!r}: a recording holds jobs that are all "
                "visited, so record the run without key"
            )
        for limit in self.all_limits:
            problem = unrecordable(limit)
            if problem is not None:
                raise ValueError(f"record must be None with {problem}, got {self.record!r}: use either alone")

    @classmethod
    def of(cls, rules: Rules | None, options: Mapping[str, Any]) -> Rules:
        """Return the rules of a call: those given as a value, with the keywords over them.

        Raises:
            TypeError: If a keyword is no rule, or a value is of the wrong kind.
            ValueError: If a value is out of range.
        """
        if rules is not None and not isinstance(cast("object", rules), Rules):
            raise TypeError(f"rules must be a Rules, got {rules!r}")
        unknown = sorted(set(options) - _NAMES)
        if unknown:
            known = ", ".join(sorted(_NAMES))
            raise TypeError(f"{unknown[0]!r} is not a rule; the rules are {known}")
        return cls(**options) if rules is None else replace(rules, **options)

    def replace(self, **changes: Any) -> Rules:
        """Return the rules with some of them replaced."""
        return Rules.of(self, changes)

    @property
    def capacity(self) -> float:
        """How many slots the run itself has; infinite if a limit counts them."""
        return math.inf if isinstance(self.concurrency, _COUNTING) else self.concurrency

    @property
    def all_limits(self) -> tuple[Limit, ...]:
        """All limits of the run but a plain number of slots, a rate as the limit it means."""
        found: list[Limit] = []
        if isinstance(self.concurrency, _COUNTING):
            found.append(self.concurrency)
        if self.rate is not None:
            found.append(parse_rate(self.rate) if isinstance(self.rate, str) else self.rate)
        return (*found, *_limits(self.limits))

    @property
    def all_observers(self) -> tuple[Observer, ...]:
        """Who is told of every event."""
        return _observers(self.observers)

    @property
    def weight_of(self) -> Callable[[Any], float] | None:
        """The weight of a lane by its key; None if all have 1."""
        weights: Any = self.weights
        if not isinstance(weights, Mapping):
            return cast("Callable[[Any], float] | None", weights)
        by_lane: dict[Any, float] = dict(cast("Mapping[Any, float]", weights))

        def weight_of(lane: Any) -> float:
            return by_lane.get(lane, 1.0)

        return weight_of

    @property
    def make_order(self) -> Callable[[], Order]:
        """What makes a new, empty order."""
        return self.order if callable(self.order) else ORDERS[self.order]

    @property
    def retry_of(self) -> Retry:
        """The retry rules."""
        return Retry.of(self.retry)

    @property
    def chooses(self) -> bool:
        """Whether lanes or an order choose among the items that were read."""
        return self.order != "fifo" or self.lane is not None

    def __str__(self) -> str:
        """Say the rules in words, those that were set."""
        return ", ".join(in_words(self))


_NOT_WITH_QUEUE = {
    "journal": "the queue keeps what is done",
    "record": "what a store answers is not replayed",
    "id": "a job is known by its item, or by key",
    "max_jobs": "jobs of others count as well",
    "start_within": "jobs that others do never arrive here",
}


_NAMES = {field.name for field in fields(Rules)}


def _slots(value: object) -> int:
    try:
        return whole("concurrency", value, 1)
    except TypeError as error:
        raise TypeError(f"{error}: a Concurrency or an Adaptive(lowest, highest) will do too") from None


def _check_callback(name: str, value: object) -> None:
    if value is not None and (not callable(value) or is_coroutine_function(value)):
        of = "a lane's key" if name == "lane_limits" else "the item"
        raise TypeError(f"{name} must be a plain function of {of}, got {value!r}")


def _weights(value: object) -> object:
    if isinstance(value, Mapping):
        weights = cast("Mapping[object, object]", value)
        return {lane: checked_weight(lane, weight) for lane, weight in weights.items()}
    if value is not None and (not callable(value) or is_coroutine_function(value)):
        raise TypeError(f"weights must be a plain function of a lane's key, or a mapping, got {value!r}")
    return value


def _limits(value: object) -> tuple[Limit, ...]:
    if isinstance(value, Limit):
        return (value,)
    if isinstance(value, str):
        raise TypeError(
            f"limits must be limits, such as SlidingWindow(100, 1.0), got {value!r}: a text is a rate"
        )
    found = tuple(cast("Iterable[object]", value)) if isinstance(value, Iterable) else (value,)
    for limit in found:
        if not isinstance(limit, Limit):
            raise TypeError(f"limits must be limits, such as SlidingWindow(100, 1.0), got {limit!r}")
    if sum(isinstance(limit, Balance) for limit in found) > 1:
        raise ValueError(f"limits must have one Balance at most, as a job has one target, got {found!r}")
    return cast("tuple[Limit, ...]", found)


def _observers(value: object) -> tuple[Observer, ...]:
    found = tuple(cast("Iterable[object]", value)) if isinstance(value, Iterable) else (value,)
    for observer in found:
        if not callable(getattr(observer, "event", None)) or not callable(getattr(observer, "close", None)):
            raise TypeError(f"observers must have the methods event(event) and close(), got {observer!r}")
    return cast("tuple[Observer, ...]", found)


def _max_failures(value: object) -> float:
    if isinstance(value, int) and not isinstance(value, bool):
        return whole("max_failures", value, 1)
    share = number("max_failures", value)
    if not 0.0 < share < 1.0:
        raise ValueError(
            f"max_failures must be a whole number of at least 1, or a share between 0 and 1, got {value!r}"
        )
    return share
