"""A job: one item on its way. And what all jobs of one handler share: their task."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import msgspec

from qanat._core.arguments import at_least
from qanat._core.costs import checked_currency
from qanat._core.limit import Limit
from qanat._core.reason import Cause

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from qanat._app.durable.spawning import QueueSpawner
    from qanat._app.handle import Handle
    from qanat._app.nest import Nest
    from qanat._app.spawning import Spawner
    from qanat._app.spawning_in_child import Collector
    from qanat._core.branch import Children, Failure, Key
    from qanat._core.retry import Retry

T = TypeVar("T")
S = TypeVar("S")
R = TypeVar("R")

# Where a job is. Plain ints: they are compared on the hot path.
NEW = 0
WAITING = 1
SCHEDULED = 2
RUNNING = 3
ENDED = 4
# Its handler has returned, and its end is held until its children have ended.
CHILDREN = 5


class Task:
    """What all jobs of one handler share.

    Attributes:
        name: The handler's name, for people.
        handler: What is called with the item; only the driver looks inside.
        direct: The function itself, where the driver calls it with nothing in between; None if not.
        timeout: Seconds for one attempt; None is unlimited.
        retry: Whether and when a failed job runs again.
        state: The run's `state` object, as `current_job().state` gives it.
        node: The dispatcher's node for these jobs.
        retries_at_once: How many retries come at once, whatever plain exception was raised.
        charge: What settles the cost of one of them: called with the job, a currency and an amount.
        describe: What keeps what one of them says of itself: called with the job and a text.
        spawner: What their `spawn` and `after_children` call; None where nothing can be spawned.
        nest: The short way of their plain children; None until one went the long way.
        after: What the calls of their callbacks share; None until there is one.
    """

    __slots__ = (
        "after", "charge", "describe", "direct", "handler", "name", "nest", "node", "retries_at_once",
        "retry", "spawner", "state", "timeout",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        handler: Any,
        node: Any,
        retry: Retry,
        timeout: float | None = None,
        state: Any = None,
        charge: Callable[[Job[Any], str, float], None] | None = None,
        describe: Callable[[Job[Any], str], None] | None = None,
    ) -> None:
        self.name = name
        self.handler = handler
        self.direct: Callable[[Any], Any] | None = (
            handler.function if getattr(handler, "on_loop", False) else None
        )
        self.node = node
        self.retry = retry
        self.retries_at_once = retry.times_at_once
        self.timeout = timeout
        self.state = state
        self.charge = charge
        self.describe = describe
        self.spawner: Spawner | QueueSpawner | Collector | None = None
        self.nest: Nest | None = None
        self.after: Task | None = None

    def varied(self, *, retry: Retry | None = None, timeout: float | None = None) -> Task:
        """Return a task that differs in its retry or its timeout, for one job."""
        task = Task(
            self.name, self.handler, self.node, retry or self.retry, timeout or self.timeout, self.state,
            self.charge, self.describe,
        )  # fmt: skip
        task.spawner = self.spawner
        return task


class History(msgspec.Struct):
    """What a job carries once it was scheduled, retried or throttled: most never do."""

    first_started_at: float | None = None
    ran: float = 0.0
    throttles: int = 0
    waits: dict[str, float] = {}
    scheduled_at: float = 0.0
    due_at: float = 0.0
    cause: Cause = "delay"
    # When it came into its lane, this time.
    entered_at: float = 0.0
    # Why the last attempt failed, kept if the job ends with that when its time for retries is over.
    error: BaseException | None = None
    # Whether it is called alone, as it is known to spoil a batch.
    alone: bool = False
    # What the present attempt was charged, by currency, once it was.
    charged: dict[str, float] | None = None


class Job(msgspec.Struct, Generic[T], eq=False):
    """One item on its way; read its attributes, never write them.

    Made by the million, so it is small and mutable inside. The names with an underscore belong
    to the dispatcher and the engine.

    Attributes:
        id: An int unless one was given.
        item: What the handler is called with.
        index: The position in the input, from 0.
        priority: Smaller starts first, with `order="priority"`.
        lane: The lane's key; None is the unnamed lane.
        metadata: What was handed in with the item; None if nothing was.
        parent: The id of the job that spawned this one; None for a root.
        offered_at: When it arrived, monotonic seconds.
        started_at: When its present or last attempt began.
        attempt: The number of the present or next attempt, from 1.
        cost: What the job counts where cost is counted: a number, or one for each currency. The estimate
            that it starts with; `charge` leaves it as it is.
        target: Where the attempt is sent, if something chooses among targets.
        deadline: When it is due, monotonic seconds; None if it never is.
    """

    id: int | str
    item: T
    index: int
    _task: Task
    offered_at: float = 0.0
    _status: int = NEW
    started_at: float = 0.0
    priority: float = 0.0
    lane: Hashable = None
    metadata: Mapping[str, Any] | None = None
    parent: int | str | None = None
    attempt: int = 1
    cost: float | Mapping[str, float] = 1.0
    target: Any = None
    deadline: float | None = None
    _mark: Any = None
    _took: tuple[Limit, ...] | None = None
    _history: History | None = None
    _waiter: Any = None
    # What the handler says it does, and when the attempt that said so began.
    _doing: tuple[float, str] | None = None

    def awaits(self, at: float) -> bool:
        """Whether the job is scheduled for this time."""
        return self._status == SCHEDULED and self._history is not None and self._history.due_at == at

    def charge(self, currency: str, amount: float) -> None:
        """Say what the present attempt really costs, where it was started on an estimate.

        Limits that count this currency, such as a `Budget`, settle it: what was estimated too high
        is given back at once, what was estimated too low delays later starts. It may be said several
        times, as more becomes known: the last one holds. Where no limit counts anything it does
        nothing, so a handler may be used with and without a budget.

        To be called from the handler, on the loop or in a thread, and from what it starts.

        Args:
            currency: Which cost.
            amount: The true total of this attempt, not a difference; at least 0.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If the amount is less than 0 or not finite, or limits of this job count other
                currencies and not this one.
            RuntimeError: If the job does not run, or is one of a batch: charge the batch, which is
                `current_job()`, with what all of them cost.
        """
        checked_currency("currency", currency)
        settle = self._task.charge
        if settle is None:
            raise RuntimeError("charge() works for jobs of a run or a Pool, and this job is of neither")
        settle(self, currency, at_least("amount", amount, 0))

    def describe(self, text: str) -> None:
        """Say what the present attempt is doing, for whoever watches: the live view shows it.

        The last text holds until the attempt ends. It costs no more than keeping it, so it may be said
        often. A long text is cut, and what a terminal would obey in it is shown and not obeyed.

        To be called from the handler, on the loop, in a thread or in a process, and from what it starts.

        Args:
            text: A few words, such as "parsing".

        Raises:
            TypeError: If it is not a text.
            RuntimeError: If the job does not run.
        """
        keep = self._task.describe or keep_description
        keep(self, checked_description(text))

    @overload
    def spawn(
        self, item: S, *, handler: Callable[[S], Awaitable[R]], key: Key | None = None,
        id: int | str | None = None, priority: float | None = None, lane: Hashable = None,
        delay: float = 0.0, metadata: Mapping[str, Any] | None = None, failure: Failure = "continue",
    ) -> Handle[S, R]: ...  # fmt: skip
    @overload
    def spawn(
        self, item: S, *, handler: Callable[[S], R], key: Key | None = None,
        id: int | str | None = None, priority: float | None = None, lane: Hashable = None,
        delay: float = 0.0, metadata: Mapping[str, Any] | None = None, failure: Failure = "continue",
    ) -> Handle[S, R]: ...  # fmt: skip
    @overload
    def spawn(
        self, item: S, *, handler: str | None = None, key: Key | None = None,
        id: int | str | None = None, priority: float | None = None, lane: Hashable = None,
        delay: float = 0.0, metadata: Mapping[str, Any] | None = None, failure: Failure = "continue",
    ) -> Handle[S, Any]: ...  # fmt: skip
    def spawn(
        self, item: Any, *, handler: Callable[[Any], Any] | str | None = None, key: Key | None = None,
        id: int | str | None = None, priority: float | None = None, lane: Hashable = None,
        delay: float = 0.0, metadata: Mapping[str, Any] | None = None, failure: Failure = "continue",
    ) -> Handle[Any, Any]:  # fmt: skip
        """Hand in another item from within this job's handler, and return a handle of its job.

        The new job is a child of this one, in the same run or Pool and under the same rules; it is not
        waited for unless somebody does. Its id is this job's id followed by its key, or by its place
        among what the attempt spawns: `7/0`, `7/0/3`. So what a retry spawns again is the same job as
        before, and its handle is that of the job that there is. Works on the loop, in threads, and in
        processes, where the children are handed in when the call has ended.

        In a queue they are put when the attempt has ended well, and the handle only says their ids.

        Args:
            item: What the handler is called with.
            handler: Another function of one item, under the same rules; None is the handler of this job.
                In a queue one that the worker was given, or the name by which another worker knows one.
            key: What the job is known by. Equal keys are visited once in a run or a Pool's life: the
                second time the handle is that of the first job, which does not become a child of this one.
                None asks the rule `key`.
            id: Its id, instead of one made of this job's; another one for each item.
            priority: Smaller is first, with `order="priority"`; None asks the rule, or with
                `Priority(inherit=True)` is this job's.
            lane: The lane's key; None asks the rule.
            delay: Seconds before which the job does not start.
            metadata: Found at `current_job().metadata` and in the outcome.
            failure: What its failure means for this job: "continue" nothing, "fail" that this job fails,
                too, a `Quorum` that it does if fewer than that share of its children are done. It is
                judged once the last child has ended, and this job does not end before.

        Returns:
            A handle. That of a job that `max_depth` or `max_jobs` leaves no room for is cancelled already.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If an argument is out of range, or this attempt gave the id to another item.
            RuntimeError: If this job does not run, or is called with a list of items: spawn from one of
                its `members`.
            PoolClosedError: If the run is over.
        """
        spawner = self._task.spawner
        if spawner is None:
            raise RuntimeError("spawn() works for jobs of a run or a Pool, and this job is of neither")
        function: Any = handler  # only a queue takes a name
        return spawner.spawn(self, item, function, key, id, priority, lane, delay, metadata, failure)

    def after_children(
        self, callback: Callable[[Children[Any]], Awaitable[object] | object] | str, *, gather: bool = False
    ) -> None:
        """Have a function called once this job and all below it are done.

        It is called once, whatever failed, was tried again or was cancelled below, when the callbacks
        of all below it have been. It holds a slot and has this job's timeout and retry, but no other limit
        counts it, and `current_job()` is this job. What it returns, if not None, is this job's value; if
        it raises for good, this job fails with that. This job has not ended before. What the last attempt
        registered is called.

        Args:
            callback: A function of the `Children`, on the loop if it is a coroutine function. It cannot
                spawn. In a queue one that the worker was given, or its name.
            gather: Keep the children's values for it, for `Children.values()`.

        Raises:
            TypeError: If it is not a function of one argument.
            RuntimeError: If this attempt has registered one before, or this job does not run.
            PoolClosedError: If the run is over.
        """
        spawner = self._task.spawner
        if spawner is None:
            raise RuntimeError(
                "after_children() works for jobs of a run or a Pool, and this job is of neither"
            )
        spawner.after_children(self, callback, gather)

    @property
    def members(self) -> tuple[Job[Any], ...]:
        """The jobs of a batch, in the order of the items; empty unless this is one."""
        return ()

    @property
    def state(self) -> Any:
        """The `state` object of the run or Pool."""
        return self._task.state


LONGEST_DESCRIPTION = 200
"""Characters of a description that are kept: more than a line of most terminals."""


def checked_description(text: object) -> str:
    """Return a description, cut to what is kept of it.

    Raises:
        TypeError: If it is not a text.
    """
    if not isinstance(text, str):
        raise TypeError(f'text must be a str, such as describe("parsing"), got {text!r}')
    return text[:LONGEST_DESCRIPTION]


def keep_description(job: Job[Any], text: str) -> None:
    """Keep what a job that runs says it does.

    Raises:
        RuntimeError: If it does not run.
    """
    if job._status != RUNNING:
        raise not_running(job)
    job._doing = (job.started_at, text)


def not_running(job: Job[Any]) -> RuntimeError:
    """Return the error for a description of a job that does not run."""
    return RuntimeError(
        f"describe() works while the job runs, and job {job.id!r} does not: "
        "call current_job().describe(...) from the handler"
    )


def description_of(job: Job[Any]) -> str | None:
    """Return what a job's present attempt says it does; None if it has said nothing."""
    doing = job._doing
    return doing[1] if doing is not None and doing[0] == job.started_at else None
