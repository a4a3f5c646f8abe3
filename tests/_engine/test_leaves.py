"""Leaves that follow one another in a carrier's slot."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

import qanat


class Item:
    """Something that can be watched."""

    def __init__(self, number: int) -> None:
        self.number = number


@pytest.mark.virtual_time("asyncio", "trio")
async def test_an_error_of_a_leaf_keeps_nothing_of_the_leaf_before(virtual_time: Any):
    values: list[weakref.ref[Item]] = []

    async def handler(item: Item) -> Item | None:
        if item.number == 0:
            job = qanat.current_job()
            for number in range(1, 21):
                job.spawn(Item(number))
            return None
        if item.number % 2:
            raise ValueError(item.number)
        value = Item(-item.number)
        values.append(weakref.ref(value))
        return value

    errors: list[BaseException | None] = []
    gc.disable()
    try:
        async with qanat.stream(handler, [Item(0)], concurrency=1, only_failed=True) as stream:
            async for outcome in stream:
                errors.append(outcome.error)
        del outcome
        assert len(values) == len(errors) == 10
        assert [value() for value in values] == [None] * 10
    finally:
        gc.enable()
