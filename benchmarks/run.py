"""Measure qanat beside floors written by hand and beside its peers, and write the figures down.

Run it with `make bench`; `BENCH=quick make bench` takes a short look and writes nothing, and
`make bench ARGS="no-op memory"` runs these scenarios alone. Nothing here passes or fails: each
wanted figure is printed with its target and whether it holds.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from typing import TYPE_CHECKING

from benchmarks.compat import compat
from benchmarks.crew import ROOT, Plan, plan_of
from benchmarks.limits import limits
from benchmarks.queues import queues
from benchmarks.redis_store import redis_store
from benchmarks.report import as_markdown, as_text, between_markers, wanted_as_markdown
from benchmarks.scenarios.attempts import retries, timeouts
from benchmarks.scenarios.calls_in_threads import calls_in_threads
from benchmarks.scenarios.loops import loops
from benchmarks.scenarios.memory import memory
from benchmarks.scenarios.overhead import no_op, pause
from benchmarks.scenarios.pacing import pacing
from benchmarks.scenarios.scale import many_at_once, many_in_all
from benchmarks.scenarios.timer import timer
from benchmarks.sqlite_store import sqlite_store
from benchmarks.trees import trees

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Table

PAGE = ROOT / "docs" / "explanation" / "speed.md"

SCENARIOS: dict[str, Callable[[Plan], list[Table]]] = {
    "no-op": no_op,
    "sleep": pause,
    "timeout": timeouts,
    "retry": retries,
    "many-at-once": many_at_once,
    "many-in-all": many_in_all,
    "memory": memory,
    "rate": pacing,
    "timer": timer,
    "loops": loops,
    "threads": calls_in_threads,
    "limits": limits,
    "trees": trees,
    "compat": compat,
    "sqlite-store": sqlite_store,
    "redis": redis_store,
    "queues": queues,
}


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "scenario", nargs="*", help=f"what to run, all if none is named: {', '.join(SCENARIOS)}"
    )
    parser.add_argument("--quick", action="store_true", help="take a short look; the same as BENCH=quick")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.scenario if name not in SCENARIOS]:
        parser.error(f"scenario must be one of {', '.join(SCENARIOS)}, got {unknown[0]!r}")
    plan = plan_of(arguments.quick or os.environ.get("BENCH") == "quick")
    names = arguments.scenario or list(SCENARIOS)
    began = time.monotonic()
    tables: list[Table] = []
    for name in names:
        for table in SCENARIOS[name](plan):
            print(as_text(table), end="\n\n", flush=True)
            tables.append(table)
    missed = sum(not each.holds for table in tables for each in table.wanted)
    of = sum(len(table.wanted) for table in tables)
    print(f"{of - missed} of {of} wanted figures hold; {time.monotonic() - began:.0f} s")
    if not plan.quick and not arguments.scenario:
        write(tables, plan)


def write(tables: list[Table], plan: Plan) -> None:
    """Write the figures into the documentation."""
    said = (
        f"Made with `make bench` on Python {platform.python_version()}, "
        f"{plan.runs} interleaved runs of each unless a table says otherwise."
    )
    figures = "\n".join([said, "", wanted_as_markdown(tables), *map(as_markdown, tables)])
    PAGE.write_text(between_markers(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")
    print(f"written to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
