"""Every page is found, and every public name is on one."""

import re
import tomllib
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

import qanat
from qanat import errors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
KINDS = ["explanation", "how-to", "reference", "tutorial"]


def nav() -> list[str]:
    """Return the pages of the navigation, from top to bottom."""

    def pages(entry: Any) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return list(chain.from_iterable(map(pages, entry.values() if isinstance(entry, dict) else entry)))

    return pages(tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"])


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(nav()) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("kind", KINDS)
def test_every_page_is_in_its_index_once(kind: str) -> None:
    linked = re.findall(r"^- \[.*?\]\((.*?)\)", (DOCS / kind / "index.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(linked) == sorted(page.name for page in (DOCS / kind).glob("*.md") if page.stem != "index")


def test_every_how_to_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert [
        page.name for page in (DOCS / "how-to").glob("*.md") if f"docs/how-to/{page.name}" not in readme
    ] == []


def test_every_public_name_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "qanat.md").read_text("utf-8")
    shown = re.findall(r"^::: qanat\.(\w+)$", page, re.MULTILINE)
    elsewhere = {"Event", "errors", *(name for name in qanat.__all__ if hasattr(errors, name))}
    assert sorted(shown) == sorted(set(qanat.__all__) - elsewhere)


def test_no_option_of_the_reference_is_given_twice() -> None:
    """YAML keeps the last of them, and says nothing."""
    for page in sorted((DOCS / "reference").glob("*.md")):
        for block in re.split(r"^::: ", page.read_text("utf-8"), flags=re.MULTILINE):
            options = re.findall(r"^ {6}(\w+):", block, re.MULTILINE)
            assert len(options) == len(set(options)), f"{page.name}: {block}"


@pytest.mark.parametrize("page", ["README.md", "docs/reference/rules.md"])
def test_every_rule_is_in_the_tables(page: str) -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / page).read_text("utf-8"), re.MULTILINE)
    named = re.findall(r"`(\w+)`", " ".join(rows))
    assert [rule.name for rule in fields(qanat.Rules) if named.count(rule.name) != 1] == []


def test_decisions_are_newest_first_and_told_once() -> None:
    text = (DOCS / "explanation" / "decisions.md").read_text("utf-8").partition("```\n")[2]
    titles = re.findall(r"^## (\d{4}-\d\d-\d\d): (.*)$", text, re.MULTILINE)
    assert [date for date, _ in titles] == sorted((date for date, _ in titles), reverse=True)
    assert len({title for _, title in titles}) == len(titles) > 0
