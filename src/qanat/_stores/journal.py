"""The journal: an SQLite file of finished jobs by the keys of their items.

A row is of one handler (its name and version) and one key, and says how that job ended last. A job that
is done stays as it is; one that failed is replaced by what came of it later. Values are JSON.

This is what a courier asks for deeds; the engine's keeper knows them by these names:

    look    for each key: None, or what is kept of it
    keep    commits what ended; answers None to each
    forget  drops what is kept of this handler, or of the one that is named; answers how many

A key is of this handler, or comes in a pair behind the name of another one of the same version, as a run
may spawn jobs of several. What a job spawned lies beside its value, in the same row: so both are there or
neither. A row of such a job is replaced when its handler was called again all the same.

What must stay true:

- **What was committed before a look is found by it**, whoever committed it: in `known`, or among the rows
  behind `filed` (see `journal_file`), of which a connection has the keys in memory. A look first asks for
  the last row there is, and gets to know those that others have added.
- **What is in memory stays small.** Once there are enough rows behind `filed`, they are filed.
- **A batch is one step of SQLite, or a few.** SQLite is stepped without Python's lock, which each step may
  wait 5 ms for when the loop is busy. So what goes in is one parameter for all rows, taken apart by
  SQLite, and what is found comes out as one row.
"""

from __future__ import annotations

from itertools import accumulate
from operator import add
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import msgspec

from qanat._core.kept import DONE, FAILED, Kept
from qanat._stores.journal_file import KIND, as_doubles, file_rows, from_doubles
from qanat._stores.sqlite.opener import open_database

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence
    from sqlite3 import Connection

Key: TypeAlias = "bytes | tuple[str, bytes]"

Row: TypeAlias = "tuple[Key, int, int, float, bytes | None, bytes, int | None]"
"""Key, state, attempts, seconds in the handler, what it spawned, value, and the row that it replaces."""

PATIENCE: Final = 30.0
"""Seconds to wait for another run that writes to the same journal."""

FEW: Final = 32_768
"""Rows that are not filed before that is worth it, however short the file is."""
MANY: Final = 65_536
"""Rows that are not filed at most, however long it is: some 10 MB of keys in memory."""

LARGE: Final = 16 * 2**10
"""Bytes of a value beyond which it is fetched by itself: a batch is in memory as a whole."""

_KEY: Final = 16
_SIZE_BITS: Final = 27
_SIZES: Final = 2**_SIZE_BITS
"""Bytes of the values of a batch, all together, that fit with the rest into a number of 63 bits."""
_MOST_ATTEMPTS: Final = 127

_COLUMNS: Final = "jobs(handler, key, state, attempts, ran, spawned, value)"
# A row is one number: where its value begins, how long it is, its attempts and its state.
_PLACE: Final = f"1+(value>>{9 + _SIZE_BITS})"
_SIZE: Final = f"value>>9&{_SIZES - 1}"
_KEEP: Final = (
    f"INSERT INTO {_COLUMNS} SELECT ?1, "  # noqa: S608 - constants alone, here and below
    f"substr(?2, 1+{_KEY}*key, {_KEY}), value&3, value>>2&{_MOST_ATTEMPTS}, "
    "substr(?3, 1+8*key, 8), {}, substr(?4, {}, {}) FROM json_each(?5)"
)
_KEEP_PLAIN: Final = _KEEP.format("NULL", _PLACE, _SIZE)
# What a job spawned lies in front of its value; how long it is, is said in ten digits.
_FRONT: Final = "CAST(CAST(substr(?6, 1+10*key, 10) AS TEXT) AS INTEGER)"
_KEEP_TREES: Final = _KEEP.format(
    f"CASE WHEN {_FRONT} THEN substr(?4, {_PLACE}, {_FRONT}) END",
    f"{_PLACE}+{_FRONT}",
    f"({_SIZE})-{_FRONT}",
)
_KEEP_ONE: Final = f"INSERT INTO {_COLUMNS} VALUES(?, ?, ?, ?, ?, ?, ?)"
_REPLACE: Final = (
    "DELETE FROM jobs WHERE id IN (SELECT value FROM json_each(?1)) "  # noqa: S608
    f"AND (state={FAILED:d} OR id IN (SELECT value FROM json_each(?2)))"
)

