"""What is found of real files."""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from pathlib import Path

import pytest

from qanat._stores.sqlite.paths import VOLATILE, file_system_number
from qanat._stores.sqlite.store import SqliteStore


def verdicts(store: SqliteStore, *, thorough: bool = False) -> dict[str, str]:
    return {finding.name: finding.verdict for finding in store.examine(thorough=thorough)}


def test_a_new_file_breaks_no_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Where tests lie is not what is tested here.
    monkeypatch.delitem(VOLATILE, 0x01021994)
    store = SqliteStore(tmp_path / "work.db")
    findings = {finding.name: finding for finding in store.examine(thorough=True)}
    store.close()
    assert all(finding.ok for finding in findings.values())
    assert findings["durability"].read == "journal_mode wal, synchronous FULL"
    assert findings["library"].read == f"SQLite {sqlite3.sqlite_version}"
    assert findings["file"].verdict == "ok"


def test_less_synchronous_is_told(tmp_path: Path):
    store = SqliteStore(tmp_path / "work.db", synchronous="NORMAL")
    assert verdicts(store)["durability"] == "advice"
    store.close()


def test_a_file_that_others_may_read_is_told(tmp_path: Path):
    store = SqliteStore(tmp_path / "work.db")
    os.chmod(tmp_path / "work.db", 0o644)  # noqa: PTH101
    assert verdicts(store)["access"] == "advice"
    store.close()


def test_a_damaged_file_is_told(tmp_path: Path):
    path = tmp_path / "work.db"
    SqliteStore(path).close()
    data = bytearray(path.read_bytes())
    # The kind of the last page, which nothing reads before somebody looks.
    data[-4096] = 0xFF
    path.write_bytes(data)
    store = SqliteStore(path)
    assert "file" not in verdicts(store)
    assert verdicts(store, thorough=True)["file"] == "broken"
    store.close()


SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, if there is one


@pytest.mark.skipif(
    sys.platform != "linux" or file_system_number(SHARED_MEMORY) != 0x01021994, reason="no tmpfs here"
)
def test_a_file_in_memory_promises_no_more_than_the_process():
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY) as directory:
        store = SqliteStore(Path(directory, "work.db"))
        assert store.guarantees() == "process"
        assert verdicts(store)["file system"] == "broken"
        store.close()
