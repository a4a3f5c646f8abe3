"""What the core asks of the world around it, as small protocols."""

from __future__ import annotations

from typing import Any, Protocol


class Clock(Protocol):
    """One timeline for a whole process; only virtual time replaces the real one."""

    @property
    def precision(self) -> float:
        """Seconds by which a handler's first instruction may trail the decision to start it."""
        ...

    @property
    def seed(self) -> int | None:
        """What randomness begins with: the same on virtual time, None for a new one each time."""
        ...

    def now(self) -> float:
        """Return monotonic seconds; never runs backwards."""
        ...

    def wall(self) -> float:
        """Return UTC seconds since 1970."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait so many seconds of this clock, on whichever event loop runs."""
        ...

    def work_outside_began(self) -> None:
        """Say that a thread or a process now works for the loop: virtual time stands still.

        Each call is paired with one of `work_outside_ended`; both may come from any thread.
        """
        ...

    def work_outside_ended(self) -> None:
        """Say that one piece of such work is over and its result has reached the loop.

        Called after the result was handed to the loop (set on the loop's thread, or posted to
        it from another), never before: in between, virtual time would see an idle loop.
        """
        ...


class Random(Protocol):
    """A seeded source of randomness, as `random.Random` offers it."""

    def random(self) -> float:
        """Return a number in [0, 1)."""
        ...


class Connection(Protocol):
    """A connection to a store, used by one thread at a time; its courier asks it for deeds."""

    def do(self, deed: str, asked: list[Any]) -> list[Any]:
        """Carry out one deed for a batch.

        Args:
            deed: Its name, one of those that the store knows.
            asked: What each caller gave.

        Returns:
            An answer for each of what was asked, in that order. One that is an exception is raised to
            the caller that it is for, and to nobody else.

        Raises:
            BaseException: What went wrong with the batch as a whole, of which then nothing was done;
                each caller is told.
        """
        ...

    def close(self) -> None:
        """Let go of the store; the connection is not used any more."""
        ...


class Begun(Protocol):
    """A deed that is under way while nobody waits for it."""

    def fileno(self) -> int:
        """Return the number of the socket that becomes readable when there is news."""
        ...

    def is_over(self) -> bool:
        """Take in what is there, without waiting; say whether there is nothing more to come."""
        ...

    def answers(self) -> list[Any] | None:
        """Return the answers, once it is over; None if `finish` has to find out what became of it."""
        ...

    def finish(self) -> list[Any]:
        """Wait for the answers; all is as with `Connection.do`."""
        ...


class BeginningConnection(Connection, Protocol):
    """A connection over which a small deed may be sent without waiting for its answer."""

    @property
    def begins(self) -> bool:
        """Whether `begin` is of use; no connection that lacks the attribute begins."""
        ...

    @property
    def roams(self) -> bool:
        """Whether any thread may use it, one at a time; after an interruption it is closed."""
        ...

    def begin(self, deed: str, asked: list[Any]) -> Begun | None:
        """Send a deed; None if that would take waiting, and nothing was sent.

        Until the answers were there, or `finish` has returned, nothing else is asked of the connection.
        """
        ...
