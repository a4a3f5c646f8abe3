"""From a for-loop to a fleet without a rewrite: a function, many items, and the rules."""

from qanat import errors
from qanat._app.current import current_job
from qanat._app.functions import collect, map, stream
from qanat._app.handle import Handle
from qanat._app.outcomes import Outcomes, Summary
from qanat._app.pool import Pool, Stats
from qanat._app.rules import Rules
from qanat._core.backoff import constant, exponential, linear
from qanat._core.job import Job
from qanat._core.limits import Concurrency, FixedWindow, SlidingWindow, Spacing, TokenBucket
from qanat._core.outcome import Outcome
from qanat._core.reason import Reason
from qanat._core.retry import Retry
from qanat.errors import (
    CommandError,
    Discard,
    InputError,
    JobCancelledError,
    JobDiscardedError,
    JobTimeoutError,
    PoolClosedError,
    PoolDeadlockError,
    PoolFull,
    ProcessDiedError,
    QanatError,
    RetryLater,
    StartTimeoutError,
    Throttled,
    TooManyFailuresError,
)
