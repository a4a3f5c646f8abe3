"""Small dispatchers and jobs for tests, and limits that note how they are used."""

from __future__ import annotations

from math import inf
from random import Random
from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher import Dispatcher
from qanat._core.job import Job, Task
from qanat._core.limit import Limit
from qanat._core.orders import Fifo
from qanat._core.retry import Retry
from tests._core.driver import Drive, drive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qanat._core.order import Order
    from qanat._core.outcome import Outcome


def make(**options: Any) -> Dispatcher:
    return Dispatcher(rng=Random(7), **options)


def add(
    dispatcher: Dispatcher,
    name: str = "task",
    *,
    order: Callable[[], Order] = Fifo,
    retry: int | Retry = 0,
    limits: Iterable[Limit] = (),
    lane_limits: Callable[[Any], Limit | Iterable[Limit]] | None = None,
    weights: Callable[[Any], float] | None = None,
    uses_lanes: bool = False,
) -> Task:
    return dispatcher.add_task(
        name, None, make_order=order, retry=Retry.of(retry), limits=limits, lane_limits=lane_limits,
        weights=weights, uses_lanes=uses_lanes,
    )  # fmt: skip


def job(task: Task, id: int | str, lane: Any = None, priority: float = 0.0) -> Job[Any]:
    index = id if isinstance(id, int) else sum(map(ord, id))
    return Job(id, f"item {id}", index, task, priority=priority, lane=lane)


def at_zero(*jobs: Job[Any]) -> list[tuple[float, Job[Any]]]:
    return [(0.0, each) for each in jobs]


def run(
    dispatcher: Dispatcher,
    arrivals: Iterable[tuple[float, Job[Any]]],
    seconds: float | dict[int | str, float] = 1.0,
    **options: Any,
) -> Drive:
    """Drive with a fixed latency, or one for each id."""
    known = seconds if isinstance(seconds, dict) else {}
    usual = 1.0 if isinstance(seconds, dict) else seconds
    return drive(
        dispatcher, arrivals, lambda each, _rng, _running: known.get(each.id, usual), rng=Random(7), **options
    )


def starts(result: Drive) -> list[tuple[int | str, float]]:
    """Return who started when, in the order of the starts."""
    return [(step.id, step.at) for step in result.trace if step.kind == "start"]


def order_of(result: Drive) -> list[int | str]:
    return [id for id, _ in starts(result)]


def outcomes_by_id(result: Drive) -> dict[int | str, Outcome[Any, Any]]:
    found = {outcome.id: outcome for outcome in result.outcomes}
    assert len(found) == len(result.outcomes), "a job ended twice"
    return found


def begin(dispatcher: Dispatcher, now: float) -> list[int | str]:
    """Start all that may start now; return who."""
    started: list[int | str] = []
    while (each := dispatcher.next(now)) is not None:
        started.append(each.id)
    return started


def failing(*errors: BaseException | None) -> Callable[[Job[Any], Random], BaseException | None]:
    """Fail the first attempts of each job with these errors; the rest do well."""
    return lambda each, _rng: errors[each.attempt - 1] if each.attempt <= len(errors) else None


class Noting(Limit):
    """Let so many run at once, and note every call."""

    cause = "concurrency"

    def __init__(self, n: float = inf, name: str | None = None) -> None:
        self.n = n
        self.name = name
        self.running = 0
        self.asked = 0
        self.taken: list[tuple[int | str, float]] = []
        self.given: list[tuple[int | str, float]] = []

    def ready_at(self, job: Job[Any], now: float) -> float:
        self.asked += 1
        return now if self.running < self.n else inf

    def take(self, job: Job[Any], now: float) -> None:
        self.running += 1
        assert self.running <= self.n
        self.taken.append((job.id, now))

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        self.running -= 1
        assert self.running >= 0
        self.given.append((job.id, now))
        self.changed()

    def fresh_at(self, now: float) -> float:
        return inf if self.running else now

    def __str__(self) -> str:
        return "noting"


class Until(Limit):
    """Refuse until a time; which one may depend on the job."""

    def __init__(self, at: float | Callable[[Job[Any]], float]) -> None:
        self.at = at
        self.asked = 0

    def ready_at(self, job: Job[Any], now: float) -> float:
        self.asked += 1
        return self.at(job) if callable(self.at) else self.at

    def fresh_at(self, now: float) -> float:
        return now

    def __str__(self) -> str:
        return "until"
