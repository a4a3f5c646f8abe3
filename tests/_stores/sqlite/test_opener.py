"""Opening SQLite files: what is refused, what is made, and what stays true while several use one."""

from __future__ import annotations

import ctypes
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qanat._stores.sqlite import opener, paths
from qanat._stores.sqlite.opener import Kind, Older, open_database
from qanat.errors import JournalError, StoreError, StoreForked, StoreFull, StoreUnavailable, StoreVersionError

KIND = Kind(
    "journal",
    0x71616E31,
    1,
    ("CREATE TABLE things(name TEXT PRIMARY KEY, value BLOB)",),
    refused=JournalError,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def put(database: opener.Database, *names: str, value: bytes = b"") -> None:
    with database.transaction() as connection:
        connection.executemany("INSERT INTO things VALUES(?, ?)", [(name, value) for name in names])


def names(database: opener.Database) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM things ORDER BY name")]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_whole(path: Path) -> bool:
    connection = sqlite3.connect(path)
    try:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))
    finally:
        connection.close()


# --- making and finding ----------------------------------------------------------------------


def test_file_is_made_for_its_owner_alone(path, monkeypatch):
    before = os.umask(0)
    try:
        database = open_database(path, KIND)
        put(database, "a")
    finally:
        os.umask(before)
    assert database.made
    assert [mode(each) for each in sorted(path.parent.iterdir())] == [0o600] * 3
    database.close()


def test_directory_is_synced_when_file_is_made(path, monkeypatch):
    synced: list[Path] = []
    monkeypatch.setattr(paths, "sync_directory", synced.append)
    open_database(path, KIND).close()
    open_database(path, KIND).close()
    assert synced == [path.parent]


def test_what_was_committed_is_found_again(path):
    database = open_database(path, KIND)
    put(database, "a", "b")
    database.close()
    again = open_database(path, KIND)
    assert not again.made
    assert names(again) == ["a", "b"]
    again.close()


def test_connection_is_set_up_for_durability(path):
    database = open_database(path, KIND)
    asked = ("journal_mode", "synchronous", "trusted_schema", "wal_autocheckpoint", "journal_size_limit")
    found = [database.execute(f"PRAGMA {name}").fetchone()[0] for name in asked]
    assert found == ["wal", 2, 0, 0, opener.KEPT_LOG]
    database.close()
    normal = open_database(path, KIND, synchronous="NORMAL")
    assert normal.execute("PRAGMA synchronous").fetchone() == (1,)
    normal.close()


def test_file_without_its_log_is_a_whole_store(path, tmp_path):
    database = open_database(path, KIND)
    put(database, "a")
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "run.db").write_bytes(path.read_bytes())
    database.close()
    again = open_database(copy / "run.db", KIND)
    assert names(again) == []
    again.close()


def test_empty_file_becomes_a_store(path):
    path.touch(0o600)
    database = open_database(path, KIND)
    put(database, "a")
    database.close()


def test_file_that_was_deleted_beside_its_log_is_not_made_anew(path):
    database = open_database(path, KIND)
    put(database, "a")
    log = path.with_name("run.db-wal").read_bytes()
    database.close()
    path.unlink()
    path.with_name("run.db-wal").write_bytes(log)
    with pytest.raises(JournalError, match="is missing or empty, but its log run.db-wal is there"):
        open_database(path, KIND)
    assert path.with_name("run.db-wal").read_bytes() == log
    assert not path.exists()


# --- what is refused -------------------------------------------------------------------------


def test_symbolic_link_is_refused(path, tmp_path):
    open_database(tmp_path / "real.db", KIND).close()
    path.symlink_to(tmp_path / "real.db")
    with pytest.raises(JournalError, match="is a symbolic link: name the file"):
        open_database(path, KIND)


@pytest.mark.parametrize("side", paths.SIDES)
def test_symbolic_link_beside_the_file_is_refused(path, tmp_path, side):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    open_database(path, KIND).close()
    path.with_name(path.name + side).symlink_to(victim)
    with pytest.raises(JournalError, match=f"run.db{side} is a symbolic link"):
        open_database(path, KIND)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("side", paths.SIDES)
def test_name_of_what_lies_beside_a_database_is_refused(path, side):
    beside = path.with_name(path.name + side)
    with pytest.raises(JournalError, match=f"leave out '{side}'$"):
        open_database(beside, KIND)
    assert not beside.exists()


