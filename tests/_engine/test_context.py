"""Awaiting in a context of its own: `run_in` is what `await` is, but for the context."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from qanat._engine.context import run_in

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


async def test_the_value_comes_back(virtual_time: VirtualTime):
    async def function() -> int:
        await anyio.sleep(1.0)
        return 7

    assert await run_in(contextvars.copy_context(), function()) == 7
    assert virtual_time.now() == 1.0


async def test_what_is_set_stays_in_the_context_over_all_steps(virtual_time: VirtualTime):
    seen: list[str] = []

    async def function() -> None:
        who.set("inside")
        await anyio.sleep(1.0)
        seen.append(who.get())
        who.set("further inside")
        await anyio.sleep(1.0)
        seen.append(who.get())

    context = contextvars.copy_context()
    await run_in(context, function())
    assert seen == ["inside", "further inside"]
    assert who.get() == "nobody"
    assert context[who] == "further inside"


async def test_an_error_comes_out_as_it_is(virtual_time: VirtualTime):
    error = KeyError("x")

    async def function() -> None:
        await anyio.sleep(1.0)
        raise error

    with pytest.raises(KeyError) as caught:
        await run_in(contextvars.copy_context(), function())
    assert caught.value is error


async def test_a_cancellation_reaches_the_inside_in_its_context(virtual_time: VirtualTime):
    seen: list[str] = []

    async def function() -> None:
        who.set("inside")
        try:
            await anyio.sleep(10.0)
        finally:
            seen.append(who.get())

    with anyio.move_on_after(1.0) as scope:
        await run_in(contextvars.copy_context(), function())
    assert scope.cancelled_caught
    assert (seen, virtual_time.now()) == (["inside"], 1.0)


async def test_an_error_that_the_inside_swallows_is_swallowed(virtual_time: VirtualTime):
    async def function() -> str:
        value = "not reached"
        try:
            await anyio.sleep(10.0)
        except anyio.get_cancelled_exc_class():
            value = "swallowed"
        return value

    with anyio.move_on_after(1.0):
        assert await run_in(contextvars.copy_context(), function()) == "swallowed"


@pytest.mark.virtual_time("asyncio")
async def test_values_sent_in_reach_the_inside(virtual_time: VirtualTime):
    async def function() -> list[Any]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1.0, future.set_result, 5)
        return [await future, await asyncio.gather(asyncio.sleep(1.0, 6))]

    assert await run_in(contextvars.copy_context(), function()) == [5, [6]]


def test_closing_the_outside_closes_the_inside_in_its_context():
    seen: list[str] = []

    class Forever:
        def __await__(self) -> Any:
            yield

    async def function() -> None:
        who.set("inside")
        try:
            await Forever()
        finally:
            seen.append(who.get())

    async def outside() -> None:
        await run_in(contextvars.copy_context(), function())

    coroutine = outside()
    coroutine.send(None)
    coroutine.close()
    assert seen == ["inside"]
    assert who.get() == "nobody"
