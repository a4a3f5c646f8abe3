"""Whom a keeper asks about trees, and tells that there may be room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from qanat._core.branch import Branch
    from qanat._core.job import Job
    from qanat._core.kept import Codec


class Trees(Protocol):
    """Who knows what jobs spawn, and how that is recorded."""

    def codec_of(self, job: Job[Any]) -> Codec:
        """Return what writes and reads a job's value."""
        ...

    def record(self, branch: Branch) -> bytes | None:
        """Return what is recorded of what a job spawned; None if it spawned nothing."""
        ...

    def read(self, job: Job[Any], content: bytes) -> Any:
        """Return what a recalled job had spawned; None if its handler has to be called again."""
        ...

    def spawn_again(self, job: Job[Any], recorded: Any) -> None:
        """Let what a recalled job had spawned arrive."""
        ...


class Reader(Protocol):
    """Who reads the input of a run, as far as there is room."""

    def look_for_room(self) -> None:
        """Read on if there is room now."""
        ...
