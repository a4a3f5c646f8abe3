"""What runs the jobs of a queue: the functions that a worker was given, as handlers and as callbacks."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from qanat._app.durable.calling_back import CallingBack, ask_until_answered
from qanat._app.durable.lineage import read_after
from qanat._app.durable.sealing import Sealing
from qanat._app.durable.spawning import QueueSpawner
from qanat._app.handlers import name_of
from qanat._core.retry import Retry
from qanat._core.store.values import Lease
from qanat._engine.callee import InBatches, callee_of
from qanat.errors import ChildrenFailedError, SerialisationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qanat._app.durable.brood import Brood
    from qanat._app.durable.holding import Held
    from qanat._app.durable.queue import Queue
    from qanat._app.durable.sealing import Seal
    from qanat._app.rules import Rules
    from qanat._core.batch import Batch
    from qanat._core.job import Task
    from qanat._core.store.values import StoredJob
    from qanat._engine.callee import Callee
    from qanat._engine.engine import Engine

_NEVER_AGAIN: Final = (SerialisationError, ChildrenFailedError)
"""A result that cannot be kept will not be otherwise the next time, nor what became of children."""


class Handling:
    """The tasks of one consumer.

    Attributes:
        tasks: All that there are; grows when a callback is due.
    """

    def __init__(
        self, engine: Engine, queue: Queue[Any], table: Mapping[str, Callable[..., Any]], rules: Rules,
        seal: Seal | None = None,
    ) -> None:  # fmt: skip
        """Make a task of each function, by the names that jobs give."""
        self.tasks: list[Task] = []
        self._engine = engine
        self._queue = queue
        self._table = table
        self._rules = rules
        self._spawner = QueueSpawner(queue._asking, table, rules)
        self._handlers: dict[str, Task] = {}
        self._callbacks: dict[str, Task] = {}
        made: dict[int, Task] = {}
        turning = queue._asking.turning
        if turning is not None:
            seal = turning.seal
        for name, function in table.items():
            task = made.get(id(function))
            if task is None:
                callee = Sealing(callee_of(function, rules.executor), self._put_ahead, seal)
                whole = callee if rules.batch is None else InBatches(callee)
                task = made[id(function)] = self._add(name_of(function), whole, rules.batch)
            self._handlers[name] = task

    @property
    def any(self) -> Task:
        """A task, for a job that is not run here."""
        return self.tasks[0]

    @property
    def main(self) -> Task | None:
        """What runs the jobs that name no handler; None if nothing does."""
        return self._handlers.get("")

    def task(self, stored: StoredJob) -> Task | None:
        """Return what runs a job, be it its handler or its callback; None if that is not known here."""
        if not stored.phase:
            return self._handlers.get(stored.handler)
        name = read_after(stored.after).name
        task = self._callbacks.get(name)
        if task is None and (name in self._table or not name):
            function = self._table[name] if name else None
            conf = self._queue._asking.conf
            callee = CallingBack(
                None if function is None else callee_of(function, self._rules.executor),
                self._queue._store.desk, self._queue.name,
                newest_first=conf is not None and conf.order == "lifo",
            )  # fmt: skip
            called = "children" if function is None else name_of(function)
            task = self._callbacks[name] = self._add(called, callee, None)
        return task

    def _add(self, name: str, callee: Callee, batch: Batch | None) -> Task:
        engine, rules = self._engine, self._rules
        retry = Retry.of(rules.retry)
        never_on = (*cast("tuple[type[BaseException], ...]", retry.never_on), *_NEVER_AGAIN)
        callee.prepare(engine.outside)
        task = engine.dispatcher.add_task(
            name, callee, make_order=rules.make_order, retry=replace(retry, never_on=never_on),
            timeout=rules.timeout, state=rules.state, lane_limits=rules.lane_limits,
            weights=rules.weight_of, uses_lanes=rules.lane is not None, batch=batch,
        )  # fmt: skip
        task.spawner = self._spawner
        self.tasks.append(task)
        return task

    async def _put_ahead(self, held: Held, brood: Brood) -> None:
        """Put the children for which the step that ends their parent has no room."""
        stored, store = held.stored, self._queue._store
        for chunk in brood.ahead(Lease(stored.id, stored.token)):
            await ask_until_answered(store.desk, f"put {self._queue.name} 0 -", chunk)
            store.hints.ring(self._queue.name)


def name_wanted(stored: StoredJob) -> str:
    """Return the name of the function that a job wants to be called next."""
    return read_after(stored.after).name if stored.phase else stored.handler
