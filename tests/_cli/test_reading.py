"""Input files as records."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._cli import reading
from qanat._cli.reading import Kind, Record, split_lines
from qanat.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable


def read(kind: Kind, *chunks: bytes, fields: Iterable[str] = ()) -> list[Record]:
    return list(reading.READERS[kind](split_lines(chunks, "in"), "in", None, fields))


def pairs(kind: Kind, *chunks: bytes) -> list[tuple[int, Any]]:
    return [(record.line, record.value) for record in read(kind, *chunks)]


@given(st.binary(max_size=200).map(lambda data: data.replace(b"\xef", b"")), st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_how_the_bytes_come(data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    chunks = [data[a:b] for a, b in pairwise(edges)]
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    assert list(split_lines(chunks, "in")) == list(enumerate(lines, 1))


class TestTxt:
    def test_one_item_a_line_without_its_end(self) -> None:
        assert pairs("txt", b"a\nb\r\n\n  c \nd") == [(1, "a"), (2, "b"), (4, "  c "), (5, "d")]

    def test_a_byte_order_mark_is_no_text(self) -> None:
        assert pairs("txt", b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n") == [(1, "a"), (2, "\ufeffb")]
        assert pairs("txt", b"\xef", b"\xbb\xbf", b"a") == [(1, "a")]

    def test_only_line_feeds_end_lines(self) -> None:
        text = "a\u2028b\x0bc\x0cd\x85e\rf"
        assert pairs("txt", text.encode()) == [(1, text)]

    def test_nothing(self) -> None:
        assert pairs("txt") == pairs("txt", b"") == pairs("txt", b"\n\n") == []

    def test_what_is_not_utf8_is_told_with_its_place(self) -> None:
        with pytest.raises(InputError, match="in, line 2: is not UTF-8: byte 0xe9 at position 2") as caught:
            read("txt", b"a\nb\xe9\n")
        assert (caught.value.path, caught.value.line) == ("in", 2)

    def test_a_line_without_an_end_does_not_fill_the_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "LONGEST_LINE", 1000)
        endless = (b"x" * 100 for _ in iter(int, 1))
        with pytest.raises(InputError, match="line 1: the line is longer"):
            list(split_lines(endless, "in"))


class TestJsonl:
    def test_one_value_a_line(self) -> None:
        assert pairs("jsonl", b'{"a": 1}\r\n\n \t\n"x"\nnull') == [(1, {"a": 1}), (4, "x"), (5, None)]

    def test_the_text_stays_as_it_was(self) -> None:
        (record,) = read("jsonl", b' {"b": 1.50,\r "a": [1]} \n')
        assert record.text == '{"b": 1.50,  "a": [1]}'
        assert json.loads(record.text) == record.value

    @pytest.mark.parametrize(
        "line",
        [
            b"{", b"nan", b"NaN", b"[Infinity]", b"1e999", b"{'a': 1}", b'"\t"', b"1 2", b"\xef\xbb\xbf1",
            b"9" * 5000, b"[" * 100_000,
        ],
        ids=lambda line: line[:8].decode(errors="replace"),
    )  # fmt: skip
    def test_what_is_not_json_is_told_with_its_place(self, line: bytes) -> None:
        with pytest.raises(InputError, match=r"^in, line 2: is not JSON: "):
            read("jsonl", b"1\n" + line)

    @given(st.recursive(
        st.none() | st.booleans() | st.integers() | st.text()
        | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    ))  # fmt: skip
    def test_every_value_comes_back(self, value: Any) -> None:
        assert pairs("jsonl", json.dumps(value).encode()) == [(1, value)]


class TestCsv:
    def test_fields_by_the_names_in_the_header(self) -> None:
        data = b'\xef\xbb\xbfname,age\r\n"A, ""B""",3\r\n\r\nC,\r\n'
        assert pairs("csv", data) == [(2, {"name": 'A, "B"', "age": "3"}), (4, {"name": "C", "age": ""})]

    def test_a_row_of_several_lines_has_the_number_of_its_first(self) -> None:
        assert pairs("csv", b'a,b\n"1\n2\r\n3",x\n4,y\n') == [
            (2, {"a": "1\n2\r\n3", "b": "x"}), (5, {"a": "4", "b": "y"}),
        ]  # fmt: skip

    def test_a_header_alone_is_no_item(self) -> None:
        assert pairs("csv", b"a,b\n") == pairs("csv", b"") == []

    @pytest.mark.parametrize(
        ("data", "line", "says"),
        [
            (b"a,b\n1,2\n1\n", 3, "has 1 fields, but the header has 2"),
            (b"a,b\n1,2,3\n", 2, "has 3 fields"),
            (b"a,a\n1,2\n", 1, "names the field 'a' twice"),
            (b'a\n1\n"open\nmore\n', 3, "is not CSV"),
            (b'a\n"x"y\n', 2, "is not CSV"),
            (b'a\n"x\n\xff"\n', 3, "is not UTF-8"),
            (b"b\n1\n", 1, "has no field 'a'"),
        ],
        ids=["few", "many", "twice", "open", "quote", "utf8", "field"],
    )
    def test_what_is_wrong_is_told_with_its_place(self, data: bytes, line: int, says: str) -> None:
        with pytest.raises(InputError, match=says) as caught:
            read("csv", data, fields=("a",))
        assert caught.value.line == line

    def test_a_row_without_an_end_does_not_fill_the_memory(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "LONGEST_LINE", 1000)
        with pytest.raises(InputError, match="line 2: "):
            read("csv", b'a\n"' + b"x\n" * 1000)


def test_records_are_read_one_by_one() -> None:
    asked: list[int] = []

    def chunks() -> Iterable[bytes]:
        for number in range(1000):
            asked.append(number)
            yield b"x\n"

    records = reading.read_txt(split_lines(chunks(), "in"), "in", None)
    next(records)
    assert len(asked) <= 2
