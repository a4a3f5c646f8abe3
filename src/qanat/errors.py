"""Every public exception, drawn as a tree.

    Exception
    ├── QanatError                      something went wrong that is ours to name
    │   ├── JobTimeoutError             also TimeoutError: an attempt ran past its timeout
    │   ├── JobCancelledError           the job was cancelled; awaiting its handle raises this
    │   ├── JobDiscardedError           the handler raised Discard
    │   ├── JobFailedError              a job of a queue was given up, perhaps in another process
    │   ├── StartTimeoutError           also TimeoutError: no job arrived in time
    │   ├── TooManyFailuresError        more jobs failed than max_failures allows
    │   ├── ChildrenFailedError         too many of the jobs that the job spawned failed
    │   ├── CircuitOpenError            a circuit breaker that fails fast let nothing start
    │   ├── PoolFull                    a bounded Pool has no room
    │   ├── PoolClosedError             also RuntimeError: the Pool takes no more work
    │   ├── PoolDeadlockError           also RuntimeError: handlers wait for handles that can never start
    │   ├── ProcessDiedError            a child process died under its job
    │   ├── CommandError                a command per item ended with a status other than 0
    │   ├── SerialisationError          also ValueError: a value cannot be written as JSON
    │   ├── SimulatedError              an attempt of a simulation was to fail
    │   ├── JournalError                a file cannot be used as a journal
    │   ├── StoreError                  a store could not do what it was asked for
    │   │   ├── StoreUnavailable        also ConnectionError: it is locked, unreachable, or cannot be read
    │   │   ├── StoreFull               there is no room left
    │   │   ├── StoreForked             also RuntimeError: the process was forked after it was opened
    │   │   ├── StoreVersionError       it was made by a newer version
    │   │   ├── LeaseLost               another worker has the jobs, or they are gone
    │   │   ├── PutUnknown              the jobs may be stored, or not
    │   │   └── NotReplicated           stored, but on fewer replicas than asked for
    │   └── InputError                  an input file could not be read, or a line of it
    └── Signal                          what a handler raises to say what is to be done
        ├── Throttled                   the other side asked for less: close the lane and come back
        ├── Discard                     end this job without another attempt
        └── RetryLater                  try this job again after a delay

Attributes carry the facts; nobody needs to parse a message.
"""

from __future__ import annotations

from numbers import Real
from sys import float_info
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._core.outcome import Outcome

__all__ = [
    "ChildrenFailedError",
    "CircuitOpenError",
    "CommandError",
    "Discard",
    "InputError",
    "JobCancelledError",
    "JobDiscardedError",
    "JobFailedError",
    "JobTimeoutError",
    "JournalError",
    "LeaseLost",
    "NotReplicated",
    "PoolClosedError",
    "PoolDeadlockError",
    "PoolFull",
    "ProcessDiedError",
    "PutUnknown",
    "QanatError",
    "RetryLater",
    "SerialisationError",
    "Signal",
    "SimulatedError",
    "StartTimeoutError",
    "StoreError",
    "StoreForked",
    "StoreFull",
    "StoreUnavailable",
    "StoreVersionError",
    "Throttled",
    "TooManyFailuresError",
    "outcomes_of",
]


class QanatError(Exception):
    """Stand at the root of the errors that qanat names itself."""


class JobTimeoutError(QanatError, TimeoutError):
    """Say that one attempt ran longer than its timeout.

    Attributes:
        timeout: The seconds that one attempt was allowed.
        still_running: True if the handler is a plain function whose thread could not be
            stopped: it goes on, and keeps its slot until it ends.
    """

    def __init__(self, timeout: float, *, still_running: bool = False) -> None:
        """Keep the timeout in seconds and whether the handler still runs."""
        tail = "; its thread still runs and keeps its slot until it ends" if still_running else ""
        super().__init__(f"the attempt ran longer than its timeout of {timeout:g} s{tail}")
        self.timeout = timeout
        self.still_running = still_running

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the error crosses processes."""
        return _rebuild_timeout, (self.timeout, self.still_running)


def _rebuild_timeout(timeout: float, still_running: bool) -> JobTimeoutError:
    return JobTimeoutError(timeout, still_running=still_running)


class JobCancelledError(QanatError):
    """Say that the job was cancelled before it could end by itself."""


class JobDiscardedError(QanatError):
    """Say that the handler gave the job up by raising `Discard`.

    Attributes:
        reason: What the handler said, or an empty text.
    """

    def __init__(self, reason: str = "") -> None:
        """Keep the handler's reason."""
        super().__init__(reason or "the handler discarded the job")
        self.reason = reason


