"""The states of a stored job, and every arrow between them.

Each arrow is one atomic step of the store. An arrow that leaves `leased` is guarded by the lease
token, except the one that rescue takes once the lease has expired.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["scheduled", "ready", "leased", "waiting", "done", "dead", "cancelled"]

STATES: Final[tuple[State, ...]] = ("scheduled", "ready", "leased", "waiting", "done", "dead", "cancelled")
"""All states, in the order in which counts are told."""
LIVE: Final[tuple[State, ...]] = ("scheduled", "ready", "leased", "waiting")
"""States of a job that still has something before it."""
ENDED: Final[tuple[State, ...]] = ("done", "dead", "cancelled")
"""States of a job that has ended; only `requeue` brings it back."""

ARROWS: Final[dict[tuple[State | None, State], str]] = {
    (None, "ready"): "put",
    (None, "scheduled"): "put with a delay",
    ("scheduled", "ready"): "claim, once it is due; or requeue",
    ("scheduled", "cancelled"): "cancel",
    ("ready", "leased"): "claim",
    ("ready", "dead"): "claim, if it is beyond max_attempts, max_age or max_crashes",
    ("ready", "cancelled"): "cancel",
    ("leased", "done"): "settle done",
    ("leased", "waiting"): "settle done, with children that have not ended",
    (
        "leased",
        "ready",
    ): "settle retry, release or again without delay, or done with only a callback left; rescue",
    ("leased", "scheduled"): "settle retry, release or again with a delay",
    ("leased", "dead"): "settle dead; retry or rescue beyond a bound; done, if a child failed it",
    ("leased", "cancelled"): "settle cancelled; any return to the queue, or rescue, after a cancel request",
    ("waiting", "ready"): "the last child ended, and there is a callback",
    ("waiting", "done"): "the last child ended, and there is no callback",
    ("waiting", "dead"): "the last child ended, one with failure='fail' is dead, and there is no callback",
    ("waiting", "cancelled"): "cancel",
    ("done", "ready"): "requeue",
    ("dead", "ready"): "requeue",
    ("cancelled", "ready"): "requeue",
}
"""From (None: not there) and to -> which deed does it."""
