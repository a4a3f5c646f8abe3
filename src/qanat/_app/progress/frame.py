"""A frame of the live view: pure functions from figures to lines of styled text that fit a terminal.

Calm matters more than detail. Numbers stand right-aligned in fields that only ever widen, sections come
when they are first needed and then stay, and a worker keeps its line; `Memory` holds what that takes. The
order of the sections is that of their worth, from the top, so what is cut where a terminal is low
is what is missed least.

Styles are few, and the terminal's own colours, so they suit light and dark ones alike.
"""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from rich.cells import cell_len, set_cell_size

from qanat._app.progress.items import item_words
from qanat._app.progress.words import (
    clock_words,
    left_behind_words,
    rate_words,
    reason_words,
    stood_words,
)
from qanat._app.text import safe_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._app.progress.figures import Figures
    from qanat._app.progress.shapes import ErrorGroup
    from qanat._app.progress.workers import Row

Part: TypeAlias = tuple[str, str]
"""A style and a text; the styles are "", "bold", "dim", "red", "green" and "magenta"."""
Line: TypeAlias = list[Part]

MOST_ERRORS: Final = 6
MOST_KINDS: Final = 8
LONG: Final = 10.0
"""Seconds that an attempt runs from which on they stand out."""


class Memory:
    """What a frame has to know of those before it, to stay calm."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.widths: dict[str, int] = {}
        self.rows = 0
        self.room = 0
        self.describes = False
        self.numbers_attempts = False
        self.notes = 0
        self.errors: list[Any] = []
        self.names: dict[str, dict[str, None]] = {}
        self.too_many: set[str] = set()
        self.items: dict[tuple[Any, float], str] = {}

    def field(self, name: str, text: str) -> str:
        """Return a text right-aligned in a field that never gets narrower."""
        width = self.widths[name] = max(self.widths.get(name, 0), len(text))
        return text.rjust(width)

    def column(self, name: str, texts: Sequence[str], most: int) -> int:
        """Return the width of a column for these texts, which never gets narrower either."""
        widest = max((cell_len(text) for text in texts), default=0)
        width = self.widths[name] = min(most, max(self.widths.get(name, 0), widest))
        return width


def frame(
    figures: Figures, rate: float | None, left: float | None, note: str | None, *,
    title: str, width: int, height: int, memory: Memory,
) -> list[Line]:  # fmt: skip
    """Return the lines of a frame, at most `height` of them, none wider than `width` cells."""
    width, height = max(1, width), max(1, height)
    head: Line = [("bold", title), ("fill", " "), ("dim", clock_words(figures.seconds))]
    counts, state = _counts(figures, memory), _state(figures, memory)
    bar = _bar(figures, width)
    pace = _pace(figures, rate, left, memory)
    noted: list[Line] = [[("magenta", part)] for part in wrap(note or "", width)[:3]]
    memory.notes = max(memory.notes, len(noted))
    if height < 5:
        best = [counts, *(noted or [state]), head, bar]
        order = {id(line): place for place, line in enumerate([head, bar, counts, state, *noted])}
        chosen = sorted(best[:height], key=lambda line: order[id(line)])
        return [_fitted(line, width) for line in chosen]
    lines = [head, bar, counts, pace, state]
    # Lines that are kept for notes from the first one on, so nothing moves when they come and go.
    foot: list[Line] = noted + [[]] * min(memory.notes - len(noted), max(0, height - 8))
    room = height - len(lines) - len(foot)
    errors = _errors(figures, min(MOST_ERRORS, max(1, room // 4)), memory)
    room -= len(errors)
    kinds = _kinds(figures, min(MOST_KINDS, room // 3), memory)
    places = _places(figures, min(MOST_KINDS, (room - len(kinds)) // 3), memory)
    room -= len(kinds) + len(places)
    rows = _rows(figures, room, width, memory)
    lines += [*kinds, *places, *rows, *errors, *foot]
    return [_fitted(line, width) for line in lines[:height]]


# --- the head ------------------------------------------------------------------------------


def _bar(figures: Figures, width: int) -> Line:
    """Return the bar; what is still to come is thin, so that it can be told without colours."""
    if not figures.total:
        # Nobody knows how much is to come: a piece that moves says that something happens.
        size = max(1, width // 8)
        at = int(figures.seconds * 8) % (width + size) - size
        start, end = max(0, at), min(width, at + size)
        return [("dim", "─" * start), ("green", "━" * (end - start)), ("dim", "─" * (width - end))]
    share = min(1.0, figures.ended / figures.total)
    text = "100%" if figures.left == 0 else f"{min(99, int(share * 100))}%"
    size = max(0, width - 5)
    full = int(size * share * 2)
    bad = min(full // 2, int(size * figures.failed / figures.total + 0.5))
    good = max(0, full // 2 - bad)
    half = "╸" if full % 2 and good + bad < size else ""
    empty = size - good - bad - len(half)
    return [("green", "━" * good + (half if not bad else "")), ("red", "━" * bad + (half if bad else "")),
            ("dim", "─" * empty), ("", text.rjust(5))]  # fmt: skip


def _counts(figures: Figures, memory: Memory) -> Line:
    of = ""
    if figures.total is not None:
        of = f" of {memory.field('total', f'{figures.total:,}')}"
        memory.widths["done"] = max(memory.widths.get("done", 0), len(f"{figures.total:,}"))
    elif figures.found is not None and figures.found > figures.ended:
        of = f" of {memory.field('total', f'{figures.found:,}')} so far"
    line: Line = [("green", memory.field("done", f"{figures.done:,}")), ("", f"{of} done")]
    failed = memory.field("failed", f"{figures.failed:,}")
    line += [("", "  "), ("red" if figures.failed else "dim", f"{failed} failed")]
    for name, count, words in (
        ("retried", figures.retried, "retry" if figures.retried == 1 else "retries"),
        ("cancelled", figures.cancelled, "cancelled"),
    ):
        if count or name in memory.widths:
            line.append(("", f"  {memory.field(name, f'{count:,}')} {words}"))
    return line


def _pace(figures: Figures, rate: float | None, left: float | None, memory: Memory) -> Line:
    line: Line = [("", memory.field("rate", "" if rate is None else rate_words(rate)))]
    if left is not None and figures.left:
        line.append(("", f"  about {memory.field('left', clock_words(left))} left"))
    elif rate is None:
        line = [("dim", "waiting for the first to end")]
    stood = stood_words(figures.stood)
    if stood:
        line.append(("dim", f"  (not counting {stood})"))
    return line


def _state(figures: Figures, memory: Memory) -> Line:
    most = "" if figures.at_once is None else f" of {figures.at_once:,} at once"
    line: Line = [("", f"{memory.field('running', f'{figures.running:,}')} running{most}")]
    if figures.left_behind:
        line.append(("magenta", f" ({left_behind_words(figures.left_behind)})"))
    if figures.scheduled or "scheduled" in memory.widths:
        line.append(("", f"  {memory.field('scheduled', f'{figures.scheduled:,}')} to be retried"))
    if figures.waiting or "waiting" in memory.widths:
        line.append(("", f"  {memory.field('waiting', f'{figures.waiting:,}')} waiting"))
    if figures.reason is not None:
        line += [("", ": "), ("magenta", reason_words(figures.reason, figures.at))]
    return line


# --- kinds, lanes and targets --------------------------------------------------------------


def _kinds(figures: Figures, most: int, memory: Memory) -> list[Line]:
    if not figures.kinds or most < 1:
        return []
    cells = [
        (
            safe_text(kind.name, 30), f"{kind.done:,} of {kind.known:,} done", f"{kind.failed:,} failed",
            f"{kind.running:,} running", f"{kind.waiting:,} waiting",
        )
        for kind in figures.kinds
    ]  # fmt: skip
    return _table("kind", cells, most, memory, "kinds")


def _places(figures: Figures, most: int, memory: Memory) -> list[Line]:
    lines: list[Line] = []
    cells = [
        (
            f"lane {_shown('lane', lane.name, memory)}", f"{lane.running:,} running",
            f"{lane.waiting:,} waiting", lane.cause or "",
        )
        for lane in figures.lanes
    ]  # fmt: skip
    # A lane that is empty is forgotten, and comes back with its next job: its line stays.
    seen = memory.names.setdefault("lane", {})
    if len(seen) > MOST_KINDS:
        memory.too_many.add("lane")
        seen.clear()
    if cells or seen:
        named = {cell[0]: cell for cell in cells}
        for name in seen:
            named.setdefault(f"lane {name}", (f"lane {name}", "0 running", "0 waiting", ""))
        if "lane" not in memory.too_many:
            lines += _table("lane", [named[f"lane {name}"] for name in seen], most, memory, "lanes")
    if figures.targets:
        targets = [
            (f"to {safe_text(target.name, 30)}", f"{target.running:,} running", target.state or "")
            for target in figures.targets
        ]
        lines += _table("target", targets, most - len(lines), memory, "targets")
    return lines


def _shown(section: str, name: str, memory: Memory) -> str:
    """Return a name for showing, and remember it."""
    shown = safe_text(name, 30)
    memory.names.setdefault(section, {})[shown] = None
    return shown


def _table(name: str, cells: Sequence[tuple[str, ...]], most: int, memory: Memory, words: str) -> list[Line]:
    """Return rows whose first cell is a name and whose others are right-aligned numbers."""
    if most < 1 or not cells:
        return []
    shown = cells if len(cells) <= most else cells[: most - 1]
    widths = [
        memory.column(f"{name}{place}", column, 40) for place, column in enumerate(zip(*cells, strict=True))
    ]
    lines: list[Line] = []
    for row in shown:
        line: Line = [("", "  "), ("bold", set_cell_size(row[0], widths[0]))]
        line += [("", "  " + cell.rjust(width)) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(line)
    if len(shown) < len(cells):
        lines.append([("dim", f"  + {len(cells) - len(shown):,} more {words}")])
    return lines


# --- what runs -----------------------------------------------------------------------------


def _rows(figures: Figures, room: int, width: int, memory: Memory) -> list[Line]:
    """Return a line for each worker, as many as there is room for, and one for the others."""
    crowd = figures.crowd
    memory.room = max(0, room)
    if room < 1 or not (crowd.rows or memory.rows):
        return []
    running = sum(row is not None for row in crowd.rows) + crowd.others
    memory.rows = min(room, max(memory.rows, len(crowd.rows), running))
    lines: list[Line] = []
    shown = crowd.rows[: memory.rows]
    over = running - sum(row is not None for row in shown)
    if over > 0 and memory.rows == room:
        shown = shown[: room - 1]
        over = running - sum(row is not None for row in shown)
    present = [row for row in shown if row is not None]
    memory.describes = memory.describes or any(row.doing is not None for row in present)
    memory.numbers_attempts = memory.numbers_attempts or any(row.attempt > 1 for row in present)
    memory.items = {
        (row.id, row.started_at): memory.items.get((row.id, row.started_at))
        or item_words(row.item, row.members)
        for row in present
    }
    columns = _columns(figures, present, width, memory)
    lines = [[] if row is None else _row(row, figures.at, columns, memory) for row in shown]
    lines += [[] for _ in range(memory.rows - len(lines) - (over > 0))]
    if over > 0:
        oldest = ""
        if crowd.oldest_at is not None and figures.at - crowd.oldest_at >= 1.0:
            seconds = _for_words(figures.at - crowd.oldest_at)
            oldest = f", the longest for {seconds}: job {safe_text(crowd.oldest_id, 30)}"
        lines.append([("dim", f"  + {over:,} more{oldest}")])
    return lines


def _columns(figures: Figures, present: list[Row], width: int, memory: Memory) -> dict[str, int]:
    """Return the widths of a worker's columns."""
    columns = {"for": 8}
    if memory.numbers_attempts:
        columns["try"] = 7
    if figures.kinds:
        columns["kind"] = memory.column("row kind", [safe_text(row.kind, 20) for row in present], 20) + 2
    if figures.targets:
        columns["target"] = (
            memory.column("row target", [safe_text(row.target, 16) for row in present], 16) + 2
        )
    left = width - sum(columns.values()) - 2
    columns["item"] = max(1, left)
    if memory.describes and left >= 24:
        # As wide as the widest item so far, so what it does stands beside it.
        widest = memory.column(
            "row item", [memory.items[row.id, row.started_at] for row in present], left // 2
        )
        columns["item"] = widest + 2
        columns["doing"] = left - widest - 2
    return columns


