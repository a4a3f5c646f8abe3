"""Every example that the documentation shows does what the page says."""

import os
from pathlib import Path

import pytest

from tests.docs.examples import pages, read_blocks, run_python, run_sessions

ROOT = Path(__file__).parents[2]
PAGES = {str(page.relative_to(ROOT)): read_blocks(page) for page in pages(ROOT)}
PYTHON = [page for page, blocks in PAGES.items() if any(block.language == "python" for block in blocks)]
SESSIONS = [page for page, blocks in PAGES.items() if any(block.is_session for block in blocks)]


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON)
def test_python_on_page_does_what_it_shows(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_python(PAGES[page], monkeypatch)


@pytest.mark.real
@pytest.mark.skipif(os.name == "nt", reason="the commands are written for a POSIX shell")
@pytest.mark.parametrize("page", SESSIONS)
def test_commands_on_page_print_what_it_shows(page: str, tmp_path: Path) -> None:
    run_sessions(PAGES[page], tmp_path)
