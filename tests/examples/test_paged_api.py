"""`examples/paged_api.py`: pages and summaries, within a budget that an API counts as well."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.examples.scripts import run_example

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def figures(text: str) -> tuple[int, int, int, int]:
    """Return the most requests and tokens of a window, and how many were refused, of how many."""
    found = re.search(
        r"at most (\d+) requests and ([\d,]+) tokens in a window\nand refused (\d+) of (\d+)", text
    )
    assert found is not None, text
    requests, tokens, refused, asked = (int(each.replace(",", "")) for each in found.groups())
    return requests, tokens, refused, asked


def test_every_document_is_summed_up_within_the_budget(tmp_path: Path) -> None:
    ran = run_example("paged_api.py", where=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[:4] == [
        *(f"{number}: Document {number} in short." for number in range(3)),
        "40 documents of 4 pages summed up",
    ]
    assert lines[4].startswith("44 of 44 done in ")
    assert lines[5] == "4 retried"  # 5, 16, 27 and 38 fail once
    requests, tokens, refused, asked = figures(ran.stdout)
    assert requests <= 30
    assert 2_800 < tokens <= 4_000  # estimates alone would allow 14 summaries, 2,660 tokens
    assert asked == 48 + refused
    assert refused <= 2  # the API's windows begin when it likes, so one at a border may be too early


def test_a_429_is_waited_for_when_others_use_the_api(tmp_path: Path) -> None:
    ran = run_example("paged_api.py", "--others", "24", "--documents", "11", where=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "11 documents of 2 pages summed up" in ran.stdout
    requests, _tokens, refused, asked = figures(ran.stdout)
    assert requests == 6
    assert refused >= 1
    assert asked == 14 + refused


@pytest.mark.parametrize(("documents", "pages"), [("0", 1), ("10", 1)])
def test_few_documents(documents: str, pages: int, tmp_path: Path) -> None:
    ran = run_example("paged_api.py", "--documents", documents, where=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"{documents} documents of {pages} pages summed up" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--documents", "-1"], "--documents must be at least 0, got -1"),
        (["--others", "30"], "--others must be from 0 to 29, got 30"),
        (["--others", "many"], "invalid int value: 'many'"),
    ],
    ids=["documents", "others", "text"],
)
def test_wrong_calls_are_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    ran = run_example("paged_api.py", *arguments, where=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert message in ran.stderr
