from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.report import (
    END,
    START,
    Table,
    Wanted,
    as_markdown,
    as_text,
    between_markers,
    number,
    wanted_as_markdown,
)

TABLE = Table(
    "An item", "How it was run.", ("", "us"), [["loop", "0.25"], ["a|b", "10.0"]],
    [Wanted("b is,", 1.4, most=1.5, unit=" x"), Wanted("a is", 97.0, least=98, unit=" %")], ["c (why)"],
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123, "0.12"), (9.5, "9.50"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12,346"), (-15.0, "-15.0")],
)
def test_number_has_as_many_digits_as_it_is_good_for(value: float, text: str):
    assert number(value) == text


@pytest.mark.parametrize(
    ("wanted", "holds", "target"),
    [
        pytest.param(Wanted("", 1.5, most=1.5, unit=" x"), True, "at most 1.5 x", id="just below"),
        pytest.param(Wanted("", 1.51, most=1.5), False, "at most 1.5", id="above"),
        pytest.param(Wanted("", 98, least=98, unit=" %"), True, "at least 98 %", id="just above"),
        pytest.param(Wanted("", 97.9, least=98), False, "at least 98", id="below"),
    ],
)
def test_wanted_holds_up_to_its_target(wanted: Wanted, holds: bool, target: str):
    assert wanted.holds is holds
    assert wanted.target == target


def test_text_lines_columns_up_and_says_what_holds():
    assert as_text(TABLE).splitlines() == [
        "An item",
        "  How it was run.",
        "          us",
        "  loop  0.25",
        "  a|b   10.0",
        "  skipped: c (why)",
        "  wanted: b is, at most 1.5 x: 1.40 x, holds",
        "  wanted: a is at least 98 %: 97.0 %, MISSED",
    ]


def test_text_of_a_table_without_rows_has_no_columns():
    assert as_text(Table("An item", "Nothing ran.", ("", "us"), [])).splitlines() == [
        "An item",
        "  Nothing ran.",
    ]


def test_markdown_is_a_heading_a_sentence_and_a_table():
    assert as_markdown(TABLE).splitlines() == [
        "### An item",
        "",
        "How it was run.",
        "",
        "|  | us |",
        "| --- | ---: |",
        "| loop | 0.25 |",
        "| a\\|b | 10.0 |",
        "",
        "Not measured: c (why).",
    ]


def test_markdown_of_a_table_without_rows_has_no_columns():
    assert as_markdown(Table("An item", "Nothing ran.", ("", "us"), [])).splitlines() == [
        "### An item",
        "",
        "Nothing ran.",
    ]


def test_all_that_is_wanted_stands_in_one_table():
    assert wanted_as_markdown([TABLE, TABLE]).splitlines()[4:] == [
        "| b is | at most 1.5 x | 1.40 x | yes |",
        "| a is | at least 98 % | 97.0 % | no |",
        "| b is | at most 1.5 x | 1.40 x | yes |",
        "| a is | at least 98 % | 97.0 % | no |",
    ]


def test_page_keeps_what_is_around_its_markers():
    page = f"before\n\n{START}\nold\n{END}\n\nafter\n"
    once = between_markers(page, "new\n")
    assert once == f"before\n\n{START}\n\nnew\n\n{END}\n\nafter\n"
    assert between_markers(once, "new\n") == once


@pytest.mark.parametrize("page", ["", START, END, f"{END}\n{START}"])
def test_page_without_markers_is_refused(page: str):
    with pytest.raises(ValueError, match="page must hold the lines"):
        between_markers(page, "new")


def test_page_of_the_documentation_has_its_markers():
    page = Path(__file__).parents[2] / "docs" / "explanation" / "speed.md"
    assert "new" in between_markers(page.read_text(encoding="utf-8"), "new")
