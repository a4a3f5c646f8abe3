"""How a handler is called: on the loop, in a thread or in a process."""

from __future__ import annotations

import functools
import inspect
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from qanat._core.batch import BatchJob
from qanat._core.branch import AfterJob
from qanat._engine.process_frames import Errand

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.job import Job
    from qanat._engine.carrier import Carrier
    from qanat._engine.outside import Outside

Executor = Literal["loop", "thread", "process"]


def without_partials(function: Any) -> Any:
    """Return what partials of partials call in the end; anything else as it is."""
    while isinstance(function, functools.partial):
        function = cast("Any", function).func
    return function


def is_coroutine_function(function: object) -> bool:
    """Whether calling this gives a coroutine, as far as can be told before calling it."""
    function = without_partials(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - the method itself is what is looked at
    )


class Callee:
    """A handler, and where it runs.

    Attributes:
        function: What is called with the item.
        on_loop: True if it is called on the loop and gives an awaitable: the fast way, which the
            carrier goes by itself.
    """

    __slots__ = ("function", "on_loop")

    def prepare(self, outside: Outside) -> None:
        """Make ready what the calls need; most need nothing.

        Raises:
            TypeError: If the function cannot be called where it should be.
        """

    def __init__(self, function: Callable[[Any], Any], *, on_loop: bool) -> None:
        """Keep the function."""
        self.function = function
        self.on_loop = on_loop

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call the function for a job, and return its value or its error."""
        raise NotImplementedError

    async def call_anyhow(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call the function wherever it runs, for a callee that is wrapped around this one."""
        if self.on_loop:
            return await self.function(job.item), None
        return await self.call(carrier, job)


class PlainOnLoop(Callee):
    """A plain function called on the loop, because it was asked for; it may give an awaitable."""

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call the function, and await what it gives if that can be awaited."""
        try:
            value = self.function(job.item)
            if inspect.isawaitable(value):
                value = await value
        except StopIteration as error:
            return None, error
        return value, None


class InThread(PlainOnLoop):
    """A plain function called in a thread.

    If it gives an awaitable, that is awaited on the loop, and so are all calls from then on.
    """

    __slots__ = ("_gives_awaitables",)

    def __init__(self, function: Callable[[Any], Any]) -> None:
        """Keep the function."""
        super().__init__(function, on_loop=False)
        self._gives_awaitables = False

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call the function in a thread and wait for it."""
        if self._gives_awaitables:
            return await super().call(carrier, job)
        outside = carrier.engine.outside
        call = outside.submit_to_thread(self.function, job.item)
        try:
            await outside.wait(call)
        except BaseException:
            if not call.ended and not outside.withdraw_from_thread(call):
                carrier.left_behind = call
            raise
        value, error = call.value, call.error
        if error is None and inspect.isawaitable(value):
            self._gives_awaitables = True
            value = await value
        return value, error


class InProcess(Callee):
    """A plain function called in a child process, which a timeout or a cancellation kills."""

    __slots__ = ()

    def __init__(self, function: Callable[[Any], Any]) -> None:
        """Keep the function."""
        super().__init__(function, on_loop=False)

    def prepare(self, outside: Outside) -> None:
        """Pickle the function, which shows whether a child can find it."""
        outside.prepare_processes(self.function)

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call the function in a child process and wait for it."""
        outside = carrier.engine.outside
        spawner = job._task.spawner
        if type(job) is BatchJob or (spawner is None and type(job) is not AfterJob):
            call = outside.submit_to_process(self.function, job.item)
        else:
            scope = None if spawner is None else cast("Any", spawner).scope(job)
            errand = Errand(job.item, spawner is not None, scope)
            hear = None if spawner is None else partial(cast("Any", spawner).hear, job)
            call = outside.submit_to_process(self.function, errand, hear)
        try:
            await outside.wait(call)
        except BaseException:
            await outside.kill_process(self.function, call)
            raise
        if spawner is not None and spawner.problems and (problem := spawner.problems.pop(job, None)):
            return None, problem if call.error is None else call.error
        return call.value, call.error


class Returned(BaseException):
    """Carry what the call of a batch returned past the way of a single value; never raised."""

    def __init__(self, value: Any) -> None:
        """Keep the value."""
        super().__init__()
        self.value = value


class InBatches(Callee):
    """A handler of lists, called with the items of a batch in the way of another callee."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Callee) -> None:
        """Keep how the handler is called."""
        super().__init__(inner.function, on_loop=False)
        self._inner = inner

    def prepare(self, outside: Outside) -> None:
        """Make ready what the calls need."""
        self._inner.prepare(outside)

    async def call(self, carrier: Carrier, job: Job[Any]) -> tuple[Any, BaseException | None]:
        """Call the function with the list; what it returns is what the members are settled by."""
        value, error = await self._inner.call_anyhow(carrier, job)
        return None, Returned(value) if error is None else error


def callee_of(function: Callable[[Any], Any], executor: Executor | None) -> Callee:
    """Return how to call a handler: as asked, or by its kind.

    Raises:
        TypeError: If the handler cannot be called like that.
    """
    is_async = is_coroutine_function(function)
    if executor is None:
        return Callee(function, on_loop=True) if is_async else InThread(function)
    if executor == "loop":
        return Callee(function, on_loop=True) if is_async else PlainOnLoop(function, on_loop=False)
    if is_async:
        raise TypeError(
            f"executor={executor!r} is for plain functions, got the coroutine function "
            f"{getattr(function, '__qualname__', function)!r}: leave executor out"
        )
    return InThread(function) if executor == "thread" else InProcess(function)