_FORGET: Final = (
    "DELETE FROM jobs WHERE id IN (SELECT job FROM known WHERE handler=?) "
    "OR (id>coalesce((SELECT max(upto) FROM filed), 0) AND handler=?)"
)

_END: Final = "SELECT coalesce((SELECT max(id) FROM jobs), 0), coalesce((SELECT max(upto) FROM filed), 0)"
_BEHIND: Final = (
    "SELECT json_group_array(id<<2|state), CAST(coalesce(group_concat(key, ''), '') AS BLOB) "
    "FROM (SELECT id, state, key FROM jobs WHERE id>? AND handler=? ORDER BY id)"
)
_FOUND: Final = (
    "SELECT "  # noqa: S608
    "json_group_array(json_array(each.key, jobs.id, state, attempts, length(jobs.value), hex(spawned))), "
    "CAST(coalesce(group_concat(ran, ''), '') AS BLOB), CAST(coalesce(group_concat("
    f"CASE WHEN length(jobs.value)>{LARGE} THEN x'' ELSE jobs.value END, ''), '') AS BLOB) FROM "
)
_FIND_ROWS: Final = _FOUND + "json_each(?) AS each CROSS JOIN jobs ON jobs.id=each.value"
_FIND_KEYS: Final = _FOUND + (
    "json_each(?2) AS each CROSS JOIN known ON known.handler=?1 AND known.key=substr(?3, 1+16*each.key, 16) "
    "CROSS JOIN jobs ON jobs.id=known.job"
)

_encode = msgspec.json.Encoder().encode
_decode_numbers = msgspec.json.Decoder(list[int]).decode
_decode_found = msgspec.json.Decoder(list[tuple[int, int, int, int, int, str]]).decode


class _Behind:
    """The rows of one handler that are not filed, by their keys.

    Attributes:
        handler: Its number.
        seen: The last row that there was when this one was looked for last.
        rows: For each key the number of its row, and how that job ended.
    """

    __slots__ = ("handler", "rows", "seen")

    def __init__(self, handler: int, seen: int) -> None:
        self.handler = handler
        self.seen = seen
        self.rows: dict[bytes, int] = {}

    def add(self, keys: Sequence[bytes], numbers: Sequence[int]) -> None:
        """Take rows in; of several of one key the last that is done counts, or else the last."""
        rows = self.rows
        for key, number in zip(keys, numbers, strict=True):
            if number & 3 != FAILED or rows.get(key, FAILED) & 3 == FAILED:
                rows[key] = number


