"""`qanat demo`: qanat at work, in a quarter of a minute and without a network."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from typing import Final

from qanat._app.outcomes import Outcomes
from qanat._cli import demo_app
from qanat._cli.demo_server import ABOUT, PAGES, DemoServer
from qanat.errors import outcomes_of

_WHY: Final = {
    "rate": 'for the rate: rate="30/s" lets no more start',
    "throttled": "for the server, which had asked for a pause: raise qanat.Throttled",
    "retry": "for another attempt after a 500 or a dropped connection: retry=4",
    "concurrency": "for one of 20 slots: concurrency=20",
    "turn": "for their turn, behind other pages",
}


def run_demo() -> int:
    """Run the demo and return its exit status.

    Raises:
        UsageError: If there is no port to be had for the server.
    """
    try:
        with DemoServer() as server:
            print(
                f"qanat fetches {PAGES} pages from a web server on this machine that\n{ABOUT}.\n", flush=True
            )
            outcomes = demo_app.crawl(server.urls)
    except KeyboardInterrupt as stop:
        done = sum(outcome.ok for outcome in outcomes_of(stop))
        print(f"Stopped: {done} of {PAGES} pages were fetched, and nothing was left running.")
        return 130
    print(f"\nWhat happened\n{_indented(_story(outcomes))}")
    print(f"\nWhat jobs waited for\n{_indented(_waits(outcomes.summary().waits))}")
    print(f"\nThe program\n\n{_indented(_program())}")
    return 0


def _story(outcomes: Outcomes[str, int]) -> str:
    """Say how it went, in sentences."""
    again = sum(outcome.ok and outcome.attempts > 1 for outcome in outcomes)
    paused = sum(outcome.waits.get("throttled", 0.0) > 0.0 for outcome in outcomes)
    lost = Counter(str(outcome.error) for outcome in outcomes.failed)
    lines = [f"{len(outcomes.values())} pages were fetched, {again} of them only by another attempt"]
    lines += [f"{number} failed for good: {why}" for why, number in lost.items()]
    lines.append(f"{paused} had to wait while the server wanted a pause; nobody called it meanwhile")
    return "\n".join(lines)


def _waits(waits: Mapping[str, float]) -> str:
    total = sum(waits.values()) or 1.0
    parts = sorted(waits.items(), key=lambda part: -part[1])
    return "\n".join(
        f"{seconds / total:4.0%} {_WHY.get(cause, cause)}"
        for cause, seconds in parts
        if seconds / total >= 0.005
    )


def _program() -> str:
    """Return the lines that did it, as they stand in their file."""
    return f"{inspect.getsource(demo_app.fetch)}\n\n{inspect.getsource(demo_app.crawl)}".rstrip()


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
