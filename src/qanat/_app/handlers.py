"""What is checked of a handler and of items before any work starts."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Callable, Iterable, Sized
from reprlib import repr as short
from typing import Any, cast

from qanat._core.retry import Retry


def name_of(handler: object) -> str:
    """Return a handler's name, for people."""
    return getattr(handler, "__qualname__", None) or type(handler).__name__


def check_handler(handler: Callable[..., Any], *, takes: str = "the item") -> None:
    """Check that a handler can be called with one argument; `takes` says what that is.

    Raises:
        TypeError: If it cannot, or gives no value that could be waited for.
    """
    if not callable(handler):
        hint = "; pass the function, not what it returns" if inspect.isawaitable(handler) else ""
        if inspect.iscoroutine(handler):
            handler.close()
        raise TypeError(f"handler must be a function of one item, got {handler!r}{hint}")
    check_returns("handler", handler)
    try:
        signature = inspect.signature(handler)
    except (ValueError, TypeError):
        return  # built-in functions may not say
    try:
        signature.bind(object())
    except TypeError as error:
        raise TypeError(
            f"handler must take exactly one argument, {takes}, but {name_of(handler)}{signature} "
            f"does not ({error}): use functools.partial or a lambda for the others"
        ) from None


def retry_of_one(retry: int | Retry) -> Retry:
    """Return the retry rules of a single job.

    Raises:
        TypeError: If it is neither a number nor a `Retry`.
        ValueError: If it has a budget, which is a share of many starts.
    """
    found = Retry.of(retry)
    if found.budget is not None:
        raise ValueError(
            f"retry.budget is a share of a whole Pool's starts, got {found.budget!r} for one job: "
            "give it to the Pool"
        )
    return found


def check_returns(name: str, function: Callable[..., Any]) -> None:
    """Check that a function returns a value and does not yield many.

    Raises:
        TypeError: If it is an async generator function, which nobody would iterate over.
    """
    if inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{name} must return a value, got the async generator function {name_of(function)!r}: "
            "return a list instead of yielding"
        )


def check_items(items: Iterable[Any] | AsyncIterable[Any]) -> None:
    """Check that items can be read.

    Raises:
        TypeError: If they cannot, or are a text, which would be read letter by letter.
    """
    given = cast("object", items)
    if isinstance(given, (str, bytes)):
        kind = "text" if isinstance(given, str) else "bytes"
        raise TypeError(
            f"items must be an iterable of items, got {short(given)}, which would be read one by one: "
            f"write [{kind}] for one item, or list({kind}) if each of its parts is one"
        )
    if not isinstance(given, Iterable | AsyncIterable):
        hint = ""
        if inspect.iscoroutine(given):
            given.close()
            hint = "; await it first"
        elif callable(given):
            hint = "; call it first"
        raise TypeError(f"items must be an iterable or an async iterable, got {items!r}{hint}")


def size_of(items: Iterable[Any] | AsyncIterable[Any]) -> int | None:
    """Return how many items there are; None if that is not known before they are read."""
    return len(items) if isinstance(items, Sized) else None