class JobFailedError(QanatError):
    """Say that a job of a queue was given up elsewhere, or earlier, where its error is only known as text.

    Attributes:
        reason: Why, in a line.
        traceback: The traceback of its last error; an empty text if there was none.
    """

    def __init__(self, reason: str = "", traceback: str = "") -> None:
        """Keep what the store knows."""
        super().__init__(reason or "the job was given up")
        self.reason = reason
        self.traceback = traceback


class StartTimeoutError(QanatError, TimeoutError):
    """Say that no job arrived within `start_within` seconds."""


class TooManyFailuresError(QanatError):
    """Say that a run was stopped because more jobs failed than it allows.

    Attributes:
        failed: How many jobs had failed.
        finished: How many jobs had ended, the failed ones among them.
    """

    def __init__(self, failed: int, finished: int) -> None:
        """Keep the two counts."""
        super().__init__(f"{failed} of {finished} finished jobs failed, more than max_failures allows")
        self.failed = failed
        self.finished = finished

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the error crosses processes."""
        return type(self), (self.failed, self.finished)


class ChildrenFailedError(QanatError):
    """Say that a job failed for its children's sake: they were spawned with `failure=`.

    Attributes:
        failed: How many of them were not done: with "fail" how many failed.
        finished: How many of them there were.
        cancelled: How many of those that were not done were cancelled, and did not fail.
    """

    def __init__(self, failed: int, finished: int, cancelled: int = 0) -> None:
        """Keep the counts."""
        left_out = "1 was cancelled" if cancelled == 1 else f"{cancelled} were cancelled"
        said = "failed" if failed > cancelled else left_out.partition(" ")[2]
        if 0 < cancelled < failed:
            said = f"failed, and {left_out}"
        number = failed - cancelled or cancelled
        super().__init__(f"{number} of {finished} jobs that this one spawned, and depends on, {said}")
        self.failed = failed
        self.finished = finished
        self.cancelled = cancelled

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the error crosses processes."""
        return type(self), (self.failed, self.finished, self.cancelled)


class CircuitOpenError(QanatError):
    """Say that a `CircuitBreaker` with `fail_fast=True` let nothing start when the job's turn came.

    Attributes:
        limit: The breaker, in words.
        until: When its cooldown ends, monotonic seconds; None if it waits for a probe or a check.
    """

    def __init__(self, limit: str, until: float | None) -> None:
        """Keep which breaker it was and until when."""
        super().__init__(f"the circuit breaker lets nothing start ({limit})")
        self.limit = limit
        self.until = until

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the error crosses processes."""
        return type(self), (self.limit, self.until)


class PoolFull(QanatError):  # noqa: N818 - the name is the field's own, like queue.Full
    """Say that a Pool with `max_waiting` has no room; `await pool.put(item)` waits for it."""


class PoolClosedError(QanatError, RuntimeError):
    """Say that the Pool is not open, or takes no more work."""


class PoolDeadlockError(QanatError, RuntimeError):
    """Say that handlers wait for handles of a Pool in which no slot can ever come free."""


class ProcessDiedError(QanatError):
    """Say that the child process that ran the job died under it.

    Attributes:
        exitcode: The process's exit status; negative is the number of the signal that killed it.
    """

    def __init__(self, exitcode: int | None) -> None:
        """Keep the exit status."""
        super().__init__(f"the process that ran the job died with exit status {exitcode}")
        self.exitcode = exitcode

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the error crosses processes."""
        return type(self), (self.exitcode,)


