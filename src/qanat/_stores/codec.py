"""Items and results as JSON, strictly: what is written comes back equal, or is refused with its place.

Never pickle: whoever can write to a store would run code in its workers. msgspec writes and reads;
before it, one walk over the value refuses what JSON would change on the way (a tuple would come back
as a list, 1 as a key would come back as "1") and counts bytes, so that a value that is too large is
refused before it has been written as a whole.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

import msgspec

from qanat._core.shown import shown
from qanat.errors import SerialisationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

T = TypeVar("T")

MOST_BYTES: Final = 1_048_576
MOST_DEPTH: Final = 100
LEAST_INT: Final = -(2**63)
MOST_INT: Final = 2**64 - 1
"""The whole numbers that msgspec reads back as such."""

SHORT: Final = 4_000
FEW: Final = 16
"""Characters of a text, and entries of a dict or a list, that need no count: all are 128 KB at most."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


def encode(value: object, *, most: int = MOST_BYTES) -> bytes:
    """Return a value as JSON.

    None, booleans, texts, numbers, lists, and dicts with texts as keys come back equal. So does a
    msgspec Struct or a dataclass if it is decoded to its type; all else is refused.

    Args:
        value: What is to be kept.
        most: Bytes that it may take.

    Raises:
        SerialisationError: Where in the value something cannot be kept, and what to do.
    """
    if is_simple(value):
        data = _encoder.encode(value)
        if len(data) <= most:
            return data
    return _Walk(most).encoded(value)


def is_simple(value: object) -> bool:
    """Whether a value surely comes back equal, and of the same types, and is small; False says nothing."""
    kind = type(value)
    if kind is dict:
        return _is_flat(cast("dict[object, object]", value))
    if kind is list:
        inner = cast("list[object]", value)
        return len(inner) <= FEW and all(map(_is_short, map(type, inner), inner))
    return _is_short(kind, value)


def _is_short(kind: type, value: Any) -> bool:
    """Whether a value surely comes back equal and is small, as most are; False says nothing."""
    if kind is str:
        return len(value) <= SHORT and bool(value.isascii())
    if kind is int:
        return bool(LEAST_INT <= value <= MOST_INT)
    return value is None or kind is bool or (kind is float and isfinite(value))


def _is_flat(value: dict[object, object]) -> bool:
    """Whether a dict surely comes back equal, as it holds few short texts and numbers only."""
    if len(value) > FEW:
        return False
    for key, inner in value.items():
        if not (type(key) is str and _is_short(str, key) and _is_short(cast("Any", type)(inner), inner)):
            return False
    return True


