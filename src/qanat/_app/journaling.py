"""The journal of a run: whose jobs are kept, by which keys, and how their values are written."""

from __future__ import annotations

import collections.abc
import inspect
import math
import sys
import types
import typing
from functools import partial
from pathlib import Path
from reprlib import aRepr
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from qanat._app.handler_names import handler_name
from qanat._app.text import safe_text
from qanat._core.content_key import MOST_DEPTH, add_content_keys, content_key, given_key
from qanat._core.shown import said_by
from qanat._engine.callee import without_partials
from qanat.errors import SerialisationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from qanat._app.rules import Rules
    from qanat._core.kept import Codec, Key
    from qanat._core.outcome import Outcome
    from qanat._engine.engine import Engine
    from qanat._engine.keeper import Keeper

MOST_BYTES: Final = 64 * 2**20
"""Of one value."""

_PLAIN: Final[frozenset[type]] = frozenset((str, int, bool, float, type(None)))
"""Types that JSON has itself, so that their values need not be read back and compared."""
_MOST_INT: Final = 2**63 - 1
_LEAST_INT: Final = -_MOST_INT
"""Whole numbers up to which JSON is read back as them whatever reads it."""


def check_journal(handler: Callable[..., Any] | None, rules: Rules) -> None:
    """Check, before any work starts, that a journal can tell this handler from others.

    Raises:
        ValueError: If it cannot.
    """
    if rules.journal is not None and handler is not None:
        handler_name(handler, rules.version)


def make_keeper(
    engine: Engine,
    rules: Rules,
    name: str,
    codec: Codec,
    *,
    handler: Callable[..., Any] | None = None,
    item_of: Callable[[Any], Any] | None = None,
    fresh: bool = False,
) -> Keeper:
    """Return what keeps an engine's jobs in the journal of its rules.

    Args:
        engine: The engine.
        rules: Its rules, with a journal.
        name: By what the journal knows the handler.
        codec: How its values are written.
        handler: The handler itself, as it may be that of spawned jobs.
        item_of: Gives the item of what the engine's jobs have for one.
        fresh: Whether to forget what was done before.
    """
    # Imported here: most runs have none, and SQLite takes 5 ms.
    from qanat._app.kept_trees import KeptTrees
    from qanat._engine.courier import Courier
    from qanat._engine.keeper import Keeper
    from qanat._stores.journal import JournalConnection

    assert rules.journal is not None  # noqa: S101 - asked for
    version = "" if rules.version is None else str(rules.version)
    key = rules.key
    key_of: Callable[[Any], bytes] = content_key if key is None else lambda item: given_key(key(item))
    add_keys: Callable[[Iterable[Any], list[Key]], object] | None = None
    if key is None and item_of is None:
        add_keys = add_content_keys
    keeper = Keeper(
        engine,
        Courier(partial(JournalConnection, Path(rules.journal), name, version), name="qanat-journal"),
        key_of=key_of if item_of is None else lambda item: key_of(item_of(item)),
        add_keys=add_keys,
        codec=codec,
        retry_failed=rules.retry_failed,
        fresh=fresh,
    )
    trees = KeptTrees(engine.spawner, keeper, rules, name=name, handler=handler, codec=codec)
    keeper.trees = trees
    engine.spawner.keep(trees, keeper)
    return keeper


def tell_how_to_go_on(rules: Rules, outcomes: Sequence[Outcome[Any, Any]]) -> None:
    """Say on standard error, after a run was stopped, how it is gone on with."""
    done = sum(outcome.ok for outcome in outcomes)
    if rules.queue is not None:
        where, what = f"queue {rules.queue.name}", "queue"
    else:
        assert rules.journal is not None  # noqa: S101 - asked for
        where, what = safe_text(Path(rules.journal)), "journal"
    try:
        sys.stderr.write(
            f"qanat: stopped; {done:,} done are in {where}: run it again with that {what} to go on\n"
        )
    except (OSError, ValueError, AttributeError):
        pass  # nobody to hear it


