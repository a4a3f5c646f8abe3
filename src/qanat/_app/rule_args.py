"""The rules of a run as keyword arguments, for the signatures of all that takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from rich.console import Console

    from qanat._app.durable.plain_queue import PlainQueue
    from qanat._app.durable.queue import Queue
    from qanat._core.batch import Batch
    from qanat._core.branch import Key
    from qanat._core.events import Observer
    from qanat._core.limit import Limit
    from qanat._core.limits import Adaptive, Concurrency
    from qanat._core.order import Order
    from qanat._core.retry import Retry
    from qanat._engine.callee import Executor

OrderName = Literal["fifo", "lifo", "priority", "deadline", "shuffle"]


class Flow(TypedDict, total=False):
    """When a job may start, and which is next."""

    concurrency: int | Concurrency | Adaptive
    rate: str | Limit | None
    limits: Limit | Iterable[Limit]
    lane: Callable[[Any], Hashable] | None
    lane_limits: Callable[[Any], Limit | Iterable[Limit]] | None
    weights: Callable[[Any], float] | Mapping[Any, float] | None
    order: OrderName | Callable[[], Order]
    priority: Callable[[Any], float] | None
    deadline: Callable[[Any], float | None] | None
    cost: Callable[[Any], float | Mapping[str, float]] | None


class Attempt(TypedDict, total=False):
    """How a job is run, and run again."""

    retry: int | Retry
    timeout: float | None
    executor: Executor | None


class Input(TypedDict, total=False):
    """How items are read."""

    buffer: int
    id: Callable[[Any], int | str] | None
    key: Callable[[Any], Key] | None
    max_depth: int | None
    max_jobs: int | None


class Stop(TypedDict, total=False):
    """What ends a run early."""

    start_within: float | None
    max_failures: float | None


class Durable(TypedDict, total=False):
    """What is kept for another run."""

    journal: str | os.PathLike[str] | None
    version: str | int | None
    retry_failed: bool


class Watch(TypedDict, total=False):
    """Who looks on."""

    state: Any
    progress: bool | Console | None
    observers: Observer | Iterable[Observer]
    record: str | os.PathLike[str] | None


class RuleArgs(Flow, Attempt, Input, Stop, Durable, Watch, total=False):
    """Every rule as keyword arguments; but for `queue`, and for `batch`, which changes the handler's type."""


class AllArgs(RuleArgs, total=False):
    """Every rule."""

    batch: Batch | None


class Shared(TypedDict, total=False):
    """Who else may do the items of a call."""

    queue: Queue[Any] | PlainQueue[Any] | None


class CallArgs(RuleArgs, Shared, total=False):
    """What `map` and its kin take, but for `batch`."""


class AllCallArgs(AllArgs, Shared, total=False):
    """What `map` and its kin take."""
