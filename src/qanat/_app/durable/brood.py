"""What one attempt of a job in a queue has spawned and registered, until its end is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from qanat._app.durable.chunks import MOST_BYTES
from qanat._app.durable.lineage import After
from qanat._core.branch import Quorum
from qanat._core.store.bounds import MOST
from qanat._core.store.rules import REMEMBERED_FOR

if TYPE_CHECKING:
    from qanat._app.handle import Handle
    from qanat._core.branch import Failure
    from qanat._core.store.values import Lease, NewJob

GATHERED_FOR: Final = 7 * 86_400.0
"""Seconds for which the values of children are kept at least, where a callback wants them."""


class Brood:
    """The children of one attempt.

    Attributes:
        handles: What `spawn` returned, by the ids of the children.
        callback: The name of the callback; None without.
        gather: Whether that wants the values.
        places: How many children without a key there are.
    """

    __slots__ = ("_jobs", "callback", "failure", "gather", "handles", "places")

    def __init__(self) -> None:
        """Begin with none."""
        self._jobs: list[NewJob] = []
        self.handles: dict[str, Handle[Any, Any]] = {}
        self.callback: str | None = None
        self.gather = False
        self.places = 0
        self.failure: Failure | None = None

    def add(self, new: NewJob) -> None:
        """Take a child."""
        self._jobs.append(new)

    def judge(self, failure: Failure) -> None:
        """Note what the failure of the next child means.

        Raises:
            ValueError: If a `Quorum` is only for some of the children, or there are two.
        """
        first = self.failure
        if first is None:
            self.failure = failure
        elif first != failure and (isinstance(first, Quorum) or isinstance(failure, Quorum)):
            raise ValueError(
                f"failure must be the same for all children of a job in a queue if it is a Quorum, got "
                f"{failure!r} after {first!r}"
            )
        elif failure == "fail":
            self.failure = failure

    def ahead(self, lease: Lease) -> list[list[NewJob]]:
        """Take out the children for which one step has no room, in chunks that are put before, in order.

        They come under the lease of the parent, so that each is counted as its child, and their ids stay
        known, so that none comes twice if the parent has to run again.
        """
        chunks: list[list[NewJob]] = []
        chunk: list[NewJob] = []
        size = 0
        for new in self._jobs:
            room = len(new.body) + len(new.metadata)
            if len(chunk) >= MOST or (chunk and size + room > MOST_BYTES):
                chunks.append(chunk)
                chunk, size = [], 0
            chunk.append(new)
            size += room
        self._jobs = chunk
        return [
            [
                replace(new, parent=lease, dedupe_for=max(new.dedupe_for, REMEMBERED_FOR))
                for new in self._kept(chunk)
            ]
            for chunk in chunks
        ]

    @property
    def settled(self) -> dict[str, Any]:
        """What of a settle it makes up: the children that go with it, and what is to be done after them."""
        return {"children": tuple(self._kept(self._jobs)), "after": self._after}

    @property
    def _after(self) -> str:
        failure = self.failure
        if isinstance(failure, Quorum):
            return After(self.callback or "", self.gather, quorum=failure.share).text
        if self.callback is None:
            return ""
        return After(self.callback, self.gather, fails=failure == "fail").text

    def _kept(self, jobs: list[NewJob]) -> list[NewJob]:
        """Return jobs that are kept until their values were gathered."""
        return [replace(new, keep=GATHERED_FOR) for new in jobs] if self.gather else jobs
