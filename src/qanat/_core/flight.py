"""The flight recorder's file: frames of what a dispatcher was told and what it answered.

A file is a line of magic and then frames: the length of the payload, its CRC-32, and the payload in
msgpack. The first frame is the header; each further one holds a block of entries. A program that
is killed leaves its last frame torn: it is cut off when the file is read.

An entry is a number: the job's index, whether it has the time of the entry before it, and its kind.
Times are doubles, so that they come back exactly; what few entries need more goes into notes, which
are read in step with them.
"""

from __future__ import annotations

import sys
from array import array
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from zlib import crc32

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC: Final = b"qanat flight recorder\n"
FORMAT: Final = 2
"""What a reader has to know to understand the frames."""
MOST_PAYLOAD: Final = 2**28
"""Bytes: what claims to be more is no frame of ours."""

NEXT, NONE, DONE, FAIL, OFFER, OFFER_WITH, OFFER_ALL, CALL = range(8)
"""Kinds of entries: a job was started, or none; an attempt gave a value, or did not; jobs arrived;
anything else."""
SAME_TIME: Final = 8
NOTED: Final = frozenset({FAIL, OFFER_WITH, OFFER_ALL, CALL})


class Header(msgspec.Struct, frozen=True):
    """What a replay begins with.

    Attributes:
        format: The version of the format.
        version: The version of qanat.
        name: What was recorded: "run", "stream", "pool", "map" or "simulation".
        seed: What randomness began with.
        precision: Seconds by which a handler may begin after its start was decided.
        capacity: How many may run at once; None is any number.
        limits: The limits of all jobs as they can be made again; None is one that cannot be.
        rules: The rules as far as they are plain values.
        words: The rules in words.
        byteorder: Of the numbers in the blocks.
    """

    format: int
    version: str
    name: str
    seed: int
    precision: float
    capacity: float | None
    limits: list[str | None]
    rules: dict[str, Any]
    words: str
    byteorder: str


class Entry(NamedTuple):
    """One thing that a dispatcher was told, with what it answered.

    Attributes:
        kind: One of the kinds.
        job: The job's index; 0 where there is none.
        at: The time that was handed in.
        note: What else was said.
    """

    kind: int
    job: int
    at: float
    note: Any


class FlightError(ValueError):
    """Say that a file is no recording that can be read here."""


def nonsense(number: int, error: Exception) -> FlightError:
    """Return the error of a file whose entry of this number, or what follows it, no run can have written."""
    what = f"{type(error).__name__}: {error}"
    return FlightError(f"entry {max(0, number)} is none that a run records there ({what[:200]})")


_encode = msgspec.msgpack.Encoder(enc_hook=repr).encode


def framed(value: Any) -> bytes:
    """Return a value as a frame."""
    payload = _encode(value)
    return len(payload).to_bytes(4, "big") + crc32(payload).to_bytes(4, "big") + payload


def opening(header: Header) -> bytes:
    """Return what a file begins with."""
    return MAGIC + framed(header)


class Flight:
    """A recording that was read.

    Attributes:
        header: What a replay begins with.
        torn: Bytes at the end that were cut off; 0 if it is whole.
    """

    def __init__(self, content: bytes) -> None:
        """Read a file.

        Raises:
            FlightError: If it is none of ours, or of another format.
        """
        if not content.startswith(MAGIC):
            raise FlightError("this is not a recording of qanat's")
        payloads: list[bytes] = []
        at = len(MAGIC)
        while at + 8 <= len(content):
            size = int.from_bytes(content[at : at + 4], "big")
            payload = content[at + 8 : at + 8 + size]
            check = int.from_bytes(content[at + 4 : at + 8], "big")
            if size > MOST_PAYLOAD or len(payload) < size or crc32(payload) != check:
                break
            payloads.append(payload)
            at += 8 + size
        self.torn = len(content) - at
        if not payloads:
            raise FlightError("the recording ends before it has begun")
        self.header = _header(payloads.pop(0))
        self._blocks = payloads

    def __iter__(self) -> Iterator[Entry]:
        """Give the entries in order."""
        swap = self.header.byteorder != sys.byteorder
        at = 0.0
        for payload in self._blocks:
            code_bytes, time_bytes, note_list = msgspec.msgpack.decode(payload)
            codes, times = array("q"), array("d")
            codes.frombytes(code_bytes)
            times.frombytes(time_bytes)
            if swap:
                codes.byteswap()
                times.byteswap()
            time, note = iter(times), iter(note_list)
            for code in codes:
                kind = code & 7
                if not code & SAME_TIME:
                    at = next(time)
                yield Entry(kind, code >> 4, at, next(note) if kind in NOTED else None)


def _header(payload: bytes) -> Header:
    decoded = msgspec.msgpack.decode(payload)
    found = cast("dict[str, Any]", decoded) if isinstance(decoded, dict) else {}
    number = found.get("format")
    if number != FORMAT:
        maker = found.get("version")
        raise FlightError(
            f"the recording has format {number!r}, made by qanat {maker!r}, "
            f"and this version reads format {FORMAT}: replay it with the version that made it"
        )
    header = msgspec.convert(found, Header)
    if not (isfinite(header.precision) and (header.capacity is None or header.capacity > 0)):
        raise FlightError("the recording's header is none that a run records")
    return header
