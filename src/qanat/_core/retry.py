"""Whether and when a job whose attempt failed runs again."""

from __future__ import annotations

import builtins
import math
from dataclasses import KW_ONLY, dataclass
from datetime import UTC
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, Never, Protocol, cast

from qanat._core.arguments import at_least, number, positive, whole
from qanat._core.backoff import Backoff, exponential

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qanat._core.ports import Random

    Errors = type[BaseException] | tuple[type[BaseException], ...]

DEFAULT_BACKOFF: Final = exponential(first=0.5, factor=2, cap=60, jitter="full")
"""0.5 s, 1 s, 2 s and so on up to a minute, of which a random part is waited."""

BUILT_IN: Final = frozenset(
    each for each in vars(builtins).values() if isinstance(each, type) and issubclass(each, BaseException)
)
"""Exceptions that tell nothing of waiting, unless somebody gave one an attribute of its own."""

BUDGET_SECONDS: Final = 60
"""Over how many seconds the share of retries is counted."""


class TenacityWait(Protocol):
    """What the waits of the tenacity package are to a type checker: `wait_exponential()` for one."""

    def __call__(self, retry_state: Never) -> float:
        """Return the seconds to wait, given tenacity's state of a call."""
        ...


@dataclass(frozen=True, slots=True)
class Retry:
    """Say whether and when a job whose attempt failed runs again.

    A job that waits for its retry holds nothing. A time that the other side asked for, with
    `Retry-After`, is kept if it is longer than the backoff.

    Attributes:
        times: How many retries, at least 0; the handler is called at most once more than that.
        on: The exceptions that are worth a retry: a class or a tuple of them.
        never_on: Those of them that are not: a class or a tuple of them.
        when: Asked last, with the error and the number of the attempt that failed, from 1.
            A plain function; if it raises, the job ends with that error. None is always.
        backoff: How long to wait: a function from the number of the attempt that failed, from 1, to
            seconds. `constant`, `linear` and `exponential` make one; a wait of tenacity's will do.
        deadline: Seconds from the job's first start to the last start allowed. None is no end.
        budget: The share of the task's starts that may be retries, greater than 0 and at most 1,
            counted over 60 s. None is any share.
        max_throttles: How often a job may be throttled before that fails it. Throttled attempts do
            not count as retries, so this holds with 0 retries too.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of range.

    Examples:
        >>> from qanat._core.retry import Retry
        >>> retry = Retry(3, on=(OSError, ValueError), never_on=FileNotFoundError)
        >>> retry.allows(TimeoutError(), 1), retry.allows(FileNotFoundError(), 1)
        (True, False)
    """

    times: int
    _: KW_ONLY
    on: Errors = (Exception,)
    never_on: Errors = ()
    when: Callable[[BaseException, int], bool] | None = None
    backoff: Callable[[int], float] | TenacityWait = DEFAULT_BACKOFF
    deadline: float | None = None
    budget: float | None = None
    max_throttles: int = 100

    def __post_init__(self) -> None:
        checked: dict[str, object] = {
            "times": whole("times", self.times, 0),
            "on": _classes("on", self.on),
            "never_on": _classes("never_on", self.never_on),
            "max_throttles": whole("max_throttles", self.max_throttles, 0),
        }
        if self.when is not None:
            _check_plain_function("when", self.when)
        _check_plain_function("backoff", self.backoff)
        if self.deadline is not None:
            checked["deadline"] = positive("deadline", self.deadline)
        if self.budget is not None:
            checked["budget"] = _share("budget", self.budget)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, value: int | Retry) -> Retry:
        """Return what `retry=` means: a number of retries, or a `Retry` as it is.

        Raises:
            TypeError: If it is neither.
            ValueError: If the number is less than 0.
        """
        return value if isinstance(value, Retry) else cls(whole("retry", value, 0))

    def allows(self, error: BaseException, attempt: int) -> bool:
        """Whether this error of this attempt, from 1, is worth another one.

        `deadline` and `budget` are not looked at. What `when` raises comes through.
        """
        if attempt > self.times or isinstance(error, self.never_on) or not isinstance(error, self.on):
            return False
        return self.when is None or bool(self.when(error, attempt))

    @property
    def times_at_once(self) -> int:
        """How many retries come without a delay, whatever plain exception was raised; 0 if it depends."""
        backoff = self.backoff
        asks_nothing = (
            self.on == (Exception,)
            and not self.never_on
            and self.when is None
            and self.deadline is None
            and self.budget is None
        )
        return self.times if asks_nothing and isinstance(backoff, Backoff) and backoff.cap == 0.0 else 0

    def delay_for(self, error: BaseException, attempt: int, rng: Random, elapsed: float) -> float:
        """Return the seconds to wait before the next attempt, jitter included.

        Args:
            error: What the attempt raised; only waits of tenacity's can look at it.
            attempt: The number of the attempt that failed, from 1.
            rng: The source of jitter. Functions of users and waits of tenacity's have their own.
            elapsed: Seconds since the job's first start.

        Raises:
            TypeError: If the backoff returns something that is not a number.
            ValueError: If it returns less than 0, NaN or infinity.
        """
        backoff = self.backoff
        if isinstance(backoff, Backoff):
            return backoff.drawn(attempt, rng)
        function = cast("Callable[[object], float]", backoff)
        if _is_tenacity_wait(backoff):
            seconds = function(_RetryState(error, attempt, elapsed))
            return at_least(f"backoff after attempt {attempt}", seconds, 0)
        return at_least(f"backoff({attempt})", function(attempt), 0)

    def __str__(self) -> str:
        if not self.times:
            return "no retries"
        backoff = self.backoff
        words = (
            backoff if isinstance(backoff, Backoff) else getattr(backoff, "__name__", type(backoff).__name__)
        )
        return f"{self.times} {'retry' if self.times == 1 else 'retries'} after {words}"


