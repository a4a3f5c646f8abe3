"""What the commands of operators share: a store and a queue by their names, and how things are said.

Whatever comes from a store may have been made by anybody: every text passes `safe_text` before it is
printed, and JSON is written in ASCII. URLs are shown as `StoreUrl` shows them.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.cells import cell_len, set_cell_size

from qanat._app.durable.operating import asked, names
from qanat._app.durable.plain_queue import PlainQueue
from qanat._app.durable.store import PlainStore
from qanat._app.durable.store import open as open_store
from qanat._app.text import safe_text
from qanat._cli.usage import UsageError
from qanat._core.store.finding import span_in_words
from qanat._core.store.states import State
from qanat._stores.url import SCHEMES, StoreUrl, parse_url
from qanat.errors import StoreError

STATES: Final[tuple[State, ...]] = ("leased", "waiting", "ready", "scheduled", "dead", "cancelled", "done")
"""All states, what goes on first."""
MOST: Final = 2_000
"""Characters of one text that are shown where there is room."""

_URL: Final = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'\]]*")


@contextmanager
def opened(url: str, *, make: bool = False) -> Generator[PlainStore]:
    """Open the store of a command.

    Args:
        url: Which.
        make: Whether a file that is not there is made.

    Raises:
        UsageError: If it cannot be used, also later in the block.
    """
    try:
        parsed = parse_url(url)
        opening = open_store(url)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
    if parsed.kind == "memory":
        raise UsageError("memory:// ends with the command that opens it: name a file or a server")
    if parsed.kind == "sqlite" and not make:
        check_there(parsed)
    try:
        with opening as store:
            yield store
    except StoreError as error:
        raise UsageError(f"{parsed}: {error}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def check_there(url: StoreUrl) -> None:
    """Check that the file of a store is there, so that a slip does not make one.

    Raises:
        UsageError: If it surely is not; what else is wrong with it is told when it is opened.
    """
    try:
        Path(url.path).stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"there is no file {url.path}: name the one that the jobs are in") from None
    except OSError:
        pass


def chosen(store: PlainStore, name: str | None) -> PlainQueue[Any]:
    """Return the queue of that name; without a name the only one.

    Raises:
        UsageError: If it is not there, or there is not one alone.
    """
    there = store.carry(asked(names), "")
    listed = ", ".join(there[:10]) + (", ..." if len(there) > 10 else "")
    if name is None:
        if len(there) != 1:
            raise UsageError(f"name a queue with --queue: there are {listed or 'none yet'}")
        return store.queue(there[0])
    queue = store.queue(name)
    if name not in there:
        raise UsageError(f"there is no queue {name!r}, there are {listed or 'none yet'}")
    return queue


def without_secrets(text: str) -> str:
    """Return a text with the secrets of all URLs of stores in it hidden."""
    return _URL.sub(_hidden, text)


def _hidden(found: re.Match[str]) -> str:
    url = found.group()
    scheme = url.partition("://")[0]
    if scheme.lower() not in SCHEMES:
        return url
    try:
        return str(parse_url(url))
    except ValueError:
        return f"{scheme}://***"


def say(text: str) -> None:
    """Print a line that is safe already; what the terminal's encoding lacks is written out."""
    try:
        print(text)
    except UnicodeEncodeError:
        print(text.encode("ascii", "backslashreplace").decode())


def tell(text: str) -> None:
    """Say something beside the data, on standard error."""
    try:
        print(f"qanat: {safe_text(text, MOST)}", file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # nobody to hear it


def say_json(value: Any) -> None:
    """Print a line of JSON, in which nothing is obeyed by a terminal."""
    print(json.dumps(value, ensure_ascii=True, separators=(",", ":"), default=str).replace("\x7f", "\\u007f"))


def shown(data: bytes, most: int = MOST) -> str:
    """Return bytes that should be JSON in one safe line."""
    return safe_text(data[: most * 4 + 4].decode("utf-8", "backslashreplace"), most)


def decoded(data: bytes | None) -> Any:
    """Return what JSON holds; a text that says what it is if it is none."""
    if data is None or not data:
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return {"undecodable": data.decode("utf-8", "backslashreplace")}


def moment(at: float, now: float) -> str:
    """Return a point in time on the store's clock, and how far off that is."""
    try:
        text = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        text = f"{at:g}"
    span = span_in_words(at - now)
    return f"{text}, in {span}" if at > now else f"{text}, {span} ago"


def width() -> int | None:
    """Return how many columns the terminal has; None if it is none, and nothing need be cut."""
    # Python has no stdout if the process was begun without one.
    at_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if at_terminal else None


def wrapped(text: str, indent: str = "") -> list[str]:
    """Return a text as lines that fit into the terminal."""
    room = width()
    if room is None:
        return [indent + text]
    return textwrap.wrap(
        text, max(room, 40), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    ) or [indent]  # fmt: skip


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], room: int | None, *, numbers: bool
) -> list[str]:
    """Return the lines of a table that fits, by cutting its last column, then others, the first one last.

    Args:
        header: What the columns are called.
        rows: Their safe texts.
        room: Columns of the terminal; None cuts nothing.
        numbers: Whether all columns but the first and the last are numbers, which stand on the right.
    """
    all_rows = [header, *rows]
    widths = [max(cell_len(row[column]) for row in all_rows) for column in range(len(header))]
    if room is not None:
        widths = _fitted(widths, [cell_len(name) for name in header], room)
    return [_line(row, widths, numbers=numbers) for row in all_rows]


def _fitted(widths: list[int], least: list[int], room: int) -> list[int]:
    """Take columns down until a line fits, none below its name and eight."""
    fitted = list(widths)
    over = sum(widths) + 2 * (len(widths) - 1) - room
    last = len(widths) - 1
    others = sorted(range(1, last), key=lambda column: -widths[column])
    # The last says most, and an id that is cut is of no use.
    for column, floor in [(last, 24), *((column, 8) for column in others), (last, 8), (0, 8)]:
        taken = min(max(over, 0), max(fitted[column] - max(least[column], floor), 0))
        fitted[column] -= taken
        over -= taken
    return fitted


def _line(row: Sequence[str], widths: Sequence[int], *, numbers: bool) -> str:
    cells: list[str] = []
    for column, (text, size) in enumerate(zip(row, widths, strict=True)):
        long = cell_len(text)
        if long > size:
            cells.append(set_cell_size(text, size - 1) + "…")
        elif numbers and 0 < column < len(row) - 1:
            cells.append(" " * (size - long) + text)
        else:
            cells.append(text + " " * (size - long))
    return "  ".join(cells).rstrip()
