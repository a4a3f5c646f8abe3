"""A circuit breaker: after too many failures nothing starts for a while, and then a few try.

The three states are those of M. Nygard, "Release It!", 2007. What must stay true:

- **Only `take` and the end of an attempt change the state**, and what a check says. Asking does not: an
  open breaker whose cooldown is over is open until the first probe is taken.
- **Stale answers count for nothing.** Whatever started before the breaker last opened, or at that very
  instant, neither opens nor closes it and holds no place, however late it ends. So neither
  a crowd in flight nor a probe that hangs can do harm after the next opening.
- **A probe that says nothing gives its place back.** It was cancelled, discarded, throttled, or never
  began: the next job is the probe.
- **It closes in steps.** Once all probes were good, twice as many jobs may run at once; each one that
  ends well makes room for one more, so the room doubles, until as many run as when it opened.
- **It forgets by itself.** A window after its last answer or its cooldown, with nothing running, the next
  job finds it as good as new, whether or not its lane was forgotten meanwhile.
"""

from __future__ import annotations

import inspect
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, cast

from qanat._core.arguments import duration_in_words, number, plain, positive, whole
from qanat._core.limit import Limit, Refused
from qanat._core.limits.border import border
from qanat._core.limits.health import Share, is_good
from qanat.errors import CircuitOpenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from qanat._core.checks import Checked, Checker
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._core.reason import Cause

BreakerState = Literal["closed", "open", "half-open"]

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half-open"


