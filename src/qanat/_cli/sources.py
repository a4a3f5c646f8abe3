"""Which files are the input, of which kind, and their records one after the other."""

from __future__ import annotations

import csv
import os
import select
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from qanat._cli.reading import READERS, Kind, Record, decoded, split_lines
from qanat._cli.usage import UsageError
from qanat.errors import InputError

CHUNK = 65536
"""Bytes read at once: what a pipe holds."""
LARGEST_COUNTED = 4 * 2**30
"""Bytes of input that are read once more to know how many items there are."""

Watch = Callable[[int], bool]
"""Waits until a descriptor can be read, and says whether it still is to be."""

_SUFFIXES: dict[str, Kind] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


@dataclass(frozen=True, slots=True)
class Source:
    """One input.

    Attributes:
        path: The file as it was named; `-` is standard input.
        kind: How it is read.
        size: Its bytes, if it is a regular file: one that can be read again and never blocks.
    """

    path: str
    kind: Kind
    size: int | None


def find_sources(paths: tuple[str, ...], kind: Kind | None) -> list[Source]:
    """Return the inputs, all of which can be opened.

    Args:
        paths: The files as they were named; none is standard input.
        kind: How to read them; None is by their suffix, and txt if that says nothing.

    Raises:
        InputError: If a file cannot be read.
        UsageError: If standard input is named twice, or a file is of a kind that is not read.
    """
    paths = paths or ("-",)
    if paths.count("-") > 1:
        raise UsageError("standard input (-) can be read once, but is named twice")
    return [_found(path, kind) for path in paths]


def _found(path: str, kind: Kind | None) -> Source:
    suffix = "" if path == "-" else Path(path).suffix.lower()
    if kind is None and suffix == ".json":
        raise UsageError(f"{path} is one JSON value, not lines: give --format jsonl if each line is a value")
    try:
        status = os.fstat(0) if path == "-" else Path(path).stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "Is a directory")
        regular = stat.S_ISREG(status.st_mode)
        if path != "-" and regular:
            os.close(os.open(path, os.O_RDONLY))
        elif path != "-" and not os.access(path, os.R_OK):
            # Not opened for a try: closing a pipe again would end whoever writes into it.
            raise PermissionError(13, "Permission denied")
    except (OSError, ValueError) as error:
        raise InputError(path, None, _why(error)) from None
    return Source(path, kind or _SUFFIXES.get(suffix, "txt"), status.st_size if regular else None)


def records(
    sources: list[Source], fields: tuple[str, ...] = (), watch: Watch | None = None
) -> Iterator[Record]:
    """Give the records of all inputs, one after the other.

    Args:
        sources: The inputs.
        fields: Names that the header of a csv has to have.
        watch: Who is asked before each read that may block.

    Raises:
        InputError: With the file and the line that cannot be read; the records before it are good.
    """
    for source in sources:
        lines = split_lines(_chunks(source, watch), source.path)
        file = source.path if len(sources) > 1 else None
        yield from READERS[source.kind](lines, source.path, file, fields)


def count(sources: list[Source]) -> int | None:
    """Return how many records there are; None if that cannot be found out by reading once more."""
    if any(source.size is None for source in sources):
        return None
    if sum(source.size or 0 for source in sources) > LARGEST_COUNTED:
        return None
    try:
        return sum(map(_counted, sources))
    except (InputError, csv.Error):
        return None


def _counted(source: Source) -> int:
    lines = split_lines(_chunks(source, None), source.path)
    if source.kind != "csv":
        return sum(1 for _, line in lines if line.strip(b" \t\r" if source.kind == "jsonl" else b"\r"))
    texts = (decoded(line, source.path, number) + "\n" for number, line in lines)
    return max(0, sum(1 for row in csv.reader(texts, strict=True) if row) - 1)


def _chunks(source: Source, watch: Watch | None) -> Iterator[bytes]:
    """Give what can be read, as it comes.

    Read from the descriptor itself: a buffered reader that a thread is blocked in when the
    interpreter ends makes that end a crash.
    """
    fd = 0
    try:
        if source.path != "-":
            # A pipe that nobody writes yet is opened without waiting for whoever will.
            fd = os.open(source.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        while True:
            if source.size is None and not (watch or _wait)(fd):
                return
            try:
                chunk = os.read(fd, CHUNK)
            except BlockingIOError:  # somebody else was quicker
                continue
            if not chunk:
                return
            yield chunk
    except OSError as error:
        raise InputError(source.path, None, _why(error)) from None
    finally:
        if fd > 0:
            os.close(fd)


def _wait(fd: int) -> bool:
    """Wait until a descriptor can be read."""
    select.select([fd], [], [])
    return True


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
