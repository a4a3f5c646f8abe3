"""What is asked of a store, and where its answers go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Call:
    """Something asked of a store, by one caller.

    Attributes:
        deed: The name of the deed.
        asked: What it is asked for, a list.
        answers: The answers, as many, once it has ended; empty if there is an error.
        error: What the round trip raised; None if it went well.
    """

    __slots__ = ("answers", "asked", "deed", "error", "home", "on_end")

    def __init__(self, deed: str, asked: list[Any], home: Home, on_end: Callable[[Call], object]) -> None:
        """Ask for nothing yet."""
        self.deed: str = deed
        self.asked: list[Any] = asked
        self.home: Home = home
        self.on_end: Callable[[Call], object] = on_end
        self.answers: list[Any] = []
        self.error: BaseException | None = None

    def unwrap(self) -> list[Any]:
        """Return the answers, or raise what came instead: the first one that is an error, too."""
        if self.error is not None:
            raise self.error
        for answer in self.answers:
            if isinstance(answer, BaseException):
                raise answer
        return self.answers


class Home:
    """Where answers go: here, to a thread that waits for each by itself."""

    def hear(self, calls: list[Call]) -> None:
        """Be told, in the line's thread, that calls have ended."""
        for call in calls:
            call.on_end(call)