class CircuitBreaker(Limit):
    """Start nothing for a while after too many failures, then let a few jobs try.

    Closed, it lets jobs start and looks at how their attempts end. After too many failures it
    opens: nothing starts for `cooldown` seconds. Then it is half-open: `probes` jobs may try. If all of
    them end well it closes, and lets twice as many run at once, then more and more, until as many
    run as when it opened; if one fails it is open for another cooldown.

    Every error is a failure, a timeout too, but not `Discard`, `Throttled`, `RetryLater` and
    a cancellation: these say nothing about the other side. Attempts that began before it
    opened are not looked at. Retries are attempts like any other.

    Args:
        failures: How many failures open it; a whole number, at least 1. Without `rate`: in a row.
            With it: in the window, and fewer open nothing, whatever their share.
        rate: The share of failed attempts that opens it: greater than 0, at most 1. None is by
            failures in a row.
        window: Seconds in which the share is counted, in ten slices; greater than 0. Also how long a breaker
            that nobody uses remembers, after its last answer or its cooldown: then it is as good as new.
        cooldown: Seconds for which nothing starts; greater than 0.
        probes: How many jobs may try after that; a whole number, at least 1.
        fail_fast: True ends jobs at once with `CircuitOpenError` while nothing may start and no probe
            was good yet; False lets them wait.
        check: A function without arguments, plain or async, which is called after the cooldown
            before any job is risked. If it raises, returns False or takes longer than 10 s, it
            stays open for another cooldown. A plain one is called in a thread. Without a run
            that could call it, the cooldown alone counts.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range.

    Examples:
        >>> from qanat._core.limits import CircuitBreaker
        >>> breaker = CircuitBreaker(failures=3, cooldown=10)
        >>> breaker.state
        'closed'
        >>> print(breaker)
        3 failures in a row, closed
    """

    __slots__ = (
        "_check", "_checkers", "_cooldown", "_fail_fast", "_failures", "_goal", "_good", "_last_at",
        "_open_until", "_opened_at", "_probes", "_rate", "_room", "_running", "_share", "_state", "_streak",
        "_taken", "_window",
    )  # fmt: skip

    cause: ClassVar[Cause] = "breaker"

    def __init__(
        self,
        failures: int = 5,
        *,
        rate: float | None = None,
        window: float = 60,
        cooldown: float = 30,
        probes: int = 1,
        fail_fast: bool = False,
        check: Callable[[], object] | Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._failures = whole("failures", failures, 1)
        self._rate = None if rate is None else _share(rate)
        self._window = positive("window", window)
        self._cooldown = positive("cooldown", cooldown)
        self._probes = whole("probes", probes, 1)
        if not isinstance(cast("object", fail_fast), bool):
            raise TypeError(f"fail_fast must be True or False, got {fail_fast!r}")
        self._fail_fast = fail_fast
        self._check = None if check is None else _check_function(check)
        self._checkers: list[Checker] = []
        self._state: BreakerState = CLOSED
        self._opened_at = -inf
        self._open_until = -inf
        self._last_at = -inf
        # All that was taken and not given back; and what of it was taken since it last opened.
        self._taken = 0
        self._running = 0
        # How many may run while it is closed, and at how many it stops counting them.
        self._room = inf
        self._goal = 0
        self._good = 0
        self._streak = 0
        self._share = Share(self._window)

    @property
    def state(self) -> BreakerState:
        """Whether it is "closed" (jobs start), "open" (none does) or "half-open" (a few try).

        It stays "open" after its cooldown, until the first job tries.
        """
        return self._state

    # --- as a limit ------------------------------------------------------------------------------

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return the end of the cooldown; infinity while probes, steps or a check are waited for.

        Raises:
            Refused: If it fails fast and nothing may start, and no probe was good yet.
        """
        if self._state is CLOSED:
            return now if self._running < self._room else inf
        if self._state is HALF_OPEN:
            if self._running + self._good < self._probes:
                return now
            until, refuses = inf, not self._good
        else:
            until, refuses = self._open_until, True
            if until <= now:
                if not self._is_checked:
                    return now
                until = inf
        if refuses and self._fail_fast:
            raise Refused(CircuitOpenError(str(self), None if until == inf else until))
        return until

    def take(self, job: Job[Any], now: float) -> None:
        """Count a job that runs; the first one after the cooldown makes it half-open."""
        if not self._taken and now >= self._remembers_until:
            self._forget()
        if self._state is OPEN:
            self._state = HALF_OPEN
        self._taken += 1
        self._running += 1

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        """Look at how an attempt ended, unless it began before the last opening."""
        self._taken -= 1
        started = outcome.started_at
        # Without a start it was taken just now, and another limit failed.
        if started is not None and started <= self._opened_at:
            return
        was_free = self._room == inf and self._state is CLOSED
        good = is_good(outcome)
        if good is not None:
            self._last_at = now
        if good is False and self._is_too_much(now):
            self._open(now)
        else:
            self._running -= 1
            if good:
                self._hear_good(now)
        if not was_free:
            self.changed()

    def fresh_at(self, now: float) -> float:
        """Return a window after its last answer or its cooldown; infinity while a job runs."""
        if self._taken:
            return inf
        if self._state is CLOSED and self._room == inf and not self._streak and not self._share.bad:
            return now
        if self._state is OPEN and self._is_checked:
            # Bad checks do not count, or a dead host that nobody asks for would be checked for ever.
            return max(self._last_at, self._opened_at + self._cooldown) + self._window
        return self._remembers_until

    @property
    def _remembers_until(self) -> float:
        """When it is as good as new if nothing is taken before; past the last check, if there was one."""
        return max(self._last_at, self._open_until) + self._window

    # --- states ----------------------------------------------------------------------------------

    def _is_too_much(self, now: float) -> bool:
        """Count a failure, and say whether it opens the breaker."""
        if self._state is HALF_OPEN:
            return True
        self._streak += 1
        if self._rate is None:
            return self._streak >= self._failures
        share = self._share
        share.add(True, now)
        return share.bad >= self._failures and share.bad >= self._rate * share.calls

    def _open(self, now: float) -> None:
        """Start nothing for a cooldown."""
        self._goal = max(self._goal, self._running)
        self._state = OPEN
        self._opened_at = now
        self._open_until = border(now, self._cooldown)
        self._running = self._good = 0
        self._forget_failures()
        if self._is_checked:
            self._checkers[0].check_wanted(self)

    def _hear_good(self, now: float) -> None:
        """Count an attempt that ended well."""
        self._streak = 0
        if self._state is HALF_OPEN:
            self._good += 1
            if self._good < self._probes:
                return
            self._state = CLOSED
            self._room = self._probes + self._good
        elif self._room < inf:
            self._room += 1
        if self._rate is not None:
            self._share.add(False, now)
        if self._room > self._goal:
            self._room = inf
            self._goal = 0

    def _forget(self) -> None:
        """Be as good as new. Nothing is taken, so nobody has to be told."""
        self._state = CLOSED
        self._room = inf
        self._goal = self._good = 0
        self._forget_failures()

    def _forget_failures(self) -> None:
        self._streak = 0
        self._share.clear()

    # --- the check -------------------------------------------------------------------------------

    @property
    def check(self) -> Callable[[], Any] | None:
        """What is called after the cooldown; for drivers."""
        return self._check

    @property
    def _is_checked(self) -> bool:
        return self._check is not None and len(self._checkers) > 0

    @property
    def check_due_at(self) -> float:
        """When the check is to be called; infinity if it is not wanted now. For drivers."""
        return self._open_until if self._state is OPEN and self._check is not None else inf

    def check_ended(self, good: bool, now: float) -> None:
        """Hear what came of the check: half-open if it was good, else open for another cooldown."""
        if self._state is not OPEN:
            return
        if good:
            self._state = HALF_OPEN
        else:
            self._open_until = border(now, self._cooldown)
        self.changed()

    def add_checker(self, checker: Checker) -> None:
        """Attach who can call the check; the first one is asked to."""
        self._checkers.append(checker)
        if self._state is OPEN and self._checkers[0] is checker:
            checker.check_wanted(self)

    def remove_checker(self, checker: Checker) -> None:
        """Detach who can call the check no more; the next one is asked, or the cooldown counts."""
        if checker not in self._checkers:
            return
        was_first = self._checkers[0] is checker
        self._checkers.remove(checker)
        if was_first and self._state is OPEN:
            if self._is_checked:
                self._checkers[0].check_wanted(self)
            self.changed()

    def checked_parts(self) -> Iterable[Checked]:
        """Return itself if it has a check."""
        return () if self._check is None else (self,)

    # --- in words --------------------------------------------------------------------------------

    def anew(self) -> CircuitBreaker:
        """Return another one with the same settings, as good as new."""
        return type(self)(
            self._failures, rate=self._rate, window=self._window, cooldown=self._cooldown,
            probes=self._probes, fail_fast=self._fail_fast, check=self._check,
        )  # fmt: skip

    def __str__(self) -> str:
        if self._rate is None:
            many = "1 failure" if self._failures == 1 else f"{self._failures} failures in a row"
        else:
            many = f"{plain(self._rate)} of {duration_in_words(self._window)} failing"
        return f"{many}, {self._state}"

    def __repr__(self) -> str:
        rate = "" if self._rate is None else f", rate={plain(self._rate)}, window={plain(self._window)}"
        return f"<CircuitBreaker({self._failures}{rate}, cooldown={plain(self._cooldown)}): {self._state}>"


def _share(value: object) -> float:
    result = number("rate", value)
    if not 0.0 < result <= 1.0:
        raise ValueError(
            f"rate must be a share, greater than 0 and at most 1, got {value!r}: 0.5 is half of the attempts"
        )
    return result


def _check_function(check: object) -> Callable[[], Any]:
    hint = "check must be a function without arguments, plain or async"
    if not callable(check):
        if inspect.iscoroutine(check):
            check.close()
        raise TypeError(f"{hint}, got {check!r}: pass the function, not what it returns")
    try:
        inspect.signature(check).bind()
    except ValueError:
        pass  # built-in functions may not say
    except TypeError as error:
        raise TypeError(f"{hint}, got {check!r} ({error}): use functools.partial for its arguments") from None
    return check
