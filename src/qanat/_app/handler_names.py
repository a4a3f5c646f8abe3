"""By what name a journal knows a handler: its module, its name there, and what it was made with.

Functions that one function made, and the methods of the objects of a class, have one name. What tells them
apart is what they hold: the variables of the function that made them, defaults, the arguments of a partial,
the attributes of the object. Of these a digest goes into the name, as far as they are texts, numbers,
functions, classes or frozen values of such: what else they hold, such as a client or a list of results,
is taken for their state. A function that is found in its module by its name needs no more than that.

A digest is made when something is first seen, so that a variable that changes later changes no name.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import inspect
import sys
import types
import weakref
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

import msgspec

from qanat._app.handlers import name_of
from qanat._core.content_key import content_key
from qanat._engine.callee import without_partials
from qanat.errors import SerialisationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

MOST_DEPTH: Final = 8
"""How deep functions within functions are looked into."""

_PLAIN: Final = (
    str, bytes, int, float, complex, Enum, Decimal, UUID, PurePath, dt.date, dt.time, dt.timedelta,
)  # fmt: skip

_seen: dict[int, tuple[weakref.ref[Any], str]] = {}


def handler_name(handler: Callable[..., Any], version: str | int | None, *, keeper: str = "a journal") -> str:
    """Return by what name a journal or a queue knows a handler; a version tells it from others instead.

    A script has the name that it would have if it were imported, so that `python app.py`, `python -m app`
    and `qanat map app:fn` know the same jobs.

    Raises:
        ValueError: If it has no name of its own, and no version that tells it from others.
    """
    named = without_partials(handler)
    is_own = (
        named is handler
        and getattr(named, "__qualname__", None) is not None
        and "<lambda>" not in name_of(named)
    )
    if not is_own and version is None:
        raise ValueError(
            f"version must say which handler this is, got None: {name_of(handler)} has no name of its own by "
            f"which {keeper} could tell it from others"
        )
    return _plain_name(named) + (made_with(handler) if version is None else "")


def spawned_name(handler: Callable[..., Any], version: str | int | None) -> str:
    """Return by what name a journal knows a handler of spawned jobs, of which a run may have many.

    Raises:
        ValueError: If it has no name of its own, and no version that tells it from others.
    """
    name = handler_name(handler, version)
    return name if version is None else name + made_with(handler)


def module_of(named: Any) -> str:
    """Return the name of the module that something is from, as it would be imported."""
    module: str = getattr(named, "__module__", None) or "builtins"
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        if spec is not None:
            return str(spec.name)
        if file is not None:
            return Path(file).stem
    return module


def home_of(handler: Any) -> tuple[str, str]:
    """Return the name of a handler's module, and the one that a journal has for it."""
    named = without_partials(handler)
    return getattr(named, "__module__", None) or "", module_of(named)


def _plain_name(named: Any) -> str:
    owner = getattr(named, "__self__", None)
    if isinstance(owner, type):
        return f"{module_of(owner)}:{owner.__qualname__}.{named.__name__}"  # of a class, maybe an heir
    if getattr(named, "__qualname__", None) is None:
        named = named.__class__
    return f"{module_of(named)}:{named.__qualname__}"


def made_with(handler: Any) -> str:
    """Return a digest of what a handler was made with, in brackets; an empty text if that is nothing."""
    owner = getattr(handler, "__self__", None)
    thing = handler if owner is None or isinstance(owner, types.ModuleType | type) else owner
    known = _seen.get(id(thing))
    if known is not None and known[0]() is thing:
        return known[1]
    told = _told_of(handler, 0)
    text = f"({content_key(told).hex()[:16]})" if told else ""
    try:
        _seen[id(thing)] = weakref.ref(thing, functools.partial(_forget, id(thing))), text
    except TypeError:
        pass  # a text or the like, which does not change
    return text


def _forget(key: int, gone: weakref.ref[Any]) -> None:
    if key in _seen and _seen[key][0] is gone:
        del _seen[key]


# What is told of something: pairs of a name and what tells it from others.
_Told = tuple[Any, ...]


def _told_of(thing: Any, depth: int) -> _Told:
    """Return what something callable holds that tells it from others of its name."""
    if isinstance(thing, functools.partial):
        made = cast("Any", thing)
        arguments = [*((str(place), each) for place, each in enumerate(made.args)), *made.keywords.items()]
        return (*_told_of(made.func, depth), *_pairs(arguments, depth))
    owner = getattr(thing, "__self__", None)
    if owner is not None and not isinstance(owner, types.ModuleType | type):
        return _pairs([("self", owner)], depth) or _pairs(sorted(_attributes(owner).items()), depth)
    if isinstance(thing, types.FunctionType):
        return () if _is_found(thing) else _pairs(_variables(thing), depth)
    if isinstance(thing, types.MethodType | types.BuiltinFunctionType | type):
        return ()
    return _pairs(sorted(_attributes(thing).items()), depth)


def _is_found(function: types.FunctionType) -> bool:
    """Whether a function is what its module has by its name: there is no other one then."""
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = inspect.getattr_static(found, part, None)
    return getattr(found, "__func__", found) is function


def _variables(function: types.FunctionType) -> Iterable[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:
            pass  # not set yet
    yield from ((f"default {place}", each) for place, each in enumerate(function.__defaults__ or ()))
    yield from sorted((function.__kwdefaults__ or {}).items())


def _attributes(thing: Any) -> Mapping[str, Any]:
    return getattr(thing, "__dict__", None) or {}


def _pairs(named: Iterable[tuple[str, Any]], depth: int) -> _Told:
    told = ((name, _told(value, depth + 1)) for name, value in named)
    return tuple((name, each) for name, each in told if each is not None)


def _told(value: Any, depth: int) -> Any:
    """Return what a value tells of a function that holds it; None if it is taken for state."""
    if isinstance(value, _PLAIN) or _is_frozen(value):
        try:
            return content_key(value)
        except SerialisationError:
            return None
    if depth > MOST_DEPTH:
        return None  # a function that calls itself holds itself
    if isinstance(value, tuple | frozenset):
        each = tuple(_told(one, depth) for one in cast("Iterable[Any]", value))
        return None if None in each else each if isinstance(value, tuple) else frozenset(each)
    if isinstance(value, functools.partial | type) or inspect.isroutine(value):
        return _plain_name(without_partials(value)), _told_of(value, depth)
    return None


def _is_frozen(value: Any) -> bool:
    if isinstance(value, msgspec.Struct):
        return value.__struct_config__.frozen
    return dataclasses.is_dataclass(value) and bool(
        getattr(value, "__dataclass_params__", None) and value.__dataclass_params__.frozen  # type: ignore[union-attr]
    )