class CommandError(QanatError):
    """Say that a command that was run for an item ended with a status other than 0.

    Attributes:
        code: The exit status; negative is the number of the signal that killed it.
        stderr: The end of what the command wrote to its standard error.
    """

    def __init__(self, code: int, stderr: str = "") -> None:
        """Keep the exit status and the end of standard error."""
        last = stderr.strip().rpartition("\n")[2]
        super().__init__(f"the command ended with exit status {code}" + (f": {last}" if last else ""))
        self.code = code
        self.stderr = stderr

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the error crosses processes."""
        return type(self), (self.code, self.stderr)


class SerialisationError(QanatError, ValueError):
    """Say that a value cannot be written as JSON."""


class SimulatedError(QanatError):
    """Say that an attempt of a simulation was to fail: what `failures=0.05` lets attempts fail with."""


class JournalError(QanatError):
    """Say that a file cannot be used as a journal: it is none, is damaged, or others may write it."""


class StoreError(QanatError):
    """Stand at the root of what a store answers when it cannot do what it was asked for."""


class StoreUnavailable(StoreError, ConnectionError):  # noqa: N818 - fixed in the reference of names
    """Say that a store could not be reached, is locked by somebody else, or cannot be read or written."""


class StoreFull(StoreError):  # noqa: N818 - the name is the field's own, like queue.Full
    """Say that a store has no room left; what it held it still holds."""


class StoreForked(StoreError, RuntimeError):  # noqa: N818 - as above
    """Say that a store was opened before the process was forked: open it again in the child."""


class StoreVersionError(StoreError):
    """Say that a store was made by a newer version, and was left as it is."""


class LeaseLost(StoreError):  # noqa: N818 - reads as what is the matter
    """Say that leases are lost: other workers have the jobs, or they are gone. Nothing was changed.

    Attributes:
        ids: The jobs.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        """Keep which jobs they were."""
        super().__init__(f"the lease is lost of {_listed(ids)}: it expired, or the job was taken away")
        self.ids: tuple[str, ...] = tuple(ids)

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the error crosses processes."""
        return type(self), (self.ids,)


class PutUnknown(StoreError):  # noqa: N818 - reads as what is the matter
    """Say that nobody knows whether a job was stored; putting it again under its id makes no second.

    Attributes:
        id: The job's id, made before it was sent.
    """

    def __init__(self, id: str) -> None:
        """Keep the job's id."""
        super().__init__(f"job {id!r} may be stored or not: put it again under this id")
        self.id = id

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the error crosses processes."""
        return type(self), (self.id,)


class NotReplicated(StoreError):  # noqa: N818 - reads as what is the matter
    """Say that a job is stored, but that fewer replicas told so in time than were asked for.

    Attributes:
        id: The job's id.
        got: How many replicas have it.
        wanted: How many were asked for.
    """

    def __init__(self, id: str, got: int, wanted: int) -> None:
        """Keep the job's id and the two counts."""
        super().__init__(f"job {id!r} is stored, but {got} replicas have it instead of {wanted}")
        self.id = id
        self.got = got
        self.wanted = wanted

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the error crosses processes."""
        return type(self), (self.id, self.got, self.wanted)


def _listed(ids: Sequence[str]) -> str:
    shown = ", ".join(map(repr, ids[:3]))
    return f"{shown} and {len(ids) - 3} more" if len(ids) > 3 else shown


class InputError(QanatError):
    """Say which line of which input file could not be read.

    Attributes:
        path: The file as it was named, `-` for standard input.
        line: The number of the line, from 1; None if the file as a whole could not be read.
    """

    def __init__(self, path: str, line: int | None, problem: str) -> None:
        """Keep the place and say what is wrong with it."""
        place = path if line is None else f"{path}, line {line}"
        super().__init__(f"{place}: {problem}")
        self.path = path
        self.line = line
        self.problem = problem

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the error crosses processes."""
        return type(self), (self.path, self.line, self.problem)


class Signal(Exception):  # noqa: N818 - not an error: a handler's word to the engine
    """Stand at the root of what a handler raises to say what is to be done with its job."""


