"""How many jobs run at once, found out while they run."""

from __future__ import annotations

from math import inf, log, sqrt
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from qanat._core.arguments import at_least, positive, whole
from qanat._core.limit import Limit
from qanat._core.limits.knee import Knee, Window
from qanat.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Collection

    from qanat._core.job import Job
    from qanat._core.limit import Signal
    from qanat._core.outcome import Outcome
    from qanat._core.reason import Cause

CUT: Final = 0.7
"""What is left after an overload: the factor of CUBIC (RFC 9438)."""
BRAKED: Final = 0.8
"""What is left each time the machine says that it is too busy."""
HELD: Final = 2.0
"""Seconds for which nothing grows after that."""
NEAR: Final = 0.95
"""How near to a number that was too many it comes back soon."""
CREEP: Final = 1.0025
"""By how much it comes nearer with each window: twenty windows, so that refusals are rare."""
IDLE: Final = 300.0
"""Seconds without a job after which nothing that was found out is believed any more."""
SHORTEST: Final = 1e-6
"""Seconds that an attempt is taken to last at least; zero has no logarithm."""
STRAGGLERS: Final = 10
"""One of so many jobs of a window is not waited for."""


class Adaptive(Limit):
    """Let as many jobs run at once as the other side, and this machine, can bear.

    It begins with `start`, doubles while that costs no latency, and settles where latency begins to
    grow: at the knee, from which on more at once bring no more throughput. It follows the knee when
    that moves. An overload (`Throttled`, or too many errors of `on`) takes 30 % away, at most once a
    round trip, and that number is neared again slowly. While the machine is too busy (`max_lag`,
    `max_cpu`, `max_memory`) it shrinks by 20 % a time. It does not grow while it is not used to the
    full. What was found out is forgotten after five minutes without a job.

    The law, and the published ones that it comes from, are told under "How Adaptive finds the knee" in
    the documentation: slow start (Jacobson 1988), the knee as the point of greatest power (Kleinrock
    1979) found by latency as in TCP Vegas (1995), BBR (2016) and Netflix's concurrency-limits (2018),
    additive increase and multiplicative decrease (Chiu and Jain 1989).

    Args:
        lowest: How many may always run at once; a whole number, at least 1.
        highest: How many may run at once at most; a whole number, at least `lowest`.
        start: How many may run at once at first; None is `lowest`.
        on: The errors that count as an overload; `Throttled` always does.
        tolerance: The share of the attempts that may fail with them, from 0 to below 1; a single one
            is always tolerated.
        max_lag: Seconds by which the event loop may be late; None is any.
        max_cpu: The share of the machine's CPU time that may be used, up to 1; None is any.
        max_memory: The share of the machine's memory that may be used, up to 1; None is any.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If one is out of range.

    Examples:
        >>> from qanat import Adaptive
        >>> limit = Adaptive(1, 200)
        >>> limit.current
        1
        >>> print(limit)
        1 to 200 at once
    """

    __slots__ = (
        "_at_once", "_bad", "_ceiling", "_cohort", "_count", "_cut_at", "_ended", "_held_until",
        "_idle_at", "_is_new", "_knee", "_limits", "_on", "_open", "_over", "_passed", "_peak", "_running",
        "_running_sum", "_squares", "_start", "_sum", "_tolerance",
    )  # fmt: skip

    cause: ClassVar[Cause] = "concurrency"

    _is_new: bool
    _peak: int
    _running_sum: int

    def __init__(
        self,
        lowest: int,
        highest: int,
        *,
        start: int | None = None,
        on: type[BaseException] | tuple[type[BaseException], ...] = (ConnectionError, TimeoutError),
        tolerance: float = 0.05,
        max_lag: float | None = 0.1,
        max_cpu: float | None = None,
        max_memory: float | None = 0.9,
    ) -> None:
        lowest = whole("lowest", lowest, 1)
        highest = whole("highest", highest, 1)
        if highest < lowest:
            raise ValueError(f"highest must be at least lowest, {lowest}, got {highest}")
        self._start = lowest if start is None else whole("start", start, 1)
        if not lowest <= self._start <= highest:
            raise ValueError(f"start must be from {lowest} to {highest}, got {start!r}")
        self._on = _errors(on)
        self._tolerance = at_least("tolerance", tolerance, 0.0)
        if self._tolerance >= 1.0:
            raise ValueError(f"tolerance must be below 1, got {tolerance!r}")
        self._limits: dict[Signal, float] = {}
        if max_lag is not None:
            self._limits["lag"] = positive("max_lag", max_lag)
        if max_cpu is not None:
            self._limits["cpu"] = _share("max_cpu", max_cpu)
        if max_memory is not None:
            self._limits["memory"] = _share("max_memory", max_memory)
        self._running = 0
        self._idle_at = -inf
        self._forget(lowest, highest)

    @property
    def lowest(self) -> int:
        """How many may always run at once."""
        return self._knee.lowest

    @property
    def highest(self) -> int:
        """How many may run at once at most."""
        return self._knee.highest

    @property
    def current(self) -> int:
        """How many may run at once now."""
        return self._at_once

    # --- as a limit ------------------------------------------------------------------------

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return `now` if there is room, else infinity: only a finish or growth makes room."""
        return now if self._running < self._at_once else inf

    def take(self, job: Job[Any], now: float) -> None:
        """Count one more that runs, and measure it if the window wants more."""
        running = self._running
        if not running and now >= self._idle_at + IDLE and not self._is_new:
            self._forget(self.lowest, self.highest)
        self._is_new = False
        self._running = running = running + 1
        if running > self._peak:
            self._peak = running
        if self._open:
            self._open -= 1
            self._cohort.add(job)
            self._running_sum += running

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        """Count one less; learn from how long it took, and how it ended."""
        before = self._running
        was_full = before >= self._at_once
        self._running = before - 1
        if before == 1:
            self._idle_at = now
        measured = job in self._cohort
        if measured:
            self._cohort.remove(job)
        elif not self._open:
            self._passed += 1
        error = outcome.error
        if error is not None:
            self._failed(error, outcome, now)
        elif measured:
            level = log(outcome.ran) if outcome.ran > SHORTEST else log(SHORTEST)
            self._ended += 1
            self._sum += level
            self._squares += level * level
        if not self._open and (
            len(self._cohort) <= self._count // STRAGGLERS or self._passed > 4 * self._count
        ):
            self._close(now)
        # It grows here and nowhere else, and who waits was told "full".
        if was_full and self._running < self._at_once:
            self.changed()

    def replaced(self, job: Job[Any], held: Job[Any]) -> None:
        """Measure a stand-in in place of its job, which may be taken again meanwhile."""
        if job in self._cohort:
            self._cohort.remove(job)
            self._cohort.add(held)

    def fresh_at(self, now: float) -> float:
        """Return when all that was found out is forgotten; infinity while anything runs."""
        if self._running:
            return inf
        return now if self._is_new else self._idle_at + IDLE

    # --- what it learns from ---------------------------------------------------------------

    def _forget(self, lowest: int, highest: int) -> None:
        """Know nothing."""
        self._knee = Knee(lowest, highest, float(self._start))
        self._at_once = self._start
        self._ceiling = inf
        self._cut_at = self._held_until = -inf
        self._over: frozenset[Signal] = frozenset()
        self._is_new = True
        self._begin()

    def _begin(self) -> None:
        """Begin a window: the jobs that start next are measured."""
        self._cohort: set[Job[Any]] = set()
        self._open = self._count = self._knee.count(self._running)
        self._ended = self._passed = self._bad = 0
        self._running_sum = 0
        self._peak = self._running
        self._sum = self._squares = 0.0

    def _close(self, now: float) -> None:
        """End a window, and begin the next with what it said."""
        knee, ended = self._knee, self._ended
        if ended:
            mean = self._sum / ended
            spread = sqrt(max(0.0, self._squares - ended * mean * mean) / (ended - 1)) if ended > 1 else 0.0
            # Doubling measures those who fill the new slots. Later, jobs that come in step would see few
            # others at their start, and yet run with all of them.
            full = self._peak >= self._at_once
            is_steady = full and knee.phase != "doubling"
            at_once = self._at_once if is_steady else self._running_sum / self._count
            before = knee.estimate
            knee.learn(Window(at_once, ended, mean, spread, full))
            if self._ceiling < inf:
                knee.cap(self._ceiling)
                self._ceiling = self._ceiling * CREEP if self._ceiling < 2.0 * knee.highest else inf
            if now < self._held_until:
                knee.cap(before)
        self._follow()

    def _follow(self) -> None:
        """Allow as many as the knee says, and begin a window."""
        self._at_once = self._knee.at_once
        self._begin()

    def _failed(self, error: BaseException, outcome: Outcome[Any, Any], now: float) -> None:
        """Shrink if a failure says that there is too much, and says so of what was allowed since."""
        started_at = outcome.started_at
        if started_at is None:
            return  # it never ran
        if isinstance(error, Throttled):
            too_many = True
        elif isinstance(error, self._on):
            self._bad += 1
            too_many = self._bad > max(1.0, self._tolerance * self._count)
        else:
            return
        if too_many and started_at >= self._cut_at:
            self._cut_at = now
            allowed = min(self._at_once, self._peak)
            self._ceiling = allowed * NEAR
            self._knee.shrink(allowed * CUT)
            self._follow()

    # --- what the machine says -------------------------------------------------------------

    def wants(self) -> Collection[Signal]:
        """Return the signals that it has a limit for."""
        return self._limits.keys()

    def sense(self, signal: Signal, value: float, now: float) -> None:
        """Shrink if the machine is too busy for the second time in a row."""
        limit = self._limits.get(signal)
        if limit is None or value <= limit:
            self._over = self._over.difference((signal,))
            return
        self._held_until = now + HELD
        if signal in self._over:
            self._knee.shrink(min(self._at_once, max(self._running, 1)) * BRAKED)
            self._follow()
        self._over = self._over.union((signal,))

    def __str__(self) -> str:
        return f"{self.lowest} to {self.highest} at once"

    def __repr__(self) -> str:
        return f"Adaptive({self.lowest}, {self.highest})"


def _share(name: str, value: float) -> float:
    share = positive(name, value)
    if share > 1.0:
        raise ValueError(f"{name} must be a share of at most 1, got {value!r}")
    return share


def _errors(on: object) -> tuple[type[BaseException], ...]:
    found = cast("tuple[object, ...]", on) if isinstance(on, tuple) else (on,)
    for kind in found:
        if not isinstance(kind, type) or not issubclass(kind, BaseException):
            raise TypeError(f"on must be an exception class or a tuple of them, got {on!r}")
    return cast("tuple[type[BaseException], ...]", found)