class RetryBudget:
    """Keep the retries of a task within a share of its starts, counted over 60 s.

    So an outage does not multiply the calls made into it: with a share of 0.1 there are at most
    a ninth as many retries as first attempts.

    A retry is counted when it is granted, not when it starts after its delay: else a thousand jobs
    that fail together would all be granted theirs on the same count. It is granted if it is the only
    one of the last 60 s, so that a small run is not left without, or if the retries granted in that
    time, this one among them, are at most `share` of all that was counted, this one among them.

    Memory is constant: counts for each of 60 seconds by the clock's whole seconds, the
    present one among them. So the count reaches back at least 59 s and less than 60.

    Args:
        share: The share of starts that may be retries; greater than 0, at most 1.

    Raises:
        TypeError: If the share is not a number.
        ValueError: If it is out of range.
    """

    __slots__ = ("_firsts", "_retries", "_second", "_share", "_sum_firsts", "_sum_retries")

    def __init__(self, share: float) -> None:
        self._share = _share("share", share)
        self._firsts = [0] * BUDGET_SECONDS
        self._retries = [0] * BUDGET_SECONDS
        self._sum_firsts = 0
        self._sum_retries = 0
        self._second = 0

    def started(self, now: float, retry: bool) -> None:
        """Count a start; a retry was counted when it was granted, and is not again."""
        if retry:
            return
        slot = self._slot(now)
        self._firsts[slot] += 1
        self._sum_firsts += 1

    def allows(self, now: float) -> bool:
        """Grant a retry and count it, or refuse it. Ask only if a yes will be used."""
        slot = self._slot(now)
        retries = self._sum_retries + 1
        if retries > 1 and retries > self._share * (self._sum_firsts + retries):
            return False
        self._retries[slot] += 1
        self._sum_retries = retries
        return True

    def _slot(self, now: float) -> int:
        """Forget the seconds that have passed out of the window; return the present one's place."""
        second = math.floor(now)
        for passed in range(max(self._second + 1, second - BUDGET_SECONDS + 1), second + 1):
            slot = passed % BUDGET_SECONDS
            self._sum_firsts -= self._firsts[slot]
            self._sum_retries -= self._retries[slot]
            self._firsts[slot] = self._retries[slot] = 0
        self._second = second
        return second % BUDGET_SECONDS


