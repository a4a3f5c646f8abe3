"""What a strategy of your own defines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qanat import Rules
    from qanat.compat.async_task_manager.task import Task


ANY = 1_000_000_000
"""Places where something else decides."""


class BaseStrategy(ABC):
    """Keep tasks, and say which begins when."""

    @abstractmethod
    def add_task(self, task: Task[Any]) -> None:
        """Keep a task."""

    @abstractmethod
    def get_next_task(self) -> Task[Any] | None:
        """Return a task to begin now, and keep it no more; None if none may."""

    @abstractmethod
    async def get_sleep_interval(self) -> float | None:
        """Return the seconds before `get_next_task` is asked again; None is until something changes."""

    async def on_task_done(self) -> None:
        """Hear that a task has ended, well or not."""


class LimitStrategy(BaseStrategy):
    """A strategy that is rules of qanat: its tasks begin in turn, whenever these let them.

    A manager uses the rules themselves. The methods serve a class made from this one, which a manager asks
    as it asks every other.

    Args:
        rules: When tasks may begin.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules: Rules = rules
        self.tasks: deque[Task[Any]] = deque()

    def add_task(self, task: Task[Any]) -> None:
        """Keep a task."""
        self.tasks.append(task)

    def get_next_task(self) -> Task[Any] | None:
        """Return the task that was added first; the rules hold it back when the manager runs it."""
        return self.tasks.popleft() if self.tasks else None

    async def get_sleep_interval(self) -> float | None:
        """Return that the next may be asked for at once, or when something changes."""
        return 0.0 if self.tasks else None
