"""The journal: an SQLite file of finished jobs by the keys of their items.

A row is of one handler (its name and version) and one key, and says how that job ended last. A job that
is done stays as it is; one that failed is replaced by what came of it later. Values are JSON.

This is what a courier asks for deeds; the engine's keeper knows them by these names:

    look    for each key: None, or what is kept of it
    keep    commits what ended, which comes as `Rows`; answers None to each of these
    forget  drops what is kept of this handler, or of the one that is named; answers how many

A key is of this handler, or comes in a pair behind the name of another one of the same version, as a run
may spawn jobs of several. What a job spawned lies beside its value, in the same row: so both are there or
neither. A row of such a job is replaced when its handler was called again all the same.

What must stay true:

- **What was committed before a look is found by it**, whoever committed it: in `known`, or among the rows
  behind `filed` (see `journal_file`), of which a connection has the keys in memory. A look first asks for
  the last row there is, and gets to know those that others have added.
- **What is in memory stays small.** Once there are enough rows behind `filed`, they are filed.
- **A batch is one step of SQLite, or a few**: see `journal_rows`.
"""

from __future__ import annotations

from itertools import accumulate, repeat
from typing import TYPE_CHECKING, Any, Final, cast

from qanat._core.kept import DONE, FAILED, PLAIN, Kept, Rows
from qanat._stores.journal_file import KIND, as_doubles, file_rows, from_doubles
from qanat._stores.journal_rows import (
    FIND_KEYS,
    FIND_LARGE,
    FIND_PLAIN,
    FIND_ROWS,
    KEEP_ONE,
    KEY_SIZE,
    LARGE,
    LENGTH_BITS,
    LENGTHS,
    decode_numbers,
    encode,
    packed,
    part_of,
)  # fmt: skip
from qanat._stores.sqlite.opener import open_database

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from sqlite3 import Connection

    from qanat._core.kept import Key

PATIENCE: Final = 30.0
"""Seconds to wait for another run that writes to the same journal."""