class JournalConnection:
    """A connection to a journal, for the jobs of one handler.

    Args:
        path: The file; it is made if there is none.
        handler: The handler's name.
        version: Of the handler.
    """

    def __init__(
        self, path: str | os.PathLike[str], handler: str, version: str, *, patience: float = PATIENCE
    ) -> None:
        """Open the file.

        Raises:
            JournalError: If it is no journal, is damaged, or lies where others may write.
            StoreError: If a newer version made it, it cannot be written, or has no room.
        """
        self._database = open_database(path, KIND, patience=patience)
        self._deeds: dict[str, Callable[[list[Any]], list[Any]]] = {
            "look": self._look, "keep": self._keep, "forget": self._forget,
        }  # fmt: skip
        self._version = version
        self._filed = 0
        self._behind: dict[str | None, _Behind] = {}
        try:
            self._behind[None] = _Behind(self._id_of(handler), 0)
        except BaseException:
            self._database.close()
            raise

    def _id_of(self, handler: str) -> int:
        """Return the number of a handler, which it is given if it has none."""
        named = (handler, self._version)
        with self._database.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO handlers(name, version) VALUES(?, ?)", named)
            number: int = connection.execute(
                "SELECT id FROM handlers WHERE name=? AND version=?", named
            ).fetchone()[0]
        return number

    def _of(self, name: str | None) -> _Behind:
        """Return the rows of a handler of this version that are not filed; None is the run's own."""
        behind = self._behind.get(name)
        if behind is None:
            assert name is not None  # noqa: S101 - that one is there from the beginning
            behind = self._behind[name] = _Behind(self._id_of(name), 0)
        return behind

    def do(self, deed: str, asked: list[Any]) -> list[Any]:
        """Carry out one deed for a batch."""
        return self._deeds[deed](asked)

    def close(self) -> None:
        """Let the file go."""
        self._database.close()

    # --- looking ---------------------------------------------------------------------------

    def _look(self, asked: list[Key]) -> list[Kept | None]:
        if not asked:
            return []
        others = {key[0] for key in asked if type(key) is tuple}
        if not others:
            return self._found(self._of(None), cast("list[bytes]", asked))
        found: list[Kept | None] = [None] * len(asked)
        for name in (None, *others):
            places = [
                place for place, key in enumerate(asked) if (key[0] if type(key) is tuple else None) == name
            ]
            keys = [cast("bytes", asked[place] if name is None else asked[place][1]) for place in places]
            for place, kept in zip(places, self._found(self._of(name), keys), strict=True):
                found[place] = kept
        return found

    def _found(self, behind: _Behind, keys: list[bytes]) -> list[Kept | None]:
        """Return what is kept of jobs of one handler."""
        self._catch_up(behind)
        found: list[Kept | None] = [None] * len(keys)
        rows = behind.rows
        if not self._filed and rows.keys().isdisjoint(keys):
            return found
        numbers = [rows.get(key) for key in keys]
        here = [place for place, number in enumerate(numbers) if number is not None]
        if here:
            ids = [cast("int", numbers[place]) >> 2 for place in here]
            self._fetch(found, here, _FIND_ROWS, (_encode(ids).decode(),))
        if self._filed:
            # One that failed at last may have been done before, by another run.
            there = [place for place, kept in enumerate(found) if kept is None or kept.state == FAILED]
            wanted = b"".join([keys[place] for place in there])
            zeros = _encode([0] * len(there)).decode()
            self._fetch(found, there, _FIND_KEYS, (behind.handler, zeros, wanted))
        return found

    def _fetch(
        self, found: list[Kept | None], places: list[int], statement: str, parameters: tuple[Any, ...]
    ) -> None:
        """Read rows, and put what each says to its place, unless a later one is there that is as good."""
        facts, all_ran, values = self._database.execute(statement, parameters).fetchone()
        begin = 0
        for (each, number, state, attempts, size, spawned), ran in zip(
            _decode_found(facts), from_doubles(all_ran), strict=True
        ):
            if size > LARGE:
                (value,) = self._database.execute("SELECT value FROM jobs WHERE id=?", (number,)).fetchone()
            else:
                value = values[begin : begin + size]
                begin += size
            if state != FAILED or found[places[each]] is None:
                children = bytes.fromhex(spawned) if spawned else None
                found[places[each]] = Kept(state, attempts, ran, value, children, number)

    def _catch_up(self, behind: _Behind) -> None:
        """Get to know the rows that others have added, and those that were there before."""
        last, filed = self._database.execute(_END).fetchone()
        if filed != self._filed:
            self._forget_filed(filed)
        if last <= behind.seen:
            return
        if self._is_much(last):
            self._file()
            return
        begin = max(behind.seen, filed)
        numbers, keys = self._database.execute(_BEHIND, (begin, behind.handler)).fetchone()
        behind.add([keys[at : at + _KEY] for at in range(0, len(keys), _KEY)], _decode_numbers(numbers))
        behind.seen = last

    def _is_much(self, last: int) -> bool:
        """Whether it is time to file the rows up to the last one."""
        return last - self._filed >= min(max(FEW, self._filed // 4), MANY)

    def _file(self) -> None:
        """File all rows, so that none has to be kept in mind."""
        with self._database.transaction() as connection:
            filed = file_rows(connection)
        self._forget_filed(filed)

    def _forget_filed(self, filed: int) -> None:
        """Keep no rows in mind that are filed."""
        self._filed = filed
        for behind in self._behind.values():
            behind.rows = {key: number for key, number in behind.rows.items() if number >> 2 > filed}
            behind.seen = max(behind.seen, filed)

    # --- keeping ---------------------------------------------------------------------------

    def _keep(self, asked: list[Row]) -> list[None]:
        if not asked:
            return []
        own = self._of(None)
        keys, *_, replaced = zip(*asked, strict=True)
        parameters = (
            self._packed(own, asked) if set(map(type, keys)) == {bytes} and not any(replaced) else None
        )
        if parameters is not None:
            last = self._database.change(*parameters)
            self._kept(own, asked, last)
        else:
            last = self._keep_mixed(asked)
        if self._is_much(last):
            self._file()
        return [None] * len(asked)

    def _keep_mixed(self, asked: list[Row]) -> int:
        """Record what is of several handlers, or replaces rows; return the number of the last row."""
        own = [row for row in asked if type(row[0]) is bytes]
        replaced = [row for row in asked if row[6] is not None]
        parts = [(self._of(None), own)] if own else []
        for name in {row[0][0] for row in asked if type(row[0]) is tuple}:
            theirs = [(row[0][1], *row[1:]) for row in asked if type(row[0]) is tuple and row[0][0] == name]
            parts.append((self._of(name), cast("list[Row]", theirs)))
        ends: list[int] = []
        with self._database.transaction() as connection:
            if replaced:
                by_done = [row[6] for row in replaced if row[1] != FAILED]
                both = [row[6] for row in replaced]
                connection.execute(_REPLACE, (_encode(both).decode(), _encode(by_done).decode()))
            for behind, rows in parts:
                ends.append(self._insert(connection, behind, rows))
        for (behind, rows), end in zip(parts, ends, strict=True):
            self._kept(behind, rows, end)
        return ends[-1]

    def _insert(self, connection: Connection, behind: _Behind, rows: list[Row]) -> int:
        """Add rows of one handler; return the number of the last one."""
        statement = self._packed(behind, rows)
        if statement is not None:
            return connection.execute(*statement).lastrowid or 0
        last = 0
        for key, state, attempts, ran, spawned, value, _ in rows:
            row = (behind.handler, key, state, attempts, as_doubles([ran]), spawned, value)
            last = connection.execute(_KEEP_ONE, row).lastrowid or 0
        return last

    def _kept(self, behind: _Behind, rows: list[Row], last: int) -> None:
        """Keep in mind what was added, if nobody has added anything in between: else a look finds it."""
        first = last - len(rows) + 1
        if behind.seen == first - 1:
            keys, states, *_ = zip(*rows, strict=True)
            if FAILED in states:
                behind.add(keys, [number << 2 | state for number, state in enumerate(states, first)])
            else:
                behind.rows.update(zip(keys, range(first << 2 | DONE, (last + 1) << 2, 4), strict=True))
            behind.seen = last

    def _packed(self, behind: _Behind, rows: list[Row]) -> tuple[str, tuple[Any, ...]] | None:
        """Return the statement that adds rows, and its parameters; None if they do not go in together."""
        keys, states, attempts, ran, spawned, values, _ = zip(*rows, strict=True)
        trees = any(each is not None for each in spawned)
        fronts = [each or b"" for each in spawned] if trees else []
        if trees:
            values = tuple(map(add, fronts, values))
        sizes = list(map(len, values))
        ends = list(accumulate(sizes))
        if ends[-1] >= _SIZES or max(attempts) > _MOST_ATTEMPTS:
            return None
        numbers = [
            (end - size) << 9 + _SIZE_BITS | size << 9 | tries << 2 | state
            for end, size, tries, state in zip(ends, sizes, attempts, states, strict=True)
        ]
        parameters = (
            behind.handler, b"".join(keys), as_doubles(ran), b"".join(values), _encode(numbers).decode(),
        )  # fmt: skip
        if not trees:
            return _KEEP_PLAIN, parameters
        return _KEEP_TREES, (*parameters, b"".join([b"%010d" % len(each) for each in fronts]))

    def _forget(self, asked: list[str | None]) -> list[int]:
        gone: list[int] = []
        for name in asked:
            behind = self._of(name)
            with self._database.transaction() as connection:
                both = (behind.handler, behind.handler)
                gone.append(connection.execute(_FORGET, both).rowcount)
                connection.execute("DELETE FROM known WHERE handler=?", (behind.handler,))
            behind.rows = {}
        return gone
