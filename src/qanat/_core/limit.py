"""What every limit is: a small class that decides *when* a job may start.

The dispatcher asks every limit on a job's path, and takes all of them only when all said yes,
with nothing awaited in between. Asking changes nothing. So limits compose without partial
acquisition, nobody polls, and nobody spins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, cast

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from qanat._core.checks import Checked
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._core.ports import Random
    from qanat._core.reason import Cause

Signal = Literal["lag", "cpu", "memory"]
"""What the machine says: seconds that the event loop is late; shares of CPU time and memory in use."""


class Refused(Exception):  # noqa: N818 - a limit's answer, and never seen by callers
    """Say that a job can never start; raised by `Limit.ready_at` with the job's error."""

    def __init__(self, error: Exception) -> None:
        """Keep the error that becomes the job's outcome."""
        super().__init__(str(error))
        self.error = error


def limits_given(given: object, expected: str) -> tuple[Limit, ...]:
    """Return what a user's function gave, one limit or several.

    Raises:
        TypeError: If something else is among them; it says what was expected.
    """
    if isinstance(given, Limit):
        return (given,)
    found = tuple(cast("Iterable[object]", given)) if _are_several(given) else (given,)
    for each in found:
        if not isinstance(each, Limit):
            raise TypeError(f"{expected}, got {given!r}")
    return cast("tuple[Limit, ...]", found)


def _are_several(given: object) -> bool:
    # A text would be read letter by letter, and an empty one taken for no limits.
    return isinstance(given, Iterable) and not isinstance(given, (str, bytes))


def given_twice(limits: Sequence[Limit]) -> Limit | None:
    """Return a limit that is among these twice, as the same object; it would count each job twice."""
    seen = set[int]()
    for limit in limits:
        if id(limit) in seen:
            return limit
        seen.add(id(limit))
    return None


class Listener(Protocol):
    """Whoever parks jobs at a limit and wants to hear that asking again may help."""

    def limit_changed(self) -> None:
        """Hear that the limit's answer may have changed."""
        ...


class Limit:
    """Decide when a job may start: subclass it to make your own limit.

    `ready_at` and `take` are enough for most; `give_back` where something is held while a job
    runs. A limit never reads a clock: times are handed in, all from one monotonic clock in
    seconds, never going backwards. Randomness comes from `self.rng` and is drawn in `take`.

    A limit object may be shared by several runs and pools of one thread.
    """

    __slots__ = ("_listeners", "_owner", "_precision", "_rng")

    cause: ClassVar[Cause] = "rate"
    """What a job that waits for this limit is said to wait for."""

    _listeners: list[Listener]
    _owner: int | None
    _precision: float
    _rng: Random | None

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """Make the limit unbound, whether or not a subclass calls `super().__init__()`."""
        self = super().__new__(cls)
        self._listeners = []
        self._owner = None
        self._precision = 0.0
        self._rng = None
        return self

    @property
    def rng(self) -> Random:
        """The seeded source of randomness, there from the first use on."""
        if self._rng is None:
            raise RuntimeError("rng is there once a run uses the limit: draw in take, not in __init__")
        return self._rng

    @property
    def precision(self) -> float:
        """Seconds by which a handler may begin after its start was decided; 0 on virtual time."""
        return self._precision

    @property
    def currencies(self) -> Collection[str]:
        """The currencies that it counts, for `adjust`; none unless a limit says so."""
        return ()

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return the earliest time at which this job may start; asking changes nothing.

        Args:
            job: The job that wants to start.
            now: The time of asking.

        Returns:
            A time at or before `now`: it may start. A later time: certainly not before it, and
            asked again then, the answer is yes or a strictly later time. `math.inf`: only a
            change helps, which the limit reports by calling `changed`.

        Raises:
            Refused: If the job can never start; it ends with the error given.
        """
        raise NotImplementedError(f"{type(self).__name__} must define ready_at(job, now)")

    def take(self, job: Job[Any], now: float) -> None:
        """Count the job as started; called only when every limit on its path said yes."""

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        """Hear that the job's attempt ended; called exactly once for each `take`."""

    def adjust(self, job: Job[Any], currency: str, delta: float, now: float) -> None:
        """Hear that a job that runs costs so much more, or less, than it was counted with until now.

        Called on every limit that the job has taken, whichever currency it is.

        Args:
            job: The job, between `take` and `give_back`.
            currency: Which of its costs became known.
            delta: The true cost, less what was said before; an overestimate makes it negative.
            now: The time at which it became known.
        """

    def replaced(self, job: Job[Any], held: Job[Any]) -> None:
        """Hear that another job object stands for this one from now on, until `give_back`.

        It happens if a plain function outlives its timeout in a thread: the job may run again while
        what it took stays taken. Only limits that keep something for each job need this.
        """

    def wants(self) -> Collection[Signal]:
        """Return which signals of the machine the limit wants to hear of in `sense`.

        Asked once, when a run begins to use the limit. The machine is looked at while some limit wants
        that, and never otherwise. On virtual time there is no machine, and nothing to hear.
        """
        return ()

    def sense(self, signal: Signal, value: float, now: float) -> None:
        """Hear how the machine is: about twice a second, if it is one of the signals that it `wants`.

        Args:
            signal: "lag": seconds that the event loop is late. "cpu": the share of all CPU time in use.
                "memory": the share of memory in use. What the system does not tell is not heard of.
            value: How much.
            now: The time.
        """

    def fresh_at(self, now: float) -> float:
        """Return when the limit is as good as new; `math.inf` while anything is taken.

        A lane's limits are forgotten with the lane once they are. The default, never, is safe.
        """
        return math.inf

    def checked_parts(self) -> Iterable[Checked]:
        """Return what of this limit, itself or limits inside it, has a check that a driver has to call."""
        return ()

    def changed(self) -> None:
        """Wake the jobs parked at this limit, in every run that uses it.

        To be called by the limit itself whenever its answer may have become an earlier time.
        """
        for listener in self._listeners:
            listener.limit_changed()

    def bind(self, owner: int, rng: Random, precision: float = 0.0) -> None:
        """Tie the limit to the thread that uses it, with its source of randomness.

        Args:
            owner: The identity of the thread; a second one is refused.
            rng: The source of randomness of the first run that uses the limit.
            precision: Seconds by which a handler may begin after its start was decided.

        Raises:
            RuntimeError: If the limit is in use by another thread.
        """
        if self._owner is None:
            self._owner, self._rng = owner, rng
        elif self._owner != owner:
            raise RuntimeError(
                f"{type(self).__name__} is used by another thread (limits are not locked): "
                "make one limit object for each thread"
            )
        # Of several runs the one whose handlers may begin the latest.
        self._precision = max(self._precision, precision)

    def listen(self, listener: Listener) -> None:
        """Add whoever wants to hear `changed`."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Remove who listened; unknown listeners are ignored."""
        if listener in self._listeners:
            self._listeners.remove(listener)
