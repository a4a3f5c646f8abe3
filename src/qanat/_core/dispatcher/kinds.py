"""How jobs ended, by the name of their task.

While there is one task, what ended is its own, and nothing is counted here. So a run of one handler
pays nothing, and what ends on the fast ways of one task need not come by. As a second task is
added, what ended until then is put down to the first; from then on each end is noted, as long as
there are two or more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from qanat._core.dispatcher.dispatcher import Dispatcher
    from qanat._core.dispatcher.node import Node
    from qanat._core.outcome import State

MOST_KINDS = 50
"""Names that are told apart; the tasks that come after count together."""
OTHERS = "others"
"""What those are called."""


class Ends(msgspec.Struct, gc=False):
    """How many jobs of one kind ended so."""

    done: int = 0
    dead: int = 0
    cancelled: int = 0


class Kinds:
    """Count ends by the name of the task.

    Attributes:
        ends: The counts by name; but see `kinds_of`, which knows what is not in them yet.
        several: Whether there are two tasks or more, so that each end is noted.
    """

    __slots__ = ("ends", "several", "sum")

    def __init__(self) -> None:
        self.ends: dict[str, Ends] = {}
        self.several = False
        self.sum = Ends()

    def note(self, task: Node, state: State) -> None:
        """Count a job that ended."""
        if self.several:
            self.add(str(task.key), **{state: 1})

    def add(self, name: str, done: int = 0, dead: int = 0, cancelled: int = 0) -> None:
        """Add to the counts of a name."""
        found = self.ends.get(name)
        if found is None:
            if len(self.ends) >= MOST_KINDS:
                name = OTHERS
            found = self.ends.setdefault(name, Ends())
        for each in (found, self.sum):
            each.done += done
            each.dead += dead
            each.cancelled += cancelled

    def catch_up(self, dispatcher: Dispatcher) -> None:
        """Put what ended while there was one task down to that."""
        tasks = dispatcher.tree.tasks
        if tasks and not self.several:
            self.add(
                str(tasks[0].key),
                dispatcher.done - self.sum.done,
                dispatcher.failed - self.sum.dead,
                dispatcher.cancelled - self.sum.cancelled,
            )


def task_added(dispatcher: Dispatcher) -> None:
    """Hear that there is one more task."""
    kinds, number = dispatcher.kinds, len(dispatcher.tree.tasks)
    if kinds is None:
        if number < 2:
            return
        kinds = dispatcher.kinds = Kinds()
    if number > 1:
        kinds.catch_up(dispatcher)
        kinds.several = True


def task_leaves(dispatcher: Dispatcher) -> None:
    """Hear that a task is about to be dropped; its jobs have ended."""
    kinds = dispatcher.kinds
    if kinds is None:
        # The only task of a Pool without a handler may go, and another one come.
        kinds = dispatcher.kinds = Kinds()
    kinds.catch_up(dispatcher)
    kinds.several = len(dispatcher.tree.tasks) > 2


def kinds_of(dispatcher: Dispatcher) -> dict[str, Any]:
    """Return how jobs ended by the name of their task; empty if there was one task at most."""
    kinds = dispatcher.kinds
    if kinds is None:
        return {}
    kinds.catch_up(dispatcher)
    for task in dispatcher.tree.tasks:
        kinds.add(str(task.key))
    return kinds.ends
