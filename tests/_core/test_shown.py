"""What messages show of a value: enough to know it by, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest

from qanat._core.shown import shown


class Evil:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(100_000):
        made = [made]
    return made


@pytest.mark.parametrize(
    "value", [None, True, 1.5, -7, "a\x1b", "x" * 100, b"\xff", [1, [2]], {"a": 1}, (), 2**200], ids=repr
)
def test_what_is_short_is_shown_as_it_is(value: object):
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("x" * 10**6, id="text"),
        pytest.param(b"x" * 10**6, id="bytes"),
        pytest.param([0] * 10**6, id="list"),
        pytest.param(deep(), id="deep list"),
        pytest.param({str(n): n for n in range(10**4)}, id="dict"),
    ],
)
def test_what_is_long_is_cut(value: object):
    assert len(shown(value)) < 500
    assert "..." in shown(value)


@pytest.mark.parametrize(
    ("value", "begin"),
    [
        pytest.param(Evil(), "<Evil instance", id="a repr that raises"),
        pytest.param([Evil()], "[<Evil instance", id="one inside"),
        pytest.param(10**5000, "<int>", id="a number too long for a text"),
    ],
)
def test_what_cannot_be_shown_is_named(value: object, begin: str):
    assert shown(value).startswith(begin)
