"""How long a failed job waits before its next attempt.

Jitter spreads the retries of jobs that failed together, so that they do not come back together; its
kinds are those of "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from qanat._core.arguments import at_least, duration_in_words, one_of, plain, positive, whole

if TYPE_CHECKING:
    from qanat._core.ports import Random

Jitter = Literal["none", "full", "equal"]
"""How much of a delay is random: nothing, all of it, or its second half."""

JITTERS: Final[tuple[Jitter, ...]] = ("none", "full", "equal")
"""The kinds of jitter."""

# Beyond this a float no longer tells one attempt from the next, and any growth has met its cap.
_MOST_STEPS = 2**53


@dataclass(frozen=True, slots=True)
class Backoff:
    """Say how long to wait after the first, second and every further failed attempt.

    Made by `constant`, `linear` and `exponential`. Call it with the number of the attempt that failed,
    from 1, for the seconds before jitter: `(first + step * k) * factor**k` with `k = attempt - 1`, and
    never more than `cap`.
    """

    first: float
    step: float
    factor: float
    cap: float
    jitter: Jitter

    def __call__(self, attempt: int) -> float:
        """Return the seconds to wait after this attempt, from 1, before jitter.

        Raises:
            TypeError: If `attempt` is not a whole number.
            ValueError: If `attempt` is less than 1.
        """
        return self._delay(whole("attempt", attempt, 1))

    def _delay(self, attempt: int) -> float:
        k = min(attempt - 1, _MOST_STEPS)
        try:
            growth = self.factor**k
        except OverflowError:
            return self.cap
        return min((self.first + self.step * k) * growth, self.cap)

    def drawn(self, attempt: int, rng: Random) -> float:
        """Return the seconds to wait after this attempt, with jitter.

        "full" is uniform in [0, d], "equal" in [d / 2, d], with d the seconds before jitter.

        Args:
            attempt: The number of the attempt that failed, from 1.
            rng: The source of randomness; asked once, and not at all without jitter.
        """
        delay = self.cap if self.first == self.cap else self._delay(attempt)
        if self.jitter == "none":
            return delay
        part = delay if self.jitter == "full" else delay / 2
        return (delay - part) + part * rng.random()

    def __str__(self) -> str:
        words = duration_in_words(self.first)
        if self.step:
            words += f", each time {duration_in_words(self.step)} more"
        if self.factor != 1.0:
            words += f", each time {plain(self.factor)} times as long"
        if self.cap != self.first:
            words += f", at most {duration_in_words(self.cap)}"
        return words if self.jitter == "none" else f"{words}, {self.jitter} jitter"


def constant(seconds: float, *, jitter: Jitter = "none") -> Backoff:
    """Wait the same time after every failed attempt.

    Args:
        seconds: How long; 0 is at once.
        jitter: "none", "full": uniform in [0, seconds], or "equal": uniform in [seconds / 2, seconds].

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range.
    """
    delay = at_least("seconds", seconds, 0)
    return Backoff(delay, 0.0, 1.0, delay, one_of("jitter", jitter, JITTERS))


def linear(first: float = 1, step: float = 1, cap: float = 60, *, jitter: Jitter = "none") -> Backoff:
    """Wait `step` seconds longer after each failed attempt.

    Args:
        first: Seconds after the first failed attempt; at least 0.
        step: Seconds that each further one adds; at least 0.
        cap: The most seconds; at least `first`.
        jitter: "none", "full": uniform in [0, d], or "equal": uniform in [d / 2, d].

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range.

    Examples:
        >>> from qanat._core.backoff import linear
        >>> [linear(1, 2, 6)(attempt) for attempt in (1, 2, 3, 4)]
        [1.0, 3.0, 5.0, 6.0]
    """
    start = at_least("first", first, 0)
    more, most = at_least("step", step, 0), at_least("cap", cap, start)
    return Backoff(start, more, 1.0, most, one_of("jitter", jitter, JITTERS))


def exponential(
    first: float = 0.5, factor: float = 2, cap: float = 60, *, jitter: Jitter = "full"
) -> Backoff:
    """Wait `factor` times as long after each failed attempt.

    Args:
        first: Seconds after the first failed attempt; greater than 0.
        factor: How many times as long each further wait is; at least 1.
        cap: The most seconds; at least `first`.
        jitter: "none", "full": uniform in [0, d], or "equal": uniform in [d / 2, d].

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If an argument is out of range.

    Examples:
        >>> from qanat._core.backoff import exponential
        >>> backoff = exponential(1, 2, 10, jitter="none")
        >>> [backoff(attempt) for attempt in (1, 2, 3, 4, 5)]
        [1.0, 2.0, 4.0, 8.0, 10.0]
    """
    start = positive("first", first)
    times, most = at_least("factor", factor, 1), at_least("cap", cap, start)
    return Backoff(start, 0.0, times, most, one_of("jitter", jitter, JITTERS))