def test_what_is_no_file_is_refused(path, tmp_path):
    os.mkfifo(path)
    with pytest.raises(JournalError, match="must be a file, and is no regular file"):
        open_database(path, KIND)
    with pytest.raises(JournalError, match="must be a file, and is a directory"):
        open_database(tmp_path.parent / tmp_path.name, KIND)
    with pytest.raises(JournalError, match="must be the path of a file"):
        open_database("/", KIND)
    with pytest.raises(JournalError, match="there is no directory"):
        open_database(tmp_path / "no" / "run.db", KIND)


def test_file_of_another_user_is_refused(path, monkeypatch):
    open_database(path, KIND).close()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(JournalError, match="belongs to another user, number"):
        open_database(path, KIND)


def test_file_and_directory_that_everybody_may_write_are_refused(path):
    open_database(path, KIND).close()
    path.chmod(0o666)
    with pytest.raises(JournalError, match="may be written by everybody: take that away with chmod o-w"):
        open_database(path, KIND)
    path.chmod(0o600)
    path.parent.chmod(0o1777)
    with pytest.raises(JournalError, match="where everybody may put files: use a directory of your own"):
        open_database(path, KIND)


def test_file_system_of_another_machine_is_refused(path, monkeypatch):
    monkeypatch.setattr(paths, "file_system_of", lambda _directory: "NFS")
    with pytest.raises(JournalError, match="lies on NFS, a file system of another machine"):
        open_database(path, KIND)
    assert not path.exists()


def test_file_system_is_known_by_its_number(tmp_path, monkeypatch):
    assert paths.file_system_of(tmp_path) is None
    assert paths.file_system_of(tmp_path / "missing") is None

    class Remote:
        def statfs(self, _path: bytes, buffer: object) -> int:
            ctypes.c_long.from_buffer(buffer).value = 0xFF534D42  # type: ignore[arg-type]
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda *_args, **_options: Remote())
    assert paths.file_system_of(tmp_path) == "CIFS"
    monkeypatch.setattr(sys, "platform", "plan9")
    assert paths.file_system_of(tmp_path) is None


def test_text_file_is_refused_and_left_as_it_is(path):
    path.write_text("not a database\n" * 100)
    path.chmod(0o600)
    with pytest.raises(JournalError, match="is no database, or is damaged"):
        open_database(path, KIND)
    assert path.read_text() == "not a database\n" * 100


@pytest.mark.parametrize("log", [False, True])
def test_database_of_another_program_is_refused_and_left_as_it_is(path, log):
    foreign = sqlite3.connect(path)
    if log:
        foreign.execute("PRAGMA journal_mode=WAL")
    foreign.execute("CREATE TABLE precious(a)")
    foreign.commit()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="is a database of another program and no journal of qanat"):
        open_database(path, KIND)
    assert path.read_bytes() == before
    foreign.close()


def test_newer_version_is_refused_and_left_as_it_is(path):
    newer = Kind(KIND.name, KIND.application_id, 2, KIND.schema, refused=JournalError)
    open_database(path, newer).close()
    before = path.read_bytes()
    with pytest.raises(StoreVersionError, match="as a journal of version 2 where this one knows up to 1"):
        open_database(path, KIND)
    assert path.read_bytes() == before
    with pytest.raises(JournalError, match="of version 2, which no journal ever had"):
        open_database(path, Kind(KIND.name, KIND.application_id, 3, KIND.schema, refused=JournalError))


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("CREATE TRIGGER evil AFTER INSERT ON things BEGIN DELETE FROM things; END", "'evil' in its schema"),
        ("CREATE VIEW evil AS SELECT load_extension('evil')", "'evil' in its schema"),
        ("ALTER TABLE things ADD COLUMN more TEXT", "other tables"),
    ],
)
def test_schema_that_is_not_ours_is_refused(path, statement, what):
    open_database(path, KIND).close()
    tampering = sqlite3.connect(path)
    tampering.execute(statement)
    tampering.commit()
    tampering.close()
    with pytest.raises(JournalError, match=f"as it has {what}"):
        open_database(path, KIND)


def test_damaged_page_is_refused(path):
    database = open_database(path, KIND)
    put(database, *map(str, range(2000)))
    database.close()
    damaged = bytearray(path.read_bytes())
    damaged[4096:] = b"\xff" * (len(damaged) - 4096)
    path.write_bytes(damaged)
    database = open_database(path, KIND)
    with pytest.raises(JournalError, match="is no database, or is damaged"):
        names(database)
    database.close()
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("length", [1, 50, 100, 4095])
def test_torn_file_is_refused(path, length):
    open_database(path, KIND).close()
    torn = path.read_bytes()[:length]
    path.write_bytes(torn)
    with pytest.raises((JournalError, StoreUnavailable)):
        open_database(path, KIND)
    assert path.read_bytes() == torn


