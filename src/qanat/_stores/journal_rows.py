"""How rows go into a journal in one step of SQLite, and come out as one row.

SQLite is stepped without Python's lock, which each step may wait 5 ms for when the event loop is busy. So
what goes in is one parameter for all rows, taken apart by SQLite, and what is found comes out as one row.
"""

from __future__ import annotations

from itertools import accumulate, repeat
from operator import add
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from qanat._core.kept import DONE, PLAIN, Rows
from qanat._stores.journal_file import as_doubles

if TYPE_CHECKING:
    from collections.abc import Sequence

LARGE: Final = 16 * 2**10
"""Bytes of a value beyond which it is fetched by itself: a batch is in memory as a whole."""

KEY_SIZE: Final = 16
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
    f"substr(?2, 1+{KEY_SIZE}*key, {KEY_SIZE}), value&3, value>>2&{_MOST_ATTEMPTS}, "
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
KEEP_ONE: Final = f"INSERT INTO {_COLUMNS} VALUES(?, ?, ?, ?, ?, ?, ?)"

# What is found of a row is one number: its attempts, how long its value is, and its state.
LENGTH_BITS: Final = 31
LENGTHS: Final = 2**LENGTH_BITS - 1
_FACTS: Final = (
    f"json_group_array((attempts<<{2 + LENGTH_BITS})|(length(jobs.value)<<2)|state), "
    "CAST(coalesce(group_concat(ran, ''), '') AS BLOB), CAST(coalesce(group_concat("
    f"CASE WHEN length(jobs.value)>{LARGE} THEN x'' ELSE jobs.value END, ''), '') AS BLOB), "
)
_FOUND: Final = (
    "SELECT json_group_array(each.key), json_group_array(jobs.id), "  # noqa: S608
    f"{_FACTS} coalesce(group_concat(hex(spawned)), '') FROM "
)
_THESE_ROWS: Final = "json_each(?) AS each CROSS JOIN jobs ON jobs.id=each.value"
_THESE_KEYS: Final = (
    "json_each(?2) AS each CROSS JOIN known ON known.handler=?1 AND known.key=substr(?3, 1+16*each.key, 16) "
    "CROSS JOIN jobs ON jobs.id=known.job"
)
FIND_PLAIN: Final = (
    f"SELECT {_FACTS} coalesce(max(length(jobs.value)), 0), "  # noqa: S608
    f"coalesce(max(spawned IS NOT NULL), 0) FROM {_THESE_ROWS}"
)
FIND_ROWS: Final = _FOUND + _THESE_ROWS
FIND_KEYS: Final = _FOUND + _THESE_KEYS
FIND_LARGE: Final = "SELECT value FROM jobs WHERE id=?"

encode = msgspec.json.Encoder().encode
decode_numbers = msgspec.json.Decoder(list[int]).decode


def packed(handler: int, rows: Rows) -> tuple[str, tuple[Any, ...]] | None:
    """Return the statement that adds rows, and its parameters; None if they do not go in together."""
    keys, values, attempts, ran, others = rows
    fronts: list[bytes] | None = None
    if others is not None and any(spawned is not None for _, spawned, _ in others):
        fronts = [spawned or b"" for _, spawned, _ in others]
        values = list(map(add, fronts, values))
    sizes = list(map(len, values))
    ends = list(accumulate(sizes))
    if ends[-1] >= _SIZES or max(attempts) > _MOST_ATTEMPTS:
        return None
    if others is None and attempts.count(1) == len(keys):
        # As nearly all are: half the time of asking each.
        numbers = [
            (end - size) << 9 + _SIZE_BITS | size << 9 | 1 << 2 | DONE
            for end, size in zip(ends, sizes, strict=True)
        ]
    else:
        states = [state for state, _, _ in others or repeat(PLAIN, len(keys))]
        numbers = [
            (end - size) << 9 + _SIZE_BITS | size << 9 | tries << 2 | state
            for end, size, tries, state in zip(ends, sizes, attempts, states, strict=True)
        ]
    parameters = (
        handler, b"".join(cast("Sequence[bytes]", keys)), as_doubles(ran), b"".join(values),
        encode(numbers).decode(),
    )  # fmt: skip
    if fronts is None:
        return _KEEP_PLAIN, parameters
    return _KEEP_TREES, (*parameters, b"".join([b"%010d" % len(each) for each in fronts]))


def part_of(rows: Rows, places: list[int]) -> Rows:
    """Return the rows at some places, which are of one handler, by their keys alone."""
    keys = [rows.keys[place] for place in places]
    return Rows(
        [key[1] if isinstance(key, tuple) else key for key in keys],
        [rows.values[place] for place in places],
        [rows.attempts[place] for place in places],
        [rows.ran[place] for place in places],
        None if rows.others is None else [rows.others[place] for place in places],
    )
