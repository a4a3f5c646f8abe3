"""A deed whose script is on its way: its answer where all goes well, and else how to go on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._stores.redis.calling import Calls
    from qanat._stores.redis.direct import Sent


class Began:
    """A deed that was begun; made by the store.

    Args:
        calls: The connection.
        sent: The script on its way.
        understand: Makes of its answer what the deed gives; None if that takes more than the answer.
    """

    __slots__ = ("_calls", "_sent", "_understand")

    def __init__(self, calls: Calls, sent: Sent, understand: Callable[[Any], Any]) -> None:
        self._calls = calls
        self._sent = sent
        self._understand = understand

    def fileno(self) -> int:
        """Return the number of the socket that becomes readable when there is news."""
        return self._sent.fileno()

    def is_over(self) -> bool:
        """Take in what is there, without waiting; say whether there is nothing more to come."""
        return self._sent.is_over()

    def answer(self) -> Any:
        """Return what the deed gives, once it is over; None if `resume` and the deed have to find out."""
        return None if self._sent.error is not None else self._understand(self._sent.answer)

    def resume(self) -> None:
        """Let the next run of the script wait for the answer, in place of sending it."""
        self._calls.sent = self._sent

    def leave(self) -> None:
        """Close the connection, if the script was not run: what comes over it is nobody's."""
        if self._calls.sent is self._sent:
            self._calls.sent = None
            self._sent.give_up()
