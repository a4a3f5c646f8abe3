"""Trees of jobs in a journal: by what a spawned job is known there, and how a parent is recalled.

A job that is done is recorded with what its last attempt spawned, a row each. A rerun that recalls it
does not call its handler but spawns these rows again, and each is looked up in its turn. Where that is
not possible, as a row names a function that this run does not know, the handler is called again.

A file names functions, so what it may name is narrow: those that this run was given, and plain functions
at the top of modules that are loaded already, in the package of the run's own handler. Nothing is imported.
"""

from __future__ import annotations

import sys
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec

from qanat._app.handler_names import handler_name, home_of, spawned_name
from qanat._app.journaling import ItemCodec, ValueCodec, holds_no_number, short
from qanat._core.branch import FamilyJob
from qanat._core.content_key import content_key, given_key
from qanat._engine.callee import without_partials
from qanat.errors import SerialisationError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from qanat._app.rules import Rules
    from qanat._app.spawning import Spawner
    from qanat._core.branch import Branch, Key
    from qanat._core.job import Job
    from qanat._core.kept import Codec
    from qanat._engine.keeper import Keeper

MOST_KINDS: Final = 64
"""Functions of spawned jobs whose codecs are kept for the next such job."""

MOST_NAMES: Final = 1024
"""Functions of spawned jobs that are told from others of their name."""

_AGAIN: Final = b'{"again":true}'


class Kind(NamedTuple):
    """A function of spawned jobs, as a journal knows it.

    Attributes:
        handler: The function, kept alive so that its id stays its own.
        name: Its name; None is the run's own handler.
        items: Writes and reads its items.
        values: Writes and reads its values.
    """

    handler: Any
    name: str | None
    items: ItemCodec
    values: Codec


class Sprout(NamedTuple):
    """A job that is being spawned, as the journal knows it.

    Attributes:
        key: By what it is looked up; with a name if it is of another function than the run's own.
        known: By what its family knows it: its handler and the digest of its key.
        row: What is recorded of it, but for its place; None if it has no form there.
    """

    key: Any
    known: tuple[Any, ...]
    row: bytes | None


class Row(NamedTuple):
    """A job that a recalled one had spawned."""

    place: int
    item: Any
    handler: Callable[..., Any] | None
    key: Key | None
    id: int | str | None
    priority: float | None
    lane: Hashable
    metadata: Mapping[str, Any] | None
    sprout: Sprout


class _Record(msgspec.Struct):
    spawned: list[
        tuple[int, bool, msgspec.Raw, str | None, Any, int | str | None, float | None, Any, Any]
    ] = []
    left: dict[str, int] = {}
    again: bool = False


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_read = msgspec.json.Decoder(_Record).decode