def test_old_library_is_refused(path, monkeypatch):
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 30, 1))
    with pytest.raises(StoreError, match=r"SQLite must be 3\.31 or newer"):
        open_database(path, KIND)


def test_race_of_checkpoints_is_told_once(path, monkeypatch, caplog):
    monkeypatch.setattr(opener._once, "told", False)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 2))
    with caplog.at_level(logging.INFO, "qanat"):
        open_database(path, KIND).close()
        open_database(path, KIND).close()
    assert [
        record.levelname for record in caplog.records if "race between checkpoints" in record.message
    ] == ["INFO"]


def test_file_that_cannot_be_made_is_told(path, monkeypatch):
    def refuse(_place: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(opener, "make_file", refuse)
    with pytest.raises(StoreUnavailable, match="cannot be opened: Permission denied"):
        open_database(path, KIND)


def test_name_with_signs_of_an_address_is_a_name(tmp_path):
    path = tmp_path / "50%?mode=memory#1.db"
    open_database(path, KIND).close()
    assert path.exists()


# --- transactions ----------------------------------------------------------------------------


def test_transaction_that_raises_changes_nothing(path):
    database = open_database(path, KIND)
    with pytest.raises(ZeroDivisionError), database.transaction() as connection:
        connection.execute("INSERT INTO things VALUES('a', NULL)")
        _ = 1 / 0
    with pytest.raises(JournalError, match="UNIQUE constraint failed"):
        put(database, "b", "b")
    assert names(database) == []
    put(database, "c")
    assert names(database) == ["c"]
    database.close()


def test_locked_file_is_told_after_the_patience(path):
    one, other = open_database(path, KIND), open_database(path, KIND, patience=0.05)
    with (
        one.transaction(),
        pytest.raises(StoreUnavailable, match="is locked: another process has written to it"),
    ):
        put(other, "a")
    put(other, "a")
    one.close()
    other.close()


def test_full_file_is_told_and_can_still_be_used(path):
    database = open_database(path, KIND)
    put(database, "a", value=b"x" * 50_000)
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreFull, match="cannot grow: database or disk is full; what it held it still holds"):
        put(database, "b", value=b"x" * 50_000)
    assert names(database) == ["a"]
    with database.transaction() as connection:
        connection.execute("DELETE FROM things")
    put(database, "b", value=b"x" * 40_000)
    database.close()
    assert is_whole(path)


def test_single_change_is_a_step_of_its_own(path):
    database = open_database(path, KIND, patience=0.1)
    assert database.change("INSERT INTO things SELECT 'a' || key, value FROM json_each('[1, 2]')") == 2
    with pytest.raises(JournalError, match="UNIQUE"):
        database.change("INSERT INTO things SELECT 'a' || (2 - key), value FROM json_each('[1, 2, 3]')")
    other = open_database(path, KIND, patience=0.1)
    assert names(other) == ["a0", "a1"]
    with other.transaction(), pytest.raises(StoreUnavailable):
        database.change("INSERT INTO things VALUES('b', 1)")
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StoreFull):
        database.change("INSERT INTO things SELECT 'c' || key, zeroblob(5000) FROM json_each('[1, 2, 3]')")
    assert database.change("INSERT INTO things VALUES('b', 1)") == 3
    assert names(other) == ["a0", "a1", "b"]
    database.close()
    other.close()
    assert is_whole(path)


def newer_kind() -> Kind:
    def renew(connection: sqlite3.Connection) -> None:
        connection.execute("CREATE TABLE more(name TEXT)")
        connection.execute("INSERT INTO more SELECT name FROM things")

    schema = (*KIND.schema, "CREATE TABLE more(name TEXT)")
    return Kind("journal", KIND.application_id, 2, schema, JournalError, {1: Older(KIND.schema, renew)})


def test_older_version_is_brought_over_by_whoever_opens_it_first(path):
    database = open_database(path, KIND)
    put(database, "a", "b")
    database.close()
    opened: list[list[tuple[str]]] = []

    def use() -> None:
        found = open_database(path, newer_kind())
        opened.append(found.execute("SELECT name FROM more").fetchall())
        found.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == [[("a",), ("b",)]] * 4
    with pytest.raises(StoreVersionError, match="newer qanat"):
        open_database(path, KIND)


