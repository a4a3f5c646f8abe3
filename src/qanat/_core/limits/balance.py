"""Which of several targets a job goes to: smooth weighted round robin over those that are ready.

The algorithm is nginx's (`ngx_http_upstream_get_peer` in `ngx_http_upstream_round_robin.c`, since
1.3.1): at each start every ready target gains its effective weight, the richest is chosen, and pays
what all of them gained. So 3 to 1 is a, a, b, a and not a, a, a, b.

Two things differ from it. A failed attempt halves the target's effective weight, down to a
hundredth, and an attempt that ends well gives back a tenth of the full weight; nginx gives some
back at every choice, by which a dead target of a small weight is as good as new in a moment. And who is
ready is asked of the target's own limits.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from math import inf, isnan
from typing import TYPE_CHECKING, Any, Final, cast

from qanat._core.arguments import plain, positive
from qanat._core.limit import Limit, Refused, given_twice, limits_given
from qanat._core.limits.breaker import CircuitBreaker
from qanat._core.limits.health import is_good
from qanat._core.outcome import Outcome

if TYPE_CHECKING:
    from qanat._core.checks import Checked
    from qanat._core.job import Job
    from qanat._core.limit import Listener, Signal
    from qanat._core.ports import Random
    from qanat._core.reason import Cause

LIMITS_OF = Callable[[Any], Limit | Iterable[Limit]] | Mapping[Any, Limit | Iterable[Limit]]

FAILED: Final = 0.5
"""What is left of an effective weight after a failed attempt."""
WELL: Final = 0.1
"""The share of its weight that a target gets back for an attempt that ends well."""
LEAST: Final = 0.01
"""The share of its weight that a target keeps, or it could never do well again."""
MOST: Final = 1e300
"""What weights add up to at most: far from where sums of them overflow."""
MEMORY: Final = 60.0
"""Seconds after the last failure for which a lane's balance is remembered if nobody uses it."""


class _Target:
    """One target: its weight, what it gained, and its limits."""

    __slots__ = ("current", "effective", "key", "limits", "weight")

    def __init__(self, key: Hashable, weight: float, limits: tuple[Limit, ...]) -> None:
        self.key = key
        self.weight = self.effective = weight
        self.current = 0.0
        self.limits = limits

    def ready_at(self, job: Job[Any], now: float) -> tuple[float, Cause | None]:
        """Return when a job may go here, and what it waits for until then."""
        latest, cause = now, None
        for limit in self.limits:
            at = limit.ready_at(job, now)
            if at > latest:
                latest, cause = at, limit.cause
            elif isnan(at):
                raise ValueError(f"{limit}.ready_at must return a time, got {at!r}")
        return latest, cause

    def is_ready(self, job: Job[Any], now: float) -> bool:
        """Whether a job may go here now."""
        try:
            return self.ready_at(job, now)[0] <= now
        except Refused:
            return False


