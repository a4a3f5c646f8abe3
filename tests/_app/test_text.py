"""Text that is made safe to show."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._app.text import safe_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \u017elu\u0165 \u6c34 \U0001f4a7", "plain \u017elu\u0165 \u6c34 \U0001f4a7"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x00\x7f", "\\x00\\x7f"),
        ("a\u202eb\u2066c", "a\\u202eb\\u2066c"),
        ("a\u200bb\ufeff", "a\\u200bb\\ufeff"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
    ids=["plain", "clear", "clipboard", "c1", "ends", "nul", "bidi", "no-width", "separators", "half", "tag"],
)  # fmt: skip
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert safe_text(text) == shown


def test_long_texts_end_in_an_ellipsis() -> None:
    assert safe_text("x" * 10, 10) == "x" * 10
    assert safe_text("x" * 11, 10) == "x" * 9 + "…"
    assert len(safe_text("\x1b" * 10**6)) == 200


def test_anything_can_be_shown() -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError

    assert safe_text(5) == "5"
    assert safe_text(Odd()) == "<Odd, whose str raised RuntimeError>"


def test_markup_is_escaped_after_the_rest() -> None:
    assert safe_text("\x1b[red]x[/red]", markup=True) == "\\x1b\\[red]x\\[/red]"


@given(st.text(), st.integers(1, 50))
def test_nothing_unsafe_remains(text: str, most: int) -> None:
    shown = safe_text(text, most)
    assert len(shown) <= most
    shown.encode()
    assert not [each for each in shown if unicodedata.category(each) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not [
        each for each in shown if unicodedata.bidirectional(each) in {"RLO", "LRO", "RLE", "LRE", "PDF"}
    ]