class ValueCodec:
    """Write a handler's values as JSON, and read them as the type that it is annotated to return.

    Args:
        handler: The handler; None if its values are to be JSON types whatever it is annotated with.
        batch: Whether it returns a list of values.
        keeper: What keeps them, for people.
    """

    def __init__(
        self, handler: Callable[..., Any] | None, *, batch: bool, keeper: str = "the journal"
    ) -> None:
        """Find out the type."""
        self._keeper = keeper
        hint, self._remedy = (
            (Any, "return JSON types") if handler is None else _return_type(handler, batch=batch)
        )
        self._encode = msgspec.json.Encoder().encode
        try:
            self._decode = msgspec.json.Decoder(hint).decode
        except Exception as error:  # noqa: BLE001 - annotations can be anything
            self._remedy = f"its annotation {hint!r} cannot be read back ({error}), so return JSON types"
            hint = Any
            self._decode = msgspec.json.Decoder(hint).decode
        # Where nothing says what a value is read as, nothing but JSON types comes back as it was.
        self._is_same: Callable[[Any, Any], bool] = _is_same_json if hint is Any else _is_equal
        self._plain = _plain_types(hint)

    def encode(self, value: Any) -> bytes:
        """Return a value as JSON, after it was read back and compared where it might not come back equal.

        Raises:
            SerialisationError: If it would not come back equal.
        """
        kind = cast("type[object]", type(value))
        if kind in self._plain and (
            _LEAST_INT <= value <= _MOST_INT
            if kind is int
            else (
                (kind is str and len(value) <= MOST_BYTES // 8 and value.isascii())
                or kind is bool
                or value is None
                or (kind is float and math.isfinite(value))
            )
        ):
            return self._encode(value)
        if isinstance(value, (str, bytes)) and len(value) > MOST_BYTES:
            raise SerialisationError(
                f"the value is larger than {MOST_BYTES:,} bytes, more than a journal takes"
            )
        try:
            content = self._encode(value)
            back = self._decode(content)
            same = back is value or self._is_same(back, value)
        except Exception as error:
            raise self._refused(value, str(error) or type(error).__name__) from error
        if not same:
            what = short(back)
            if what == short(value):
                what += f" of type {type(back).__name__}"
            raise self._refused(value, f"it would come back as {what}")
        if len(content) > MOST_BYTES:
            raise SerialisationError(
                f"the value is larger than {MOST_BYTES:,} bytes, more than a journal takes"
            )
        return content

    def decode(self, content: bytes) -> Any:
        """Return a value that was written.

        Raises:
            SerialisationError: If it is none of the type that the handler returns.
        """
        try:
            return self._decode(content)
        except Exception as error:
            raise SerialisationError(
                f"the value in {self._keeper} is none that the handler returns now ({error}): give another "
                "version= to do everything anew"
            ) from error

    def _refused(self, value: object, why: str) -> SerialisationError:
        remedy = self._remedy
        if holds_no_number(value):
            why, remedy = "JSON has neither NaN nor infinity", "return None or a text in its place"
        return SerialisationError(
            f"the value {short(value)} of type {type(value).__name__} cannot be kept in {self._keeper}, as "
            f"{why}: {remedy}"
        )


def _plain_types(hint: Any) -> frozenset[type]:
    """Return the types whose values are always read back as what they were, by this annotation."""
    if hint is Any:
        return _PLAIN
    if hint is None:
        return frozenset((type(None),))
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        parts = [_plain_types(each) for each in typing.get_args(hint)]
        return frozenset[type]().union(*parts) if all(parts) else frozenset()
    return frozenset(each for each in _PLAIN if each is hint)


def _is_equal(back: Any, value: Any) -> bool:
    return bool(back == value)


def _is_same_json(back: object, value: object) -> bool:
    """Whether what was read is equal to what was written, and of the same types all through."""
    kind = type(back)
    if type(value) is not kind:
        return False
    if kind is list:
        first, second = cast("list[object]", back), cast("list[object]", value)
        return len(first) == len(second) and all(map(_is_same_json, first, second))
    if kind is dict:
        found, given = cast("dict[str, object]", back), cast("dict[object, object]", value)
        # Its keys, too: a text of another type is equal to a plain one.
        return found.keys() == given.keys() and all(
            type(key) is str and _is_same_json(found[key], each) for key, each in given.items()
        )
    return back == value


class ItemCodec:
    """Write the items of spawned jobs as JSON, and read them as what they were.

    Args:
        handler: The function that gets them; None if nothing is known of it.
    """

    def __init__(self, handler: Callable[..., Any] | None) -> None:
        """Find out nothing yet: most items are plain JSON."""
        self._handler = handler
        self._typed: Callable[[bytes], Any] | None = None

    def encode(self, item: Any, digest: bytes | None) -> tuple[bool, bytes]:
        """Return whether an item has to be read as what the function's parameter says, and its JSON.

        Args:
            item: The item.
            digest: Of its content, if that is known.

        Raises:
            SerialisationError: If it would not come back as it was.
        """
        try:
            content = _encode(item)
        except Exception as error:
            raise SerialisationError(f"its item has no form in JSON ({error})") from error
        if type(item) is str or type(item) is int:
            return False, content
        if digest is None:
            digest = content_key(item)
        for typed in (False, True):
            try:
                if content_key(self.decode(content, typed=typed)) == digest:
                    return typed, content
            except SerialisationError:
                pass
        if holds_no_number(item):
            raise SerialisationError("JSON has neither NaN nor infinity")
        raise SerialisationError("its item would come back from JSON as something else")

    def decode(self, content: bytes | msgspec.Raw, *, typed: bool) -> Any:
        """Return an item that was written.

        Raises:
            SerialisationError: If it is none that the function takes.
        """
        try:
            return self._typed_decode()(bytes(content)) if typed else _decode(content)
        except Exception as error:
            raise SerialisationError(f"it cannot be read back ({error})") from error

    def _typed_decode(self) -> Callable[[bytes], Any]:
        if self._typed is None:
            self._typed = msgspec.json.Decoder(_item_type(self._handler)).decode
        return self._typed


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def _item_type(handler: Callable[..., Any] | None) -> Any:
    """Return the type of a function's first parameter, as far as it is annotated."""
    function = without_partials(handler)
    if not inspect.isroutine(function):
        function = type(function).__call__
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    return typing.get_type_hints(function, include_extras=True).get(names[0], Any)


class TextCodec:
    """Write values that are texts already, such as JSON."""

    def encode(self, value: Any) -> bytes:
        """Return a text as bytes."""
        if len(value) > MOST_BYTES:
            raise SerialisationError(
                f"the value is larger than {MOST_BYTES:,} bytes, more than a journal takes"
            )
        return cast("str", value).encode("utf-8", "surrogatepass")

    def decode(self, content: bytes) -> Any:
        """Return the text."""
        return content.decode("utf-8", "surrogatepass")


_ANNOTATE: Final = "annotate the handler's return type, or return JSON types"


def _return_type(handler: Callable[..., Any], *, batch: bool) -> tuple[Any, str]:
    """Return the type of a handler's values, and what to do about one that cannot be kept."""
    function = without_partials(handler)
    if not inspect.isroutine(function) and not isinstance(function, type):
        function = type(function).__call__
    try:
        hint = typing.get_type_hints(function, include_extras=True).get("return", Any)
    except Exception as error:  # noqa: BLE001 - annotations can be anything
        return Any, f"its annotations cannot be looked up ({error}), so return JSON types"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {collections.abc.Awaitable, collections.abc.Coroutine} and arguments:
        hint = arguments[-1]
    if batch:
        arguments = typing.get_args(hint)
        hint = _without_errors(arguments[0]) if arguments else Any
    if hint is Any or hint is object or isinstance(hint, typing.TypeVar):
        return Any, _ANNOTATE
    return hint, f"it is annotated to return {_type_name(hint)}, so return that, or JSON types"


def _without_errors(hint: Any) -> Any:
    """Return the type of the values where a batch may hold errors, too."""
    if typing.get_origin(hint) in {typing.Union, types.UnionType}:
        kept = [each for each in typing.get_args(hint) if not _is_error(each)]
        return typing.Union[tuple(kept)] if kept else Any  # noqa: UP007 - made at run time
    return Any if _is_error(hint) else hint


def _is_error(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseException)


def _type_name(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def holds_no_number(value: object, depth: int = 0) -> bool:
    """Whether a value of JSON types holds NaN or infinity, which JSON has not."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if depth > MOST_DEPTH or not isinstance(value, (list, tuple, dict)):
        return False
    inner = cast("Iterable[object]", value.values() if isinstance(value, dict) else value)
    return any(holds_no_number(each, depth + 1) for each in inner)


def short(value: object) -> str:
    """Return a short text of a value, whatever its `repr` does."""
    return said_by(aRepr, value)