class KeptTrees:
    """What the trees of a run and its journal know of each other.

    Args:
        spawner: Spawns the jobs.
        keeper: Looks them up and keeps them.
        rules: Of the run.
        name: By what the journal knows the run's own handler.
        handler: That handler.
        codec: Of the values of its jobs that come from outside.
    """

    def __init__(
        self, spawner: Spawner, keeper: Keeper, rules: Rules, *, name: str,
        handler: Callable[..., Any] | None, codec: Codec,
    ) -> None:  # fmt: skip
        """Know the run's own handler."""
        self._spawner = spawner
        self._keeper = keeper
        self._rules = rules
        self._name = name
        self._handler = handler
        self._codec = codec
        self._main: Kind | None = None
        self._kinds: dict[Hashable, Kind] = {}
        # By the name of a function: its code, which is the same for all that one function makes.
        self._codes: dict[str, Any] = {}

    def holds(self, job: Job[Any]) -> bool:
        """Whether a job that runs is kept; what others spawn is not kept either."""
        return self._keeper.holds(job)

    # --- functions -------------------------------------------------------------------------

    @property
    def main(self) -> Kind:
        """The run's own handler, as jobs have it that are spawned."""
        if self._main is None:
            values = self._codec if self._spawner.stages.dress is None else ValueCodec(None, batch=False)
            self._main = Kind(self._handler, None, ItemCodec(self._handler), values)
        return self._main

    def kind_of(self, key: Hashable, handler: Callable[..., Any]) -> Kind:
        """Return a function of spawned jobs as the journal knows it; from any thread.

        Raises:
            ValueError: If a journal could not tell it from others.
        """
        found = self._kinds.get(key)
        if found is None:
            name = self._name_of(handler)
            values = ValueCodec(handler if self._spawner.stages.dress is None else None, batch=False)
            if len(self._kinds) >= MOST_KINDS:
                self._kinds = {}
            found = Kind(handler, None if name == self._name else name, ItemCodec(handler), values)
            self._kinds[key] = found
        return found

    def _name_of(self, handler: Callable[..., Any]) -> str:
        """Return the name of a function that no other one of the run has.

        Raises:
            ValueError: If it has none.
        """
        # A method is made anew each time it is asked for.
        if handler is self._handler or (isinstance(handler, MethodType) and handler == self._handler):
            return self._name
        name = spawned_name(handler, self._rules.version)
        code = getattr(without_partials(handler), "__code__", None)
        if len(self._codes) >= MOST_NAMES:
            self._codes = {}
        if self._codes.setdefault(name, code) != code:
            raise ValueError(
                f"handler must have a name of its own for a journal, got another one of the name {name!r}: "
                "make it a function with `def` and a name"
            )
        return name

    def codec_of(self, job: Job[Any]) -> Codec:
        """Return what writes and reads a job's value."""
        if type(job) is not FamilyJob or job.parent is None:
            return self._codec
        return self._spawner.kind_of(job).values

    def _found(self, name: str) -> Callable[..., Any] | None:
        """Return the function of a name in the journal, if this run knows it."""
        if name == self._name:
            return self._handler
        for kind in list(self._kinds.values()):
            if kind.name == name:
                return cast("Callable[..., Any]", kind.handler)
        place, _, function = name.partition(":")
        own, own_place = home_of(self._handler)
        if place.partition(".")[0] != own_place.partition(".")[0]:
            return None
        module = sys.modules.get(own if place == own_place else place)
        found = getattr(module, "__dict__", {}).get(function)
        if not isinstance(found, FunctionType) or found.__qualname__ != function:
            return None
        return found if handler_name(found, "") == name else None

    # --- spawning --------------------------------------------------------------------------

    def sprout(
        self, kind: Kind, item: Any, named: bool, key: Key | None, id: int | str | None,
        priority: float | None, lane: Hashable, metadata: Mapping[str, Any] | None,
    ) -> Sprout:  # fmt: skip
        """Return what a job is known by that is being spawned, and what is recorded of it.

        Raises:
            SerialisationError: If it has no key, and no content that could be one, or no form in JSON.
        """
        if key is None:
            try:
                digest = content_key(item)
            except SerialisationError as error:
                what = str(error).partition(": give key=")[0]
                raise SerialisationError(f"{what}: give spawn() a key= that says what it is") from None
        else:
            digest = given_key(key)
        row: bytes | None = None
        try:
            typed, content = kind.items.encode(item, digest if key is None else None)
            rest = (kind.name or self._name) if named else None, _packed(key), id, priority, _packed(lane)
            row = b"%b,%b,%b,%b]" % (
                b"true" if typed else b"false", content, _encode(rest)[1:-1], _plain(metadata),
            )  # fmt: skip
        except SerialisationError as error:
            if key is None:
                way = "spawn JSON types, annotate the handler's parameter"
                if holds_no_number(item):
                    way = "spawn None or a text in its place"
                raise SerialisationError(
                    f"the job spawned for {short(item)} cannot be kept in the journal, as {error}: {way}, or "
                    "give key=, with which the handler that spawns it is called again instead"
                ) from error
        return self._sprout(kind, digest, row)

    def _sprout(self, kind: Kind, digest: bytes, row: bytes | None) -> Sprout:
        return Sprout(digest if kind.name is None else (kind.name, digest), (None, kind.name, digest), row)

    # --- recording and recalling -----------------------------------------------------------

    def record(self, branch: Branch) -> bytes | None:
        """Return what is recorded of what a job spawned; None if it spawned nothing."""
        spawned, left = branch.spawned, branch.left
        if not spawned and not left:
            return None
        rows: list[bytes] = []
        for place, row in (spawned or {}).values():
            if row is None:
                return _AGAIN
            rows.append(b"[%d,%b" % (place, row))
        return b'{"spawned":[%b],"left":%b}' % (b",".join(rows), _encode(left or {}))

    def read(self, job: Job[Any], content: bytes) -> tuple[list[Row], dict[str, int]] | None:
        """Return what a recalled job had spawned; None if its handler has to be called again."""
        try:
            record = _read(content)
            if record.again or not all(self._still_holds(rule) for rule in record.left):
                return None
            rows: list[Row] = []
            for place, typed, item, name, packed, id, priority, packed_lane, metadata in record.spawned:
                handler = None if name is None else self._found(name)
                if handler is None and name is not None:
                    return None
                kind = self._spawner.kind_of(job) if handler is None else self._spawner.kind_for(handler)
                key, lane = _unpacked(packed), _unpacked(packed_lane)
                found = kind.items.decode(item, typed=typed)
                sprout = self._sprout(kind, content_key(found) if key is None else given_key(key), None)
                rows.append(Row(place, found, handler, key, id, priority, lane, metadata, sprout))
        except (SerialisationError, msgspec.MsgspecError, TypeError, ValueError):
            # Written by another program, or the functions want other items now.
            return None
        return rows, record.left

    def _still_holds(self, rule: str) -> bool:
        """Whether what was left out by a rule would be left out again."""
        name, _, number = rule.partition("=")
        return name in {"max_depth", "max_jobs"} and str(getattr(self._rules, name)) == number

    def spawn_again(self, job: Job[Any], recorded: tuple[list[Row], dict[str, int]]) -> None:
        """Let what a recalled job had spawned arrive."""
        self._spawner.spawn_again(job, *recorded)


def _type_of(value: object) -> type[object]:
    return type(value)


def _packed(value: Any) -> Any:
    """Return a key or lane in a form that JSON gives back as it was.

    Raises:
        SerialisationError: If it has none.
    """
    kind = _type_of(value)
    if value is None or kind in {str, int, bool, float}:
        return value
    if kind is bytes:
        return {"hex": value.hex()}
    if kind is tuple:
        return [_packed(each) for each in cast("tuple[Any, ...]", value)]
    raise SerialisationError(f"{short(value)} is no key or lane that JSON can hold")


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        return bytes.fromhex(cast("dict[str, str]", value)["hex"])
    if _type_of(value) is list:
        return tuple(map(_unpacked, value))
    return value


def _plain(metadata: Mapping[str, Any] | None) -> bytes:
    """Return metadata as JSON that reads back the same.

    Raises:
        SerialisationError: If it does not.
    """
    if metadata is None:
        return b"null"
    try:
        content = _encode(dict(metadata))
        same = bool(_decode(content) == metadata)
    except Exception as error:
        raise SerialisationError(f"its metadata have no form in JSON ({error})") from error
    if not same:
        raise SerialisationError("its metadata would come back from JSON as something else")
    return content
