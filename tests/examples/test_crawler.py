"""The crawler of the examples, killed in the middle and run again."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

EXAMPLES = Path(__file__).parents[2] / "examples"
PAGES = 60


class Visits:
    """What a site was asked for, and what it answered; it can be told to let requests wait."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.held: set[str] = set()
        self.most = 20
        self.goes_on = threading.Event()
        self._one_by_one = threading.Lock()

    def may_answer(self, page: str) -> bool:
        """Count a page as answered; or as held, once there were enough."""
        with self._one_by_one:
            if self.answered.total() >= self.most and not self.goes_on.is_set():
                self.held.add(page)
                return False
            self.answered[page] += 1
            return True


@pytest.mark.real
def test_crawler_that_is_killed_visits_every_page_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import servers

    visits = Visits()

    class Watched(servers.Site):
        def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
            page = f"{self.headers['Host'].partition(':')[0]}{self.path}"
            if self.path == "/robots.txt" or visits.may_answer(page):
                super().do_GET()
            else:
                # The crawler dies while it waits for this one, which so counts for nothing.
                visits.goes_on.wait(60)
                self.close_connection = True

    with servers.serving(Watched) as port:
        journal = tmp_path / "crawl.db"
        command = [sys.executable, str(EXAMPLES / "crawler.py"), "--pages", str(PAGES)]
        command += ["--journal", str(journal), "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            # Two at once of each host: all of them wait, and all that was answered is recorded.
            _wait(lambda: bool(visits.held) and _done(journal) == sum(visits.answered.values()))
        finally:
            process.kill()
            process.communicate(timeout=10)
        first = Counter(visits.answered)
        visits.goes_on.set()
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        again = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert sum(first.values()) >= visits.most
    assert set(visits.answered.values()) == {1}, "a page was visited in both runs"
    assert visits.held <= set(visits.answered)
    number = sum(visits.answered.values())
    assert f"{number} of {PAGES} done" in ran.stdout
    assert f"{sum(first.values())} taken from the journal" in ran.stdout
    assert f"{number} of {PAGES} done" in again.stdout
    assert f"{number} taken from the journal" in again.stdout


def _done(journal: Path) -> int:
    """Return how many pages are recorded as visited."""
    try:
        file = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
        try:
            (number,) = file.execute("SELECT count(*) FROM jobs WHERE state=1").fetchone()
        finally:
            file.close()
    except sqlite3.Error:
        return -1
    return int(number)


def _wait(holds: Callable[[], bool]) -> None:
    by = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < by, "the crawler never came so far"
        time.sleep(0.01)