def retry_after_of(error: BaseException, wall: float) -> float | None:
    """Return the seconds that the other side asked to wait, if the error tells.

    Looked for are an attribute `retry_after` of the error, and a header `Retry-After` in
    `error.response.headers` or `error.headers`, as the errors of HTTP clients have them. What cannot
    be understood, or raises when looked at, is passed over.

    Args:
        error: What an attempt raised.
        wall: The present time, UTC seconds since 1970, for values that are dates.
    """
    if type(error) in BUILT_IN and not error.__dict__:
        return None  # as most are; the rest costs as much as an item
    for find in (_attribute, _response_header, _own_header):
        # Any object may hang at an error, and a property may do anything.
        try:
            found = find(error)
            if found is not None:
                return retry_after_seconds(found, wall)
        except Exception:  # noqa: BLE001, S112 - see above
            continue
    return None


def retry_after_seconds(value: object, wall: float) -> float:
    """Return the seconds that a `Retry-After` means; 0 for a date that has passed.

    Args:
        value: Seconds, as a number or a text, or an HTTP date (RFC 9110, section 5.6.7).
        wall: The present time, UTC seconds since 1970.

    Raises:
        ValueError: If it is neither, or less than 0.
    """
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if isinstance(value, str):
        text = value.strip()
        value = float(text) if text.replace(".", "", 1).isdecimal() else max(0.0, _date(text) - wall)
    try:
        return at_least("retry_after", value, 0)
    except TypeError:
        raise ValueError(f"retry_after must be seconds or an HTTP date, got {value!r}") from None


def _date(text: str) -> float:
    """Return an HTTP date as UTC seconds since 1970."""
    # Slow to import, and most runs never meet a date.
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        raise ValueError(f"retry_after must be seconds or an HTTP date, got {text!r}") from None
    # An asctime date names no zone; HTTP dates are UTC.
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _attribute(error: BaseException) -> object:
    return getattr(error, "retry_after", None)


def _response_header(error: BaseException) -> object:
    return _header(getattr(getattr(error, "response", None), "headers", None))


def _own_header(error: BaseException) -> object:
    return _header(getattr(error, "headers", None))


def _header(headers: Any) -> object:
    """Return the value of `Retry-After`, however the name is spelt; None if it is not there."""
    if headers is None:
        return None
    pairs: Iterable[tuple[str, object]] = headers.items() if hasattr(headers, "items") else headers
    return next((value for name, value in pairs if name.lower() == "retry-after"), None)


class _RetryState:
    """What a wait of tenacity's looks at, as far as it exists here; it is its own outcome."""

    __slots__ = ("_error", "attempt_number", "idle_for", "outcome", "seconds_since_start")

    failed = True

    def __init__(self, error: BaseException, attempt: int, elapsed: float) -> None:
        self._error = error
        self.attempt_number = attempt
        self.seconds_since_start = elapsed
        self.idle_for = 0.0
        self.outcome = self

    def exception(self) -> BaseException:
        """Return what the attempt raised."""
        return self._error


def _is_tenacity_wait(backoff: object) -> bool:
    """Whether it is a wait of tenacity's, which is never imported here."""
    return any(cls.__module__ == "tenacity.wait" for cls in type(backoff).__mro__)


def _classes(name: str, value: object) -> tuple[type[BaseException], ...]:
    """Return exception classes as a tuple."""
    classes = cast("tuple[object, ...]", value) if isinstance(value, tuple) else (value,)
    if not all(isinstance(cls, type) and issubclass(cls, BaseException) for cls in classes):
        raise TypeError(f"{name} must be an exception class or a tuple of them, got {value!r}")
    return cast("tuple[type[BaseException], ...]", classes)


def _check_plain_function(name: str, value: object) -> None:
    if not callable(value) or iscoroutinefunction(value):
        raise TypeError(f"{name} must be a plain function, got {value!r}")


def _share(name: str, value: float) -> float:
    share = number(name, value)
    if not 0.0 < share <= 1.0:
        raise ValueError(f"{name} must be greater than 0 and at most 1, got {value!r}")
    return share