def test_older_version_that_cannot_be_brought_over_stays_as_it_is(path):
    open_database(path, KIND).close()
    full = Kind(
        "journal", KIND.application_id, 2, newer_kind().schema, JournalError,
        {1: Older(KIND.schema, lambda connection: connection.execute("INSERT INTO absent VALUES(1)"))},
    )  # fmt: skip
    with pytest.raises(JournalError, match="no such table"):
        open_database(path, full)
    database = open_database(path, KIND)
    put(database, "a")
    assert names(database) == ["a"]
    database.close()


def test_closed_database_says_so(path):
    database = open_database(path, KIND)
    database.close()
    database.close()
    with pytest.raises(StoreError, match="is closed"):
        names(database)


def test_wrong_statement_is_told(path):
    database = open_database(path, KIND)
    with pytest.raises(JournalError, match="no such table: missing"):
        database.execute("SELECT a FROM missing")
    database.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_is_refused_and_harms_nothing(path):
    database = open_database(path, KIND)
    put(database, "a")
    child = os.fork()
    if child == 0:
        try:
            names(database)
        except StoreForked:
            database.close()
            again = open_database(path, KIND)
            put(again, "b")
            again.close()
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert names(database) == ["a", "b"]
    database.close()
    assert is_whole(path)


# --- the log ---------------------------------------------------------------------------------


def test_log_is_brought_into_the_file_and_does_not_grow_for_ever(path, monkeypatch):
    monkeypatch.setattr(opener, "MOST_CHANGES", 50)
    database = open_database(path, KIND)
    sizes = []
    for number in range(400):
        put(database, str(number), value=b"x" * 100)
        sizes.append(path.with_name("run.db-wal").stat().st_size)
    assert max(sizes) < 2**20
    assert path.stat().st_size > 40_000
    assert database.checkpoint()
    database.close()


def test_long_reader_lets_the_log_grow_and_is_told_of_once(path, monkeypatch, caplog):
    monkeypatch.setattr(opener, "MOST_GROWTH", 2**16)
    monkeypatch.setattr(opener, "LARGE_LOG", 2**18)
    monkeypatch.setattr(opener, "KEPT_LOG", 2**14)
    database, reader = open_database(path, KIND), open_database(path, KIND)
    put(database, "first")
    cursor = reader.execute("SELECT name FROM things UNION ALL SELECT 'end'")
    cursor.fetchone()
    for number in range(20):
        put(database, str(number), value=b"x" * 50_000)
    assert not database.checkpoint()
    log = path.with_name("run.db-wal")
    assert log.stat().st_size > 2**18
    told = [record for record in caplog.records if "somebody has been reading" in record.message]
    assert len(told) == 1
    cursor.close()
    assert database.checkpoint()
    put(database, "last")
    assert log.stat().st_size <= 2**14 + 2**13
    reader.close()
    database.close()


def test_checkpoint_waits_for_no_writer_and_is_tried_again(path, monkeypatch):
    monkeypatch.setattr(opener, "MOST_CHANGES", 1)
    one, other = open_database(path, KIND, patience=0.0), open_database(path, KIND, patience=0.0)
    put(one, "a")
    with other.transaction(), pytest.raises(StoreUnavailable):
        one.checkpoint()
    one.close()
    other.close()


STORM = """
import sys, threading
from pathlib import Path
from qanat._stores.sqlite import opener
from tests._stores.sqlite.test_opener import KIND, put
opener.MOST_CHANGES = 2
def work(name):
    database = opener.open_database(sys.argv[1], KIND, patience=60.0, synchronous="NORMAL")
    for number in range(int(sys.argv[3])):
        put(database, f"{sys.argv[2]}-{name}-{number}", value=b"x" * (number % 7) * 1000)
        if number % 25 == 24:
            database.close()
            database = opener.open_database(sys.argv[1], KIND, patience=60.0, synchronous="NORMAL")
    database.close()
threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.real
def test_storm_of_checkpoints_damages_nothing(path):
    """Four processes with two connections each commit and make checkpoints all the while."""
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])}
    children = [
        subprocess.Popen([sys.executable, "-c", STORM, str(path), str(each), "100"], env=environment)
        for each in range(4)
    ]
    assert [child.wait(50) for child in children] == [0] * 4
    database = open_database(path, KIND)
    assert len(names(database)) == 800
    database.close()
    assert is_whole(path)


@pytest.mark.slow
def test_many_that_make_the_same_file_at_once_find_it_whole(path):
    problems: list[BaseException] = []
    barrier = threading.Barrier(8)

    def work(name: int) -> None:
        try:
            barrier.wait()
            database = open_database(path, KIND)
            put(database, str(name))
            database.close()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    database = open_database(path, KIND)
    assert len(names(database)) == 8
    database.close()
