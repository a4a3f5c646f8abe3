"""What is kept of a job that ended, for another run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:
    from qanat._core.outcome import Outcome

DONE: Final = 1
FAILED: Final = 2


class Kept(NamedTuple):
    """What is kept of a job.

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


def failed_instead(outcome: Outcome[Any, Any], error: BaseException) -> Outcome[Any, Any]:
    """Return the outcome of a job that is done, as one that failed."""
    return msgspec.structs.replace(outcome, value=None, error=error, state="dead")