class Throttled(Signal):
    """Say that the other side asked for less: raise it from a handler.

    The job's lane (without lanes: its task) closes until then, the attempt does not count,
    and the lane reopens with one job, then two, then four, until it is as before.

    Args:
        retry_after: Seconds to wait, an HTTP date, or the text of a `Retry-After` header with
            either. None means unknown: 1 s, doubled up to 60 s while it keeps happening.
        limit: The name of the limit to close instead of the lane.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If `retry_after` is less than 0, not finite, or a text that is neither seconds nor a
            date. Where the text comes from outside, `throttle_from` passes over what makes no sense.
    """

    def __init__(self, retry_after: float | str | None = None, limit: str | None = None) -> None:
        """Keep when to come back and which limit to close."""
        _check_retry_after(retry_after)
        if limit is not None and not isinstance(cast("object", limit), str):
            raise TypeError(f"limit must be the name of a limit, got {limit!r}")
        super().__init__("throttled" if retry_after is None else f"throttled, retry after {retry_after}")
        self.retry_after = retry_after
        self.limit = limit

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the signal crosses processes."""
        return type(self), (self.retry_after, self.limit)


class Discard(Signal):
    """End the job without another attempt; its outcome's error is a `JobDiscardedError`.

    Args:
        reason: Why, in a line.

    Raises:
        TypeError: If it is not a text.
    """

    def __init__(self, reason: str = "") -> None:
        """Keep the reason."""
        if not isinstance(cast("object", reason), str):
            raise TypeError(f"reason must be a text, got a {type(reason).__name__}: use str(...)")
        super().__init__(reason)
        self.reason = reason


class RetryLater(Signal):
    """Ask for another attempt after a delay in seconds; it counts as an attempt.

    Args:
        delay: Seconds, at least 0.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is less than 0 or not finite.
    """

    def __init__(self, delay: float = 0.0) -> None:
        """Keep the delay."""
        _check_seconds("delay", delay, "seconds")
        delay = float(delay)
        super().__init__(f"retry after {delay:g} s")
        self.delay = delay

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the facts, so that the signal crosses processes."""
        return type(self), (self.delay,)


def _check_seconds(name: str, value: object, expected: str) -> None:
    """Check that a signal names a length of time: what is wrong is said where it is raised."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if not 0 <= cast("float", value) <= float_info.max:
        raise ValueError(f"{name} must be {expected}, at least 0 and finite, got {value!r}")


def _check_retry_after(value: object) -> None:
    """Check what a handler says of when to come back."""
    expected = "seconds or an HTTP date"
    if value is None:
        return
    if not isinstance(value, (str, bytes)):
        _check_seconds("retry_after", value, expected)
        return
    text = (value.decode("latin-1") if isinstance(value, bytes) else value).strip()
    if text.replace(".", "", 1).isdecimal():
        _check_seconds("retry_after", float(text), expected)
        return
    # Slow to import, and most runs never meet a date.
    from email.utils import parsedate_to_datetime

    try:
        parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        raise ValueError(
            f"retry_after must be {expected}, got {value!r}: for a header that may hold anything "
            "use throttle_from(response)"
        ) from None


def blamed_on_job(error: BaseException) -> BaseException:
    """Return an error that a user's callback raised, as one of its job; interrupts are raised again.

    A CancelledError is the job's as well: the callback came by it elsewhere, nobody cancelled us.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        raise error
    return error


def outcomes_of(error: BaseException) -> Sequence[Outcome[Any, Any]]:
    """Return the finished outcomes that a run left with the error that it raised.

    Args:
        error: What `map`, `collect` or `run` raised because its source raised, too many jobs
            failed, no job arrived, or it was stopped.

    Returns:
        The outcomes in input order; empty if the error carries none.
    """
    found: Sequence[Outcome[Any, Any]] = getattr(error, "_qanat_outcomes", ())
    return found


def stored_of(error: BaseException) -> Sequence[str]:
    """Return the ids of the jobs that `put_many` had stored before it raised an error.

    Args:
        error: What it raised.

    Returns:
        The ids in the order of the items; empty if the error carries none.
    """
    found: Sequence[str] = getattr(error, "_qanat_stored", ())
    return found
