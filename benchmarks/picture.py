"""Draw the picture of the live view: `python -m benchmarks.picture` or `make plots`.

It is a real run on virtual time, with a seed: the engine, the figures and the frame are those of any run, and
the picture is the same each time, so a test can tell when it is out of date.
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

import qanat
from qanat._app.hosting import hosted, make_engine, make_intake
from qanat._app.progress.figures import figures_of
from qanat._app.progress.frame import Line, Memory, frame
from qanat._app.progress.rates import RateMeter, seconds_left
from qanat._app.progress.shapes import ErrorTally
from qanat._app.progress.workers import Places
from qanat.testing import virtual_time

if TYPE_CHECKING:
    from qanat._app.progress.figures import Figures
    from qanat._core.job import Job

FILE = Path(__file__).parents[1] / "docs" / "images" / "live-view.svg"
WIDTH, HEIGHT = 88, 20
ITEMS, UNTIL = 400, 12.0

# Colours that are told apart on any background; the picture brings a dark one of its own.
THEME = TerminalTheme(
    (26, 29, 35), (214, 218, 224),
    [(26, 29, 35), (240, 110, 110), (110, 200, 130), (220, 190, 100), (110, 160, 240), (205, 140, 235),
     (100, 200, 210), (214, 218, 224)],
)  # fmt: skip
FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}">
<title>The live view of a run</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run_until(until: float) -> list[Line]:
    """Return the frame of a crawl at a moment."""
    rng = random.Random(7)

    async def fetch(url: str) -> int:
        job = qanat.current_job()
        job.describe("connecting")
        await anyio.sleep(rng.uniform(0.05, 0.4))
        job.describe(f"reading {rng.randrange(20, 900)} kB")
        await anyio.sleep(rng.lognormvariate(-0.5, 0.9))
        luck = rng.random()
        if luck < 0.06:
            raise ConnectionError("reset by peer")
        if luck < 0.08:
            raise qanat.Discard("there is no such page")
        job.describe("parsing")
        await anyio.sleep(rng.uniform(0.05, 0.3))
        return len(url)

    rules = qanat.Rules(
        concurrency=12,
        rate="10/s evenly",
        retry=qanat.Retry(4, on=ConnectionError, backoff=qanat.linear(0.5, 0.5)),
    )
    urls = [
        f"https://example.com/{name}/{number}"
        for number in range(ITEMS // 4)
        for name in ("news", "people", "maps", "shop")
    ]
    tally, places, memory = ErrorTally(), Places(), Memory()

    async def main() -> list[Line]:
        engine = make_engine(
            rules, handler=fetch, append=list[object]().append, on_failure=tally.add, name="picture"
        )
        begun = engine.now()
        meter = RateMeter(begun)

        def retried(job: Job[object], error: BaseException) -> None:
            tally.add_retry(job, error, engine.now())

        engine.when_retried(retried)
        intake = make_intake(engine, fetch, urls, rules, unread=lambda: 0)
        lines: list[Line] = []

        def look() -> None:
            figures: Figures = figures_of(engine, begun, len(urls), tally, places, HEIGHT - 5, whole=False)
            meter.note(figures.finished, figures.at)
            rate = meter.rate(figures.finished, figures.at)
            lines[:] = frame(
                figures, rate, seconds_left(rate, figures.left), None,
                title="fetch", width=WIDTH, height=HEIGHT, memory=memory,
            )  # fmt: skip

        async with hosted(engine):
            engine.read(intake)
            while engine.now() - begun < until:
                await anyio.sleep(0.1)
                look()
            engine.cancel()
            await engine.wait_over()
        return lines

    with virtual_time() as time:
        return time.run(main)


def drawn() -> str:
    """Return the picture as SVG."""
    console = Console(
        record=True, width=WIDTH, height=HEIGHT, file=io.StringIO(), force_terminal=True,
        color_system="standard", legacy_windows=False,
    )  # fmt: skip
    for line in run_until(UNTIL):
        console.print(Text.assemble(*((text, style) for style, text in line)), no_wrap=True, crop=True)
    return console.export_svg(title="python crawl.py", theme=THEME, code_format=FORMAT, unique_id="view")


if __name__ == "__main__":
    FILE.write_text(drawn())
    print(FILE, FILE.stat().st_size, "bytes")