def _row(row: Row, now: float, columns: dict[str, int], memory: Memory) -> Line:
    seconds = max(0.0, now - row.started_at)
    style = "magenta" if row.is_late or seconds >= LONG else "dim"
    line: Line = [(style, _for_words(seconds).rjust(columns["for"])), ("", "  ")]
    if "try" in columns:
        line.append(("magenta", (f"try {row.attempt}" if row.attempt > 1 else "").ljust(columns["try"])))
    if "kind" in columns:
        line.append(("dim", _cell(safe_text(row.kind, 20), columns["kind"])))
    if "target" in columns:
        line.append(
            ("dim", _cell(safe_text(row.target, 16) if row.target is not None else "", columns["target"]))
        )
    words = memory.items[row.id, row.started_at]
    if row.is_late:
        words = f"past its time: {words}"
    line.append(("", _cell(words, columns["item"])))
    if "doing" in columns:
        line.append(("bold", _cell(safe_text(row.doing or "", columns["doing"]), columns["doing"])))
    elif row.doing:
        line[-1] = ("", _cell(f"{safe_text(row.doing)}: {words}", columns["item"]))
    return line


def _for_words(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60.0 else clock_words(seconds)


# --- errors --------------------------------------------------------------------------------


def _errors(figures: Figures, most: int, memory: Memory) -> list[Line]:
    """Return the most frequent errors, each on a line that it keeps."""
    groups = figures.errors
    if not groups and not figures.other_errors:
        return []
    fits = len(groups) + bool(figures.other_errors) <= most or most == 1
    chosen = groups[: most if fits else most - 1]
    # Those that were shown stay in the order in which they came.
    by_name = {_name_of(group): group for group in chosen}
    kept = [name for name in memory.errors if name in by_name]
    memory.errors = kept + [name for name in by_name if name not in kept]
    lines: list[Line] = []
    for name in memory.errors:
        group = by_name[name]
        number = memory.field("errors", f"{group.count + group.again:,}")
        again = (
            ""
            if not group.again
            else ", tried again"
            if not group.count
            else f", {group.again:,} tried again"
        )
        style = "red" if group.count else "dim"
        text = f"{safe_text(group.name, 60)}: {safe_text(group.sample, 120)}"
        lines.append([
            (style, f"  {number} x {text}"), ("dim", f" (job {safe_text(group.id, 40)}{again})"),
        ])  # fmt: skip
    others = figures.other_errors + sum(group.count + group.again for group in groups[len(chosen) :])
    if others and not fits:
        lines.append([("red", f"  {memory.field('errors', f'{others:,}')} x other errors")])
    return lines


def _name_of(group: ErrorGroup) -> tuple[str, str]:
    from qanat._app.progress.shapes import shape_of

    return group.name, shape_of(group.sample)


# --- cells ---------------------------------------------------------------------------------


def _cell(text: str, width: int) -> str:
    """Return a text in exactly so many cells."""
    length = cell_len(text)
    if length <= width:
        return text + " " * (width - length)
    return set_cell_size(text, width - 1) + "…" if width > 1 else set_cell_size(text, width)


def _fitted(line: Line, width: int) -> Line:
    """Cut a line to a width, and widen what fills it; what is at its end and empty is left out."""
    fixed = sum(cell_len(text) for style, text in line if style != "fill")
    fitted: Line = []
    left = width
    for given, text in line:
        style, shown = (given, text) if given != "fill" else ("", " " * max(1, width - fixed))
        length = cell_len(shown)
        if length > left:
            if left > 0:
                fitted.append((style, _cell(shown, left)))
            left = 0
            break
        fitted.append((style, shown))
        left -= length
    while fitted and not fitted[-1][1].strip(" "):
        fitted.pop()
    if fitted and fitted[-1][1].endswith(" "):
        fitted[-1] = (fitted[-1][0], fitted[-1][1].rstrip(" "))
    return fitted
