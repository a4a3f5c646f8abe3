"""The codec: an exact round trip, or a refusal that tells where."""

import datetime as dt
import decimal
import json
import uuid
from dataclasses import dataclass
from enum import Enum

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.content_key import content_key
from qanat._stores.codec import MOST_BYTES, MOST_DEPTH, decode, decode_all, encode, is_simple
from qanat.errors import SerialisationError

texts = st.text(st.characters(exclude_categories=["Cs"]))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
)


@given(plain)
def test_what_json_has_comes_back_equal(value):
    back = decode(encode(value))
    assert back == value
    assert repr(back) == repr(value)


@given(plain)
def test_what_is_simple_has_the_content_that_comes_back(value):
    if is_simple(value):
        assert content_key(value) == content_key(decode(encode(value)))


@pytest.mark.parametrize("value", [["a", 1, None, 1.5, True], {"a": 1}, "a", 7, []])
def test_a_flat_list_or_dict_is_simple(value):
    assert is_simple(value)


@pytest.mark.parametrize("value", [[[]], ["a"] * 17, ["ä"], [2**64], [float("nan")], [b"a"], (1,), {1: 2}])
def test_what_nests_is_long_or_would_not_come_back_is_not_simple(value):
    assert not is_simple(value)


class Colour(Enum):
    RED = "red"


class Text(str):
    __slots__ = ()


class Order(msgspec.Struct):
    number: int
    lines: list[str]


@dataclass
class Parcel:
    weight: float
    order: Order | None = None


class Nothing(msgspec.Struct):
    pass


@pytest.mark.parametrize("value", [Order(1, ["a"]), Parcel(1.5, Order(2, [])), Nothing()])
def test_structs_and_dataclasses_come_back_by_their_type(value):
    assert decode(encode(value), type(value)) == value


def deep(levels):
    value: list[object] = []
    for _ in range(levels - 1):
        value = [value]
    return value


REFUSED = [
    (float("nan"), "^value is nan, which JSON has not: use None or a text$"),
    ([1, {"a": float("-inf")}], r"^value\[1\]\['a'\] is -inf"),
    (2**64, r"^value is a whole number of 65 bits, more than 64: use str\(number\)$"),
    (-(2**63) - 1, "64 bits, more than 64"),
    (10**5000, "16610 bits"),
    ({1: "x"}, r"^value has the key 1, and JSON has only texts: use str\(key\)$"),
    ({(1, 2): "x"}, "^value has the key a tuple"),
    ({2**70: 1}, "^value has the key a int"),
    ({Text("a"): 1}, "^value has the key a Text"),
    ("\ud800", "^value holds half a character at 0, which UTF-8 cannot"),
    ({"a\ud800": 1}, "^key of value holds half a character at 1"),
    ((1, 2), "^value is a tuple, which JSON has not: use a list$"),
    ({"a": {1}}, r"^value\['a'\] is a set, which JSON has not: use a sorted list$"),
    (b"x", "^value is a bytes, .*base64"),
    (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), r"is a datetime, .*use str\(value\)"),
    (uuid.UUID(int=1), r"is a UUID, .*use str\(value\)"),
    (decimal.Decimal(1), r"is a Decimal, .*use str\(value\)"),
    (Colour.RED, "is a Colour, .*a dataclass or a msgspec.Struct$"),
    (Text("a"), "is a Text, which JSON has not"),
    (object(), "is a object, which JSON has not"),
    (Parcel(float("inf")), r"^value\.weight is inf"),
    (deep(MOST_DEPTH + 1), r"\[0\] nests more than 100 deep: flatten it"),
    ("x" * MOST_BYTES, "^value must take at most 1048576 bytes"),
    ("\x01" * (MOST_BYTES // 4), "^value must take at most 1048576 bytes"),
    ({"x" * 100: [float("nan")]}, r"^value\['x{37}'\.\.\.\]\[0\] is nan"),
]


@pytest.mark.parametrize(("value", "told"), REFUSED, ids=range(len(REFUSED)))
def test_what_json_has_not_is_refused_with_its_place(value, told):
    with pytest.raises(SerialisationError, match=told):
        encode(value)


def test_the_deepest_and_the_largest_are_kept():
    assert decode(encode(deep(MOST_DEPTH))) == deep(MOST_DEPTH)
    assert len(encode("x" * (MOST_BYTES - 2))) == MOST_BYTES


def test_what_is_too_large_is_refused_before_it_is_written():
    many = ["x" * 1000] * 1_000_000  # A gigabyte, if it were written.
    with pytest.raises(SerialisationError, match="at most 1048576 bytes"):
        encode(many)


def test_a_value_that_holds_itself_is_refused():
    value: list[object] = []
    value.append(value)
    with pytest.raises(SerialisationError, match="nests more than 100 deep"):
        encode(value)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "^data must be JSON"),
        (b"{", "^data must be JSON"),
        (b"\x80\x04K\x01.", "^data must be JSON"),
        (b'"\xff"', "^data must be JSON"),
        (b"NaN", "^data must be JSON"),
        (b"[" * 100_000, "^data must nest at most 100 deep$"),
        (b'["\\"[[["' + b"," + b"[" * 101 + b"]" * 101 + b"]", "^data must nest at most 100 deep$"),
        (b" " * (MOST_BYTES + 1), "^data must be at most 1048576 bytes"),
    ],
)
def test_what_is_no_json_of_ours_is_refused(data, told):
    with pytest.raises(SerialisationError, match=told):
        decode(data)


def test_brackets_in_texts_are_no_depth():
    value = ["[" * 500, '"\\' * 3, {"{": []}]
    assert decode(encode(value)) == value


def test_a_type_is_held_to():
    with pytest.raises(SerialisationError, match=r"^data must be a Order: Expected `int`, got `str`"):
        decode(json.dumps({"number": "1", "lines": []}).encode(), Order)


def test_many_are_read_as_each_would_be():
    values: list[object] = [1, "x" * 200, None, {"a": [1, 2]}, [[]] * 60]
    written = [encode(value) for value in values]
    assert decode_all(written) == values
    assert decode_all([]) == []
    assert decode_all([b"1", b"2"], float) == [1.0, 2.0]


@pytest.mark.parametrize(
    "wrong",
    [b"", b"{", b"1 2", b"\xff", b"[" * 101 + b"]" * 101, b'"' + b"x" * MOST_BYTES + b'"'],
    ids=["nothing", "cut short", "two", "no text", "too deep", "too large"],
)
def test_many_are_looked_at_one_by_one_if_one_of_them_is_wrong(wrong: bytes):
    assert decode_all([b"1", wrong, b"[" + b" " * 100 + b"]"]) is None
    assert decode_all([b"1", b'"a"'], int) is None
