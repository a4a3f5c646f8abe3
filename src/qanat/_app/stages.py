"""The handlers of spawned jobs: each a task node of its own, under the rules of the run."""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

from qanat._app.handlers import check_handler, name_of
from qanat._engine.callee import callee_of, is_coroutine_function

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from qanat._app.kept_trees import Kind
    from qanat._app.rules import Rules
    from qanat._core.job import Job, Task
    from qanat._engine.engine import Engine

MOST_HANDLERS = 64
"""Handlers that are kept for the next such job, though they have none left."""


class _Stage:
    """A handler of spawned jobs, and how many of these have not ended."""

    __slots__ = ("function", "kind", "number", "task")

    def __init__(self, function: Callable[..., Any], task: Task, kind: Kind | None) -> None:
        self.function = function  # kept alive, so that its id stays its own
        self.task = task
        self.kind = kind
        self.number = 0


class Stages:
    """The handlers of one run.

    Attributes:
        dress: What a handler is called through; None is as it is.
        kind_of: Says by what a journal knows a handler; None without a journal.
        on_first: Called when there will be jobs that are counted.
        by_node: The handlers whose jobs are counted, by their nodes.
    """

    def __init__(self, engine: Engine, rules: Rules) -> None:
        """Begin with none."""
        self.dress: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
        self.kind_of: Callable[[Hashable, Callable[..., Any]], Kind] | None = None
        self.on_first: Callable[[], object] | None = None
        self._engine = engine
        self._rules = rules
        self._main: tuple[Callable[..., Any], Task] | None = None
        self._tasks: dict[Any, Task] = {}
        self._stages: dict[Hashable, _Stage] = {}
        self.by_node: dict[Any, _Stage] = {}

    def set_main(self, handler: Callable[..., Any], task: Task) -> None:
        """Keep the run's own handler."""
        self._main = handler, task
        self._tasks[task.node] = task

    def own(self, job: Job[Any]) -> Task:
        """Return the task of a job's handler; of the run's own if that is no handler of one item.

        Raises:
            TypeError: If it is none, and the run has none.
        """
        found = self._tasks.get(job._task.node)
        if found is not None:
            return found
        if self._main is None:
            raise TypeError("handler must be given where the Pool has none: spawn(item, handler=function)")
        return self._main[1]

    def check(self, handler: Callable[..., Any]) -> Hashable:
        """Return by what a handler is known, checked if it is new.

        Raises:
            TypeError: If it is no function of one item.
        """
        # The methods of an object are made anew each time they are looked up, but are equal.
        key: Hashable = handler if isinstance(handler, MethodType) else id(handler)
        if key not in self._stages:
            check_handler(handler)
        return key

    def task(self, handler: Callable[..., Any]) -> Task:
        """Return the task of a handler, added if it is new; in the loop's thread.

        Raises:
            TypeError: If it is no function of one item.
        """
        if self._main is not None and self._main[0] is handler:
            return self._main[1]
        key = self.check(handler)
        return (self._stages.get(key) or self._add(key, handler)).task

    def kind(self, job: Job[Any]) -> Kind | None:
        """Return by what a journal knows a job's handler; None if it is the run's own."""
        stage = self.by_node.get(job._task.node)
        return None if stage is None else stage.kind

    def arrived(self, job: Job[Any]) -> None:
        """Count a job that has arrived."""
        if self.by_node and (stage := self.by_node.get(job._task.node)) is not None:
            stage.number += 1

    def ended(self, job: Job[Any]) -> None:
        """Hear that a job has ended for good."""
        if self.by_node and (stage := self.by_node.get(job._task.node)) is not None:
            stage.number -= 1

    def _add(self, key: Hashable, handler: Callable[..., Any]) -> _Stage:
        if len(self._stages) >= MOST_HANDLERS:
            self._drop_idle()
        rules, engine = self._rules, self._engine
        called = handler if self.dress is None else self.dress(handler)
        callee = callee_of(called, None if is_coroutine_function(called) else rules.executor)
        callee.prepare(engine.outside)
        task = engine.dispatcher.add_task(
            name_of(handler), callee,
            make_order=rules.make_order, retry=rules.retry_of, timeout=rules.timeout, state=rules.state,
            lane_limits=rules.lane_limits, weights=rules.weight_of, uses_lanes=rules.lane is not None,
        )  # fmt: skip
        task.spawner = engine.spawner
        if self.on_first is not None and not self.by_node:
            self.on_first()
        stage = self._stages[key] = self.by_node[task.node] = _Stage(
            handler, task, None if self.kind_of is None else self.kind_of(key, handler)
        )
        self._tasks[task.node] = task
        return stage

    def _drop_idle(self) -> None:
        """Forget handlers without jobs."""
        for key, stage in list(self._stages.items()):
            if not stage.number:
                node = stage.task.node
                del self._stages[key], self.by_node[node], self._tasks[node]
                self._engine.dispatcher.drop_task(stage.task)
