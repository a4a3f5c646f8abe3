"""The process of `qanat demo` that works and is killed: it runs the program and tells its figures."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec

from qanat._app.outcomes import Outcomes
from qanat._cli import demo_app
from qanat._cli.demo_server import addresses


class Report(msgspec.Struct):
    """What became of a run, for the process that tells it.

    Attributes:
        done: How many pages were fetched.
        again: How many of them only by another attempt.
        paused: How many waited while the server wanted a pause.
        lost: How many failed for good, by why.
        recalled: The pages that were taken from the journal.
        waits: Seconds waited by cause, all jobs together.
    """

    done: int
    again: int
    paused: int
    lost: dict[str, int]
    recalled: list[str]
    waits: dict[str, float]


def report_of(outcomes: Outcomes[str, Any]) -> Report:
    """Return what became of a run."""
    fetched = [outcome for outcome in outcomes if not outcome.recalled]
    return Report(
        done=len(outcomes.values()),
        again=sum(outcome.ok and outcome.attempts > 1 for outcome in fetched),
        paused=sum(outcome.waits.get("throttled", 0.0) > 0.0 for outcome in fetched),
        lost=dict(Counter(str(outcome.error) for outcome in outcomes.failed)),
        recalled=[outcome.item for outcome in outcomes if outcome.recalled],
        waits=dict(outcomes.summary().waits),
    )


def main(port: int, pages: int, journal: str, report: str) -> None:
    """Fetch the pages and write the report; leave Ctrl-C to the parent, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    outcomes = demo_app.crawl(addresses(port, pages), journal)
    Path(report).write_bytes(msgspec.json.encode(report_of(outcomes)))


def _end_with_parent() -> None:
    """End the process at once when its input ends, which the parent holds."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