@overload
def decode(data: bytes) -> Any: ...
@overload
def decode(data: bytes, type: type[T]) -> T: ...
def decode(data: bytes, type: Any = Any) -> Any:
    """Return the value that was kept.

    Args:
        data: JSON.
        type: What it has to be; without, the JSON types.

    Raises:
        SerialisationError: If it is no JSON, nests too deep, is too large, or is not of that type.
    """
    if len(data) > MOST_BYTES:
        raise SerialisationError(f"data must be at most {MOST_BYTES} bytes of JSON, got {len(data)}")
    if _depth(data) > MOST_DEPTH:
        raise SerialisationError(f"data must nest at most {MOST_DEPTH} deep")
    try:
        return _decoder.decode(data) if type is Any else msgspec.json.decode(data, type=type)
    except msgspec.ValidationError as error:
        raise SerialisationError(f"data must be a {getattr(type, '__name__', type)}: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SerialisationError(f"data must be JSON: {error}") from error
    except Exception as error:
        # The type is the user's: what msgspec does not take for a wrong value is raised as it is.
        name = getattr(type, "__name__", type)
        raise SerialisationError(f"data cannot be made a {name}: {shown(error)}") from error


def decode_all(data: Sequence[bytes], type: Any = Any) -> list[Any] | None:
    """Return values that were kept, at half the cost of one by one; None if `decode` is to look at each."""
    try:
        if max(map(len, data), default=0) > MOST_DEPTH and any(
            len(each) > MOST_BYTES or _depth(each) > MOST_DEPTH for each in data
        ):
            return None
        read = _decoder.decode if type is Any else msgspec.json.Decoder(type).decode
        return [read(each) for each in data]
    except Exception:  # noqa: BLE001 - whose it is, and what to say of it, `decode` finds out
        return None


class _Walk:
    """One value, looked at in full and written."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = 0

    def encoded(self, value: object) -> bytes:
        self._look(value, "value", 0)
        data = _encoder.encode(value)
        # What was counted is the least that it takes: escapes take more.
        if len(data) > self.most:
            raise self._too_large()
        return data

    def _look(self, value: object, path: str, depth: int) -> None:
        kind = type(value)
        check = _CHECKS.get(kind)
        if check is not None:
            self._count(check(value, path))
            return
        if depth >= MOST_DEPTH:
            raise SerialisationError(
                f"{_short(path)} nests more than {MOST_DEPTH} deep: flatten it, or keep it elsewhere and "
                "hand in where"
            )
        self._count(2)
        for part, inner in self._parts(value, kind, path):
            self._look(inner, part, depth + 1)

    def _parts(self, value: object, kind: type, path: str) -> Iterable[tuple[str, object]]:
        """Return what a value holds, each part with its path."""
        if kind is list:
            self._count(len(cast("list[object]", value)))
            return ((f"{path}[{place}]", inner) for place, inner in enumerate(cast("list[object]", value)))
        if kind is dict:
            return self._entries(cast("dict[object, object]", value), path)
        names = getattr(kind, "__struct_fields__", getattr(kind, "__dataclass_fields__", None))
        if names is not None:
            fields = cast("Iterable[str]", names)
            return ((f"{path}.{name}", getattr(value, name)) for name in fields)
        raise _refusal(value, path)

    def _entries(self, value: dict[object, object], path: str) -> Iterable[tuple[str, object]]:
        for key, inner in value.items():
            if type(key) is not str:
                raise SerialisationError(
                    f"{_short(path)} has the key {_shown(key)}, and JSON has only texts: use str(key)"
                )
            self._count(_text(key, f"key of {path}") + 2)
            yield f"{path}[{key!r}]" if len(key) <= 40 else f"{path}[{key[:37]!r}...]", inner

    def _count(self, size: int) -> None:
        self.size += size
        if self.size > self.most:
            raise self._too_large()

    def _too_large(self) -> SerialisationError:
        return SerialisationError(
            f"value must take at most {self.most} bytes as JSON, got more: keep it elsewhere"
        )


def _text(value: object, path: str) -> int:
    text = cast("str", value)
    if not text.isascii():
        try:
            return len(text.encode()) + 2
        except UnicodeEncodeError as error:
            raise SerialisationError(
                f"{_short(path)} holds half a character at {error.start}, which UTF-8 cannot: use "
                "text.encode(errors='replace').decode()"
            ) from None
    return len(text) + 2


def _whole(value: object, path: str) -> int:
    number = cast("int", value)
    if not LEAST_INT <= number <= MOST_INT:
        raise SerialisationError(
            f"{_short(path)} is a whole number of {number.bit_length()} bits, more than 64: use str(number)"
        )
    return 1


def _real(value: object, path: str) -> int:
    if not isfinite(cast("float", value)):
        raise SerialisationError(f"{_short(path)} is {value!r}, which JSON has not: use None or a text")
    return 1


def _plain(_value: object, _path: str) -> int:
    return 4


_CHECKS: Final[dict[type, Callable[[object, str], int]]] = {
    str: _text,
    int: _whole,
    float: _real,
    bool: _plain,
    type(None): _plain,
}

_REMEDIES: Final[dict[type, str]] = {
    tuple: "use a list",
    set: "use a sorted list",
    frozenset: "use a sorted list",
    bytes: "use base64.b64encode(data).decode()",
    bytearray: "use base64.b64encode(data).decode()",
    complex: "use a list of two numbers",
}


def _refusal(value: object, path: str) -> SerialisationError:
    kind = type(value)
    remedy = _REMEDIES.get(kind, "hand in texts, numbers, lists and dicts, a dataclass or a msgspec.Struct")
    if kind.__module__ in {"datetime", "uuid", "decimal", "pathlib"}:
        remedy = "use str(value), and decode to a type"
    return SerialisationError(f"{_short(path)} is a {kind.__qualname__}, which JSON has not: {remedy}")


def _shown(value: object) -> str:
    """Return a short repr, or the type if there is none: a repr is the user's own code."""
    if isinstance(value, (int, float, bytes, bool, type(None))) and not (
        isinstance(value, int) and value.bit_length() > 64
    ):
        return repr(value)[:60]
    return f"a {type(value).__qualname__}"


def _short(path: str) -> str:
    return path if len(path) <= 200 else f"{path[:100]}...{path[-97:]}"


def _depth(data: bytes) -> int:
    """Return how deep JSON nests; brackets within texts are counted too if there are many."""
    if len(data) <= MOST_DEPTH or data.count(b"[") + data.count(b"{") <= MOST_DEPTH:
        return 0
    deepest = depth = 0
    in_text = escaped = False
    for byte in data:
        if in_text:
            if escaped:
                escaped = False
            elif byte == 92:
                escaped = True
            elif byte == 34:
                in_text = False
        elif byte == 34:
            in_text = True
        elif byte in {91, 123}:
            depth += 1
            deepest = max(deepest, depth)
        elif byte in {93, 125}:
            depth -= 1
    return deepest
