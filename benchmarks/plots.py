"""Draw what strategies do, by the simulator: `python -m benchmarks.plots` or `make plots`.

Each entry of `PLOTS` is a picture for the documentation: rules, what the attempts do, and how the
starts are told apart. To add one, add an entry, run this, and show the file on a page. The same seed
draws the same picture, so a test can tell when one is out of date.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import qanat
from qanat import FixedWindow, SlidingWindow, Spacing, Throttled, TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "strategies"
WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 34, 34
COLOURS = ("#2a78d6", "#d9622b", "#3f9a4f", "#8b5fbf")
GREY = "#888888"


@dataclass(frozen=True)
class Line:
    """A line of a plot: a simulation, of which all starts are drawn, or those of some items."""

    label: str
    rules: Callable[[], dict[str, Any]]
    of: Callable[[int], bool] = lambda _item: True
    items: int = 60
    latency: Any = 0.5
    failures: Callable[[], Any] = lambda: None


@dataclass(frozen=True)
class Plot:
    title: str
    lines: tuple[Line, ...]
    until: float = 10.0


def slow_lane() -> dict[str, Any]:
    return {
        "concurrency": 4,
        "lane": lambda item: item % 2,
        "lane_limits": lambda lane: Spacing(1.0) if lane else (),
    }


def under(limit: Callable[[], qanat.Limit], concurrency: int) -> Callable[[], dict[str, Any]]:
    """Return rules with a limit made anew for each drawing."""
    return lambda: {"limits": limit(), "concurrency": concurrency}


def busy(_item: int, _rng: Any, running: int) -> float:
    """Take longer the more run."""
    return 0.2 + 0.01 * float(running**1.5)


def late(item: int, _rng: Any, _running: int) -> float:
    """Take long at first, so that the rest comes at the end of the first window."""
    return 3.0 if item == 0 else 0.05


class ThrottleOnce:
    """Throttle one item, the first time."""

    def __init__(self, item: int) -> None:
        self._item: int | None = item

    def __call__(self, item: int, _rng: Any, _attempt: int) -> BaseException | None:
        if item != self._item:
            return None
        self._item = None
        return Throttled(retry_after=3.0)


PLOTS: dict[str, Plot] = {
    "rates": Plot(
        "Three ways to start about three a second",
        (
            Line("SlidingWindow(6, 2)", under(lambda: SlidingWindow(6, 2.0), 60), items=30),
            Line("TokenBucket(3, burst=6)", under(lambda: TokenBucket(3, burst=6), 60), items=30),
            Line("Spacing(1/3)", under(lambda: Spacing(1 / 3), 60), items=30),
        ),
    ),
    "windows": Plot(
        "Eight in four seconds: around the border of a fixed window there may be nearly twice as many",
        (
            Line("FixedWindow(8, 4)", under(lambda: FixedWindow(8, 4.0), 1), items=40, latency=late),
            Line("SlidingWindow(8, 4)", under(lambda: SlidingWindow(8, 4.0), 1), items=40, latency=late),
        ),
        until=12.0,
    ),
    "concurrency": Plot(
        "More at once help as long as attempts do not get slower",
        (
            Line("2 at once", lambda: {"concurrency": 2}, items=400, latency=busy),
            Line("8 at once", lambda: {"concurrency": 8}, items=400, latency=busy),
            Line("32 at once", lambda: {"concurrency": 32}, items=400, latency=busy),
        ),
    ),
    "lanes": Plot(
        "A lane that has to wait holds up no other",
        (
            Line("fast lane", slow_lane, of=lambda item: item % 2 == 0),
            Line("slow lane, one a second", slow_lane, of=lambda item: item % 2 == 1),
        ),
    ),
    "throttled": Plot(
        "After a 429 all is closed for three seconds, then opens to one, two, four",
        (
            Line(
                "8 at once, throttled once", lambda: {"concurrency": 8}, items=120,
                failures=lambda: ThrottleOnce(20),
            ),
        ),
    ),
}  # fmt: skip


def starts(line: Line, until: float) -> list[float]:
    """Return when the items of a line were started."""
    simulation = qanat.simulate(
        list(range(line.items)), latency=line.latency, failures=line.failures(), **line.rules()
    )
    return [
        step.at
        for step in simulation.trace
        if step.kind == "start" and line.of(step.index) and step.at <= until
    ]


def drawn(plot: Plot) -> str:
    """Return a plot as SVG: starts so far, over the time."""
    series = [(line.label, starts(line, plot.until)) for line in plot.lines]
    most = max(len(times) for _, times in series)
    step = tick_for(most)
    top = -(-most // step) * step

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / plot.until

    def y(count: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * count / top

    shape = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="{GREY}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {shape}>',
        f"<title>{escaped(plot.title)}</title>",
    ]
    faint = f'stroke="{GREY}" stroke-opacity="0.25"'
    for count in range(0, top + 1, step):
        parts.append(f'<path d="M{LEFT} {y(count):.1f}H{WIDTH - RIGHT}" {faint}/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(count) + 4:.1f}" text-anchor="end">{count}</text>')
    for number in range(6):
        at = plot.until * number / 5
        parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - 14}" text-anchor="middle">{at:g} s</text>')
    for number, (label, times) in enumerate(series):
        colour = COLOURS[number]
        path = f"M{x(0.0):.1f} {y(0):.1f}" + "".join(
            f"H{x(at):.1f}V{y(count):.1f}" for count, at in enumerate(times, 1)
        )
        parts.append(f'<path d="{path}H{x(plot.until):.1f}" fill="none" stroke="{colour}" stroke-width="2"/>')
        place = LEFT + 8 + number * (WIDTH - LEFT) // len(series)
        parts.append(f'<text x="{place}" y="20" fill="{colour}">{escaped(label)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def tick_for(most: int) -> int:
    """Return the distance of lines that gives about five of them."""
    size = 1
    while True:
        for step in (size, 2 * size, 5 * size):
            if most <= 6 * step:
                return step
        size *= 10


def escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def pictures() -> dict[str, str]:
    """Return every picture by its name."""
    return {name: drawn(plot) for name, plot in PLOTS.items()}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures().items():
        (FOLDER / f"{name}.svg").write_text(picture)
        print(FOLDER / f"{name}.svg")
