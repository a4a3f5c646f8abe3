"""Drawing in place: what a terminal shows after it, told by a small one of our own."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from qanat._app.progress.region import REPAIRS, Region

ESCAPE = re.compile(r"\x1b\[(\d*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Screen(io.StringIO):
    """A terminal that is high enough, and understands what a region writes."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = [""]
        self.y = self.x = 0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        super().write(text)
        at = 0
        for found in ESCAPE.finditer(text):
            assert found.start() == at, f"not understood: {text[at:]!r}"
            at = found.end()
            number, letter, cr, lf, plain = found.groups()
            if cr:
                self.x = 0
            elif lf:  # a terminal's driver makes both of it
                self.x = 0
                self.y += 1
                if self.y == len(self.lines):
                    self.lines.append("")
            elif plain:
                line = self.lines[self.y].ljust(self.x)
                self.lines[self.y] = line[: self.x] + plain + line[self.x + len(plain) :]
                self.x += len(plain)
            elif letter == "A":
                self.y = max(0, self.y - int(number))
            elif letter == "K":
                self.lines[self.y] = "" if number == "2" else self.lines[self.y][: self.x]
            else:
                assert letter == "m"
        return len(text)

    @property
    def shown(self) -> list[str]:
        lines = self.lines[:]
        while lines and not lines[-1]:
            lines.pop()
        return lines


@pytest.fixture
def screen() -> Screen:
    return Screen()


@pytest.fixture
def region(screen: Screen) -> Region:
    region = Region(console_of(screen))
    region.open()
    return region


def console_of(screen: Screen) -> Console:
    return Console(
        file=screen, force_terminal=True, width=40, height=20, color_system="standard", no_color=False
    )


def test_lines_are_drawn_in_place_and_the_cursor_rests_below(screen: Screen, region: Region) -> None:
    region.draw([[("bold", "one")], [("red", "two")]])
    region.draw([[("bold", "1")], [("red", "two")], [("", "three")]])
    assert screen.shown == ["1", "two", "three"]
    assert (screen.y, screen.x) == (3, 0)
    region.draw([[("", "less")]])
    assert screen.shown == ["less"]
    region.close()
    assert screen.shown == []
    assert (screen.y, screen.x) == (0, 0)


def test_only_what_differs_is_written(screen: Screen, region: Region) -> None:
    region.draw([[("", "same")], [("", "a")]])
    before = len(screen.getvalue())
    region.draw([[("", "same")], [("", "b")]])
    assert "same" not in screen.getvalue()[before:]
    for _ in range(REPAIRS):
        region.draw([[("", "same")], [("", "b")]])
    assert "same" in screen.getvalue()[before:]


def test_what_is_printed_stands_above(screen: Screen, region: Region) -> None:
    region.draw([[("", "view")]])
    region._take = lambda: "printed\nmore\n"
    region.draw([[("", "view 2")]])
    assert screen.shown == ["printed", "more", "view 2"]


def test_what_others_print_to_the_console_stands_above(screen: Screen, region: Region) -> None:
    region._console.print("before")
    region.draw([[("", "view")], [("", "below")]])
    region._console.print("theirs")
    region.draw([[("", "view")], [("", "changed")]])
    assert screen.shown == ["before", "theirs", "view", "changed"]


def test_what_was_printed_before_stands_before_what_others_print(screen: Screen, region: Region) -> None:
    region.draw([[("", "view")]])
    region._take = lambda: "first\n"
    region._console.print("second")
    assert screen.shown == ["first", "second", "view"]


def test_what_the_keyboard_echoes_goes_away(screen: Screen, region: Region) -> None:
    region.draw([[("", "view")]])
    screen.write("^C")
    region.draw([[("", "stopping")]])
    assert screen.shown == ["stopping"]


def test_a_narrower_terminal_wraps_and_all_of_it_is_drawn_anew(screen: Screen, region: Region) -> None:
    region.draw([[("", "x" * 30)], [("", "y" * 5)]])
    # As terminals do that wrap what was drawn.
    region._console.width = 20
    screen.lines = ["x" * 20, "x" * 10, "yyyyy", ""]
    screen.y, screen.x = 3, 0
    region.draw([[("", "narrow")]])
    assert screen.shown == ["narrow"]


@pytest.mark.parametrize(("no_color", "codes"), [(False, "\x1b[31mred\x1b[0m"), (True, "red")])
def test_no_color_takes_colours_alone(screen: Screen, no_color: bool, codes: str) -> None:
    console = Console(
        file=screen, force_terminal=True, width=40, height=20, color_system="standard", no_color=no_color
    )  # fmt: skip
    Region(console).draw([[("red", "red"), ("bold", "bold")]])
    assert f"{codes}\x1b[1mbold\x1b[0m" in screen.getvalue()
