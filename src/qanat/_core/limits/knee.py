"""Where the knee is: the law by which `Adaptive` finds how many jobs to run at once.

A server's latency is flat up to some concurrency, the knee, and grows from there on, while its
throughput grows up to the knee and is flat from there on. The knee is the point of greatest *power*,
throughput over latency (Kleinrock, "Power and deterministic rules of thumb for probabilistic problems
in computer communications", ICC 1979). By Little's law a server that runs `n` jobs at latency `L`, and
would take `L0` for each if none queued, has its knee at `n * L0 / L`. TCP Vegas (Brakmo and Peterson
1995), BBR (Cardwell et al. 2016) and the gradient limits of Netflix's concurrency-limits (2018) rest
on that, too; what they differ in is where `L0` comes from, and what is done when it is no longer true.

- **Doubling** (slow start, Jacobson 1988) until the latency has risen for sure.
- **Steady**: after each window of jobs the estimate moves towards the concurrency at which the latency
  is 8 % above `L0`: the knee and a little more, so that there is always work.
- **Dip**: now and then a window runs 14 % less, below the knee, and says what `L0` is now (BBR does the
  same, far deeper).
- **Checking**: a sudden rise is answered at once by a step down in proportion. If the latency does not
  fall with it, it has risen by itself and not because of us: the step is taken back.
- Windows without any rise are evidence that the knee has moved up: a cumulative sum of it (Page 1954)
  brings doubling back, with a small first step.

Latencies are compared by their logarithms: noise is a factor, and a few slow jobs say little. Windows
are as long as the noise asks for, so what is significant is known: all tests are in standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from typing import Final, Literal

HEADROOM: Final = 0.075
"""The rise of the log of latency that is aimed at, 8 %; nearer to the knee it is lost in the noise."""
DIP: Final = 0.86
"""The share of the estimate that is run at once to measure the latency without a queue: below the knee."""
EVERY: Final = 12
"""Windows between two dips once the latency without a queue is known well."""
SOON: Final = 4
"""Windows between two dips while it is not."""
FALL: Final = 0.16
"""The fall of the log of the estimate since the last dip that asks for another one: 15 %."""
FEW: Final = 10.0
"""An estimate below it is rarely dipped from: there one more or less is a great part of it."""
GAIN: Final = 0.35
"""How far the estimate follows what one window says; noise is averaged over about five of them."""
BASE_GAIN: Final = 0.3
"""The same for the latency without a queue, and what one dip says."""
STRIDE: Final = 1.25
"""The first step of doubling when it comes back; each further one is so much longer, up to doubling."""
RISE: Final = 0.14
"""The least rise of the log of latency that ends the doubling: 15 %."""
JUMP: Final = 0.25
"""The least rise of the log of latency that is answered by a step down: 28 %."""
SURE: Final = 2.5
"""Standard errors beyond which a difference is not taken for noise: one window in a hundred."""
PROOF: Final = 3.0
"""The cumulative sum, in standard errors, that brings doubling back."""
SPREAD: Final = 0.25
"""The standard deviation of log latency that is assumed until it is known, as if from `SUPPOSED` jobs."""
SUPPOSED: Final = 8.0
MOST_COUNT: Final = 200.0
"""Jobs that the standard deviation is taken from at most; what is older fades."""
PRECISION: Final = 0.05
"""The standard error of log latency that a window is made long enough for: 5 %."""
MOST_ROUNDS: Final = 8
"""Round trips that a window lasts at most for that."""

Phase = Literal["doubling", "dip", "steady", "checking"]


@dataclass(slots=True)
class Window:
    """What was measured at one concurrency.

    Attributes:
        at_once: How many ran, on average, when one of its jobs started.
        count: How many jobs were measured.
        level: The mean of the log of their latencies.
        spread: The standard deviation of that log; it means nothing for a single job.
        full: Whether as many ran as were allowed.
    """

    at_once: float
    count: int
    level: float
    spread: float
    full: bool


@dataclass(slots=True)
class Knee:
    """Estimate the knee from windows; say how many to run at once, and how many to measure.

    Attributes:
        lowest: Below what the estimate does not go.
        highest: Above what it does not go.
        estimate: Where the knee is thought to be, with `HEADROOM`.
        phase: What the present window is for.
        base: The log of the latency without a queue.
        base_count: How many jobs say so.
        spread: The standard deviation of the log of latency, within a window.
        proof: The cumulative sum of evidence that the knee is above.
        stride: The next step of doubling.
        is_first: Whether it is still the first doubling.
        before: The estimate before the step down that is checked.
        tried: The concurrency, and `tried_level` the log of the latency, that the check compares with.
    """

    lowest: int
    highest: int
    estimate: float
    phase: Phase = "doubling"
    base: float = 0.0
    base_count: float = 0.0
    spread: float = SPREAD
    spread_count: float = SUPPOSED
    proof: float = 0.0
    stride: float = 2.0
    is_first: bool = True
    until_dip: int = 0
    interval: int = SOON
    is_second: bool = False
    at_dip: float = 0.0
    before: float = 0.0
    tried: float = 0.0
    tried_level: float = 0.0

    # --- what to do ------------------------------------------------------------------------

    @property
    def at_once(self) -> int:
        """How many to run at once in the present window."""
        wanted = round(self.estimate * DIP if self.phase == "dip" else self.estimate)
        return max(self.lowest, min(self.highest, wanted))

    def count(self, running: int) -> int:
        """Return how many jobs the present window measures, if so many run when it begins."""
        at_once = self.at_once
        if self.phase == "doubling":
            # Those who start at once, so that a window lasts one round trip; a few more of few.
            few = 8 if at_once > 4 or not self.is_first else 4
            return max(at_once - running, min(4 * at_once, few))
        enough = ceil((self.spread / PRECISION) ** 2)
        return max(at_once, min(enough, MOST_ROUNDS * at_once))

    # --- what was found --------------------------------------------------------------------

    def learn(self, window: Window) -> None:
        """Take in a window, and go on to the next."""
        if self.phase == "doubling":
            self._learn_spread(window)
            self._double(window)
        elif self.base_count == 0.0:
            self._rebase(window)  # something made it shrink before it knew anything
        elif self.phase == "checking":
            self._check(window)
        elif not self._jumped(window):
            self._learn_spread(window)
            if self.phase == "dip":
                self._learn_base(window)
            else:
                self._follow(window)

    def shrink(self, to: float) -> None:
        """Go down to so many, for a reason that latency does not tell."""
        self._move(min(self.estimate, to))
        self._begin_steady()

    def cap(self, most: float) -> None:
        """Let the estimate not be above so many for now."""
        if self.estimate > most:
            self._move(most)
            if self.phase == "doubling":
                self._begin_steady()

    def _move(self, estimate: float) -> None:
        self.estimate = max(float(self.lowest), min(float(self.highest), estimate))

    def _begin_steady(self, phase: Phase = "steady") -> None:
        self.phase, self.is_first, self.proof = phase, False, 0.0
        self.until_dip, self.at_dip = self.interval, self.estimate

    def _learn_spread(self, window: Window) -> None:
        if window.count > 1:
            weight = window.count - 1.0
            total = self.spread_count + weight
            variance = (self.spread**2 * self.spread_count + window.spread**2 * weight) / total
            self.spread, self.spread_count = sqrt(variance), min(total, MOST_COUNT)

    def _error(self, window: Window) -> float:
        """Return the standard error of the difference between a window's level and the base."""
        return self.spread * sqrt(1.0 / window.count + 1.0 / self.base_count)

    # --- doubling --------------------------------------------------------------------------

    def _double(self, window: Window) -> None:
        if self.base_count == 0.0:
            self._rebase(window)
        else:
            rise, error = window.level - self.base, self._error(window)
            # The first time nothing is known yet, and to stop too early costs more than a step too far.
            if rise > (max(RISE, SURE * error) if self.is_first else max(HEADROOM, error)):
                self._move(window.at_once * exp(HEADROOM - rise))
                self._begin_steady("dip" if self.is_first else "steady")
                return
            if rise < -SURE * error and not self.is_first:
                self._rebase(window)
            elif rise < 0.5 * HEADROOM + error:
                total = self.base_count + window.count
                self.base += rise * window.count / total
                self.base_count = total
        if not window.full:
            return
        if self.estimate >= self.highest:
            self._begin_steady()
            return
        self._move(self.estimate * self.stride)
        self.stride = min(2.0, self.stride * STRIDE)

    # --- a sudden rise ---------------------------------------------------------------------

    def _jumped(self, window: Window) -> bool:
        """Step down if the latency is far above what it may be; False if it is not."""
        rise = window.level - self.base
        # Of few, one more is a large share, and so is the rise that it may bring.
        expected = HEADROOM + log((window.at_once + 1.0) / window.at_once)
        if not window.full or rise <= expected + max(JUMP, SURE * self._error(window)):
            return False
        if window.at_once <= self.lowest:
            # Nothing is lower, so this is the latency without a queue now.
            self._rebase(window)
            return False
        self.before, self.is_second = self.estimate, False
        self.tried, self.tried_level = window.at_once, window.level
        self._move(window.at_once * exp(-rise))
        self.phase, self.proof = "checking", 0.0
        return True

    def _check(self, window: Window) -> None:
        """See whether a step down has brought the latency down."""
        fell = self.tried_level - window.level
        is_back = window.level - self.base < max(RISE, SURE * self._error(window))
        if is_back or (window.at_once < self.tried and fell > 0.5 * log(self.tried / window.at_once)):
            found = window.at_once * exp(min(0.0, self.base - window.level))
            if self.is_second:
                found = max(found, self.tried * exp(self.base - self.tried_level))
            self._move(found * exp(HEADROOM))
        elif not self.is_second and window.at_once > self.lowest:
            # The rise may have come in the middle of the window before, which then says nothing.
            self.is_second = True
            self.tried, self.tried_level = window.at_once, window.level
            self._move(window.at_once / 2.0)
            return
        else:
            self._rebase(window)
            self._move(self.before)
        self._begin_steady()

    # --- the latency without a queue -------------------------------------------------------

    def _rebase(self, window: Window) -> None:
        self.base, self.base_count = window.level, float(window.count)

    def _mix_base(self, window: Window) -> None:
        total = self.base_count + window.count
        self.base += max(BASE_GAIN, window.count / total) * (window.level - self.base)
        self.base_count = min(total, window.count * (2.0 - BASE_GAIN) / BASE_GAIN)

    def _learn_base(self, window: Window) -> None:
        difference = window.level - self.base
        doubt = SURE * self._error(window)
        if abs(difference) > doubt:
            # Half of the way if it is little: one window in a hundred says so by chance.
            step = difference if abs(difference) > min(JUMP, 1.5 * doubt) else 0.5 * difference
            self.base += step
            self.base_count = float(window.count)
            self.interval = SOON
            # The knee is as much lower as that latency is.
            self._move(self.estimate * exp(min(0.0, step)))
        else:
            self._mix_base(window)
            self.interval = min(EVERY, self.interval * 2) if self.estimate >= FEW else 4 * EVERY
        self._begin_steady()

    # --- steady ----------------------------------------------------------------------------

    def _follow(self, window: Window) -> None:
        if not window.full:
            return
        rise, error = window.level - self.base, self._error(window)
        if rise < -SURE * error:
            # That latency has fallen by itself; how far, a dip will tell.
            if rise < -JUMP:
                self._rebase(window)
            self.phase, self.proof = "dip", 0.0
            return
        # A number that is rounded down may be below the knee, and as good as a dip.
        expected = max(0.0, HEADROOM + log(window.at_once / self.estimate))
        if expected <= 0.02:
            self._mix_base(window)
        self.proof = max(0.0, self.proof + (0.6 * expected - rise) / error)
        if self.proof > PROOF and self.estimate < self.highest:
            self.phase, self.proof, self.stride = "doubling", 0.0, STRIDE**2
            self._move(self.estimate * STRIDE)
            return
        self._move(self.estimate * exp(GAIN * (HEADROOM - rise)))
        self.until_dip -= 1
        has_fallen = self.estimate < self.at_dip * exp(-FALL)
        if has_fallen or (self.until_dip <= 0 and self.at_once >= self.estimate):
            self.phase = "dip"
