"""What a job's end looks like as a line of JSON."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import Any, Final

from qanat._app.handlers import name_of
from qanat._app.text import UNSAFE
from qanat._cli.reading import Record
from qanat._core.outcome import Outcome
from qanat.errors import SerialisationError

# Inside of JSON texts C0 is escaped anyway, and raw halves of pairs are dealt with below. Escaping
# the rest leaves the value as it is, and a terminal, or a reader that splits at U+2028, unharmed.
_UNSAFE: Final = re.compile(f"[{UNSAFE}]")


def as_json(value: object) -> str:
    """Return a value as JSON in one line.

    Raises:
        TypeError: If it holds something that JSON has no form for.
        ValueError: If it holds NaN or infinity, or itself.
        RecursionError: If it is nested too deeply.
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def harmless(text: str) -> str:
    """Return JSON as the same JSON in which nothing can harm a terminal."""
    return text if text.isascii() and "\x7f" not in text else _UNSAFE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return json.dumps(found.group())[1:-1] if ord(found.group()) > 0x7F else f"\\u{ord(found.group()):04x}"


def written(value: object) -> str:
    """Return a handler's value as JSON.

    Raises:
        SerialisationError: If it has no form in JSON.
    """
    try:
        return as_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise SerialisationError(f"the value of type {type(value).__name__} is not JSON: {why}") from None


class PlainCall:
    """Call a plain function with a record's item, and give its value as JSON.

    So a value that is not JSON fails its job where all failures are counted, and is made into text
    in the thread or process that made it. An object and not a closure, to reach a child process.
    """

    def __init__(self, function: Callable[[Any], Any]) -> None:
        """Keep the function."""
        self.function = function
        self.__qualname__ = name_of(function)

    def __call__(self, record: Record) -> Any:
        """Call it; if it gives an awaitable, give one, too."""
        if type(record) is not Record:
            value = self.function(record)
            return _checked_later(value) if isawaitable(value) else checked(value)
        value = self.function(record.value)
        return _awaited(value) if isawaitable(value) else written(value)


class AsyncCall:
    """Call a coroutine function with a record's item, and give its value as JSON."""

    def __init__(self, function: Callable[[Any], Awaitable[Any]]) -> None:
        """Keep the function."""
        self.function = function
        self.__qualname__ = name_of(function)

    async def __call__(self, record: Record) -> Any:
        """Call it."""
        if type(record) is not Record:
            return checked(await self.function(record))
        return written(await self.function(record.value))


def checked(value: Any) -> Any:
    """Return the value of a job that was spawned, as those see it who await its handle.

    Raises:
        SerialisationError: If it has no form in JSON.
    """
    written(value)
    return value


async def _checked_later(value: Awaitable[Any]) -> Any:
    return checked(await value)


async def _awaited(value: Awaitable[Any]) -> str:
    return written(await value)


def line_of(outcome: Outcome[Any, Any]) -> bytes:
    """Return the line of output for a job that ended with a value, as JSON, or an error."""
    record = outcome.item
    value = outcome.value
    if outcome.parent is not None:
        parts = [f'{{"id":{as_json(str(outcome.id))}', f'"parent":{as_json(outcome.parent)}']
        parts.append(f'"item":{_as_json_or_text(record)}')
        value = as_json(value)
    else:
        parts = [f'{{"id":{record.line}']
        if record.file is not None:
            parts.append(f'"file":{as_json(record.file)}')
        parts.append(f'"item":{as_json(record.value) if record.text is None else record.text}')
    if outcome.error is None:
        parts.append(f'"ok":true,"value":{value},"error":null')
    else:
        error = {"type": type(outcome.error).__name__, "message": message_of(outcome.error)}
        parts.append(f'"ok":false,"value":null,"error":{as_json(error)}')
    # Four digits: smaller numbers would be written with an exponent.
    waited, seconds = round(outcome.waited, 4), round(outcome.ran, 4)
    parts.append(f'"attempts":{outcome.attempts},"waited":{waited},"seconds":{seconds}}}')
    return (harmless(",".join(parts)) + "\n").encode()


def _as_json_or_text(item: object) -> str:
    """Return an item that a handler made, or what it looks like where it has no form in JSON."""
    try:
        return as_json(item)
    except (TypeError, ValueError, RecursionError):
        return as_json(reprlib.repr(item))


def message_of(error: BaseException) -> str:
    """Return an error's message, whatever its `str` does."""
    try:
        return str(error)
    except Exception as problem:  # noqa: BLE001 - the user's code may raise anything
        return f"<{type(error).__name__}, whose str raised {type(problem).__name__}>"
