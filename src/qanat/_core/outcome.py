"""How a job ended: a value, never a raised exception."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Generic, Literal, TypeVar, cast

import msgspec

T = TypeVar("T")
R = TypeVar("R")

State = Literal["done", "dead", "cancelled"]

# Kept gc-tracked on purpose: an outcome can reach an item or a traceback that reaches it back.
# msgspec leaves the instances untracked that hold only numbers, texts and None.


class Outcome(msgspec.Struct, Generic[T, R], frozen=True):
    """Say how a job ended.

    Attributes:
        id: The job's id.
        index: The job's position in the input, from 0.
        item: What the handler was given.
        value: What the handler returned; None if it failed.
        error: Why it failed; None if it did not.
        state: "done", "dead" (failed for good) or "cancelled".
        attempts: How many attempts counted; 0 if it never started.
        lane: The job's lane; None is the unnamed one.
        metadata: What was handed in with the item.
        parent: The id of the job that spawned this one.
        offered_at: When the job arrived, monotonic seconds.
        started_at: When its first attempt began; None if it never started.
        ended_at: When it ended.
        ran: Seconds spent in the handler, all attempts together.
    """

    id: int | str
    index: int
    item: T
    value: R | None
    error: BaseException | None
    state: State
    attempts: int
    lane: Hashable
    metadata: Mapping[str, Any] | None
    parent: int | str | None
    offered_at: float
    started_at: float | None
    ended_at: float
    ran: float
    lost: Mapping[str, float] | str = "turn"
    """The waits by cause, or the one cause of all waiting: read `waits` instead."""

    @property
    def ok(self) -> bool:
        """Whether the job is done and has a value."""
        return self.state == "done"

    @property
    def recalled(self) -> bool:
        """Whether the handler was not called for it in this run: a journal or a queue had its value."""
        return self.started_at is None and self.state == "done"

    @property
    def waited(self) -> float:
        """Seconds between arriving and ending that were not spent in the handler."""
        return max(0.0, self.ended_at - self.offered_at - self.ran)

    @property
    def waits(self) -> Mapping[str, float]:
        """Seconds waited by cause; together about `waited`."""
        if isinstance(self.lost, str):
            waited = self.waited
            return {self.lost: waited} if waited > 0.0 else {}
        return self.lost

    def unwrap(self) -> R:
        """Return the value, or raise the error."""
        if self.error is not None:
            raise self.error
        return cast("R", self.value)
