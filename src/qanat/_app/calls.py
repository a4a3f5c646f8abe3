"""`Pool.call`: any function, each a task node of its own for as long as calls of it are open."""

from __future__ import annotations

import inspect
from types import MethodType
from typing import TYPE_CHECKING, Any

from qanat._app.handlers import check_returns, name_of, retry_of_one
from qanat._core.arguments import positive
from qanat._core.job import Job
from qanat._core.retry import Retry
from qanat._engine.callee import callee_of, is_coroutine_function

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from qanat._app.rules import Rules
    from qanat._core.job import Task
    from qanat._engine.engine import Engine


class Spread:
    """A function of several arguments, as a function of their tuple."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        """Keep the function."""
        self.function = function

    def __call__(self, args: tuple[Any, ...]) -> Any:
        """Call it."""
        return self.function(*args)

    def __eq__(self, other: object) -> bool:
        """Be the same for the same function, so that its child processes are found again."""
        return isinstance(other, Spread) and self.function == other.function

    def __hash__(self) -> int:
        """Go with `__eq__`."""
        return hash(self.function)


class SpreadAsync(Spread):
    """A coroutine function of several arguments, as one of their tuple."""

    __slots__ = ()

    async def __call__(self, args: tuple[Any, ...]) -> Any:
        """Call and await it."""
        return await self.function(*args)


class _OpenCalls:
    __slots__ = ("function", "key", "number", "task")

    def __init__(self, function: Callable[..., Any], key: Hashable, task: Task) -> None:
        self.function = function  # kept alive, so that its id stays its own
        self.key = key
        self.task = task
        self.number = 0


class Calls:
    """The functions of which calls are open."""

    def __init__(self, engine: Engine, rules: Rules) -> None:
        """Begin with none."""
        self._engine = engine
        self._rules = rules
        self._open: dict[Hashable, _OpenCalls] = {}
        self._by_node: dict[Any, _OpenCalls] = {}

    def job(
        self, index: int, function: Callable[..., Any], args: tuple[Any, ...], timeout: float | None,
        retry: int | Retry,
    ) -> Job[Any]:  # fmt: skip
        """Return a job for a call.

        Raises:
            TypeError: If it is not a function, or an argument is of the wrong kind.
            ValueError: If a number is out of range.
        """
        if not callable(function):
            if inspect.iscoroutine(function):
                function.close()
            raise TypeError(f"function must be a function, got {function!r}; pass it, do not call it")
        check_returns("function", function)
        found = retry_of_one(retry)
        if timeout is not None:
            timeout = positive("timeout", timeout)
        # The methods of an object are made anew each time they are looked up, but are equal.
        key: Hashable = function if isinstance(function, MethodType) else id(function)
        calls = self._open.get(key)
        if calls is None:
            calls = _OpenCalls(function, key, self._add(function))
            self._open[key] = self._by_node[calls.task.node] = calls
        calls.number += 1
        task = calls.task
        if timeout is not None or found.times or found.max_throttles != task.retry.max_throttles:
            task = task.varied(retry=found, timeout=timeout)
        return Job(index, args, index, task, metadata=None)

    def _add(self, function: Callable[..., Any]) -> Task:
        rules = self._rules
        callee = (
            callee_of(SpreadAsync(function), None)
            if is_coroutine_function(function)
            else callee_of(Spread(function), rules.executor)
        )
        callee.prepare(self._engine.outside)
        task = self._engine.dispatcher.add_task(
            name_of(function),
            callee,
            make_order=rules.make_order,
            retry=Retry(0),
            state=rules.state,
        )
        task.spawner = self._engine.spawner
        return task

    def ended(self, job: Job[Any]) -> None:
        """Hear that a call ended for good; a function without open calls is forgotten."""
        calls = self._by_node.get(job._task.node)
        if calls is None:
            return
        calls.number -= 1
        if not calls.number:
            del self._open[calls.key], self._by_node[calls.task.node]
            self._engine.dispatcher.drop_task(calls.task)
