"""What is printed to standard output and error while a region is drawn: gathered, to be shown above it.

Whoever prints only adds to a list; the view writes it out with its next frame. Beyond `MOST` characters
whoever prints writes it out: so memory has a bound, and who prints faster than the terminal takes it waits
for that, as ever.

Colours of the handlers stay. What would move the cursor does not, as that is where the region counts
on it: it is left out or written out.
"""

from __future__ import annotations

import io
import re
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Callable

MOST: Final = 65_536
"""Characters that wait to be written."""

_COLOUR: Final = re.compile(r"\x1b\[[0-9;:]*m")
_MOVES: Final = re.compile(r"\x1b\[[0-9;:?<=>]*[ -/]*[@-~]|\x1b[()][A-Za-z0-9]")
_OBEYED: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f]")


class Printed:
    """Gather what is printed.

    Args:
        write_out: Called when much has been gathered, to have it taken and shown at once.
    """

    def __init__(self, write_out: Callable[[], object]) -> None:
        """Gather nothing yet."""
        self._write_out = write_out
        self._lock = threading.Lock()
        self._lines: list[str] = []
        self._size = 0
        self._streams: list[tuple[str, TextIO, _Stream]] = []

    def begin(self, *names: str) -> None:
        """Take the place of `sys.stdout`, `sys.stderr` or both."""
        for name in names:
            real: TextIO | None = getattr(sys, name)
            if real is not None:
                stream = _Stream(self, real)
                self._streams.append((name, real, stream))
                setattr(sys, name, stream)

    def end(self) -> None:
        """Give the streams back, if nobody else has taken their place; half lines become whole."""
        for name, real, stream in self._streams:
            if getattr(sys, name) is stream:
                setattr(sys, name, real)
            stream.end()
        self._streams.clear()

    @property
    def real_streams(self) -> list[tuple[TextIO, TextIO]]:
        """The streams whose place is taken, each with what took it."""
        return [(real, cast("TextIO", stream)) for _, real, stream in self._streams]

    def add(self, line: str) -> None:
        """Gather a line."""
        with self._lock:
            self._lines.append(line)
            self._size += len(line) + 1
            is_much = self._size > MOST
        if is_much:
            self._write_out()

    def take(self) -> str:
        """Return what was gathered as whole lines, fit to be shown above a region."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
        return "".join(f"{_tamed(line)}\n" for line in lines)


class _Stream(io.TextIOBase):
    """What stands for a standard stream meanwhile."""

    def __init__(self, printed: Printed, real: TextIO) -> None:
        self._printed = printed
        self._real = real
        self._lock = threading.Lock()
        self._half = ""
        self._ended = False
        self.buffer = _Bytes(self)

    def write(self, text: str, /) -> int:
        """Gather a text."""
        if not isinstance(cast("object", text), str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._ended:  # somebody kept it
            return self._real.write(text)
        with self._lock:
            *lines, self._half = (self._half + text).split("\n")
        for line in lines:
            self._printed.add(line)
        return len(text)

    def end(self) -> None:
        """Pass on from now on; what has no line end yet gets one."""
        with self._lock:
            half, self._half, self._ended = self._half, "", True
        if half:
            self._printed.add(half)

    def flush(self) -> None:
        """Do nothing: what was written is shown soon."""

    def isatty(self) -> bool:
        """Whether what it stands for is a terminal."""
        return self._real.isatty()

    def fileno(self) -> int:
        """Return the descriptor of what it stands for."""
        return self._real.fileno()

    def writable(self) -> bool:
        """Be written to."""
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # as a TextIOWrapper has it
        """The encoding of what it stands for."""
        return self._real.encoding or "utf-8"

    def __getattr__(self, name: str) -> Any:
        """Have whatever else the stream has that it stands for."""
        return getattr(self._real, name)


class _Bytes(io.RawIOBase):
    """The binary side of a stream."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def write(self, data: Any, /) -> int:
        """Gather bytes."""
        found = bytes(data)
        self._stream.write(found.decode(self._stream.encoding, "replace"))
        return len(found)

    def writable(self) -> bool:
        """Be written to."""
        return True


def _tamed(line: str) -> str:
    """Return a line with its colours, and without what would move the cursor."""
    line = line.removesuffix("\r")
    if "\r" in line:
        line = line.rpartition("\r")[2]  # what a terminal would show in the end
    line = line.expandtabs()
    if not _OBEYED.search(line):
        return line
    parts: list[str] = []
    at = 0
    for colour in _COLOUR.finditer(line):
        parts += [_written_out(line[at : colour.start()]), colour.group()]
        at = colour.end()
    parts.append(_written_out(line[at:]))
    return "".join(parts) + ("\x1b[0m" if len(parts) > 1 else "")


def _written_out(text: str) -> str:
    text = _MOVES.sub("", text)
    return _OBEYED.sub(lambda found: f"\\x{ord(found.group()):02x}", text)
