"""Which job runs here, and what handlers do to the context around them."""

from __future__ import annotations

import types
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    from qanat._core.job import Job
    from qanat._engine.carrier import Carrier

running_job: ContextVar[Job[Any] | None] = ContextVar("qanat_job", default=None)
running_carrier: ContextVar[Carrier] = ContextVar("qanat_carrier")


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
