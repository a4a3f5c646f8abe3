"""From a for-loop to a fleet without a rewrite: a function, many items, and the rules.

The same handler and the same rules run over a list, a generator or an endless source:

    outcomes = qanat.run(fetch, urls, concurrency=50, rate="100/s", retry=3)      # from a script
    values   = await qanat.map(fetch, urls, concurrency=50)                       # inside async code
"""

from typing import TYPE_CHECKING

from qanat import errors
from qanat._app.current import current_job
from qanat._app.durable.consuming import consume
from qanat._app.durable.plain_queue import PlainQueue
from qanat._app.durable.plain_rotation import PlainRotation
from qanat._app.durable.queue import Queue
from qanat._app.durable.queue_job import Page, QueueJob
from qanat._app.durable.rotation import Rotation
from qanat._app.durable.store import PlainStore, Store, open  # noqa: A004 - the name is promised
from qanat._app.durable.turning import RotationCounts
from qanat._app.functions import collect, map, stream
from qanat._app.handle import Handle
from qanat._app.outcomes import Outcomes, Summary
from qanat._app.pool import Pool
from qanat._app.rules import Rules
from qanat._app.run import run
from qanat._app.scheduling import ScheduleHandle
from qanat._app.simulating import simulate
from qanat._app.simulation import Simulation
from qanat._app.stats import Stats
from qanat._app.streaming import OutcomeStream
from qanat._app.throttle_from import throttle_from
from qanat._core.backoff import constant, exponential, linear
from qanat._core.batch import Batch
from qanat._core.branch import Children, Quorum
from qanat._core.events import (
    Event,
    JobEnded,
    JobParked,
    JobRetried,
    JobStarted,
    Observer,
    RunEnded,
    RunStarted,
)
from qanat._core.intervals import Between
from qanat._core.job import Job
from qanat._core.limit import Limit, Refused
from qanat._core.limits import (
    Adaptive,
    Balance,
    Budget,
    CircuitBreaker,
    Concurrency,
    FixedWindow,
    SlidingWindow,
    Spacing,
    TokenBucket,
)
from qanat._core.order import Order
from qanat._core.orders import Priority
from qanat._core.outcome import Outcome
from qanat._core.reason import Reason
from qanat._core.retry import Retry
from qanat._core.schedules import At, Cron, Every
from qanat._core.store.finding import Finding
from qanat._engine.inbox import Inbox
from qanat.errors import (
    ChildrenFailedError,
    CircuitOpenError,
    CommandError,
    Discard,
    InputError,
    JobCancelledError,
    JobDiscardedError,
    JobFailedError,
    JobTimeoutError,
    JournalError,
    LeaseLost,
    NotReplicated,
    PoolClosedError,
    PoolDeadlockError,
    PoolFull,
    ProcessDiedError,
    PutUnknown,
    QanatError,
    RetryLater,
    SerialisationError,
    SimulatedError,
    StartTimeoutError,
    StoreError,
    StoreForked,
    StoreFull,
    StoreUnavailable,
    StoreVersionError,
    Throttled,
    TooManyFailuresError,
)

if TYPE_CHECKING:
    __version__: str
else:
    # Hidden from type checkers, who would take every name for there.
    def __getattr__(name: str) -> str:
        """Find out the version when it is asked for: reading it takes a third of the time to import."""
        if name != "__version__":
            raise AttributeError(f"module 'qanat' has no attribute {name!r}")
        from importlib.metadata import version

        return version("qanat")


__all__ = [
    "Adaptive",
    "At",
    "Balance",
    "Batch",
    "Between",
    "Budget",
    "Children",
    "ChildrenFailedError",
    "CircuitBreaker",
    "CircuitOpenError",
    "CommandError",
    "Concurrency",
    "Cron",
    "Discard",
    "Event",
    "Every",
    "Finding",
    "FixedWindow",
    "Handle",
    "Inbox",
    "InputError",
    "Job",
    "JobCancelledError",
    "JobDiscardedError",
    "JobEnded",
    "JobFailedError",
    "JobParked",
    "JobRetried",
    "JobStarted",
    "JobTimeoutError",
    "JournalError",
    "LeaseLost",
    "Limit",
    "NotReplicated",
    "Observer",
    "Order",
    "Outcome",
    "OutcomeStream",
    "Outcomes",
    "Page",
    "PlainQueue",
    "PlainRotation",
    "PlainStore",
    "Pool",
    "PoolClosedError",
    "PoolDeadlockError",
    "PoolFull",
    "Priority",
    "ProcessDiedError",
    "PutUnknown",
    "QanatError",
    "Queue",
    "QueueJob",
    "Quorum",
    "Reason",
    "Refused",
    "Retry",
    "RetryLater",
    "Rotation",
    "RotationCounts",
    "Rules",
    "RunEnded",
    "RunStarted",
    "ScheduleHandle",
    "SerialisationError",
    "SimulatedError",
    "Simulation",
    "SlidingWindow",
    "Spacing",
    "StartTimeoutError",
    "Stats",
    "Store",
    "StoreError",
    "StoreForked",
    "StoreFull",
    "StoreUnavailable",
    "StoreVersionError",
    "Summary",
    "Throttled",
    "TokenBucket",
    "TooManyFailuresError",
    "collect",
    "constant",
    "consume",
    "current_job",
    "errors",
    "exponential",
    "linear",
    "map",
    "open",
    "run",
    "simulate",
    "stream",
    "throttle_from",
]
