"""Keys by content: the same for what is the same, and different for everything else."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
import sys
from collections import OrderedDict, namedtuple
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core import content_key as module
from qanat._core.content_key import content_key, given_key
from qanat.errors import SerialisationError


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


@dataclasses.dataclass
class OtherPoint:
    x: int
    y: Any = None


class Struct(msgspec.Struct):
    x: int


class Colour(Enum):
    RED = 1
    GREEN = 2


class Text(str):
    __slots__ = ()


Pair = namedtuple("Pair", ["a", "b"])  # noqa: PYI024

DIFFERENT = [
    "", "1", "a", "\ud800", 1, 1.0, True, False, 0, 0.0, None, b"", b"1", b"a", [], (), {}, [1], (1,), [1, 2], [[1], 2],
    [[1, 2]], {1: "a"}, {"1": "a"}, {"a": 1}, {"a": {"b": 1}}, set(), {1}, {"1"}, [None], [""], ["a", "b"], ["ab"],
    Point(1), Point(1, [2]), OtherPoint(1), Struct(1), Colour.RED, Colour.GREEN, Decimal(1), Decimal("1.0"),
    UUID(int=1), Path("a"), dt.date(2026, 1, 1), dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC),  # noqa: DTZ001
    dt.time(1), dt.timedelta(1), 2**70, 10**5000, float("nan"), float("inf"), [float("nan")], [b"a"], [(1,)],
]  # fmt: skip


def test_items_that_differ_have_keys_that_differ():
    keys = [content_key(item) for item in DIFFERENT]
    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {module.SIZE}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": [2, {"c": 3, "d": 4}]}, {"b": [2, {"d": 4, "c": 3}], "a": 1}),
        ({"a": (1,), "b": 2}, {"b": 2, "a": (1,)}),
        ({"b", "a"}, frozenset(["a", "b"])),
        ({1: "a", 2: "b"}, OrderedDict([(2, "b"), (1, "a")])),
        ({1: "a"}, MappingProxyType({1: "a"})),
        (Text("a"), [Text("a")][0]),
        (b"a", bytearray(b"a")),
        (Point(1, {"a": 1, "b": (2,)}), Point(1, {"b": (2,), "a": 1})),
        ((1, 2), Pair(1, 2)),
    ],
)
def test_items_that_are_the_same_have_the_same_key(one, other):
    assert content_key(one) == content_key(other)


def test_large_containers_have_the_same_key_in_any_order():
    one = {str(number): number for number in range(2000)}
    assert content_key(one) == content_key(dict(reversed(one.items())))


def test_key_is_the_same_in_another_process():
    code = (
        "from qanat._core.content_key import content_key as k; "
        "print(k({'a': [1, 'b'], 'c': {'x', 'y'}}).hex(), k('a').hex(), k({'a': 1, 'b': 'c'}).hex())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    keys = [content_key({"a": [1, "b"], "c": {"x", "y"}}), content_key("a"), content_key({"a": 1, "b": "c"})]
    assert ran.stdout.split() == [key.hex() for key in keys]


def deep(levels: int) -> Any:
    item: Any = ()
    for _ in range(levels):
        item = (item,)
    return item


class Odd:
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (object(), "an item of type object has no content that could be a key: give key="),
        ([object()], "an item of type object has no content"),
        ([Odd()], "an item of type Odd has no content"),
        (Point, "an item of type type has no content"),
        (deep(101), "the item is nested deeper than 100 levels: give key="),
        ("x" * (2**20 + 1), "the item is larger than 1,048,576 bytes"),
        (b"x" * (2**20), "the item is larger than"),
        (["x" * 2**19] * 3, "the item is larger than"),
        ({("x" * 2**19, n) for n in range(3)}, "the item is larger than"),
        ([["x" * 2**20]], "the item is larger than"),
        (list(range(200_000)), "the item is larger than"),
    ],
)
def test_items_without_a_key_are_refused_with_a_remedy(item, message):
    with pytest.raises(SerialisationError, match=message):
        content_key(item)


def test_item_that_holds_itself_is_refused():
    item: list[Any] = []
    item.append(item)
    with pytest.raises(SerialisationError, match="nested deeper"):
        content_key(item)


def test_given_key_is_that_of_the_same_content():
    for key in ("a", b"a", 1, ("a", 1), (("a", b"b"), 2)):
        assert given_key(key) == content_key(key)


@pytest.mark.parametrize("key", [None, 1.5, True, ["a"], ("a", None), (1, (2.0,)), Odd()])
def test_wrong_key_is_refused(key):
    with pytest.raises(TypeError, match="key must give a str, bytes, int or a tuple of these, got"):
        given_key(key)


def test_key_that_is_nested_too_deeply_is_refused():
    with pytest.raises(SerialisationError, match="nested deeper"):
        given_key(deep(102))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def shape(item: Any) -> Any:
    """Return an item as something that is equal only to what is the same, kinds and all."""
    if isinstance(item, dict):
        return ("dict", tuple(sorted((key, shape(value)) for key, value in item.items())).__repr__())
    if isinstance(item, list):
        return ("list", tuple(map(shape, item)))
    return (type(item).__name__, repr(item))


@given(JSON, JSON)
def test_keys_are_equal_if_and_only_if_items_are(one, other):
    assert (content_key(one) == content_key(other)) == (shape(one) == shape(other))
