"""What is kept of a job that ended, for another run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from qanat._core.job import Job
from qanat.errors import SerialisationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._core.branch import Branch
    from qanat._core.outcome import Outcome

Key: TypeAlias = "bytes | tuple[str, bytes]"
"""The key of a job, with the name of its handler if that is not the run's own."""

DONE: Final = 1
FAILED: Final = 2


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What is kept of a job: numbers and bytes alone, so garbage collection need not look at it.

    Attributes:
        state: How it ended: `DONE` or `FAILED`.
        attempts: How many attempts counted.
        ran: Seconds in the handler.
        value: What the handler returned, as its codec wrote it; of a failed job its error as JSON.
        spawned: What its last attempt spawned, as JSON; None if nothing.
        row: Where that is kept, for whoever replaces it.
    """

    state: int
    attempts: int
    ran: float
    value: bytes
    spawned: bytes | None = None
    row: int | None = None


Other: TypeAlias = "tuple[int, bytes | None, int | None]"
"""How a job ended, what it spawned, and the row that it replaces."""

PLAIN: Final[Other] = (DONE, None, None)


class Rows(NamedTuple):
    """What is to be kept of jobs that ended.

    Attributes:
        keys: Their keys.
        values: As in `Kept`.
        attempts: As in `Kept`.
        ran: As in `Kept`.
        others: What else there is of each; None: each is `PLAIN`, and its key is of the run's own handler.
    """

    keys: Sequence[Key]
    values: Sequence[bytes]
    attempts: Sequence[int]
    ran: Sequence[float]
    others: Sequence[Other] | None = None


ASKING: Final = 0
WITH_DISPATCHER: Final = 1
KEEPING: Final = 2


class Entry(msgspec.Struct, eq=False):
    """A key that is under way, the job that leads and those that follow.

    Attributes:
        key: The key.
        job: Who leads.
        began: Who led at first, and was looked up.
        delay: Seconds before which it does not start.
        offered_at: When it arrived.
        where: Where it is: `ASKING`, `WITH_DISPATCHER` or `KEEPING`.
        followers: Who shares what comes of it.
        opens: Whether what its job spawns may run though only what failed before is to.
        content: The value as it is written, once the job is done.
        spawned: What it spawned, as it is written.
        row: Where the journal has what is to be replaced.
        stops: Why the run is to end, if the value cannot be kept.
    """

    key: Key
    job: Job[Any]
    began: Job[Any]
    delay: float
    offered_at: float
    where: int = ASKING
    followers: list[Job[Any]] = []
    opens: bool = False
    content: bytes | None = None
    spawned: bytes | None = None
    row: int | None = None
    stops: SerialisationError | None = None


LONGEST_MESSAGE: Final = 2_000
"""Characters of an error's message that are kept."""


class Codec(Protocol):
    """How the values of a handler are written, and read again."""

    def encode(self, value: Any) -> bytes:
        """Return a value as bytes.

        Raises:
            SerialisationError: If it would not come back equal.
        """
        ...

    def decode(self, content: bytes) -> Any:
        """Return the value that was written.

        Raises:
            SerialisationError: If these bytes are none that can be read.
        """
        ...


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


def failed_instead(outcome: Outcome[Any, Any], error: BaseException) -> Outcome[Any, Any]:
    """Return the outcome of a job that is done, as one that failed."""
    return msgspec.structs.replace(outcome, value=None, error=error, state="dead")


def written(error: BaseException) -> bytes:
    """Return what is kept of an error."""
    try:
        message = str(error)[:LONGEST_MESSAGE]
    except Exception as problem:  # noqa: BLE001 - the user's code may raise anything
        message = f"its str raised {type(problem).__name__}"
    return json.dumps({"type": type(error).__name__, "message": message}).encode()