FEW: Final = 32_768
"""Rows that are not filed before that is worth it, however short the file is."""
MANY: Final = 65_536
"""Rows that are not filed at most, however long it is: some 10 MB of keys in memory."""

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
    "SELECT json_group_array(id<<2|state), CAST(coalesce(group_concat(key, ''), '') AS BLOB), "  # noqa: S608
    f"coalesce(max(state={FAILED:d}), 0) "
    "FROM (SELECT id, state, key FROM jobs WHERE id>? AND handler=? ORDER BY id)"
)


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

    def add(self, keys: Iterable[bytes], numbers: Iterable[int], *, any_failed: bool) -> None:
        """Take rows in; of several of one key the last that is done counts, or else the last."""
        rows = self.rows
        if not any_failed:
            rows.update(zip(keys, numbers, strict=True))
            return
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
        rows = behind.rows
        numbers = list(map(rows.get, keys))
        found: list[Kept | None] = [None] * len(keys)
        if any(numbers):
            here = [place for place, number in enumerate(numbers) if number is not None]
            ids = [number >> 2 for number in numbers if number is not None]
            wanted = encode(ids).decode()
            plain = self._fetch_plain(ids, wanted)
            if plain is None:
                self._fetch(found, here, FIND_ROWS, (wanted,))
            elif len(plain) == len(keys):
                found = plain
            else:
                for place, kept in zip(here, plain, strict=True):
                    found[place] = kept
        if self._filed:
            # One that failed at last may have been done before, by another run.
            there = [place for place, kept in enumerate(found) if kept is None or kept.state == FAILED]
            if there:
                zeros = encode([0] * len(there)).decode()
                theirs = b"".join([keys[place] for place in there])
                self._fetch(found, there, FIND_KEYS, (behind.handler, zeros, theirs))
        return found

    def _fetch_plain(self, ids: list[int], wanted: str) -> list[Kept | None] | None:
        """Return what rows say; None if one is gone, spawned others, or has a large value."""
        read, all_ran, values, largest, spawned = self._database.execute(FIND_PLAIN, (wanted,)).fetchone()
        facts = decode_numbers(read)
        if spawned or len(facts) != len(ids) or largest > LARGE:
            return None
        sizes = [fact >> 2 & LENGTHS for fact in facts]
        return [
            Kept(fact & 3, fact >> 2 + LENGTH_BITS, ran, values[end - size : end], None, number)
            for number, fact, ran, size, end in zip(
                ids, facts, from_doubles(all_ran), sizes, accumulate(sizes), strict=True
            )
        ]

    def _fetch(
        self, found: list[Kept | None], places: list[int], statement: str, parameters: tuple[Any, ...]
    ) -> None:
        """Read rows, and put what each says to its place, unless a later one is there that is as good."""
        which, ids, facts, all_ran, values, trees = self._database.execute(statement, parameters).fetchone()
        numbers, found_facts = decode_numbers(ids), decode_numbers(facts)
        contents = self._cut(values, numbers, [fact >> 2 & LENGTHS for fact in found_facts])
        # Where nothing was spawned there are but commas.
        spawned = trees.split(",") if len(trees) >= len(numbers) else repeat("")
        for each, number, fact, ran, content, front in zip(  # noqa: B905 - the commas never end
            decode_numbers(which), numbers, found_facts, from_doubles(all_ran), contents, spawned
        ):
            place, state = places[cast("int", each)], fact & 3
            if content is not None and (state != FAILED or found[place] is None):
                children = bytes.fromhex(front) if front else None
                found[place] = Kept(state, fact >> 2 + LENGTH_BITS, ran, content, children, number)

    def _cut(self, values: bytes, numbers: list[int], sizes: list[int]) -> list[bytes | None]:
        """Return the values of rows, which were read in one piece but for large ones; None if one is gone."""
        if not sizes or max(sizes) <= LARGE:
            return [values[end - size : end] for end, size in zip(accumulate(sizes), sizes, strict=True)]
        contents: list[bytes | None] = []
        begin = 0
        for number, size in zip(numbers, sizes, strict=True):
            if size > LARGE:
                row = self._database.execute(FIND_LARGE, (number,)).fetchone()
                contents.append(None if row is None else row[0])
            else:
                contents.append(values[begin : begin + size])
                begin += size
        return contents

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
        numbers, keys, any_failed = self._database.execute(_BEHIND, (begin, behind.handler)).fetchone()
        single = [keys[at : at + KEY_SIZE] for at in range(0, len(keys), KEY_SIZE)]
        behind.add(single, decode_numbers(numbers), any_failed=bool(any_failed))
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

    def _keep(self, asked: list[Rows]) -> list[None]:
        for rows in asked:
            own = self._of(None)
            simply = rows.others is None or (
                set(map(type, rows.keys)) == {bytes} and not any(other[2] for other in rows.others)
            )
            statement = packed(own.handler, rows) if simply else None
            if statement is not None:
                last = self._database.change(*statement)
                self._kept(own, rows, last)
            else:
                last = self._keep_mixed(rows)
            if self._is_much(last):
                self._file()
        return [None] * len(asked)

    def _keep_mixed(self, rows: Rows) -> int:
        """Record what is of several handlers, or replaces rows; return the number of the last row."""
        places: dict[str | None, list[int]] = {}
        for place, key in enumerate(rows.keys):
            places.setdefault(key[0] if isinstance(key, tuple) else None, []).append(place)
        parts = [(self._of(name), part_of(rows, theirs)) for name, theirs in places.items()]
        replaced = [other for other in rows.others or () if other[2] is not None]
        ends: list[int] = []
        with self._database.transaction() as connection:
            if replaced:
                both = [row for _, _, row in replaced]
                by_done = [row for state, _, row in replaced if state != FAILED]
                connection.execute(_REPLACE, (encode(both).decode(), encode(by_done).decode()))
            for behind, part in parts:
                ends.append(self._insert(connection, behind, part))
        for (behind, part), end in zip(parts, ends, strict=True):
            self._kept(behind, part, end)
        return ends[-1]

    def _insert(self, connection: Connection, behind: _Behind, rows: Rows) -> int:
        """Add rows of one handler; return the number of the last one."""
        statement = packed(behind.handler, rows)
        if statement is not None:
            return connection.execute(*statement).lastrowid or 0
        last = 0
        keys, values, attempts, ran, others = rows
        for key, value, tries, seconds, (state, spawned, _) in zip(
            keys, values, attempts, ran, others or repeat(PLAIN, len(keys)), strict=True
        ):
            row = (behind.handler, key, state, tries, as_doubles([seconds]), spawned, value)
            last = connection.execute(KEEP_ONE, row).lastrowid or 0
        return last

    def _kept(self, behind: _Behind, rows: Rows, last: int) -> None:
        """Keep in mind what was added, if nobody has added anything in between: else a look finds it."""
        keys = cast("Sequence[bytes]", rows.keys)
        first = last - len(keys) + 1
        if behind.seen == first - 1:
            states = [DONE] if rows.others is None else [state for state, _, _ in rows.others]
            if FAILED in states:
                numbers = [number << 2 | state for number, state in enumerate(states, first)]
                behind.add(keys, numbers, any_failed=True)
            else:
                behind.add(keys, range(first << 2 | DONE, (last + 1) << 2, 4), any_failed=False)
            behind.seen = last

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
