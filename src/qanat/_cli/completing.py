"""An output that was begun by an earlier run with the same journal, and is completed by this one.

Lines are known by their place (the input and the number of the line there, or the id of a job that was
spawned) and the item. A line that is
there stays, and is not written again. Those of failed items are taken out before the run, as they run
again; those of items that are no longer at their place, after it. The file is never changed where it
lies: a new one takes its place, whole.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from qanat._cli.reading import Record
from qanat._cli.usage import UsageError
from qanat._cli.writing import Output, lock, open_output
from qanat._core.content_key import content_key
from qanat.errors import SerialisationError

Place = tuple[str | None, int | str]


class Completion:
    """What an output holds already, and what of that was met again.

    Args:
        path: The output, a file that is there.
    """

    def __init__(self, path: str) -> None:
        """Read it.

        Raises:
            UsageError: If it holds anything but results.
        """
        self._path = Path(path).resolve()
        self._keys: dict[Place, bytes] = {}
        self._met: set[Place] = set()
        self._added = False
        self._untidy = False
        self._size = 0
        self._read_in()

    def _read_in(self) -> None:
        """Learn what the output holds.

        Raises:
            UsageError: If that is anything but results.
        """
        self._size = self._path.stat().st_size
        self._keys.clear()
        self._untidy = False
        for place, key, _ in self._lines():
            if key is None or place in self._keys:
                self._untidy = True
            if key is not None:
                self._keys[place] = key

    def open(self) -> Output:
        """Open the output to be added to, without what is to be written again.

        Raises:
            UsageError: If it cannot be written, or another run writes to it.
        """
        output = open_output(str(self._path), append=True, overwrite=False)
        if os.fstat(output.fd).st_size != self._size:
            try:
                self._read_in()  # another run has ended meanwhile
            except BaseException:
                output.close()
                raise
        if not self._untidy:
            return output
        last: dict[Place, int] = {}
        for number, (place, key, _) in enumerate(self._lines()):
            if key is not None:
                last[place] = number
        kept = set(last.values())
        try:
            fd = self._replaced(line for number, (_, _, line) in enumerate(self._lines()) if number in kept)
        finally:
            output.close()
        return Output(fd, output.name)

    def has(self, record: Record, *, ok: bool) -> bool:
        """Whether the line of a job that ended is there already; it is not written then."""
        return self._has((record.file, record.line), record.value, ok=ok)

    def has_spawned(self, id: int | str, item: Any, *, ok: bool) -> bool:
        """Whether the line of a spawned job that ended is there already; it is not written then."""
        return self._has((None, str(id)), item, ok=ok)

    def _has(self, place: Place, value: Any, *, ok: bool) -> bool:
        key = self._keys.get(place)
        if ok and key is not None and key == _key_of(value):
            self._met.add(place)
            return True
        self._added = True
        return False

    def tidy(self, order: Callable[[str | None], int] | None) -> None:
        """Take out what is no longer at its place, once all of the input was read.

        Args:
            order: Given, lines come in the order of the input, and this is the position of an input.
        """
        stale = {place for place in self._keys if place not in self._met}
        if not stale and (order is None or not self._added):
            return
        seen: dict[Place, int] = {}
        for number, (place, _, _) in enumerate(self._lines()):
            # What this run wrote came behind.
            if place not in stale or number >= len(self._keys):
                seen[place] = number
        if order is None:
            kept = set(seen.values())
            os.close(
                self._replaced(line for number, (_, _, line) in enumerate(self._lines()) if number in kept)
            )
            return
        roots = [place for place in seen if isinstance(place[1], int)]
        places = sorted(roots, key=lambda place: (order(place[0]), place[1]))
        # As a run gives them: behind all of the input, in the order in which they came.
        places += [place for place in seen if not isinstance(place[1], int)]
        lines = {number: line for number, (_, _, line) in enumerate(self._lines())}
        os.close(self._replaced(lines[seen[place]] for place in places))

    def _lines(self) -> Iterator[tuple[Place, bytes | None, bytes]]:
        """Give the place, the key (None if the item failed) and the text of each whole line."""
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return  # torn: cut off when it is opened
                yield *self._read(line, number), line

    def _read(self, line: bytes, number: int) -> tuple[Place, bytes | None]:
        try:
            found = json.loads(line)
            place = (found.get("file"), found["id"])
            ok, item = found["ok"], found["item"]
            kind = str if "parent" in found else int
            if not isinstance(place[1], kind) or not isinstance(ok, bool) or "value" not in found:
                raise ValueError
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise UsageError(
                f"{self._path}, line {number} holds no result of qanat map, so it cannot be completed: name "
                "another file, or replace it with --overwrite"
            ) from None
        return cast("Place", place), _key_of(item) if ok else None

    def _replaced(self, lines: Iterator[bytes]) -> int:
        """Put a file with these lines into the place of the output, and return its descriptor.

        Raises:
            UsageError: If that cannot be done; the output is as it was.
        """
        try:
            return self._put_in_place(lines)
        except OSError as error:
            raise UsageError(f"{self._path} cannot be written anew: {error.strerror}") from None

    def _put_in_place(self, lines: Iterator[bytes]) -> int:
        fd, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        try:
            lock(fd)
            os.fchmod(fd, stat.S_IMODE(self._path.stat().st_mode))
            with open(fd, "wb", closefd=False) as file:
                file.writelines(lines)
            os.fsync(fd)
            os.replace(name, self._path)  # noqa: PTH105 - a Path would be no shorter
        except BaseException:
            os.close(fd)
            os.unlink(name)  # noqa: PTH108
            raise
        return fd


def _key_of(value: Any) -> bytes | None:
    try:
        return content_key(value)
    except SerialisationError:
        return None  # such an item fails, so its line is none to be kept