class Balance(Limit):
    """Send each job to one of several targets, by weight, and past those that are not ready.

    `current_job().target` says which target was chosen. Targets get shares of the starts as their
    weights say, evenly mixed. A target whose limits say no is passed over; if all say
    no, jobs wait for the first that says yes. A target that fails gets less than its share, as little
    as a hundredth, until it does well again. A retry goes to another target than the one that just
    failed, if another is ready.

    A job can have one `Balance` on its way, not two. A start costs time in proportion to the
    number of targets.

    Args:
        weights: For each target, anything with a hash but None, its weight: greater than 0.
        limits: Function of a target, or mapping of targets, giving its limit or limits. A target
            that is not in the mapping has none.
        breaker: Function of a target giving its `CircuitBreaker`; or one that is copied for each
            target with its settings, and is itself never used.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If there is no target, a weight is out of range, or limits are for no target.

    Examples:
        >>> from qanat._core.limits import Balance, CircuitBreaker
        >>> Balance({"eu": 3, "us": 1}, breaker=CircuitBreaker(failures=3))
        <Balance({'eu': 3, 'us': 1}): eu closed, us closed>
    """

    __slots__ = ("_cause", "_last_failure_at", "_running", "_targets")

    _cause: Cause

    def __init__(
        self,
        weights: Mapping[Any, float],
        *,
        limits: LIMITS_OF | None = None,
        breaker: Callable[[Any], CircuitBreaker] | CircuitBreaker | None = None,
    ) -> None:
        checked = _weights(weights)
        limits_of = _limits_function(limits, checked)
        breaker_of = _breaker_function(breaker)
        self._targets = {
            key: _Target(key, weight, (*limits_of(key), *breaker_of(key))) for key, weight in checked.items()
        }
        for target in self._targets.values():
            if (twice := given_twice(target.limits)) is not None:
                raise ValueError(
                    f"limits must be different ones for {target.key!r}, got {twice!r} twice: it would count "
                    "each job twice"
                )
        self._cause = "turn"
        self._running = 0
        self._last_failure_at = -inf

    @property
    def cause(self) -> Cause:  # type: ignore[override]  # that of whichever limit said no last
        """What a job that waits for this limit waits for: what the first target to be ready does."""
        return self._cause

    # --- as a limit ------------------------------------------------------------------------------

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return when the first target is ready.

        Raises:
            Refused: If each target's limits say that the job can never start there.
        """
        earliest, cause = inf, None
        refused: Refused | None = None
        for target in self._targets.values():
            try:
                at, why = target.ready_at(job, now)
            except Refused as no:
                refused = refused or no
                continue
            if why is None:
                return now
            if at < earliest or cause is None:
                earliest, cause = at, why
        if cause is not None:
            self._cause = cause
            return earliest
        assert refused is not None  # noqa: S101 - there is a target, and each has an answer
        raise refused

    def take(self, job: Job[Any], now: float) -> None:
        """Choose the job's target, and take all its limits."""
        ready = [target for target in self._targets.values() if target.is_ready(job, now)]
        if len(ready) > 1 and job.target is not None:
            # It was here before and comes again.
            ready = [target for target in ready if target.key != job.target]
        chosen = max(ready, key=lambda target: target.current + target.effective)
        self._take_limits(chosen, job, now)
        for target in ready:
            target.current += target.effective
            chosen.current -= target.effective
        self._running += 1
        job.target = chosen.key

    def _take_limits(self, chosen: _Target, job: Job[Any], now: float) -> None:
        for number, limit in enumerate(chosen.limits):
            try:
                limit.take(job, now)
            except BaseException as error:
                # Nobody will give this start back, so what it took so far is given back here.
                outcome: Outcome[Any, Any] = Outcome(
                    job.id, job.index, job.item, None, error, "dead", 0, job.lane, job.metadata, job.parent,
                    job.offered_at, None, now, 0.0,
                )  # fmt: skip
                for taken in chosen.limits[:number]:
                    taken.give_back(job, outcome, now)
                raise

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        """Give back to the limits of the job's target, and note whether it did well."""
        target = self._targets[job.target]
        self._running -= 1
        good = is_good(outcome)
        if good:
            target.effective = min(target.weight, target.effective + target.weight * WELL)
        elif good is False:
            self._last_failure_at = now
            target.effective = max(target.weight * LEAST, target.effective * FAILED)
        _tell_all(target.limits, lambda limit: limit.give_back(job, outcome, now))

    def adjust(self, job: Job[Any], currency: str, delta: float, now: float) -> None:
        """Tell the limits of the job's target what it really costs."""
        for limit in self._targets[job.target].limits:
            limit.adjust(job, currency, delta, now)

    def replaced(self, job: Job[Any], held: Job[Any]) -> None:
        """Tell the limits of the job's target which job stands for it from now on."""
        _tell_all(self._targets[job.target].limits, lambda limit: limit.replaced(job, held))

    def fresh_at(self, now: float) -> float:
        """Return when all inside is as good as new and failures are forgotten; infinity while a job runs."""
        if self._running:
            return inf
        targets = self._targets.values()
        at = max((limit.fresh_at(now) for limit in self._inside), default=now)
        if any(target.effective < target.weight for target in targets):
            at = max(at, self._last_failure_at + MEMORY)
        return at

    # --- the limits inside -----------------------------------------------------------------------

    @property
    def inside(self) -> list[Limit]:
        """The limits of all targets, each once."""
        return self._inside

    @property
    def _inside(self) -> list[Limit]:
        """Each limit once, though several targets may share one."""
        found = {id(limit): limit for target in self._targets.values() for limit in target.limits}
        return list(found.values())

    @property
    def currencies(self) -> list[str]:
        """The currencies that the limits inside count: a job may charge each, wherever it goes."""
        return list(dict.fromkeys(name for limit in self._inside for name in limit.currencies))

    def wants(self) -> set[Signal]:
        """Return the signals that limits inside want."""
        return {signal for limit in self._inside for signal in limit.wants()}

    def sense(self, signal: Signal, value: float, now: float) -> None:
        """Tell the limits inside that want it how the machine is."""
        wanting = [limit for limit in self._inside if signal in limit.wants()]
        _tell_all(wanting, lambda limit: limit.sense(signal, value, now))

    def bind(self, owner: int, rng: Random, precision: float = 0.0) -> None:
        """Tie this limit and all inside it to the thread that uses them."""
        super().bind(owner, rng, precision)
        for limit in self._inside:
            limit.bind(owner, rng, precision)

    def listen(self, listener: Listener) -> None:
        """Add whoever wants to hear `changed`, also of a limit inside."""
        if not self._listeners:
            for limit in self._inside:
                limit.listen(self)
        super().listen(listener)

    def unlisten(self, listener: Listener) -> None:
        """Remove who listened; when nobody is left the limits inside are not listened to."""
        if listener in self._listeners:
            super().unlisten(listener)
            if not self._listeners:
                for limit in self._inside:
                    limit.unlisten(self)

    def limit_changed(self) -> None:
        """Hear from a limit inside that its answer may have changed, and so this one's."""
        self.changed()

    def checked_parts(self) -> list[Checked]:
        """Return the breakers inside that have a check."""
        return [part for limit in self._inside for part in limit.checked_parts()]

    # --- in words --------------------------------------------------------------------------------

    def __str__(self) -> str:
        return ", ".join(f"{target.key} {plain(target.weight)}" for target in self._targets.values())

    def __repr__(self) -> str:
        weights = ", ".join(f"{target.key!r}: {plain(target.weight)}" for target in self._targets.values())
        states = ", ".join(
            f"{target.key} {limit.state}"
            for target in self._targets.values()
            for limit in target.limits
            if isinstance(limit, CircuitBreaker)
        )
        return f"<Balance({{{weights}}}): {states}>" if states else f"Balance({{{weights}}})"


