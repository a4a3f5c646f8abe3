"""Which job runs here, and what handlers do to the context around them.

A carrier sets the context variable once, to a cell, and puts one job after the other into that:
setting the variable and copying the context for every job took a fifth of its time. A cell may be
used again only if the attempt left the context as it was and nobody kept a copy of it: a task
that outlives its attempt goes on with the job that started it.

Both are seen by counting references, on CPython. A context is an immutable mapping; who copies it
holds the same mapping, so each copy that is kept counts one more there. Whoever sets or resets a
variable gets a new mapping made from it, whose own first node holds the cell as well, so each such
mapping that is kept counts one more at the cell. One count alone could miss a copy and a change
at once. Where it does not count, on another Python, each job has a cell of its own.

The cell is not in the first node where its variable shares a place there with another one, of the
user's or of a library, as of two they do in one process of 32; or where there are more than 16. A
new mapping then has nodes of its own as far as what was changed lies on the way to the cell, and
shares the next one: so the nodes on that way are counted, too, which takes a seventh of what a
cell for each job takes.
"""

from __future__ import annotations

import sys
import threading
import types
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from qanat._core.job import RUNNING, Job
from qanat._engine.ways import way_to

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from qanat._core.job import Task
    from qanat._engine.carrier import Carrier

_making = threading.Lock()
"""Held while a job is made: two threads of a handler may ask at once, and get one job."""


class Cell:
    """Where `current_job` looks; it changes its job only while no other context can see it.

    Most handlers of plain runs never ask, so a carrier notes what it draws, and the job is made of
    that for the first who does: making and freeing one is an eighth of the time of a no-op job.

    Attributes:
        job: The job that runs; None if nobody has asked for it yet, or there is none.
        number: Which item of its source was drawn.
        item: What was drawn.
        task: Whose item it is; None if nothing was drawn.
        first: When its first attempt began.
        started: When its present attempt began, if that is not the first.
        attempt: The number of the present attempt.
    """

    __slots__ = ("attempt", "first", "item", "job", "number", "started", "task")

    def __init__(self) -> None:
        """Hold no job."""
        self.job: Job[Any] | None = None
        self.task: Task | None = None
        self.item: Any = None
        self.number = 0
        self.first = self.started = 0.0
        self.attempt = 1

    def made(self) -> Job[Any] | None:
        """Return the job that runs, made now if it was not; None if none does. From any thread."""
        if self.job is None and self.task is not None:
            with _making:
                if self.job is None:
                    number = self.number
                    job = Job(number, self.item, number, self.task, self.first, RUNNING, self.first)
                    if self.attempt > 1:
                        job.attempt = self.attempt
                        job.started_at = self.started
                    self.job = job
        return self.job

    def clear(self) -> None:
        """Hold no job any more."""
        self.job = self.task = self.item = None


def _cannot_count(_of: object) -> object:
    """Return what equals nothing that was returned before."""
    return object()


_counts = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()
count_references: Callable[[object], object] = sys.getrefcount if _counts else _cannot_count
"""References to an object; read it from an attribute, as a local may be passed without one of its own."""


MOST_TRIES = 64
"""Variables that are made until one lies apart: each does by 31 of 32."""


def variable_apart(name: str, other: ContextVar[Any]) -> ContextVar[Any]:
    """Return a new variable that is in the first node of a context's mapping though another is set.

    The addresses of two variables decide whether they share a place there, and then both are a node below.
    """
    cell, tried = Cell(), [ContextVar[Any](name)]
    while _counts and len(tried) < MOST_TRIES:
        context = Context()
        context.run(other.set, None)
        context.run(tried[-1].set, cell)
        if not way_to(tried[-1], cell, context)[1]:
            break
        # All are kept until then, or the next one would have the address of this.
        tried.append(ContextVar(name))
    return tried[-1]


running_carrier: ContextVar[Carrier] = ContextVar("qanat_carrier")
running_cell: ContextVar[Cell] = variable_apart("qanat_cell", running_carrier)


def new_cell() -> tuple[Cell, Context, Any, Callable[[object], object]]:
    """Put a new cell into the present context.

    Returns:
        The cell, a copy of the context, the mapping that both contexts are, or None in its place if
        counting references would not tell who sees the cell; and what counts those of the cell.
    """
    cell = Cell()
    running_cell.set(cell)
    context = copy_context()
    mapping, way = way_to(running_cell, cell, context) if _counts else (None, ())
    return cell, context, mapping, partial(_count_all, way) if way else count_references


def _count_all(way: tuple[Any, ...], cell: object) -> int:
    """Return how many references there are to a cell and to the nodes on the way to it.

    None of them can become fewer while the mapping is held, so their sum says as much as each. A thread
    that outlives its job may change its copy meanwhile: that holds what is nearer to the cell then than it
    did before, never what is farther, so the cell comes last.
    """
    total = 0
    for node in way:
        total += sys.getrefcount(node)
    return total + sys.getrefcount(cell)


@types.coroutine
def run_in(context: Context, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await a coroutine inside a context of its own, so that what it sets is forgotten with it.

    Costs one `Context.run` a step, so it is used only where a handler was seen to change its
    context: the others cannot tell the difference.
    """
    step: Any = coroutine.send
    argument: Any = None
    while True:
        try:
            awaited = context.run(step, argument)
        except StopIteration as stop:
            return stop.value
        try:
            argument = yield awaited
            step = coroutine.send
        except GeneratorExit:
            context.run(coroutine.close)
            raise
        except BaseException as error:  # noqa: BLE001 - handed on to the coroutine, as `await` would
            argument = error
            step = coroutine.throw
