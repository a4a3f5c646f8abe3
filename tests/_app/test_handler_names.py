"""By what name a journal knows a handler: what tells functions and methods of one name apart."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import qanat
from qanat._app import handler_names
from qanat._app.handler_names import handler_name, home_of, made_with, spawned_name

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from qanat.testing import VirtualTime

HERE = __name__


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def times(factor: Any, log: list[int] | None = None) -> Callable[[int], Any]:
    async def handler(item: int) -> int:
        if log is not None:
            log.append(item)
        return item * int(factor)

    return handler


def with_default(factor: int) -> Callable[[int], Any]:
    async def handler(item: int, by: int = factor, *, plus: int = factor) -> int:
        return item * by + plus

    return handler


def timed(function: Any) -> Any:
    async def wrapper(item: int) -> Any:
        return await function(item)

    return wrapper


async def one(item: int) -> int:
    return 1


async def two(item: int) -> int:
    return 2


async def scaled(item: int, by: int = 1) -> int:
    return item * by


timed_one, timed_two = timed(one), timed(two)


class Model:
    def __init__(self, name: str) -> None:
        self.name = name
        self.log: list[int] = []

    async def ask(self, item: int) -> str:
        self.log.append(item)
        return f"{self.name} {item}"

    @classmethod
    async def make(cls, item: int) -> str:
        return cls.__name__

    @staticmethod
    async def still(item: int) -> int:
        return item


class Heir(Model):
    pass


@dataclass(frozen=True)
class Settings:
    name: str


class Point(msgspec.Struct, frozen=True):
    x: int


@pytest.mark.parametrize(
    ("first", "second", "values"),
    [
        (times(2), times(3), ([2], [3])),
        (with_default(2), with_default(3), ([4], [6])),
        (timed_one, timed_two, ([1], [2])),
        (Model("a").ask, Model("b").ask, (["a 1"], ["b 1"])),
        (Model.make, Heir.make, (["Model"], ["Heir"])),
    ],
    ids=["variables", "defaults", "wrapped", "methods", "class methods"],
)
async def test_handlers_of_one_name_do_not_take_each_others_values(
    virtual_time: VirtualTime, path, first, second, values
):
    for recalled in (0, 2):
        outcomes = [await qanat.collect(handler, [1], journal=path) for handler in (first, second)]
        assert tuple(each.values() for each in outcomes) == values
        assert sum(each.summary().recalled for each in outcomes) == recalled


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ("a", "b"), (1, True), (1.5, 2.5), (b"a", "a"), (("a", 1), ("a", 2)), (Settings("a"), Settings("b")),
        (Point(1), Point(2)), (frozenset({1}), frozenset({2})), (int, float), (one, two), (times(1), times(2)),
        (partial(scaled, by=1), partial(scaled, by=2)), (Model("a").ask, Model("b").ask), (3, None),
    ],
)  # fmt: skip
def test_plain_values_tell_functions_apart(value, other):
    names = {handler_name(times(each), None) for each in (value, other, value)}
    assert len(names) == 2


@pytest.mark.parametrize(
    "state", [None, [1], {"a": 1}, object(), Model("a"), ([1],), Settings([object()]), "x" * 2**21],  # type: ignore[arg-type]
    ids=["none", "list", "dict", "object", "instance", "tuple", "dataclass", "large"],
)  # fmt: skip
def test_state_tells_nothing(state):
    assert handler_name(times(state), None) == f"{HERE}:times.<locals>.handler"


def test_functions_of_a_module_have_its_name_alone():
    assert handler_name(one, None) == f"{HERE}:one"
    assert handler_name(Model.still, None) == f"{HERE}:Model.still"
    assert handler_name(Model("a").still, None) == f"{HERE}:Model.still"
    assert handler_name(Heir.make, None) == f"{HERE}:Heir.make"
    assert handler_name(len, None) == "builtins:len"
    assert made_with("a".join) != made_with("b".join) != ""


def test_what_is_seen_first_counts():
    calls = 0

    async def count(item: int) -> int:
        nonlocal calls
        calls += item
        return calls

    model = Model("a")
    names = handler_name(count, None), handler_name(model.ask, None)
    calls, model.name = 7, "b"
    assert (handler_name(count, None), handler_name(model.ask, None)) == names


def test_functions_that_hold_themselves_have_a_name():
    def again(item: int) -> Any:
        return again(item - 1) if item else later

    assert handler_name(again, None) == handler_name(again, None)
    later = 3
    assert again(1) == later


def test_what_is_gone_is_forgotten():
    gc.collect()
    before = len(handler_names._seen)
    handlers = [times(number) for number in range(100)]
    assert len({handler_name(each, None) for each in handlers}) == 100
    assert len(handler_names._seen) == before + 100
    handlers.clear()
    gc.collect()
    assert len(handler_names._seen) <= before


def test_version_says_it_all_but_for_spawned_jobs():
    assert handler_name(times(2), 1) == handler_name(times(3), 1)
    assert handler_name(partial(scaled, by=2), 1) == f"{HERE}:scaled"
    assert handler_name(Model("a").ask, "v") == f"{HERE}:Model.ask"
    assert spawned_name(partial(scaled, by=2), 1) != spawned_name(partial(scaled, by=3), 1)
    assert spawned_name(times(2), None) == handler_name(times(2), None)
    assert home_of(partial(one)) == (HERE, HERE)


async def test_spawned_handlers_of_one_name_do_not_take_each_others_values(virtual_time: VirtualTime, path):
    async def both(item: int) -> list[int]:
        job = qanat.current_job()
        job.after_children(gathered, gather=True)
        for factor in (2, 3):
            job.spawn(item, handler=times(factor))
            job.spawn(item, handler=partial(scaled, by=factor + 2))
        return []

    async def gathered(children: qanat.Children[int]) -> list[int]:
        return children.values()

    for version in (None, 1):
        run = qanat.collect(both, [1], journal=path, version=version)
        if version is None:
            (outcome, *_) = await run
            assert "version must say which handler this is" in str(outcome.error)
        else:
            assert (await run)[0].value == [2, 4, 3, 5]


async def test_spawned_handlers_that_cannot_be_told_apart_are_refused(virtual_time: VirtualTime, path):
    async def both(item: int) -> int:
        job = qanat.current_job()
        job.spawn(item, handler=lambda item: item)
        job.spawn(item, handler=lambda item: -item)
        return item

    (outcome, _) = await qanat.collect(both, [1], journal=path, version=1)
    assert str(outcome.error).startswith("handler must have a name of its own for a journal, got another one")


async def test_own_handler_may_be_named_at_spawn(virtual_time: VirtualTime, path):
    model = Model("a")

    async def twice(item: int) -> int:
        if item:
            qanat.current_job().spawn(item - 1, handler=twice)
        return item

    for handler in (twice, model.ask):
        assert len(await qanat.collect(handler, [0, 1], journal=path)) in {2, 3}
    again = await qanat.collect(twice, [1], journal=path)
    assert [each.recalled for each in again] == [True, True]


def test_script_has_the_name_that_it_would_be_imported_by(monkeypatch):
    import sys
    import types

    def handler(item: int) -> int:
        return item

    handler.__module__ = "__main__"
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    name = handler.__qualname__
    assert handler_name(handler, None) == f"__main__:{name}"
    main.__file__ = "/somewhere/app.py"
    assert handler_name(handler, None) == f"app:{name}"
    main.__spec__ = types.SimpleNamespace(name="package.app")  # type: ignore[assignment]
    assert handler_name(handler, None) == f"package.app:{name}"
    assert handler_name(len, None) == "builtins:len"