def _tell_all(limits: Iterable[Limit], tell: Callable[[Limit], object]) -> None:
    """Tell each limit something, and then raise what the first of them raised."""
    fault: Exception | None = None
    for limit in limits:
        try:
            tell(limit)
        except Exception as error:  # noqa: BLE001 - a broken limit must not keep the others from hearing
            fault = fault or error
    if fault is not None:
        raise fault


def _weights(given: object) -> dict[Any, float]:
    if not isinstance(given, Mapping):
        raise TypeError(
            f'weights must be a mapping of targets to weights, such as {{"eu": 3}}, got {given!r}'
        )
    weights = {
        key: positive(f"weights[{key!r}]", weight)
        for key, weight in cast("Mapping[Any, object]", given).items()
    }
    if not weights:
        raise ValueError(f"weights must name at least one target, got {given!r}")
    if sum(weights.values()) > MOST:
        raise ValueError(f"weights must add up to at most {MOST:g}, got {given!r}: only their shares matter")
    if None in weights:
        raise ValueError(f"weights must not have None as a target, got {given!r}: None means no target")
    return weights


def _limits_function(given: object, targets: Mapping[Any, float]) -> Callable[[Any], tuple[Limit, ...]]:
    """Return a function of a target giving its limits."""
    if given is None:
        return lambda _: ()
    if isinstance(given, Mapping):
        mapping = cast("Mapping[Any, object]", given)
        unknown = [key for key in mapping if key not in targets]
        if unknown:
            raise ValueError(f"limits must be for targets that have a weight, got {unknown[0]!r}")
        return lambda target: _as_limits(target, mapping.get(target, ()))
    if isinstance(given, Limit) or not callable(given):
        raise TypeError(
            f"limits must be a function of a target or a mapping of targets, got {given!r}: "
            "one limit for all targets goes beside the Balance"
        )
    return lambda target: _as_limits(target, given(target))


def _as_limits(target: object, given: object) -> tuple[Limit, ...]:
    return limits_given(given, f"limits must give a limit or limits for {target!r}")


def _breaker_function(given: object) -> Callable[[Any], tuple[CircuitBreaker, ...]]:
    """Return a function of a target giving its breaker, if it has one."""
    if given is None:
        return lambda _: ()
    if isinstance(given, CircuitBreaker):
        return lambda _: (given.anew(),)
    if not callable(given) or given is CircuitBreaker:
        raise TypeError(
            f"breaker must be a CircuitBreaker or a function of a target giving one, got {given!r}"
        )

    def breaker_of(target: Any) -> tuple[CircuitBreaker, ...]:
        made: object = given(target)
        if not isinstance(made, CircuitBreaker):
            raise TypeError(f"breaker must give a CircuitBreaker for {target!r}, got {made!r}")
        return (made,)

    return breaker_of
