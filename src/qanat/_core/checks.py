"""Checks: what a limit wants to be asked of the world, and whoever does the asking.

A limit cannot wait for anything. One that has a `check` says when it is due, and a driver that
can wait calls it and tells what came of it. A driver that cannot (the simulator, a test)
attaches itself to no limit, and limits then do without their checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.limit import Limit


class Checker(Protocol):
    """Who calls the checks of limits that it was attached to."""

    def check_wanted(self, limit: Checked) -> None:
        """Hear that a limit has a check to be called once it is due."""
        ...


class Checked(Protocol):
    """A limit with a check.

    Several runs may use it. Only the checker that came first is asked; if it leaves, the next is.
    """

    @property
    def check(self) -> Callable[[], Any] | None:
        """What is called, without arguments; it may give an awaitable."""
        ...

    @property
    def check_due_at(self) -> float:
        """When it is to be called; infinity if it is not wanted now."""
        ...

    def check_ended(self, good: bool, now: float) -> None:
        """Hear what came of it: False if it raised, returned False or took too long."""
        ...

    def add_checker(self, checker: Checker) -> None:
        """Attach who can call the check."""
        ...

    def remove_checker(self, checker: Checker) -> None:
        """Detach who can call it no more; unknown ones are ignored."""
        ...


class Keeper(Protocol):
    """A driver's part that wants to know which limits are in use."""

    def bound(self, limit: Limit) -> None:
        """Hear that a node has a limit; called once for each node that has it."""
        ...

    def forgotten(self, limit: Limit) -> None:
        """Hear that such a node is forgotten."""
        ...
