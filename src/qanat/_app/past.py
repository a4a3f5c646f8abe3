"""What a recording tells of its jobs, to simulate them once more under other rules."""

from __future__ import annotations

from array import array
from math import inf, isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from qanat._app.rules import Rules
from qanat._app.simulating import run_simulation
from qanat._core.dispatcher.replaying import rebuilt_error
from qanat._core.flight import CALL, DONE, FAIL, NEXT, OFFER, OFFER_ALL, OFFER_WITH, FlightError, nonsense
from qanat._core.limit import Limit
from qanat._core.limits import Adaptive, Concurrency
from qanat._core.orders import Priority
from qanat._core.retry import Retry
from qanat._core.specs import made_anew, make_limit
from qanat._engine.comings import Arrivals
from qanat.errors import Discard

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._app.simulation import Simulation
    from qanat._core.flight import Entry, Flight
    from qanat._core.ports import Random


class _UnfitError(ValueError):
    """Say why a recording is nothing to plan with."""


class Seen(NamedTuple):
    """An attempt of the recording: how long it took, and how it ended."""

    seconds: float
    error: dict[str, Any] | None
    is_last: bool


class Past:
    """The jobs of a recording: when they came, in which lanes, and how long each attempt took.

    A job does in its first attempt what it did in its first attempt then, and so on. What was never
    seen, such as one attempt more, takes as long as the attempts seen did, in the order seen.

    Attributes:
        items: How many jobs arrived.
        arrivals: When each of them did, from the first on, and which; None if they were read from a source.
        makespan: Seconds from the first arrival to the last end.
        rules: The rules of the run, as far as a file holds them.
    """

    def __init__(self, flight: Flight) -> None:
        """Read a recording.

        Raises:
            ValueError: If its limits are not in the file, or no attempt ended in it.
            FlightError: If it holds what no run records.
        """
        self._lanes: list[Any] = []
        self._priorities: list[float] = []
        self._costs: list[Any] = []
        self._deadlines: list[float | None] = []
        self._attempts: list[list[Seen]] = []
        self._numbers: dict[int, int] = {}
        self._answers: dict[Any, Any] = {}
        self._weights: dict[Any, float] = {}
        self._pool: array[float] = array("d")
        self._came: list[float] = []
        self._ended_at = 0.0
        self._read_all(flight)
        if not self._pool:
            raise ValueError("no attempt ended in the recording, so there is no latency to plan with")
        self.items = len(self._attempts)
        begun = min(self._came)
        self.makespan = self._ended_at - begun
        self.arrivals = self._by_time(begun) if flight.header.name == "pool" else None
        try:
            self.rules = self._rules_of(flight)
        except ValueError:
            raise
        except Exception as error:
            raise FlightError(f"the rules of the recording are none that a run has ({error})") from error

    # --- reading -----------------------------------------------------------------------------

    def _read_all(self, flight: Flight) -> None:
        started: dict[int, float] = {}
        number = 0
        try:
            for entry in flight:
                self._read(entry, started)
                number += 1
        except _UnfitError:
            raise
        except Exception as error:
            raise nonsense(number, error) from error

    def _read(self, entry: Entry, started: dict[int, float]) -> None:
        kind, job, at, note = entry
        if kind == NEXT:
            started[job] = at
        elif kind == DONE or (kind == FAIL and note[6] == "done"):
            self._ended(job, at, started, None, is_last=True)
        elif kind == FAIL:
            # A job that was cancelled would have ended otherwise.
            if not note[2]:
                self._ended(job, at, started, note[0], is_last=note[6] == "dead")
        elif kind == OFFER_ALL:
            for number in range(job, job + note):
                self._came_in(number, at)
        elif kind == OFFER:
            self._came_in(job, at)
        elif kind == OFFER_WITH:
            _, lane, priority, cost, due_at, delay = note
            due_in = None if due_at is None else due_at - at - delay
            self._came_in(job, at + delay, lane, priority, cost, due_in)
        elif kind == CALL and note[0] == "batch":
            raise _UnfitError(
                "the run was in batches, and how long one took says nothing of other batches, "
                "so there is no latency to plan with"
            )
        elif kind == CALL and note[0] == "answer":
            answers = self._weights if note[2] == "weights" else self._answers
            answers.setdefault(note[3], note[4])

    def _came_in(
        self, job: int, at: float, lane: Any = None, priority: float = 0.0, cost: Any = 1.0,
        due_in: float | None = None,
    ) -> None:  # fmt: skip
        if not (isfinite(at) and isfinite(priority) and (due_in is None or isfinite(due_in))):
            raise ValueError("a job came at no time")
        hash(lane)
        self._numbers[job] = len(self._attempts)
        self._came.append(at)
        self._lanes.append(lane)
        self._priorities.append(priority)
        self._costs.append(cost)
        self._deadlines.append(due_in)
        self._attempts.append([])

    def _ended(self, job: int, at: float, started: dict[int, float], error: Any, *, is_last: bool) -> None:
        seconds = at - started.pop(job)
        if not 0.0 <= seconds < inf:
            raise ValueError(f"an attempt took {seconds} seconds")
        rebuilt_error(error)  # which shows whether it can be
        self._pool.append(seconds)
        self._attempts[self._numbers[job]].append(Seen(seconds, error, is_last))
        self._ended_at = at

    def _by_time(self, begun: float) -> list[tuple[float, int]]:
        return sorted((at - begun, item) for item, at in enumerate(self._came))

    def _rules_of(self, flight: Flight) -> Rules:
        header = flight.header
        specs, options = list(header.limits), dict(header.rules)
        if "concurrency" not in options and header.capacity is None and specs:
            slots = _limit(specs.pop(0))
            options["concurrency"] = slots if isinstance(slots, (Adaptive, Concurrency)) else 10
        if "rate" in options:
            specs.pop(0)
        options["limits"] = [_limit(spec) for spec in specs]
        if any(lane is not None for lane in self._lanes):
            options["lane"] = self.lane_of
        if self._answers:
            for answer in self._answers.values():
                for spec in answer:
                    _limit(spec)
            options["lane_limits"] = self._limits_of
        if self._weights:
            options["weights"] = self._weights
        if any(cost != 1.0 for cost in self._costs):
            options["cost"] = self._costs.__getitem__
        return Rules(**options, **self.choice(options.get("order", "fifo")))

    def choice(self, order: object) -> dict[str, Any]:
        """Return the rules by which an order chooses; None for those that it does not look at."""
        found: dict[str, Any] = {"priority": None, "deadline": None}
        if any(self._priorities) and (order == "priority" or isinstance(order, Priority)):
            found["priority"] = self._priorities.__getitem__
        if order == "deadline" and any(due_in is not None for due_in in self._deadlines):
            found["deadline"] = self._deadlines.__getitem__
        return found

    # --- once more ---------------------------------------------------------------------------

    def lane_of(self, item: int) -> Any:
        """Return the lane that a job was in."""
        return self._lanes[item]

    def _limits_of(self, lane: Any) -> list[Limit]:
        return [_limit(spec) for spec in self._answers.get(lane, ())]

    def model(self, times: int) -> tuple[Callable[[Any, Random, int], float], Callable[..., Any]]:
        """Return latencies and failures for one simulation of so many retries."""
        begun = [0] * self.items
        unseen = 0

        def latency(item: int, _rng: Random, _running: int) -> float:
            nonlocal unseen
            number = begun[item]
            begun[item] = number + 1
            attempts = self._attempts[item]
            if number < len(attempts):
                return attempts[number].seconds
            unseen += 1
            return self._pool[(unseen - 1) % len(self._pool)]

        def failures(item: int, _rng: Random, attempt: int) -> BaseException | None:
            attempts, number = self._attempts[item], begun[item] - 1
            seen = attempts[number] if number < len(attempts) else None
            if seen is None or seen.error is None:
                return None
            if seen.is_last and attempt <= times:
                return Discard("it was not to be retried then")
            return rebuilt_error(seen.error)

        return latency, failures


def simulate_past(past: Past, rules: Rules, size: int, seed: int) -> Simulation:
    """Simulate the first jobs of a recording under these rules."""
    latency, failures = past.model(Retry.of(rules.retry).times)
    rules = with_new_limits(rules)
    if past.arrivals is None:
        return run_simulation(range(size), latency, failures, seed, rules)
    return run_simulation((), latency, failures, seed, rules, Arrivals(past.arrivals[:size]))


def with_new_limits(rules: Rules) -> Rules:
    """Return rules with their limits made anew: each simulation begins at 0 with limits that know nothing."""
    changes: dict[str, Any] = {"limits": [made_anew(limit) for limit in rules.replace(rate=None).all_limits]}
    if not isinstance(rules.concurrency, int):
        changes["concurrency"], *changes["limits"] = changes["limits"]
    if isinstance(rules.rate, Limit):
        changes["rate"] = made_anew(rules.rate)
    return rules.replace(**changes)


def _limit(spec: str | None) -> Limit:
    if spec is None:
        raise ValueError("limits of the run are objects of your own, which a file cannot hold")
    return make_limit(spec)
