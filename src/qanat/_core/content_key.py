"""The key of an item: a digest of its content, the same in every process and on every machine.

What is written is exact, so that items have the same key only if they are the same: each part carries
its kind and its length, and 1, 1.0, True and "1" are four different items. Sets and the entries of
mappings are written in the order of what is written of them, so their own order makes no difference.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from enum import Enum
from hashlib import blake2b
from pathlib import PurePath
from typing import Any, Final, cast
from uuid import UUID

import msgspec

from qanat.errors import SerialisationError

SIZE: Final = 16
"""Bytes of a key: among 2**40 items the odds that two share one are below one in 10**14."""
MOST_BYTES: Final = 2**20
"""Of an item as it is written; a larger one wants a key that says what it is."""
MOST_DEPTH: Final = 100

MOST_PLAIN: Final = 1_000
"""Members of a container up to which it may be written at once; a larger one is counted as it is written."""

_begun: Final = blake2b(digest_size=SIZE)
"""A digest of nothing: to copy it takes half the time of making one."""

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


def content_key(item: object) -> bytes:
    """Return the key of an item by its content.

    Raises:
        SerialisationError: If it is of a type whose content is not known, too large, or nested too
            deeply; the message says what to do.
    """
    kind = type(item)
    if kind is str:
        text = cast("str", item)
        if len(text) > MOST_BYTES:
            raise _too_large()
        content = b"s" + text.encode("utf-8", "surrogatepass")
    elif kind is int:
        content = b"i%x" % cast("int", item)
    elif (kind is dict or kind is list) and (plain := _as_plain_json(item)) is not None:
        content = b"j" + plain
    else:
        parts: list[bytes] = []
        _Writer(parts).write(item, 0)
        content = b"".join(parts)
    digest = _begun.copy()
    digest.update(content)
    return digest.digest()


def add_content_keys(items: Iterable[object], keys: list[Any]) -> None:
    """Add the keys of items to a list, in their order, up to the first that has none.

    Numbers are most of what comes in long inputs of little things, so theirs are made right here.

    Raises:
        SerialisationError: As `content_key` does, for the first item that has no key.
    """
    begun, add = _begun.copy, keys.append
    for item in items:
        if type(item) is int:
            digest = begun()
            digest.update(b"i%x" % item)
            add(digest.digest())
        else:
            add(content_key(item))


def _as_plain_json(item: object) -> bytes | None:
    """Return an item as JSON in a fixed order if it is nothing but JSON: a tenth of the time of `_Writer`."""
    if len(cast("list[object]", item)) > MOST_PLAIN:
        return None
    try:
        content = _encode(item)
        # Whatever JSON has no form of its own for comes back as something else.
        if len(content) > MOST_BYTES or _decode(content) != item:
            return None
    except Exception:  # noqa: BLE001 - comparing runs code of the item's own
        return None
    return content


def given_key(key: object) -> bytes:
    """Return the key of what the rule `key` gave for an item; text and content have the same one.

    Raises:
        TypeError: If it is no str, bytes, int or tuple of these.
        SerialisationError: If it is too large.
    """
    _check_given(key, 0)
    return content_key(key)


def _check_given(key: Any, depth: int) -> None:
    if isinstance(key, tuple):
        if depth > MOST_DEPTH:
            return  # the writer says so
        for each in cast("tuple[object, ...]", key):
            _check_given(each, depth + 1)
    elif isinstance(key, bool) or not isinstance(key, (str, bytes, int)):
        raise TypeError(
            f"key must give a str, bytes, int or a tuple of these, got {_short(cast('object', key))}"
        )


class _Writer:
    """Write one item, counting its size, so that one that is too large is not written whole."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts
        self._left = MOST_BYTES

    def write(self, value: object, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise SerialisationError(
                f"the item is nested deeper than {MOST_DEPTH} levels: give key= a function of it"
            )
        writer = _WRITERS.get(type(value))
        if writer is None:
            writer = _writer_for(value)
        writer(self, value, depth)

    def put(self, kind: bytes, content: bytes) -> None:
        """Write a piece. What begins an item or a container of its own has no length."""
        self._left -= len(content) + 8
        if self._left < 0:
            raise _too_large()
        self._parts.append(b"%b%d:%b" % (kind, len(content), content))

    def text(self, kind: bytes, text: str) -> None:
        if len(text) > self._left:
            raise _too_large()
        # At the very top a text is written as `content_key` does, which knows no lengths.
        self.put(kind, text.encode("utf-8", "surrogatepass"))

    def each(self, kind: bytes, values: Any, depth: int) -> None:
        self.put(kind, b"%d" % len(values))
        for each in values:
            self.write(each, depth + 1)

    def sorted(self, kind: bytes, values: Any, depth: int) -> None:
        """Write what has no order, by the order of what is written."""
        self.put(kind, b"%d" % len(values))
        written: list[bytes] = []
        for each in values:
            parts: list[bytes] = []
            writer = _Writer(parts)
            writer._left = self._left
            writer.write(each, depth + 1)
            self._left = writer._left
            written.append(b"".join(parts))
        self._parts.extend(sorted(written))


def _named(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def _write_struct(writer: _Writer, value: Any, depth: int) -> None:
    """Write an object that is known by its fields: its class, and what is in it."""
    names = (
        tuple(field.name for field in dataclasses.fields(value))
        if dataclasses.is_dataclass(value)
        else value.__struct_fields__
    )
    writer.text(b"o", _named(value))
    writer.each(b"f", [(name, getattr(value, name)) for name in names], depth)


def _write_time(writer: _Writer, value: Any, _depth: int) -> None:
    writer.text(b"w", f"{type(value).__name__} {value.isoformat()}")


_Write = Callable[[_Writer, Any, int], None]

_WRITERS: Final[dict[type, _Write]] = {
    str: lambda writer, value, _: writer.text(b"s", value),
    int: lambda writer, value, _: writer.put(b"i", b"%x" % value),
    bool: lambda writer, value, _: writer.put(b"b", b"1" if value else b"0"),
    float: lambda writer, value, _: writer.put(b"g", repr(value).encode()),
    type(None): lambda writer, _value, _: writer.put(b"n", b""),
    bytes: lambda writer, value, _: writer.put(b"y", value),
    list: lambda writer, value, depth: writer.each(b"l", value, depth),
    tuple: lambda writer, value, depth: writer.each(b"t", value, depth),
    dict: lambda writer, value, depth: writer.sorted(b"d", value.items(), depth),
    set: lambda writer, value, depth: writer.sorted(b"e", value, depth),
    frozenset: lambda writer, value, depth: writer.sorted(b"e", value, depth),
    dt.datetime: _write_time,
    dt.date: _write_time,
    dt.time: _write_time,
    dt.timedelta: lambda writer, value, _: writer.text(b"w", repr(value)),
    Decimal: lambda writer, value, _: writer.text(b"m", str(value)),
    UUID: lambda writer, value, _: writer.put(b"u", value.bytes),
    bytearray: lambda writer, value, _: writer.put(b"y", bytes(value)),
}

_KINDS: Final[tuple[tuple[type, _Write], ...]] = (
    (Enum, lambda writer, value, _: writer.text(b"E", f"{_named(value)}.{value.name}")),
    (PurePath, lambda writer, value, _: writer.text(b"p", str(value))),
    (msgspec.Struct, _write_struct),
    *((kind, _WRITERS[kind]) for kind in (str, int, float, bytes, tuple, list, set, frozenset)),
    (Mapping, _WRITERS[dict]),
)
"""What is asked for a type that is not known itself: the first whose child it is."""


def _writer_for(value: object) -> _Write:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _write_struct
    for kind, write in _KINDS:
        if isinstance(value, kind):
            return write
    raise SerialisationError(
        f"an item of type {type(value).__name__} has no content that could be a key: give key= a function of "
        "the item that says what it is, as a str, bytes, int or a tuple of these"
    )


def _too_large() -> SerialisationError:
    return SerialisationError(
        f"the item is larger than {MOST_BYTES:,} bytes, too large for a key: give key= a function of it"
    )


def _short(value: object) -> str:
    try:
        return repr(value)[:200]
    except Exception:  # noqa: BLE001 - the user's code may raise anything
        return f"<{type(value).__name__}>"
