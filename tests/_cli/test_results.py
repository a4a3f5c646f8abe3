"""A job's end as a line of JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._cli.reading import Record
from qanat._cli.results import AsyncCall, PlainCall, harmless, line_of, written
from qanat._core.outcome import Outcome, State
from qanat.errors import SerialisationError


def outcome(
    record: Record, value: str | None = None, error: BaseException | None = None
) -> Outcome[Record, str]:
    state: State = "dead" if error else "done"
    return Outcome(1, 0, record, value, error, state, 2, None, None, None, 10.0, 10.5, 13.0, 0.12)


def test_a_value() -> None:
    line = line_of(outcome(Record(3, None, "a", None), '{"x":1}'))
    assert line == (
        b'{"id":3,"item":"a","ok":true,"value":{"x":1},"error":null,'
        b'"attempts":2,"waited":2.88,"seconds":0.12}\n'
    )


def test_an_error_and_a_file() -> None:
    line = line_of(outcome(Record(3, "in.txt", [1], "[1]"), error=KeyError("\x1b[2J\n")))
    assert json.loads(line) == {
        "id": 3, "file": "in.txt", "item": [1], "ok": False, "value": None,
        "error": {"type": "KeyError", "message": "'\\x1b[2J\\n'"},
        "attempts": 2, "waited": 2.88, "seconds": 0.12,
    }  # fmt: skip


class SilentError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_an_error_without_words() -> None:
    line = json.loads(line_of(outcome(Record(1, None, "a", None), error=SilentError())))
    assert line["error"]["message"] == "<SilentError, whose str raised RuntimeError>"


@given(st.text())
def test_a_line_is_one_line_and_harms_no_terminal(text: str) -> None:
    line = line_of(outcome(Record(1, None, text, None), written(text))).decode()
    assert json.loads(line)["item"] == json.loads(line)["value"] == text
    assert len(line.splitlines()) == 1
    assert not {"\x1b", "\x7f", "\x9b", "\u202e", "\u200b"} & set(line)


def test_json_is_the_same_when_harmless() -> None:
    text = json.dumps(["\u202e\x7f\x9b\U000e0041\ud800 \u017e"], ensure_ascii=False)
    assert json.loads(harmless(text)) == json.loads(text)
    assert "\u017e" in harmless(text)


def deep() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


def circular() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "make", [object, deep, circular, lambda: float("nan"), lambda: {1}, lambda: b"x", lambda: {(1, 2): 3}],
    ids=["object", "deep", "circular", "nan", "set", "bytes", "key"],
)  # fmt: skip
def test_what_json_has_no_form_for(make: Any) -> None:
    with pytest.raises(SerialisationError, match="is not JSON: "):
        written(make())


async def test_every_kind_of_handler_gives_json() -> None:
    record = Record(1, None, 20, None)

    async def double(item: int) -> int:
        return item * 2

    assert await AsyncCall(double)(record) == "40"
    assert PlainCall(lambda item: [item])(record) == "[20]"
    assert await PlainCall(lambda item: double(item))(record) == "40"
    assert AsyncCall(double).__qualname__.endswith("double")
