"""What is checked of a handler and of items, at the call and before anything runs."""

from __future__ import annotations

import functools
import gc
import warnings
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def fine(item: Any) -> Any:
    return item


async def none() -> None:
    """Take no argument."""


async def two(first: int, second: int) -> None:
    """Take two arguments."""


async def keyword(*, item: int) -> None:
    """Take a keyword."""


async def generator(item: int) -> Any:
    yield item


class NotCallable:
    pass


class Callable_:  # noqa: N801 - a class whose objects are handlers
    async def __call__(self, item: int) -> int:
        return item

    async def method(self, item: int) -> int:
        return item

    @staticmethod
    async def static(item: int) -> int:
        return item


WRONG_HANDLERS: dict[str, Any] = {
    "None": None,
    "a number": 3,
    "an object": NotCallable(),
    "no argument": none,
    "two arguments": two,
    "a keyword": keyword,
    "an async generator": generator,
    "a class that takes none": NotCallable,
}

RIGHT_HANDLERS: dict[str, Any] = {
    "a coroutine function": fine,
    "a lambda": lambda item: item,
    "a built-in": abs,
    "a class": str,
    "a callable object": Callable_(),
    "a method": Callable_().method,
    "a static method": Callable_.static,
    "a partial": functools.partial(two, 1),
    "a partial with a keyword": functools.partial(two, second=1),
    "any arguments": lambda *args: args,
    "a default": lambda item, other=1: item,
    "a built-in without a signature": max,
}


async def by_collect(handler: Any, items: Any, **rules: Any) -> Any:
    return await qanat.collect(handler, items, **rules)


async def by_map(handler: Any, items: Any, **rules: Any) -> Any:
    return await qanat.map(handler, items, **rules)


async def by_stream(handler: Any, items: Any, **rules: Any) -> Any:
    return qanat.stream(handler, items, **rules)


async def by_run(handler: Any, items: Any, **rules: Any) -> Any:
    return await anyio.to_thread.run_sync(lambda: qanat.run(handler, items, **rules))


async def by_pool(handler: Any, items: Any, **rules: Any) -> Any:
    return qanat.Pool(handler, **rules)


FUNCTIONS = [by_collect, by_map, by_stream, by_run, by_pool]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("case", [case for case in WRONG_HANDLERS if case != "None"])
async def test_what_cannot_be_a_handler_is_refused_at_the_call(
    virtual_time: VirtualTime, case: str, function: Callable[..., Any]
):
    with pytest.raises(TypeError, match="^handler must") as caught:
        await function(WRONG_HANDLERS[case], [1, 2])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", [by_collect, by_map, by_stream, by_run])
async def test_no_handler_is_refused(virtual_time: VirtualTime, function: Callable[..., Any]):
    with pytest.raises(TypeError, match="^handler must"):
        await function(None, [1, 2])


@pytest.mark.parametrize("case", RIGHT_HANDLERS)
async def test_what_can_be_called_with_an_item_is_a_handler(virtual_time: VirtualTime, case: str):
    outcomes = await qanat.collect(
        RIGHT_HANDLERS[case], [[1], [2]] if "max" in case else [1, 2], concurrency=1
    )
    assert len(outcomes) == 2


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_coroutine_in_the_place_of_a_handler_is_closed_and_explained(
    virtual_time: VirtualTime, function: Callable[..., Any]
):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="pass the function, not what it returns"):
            await function(fine(1), [1, 2])
        gc.collect()


WRONG_ITEMS: dict[str, Any] = {"None": None, "a number": 5, "a function": lambda: [1], "a class": NotCallable}


@pytest.mark.parametrize("function", [by_collect, by_map, by_stream, by_run])
@pytest.mark.parametrize("case", WRONG_ITEMS)
async def test_what_cannot_be_read_is_refused_at_the_call(
    virtual_time: VirtualTime, case: str, function: Callable[..., Any]
):
    with pytest.raises(TypeError, match="^items must be an iterable or an async iterable, got"):
        await function(fine, WRONG_ITEMS[case])


async def test_a_function_in_the_place_of_items_is_explained(virtual_time: VirtualTime):
    with pytest.raises(TypeError, match="call it first"):
        await qanat.collect(fine, lambda: [1])  # type: ignore[call-overload]


async def test_a_coroutine_in_the_place_of_items_is_closed_and_explained(virtual_time: VirtualTime):
    async def items() -> list[int]:
        return [1]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TypeError, match="await it first"):
            await qanat.collect(fine, items())  # type: ignore[call-overload]
        gc.collect()


@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_coroutine_function_cannot_run_outside_of_the_loop(
    virtual_time: VirtualTime, function: Callable[..., Any], executor: Any
):
    with pytest.raises(TypeError, match="^executor="):
        await function(fine, [1, 2], executor=executor)


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_a_function_that_a_child_process_cannot_find_is_refused_at_the_call(
    virtual_time: VirtualTime, function: Callable[..., Any]
):
    def local(item: int) -> int:
        return item

    with pytest.raises(TypeError):
        result = await function(local, [1, 2], executor="process")
        async with result:
            pass


async def test_mistakes_are_found_before_the_first_item_is_read(virtual_time: VirtualTime):
    read: list[int] = []

    def items() -> Any:
        read.append(1)
        yield 1

    for wrong in ({"concurrency": 0}, {"retry": -1}, {"unknown": 1}):
        with pytest.raises((TypeError, ValueError)):
            await qanat.collect(fine, items(), **wrong)  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        await qanat.collect(two, items())  # type: ignore[arg-type]
    assert read == []
