"""Tables, for a terminal and for the documentation. Pure: text in, text out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

START = "<!-- figures: start, written by `make bench` -->"
END = "<!-- figures: end -->"


@dataclass(frozen=True)
class Wanted:
    """A figure that is wanted to be so, and what came of it.

    Attributes:
        what: What is wanted, in words.
        figure: What was measured.
        most: The figure must not be above this; None if `least` is set.
        least: The figure must not be below this; None if `most` is set.
        unit: Written behind both numbers.
    """

    what: str
    figure: float
    most: float | None = None
    least: float | None = None
    unit: str = ""

    @property
    def holds(self) -> bool:
        """Whether the figure is as wanted."""
        return (self.most is None or self.figure <= self.most) and (
            self.least is None or self.figure >= self.least
        )

    @property
    def target(self) -> str:
        """The target in words."""
        if self.most is not None:
            return f"at most {self.most:g}{self.unit}"
        return f"at least {self.least:g}{self.unit}"

    @property
    def measured(self) -> str:
        """The figure with its unit."""
        return f"{number(self.figure)}{self.unit}"


@dataclass(frozen=True)
class Table:
    """What one scenario measured.

    Attributes:
        title: A short name, used as a heading.
        about: One sentence on what was run; the number of runs is a part of it.
        columns: The headings.
        rows: The cells, as texts; the first is the contender.
        wanted: Figures with a target.
        skipped: What could not be measured, and why.
    """

    title: str
    about: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    wanted: Sequence[Wanted] = ()
    skipped: Sequence[str] = field(default=())


def number(value: float) -> str:
    """Write a number with as many digits as it is good for."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def as_text(table: Table) -> str:
    """Return a table for a terminal, with what was wanted below it."""
    grid = [list(table.columns), *map(list, table.rows)]
    widths = [max(len(row[column]) for row in grid) for column in range(len(table.columns))]

    def line(cells: Sequence[str]) -> str:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(["  " + first, *others]).rstrip()

    lines = [table.title, f"  {table.about}"]
    if table.rows:
        lines += [line(table.columns), *map(line, table.rows)]
    lines += [f"  skipped: {each}" for each in table.skipped]
    for each in table.wanted:
        verdict = "holds" if each.holds else "MISSED"
        lines.append(f"  wanted: {each.what} {each.target}: {each.measured}, {verdict}")
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    """Return a table for the documentation: a heading, a sentence and the figures."""
    lines = [f"### {table.title}", "", table.about, ""]
    if table.rows:
        lines += [_row(table.columns), "| --- |" + " ---: |" * (len(table.columns) - 1)]
        lines += [*map(_row, table.rows), ""]
    for each in table.skipped:
        lines += [f"Not measured: {each}.", ""]
    return "\n".join(lines)


def wanted_as_markdown(tables: Sequence[Table]) -> str:
    """Return one table of all that is wanted."""
    rows = [
        _row((each.what.rstrip(",:"), each.target, each.measured, "yes" if each.holds else "no"))
        for table in tables
        for each in table.wanted
    ]
    head = [_row(("wanted", "target", "measured", "holds")), "| --- | ---: | ---: | :---: |"]
    return "\n".join(["### What is wanted", "", *head, *rows, ""])


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def between_markers(page: str, figures: str) -> str:
    """Return a page with everything between its two markers replaced.

    Raises:
        ValueError: If a marker is missing, or they are in the wrong order.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"page must hold the lines {START!r} and {END!r}, in this order")
    return f"{before}{START}\n\n{figures.strip()}\n\n{END}{after}"
