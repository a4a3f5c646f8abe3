"""The journal's file: what was committed is found, by whoever, in whatever part of the file it lies."""

from __future__ import annotations

import random
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import astuple

from qanat._core.content_key import content_key
from qanat._core.kept import DONE, FAILED, PLAIN, Kept, Rows
from qanat._stores import journal as journal_module
from qanat._stores import journal_rows
from qanat._stores.journal import JournalConnection
from qanat._stores.journal_file import _FIRST, KIND
from qanat.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = [content_key(number) for number in range(200)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


@pytest.fixture(params=["few", "many"])
def filing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Rows are filed at once, or not within this test."""
    if request.param == "few":
        monkeypatch.setattr(journal_module, "FEW", 3)
    return str(request.param)


@pytest.fixture
def two(path: Path) -> Iterator[tuple[JournalConnection, JournalConnection]]:
    connections = JournalConnection(path, "h", ""), JournalConnection(path, "h", "")
    yield connections
    for connection in connections:
        connection.close()


def row(
    key: Any, value: bytes = b"1", *, state: int = DONE, attempts: int = 1, ran: float = 0.1,
    spawned: bytes | None = None, replaced: int | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    return key, state, attempts, ran, spawned, value, replaced


def keep(connection: JournalConnection, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    others = [(state, spawned, replaced) for _, state, _, _, spawned, _, replaced in rows]
    plain = set(others) == {PLAIN} and all(type(each[0]) is bytes for each in rows)
    together = Rows(
        [each[0] for each in rows], [each[5] for each in rows], [each[2] for each in rows],
        [each[3] for each in rows], None if plain else others,
    )  # fmt: skip
    assert connection.do("keep", [together]) == [None]


def look(connection: JournalConnection, *keys: Any) -> list[bytes | None]:
    return [None if kept is None else kept.value for kept in connection.do("look", list(keys))]


def rows_in(path: Path) -> int:
    file = sqlite3.connect(path)
    try:
        (number,) = file.execute("SELECT count(*) FROM jobs").fetchone()
    finally:
        file.close()
    return int(number)


VALUES = [
    b"", b"0", b'"\xc3\xa9\\u0000\xf0\x9f\x90\xab"', b"\x00\xff\x00", b"\xed\xa0\x80", b"[" + b"1," * 9000 + b"1]",
    b"x" * (journal_rows.LARGE + 1), b"x" * journal_rows.LARGE,
]  # fmt: skip


@pytest.mark.parametrize("spawned", [None, b"", b'{"spawned":[]}'])
def test_rows_are_found_as_they_were_kept(path, filing, spawned):
    rows = [
        row(
            key,
            value,
            state=1 + place % 2,
            attempts=place,
            ran=random.Random(place).random(),
            spawned=spawned,
        )
        for place, (key, value) in enumerate(zip(KEYS, VALUES, strict=False))
    ]
    first = JournalConnection(path, "h", "")
    keep(first, rows)
    found = [first.do("look", [each[0] for each in rows])]
    first.close()
    second = JournalConnection(path, "h", "")
    found.append(second.do("look", [each[0] for each in rows]))
    second.close()
    for kept in found:
        assert [astuple(each)[:5] for each in kept] == [
            (state, attempts, ran, value, spawned or None) for _, state, attempts, ran, _, value, _ in rows
        ]


def test_rows_with_numbers_that_are_too_large_are_kept_one_by_one(path, filing, monkeypatch):
    monkeypatch.setattr(journal_rows, "_SIZES", 10)
    connection = JournalConnection(path, "h", "")
    keep(connection, [row(KEYS[0], b"x" * 11), row(KEYS[1], b"2", spawned=b"{}")])
    keep(connection, [row(KEYS[2], b"3", attempts=1000), row(KEYS[3], b"4")])
    assert look(connection, *KEYS[:5]) == [b"x" * 11, b"2", b"3", b"4", None]
    assert connection.do("look", KEYS[1:3]) == [
        Kept(1, 1, 0.1, b"2", b"{}", 2),
        Kept(1, 1000, 0.1, b"3", None, 3),
    ]
    connection.close()


def test_what_another_run_commits_is_found(two, filing):
    first, second = two
    rng = random.Random(3)
    kept: dict[bytes, bytes] = {}
    for turn in range(60):
        connection = rng.choice(two)
        new = [key for key in rng.sample(KEYS, 5) if key not in kept]
        keep(connection, [row(key, b"%d" % turn) for key in new])
        kept.update(dict.fromkeys(new, b"%d" % turn))
        asked = rng.sample(KEYS, 30)
        assert look(rng.choice(two), *asked) == [kept.get(key) for key in asked]
    assert look(first, *KEYS) == look(second, *KEYS) == [kept.get(key) for key in KEYS]


def test_rows_in_mind_are_filed_when_they_are_many(path, monkeypatch):
    monkeypatch.setattr(journal_module, "FEW", 10)
    monkeypatch.setattr(journal_module, "MANY", 20)
    connection = JournalConnection(path, "h", "")
    in_mind: list[int] = []
    for key in KEYS:
        connection.do("look", [key])
        keep(connection, [row(key)])
        in_mind.append(len(connection._of(None).rows))
    assert max(in_mind[:30]) < 10
    assert max(in_mind) == 19
    connection.close()
    monkeypatch.setattr(journal_module, "MANY", 4)
    again = JournalConnection(path, "h", "")
    assert look(again, *KEYS) == [b"1"] * 200
    assert not again._of(None).rows
    again.close()


def test_rows_that_another_run_files_are_not_kept_in_mind(two, monkeypatch):
    first, second = two
    first.do("look", KEYS[:1])
    keep(first, [row(key) for key in KEYS[:9]])
    assert len(first._of(None).rows) == 9
    monkeypatch.setattr(journal_module, "FEW", 5)
    second.do("look", KEYS[:1])
    keep(second, [row(KEYS[9])])
    monkeypatch.undo()
    assert look(first, *KEYS[:11]) == [b"1"] * 10 + [None]
    assert len(first._of(None).rows) == 1


def test_one_that_failed_is_replaced(path, filing):
    connection = JournalConnection(path, "h", "")
    keep(connection, [row(key, b"no", state=FAILED) for key in KEYS[:4]])
    for value in (b"no again", b"yes"):
        found = connection.do("look", KEYS[:4])
        keep(
            connection,
            [
                row(key, value, state=FAILED if value != b"yes" else DONE, replaced=kept.row)
                for key, kept in zip(KEYS[:4], found, strict=True)
            ],
        )
        assert look(connection, *KEYS[:4]) == [value] * 4
    connection.close()
    assert rows_in(path) == 4
    again = JournalConnection(path, "h", "")
    assert look(again, *KEYS[:4]) == [b"yes"] * 4
    again.close()


def test_one_that_spawned_is_replaced_unless_it_fails_now(two, filing):
    first, second = two
    keep(first, [row(key, b"old", spawned=b"{}") for key in KEYS[:4]])
    (kept, also) = first.do("look", KEYS[:2])
    assert look(second, *KEYS[:2]) == [b"old", b"old"]
    keep(
        first,
        [row(KEYS[0], b"no", state=FAILED, replaced=kept.row), row(KEYS[1], b"new", replaced=also.row)],
    )
    for connection in two:
        assert look(connection, *KEYS[:3]) == [b"old", b"new", b"old"]


@pytest.mark.parametrize("done_first", [True, False])
def test_of_two_runs_the_one_that_did_it_counts(path, two, filing, done_first):
    states = (DONE, FAILED) if done_first else (FAILED, DONE)
    for connection in two:
        connection.do("look", [KEYS[0]])
    for connection, state in zip(two, states, strict=True):
        keep(connection, [row(KEYS[0], b"yes" if state == DONE else b"no", state=state)])
        keep(connection, [row(key) for key in (KEYS[1:5] if state == states[0] else KEYS[5:6])])
    third = JournalConnection(path, "h", "")
    for connection in (*two, third):
        assert look(connection, KEYS[0]) == [b"yes"]
    third.close()


def test_handlers_of_one_run_are_kept_apart(path, filing):
    connection = JournalConnection(path, "h", "")
    rows = [
        row(KEYS[0], b"own"),
        row(("a", KEYS[0]), b"a"),
        row(("b", KEYS[0]), b"b"),
        row(("a", KEYS[1]), b"c"),
    ]
    keep(connection, rows)
    asked = [("b", KEYS[0]), KEYS[0], KEYS[1], ("a", KEYS[1]), ("a", KEYS[0])]
    assert look(connection, *asked) == [b"b", b"own", None, b"c", b"a"]
    assert connection.do("forget", ["a"]) == [2]
    assert look(connection, *asked) == [b"b", b"own", None, None, None]
    keep(connection, [row(("a", KEYS[0]), b"new")])
    assert look(connection, *asked) == [b"b", b"own", None, None, b"new"]
    assert connection.do("forget", [None]) == [1]
    connection.close()
    again = JournalConnection(path, "h", "")
    assert look(again, *asked) == [b"b", None, None, None, b"new"]
    assert look(again) == []
    assert again.do("keep", []) == []
    again.close()


def test_what_was_forgotten_is_gone_for_other_runs_and_can_be_kept_again(two, filing):
    first, second = two
    keep(first, [row(key) for key in KEYS[:9]])
    assert look(second, KEYS[8]) == [b"1"]
    second.do("forget", [None])
    assert look(first, *KEYS[:9]) == [None] * 9
    keep(first, [row(KEYS[1], b"new")])
    assert look(second, *KEYS[:2]) == look(first, *KEYS[:2]) == [None, b"new"]


# --- files of the version before ---------------------------------------------------------------


def make_first(path: Path) -> None:
    """Make a journal as version 1 did."""
    file = sqlite3.connect(path)
    file.execute("PRAGMA journal_mode=WAL")
    file.execute(f"PRAGMA application_id={KIND.application_id}")
    file.execute("PRAGMA user_version=1")
    for statement in _FIRST:
        file.execute(statement)
    file.execute("INSERT INTO handlers(name, version) VALUES('h', '')")
    rows = [
        (KEYS[0], DONE, 2, 0.1, None, b"1"),
        (KEYS[1], FAILED, 3, 0.0, None, b'{"type":"E","message":""}'),
        (KEYS[2], DONE, 1, 1.5e-06, b'{"spawned":[],"left":{}}', b'"\xf0\x9f\x90\xab"'),
    ]
    file.executemany(
        "INSERT INTO jobs(handler, key, state, attempts, ran, ended_at, spawned, value) VALUES(1,?,?,?,?,9.0,?,?)",
        rows,
    )
    file.commit()
    file.close()


def test_file_of_version_1_is_brought_over(path):
    make_first(path)
    for _ in range(2):
        connection = JournalConnection(path, "h", "")
        assert [each and astuple(each)[:5] for each in connection.do("look", KEYS[:4])] == [
            (DONE, 2, 0.1, b"1", None),
            (FAILED, 3, 0.0, b'{"type":"E","message":""}', None),
            (DONE, 1, 1.5e-06, b'"\xf0\x9f\x90\xab"', b'{"spawned":[],"left":{}}'),
            None,
        ]
        connection.close()
    file = sqlite3.connect(path)
    assert file.execute("PRAGMA user_version").fetchone() == (2,)
    assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert {sql for (sql,) in file.execute("SELECT sql FROM sqlite_schema")} >= set(KIND.schema)
    file.close()


def test_file_that_only_says_to_be_of_version_1_is_refused_and_left(path):
    make_first(path)
    file = sqlite3.connect(path)
    file.execute("DROP INDEX jobs_by_key")
    file.close()
    with pytest.raises(JournalError, match="other tables"):
        JournalConnection(path, "h", "")
    file = sqlite3.connect(path)
    assert file.execute("PRAGMA user_version").fetchone() == (1,)
    file.close()
