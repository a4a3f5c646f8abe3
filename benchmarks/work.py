"""What the contenders are given to run: handlers that cost next to nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[int], Awaitable[int]]


async def no_op(item: int) -> int:
    """Return at once."""
    return item


async def pause(item: int) -> int:
    """Let everything else on the asyncio loop run once."""
    await asyncio.sleep(0)
    return item


async def trio_pause(item: int) -> int:
    """Let everything else on the trio loop run once."""
    import trio

    await trio.lowlevel.checkpoint()
    return item


MOST_ITEMS = 1_000_000
"""Items that a handler that may fail knows apart."""


def fails(times: int) -> Handler:
    """Return a handler that raises the first time that it sees an item, and returns the second; or never."""
    # An array, as to keep a set of what was seen costs a third of a raise.
    seen = bytearray(b"\0" if times else b"\1") * MOST_ITEMS

    async def handler(item: int) -> int:
        if seen[item]:
            return item
        seen[item] = 1
        raise ConnectionError

    return handler


def handler_named(name: str, backend: str = "asyncio") -> Handler:
    """Return the handler of a name, as the loop needs it."""
    if name in {"fails once", "never fails"}:
        return fails(name == "fails once")
    if name == "sleep(0)":
        return trio_pause if backend == "trio" else pause
    return no_op
