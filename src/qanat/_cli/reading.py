r"""Input files as records, read lazily: txt, jsonl and csv.

Lines end with `\n` or `\r\n` and with nothing else: U+2028 and the like are text. A file is UTF-8,
with or without a byte order mark. What cannot be read is an `InputError` with the place, raised
where the reading has got to: the records before it are good.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NoReturn

from qanat.errors import InputError

Kind = Literal["txt", "jsonl", "csv"]

LONGEST_LINE = 128 * 2**20
"""Bytes of a line, a field or a row: more is taken for a file that has no lines, and refused before
it fills the memory."""

_MARK = b"\xef\xbb\xbf"

Lines = Iterator[tuple[int, bytes]]


class Record:
    """One item of an input.

    Attributes:
        line: The number of the line it came from, or of its first one, from 1.
        file: The file as it was named, if there are several; else None.
        value: The item as the handler gets it.
        text: The item as JSON, if it was read or made while reading; None for a plain text.
    """

    __slots__ = ("file", "line", "text", "value")

    def __init__(self, line: int, file: str | None, value: Any, text: str | None) -> None:
        """Keep what was read."""
        self.line = line
        self.file = file
        self.value = value
        self.text = text

    @property
    def id(self) -> int | str:
        """What the job is called: the line, and the file if there are several."""
        return self.line if self.file is None else f"{self.file}:{self.line}"


def split_lines(chunks: Iterable[bytes], path: str) -> Lines:
    """Give the lines of a stream of bytes, numbered from 1, without their line feed.

    Raises:
        InputError: If a line is too long.
    """
    number = 0
    begun: list[bytes] = []
    size = 0
    for chunk in chunks:
        first, *others = chunk.split(b"\n")
        begun.append(first)
        size += len(first)
        if size > LONGEST_LINE:
            raise InputError(path, number + 1, f"the line is longer than {LONGEST_LINE:,} bytes")
        if not others:
            continue
        number += 1
        line = b"".join(begun)
        yield number, line.removeprefix(_MARK) if number == 1 else line
        last = others.pop()
        for line in others:
            number += 1
            yield number, line
        begun = [last]
        size = len(last)
    line = b"".join(begun)
    if line:
        number += 1
        yield number, line.removeprefix(_MARK) if number == 1 else line


def decoded(line: bytes, path: str, number: int) -> str:
    """Return the text of a line.

    Raises:
        InputError: If it is not UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8: byte 0x{line[error.start]:02x} at position {error.start + 1}"
        raise InputError(path, number, problem) from None


def read_txt(lines: Lines, path: str, file: str | None, _fields: Iterable[str] = ()) -> Iterator[Record]:
    """Give one record for each line that is not empty."""
    for number, line in lines:
        text = decoded(line, path, number).removesuffix("\r")
        if text:
            yield Record(number, file, text, None)


def read_jsonl(lines: Lines, path: str, file: str | None, _fields: Iterable[str] = ()) -> Iterator[Record]:
    """Give one record for each line that is not blank: the value that it holds."""
    for number, line in lines:
        text = decoded(line, path, number).strip(" \t\r")
        if not text:
            continue
        try:
            value = _decoder.decode(text)
        except (ValueError, RecursionError) as error:
            why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise InputError(path, number, f"is not JSON: {why}") from None
        # Outside of strings JSON is ASCII, so a return there is blank space between two tokens.
        yield Record(number, file, value, text.replace("\r", " "))


def read_csv(lines: Lines, path: str, file: str | None, fields: Iterable[str] = ()) -> Iterator[Record]:
    """Give one record for each row below the header: its fields by the header's names.

    Args:
        lines: The lines.
        path: The file as messages name it.
        file: The file as records name it.
        fields: Names that the header has to have.
    """
    csv.field_size_limit(LONGEST_LINE)
    at = 0
    begun = 1

    def texts() -> Iterator[str]:
        nonlocal at
        size = 0
        for number, line in lines:
            size = len(line) if number == begun else size + len(line)
            if size > LONGEST_LINE:
                raise InputError(path, begun, f"the row is longer than {LONGEST_LINE:,} bytes")
            at = number
            yield decoded(line, path, number) + "\n"

    rows = csv.reader(texts(), strict=True)
    header: list[str] | None = None
    while True:
        begun = at + 1
        try:
            row = next(rows, None)
        except csv.Error as error:
            raise InputError(path, begun, f"is not CSV: {error}") from None
        if row is None:
            return
        if not row:
            continue
        if header is None:
            header = _checked_header(row, path, begun, fields)
            continue
        if len(row) != len(header):
            problem = f"has {len(row)} fields, but the header has {len(header)}"
            raise InputError(path, begun, problem)
        value = dict(zip(header, row, strict=True))
        yield Record(begun, file, value, json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _checked_header(row: list[str], path: str, line: int, fields: Iterable[str]) -> list[str]:
    if len(set(row)) != len(row):
        twice = next(name for name in row if row.count(name) > 1)
        raise InputError(path, line, f"the header names the field {twice!r} twice")
    for field in fields:
        if field not in row:
            names = ", ".join(map(repr, row))
            raise InputError(path, line, f"the header has no field {field!r}, only {names}")
    return row


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:40]} is too large")
    return number


def _not_json(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number in JSON")


# Strict where the standard library is lax: what was read can be written again.
_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_not_json)

Reader = Callable[[Lines, str, str | None, Iterable[str]], Iterator[Record]]

READERS: dict[Kind, Reader] = {"txt": read_txt, "jsonl": read_jsonl, "csv": read_csv}
