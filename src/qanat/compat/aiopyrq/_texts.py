"""Items as aio-py-rq has them: texts, whatever they were; and how many of them are asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from reprlib import repr as short
from typing import Any, cast

_NO_TEXTS = (bool, dict, list, tuple, set, frozenset, type(None))
"""What can be made a text, and is a mistake where an item is meant."""


class Texts:
    """How items become texts, and what is given back of them.

    Args:
        encoding: That of items which are bytes.
        as_bytes: Whether items are given back as bytes, as a client without `decode_responses` does.
        strict: Whether to refuse what redis-py refuses.
    """

    def __init__(self, encoding: str, *, as_bytes: bool, strict: bool) -> None:
        self._encoding = encoding
        self._as_bytes = as_bytes
        self._strict = strict

    def of(self, item: object) -> str:
        """Return the text of an item; errors as `refused`."""
        if type(item) is str:
            return item
        if isinstance(item, (bytes, bytearray, memoryview)):
            data = bytes(cast("bytes", item))
            try:
                return data.decode(self._encoding)
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"item must be text in {self._encoding}, got {short(data)}: {error.reason} at "
                    f"{error.start}; make a text of it first, such as base64.b64encode(data).decode()"
                ) from None
        if self._strict and isinstance(item, _NO_TEXTS):
            raise refused(f"item must be a text, bytes or a number, got {item!r}: make a text of it first")
        return str(item)

    def of_all(self, items: object) -> list[str]:
        """Return the texts of a list of items; errors as `refused`."""
        if isinstance(items, (str, bytes)) or not _is_list(items):
            raise TypeError(f"items must be a list, got {items!r}")
        return [self.of(item) for item in cast("Sequence[Any]", items)]

    def given_back(self, text: str) -> Any:
        """Return what a consumer gets."""
        return text.encode(self._encoding) if self._as_bytes else text


def _is_list(items: object) -> bool:
    return isinstance(items, Sequence)


def whole(name: str, value: object) -> int:
    """Return a whole number; errors as `refused`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused(f"{name} must be a whole number, got {value!r}")
    return value


def seconds(name: str, value: object, above: float = float("-inf")) -> float:
    """Return a number; errors as `refused`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise refused(f"{name} must be a number, got {value!r}")
    if not above < value < float("inf"):
        raise ValueError(f"{name} must be a number above {above:g}, got {value!r}")
    return float(value)


def refused(message: str) -> TypeError:
    """Return the error of an argument: a TypeError, and redis-py's DataError where that is in use."""
    return _error()(message)


@cache
def _error() -> type[TypeError]:
    module = sys.modules.get("redis.exceptions")
    if module is None:
        return TypeError
    return cast("type[TypeError]", type("DataError", (module.DataError, TypeError), {}))


def check_options(options: dict[str, Any], known: tuple[str, ...]) -> None:
    """Refuse a keyword that means nothing.

    Raises:
        TypeError: If there is one.
    """
    for name in options:
        if name not in known:
            raise TypeError(f"{name!r} is no option here; the options are {', '.join(known)}")
