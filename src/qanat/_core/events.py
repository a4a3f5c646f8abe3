"""What an observer is told. Nothing here is built while nobody observes."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from qanat._core.job import Job
from qanat._core.outcome import Outcome
from qanat._core.reason import Reason


class RunStarted(msgspec.Struct, frozen=True):
    """A run or a Pool opened, at this monotonic time."""

    at: float
    name: str


class JobStarted(msgspec.Struct, frozen=True):
    """An attempt of a job began."""

    at: float
    job: Job[Any]


class JobRetried(msgspec.Struct, frozen=True):
    """An attempt failed, and the job runs again at `again_at` or later."""

    at: float
    job: Job[Any]
    error: BaseException
    again_at: float


class JobParked(msgspec.Struct, frozen=True):
    """The next job of a lane may not start yet, for this reason; those behind it wait too."""

    at: float
    job: Job[Any]
    reason: Reason


class JobEnded(msgspec.Struct, frozen=True):
    """A job ended for good."""

    at: float
    outcome: Outcome[Any, Any]


class RunEnded(msgspec.Struct, frozen=True):
    """A run or a Pool closed, with its final counts."""

    at: float
    counts: dict[str, int]
    waits: dict[str, float]


Event = RunStarted | JobStarted | JobRetried | JobParked | JobEnded | RunEnded


class Observer(Protocol):
    """Whoever wants to be told what happens.

    Called in the thread of the run, between jobs: be quick. An observer that raises is counted,
    and after ten times it is dropped; the run goes on.
    """

    def event(self, event: Event) -> None:
        """Be told of one event."""
        ...

    def close(self) -> None:
        """Be told that nothing more comes."""
        ...
